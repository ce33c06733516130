/* SPDX-License-Identifier: BSD-3-Clause */
/* catalog/: the life of a boot: queue, lease, end, publish; many at once. */
#include "tests/unit/catalog-bench.h"

#include <sys/wait.h>

/* ---- edges ------------------------------------------------------------------------------------------------------ */

/* As boot-lifecycle has them: from -> to. */
static const char *const edges[] = {
    "queued leased",           "queued cancelled",       "leased queued",          "leased running",
    "leased committing",       "leased discarded",       "leased interrupted",     "running committing",
    "running discarded",       "running interrupted",    "committing committed",   "committing branched",
    "committing discarded",    "committing interrupted", "interrupted committing", "interrupted discarded",
    "interrupted interrupted", "interrupted queued",     "queued interrupted",     "queued running",
    "interrupted running",
};

static bool is_edge(enum boot_state from, enum boot_state to)
{
    char text[40];
    snprintf(text, sizeof text, "%s %s", boot_state_name(from), boot_state_name(to));
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        if (strcmp(edges[i], text) == 0)
            return true;
    }
    return false;
}

/* Every pair, on a row that is put into the state by force. */
static void only_the_edges_are_taken(void)
{
    struct bench b = bench_open();
    int64_t id = bench_queue(&b, true);
    for (enum boot_state from = BOOT_QUEUED; from <= BOOT_CANCELLED; from++) {
        for (enum boot_state to = BOOT_QUEUED; to <= BOOT_CANCELLED; to++) {
            cleanup(free) char *force = path_format(
                "UPDATE boot SET state = '%s', ending = 'auto', result = 'reason'", boot_state_name(from));
            CHECK(bench_ask(&b, force) == -1);
            struct boot boot = get(&b, id);
            CHECK(boot.state == from && boot_edges[from][to] == is_edge(from, to));
            int64_t events = bench_ask(&b, "SELECT count(*) FROM event");
            if (is_edge(from, to)) {
                CHECK_OK(boot_move(b.c, "server", &boot, to, NULL, &e));
                CHECK(boot.state == to && get(&b, id).state == to);
                CHECK(bench_ask(&b, "SELECT count(*) FROM event") == events + 1);
            } else {
                CHECK_FAILS(boot_move(b.c, "server", &boot, to, NULL, &e), ERR_STATE);
                CHECK(strstr(e.msg, "reason") && get(&b, id).state == from);
                CHECK(bench_ask(&b, "SELECT count(*) FROM event") == events);
            }
        }
    }
    bench_close(&b);
}

static void each_function_takes_its_edges_only(void)
{
    struct bench b = bench_open();
    int64_t id = bench_queue(&b, true);
    enum boot_state ret;
    CHECK_FAILS(boot_end(b.c, "root", id, BOOT_DISCARDED, "why", &e), ERR_STATE);
    CHECK_FAILS(boot_end(b.c, "root", id, BOOT_CANCELLED, "why", &e), ERR_STATE);
    CHECK_FAILS(boot_begin_end(b.c, "root", id, ENDING_AUTO, "why", &e), ERR_STATE);
    CHECK_FAILS(boot_requeue(b.c, id, "why", &e), ERR_STATE);
    CHECK_FAILS(boot_publish(b.c, id, NULL, 0, &ret, &e), ERR_STATE);
    CHECK_OK(boot_start(b.c, id, &e)); /* not leased: left */
    CHECK(get(&b, id).state == BOOT_QUEUED);
    lease(&b, NULL);
    CHECK_FAILS(boot_cancel(b.c, "root", id, &e), ERR_STATE);
    CHECK(strstr(e.msg, "labboot boot end"));
    CHECK_OK(boot_start(b.c, id, &e));
    CHECK_FAILS(boot_requeue(b.c, id, "why", &e), ERR_STATE);
    end(&b, id, BOOT_INTERRUPTED);
    CHECK_FAILS(boot_cancel(b.c, "root", id, &e), ERR_STATE);
    CHECK(strstr(e.msg, "labboot boot end"));
    end(&b, id, BOOT_COMMITTING);
    CHECK_FAILS(boot_end(b.c, "root", id, BOOT_COMMITTED, "why", &e), ERR_STATE);
    CHECK_FAILS(boot_begin_end(b.c, "root", id, ENDING_COMMIT, "why", &e), ERR_STATE);
    CHECK(get(&b, id).ending == ENDING_AUTO);
    CHECK_FAILS(boot_end(b.c, "root", 99, BOOT_DISCARDED, "why", &e), ERR_NOT_FOUND);
    CHECK_FAILS(boot_cancel(b.c, "root", 99, &e), ERR_NOT_FOUND);
    CHECK_FAILS(boot_start(b.c, 99, &e), ERR_NOT_FOUND);
    CHECK_FAILS(boot_set_disconnected(b.c, 99, 1, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

/* ---- queue ------------------------------------------------------------------------------------------------------ */

static void a_boot_remembers_its_life(void)
{
    struct bench b = bench_open();
    struct boot boot, *list;
    size_t count;
    int64_t id = bench_queue(&b, true);
    boot = get(&b, id);
    CHECK(boot.queued == START && boot.leased == 0 && boot.update && boot.keep && !boot.from_default);
    CHECK_STR(boot.machine_name, "machine-525400000001");
    CHECK_STR(boot.setup_name, "desk");
    CHECK(boot.nimages == 1 && boot.images[0].version == START && boot.images[0].keep);
    CHECK_STR(boot.images[0].name, "lab");
    CHECK_STR(boot.images[0].compression, "zstd");
    CHECK_FAILS(boot_running(b.c, &b.mac, &boot, &e), ERR_NOT_FOUND);
    CHECK_FAILS(boot_last(b.c, &b.mac, &boot, &e), ERR_NOT_FOUND);
    db_set_now(b.c, START + 10);
    boot = lease(&b, NULL);
    CHECK(boot.id == id && boot.state == BOOT_LEASED && boot.leased == START + 10 && boot.token[0] == '\0');
    CHECK_STR(boot.address, "10.0.0.7");
    db_set_now(b.c, START + 20);
    CHECK_OK(boot_start(b.c, id, &e));
    CHECK_OK(boot_running(b.c, &b.mac, &boot, &e));
    CHECK(boot.state == BOOT_RUNNING && boot.started == START + 20);
    CHECK_OK(boot_set_disconnected(b.c, id, START + 25, &e));
    CHECK(get(&b, id).disconnected == START + 25);
    CHECK_OK(boot_set_disconnected(b.c, id, 0, &e));
    CHECK(get(&b, id).disconnected == 0);
    CHECK_OK(boots_in_state(b.c, BOOT_RUNNING, &list, &count, &e));
    CHECK(count == 1 && list[0].id == id && list[0].nimages == 1);
    free(list);
    db_set_now(b.c, START + 30);
    end(&b, id, BOOT_DISCARDED);
    CHECK_OK(boot_last(b.c, &b.mac, &boot, &e));
    CHECK(boot.id == id && boot.ended == START + 30 && boot.images[0].version == START);
    CHECK_STR(boot.result, "the machine was reset");
    CHECK_OK(boots_in_state(b.c, BOOT_RUNNING, &list, &count, &e));
    CHECK(count == 0);
    free(list);
    bench_close(&b);
}

static void queueing_is_refused_or_warned_about(void)
{
    struct bench b = bench_open();
    struct uuid none;
    struct machine_new unmanaged = {.mac = bench_mac(2)};
    struct mac stranger = bench_mac(3);
    char warning[TEXT_SIZE];
    int64_t id;
    uuid_make(&none);
    CHECK_OK(machine_add(b.c, "root", &unmanaged, &e));
    CHECK_FAILS(boot_queue(b.c, "a", &unmanaged.mac, &b.setup, false, NULL, &id, NULL, &e), ERR_STATE);
    CHECK_FAILS(boot_queue(b.c, "a", &stranger, &b.setup, false, NULL, &id, NULL, &e), ERR_NOT_FOUND);
    CHECK_FAILS(boot_queue(b.c, "a", &b.mac, &none, false, NULL, &id, NULL, &e), ERR_NOT_FOUND);
    struct uuid pegged = bench_setup(b.c, "pegged", b.image, START, false);
    CHECK_OK(boot_queue(b.c, "a", &b.mac, &pegged, false, NULL, &id, warning, &e));
    CHECK_STR(warning, "");
    CHECK_OK(boot_queue(b.c, "a", &b.mac, &pegged, true, NULL, &id, warning, &e));
    CHECK_STR(warning,
              "setup 'pegged' pegs lab@1795460000: it goes on booting that, not what this update makes");
    int64_t first = id;
    CHECK_OK(boot_queue(b.c, "a", &b.mac, &b.setup, true, NULL, &id, warning, &e));
    CHECK(strstr(warning, "updates image lab too"));
    CHECK_OK(boot_queue(b.c, "a", &b.mac, &b.setup, false, "just looking", &id, warning, &e));
    CHECK_STR(warning, "");
    CHECK(first < id && bench_ask(&b, "SELECT count(*) FROM boot") == 4);
    struct version_new v = bench_version(&b.image, START + 5, START);
    v.kernel = NULL;
    CHECK_OK(version_publish(b.c, "alice", NULL, &v, &e));
    CHECK_OK(boot_queue(b.c, "a", &b.mac, &b.setup, false, NULL, &id, warning, &e));
    CHECK(strstr(warning, "no kernel"));
    bench_close(&b);
}

static void what_is_kept(void)
{
    struct bench b = bench_open();
    struct uuid home = bench_image(b.c, "home", "alice", "user"),
                data = bench_image(b.c, "data", "alice", "system"),
                scratch = bench_image(b.c, "scratch", "alice", "temporal"), setup;
    struct setup_image four[] = {
        {.image = b.image}, {.image = home}, {.image = data, .update = true}, {.image = scratch}};
    int64_t id;
    CHECK_OK(setup_create(b.c, "alice", "four", "alice", four, 4, &setup, &e));
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &setup, false, NULL, &id, NULL, &e));
    struct boot boot = lease(&b, NULL);
    CHECK(boot.nimages == 4 && boot.keep && !boot.update);
    CHECK(!boot.images[0].keep && boot.images[1].keep && boot.images[2].keep && !boot.images[3].keep);
    CHECK_STR(boot.images[3].type, "temporal");
    end(&b, id, BOOT_DISCARDED);
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &setup, true, NULL, &id, NULL, &e));
    boot = lease(&b, NULL);
    CHECK(boot.images[0].keep && boot.images[1].keep && boot.images[2].keep && !boot.images[3].keep);
    bench_close(&b);
}

/* Asked for in every way: before the lease, by the lease, with a token that was made before or while it was in use. */
static void a_users_image_is_kept_of_one_machine(void)
{
    struct bench b = bench_open();
    struct uuid home = bench_image(b.c, "home", "alice", "user"), setup;
    struct setup_image two[] = {{.image = b.image}, {.image = home}};
    struct mac other = bench_mac(2);
    struct boot boot, mine;
    struct script_job job = {.generation = 0};
    int64_t id;
    bench_machine(b.c, 2, NULL);
    CHECK_OK(setup_create(b.c, "alice", "two", "alice", two, 2, &setup, &e));
    CHECK_OK(boot_queue(b.c, "alice", &other, &setup, true, NULL, &id, NULL, &e));
    while (script_next(b.c, NULL, &job, &e) == 0)
        CHECK_OK(script_done(b.c, &job, &e));
    CHECK(job.boot.id == id && job.boot.images[1].keep);
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &setup, false, NULL, &mine.id, NULL, &e));
    mine = lease(&b, NULL);
    CHECK(mine.images[1].keep && mine.keep);

    CHECK_OK(boot_next(b.c, &other, &boot, &e));
    CHECK(!boot.images[1].keep && boot.images[0].keep);
    CHECK(bench_ask(&b, "SELECT count(*) FROM token") == 1);
    CHECK_OK(script_want_all(b.c, &e));
    bench_render(&b);
    CHECK(bench_ask(&b, "SELECT count(*) FROM token") ==
          1); /* a change of who writes is none of the script */
    lease_of(&b, &other, job.boot.token, &boot);
    CHECK(!boot.images[1].keep && boot.images[0].keep);
    CHECK(get(&b, mine.id).images[1].keep); /* who came first */
    end(&b, mine.id, BOOT_COMMITTING);
    CHECK_OK(boot_requeue(b.c, id, "it never came", &e));
    CHECK(!get(&b, id).images[1].keep);
    end(&b, mine.id, BOOT_INTERRUPTED);
    CHECK(get(&b, id).images[1].keep);
    lease_of(&b, &other, NULL, &boot);
    CHECK(boot.images[1].keep);
    /* The machine's own next boot is not another machine's. */
    end(&b, id, BOOT_COMMITTING);
    CHECK_OK(boot_queue(b.c, "alice", &other, &setup, false, NULL, &id, NULL, &e));
    lease_of(&b, &other, NULL, &boot);
    CHECK(boot.id == id && boot.images[1].keep);
    bench_close(&b);
}

static void temporal_images_stay_on_their_base(void)
{
    struct bench b = bench_open();
    struct uuid scratch = bench_image(b.c, "scratch", "alice", "temporal"), setup;
    struct setup_image two[] = {{.image = b.image}, {.image = scratch}};
    struct temporal t, *idle;
    size_t count;
    int64_t id;
    CHECK_OK(setup_create(b.c, "alice", "two", "alice", two, 2, &setup, &e));
    CHECK_FAILS(temporal_find(b.c, &b.mac, &scratch, &t, &e), ERR_NOT_FOUND);
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &setup, false, NULL, &id, NULL, &e));
    struct boot boot = lease(&b, NULL);
    CHECK_OK(temporal_find(b.c, &b.mac, &scratch, &t, &e));
    CHECK(boot.images[1].temporal == t.id && !boot.images[0].temporal && t.version == START);
    CHECK_FAILS(temporal_drop(b.c, "root", t.id, "asked for", &e), ERR_STATE);
    CHECK(strstr(e.msg, "boot 1, which has image scratch, is leased; try: labboot boot end 1"));
    CHECK_OK(temporals_idle(b.c, &idle, &count, &e));
    CHECK(count == 0);
    free(idle);

    db_set_now(b.c, START + 100);
    end(&b, id, BOOT_DISCARDED);
    CHECK_OK(temporals_idle(b.c, &idle, &count, &e));
    CHECK(count == 1 && idle[0].id == t.id && idle[0].used == START + 100);
    free(idle);

    /* What the setup means moves on; the machine's next boot does not. */
    struct version_new v = bench_version(&scratch, START + 200, START);
    CHECK_OK(version_publish(b.c, "alice", NULL, &v, &e));
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &setup, true, NULL, &id, NULL, &e));
    CHECK_OK(boot_next(b.c, &b.mac, &boot, &e));
    CHECK(boot.images[1].version == START && !boot.images[1].keep);
    boot = lease(&b, NULL);
    CHECK(boot.images[1].version == START && boot.images[1].temporal == t.id);
    end(&b, id, BOOT_DISCARDED);
    bench_ask(&b, "DELETE FROM version WHERE number = 1795460000 AND image = (SELECT image FROM temporal)");
    bench_ask(&b, "DELETE FROM image WHERE uuid = (SELECT image FROM temporal)");
    CHECK(version_exists(b.c, &scratch, START));

    /* Dropped, it begins anew with what is the latest then, and as another. */
    bench_render(&b);
    CHECK_OK(temporal_drop(b.c, "root", t.id, "asked for", &e));
    CHECK(bench_script_wanted(&b) && temporal_is_gone(b.c, t.id) && !temporal_is_gone(b.c, t.id + 1));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'temporal-dropped' AND actor = 'root' AND "
                        "detail = 'alice/scratch@1795460000: asked for'") == 1);
    CHECK_FAILS(temporal_drop(b.c, "root", t.id, "asked for", &e), ERR_NOT_FOUND);
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &setup, false, NULL, &id, NULL, &e));
    boot = lease(&b, NULL);
    CHECK(boot.images[1].version == START + 200 && boot.images[1].temporal > t.id);
    end(&b, id, BOOT_DISCARDED);

    struct machine_remains gone;
    CHECK_OK(machine_remove(b.c, "root", &b.mac, false, &gone, &e));
    CHECK(gone.ntemporals == 1 && gone.temporals[0] == boot.images[1].temporal);
    free(gone.boots);
    free(gone.temporals);
    bench_close(&b);
}

static void first_in_first_out_then_the_default(void)
{
    struct bench b = bench_open();
    struct boot next;
    CHECK_FAILS(boot_next(b.c, &b.mac, &next, &e), ERR_NOT_FOUND);
    CHECK(bench_ask(&b, "UPDATE machine SET default_setup = (SELECT uuid FROM setup)") == -1);
    CHECK_OK(boot_next(b.c, &b.mac, &next, &e));
    int64_t by_default = next.id;
    CHECK(next.from_default && !next.update && !next.keep && next.state == BOOT_QUEUED);
    CHECK_OK(boot_next(b.c, &b.mac, &next, &e));
    CHECK(next.id == by_default);
    int64_t first = bench_queue(&b, false), second = bench_queue(&b, true);
    CHECK_OK(boot_next(b.c, &b.mac, &next, &e));
    CHECK(next.id == first);
    CHECK(lease(&b, NULL).id == first);
    CHECK_OK(boot_requeue(b.c, first, "it never came", &e));
    struct boot again = get(&b, first);
    CHECK(again.attempts == 1 && again.leased == 0 && again.address[0] == '\0' && again.state == BOOT_QUEUED);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'boot-requeued'") == 1);
    CHECK(lease(&b, NULL).id == first); /* at the head */
    end(&b, first, BOOT_DISCARDED);
    CHECK_OK(boot_cancel(b.c, "alice", second, &e));
    CHECK(lease(&b, NULL).id == by_default);
    CHECK_OK(boot_next(b.c, &b.mac, &next, &e));
    CHECK(next.id != by_default && next.from_default);
    /* Another default setup, or none: what was made from the old one is no longer to be booted. */
    CHECK(bench_ask(&b, "UPDATE machine SET default_setup = NULL") == -1);
    CHECK(get(&b, next.id).state == BOOT_CANCELLED);
    CHECK_FAILS(boot_next(b.c, &b.mac, &next, &e), ERR_NOT_FOUND);
    CHECK(bench_ask(&b, "UPDATE machine SET managed = 0") == -1);
    CHECK_FAILS(boot_next(b.c, &b.mac, &next, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

/* ---- publish ---------------------------------------------------------------------------------------------------- */

static int64_t committing(struct bench *b)
{
    int64_t id = bench_queue(b, true);
    CHECK(lease(b, NULL).id == id);
    CHECK_OK(boot_start(b->c, id, &e));
    end(b, id, BOOT_COMMITTING);
    return id;
}

static void a_commit_is_the_next_latest(void)
{
    struct bench b = bench_open();
    struct image image;
    enum boot_state ret;
    int64_t id = committing(&b);
    struct version_new v = bench_version(&b.image, START + 9, START);
    CHECK_OK(boot_publish(b.c, id, &v, 1, &ret, &e));
    CHECK(ret == BOOT_COMMITTED);
    struct boot boot = get(&b, id);
    CHECK(boot.state == BOOT_COMMITTED && boot.images[0].result == START + 9);
    CHECK_STR(boot.result, "the machine was reset");
    CHECK_OK(image_by_uuid(b.c, &b.image, &image, &e));
    CHECK(image.head == START + 9 && image.last_version == START + 9);
    CHECK(bench_ask(&b, "SELECT boot FROM version WHERE number = 1795460009") == id);
    CHECK_FAILS(boot_publish(b.c, id, &v, 1, &ret, &e), ERR_STATE);
    /* An overlay without writes publishes nothing. */
    id = committing(&b);
    CHECK_OK(boot_publish(b.c, id, NULL, 0, &ret, &e));
    CHECK(ret == BOOT_COMMITTED);
    bench_close(&b);
}

static void a_commit_beside_another_is_a_branch(void)
{
    struct bench b = bench_open();
    struct image image;
    enum boot_state ret;
    int64_t id = committing(&b);
    publish_image(&b, START + 20);
    /* Chosen before the other was: numbers need not come in order. */
    struct version_new v = bench_version(&b.image, START + 9, START);
    CHECK_OK(boot_publish(b.c, id, &v, 1, &ret, &e));
    CHECK(ret == BOOT_BRANCHED && get(&b, id).state == BOOT_BRANCHED);
    CHECK_OK(image_by_uuid(b.c, &b.image, &image, &e));
    CHECK(image.head == START + 20 && image.last_version == START + 20);
    CHECK(version_exists(b.c, &b.image, START + 9));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'boot-branched'") == 1);
    bench_close(&b);
}

static void all_versions_of_a_boot_or_none(void)
{
    struct bench b = bench_open();
    struct uuid data = bench_image(b.c, "data", "alice", "system"),
                foreign = bench_image(b.c, "x", "alice", "system"), setup;
    struct setup_image two[] = {{.image = b.image}, {.image = data}};
    struct image image;
    enum boot_state ret;
    CHECK_OK(setup_create(b.c, "alice", "two", "alice", two, 2, &setup, &e));
    b.setup = setup;
    int64_t id = committing(&b);
    struct version_new v[] = {bench_version(&b.image, START + 9, START),
                              bench_version(&data, START, START - 1)};
    CHECK_FAILS(boot_publish(b.c, id, v, 2, &ret, &e), ERR_STATE); /* exists already */
    v[1] = bench_version(&foreign, START + 9, START);
    CHECK_FAILS(boot_publish(b.c, id, v, 2, &ret, &e), ERR_STATE); /* none of its images */
    CHECK(!version_exists(b.c, &b.image, START + 9) && get(&b, id).images[0].result == 0);
    CHECK(get(&b, id).state == BOOT_COMMITTING);
    v[1] = bench_version(&data, START + 9, START - 1);
    CHECK_OK(boot_publish(b.c, id, v, 2, &ret, &e));
    CHECK(ret == BOOT_BRANCHED); /* one of the two */
    CHECK_OK(image_by_uuid(b.c, &b.image, &image, &e));
    CHECK(image.head == START + 9);
    CHECK_OK(image_by_uuid(b.c, &data, &image, &e));
    CHECK(image.head == START);
    bench_close(&b);
}

/* ---- what goes with what ------------------------------------------------------------------------------------------ */

static void cascades(void)
{
    struct bench b = bench_open();
    int64_t id = bench_queue(&b, true), queued = bench_queue(&b, false);
    bench_render(&b);
    lease(&b, NULL);
    /* What a boot uses stays, by whatever way it would go. */
    bench_ask(&b, "DELETE FROM version");
    bench_ask(&b, "DELETE FROM image");
    bench_ask(&b, "DELETE FROM user");
    bench_ask(&b, "DELETE FROM machine");
    CHECK(
        bench_ask(
            &b,
            "SELECT (SELECT count(*) FROM version) + (SELECT count(*) FROM image WHERE owner IS NOT NULL) + "
            "(SELECT count(*) FROM user) + (SELECT count(*) FROM machine)") == 4);
    /* The setup may go: the running boot has its images, and the history its name; queued ones end. */
    CHECK(bench_ask(&b, "DELETE FROM setup") == -1);
    struct boot boot = get(&b, id);
    CHECK(boot.state == BOOT_LEASED && boot.nimages == 1 && uuid_is_zero(&boot.setup));
    CHECK_STR(boot.setup_name, "desk");
    CHECK(get(&b, queued).state == BOOT_CANCELLED);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE detail = 'its setup was removed'") == 1);
    end(&b, id, BOOT_DISCARDED);
    /* An ended boot outlives its image. */
    CHECK(bench_ask(&b, "DELETE FROM user") == -1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM image WHERE owner IS NOT NULL") == 0 &&
          bench_ask(&b, "SELECT count(*) FROM version") == 0);
    boot = get(&b, id);
    CHECK(boot.nimages == 1 && boot.images[0].version == START && uuid_is_zero(&boot.images[0].image));
    CHECK_STR(boot.images[0].name, "lab");
    CHECK(bench_ask(&b, "SELECT count(*) FROM token_image") == 0);
    CHECK(bench_ask(&b, "DELETE FROM machine") == -1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM boot") == 0 &&
          bench_ask(&b, "SELECT count(*) FROM token") == 0);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE object = 'boot 1'") > 0);
    bench_close(&b);
}

static void a_pegged_version_stays(void)
{
    struct bench b = bench_open();
    publish_image(&b, START + 5);
    bench_setup(b.c, "pegged", b.image, START, false);
    bench_ask(&b, "DELETE FROM version WHERE number = 1795460000");
    CHECK(version_exists(b.c, &b.image, START));
    bench_ask(&b, "DELETE FROM version WHERE number = 1795460005"); /* the head */
    CHECK(version_exists(b.c, &b.image, START + 5));
    bench_close(&b);
}

/* ---- many at once -------------------------------------------------------------------------------------------------- */

#define PROCESSES 4

/* Runs `work` in several processes, each with its own connection; all must end well. SQLite wants no connection to
 * cross a fork, so b's is closed meanwhile. */
static void together(struct bench *b, void (*work)(struct bench *b))
{
    pid_t pids[PROCESSES];
    fflush(stdout);
    catalog_close(b->c);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        CHECK(pids[i] >= 0);
        if (pids[i] == 0) {
            CHECK_OK(catalog_open(b->path, CATALOG_NORMAL, &b->c, &e));
            work(b);
            catalog_close(b->c);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        CHECK(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
    }
    CHECK_OK(catalog_open(b->path, CATALOG_NORMAL, &b->c, &e));
}

/* Leases and ends until the queue is empty; another process may hold the lease just then. */
static void drain(struct bench *b)
{
    struct boot boot;
    char who[32];
    snprintf(who, sizeof who, "process %ld", (long)getpid());
    for (;;) {
        if (boot_lease(b->c, &b->mac, NULL, who, &boot, &e) == 0)
            CHECK_OK(boot_end(b->c, who, boot.id, BOOT_DISCARDED, who, &e));
        else if (e.code == ERR_NOT_FOUND)
            return;
        else
            CHECK(e.code == ERR_STATE);
    }
}

static void one_queue_many_takers(void)
{
    struct bench b = bench_open();
    for (int i = 0; i < 50; i++)
        bench_queue(&b, false);
    together(&b, drain);
    CHECK(bench_ask(
              &b,
              "SELECT count(*) FROM boot WHERE state = 'discarded' AND attempts = 0 AND address = result") ==
          50);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'boot-leased'") == 50);
    CHECK(bench_ask(&b, "SELECT count(DISTINCT object) FROM event WHERE what = 'boot-leased'") == 50);
    bench_close(&b);
}

static void lease_once(struct bench *b)
{
    struct boot boot;
    if (boot_lease(b->c, &b->mac, NULL, NULL, &boot, &e) < 0)
        CHECK(e.code == ERR_STATE);
}

static void two_requests_at_once_lease_one(void)
{
    for (int i = 0; i < 5; i++) {
        struct bench b = bench_open();
        bench_queue(&b, false);
        bench_queue(&b, false);
        together(&b, lease_once);
        CHECK(bench_ask(&b, "SELECT count(*) FROM boot WHERE state = 'leased'") == 1);
        bench_close(&b);
    }
}

static void queue_and_cancel(struct bench *b)
{
    struct script_job job;
    for (int i = 0; i < 25; i++) {
        int64_t id = bench_queue(b, i % 2);
        if (script_next(b->c, NULL, &job, &e) == 0)
            CHECK_OK(script_done(b->c, &job, &e));
        CHECK_OK(boot_cancel(b->c, "alice", id, &e));
    }
}

static void writers_wait_for_each_other(void)
{
    struct bench b = bench_open();
    together(&b, queue_and_cancel);
    CHECK(bench_ask(&b, "SELECT count(*) FROM boot WHERE state = 'cancelled'") == PROCESSES * 25);
    CHECK(bench_ask(&b, "SELECT count(*) FROM token WHERE superseded IS NULL") <= 1);
    bench_close(&b);
}

/* ---- history ---------------------------------------------------------------------------------------------------- */

static int64_t ended_boot(struct bench *b, enum boot_state to)
{
    int64_t id = bench_queue(b, true);
    bench_render(b);
    lease(b, NULL);
    end(b, id, to);
    return id;
}

static void history_goes_but_for_what_is_needed(void)
{
    struct bench b = bench_open();
    struct history h;
    enum boot_state state;
    bool more;
    int64_t request, discarded = ended_boot(&b, BOOT_DISCARDED), waiting = ended_boot(&b, BOOT_INTERRUPTED);
    int64_t source = ended_boot(&b, BOOT_COMMITTING);
    struct version_new v = bench_version(&b.image, START + 5, START);
    CHECK_OK(boot_publish(b.c, source, &v, 1, &state, &e));
    CHECK_OK(request_add(b.c, "root", REQUEST_END, discarded, &request, &e));
    CHECK_OK(request_answer(b.c, request, 0, "", &e));
    CHECK_OK(request_add(b.c, "root", REQUEST_END, waiting, &request, &e));
    int64_t events = bench_ask(&b, "SELECT count(*) FROM event");

    /* Nothing is older than what happened just now. */
    CHECK_OK(history_count(b.c, START, &h, &e));
    CHECK(h.boots == 0 && h.requests == 0 && h.events == 0);
    CHECK_OK(history_remove(b.c, "server", START, 500, &more, &e));
    CHECK(!more && bench_ask(&b, "SELECT count(*) FROM event") == events);

    db_set_now(b.c, START + 100);
    int64_t queued = bench_queue(&b, false);
    bench_render(&b);
    CHECK_OK(history_count(b.c, START + 50, &h, &e));
    CHECK(h.boots == 1 && h.requests == 1 && (int64_t)h.events == events);
    CHECK_OK(history_remove(b.c, "server", START + 50, 3, &more, &e)); /* three events */
    CHECK(more && bench_ask(&b, "SELECT count(*) FROM event WHERE at = 1795460000") == events - 3);
    while (more)
        CHECK_OK(history_remove(b.c, "server", START + 50, 3, &more, &e));
    CHECK_FAILS(boot_get(b.c, discarded, &(struct boot){0}, &e), ERR_NOT_FOUND);
    CHECK(get(&b, waiting).state == BOOT_INTERRUPTED && get(&b, queued).state == BOOT_QUEUED);
    CHECK(get(&b, source).state == BOOT_COMMITTED); /* the version shows which machine it is from */
    CHECK(bench_ask(&b, "SELECT count(*) FROM token WHERE boot = 1") == 0);
    CHECK(bench_ask(&b, "SELECT count(*) FROM request") == 1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE at = 1795460000") == 0);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'history-removed'") > 1);
    CHECK(!bench_script_wanted(&b));
    CHECK_OK(history_count(b.c, START + 50, &h, &e));
    CHECK(h.boots == 0 && h.requests == 0 && h.events == 0);
    bench_close(&b);
}

int main(void)
{
    UNIT(only_the_edges_are_taken);
    UNIT(each_function_takes_its_edges_only);
    UNIT(a_boot_remembers_its_life);
    UNIT(queueing_is_refused_or_warned_about);
    UNIT(what_is_kept);
    UNIT(a_users_image_is_kept_of_one_machine);
    UNIT(temporal_images_stay_on_their_base);
    UNIT(first_in_first_out_then_the_default);
    UNIT(a_commit_is_the_next_latest);
    UNIT(a_commit_beside_another_is_a_branch);
    UNIT(all_versions_of_a_boot_or_none);
    UNIT(cascades);
    UNIT(a_pegged_version_stays);
    UNIT(one_queue_many_takers);
    UNIT(two_requests_at_once_lease_one);
    UNIT(writers_wait_for_each_other);
    UNIT(history_goes_but_for_what_is_needed);
    return 0;
}
