/* SPDX-License-Identifier: BSD-3-Clause */
/* catalog/verified: what came of a reading, and what is to be read again. */
#include "catalog/verified.h"
#include "tests/unit/catalog-bench.h"

#define DAY 86400

static const struct verify_result whole;

static void publish(struct bench *b, unsigned n)
{
    struct version_new v = bench_version(&b->image, START + n, START + n - 1);
    CHECK_OK(version_publish(b->c, "alice", NULL, &v, &e));
}

/* The row of START + n, as it is now. */
static struct version_row row_of(struct bench *b, unsigned n)
{
    struct version_row *rows, one;
    size_t count;
    CHECK_OK(version_rows(b->c, &b->image, &rows, &count, &e));
    CHECK(n < count);
    one = rows[n];
    free(rows);
    return one;
}

static bool verified(struct bench *b, const struct version_row *before, const struct verify_result *r)
{
    bool news;
    struct verify_result result = *r;
    result.version = before->version;
    CHECK_OK(version_verified(b->c, "alice", &b->image, before, &result, &news, &e));
    return news;
}

static struct verify_result damaged(const char *why)
{
    struct verify_result r = {.damaged = true, .damaged_chunks = 1};
    snprintf(r.why, sizeof r.why, "%s", why);
    return r;
}

/* "0 2": the versions of the bench's image that are due after so many days; "-": nothing is to be done at all. */
static void check_due(struct bench *b, uint64_t days, const char *wanted)
{
    struct scrub_version *list;
    struct uuid image;
    size_t count;
    char text[100] = "";
    int found = scrub_next(b->c, NULL, days, &image, &list, &count, &e);
    CHECK(found >= 0);
    if (found == 0) {
        CHECK_STR("-", wanted);
        return;
    }
    CHECK(uuid_equal(&image, &b->image));
    for (size_t i = 0; i < count; i++)
        if (list[i].due)
            sprintf(text + strlen(text), "%s%u", *text ? " " : "", (unsigned)(list[i].row.version - START));
    free(list);
    CHECK_STR(text, wanted);
}

static uint64_t read_to(struct bench *b, unsigned n)
{
    struct scrub_version *list;
    struct uuid image;
    size_t count;
    CHECK(scrub_next(b->c, NULL, 1, &image, &list, &count, &e) == 1);
    uint64_t to = list[n].to;
    free(list);
    return to;
}

/* ---- what came of it ---- */

static void marks_and_events(void)
{
    struct bench b = bench_open();
    struct verify_result bad = damaged("chunk 7");
    struct version_row row = row_of(&b, 0);
    CHECK(!verified(&b, &row, &whole) && !row_of(&b, 0).damaged);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what LIKE 'version-%' AND actor = 'alice'") == 1);
    CHECK(bench_ask(&b, "SELECT verified FROM version") == START);
    CHECK(verified(&b, &row, &bad) && row_of(&b, 0).damaged);
    CHECK(!verified(&b, &row, &bad));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'version-damaged' AND actor = 'alice'") ==
          1);
    row = row_of(&b, 0);
    CHECK(verified(&b, &row, &whole) && !row_of(&b, 0).damaged);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'version-whole' AND actor = 'alice'") == 1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM damage") == 0);
    bench_close(&b);
}

static void a_sha256_is_news_once(void)
{
    struct bench b = bench_open();
    struct version_row row = row_of(&b, 0);
    struct verify_result r = {.has_sha256 = true, .sha256 = {7}};
    verified(&b, &row, &r);
    verified(&b, &row, &r);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'version-sha256'") == 1);
    CHECK(bench_ask(&b, "SELECT hex(sha256) LIKE '07%' FROM version") == 1);
    bench_close(&b);
}

/* A client's read found damage where the one who reads all had been already. */
static void who_was_marked_meanwhile_stays_marked(void)
{
    struct bench b = bench_open();
    struct version_row row = row_of(&b, 0);
    CHECK_OK(version_mark_damaged(b.c, &b.image, START, "chunk 7", &e));
    CHECK(!verified(&b, &row, &whole) && row_of(&b, 0).damaged);
    bench_close(&b);
}

static void another_layer_is_another_matter(void)
{
    struct bench b = bench_open();
    struct version_row row = row_of(&b, 0);
    struct verify_result bad = damaged("chunk 7");
    struct uuid layer;
    uuid_make(&layer);
    CHECK_OK(scrub_note(b.c, &b.image, &row, 5 * MIB, &e));
    CHECK_OK(version_flattened(b.c, "alice", &b.image, START, &layer, 1000, &e));
    CHECK(!verified(&b, &row, &bad) && !row_of(&b, 0).damaged);
    CHECK_OK(scrub_note(b.c, &b.image, &row, 6 * MIB, &e));
    CHECK(bench_ask(&b, "SELECT verified_to + coalesce(verified, 0) FROM version") == 0);
    /* one that is gone */
    publish(&b, 1);
    row = row_of(&b, 0);
    struct version_file gone;
    CHECK_OK(version_remove(b.c, "root", &b.image, START, false, &gone, &e));
    CHECK(!verified(&b, &row, &bad));
    bench_close(&b);
}

static void where_the_damage_lies(void)
{
    struct bench b = bench_open();
    struct verify_result r = damaged("chunk 7");
    char *json;
    for (unsigned n = 1; n < 4; n++)
        publish(&b, n);
    struct version_row rows[4] = {row_of(&b, 0), row_of(&b, 1), row_of(&b, 2), row_of(&b, 3)};
    struct uuid retired = {{0xab}};
    r.damage[0] = (struct verify_damage){rows[0].layer, 3};
    r.damage[1] = (struct verify_damage){retired, 1};
    r.ndamage = 2;
    verified(&b, &rows[0], &r);
    verified(&b, &rows[1], &r);
    r.ndamage = 0;
    verified(&b, &rows[3], &r); /* its index could not be read */
    CHECK(bench_ask(&b, "SELECT count(*) FROM damage WHERE number = 1795460003 AND layer = "
                        "(SELECT layer FROM version WHERE number = 1795460003)") == 1);
    char uuid[UUID_TEXT_SIZE];
    CHECK_OK(query_json(b.c, QUERY_VERSIONS, uuid_to_text(&b.image, uuid), &json, &e));
    CHECK(strstr(json,
                 "\"DamagedFiles\":[{\"File\":\"1795460000.img\",\"Chunks\":3,\"SharedWith\":[1795460001]},"
                 "{\"File\":\"retired/ab000000-0000-0000-0000-000000000000.img\",\"Chunks\":1,"
                 "\"SharedWith\":[1795460001]}]"));
    CHECK(strstr(json, "\"DamagedFiles\":[{\"File\":\"1795460003.img\",\"Chunks\":0,\"SharedWith\":[]}]"));
    free(json);
    bench_close(&b);
}

/* ---- what it touches, for people ---- */

static char todo[600], why[1000];

static void note_trouble(void *ctx, const char *what, const char *reason, const char *advice)
{
    if (strstr(what, ctx)) {
        snprintf(why, sizeof why, "%s", reason);
        snprintf(todo, sizeof todo, "%s", advice);
    }
}

static void check_advice(struct bench *b, unsigned n, const char *reason, const char *advice)
{
    char name[20];
    snprintf(name, sizeof name, "@%u", START + n);
    why[0] = todo[0] = '\0';
    CHECK_OK(trouble_each(b->c, TROUBLE_DAMAGED, NULL, note_trouble, name, &e));
    if (!strstr(why, reason) || !strstr(todo, advice))
        fprintf(stderr, "'%s' or '%s' is not in: %s; try: %s\n", reason, advice, why, todo), exit(1);
}

static void doctor_says_what_it_touches(void)
{
    struct bench b = bench_open();
    struct verify_result bad = damaged("chunk 7");
    struct boot boot;
    struct mac two = bench_mac(2);
    int64_t queued;
    publish(&b, 1);
    publish(&b, 2);
    bench_setup(b.c, "pegged", b.image, START + 1, false);
    bench_machine(b.c, 2, NULL);
    bench_queue(&b, false);
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e));
    CHECK_OK(boot_queue(b.c, "alice", &two, &b.setup, false, NULL, &queued, NULL, &e));
    struct version_row rows[3] = {row_of(&b, 0), row_of(&b, 1), row_of(&b, 2)};
    bad.damage[0] = (struct verify_damage){rows[0].layer, 1};
    bad.ndamage = 1;
    verified(&b, &rows[1], &bad);
    verified(&b, &rows[2], &bad);
    check_advice(&b, 2,
                 "chunk 7; in 1795460000.img; damage there is shared with 1795460001; setups that have it: "
                 "alice/desk; "
                 "boots that have it: 1 of machine-525400000001 (leased), 2 of machine-525400000002 (queued)",
                 "or labboot image rollback alice/lab --to 1795460000");
    check_advice(&b, 1, "setups that have it: alice/pegged",
                 "or labboot setup peg alice/pegged alice/lab@1795460000");
    verified(&b, &rows[0], &bad);
    check_advice(&b, 0, "shared with 1795460001, 1795460002", "or labboot image import alice/lab FILE");
    struct version_row now = row_of(&b, 2);
    verified(&b, &now, &whole);
    check_advice(&b, 0, "chunk 7", "or labboot image remove alice/lab@1795460000");
    bench_close(&b);
}

/* ---- what is to be read again ---- */

static void what_was_not_read_for_long_is_due(void)
{
    struct bench b = bench_open();
    check_due(&b, 30, "-");
    db_set_now(b.c, START + 10 * DAY);
    publish(&b, 1);
    check_due(&b, 10, "0");
    check_due(&b, 11, "-");
    db_set_now(b.c, START + 20 * DAY);
    check_due(&b, 10, "0 1");
    struct version_row row = row_of(&b, 0);
    verified(&b, &row, &whole);
    check_due(&b, 10, "1");
    row = row_of(&b, 1);
    verified(&b, &row, &whole);
    check_due(&b, 10, "-");
    db_set_now(b.c, START + 30 * DAY);
    check_due(&b, 10, "0 1");
    bench_close(&b);
}

/* All of its versions: what the damaged one shares with them may be what is damaged. */
static void an_image_with_damage_is_due_every_day(void)
{
    struct bench b = bench_open();
    struct verify_result bad = damaged("chunk 7");
    publish(&b, 1);
    publish(&b, 2);
    struct version_row row = row_of(&b, 1);
    verified(&b, &row, &bad);
    check_due(&b, 30, "-");
    db_set_now(b.c, START + DAY - 1);
    verified(&b, &row, &bad);
    db_set_now(b.c, START + DAY);
    check_due(&b, 30, "0 2");
    db_set_now(b.c, START + 2 * DAY);
    check_due(&b, 30, "0 1 2");
    bench_close(&b);
}

static void it_is_remembered_how_far_it_came(void)
{
    struct bench b = bench_open();
    publish(&b, 1);
    struct version_row row = row_of(&b, 1), other = row_of(&b, 0);
    struct verify_result bad = damaged("chunk 7");
    db_set_now(b.c, START + 10 * DAY);
    CHECK_OK(scrub_note(b.c, &b.image, &row, 5 * MIB, &e));
    CHECK(read_to(&b, 1) == 5 * MIB && read_to(&b, 0) == 0);
    verified(&b, &row, &whole);
    CHECK(bench_ask(&b, "SELECT max(verified_to) FROM version") == 0);
    /* beside damage nothing can be vouched for */
    verified(&b, &other, &bad);
    CHECK_OK(scrub_note(b.c, &b.image, &row, 5 * MIB, &e));
    CHECK(bench_ask(&b, "SELECT max(verified_to) FROM version") == 0);
    bench_close(&b);
}

static void images_take_turns(void)
{
    struct bench b = bench_open();
    bench_image(b.c, "other", "alice", "user");
    struct uuid image, next;
    struct scrub_version *list;
    size_t count;
    db_set_now(b.c, START + 10 * DAY);
    CHECK(scrub_next(b.c, NULL, 5, &image, &list, &count, &e) == 1 && count == 1);
    free(list);
    CHECK(scrub_next(b.c, &image, 5, &next, &list, &count, &e) == 1 && !uuid_equal(&image, &next));
    free(list);
    CHECK(scrub_next(b.c, &next, 5, &next, &list, &count, &e) == 1 && uuid_equal(&image, &next));
    free(list);
    CHECK(bench_ask(&b, "UPDATE version SET verified = 1795460000 + 864000 RETURNING 1") == 1);
    CHECK(scrub_next(b.c, &image, 5, &next, &list, &count, &e) == 0);
    bench_close(&b);
}

int main(void)
{
    UNIT(marks_and_events);
    UNIT(a_sha256_is_news_once);
    UNIT(who_was_marked_meanwhile_stays_marked);
    UNIT(another_layer_is_another_matter);
    UNIT(where_the_damage_lies);
    UNIT(doctor_says_what_it_touches);
    UNIT(what_was_not_read_for_long_is_due);
    UNIT(an_image_with_damage_is_due_every_day);
    UNIT(it_is_remembered_how_far_it_came);
    UNIT(images_take_turns);
    return 0;
}
