/* SPDX-License-Identifier: BSD-3-Clause */
/* catalog/: the tokens of boots, and which of the machines' scripts are to be rendered. */
#include "tests/unit/catalog-bench.h"

#include <ctype.h>

/* ---- tokens ----------------------------------------------------------------------------------------------------- */

static void a_token_freezes_what_it_was_rendered_with(void)
{
    struct bench b = bench_open();
    struct boot boot;
    enum token_state state;
    int64_t id = bench_queue(&b, true);
    struct script_job job = bench_render(&b);
    CHECK(job.kind == SCRIPT_BOOT && job.boot.id == id && strlen(job.boot.token) == TOKEN_LEN);
    CHECK_STR(job.kernel, "6.1.0-37-cloud-amd64");
    bool letter = false;
    for (const char *p = job.boot.token; *p; p++) {
        CHECK(islower((unsigned char)*p) || (*p >= '2' && *p <= '7'));
        letter |= islower((unsigned char)*p) != 0;
    }
    CHECK(letter && state_of(&b, job.boot.token) == TOKEN_NEXT);
    /* Rendered again for the same: the same token. */
    CHECK_OK(script_want_all(b.c, &e));
    CHECK_STR(bench_render(&b).boot.token, job.boot.token);
    publish_image(&b, START + 5);
    struct script_job newer = bench_render(&b);
    CHECK(strcmp(newer.boot.token, job.boot.token) != 0 && newer.boot.images[0].version == START + 5);
    CHECK_STR(get(&b, id).token, newer.boot.token);
    CHECK_OK(boot_by_token(b.c, job.boot.token, &boot, &state, &e));
    CHECK(state == TOKEN_SUPERSEDED && boot.images[0].version == START);
    CHECK_STR(boot.token, job.boot.token);
    CHECK_OK(boot_by_token(b.c, newer.boot.token, &boot, &state, &e));
    CHECK(state == TOKEN_NEXT && boot.images[0].version == START + 5);
    CHECK_FAILS(boot_by_token(b.c, "aaaaaaaaaaaaaaaa", &boot, &state, &e), ERR_NOT_FOUND);
    /* The older one, a second before it is too old. */
    db_set_now(b.c, START + TOKEN_GRACE - 1);
    boot = lease(&b, job.boot.token);
    CHECK(boot.id == id && boot.images[0].version == START && boot.images[0].keep);
    CHECK_STR(boot.token, job.boot.token);
    CHECK(state_of(&b, job.boot.token) == TOKEN_ACTIVE);
    CHECK(state_of(&b, newer.boot.token) == TOKEN_ENDED);
    end(&b, id, BOOT_DISCARDED);
    CHECK_OK(boot_by_token(b.c, job.boot.token, &boot, &state, &e));
    CHECK(state == TOKEN_ENDED && boot.state == BOOT_DISCARDED && boot.result[0]);
    CHECK_FAILS(boot_lease(b.c, &b.mac, job.boot.token, NULL, &boot, &e), ERR_STATE);
    bench_close(&b);
}

static void a_token_is_too_old_after_ten_minutes(void)
{
    struct bench b = bench_open();
    struct boot boot;
    bench_queue(&b, false);
    struct script_job old = bench_render(&b);
    publish_image(&b, START + 5);
    struct script_job new = bench_render(&b);
    db_set_now(b.c, START + TOKEN_GRACE);
    CHECK(state_of(&b, old.boot.token) == TOKEN_ENDED);
    CHECK_FAILS(boot_lease(b.c, &b.mac, old.boot.token, NULL, &boot, &e), ERR_STATE);
    CHECK(strstr(e.msg, "10 minutes"));
    CHECK(state_of(&b, new.boot.token) == TOKEN_NEXT);
    CHECK(lease(&b, new.boot.token).images[0].version == START + 5);
    bench_close(&b);
}

static void a_boot_that_is_no_longer_next_can_come_still(void)
{
    struct bench b = bench_open();
    CHECK(bench_ask(&b, "UPDATE machine SET default_setup = (SELECT uuid FROM setup)") == -1);
    struct script_job by_default = bench_render(&b);
    CHECK(by_default.boot.from_default);
    int64_t id = bench_queue(&b, false);
    struct script_job queued = bench_render(&b);
    CHECK(queued.boot.id == id && state_of(&b, by_default.boot.token) == TOKEN_SUPERSEDED);
    CHECK(lease(&b, by_default.boot.token).id == by_default.boot.id);
    CHECK_OK(boot_requeue(b.c, by_default.boot.id, "it never came", &e));
    CHECK(bench_render(&b).boot.id == id);
    CHECK_OK(boot_cancel(b.c, "alice", id, &e));
    CHECK(state_of(&b, queued.boot.token) == TOKEN_ENDED);
    struct script_job again = bench_render(&b);
    CHECK(again.boot.id == by_default.boot.id && strcmp(again.boot.token, by_default.boot.token) != 0);
    bench_close(&b);
}

static void what_cannot_be_leased(void)
{
    struct bench b = bench_open();
    struct boot boot = {.id = 77};
    struct mac other = bench_mac(2), stranger = bench_mac(3);
    bench_machine(b.c, 2, NULL);
    CHECK_FAILS(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e), ERR_NOT_FOUND);
    CHECK_FAILS(boot_lease(b.c, &stranger, NULL, NULL, &boot, &e), ERR_NOT_FOUND);
    CHECK_FAILS(boot_lease(b.c, &b.mac, "aaaaaaaaaaaaaaaa", NULL, &boot, &e), ERR_NOT_FOUND);
    int64_t id = bench_queue(&b, false);
    bench_queue(&b, false);
    struct script_job job = bench_render(&b);
    CHECK_FAILS(boot_lease(b.c, &other, job.boot.token, NULL, &boot, &e), ERR_STATE);
    CHECK(lease(&b, job.boot.token).id == id);
    CHECK_FAILS(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e), ERR_STATE);
    CHECK(strstr(e.msg, "labboot boot end"));
    end(&b, id, BOOT_DISCARDED);
    CHECK_OK(version_mark_damaged(b.c, &b.image, START, "chunk 7", &e));
    CHECK_FAILS(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e), ERR_STATE);
    CHECK(bench_render(&b).kind == SCRIPT_LOCAL);
    CHECK(bench_ask(&b, "SELECT count(*) FROM boot_image WHERE boot = 2") == 0);
    CHECK(bench_ask(&b, "UPDATE machine SET managed = 0") == -1);
    CHECK_FAILS(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e), ERR_STATE);
    CHECK(boot.id == 77);
    bench_close(&b);
}

/* ---- scripts ---------------------------------------------------------------------------------------------------- */

#define WANTS(b, call)                                                                                       \
    do {                                                                                                     \
        bench_render(b);                                                                                     \
        CHECK(!bench_script_wanted(b));                                                                      \
        CHECK_OK(call);                                                                                      \
        CHECK(bench_script_wanted(b));                                                                       \
    } while (0)

#define SQL_WANTS(b, sql) WANTS(b, bench_ask(b, sql) == -1 ? 0 : -1)

static void every_change_of_a_boot_wants_the_script(void)
{
    struct bench b = bench_open();
    struct boot boot;
    enum boot_state ret;
    int64_t id;
    CHECK(bench_script_wanted(&b)); /* a new machine's */
    WANTS(&b, boot_queue(b.c, "alice", &b.mac, &b.setup, true, NULL, &id, NULL, &e));
    WANTS(&b, boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e));
    WANTS(&b, boot_requeue(b.c, id, "it never came", &e));
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e));
    WANTS(&b, boot_start(b.c, id, &e));
    WANTS(&b, boot_begin_end(b.c, "server", id, ENDING_AUTO, "reset", &e));
    struct version_new v = bench_version(&b.image, START + 9, START);
    WANTS(&b, boot_publish(b.c, id, &v, 1, &ret, &e));
    WANTS(&b, boot_queue(b.c, "alice", &b.mac, &b.setup, true, NULL, &id, NULL, &e));
    WANTS(&b, boot_cancel(b.c, "alice", id, &e));
    WANTS(&b, script_want_all(b.c, &e));
    bench_close(&b);
}

static void every_change_of_its_setup_wants_the_script(void)
{
    struct bench b = bench_open();
    int64_t id;
    struct in6_addr a = bench_ip("10.0.0.5"), last = bench_ip("10.0.0.9");
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &b.setup, false, NULL, &id, NULL, &e));
    struct version_new v = bench_version(&b.image, START + 9, START);
    WANTS(&b, version_publish(b.c, "alice", NULL, &v, &e));
    WANTS(&b, version_mark_damaged(b.c, &b.image, START + 9, "chunk 7", &e));
    SQL_WANTS(&b, "UPDATE image SET head = 1795460000 WHERE name = 'lab'");
    SQL_WANTS(&b, "UPDATE version SET kernel = '6.12'");
    SQL_WANTS(&b, "UPDATE setup_image SET version = 1795460000");
    SQL_WANTS(&b, "UPDATE setup SET name = 'chair'");
    SQL_WANTS(&b, "UPDATE image SET name = 'lab2' WHERE name = 'lab'");
    SQL_WANTS(&b, "DELETE FROM setup_image");
    SQL_WANTS(&b, "INSERT INTO setup_image SELECT setup.uuid, 0, image.uuid, NULL, 0 FROM setup, image WHERE "
                  "image.name = 'lab2'");
    SQL_WANTS(&b, "UPDATE machine SET name = 'other'");
    SQL_WANTS(&b, "INSERT INTO machine_mac VALUES ('52:54:00:00:00:77', '52:54:00:00:00:01', 1)");
    WANTS(&b, address_assign_all(b.c, &a, &last, &e));
    SQL_WANTS(&b, "DELETE FROM address");
    SQL_WANTS(&b, "DELETE FROM setup");
    CHECK(get(&b, id).state == BOOT_CANCELLED);
    bench_close(&b);
}

static void default_setups_and_unmanaged_machines(void)
{
    struct bench b = bench_open();
    SQL_WANTS(&b, "UPDATE machine SET default_setup = (SELECT uuid FROM setup)");
    struct script_job job = bench_render(&b);
    CHECK(job.kind == SCRIPT_BOOT && job.boot.from_default);
    SQL_WANTS(&b, "UPDATE setup_image SET updates = 1");
    CHECK(bench_render(&b).boot.keep);
    publish_image(&b, START + 3);
    CHECK(bench_script_wanted(&b));
    CHECK(bench_render(&b).boot.images[0].version == START + 3);
    SQL_WANTS(&b, "UPDATE machine SET managed = 0");
    CHECK(bench_render(&b).kind == SCRIPT_LOCAL);
    SQL_WANTS(&b, "UPDATE machine SET managed = 1");
    SQL_WANTS(&b, "UPDATE machine SET default_setup = NULL");
    CHECK(bench_render(&b).kind == SCRIPT_LOCAL);
    bench_close(&b);
}

static void a_machine_waits_for_its_own_update(void)
{
    struct bench b = bench_open();
    struct script_job job;
    enum boot_state ret;
    int64_t first = bench_queue(&b, true), second = bench_queue(&b, false);
    CHECK(bench_render(&b).boot.id == first);
    lease(&b, NULL);
    job = bench_render(&b);
    CHECK(job.kind == SCRIPT_WAIT && job.boot.id == first);
    CHECK_OK(boot_start(b.c, first, &e));
    CHECK(bench_render(&b).kind == SCRIPT_WAIT);
    end(&b, first, BOOT_COMMITTING);
    CHECK(bench_render(&b).kind == SCRIPT_WAIT);
    struct version_new v = bench_version(&b.image, START + 9, START);
    CHECK_OK(boot_publish(b.c, first, &v, 1, &ret, &e));
    job = bench_render(&b);
    CHECK(job.kind == SCRIPT_BOOT && job.boot.id == second && job.boot.images[0].version == START + 9);
    /* Nothing to keep, nothing to wait for. */
    lease(&b, job.boot.token);
    CHECK(bench_render(&b).kind == SCRIPT_LOCAL);
    /* Interrupted: the machine goes on with its queue. */
    end(&b, second, BOOT_INTERRUPTED);
    int64_t third = bench_queue(&b, false);
    CHECK(bench_render(&b).boot.id == third);
    bench_close(&b);
}

static void a_change_while_rendering_is_not_lost(void)
{
    struct bench b = bench_open();
    struct script_job job;
    bench_render(&b);
    bench_queue(&b, false);
    CHECK_OK(script_next(b.c, NULL, &job, &e));
    publish_image(&b, START + 5);
    CHECK_OK(script_done(b.c, &job, &e));
    CHECK(bench_script_wanted(&b));
    CHECK(bench_render(&b).boot.images[0].version == START + 5);
    /* A slower renderer that comes late takes nothing back. */
    CHECK_OK(script_done(b.c, &job, &e));
    CHECK(!bench_script_wanted(&b));
    bench_close(&b);
}

static void the_waiting_script_was_fetched(void)
{
    struct bench b = bench_open();
    struct in6_addr mine = bench_ip("10.0.0.1"), others = bench_ip("10.0.0.2"),
                    nobodys = bench_ip("10.0.0.9");
    struct mac other = bench_mac(2);
    struct request r;
    bench_machine(b.c, 2, NULL);
    CHECK_OK(lease_record(b.c, &b.mac, &mine, 0, &e));
    CHECK_OK(lease_record(b.c, &other, &others, 0, &e));
    int64_t id = bench_queue(&b, true);
    CHECK_FAILS(script_waiting_fetched(b.c, id, &mine, &e), ERR_STATE);
    lease(&b, NULL);
    CHECK_FAILS(script_waiting_fetched(b.c, id, &others, &e), ERR_STATE);
    CHECK_FAILS(script_waiting_fetched(b.c, id, &nobodys, &e), ERR_STATE);
    CHECK_FAILS(script_waiting_fetched(b.c, 99, &mine, &e), ERR_NOT_FOUND);
    CHECK_OK(script_waiting_fetched(b.c, id, &mine, &e));
    CHECK_OK(script_waiting_fetched(b.c, id, &mine, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM request") == 1);
    CHECK_OK(request_take(b.c, &r, &e));
    CHECK(r.kind == REQUEST_RESET && r.boot == id);
    CHECK_STR(r.actor, "machine 52:54:00:00:00:01");
    CHECK_OK(script_waiting_fetched(b.c, id, &mine, &e)); /* taken, not answered: still pending */
    CHECK(bench_ask(&b, "SELECT count(*) FROM request") == 1);
    CHECK_OK(request_answer(b.c, r.id, 0, "", &e));
    CHECK_OK(script_waiting_fetched(b.c, id, &mine, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM request") == 2);
    end(&b, id, BOOT_COMMITTING);
    CHECK_OK(script_waiting_fetched(b.c, id, &mine, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM request") == 2);
    end(&b, id, BOOT_DISCARDED);
    CHECK_FAILS(script_waiting_fetched(b.c, id, &mine, &e), ERR_STATE);
    bench_close(&b);
}

int main(void)
{
    UNIT(a_token_freezes_what_it_was_rendered_with);
    UNIT(a_token_is_too_old_after_ten_minutes);
    UNIT(a_boot_that_is_no_longer_next_can_come_still);
    UNIT(what_cannot_be_leased);
    UNIT(every_change_of_a_boot_wants_the_script);
    UNIT(every_change_of_its_setup_wants_the_script);
    UNIT(default_setups_and_unmanaged_machines);
    UNIT(a_machine_waits_for_its_own_update);
    UNIT(a_change_while_rendering_is_not_lost);
    UNIT(the_waiting_script_was_fetched);
    return 0;
}
