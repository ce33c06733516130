/* SPDX-License-Identifier: BSD-3-Clause */
/* The event trail: every change of the catalog has its event, in its own transaction, and a change that fails has
 * none. */
#include "tests/unit/catalog-bench.h"

#include "lib/base/bytes.h"

/* ---- every change ----------------------------------------------------------------------------------------------- */

static int64_t count_events(const struct bench *b)
{
    return bench_ask(b, "SELECT count(*) FROM event");
}

/* One change: since the last look just this event is new. `where` says more of it, or is NULL. */
static void check_event(const struct bench *b, int64_t *seen, const char *what, const char *where)
{
    cleanup(free) char *fitting =
        path_format("SELECT count(*) FROM event WHERE id > %lld AND what = '%s' AND (%s)", (long long)*seen,
                    what, where ? where : "1");
    int64_t now = bench_ask(b, "SELECT coalesce(max(id), 0) FROM event");
    if (now != *seen + 1 || bench_ask(b, fitting) != 1) {
        fprintf(stderr, "%lld new events; none of them alone is '%s' where %s\n", (long long)(now - *seen),
                what, where ? where : "-");
        exit(1);
    }
    *seen = now;
}

static void users_machines_and_setups(void)
{
    struct bench b = bench_open();
    int64_t seen = count_events(&b);
    CHECK_OK(user_add(b.c, "root", "bob", NULL, "bob@example.org", NULL, &e));
    check_event(&b, &seen, "user-added", "actor = 'root' AND object = 'user bob' AND machine IS NULL");
    bench_machine(b.c, 7, NULL);
    check_event(&b, &seen, "machine-added",
                "object = 'machine 52:54:00:00:00:07' AND machine = '52:54:00:00:00:07'");
    struct in6_addr first = bench_ip("10.0.0.1"), last = bench_ip("10.0.0.9");
    CHECK_OK(address_assign_all(b.c, &first, &last, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'address-assigned'") == 2);
    seen = count_events(&b);
    bench_setup(b.c, "more", b.image, 0, false);
    check_event(&b, &seen, "setup-created", "object = 'setup alice/more'");
    CHECK_OK(script_want_all(b.c, &e));
    check_event(&b, &seen, "scripts-wanted", NULL);
    bench_close(&b);
}

static void leases_and_fetches(void)
{
    struct bench b = bench_open();
    struct in6_addr a = bench_ip("10.0.0.5"), other = bench_ip("10.0.0.6");
    int64_t seen = count_events(&b);
    CHECK_OK(lease_record(b.c, &b.mac, &a, 0, &e));
    check_event(&b, &seen, "lease-given", "actor = 'dhcp' AND detail = '10.0.0.5'");
    CHECK_OK(lease_record(b.c, &b.mac, &a, 0, &e)); /* dnsmasq repeats them all */
    CHECK(count_events(&b) == seen);
    CHECK_OK(tftp_record(b.c, &a, "/boot.ipxe", &e));
    check_event(&b, &seen, "tftp", "detail = '/boot.ipxe' AND peer = '10.0.0.5' AND machine IS NOT NULL");
    CHECK_OK(tftp_record(b.c, &other, "/boot.ipxe", &e));
    check_event(&b, &seen, "tftp", "object = 'address 10.0.0.6' AND machine IS NULL");
    CHECK_OK(lease_remove(b.c, &b.mac, &a, &e));
    check_event(&b, &seen, "lease-ended", NULL);
    CHECK_OK(lease_remove(b.c, &b.mac, &a, &e));
    CHECK(count_events(&b) == seen);
    bench_close(&b);
}

static void images_and_versions(void)
{
    struct bench b = bench_open();
    int64_t seen = count_events(&b);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'image-created' AND object = "
                        "'image alice/lab'") == 1);
    struct version_new v = bench_version(&b.image, START + 9, START);
    CHECK_OK(version_publish(b.c, "alice", NULL, &v, &e));
    check_event(&b, &seen, "version-published", "object = 'image alice/lab@1795460009' AND actor = 'alice'");
    CHECK_OK(version_mark_damaged(b.c, &b.image, START, "chunk 7", &e));
    check_event(&b, &seen, "version-damaged", "object = 'image alice/lab@1795460000' AND detail = 'chunk 7'");
    bench_close(&b);
}

static void each_step_of_a_boot(void)
{
    struct bench b = bench_open();
    struct boot boot;
    enum boot_state state;
    int64_t request;
    struct request r;
    struct in6_addr a = bench_ip("10.0.0.5");
    CHECK_OK(lease_record(b.c, &b.mac, &a, 0, &e));
    int64_t seen = count_events(&b), id = bench_queue(&b, true);
    check_event(&b, &seen, "boot-queued", "actor = 'alice' AND object = 'boot 1' AND peer IS NULL");
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, "10.0.0.5", &boot, &e));
    check_event(&b, &seen, "boot-leased", "peer = '10.0.0.5' AND actor = 'machine 52:54:00:00:00:01'");
    CHECK_OK(boot_requeue(b.c, id, "nothing came", &e));
    check_event(&b, &seen, "boot-requeued", "detail = 'nothing came' AND peer IS NULL");
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, "", &boot, &e));
    check_event(&b, &seen, "boot-leased", "peer IS NULL");
    CHECK_OK(boot_start(b.c, id, &e));
    check_event(&b, &seen, "boot-running", NULL);
    CHECK_OK(boot_set_disconnected(b.c, id, START, &e));
    check_event(&b, &seen, "boot-disconnected", NULL);
    CHECK_OK(boot_set_disconnected(b.c, id, START + 1, &e));
    CHECK(count_events(&b) == seen);
    CHECK_OK(boot_set_disconnected(b.c, id, 0, &e));
    check_event(&b, &seen, "boot-reconnected", NULL);
    CHECK_OK(script_waiting_fetched(b.c, id, &a, &e));
    check_event(&b, &seen, "request-reset", "peer = '10.0.0.5' AND object = 'boot 1'");
    CHECK_OK(request_take(b.c, &r, &e));
    CHECK_OK(request_answer(b.c, r.id, ERR_STATE, "not now", &e));
    check_event(&b, &seen, "request-refused", "object = 'boot 1' AND detail = 'reset: not now'");
    CHECK_OK(request_add(b.c, "root", REQUEST_END, id, &request, &e));
    check_event(&b, &seen, "request-end", "actor = 'root' AND machine IS NOT NULL");
    CHECK_OK(request_take(b.c, &r, &e));
    CHECK_OK(boot_begin_end(b.c, "root", id, ENDING_AUTO, "ended", &e));
    check_event(&b, &seen, "boot-committing", "detail = 'ended'");
    struct version_new v = bench_version(&b.image, START + 5, START);
    CHECK_OK(boot_publish(b.c, id, &v, 1, &state, &e));
    CHECK(count_events(&b) == seen + 2); /* the boot ends, and there is a version */
    CHECK(bench_ask(
              &b, "SELECT count(*) FROM event WHERE what = 'version-published' AND detail = 'boot 1'") == 1);
    seen++;
    check_event(&b, &seen, "boot-committed", NULL);
    CHECK_OK(request_untake_all(b.c, &e)); /* the server died before it had answered */
    check_event(&b, &seen, "request-done", "object = 'boot 1' AND detail = 'end' AND machine IS NOT NULL");
    bench_close(&b);
}

static void other_ends_of_boots(void)
{
    struct bench b = bench_open();
    struct boot boot;
    int64_t id = bench_queue(&b, false), seen = count_events(&b);
    CHECK_OK(boot_cancel(b.c, "bob", id, &e));
    check_event(&b, &seen, "boot-cancelled", "actor = 'bob'");
    id = bench_queue(&b, true);
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, "", &boot, &e));
    seen = count_events(&b);
    CHECK_OK(boot_end(b.c, "server", id, BOOT_INTERRUPTED, "power cut", &e));
    check_event(&b, &seen, "boot-interrupted", "detail = 'power cut'");
    CHECK_OK(boot_end(b.c, "root", id, BOOT_DISCARDED, "no", &e));
    check_event(&b, &seen, "boot-discarded", NULL);
    bench_machine(b.c, 2, &b.setup);
    bench_render(&b);
    seen = count_events(&b);
    CHECK(bench_ask(&b, "UPDATE machine SET default_setup = NULL") == -1);
    check_event(&b, &seen, "boot-cancelled", "machine = '52:54:00:00:00:02'");
    bench_queue(&b, false);
    seen = count_events(&b);
    CHECK(bench_ask(&b, "DELETE FROM setup") == -1);
    check_event(&b, &seen, "boot-cancelled", "detail = 'its setup was removed'");
    bench_close(&b);
}

static void what_fails_leaves_no_event(void)
{
    struct bench b = bench_open();
    struct uuid none = {{1}};
    struct machine_new machine = {.mac = b.mac, .managed = true};
    struct version_new v = bench_version(&b.image, START, 0);
    struct setup_image image = {.image = none};
    struct boot boot;
    enum boot_state state;
    struct in6_addr a = bench_ip("10.0.0.5");
    int64_t id = bench_queue(&b, false), ignored, seen = count_events(&b);
    CHECK(user_add(b.c, "root", "alice", NULL, "x@example.org", NULL, &e) < 0);
    CHECK(user_add(b.c, "root", "carol", NULL, "x@example.org", "king", &e) < 0);
    CHECK(machine_add(b.c, "root", &machine, &e) < 0);
    CHECK(version_publish(b.c, "root", NULL, &v, &e) < 0);
    CHECK(version_mark_damaged(b.c, &none, 1, "x", &e) < 0);
    CHECK(setup_create(b.c, "root", "x", "alice", &image, 1, &none, &e) < 0);
    CHECK(boot_queue(b.c, "root", &b.mac, &none, false, NULL, &ignored, NULL, &e) < 0);
    CHECK(boot_requeue(b.c, id, "x", &e) < 0);
    CHECK(boot_end(b.c, "root", id, BOOT_DISCARDED, "x", &e) < 0);
    CHECK(boot_set_disconnected(b.c, 99, 1, &e) < 0);
    CHECK(boot_cancel(b.c, "root", 99, &e) < 0);
    CHECK(script_waiting_fetched(b.c, id, &a, &e) < 0);
    CHECK(request_add(b.c, "root", REQUEST_END, 99, &ignored, &e) < 0);
    CHECK(request_answer(b.c, 99, 0, "", &e) < 0);
    CHECK(count_events(&b) == seen);
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, "", &boot, &e));
    CHECK_OK(boot_begin_end(b.c, "root", id, ENDING_AUTO, "x", &e));
    seen = count_events(&b);
    struct version_new bad[2] = {bench_version(&b.image, START + 1, START), v};
    CHECK(boot_publish(b.c, id, bad, 2, &state, &e) < 0);
    CHECK(boot_lease(b.c, &b.mac, NULL, "", &boot, &e) < 0);
    CHECK(count_events(&b) == seen);
    bench_close(&b);
}

static void refusals_do_not_flood_the_trail(void)
{
    struct bench b = bench_open();
    int64_t seen = count_events(&b);
    char name[20];
    CHECK_OK(refusal_record(b.c, &b.mac, "10.0.0.66", "52-54-00-00-00-01\n", "not yours", &e));
    check_event(&b, &seen, "export-refused",
                "peer = '10.0.0.66' AND detail = '''52-54-00-00-00-01\\x0a'': not yours' AND "
                "machine = '52:54:00:00:00:01'");
    CHECK_OK(refusal_record(b.c, &b.mac, "10.0.0.66", "52-54-00-00-00-01\n", "not yours", &e));
    CHECK(count_events(&b) == seen);
    db_set_now(b.c, START + 61);
    CHECK_OK(refusal_record(b.c, &b.mac, "10.0.0.66", "52-54-00-00-00-01\n", "not yours", &e));
    check_event(&b, &seen, "export-refused", NULL);
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "name-%d", i);
        CHECK_OK(refusal_record(b.c, NULL, "10.0.0.67", name, "unknown", &e));
    }
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE object = 'address 10.0.0.67'") == 10);
    seen = count_events(&b);
    CHECK_OK(script_failed(b.c, &b.mac, "no kernel", &e));
    check_event(&b, &seen, "script-failed", "machine = '52:54:00:00:00:01' AND detail = 'no kernel'");
    CHECK_OK(script_failed(b.c, &b.mac, "no kernel", &e));
    CHECK(count_events(&b) == seen);
    bench_close(&b);
}

/* ---- reading it ------------------------------------------------------------------------------------------------- */

struct heard {
    int count;
    int64_t first, last;
};

static int hear(void *ctx, const struct trail_event *ev, struct err *err)
{
    struct heard *h = ctx;
    (void)err;
    CHECK(ev->id > h->last && ev->time && ev->actor && ev->what && ev->object && ev->detail && ev->json);
    h->first = h->count++ == 0 ? ev->id : h->first;
    h->last = ev->id;
    return 0;
}

static struct heard ask(struct bench *b, struct trail_filter f)
{
    struct heard h = {0};
    CHECK_OK(trail_read(b->c, &f, hear, &h, &e));
    return h;
}

static int stop_at_once(void *ctx, const struct trail_event *ev, struct err *err)
{
    (void)ctx;
    (void)ev;
    return err_set(err, ERR_DENIED, "no more");
}

static void filters(void)
{
    struct bench b = bench_open();
    const struct mac other = bench_mac(2);
    bench_machine(b.c, 2, NULL);
    for (int i = 0; i < 12; i++)
        bench_queue(&b, false);
    db_set_now(b.c, START + 100);
    CHECK_OK(boot_cancel(b.c, "root as alice", 1, &e));
    int64_t all = count_events(&b);
    CHECK(ask(&b, (struct trail_filter){.limit = -1}).count == all);
    CHECK(ask(&b, (struct trail_filter){.limit = 0}).count == 0);
    struct heard two = ask(&b, (struct trail_filter){.limit = 2});
    CHECK(two.count == 2 && two.last == all && two.first == all - 1);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .after = all - 1}).count == 1);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .machine = &b.mac}).count == 14);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .machine = &other}).count == 1);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .boot = 1}).count == 2);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .boot = 1, .machine = &other}).count == 0);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .object = "boot"}).count == 13);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .object = "boot 1"}).count == 2);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .object = "boo"}).count == 0);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .object = "image alice/lab"}).count == 2);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .object = "image alice/lab@1795460000"}).count == 1);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .actor = "root as alice"}).count == 1);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .actor = "root", .object = "boot"}).count == 1);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .what = "boot-*"}).count == 13);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .what = "*-cancelled"}).count == 1);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .since = START + 1}).count == 1);
    CHECK(ask(&b, (struct trail_filter){.limit = -1, .until = START + 99}).count == all - 1);
    struct trail_filter f = {.limit = -1};
    CHECK_FAILS(trail_read(b.c, &f, stop_at_once, NULL, &e), ERR_DENIED);
    bench_close(&b);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    UNIT(users_machines_and_setups);
    UNIT(leases_and_fetches);
    UNIT(images_and_versions);
    UNIT(each_step_of_a_boot);
    UNIT(other_ends_of_boots);
    UNIT(what_fails_leaves_no_event);
    UNIT(refusals_do_not_flood_the_trail);
    UNIT(filters);
    return 0;
}
