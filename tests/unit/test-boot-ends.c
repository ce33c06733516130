/* SPDX-License-Identifier: BSD-3-Clause */
/* catalog/: how a boot is to end, and who goes on with what it leaves: the server, the next boot, its machine. */
#include "tests/unit/catalog-bench.h"

/* What is said first stands until it is done, or until the boot goes on. */
static void how_it_is_to_end_is_kept(void)
{
    static const struct {
        enum boot_ending ending;
        bool update;
        enum boot_state state;
    } all[] = {
        {ENDING_AUTO, true, BOOT_COMMITTING},    {ENDING_DONE, true, BOOT_COMMITTING},
        {ENDING_AWAY, true, BOOT_COMMITTING},    {ENDING_AWAY, false, BOOT_DISCARDED},
        {ENDING_ABANDON, true, BOOT_COMMITTING}, {ENDING_COMMIT, true, BOOT_COMMITTING},
        {ENDING_DISCARD, true, BOOT_DISCARDED},  {ENDING_COMMIT, false, BOOT_DISCARDED},
    };
    struct bench b = bench_open();
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        int64_t id = bench_queue(&b, all[i].update);
        lease(&b, NULL);
        CHECK(get(&b, id).ending == ENDING_NONE);
        CHECK_OK(boot_begin_end(b.c, "root", id, all[i].ending, "why", &e));
        CHECK(get(&b, id).ending == all[i].ending && get(&b, id).state == all[i].state);
        CHECK_STR(get(&b, id).result, "why");
        if (all[i].state == BOOT_COMMITTING) {
            end(&b, id, BOOT_INTERRUPTED);
            CHECK_OK(boot_resume(b.c, "root", id, &e));
            CHECK(get(&b, id).ending == ENDING_NONE);
            CHECK_OK(boot_cancel(b.c, "root", id, &e));
        }
    }
    bench_close(&b);
}

static size_t with_space(struct bench *b, uint64_t bytes)
{
    struct boot *list;
    size_t count;
    CHECK_OK(boots_with_space(b->c, bytes, &list, &count, &e));
    free(list);
    return count;
}
/* Until it takes any other edge; and while another commits, which takes of the space, nobody has it. */
static void who_wants_space_is_remembered(void)
{
    struct bench b = bench_open();
    struct boot *list;
    size_t count;
    int64_t other, id = bench_queue(&b, true);
    lease(&b, NULL);
    CHECK_FAILS(boot_want_space(b.c, 99, 1000, "full", &e), ERR_NOT_FOUND);
    CHECK_OK(boot_begin_end(b.c, "root", id, ENDING_DONE, "why", &e));
    CHECK(with_space(&b, INT64_MAX) == 0);
    CHECK_OK(boot_want_space(b.c, id, 1000, "full", &e));
    CHECK(get(&b, id).state == BOOT_INTERRUPTED && with_space(&b, 999) == 0);
    CHECK_STR(get(&b, id).result, "full");
    CHECK_OK(boots_with_space(b.c, 1000, &list, &count, &e));
    CHECK(count == 1 && list[0].id == id && list[0].ending == ENDING_DONE && list[0].nimages == 1);
    free(list);

    other = bench_queue(&b, true);
    lease(&b, NULL);
    end(&b, other, BOOT_COMMITTING);
    CHECK(with_space(&b, 1000) == 0);
    end(&b, other, BOOT_INTERRUPTED);
    CHECK(with_space(&b, 1000) == 1);

    end(&b, id, BOOT_COMMITTING);
    end(&b, id, BOOT_INTERRUPTED);
    CHECK(with_space(&b, INT64_MAX) == 0);
    end(&b, id, BOOT_COMMITTING);
    CHECK_OK(boot_want_space(b.c, id, 1000, "full", &e));
    CHECK_OK(boot_resume(b.c, "root", id, &e));
    CHECK(with_space(&b, INT64_MAX) == 0);
    CHECK_OK(boot_cancel(b.c, "root", id, &e));
    CHECK(get(&b, id).state == BOOT_INTERRUPTED && with_space(&b, INT64_MAX) == 0);
    bench_close(&b);
}

/* Decided by the lease, and over when the files have moved; in between it is neither boot's to end. */
static void a_users_data_goes_on_in_the_next_boot(void)
{
    struct bench b = bench_open();
    struct uuid home = bench_image(b.c, "home", "alice", "user"), setup;
    struct setup_image two[] = {{.image = b.image}, {.image = home}};
    struct boot old, next, none;
    int64_t id;
    CHECK_OK(setup_create(b.c, "alice", "two", "alice", two, 2, &setup, &e));
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &setup, false, NULL, &id, NULL, &e));
    old = lease(&b, NULL);
    struct takeover ready = {.boot = old.id, .position = 1, .image = home, .version = START};
    end(&b, old.id, BOOT_INTERRUPTED);

    struct takeover unfit[] = {ready, ready, ready};
    unfit[0].version++;
    unfit[1].image = b.image;
    unfit[2].position = 0; /* which is not kept there */
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &setup, false, NULL, &id, NULL, &e));
    CHECK_OK(boot_lease_taking(b.c, &b.mac, NULL, NULL, unfit, 3, &next, &e));
    CHECK(!next.resumed && !next.images[0].follows && !next.images[1].follows);
    CHECK_OK(boot_requeue(b.c, id, "it never came", &e));

    CHECK_OK(boot_lease_taking(b.c, &b.mac, NULL, NULL, &ready, 1, &next, &e));
    CHECK(next.id == id && next.resumed && next.images[1].follows == old.id);
    CHECK(next.images[1].follows_position == 1 && !next.images[0].follows);
    CHECK_FAILS(boot_begin_end(b.c, "alice", old.id, ENDING_COMMIT, NULL, &e), ERR_STATE);
    CHECK_FAILS(boot_begin_end(b.c, "alice", old.id, ENDING_DISCARD, NULL, &e), ERR_STATE);
    CHECK_FAILS(boot_resumable(b.c, old.id, &none, &e), ERR_STATE);
    CHECK_OK(boot_requeue(b.c, id, "it never came", &e));
    CHECK(get(&b, id).images[1].follows == old.id);
    CHECK_OK(boot_lease_taking(b.c, &b.mac, NULL, NULL, &ready, 1, &next, &e));
    CHECK(next.id == id && next.images[1].follows == old.id);
    for (int again = 0; again < 2; again++)
        CHECK_OK(boot_handed_over(b.c, &next, 1, true, &e));
    old = get(&b, old.id);
    CHECK(old.state == BOOT_DISCARDED && !old.images[1].keep && strstr(old.result, "goes on in boot"));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'boot-took-over'") == 1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'boot-discarded'") == 1);
    CHECK(get(&b, id).state == BOOT_LEASED);
    bench_close(&b);
}

/* ---- back again -------------------------------------------------------------------------------------------------- */

/* An update that its machine has left; *ret_token: what that was leased by. */
static int64_t away(struct bench *b, const struct mac *machine, char ret_token[TOKEN_SIZE])
{
    struct boot boot;
    struct script_job job = {.generation = 0};
    int64_t id;
    CHECK_OK(boot_queue(b->c, "alice", machine, &b->setup, true, "why", &id, NULL, &e));
    while (script_next(b->c, NULL, &job, &e) == 0) {
        if (mac_equal(&job.machine.mac, machine))
            memcpy(ret_token, job.boot.token, TOKEN_SIZE);
        CHECK_OK(script_done(b->c, &job, &e));
    }
    lease_of(b, machine, ret_token, &boot);
    CHECK(boot.id == id);
    CHECK_OK(boot_start(b->c, id, &e));
    CHECK_OK(boot_begin_end(b->c, "server", id, ENDING_AWAY, "it is away", &e));
    CHECK(state_of(b, ret_token) == TOKEN_ENDED); /* until that is over */
    return id;
}

static enum boot_state publish_as(struct bench *b, int64_t id, uint64_t version)
{
    enum boot_state ret;
    struct version_new v = bench_version(&b->image, version, get(b, id).images[0].version);
    CHECK_OK(boot_publish(b->c, id, &v, 1, &ret, &e));
    return ret;
}

static void cannot_return(struct bench *b, const char *token, const char *why)
{
    struct boot boot;
    int64_t events = bench_ask(b, "SELECT count(*) FROM event");
    CHECK_FAILS(boot_return(b->c, &b->mac, token, "10.0.0.7", &boot, &e), ERR_STATE);
    CHECK(strstr(e.msg, why) && bench_ask(b, "SELECT count(*) FROM event") == events);
}

static void a_machine_goes_on_with_what_was_committed(void)
{
    struct bench b = bench_open();
    struct boot boot, again;
    char token[TOKEN_SIZE];
    int64_t id = away(&b, &b.mac, token), later = bench_queue(&b, false);
    struct mac other = bench_mac(2);
    bench_machine(b.c, 2, NULL);
    CHECK(publish_as(&b, id, START + 9) == BOOT_COMMITTED);
    publish_image(&b, START + 20); /* what is the latest now is none of its business */
    bench_render(&b);
    enum token_state state;
    CHECK_OK(boot_by_token(b.c, token, &boot, &state, &e));
    CHECK(state == TOKEN_AWAY && boot.id == id && boot.images[0].version == START + 9);
    CHECK_FAILS(boot_return(b.c, &other, token, "10.0.0.8", &again, &e), ERR_STATE);
    db_set_now(b.c, START + 30);
    CHECK_OK(boot_return(b.c, &b.mac, token, "10.0.0.7", &again, &e));
    CHECK(again.id > later && again.state == BOOT_RUNNING && again.update && !again.from_default);
    CHECK(again.queued == START + 30 && again.leased == START + 30 && again.started == START + 30);
    CHECK(again.nimages == 1 && again.images[0].version == START + 9 && again.images[0].keep);
    CHECK_STR(again.token, token);
    CHECK_STR(again.address, "10.0.0.7");
    CHECK_STR(again.result, "its machine came back to boot 1");
    CHECK(bench_ask(&b, "SELECT comment = 'why' FROM boot ORDER BY id DESC") == 1);
    CHECK(state_of(&b, token) == TOKEN_ACTIVE && bench_render(&b).kind == SCRIPT_WAIT);
    boot = get(&b, id);
    CHECK(boot.state == BOOT_COMMITTED && boot.images[0].version == START &&
          boot.images[0].result == START + 9);
    CHECK(get(&b, later).state == BOOT_QUEUED);
    cannot_return(&b, token, "is running");

    /* A branch is its own as well. And where the machine has leased another boot, nothing of this is left. */
    CHECK_OK(boot_begin_end(b.c, "server", again.id, ENDING_AWAY, "it is away", &e));
    CHECK(publish_as(&b, again.id, START + 40) == BOOT_BRANCHED && state_of(&b, token) == TOKEN_AWAY);
    CHECK(lease(&b, NULL).id == later);
    CHECK_OK(boot_requeue(b.c, later, "nothing came", &e));
    CHECK(state_of(&b, token) == TOKEN_ENDED);
    cannot_return(&b, token, "branched");
    bench_close(&b);
}

static void an_interrupted_boot_is_the_same_again(void)
{
    struct bench b = bench_open();
    struct boot boot;
    char token[TOKEN_SIZE];
    int64_t id = away(&b, &b.mac, token);
    db_set_now(b.c, START + 30);
    end(&b, id, BOOT_INTERRUPTED);
    CHECK(state_of(&b, token) == TOKEN_AWAY);
    CHECK_OK(boot_return(b.c, &b.mac, token, "10.0.0.9", &boot, &e));
    CHECK(boot.id == id && boot.state == BOOT_RUNNING && !boot.resumed && boot.ending == ENDING_NONE);
    CHECK(boot.leased == START && boot.ended == 0 && boot.images[0].keep);
    CHECK_STR(boot.address, "10.0.0.9");
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'boot-reopened'") == 1);
    /* Somebody else's word about it stands above. */
    CHECK_OK(boot_begin_end(b.c, "server", id, ENDING_AWAY, "it is away", &e));
    end(&b, id, BOOT_INTERRUPTED);
    end(&b, id, BOOT_COMMITTING);
    end(&b, id, BOOT_INTERRUPTED);
    CHECK(state_of(&b, token) == TOKEN_ENDED);
    cannot_return(&b, token, "interrupted");
    bench_close(&b);
}

/* Whatever it has mounted must be as it left it. */
static void a_disk_that_is_not_as_it_was_keeps_a_machine_out(void)
{
    struct bench b = bench_open();
    struct boot boot;
    char token[TOKEN_SIZE];
    struct mac other = bench_mac(2);
    struct uuid home = bench_image(b.c, "home", "alice", "user"),
                scratch = bench_image(b.c, "scratch", "alice", "temporal");
    struct setup_image three[] = {{.image = b.image}, {.image = home}, {.image = scratch}};
    struct machine_change grow = {.disk_size = UINT64_C(1) << 30};
    struct temporal t;
    int64_t id;
    bench_machine(b.c, 2, NULL);
    CHECK_OK(setup_create(b.c, "alice", "three", "alice", three, 3, &b.setup, &e));

    id = away(&b, &b.mac, token);
    CHECK_OK(boot_no_return(b.c, id, "a disk is gone", &e));
    CHECK(publish_as(&b, id, START + 1) == BOOT_COMMITTED);
    CHECK_STR(get(&b, id).result, "it is away; a disk is gone");
    cannot_return(&b, token, "cannot come back to boot 1, which is committed");

    id = away(&b, &b.mac, token);
    CHECK(publish_as(&b, id, START + 2) == BOOT_COMMITTED);
    CHECK_OK(machine_set(b.c, "root", &b.mac, &grow, &e)); /* with the file system on it */
    cannot_return(&b, token, "is committed");

    id = away(&b, &b.mac, token);
    CHECK(publish_as(&b, id, START + 3) == BOOT_COMMITTED);
    CHECK_OK(boot_queue(b.c, "alice", &other, &b.setup, false, NULL, &id, NULL, &e));
    lease_of(&b, &other, NULL, &boot);
    cannot_return(&b, token, "is committed: image home is in use by another machine");
    end(&b, id, BOOT_INTERRUPTED);
    CHECK_OK(version_mark_damaged(b.c, &b.image, START + 3, "rotten", &e));
    cannot_return(&b, token, "damaged");
    CHECK(bench_ask(&b, "UPDATE version SET state = 'published', damage = NULL") == -1);
    CHECK_OK(temporal_find(b.c, &b.mac, &scratch, &t, &e));
    CHECK_OK(temporal_drop(b.c, "root", t.id, "asked for", &e));
    cannot_return(&b, token, "what the machine kept of image scratch was dropped");
    bench_close(&b);
}

int main(void)
{
    UNIT(how_it_is_to_end_is_kept);
    UNIT(who_wants_space_is_remembered);
    UNIT(a_users_data_goes_on_in_the_next_boot);
    UNIT(a_machine_goes_on_with_what_was_committed);
    UNIT(an_interrupted_boot_is_the_same_again);
    UNIT(a_disk_that_is_not_as_it_was_keeps_a_machine_out);
    return 0;
}
