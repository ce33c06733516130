/* SPDX-License-Identifier: BSD-3-Clause */
/* catalog/db: the catalog's file, its schema and transactions. */
#include "tests/unit/catalog-bench.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void all_statements_prepare(void)
{
    struct bench b = bench_open();
    CHECK_OK(db_views(b.c, &e));
    for (int i = 0; i < SQL_COUNT; i++) {
        CHECK(statement_sql[i]);
        if ((i >= SQL_BEGIN && i <= SQL_ROLLBACK_TO) || i == SQL_BACKUP)
            continue;
        CHECK_OK(db_script(b.c, "BEGIN IMMEDIATE", &e));
        struct stmt *s = stmt_use(b.c, (enum statement)i);
        /* Unbound parameters are NULL: a constraint may refuse that, a statement that does not parse fails. */
        if (stmt_run(s, &e) < 0 && !strstr(e.msg, "constraint"))
            fprintf(stderr, "%s: %s\n", statement_sql[i], e.msg), exit(1);
        stmt_done(s);
        CHECK_OK(db_script(b.c, "ROLLBACK", &e));
    }
    bench_close(&b);
}

static void created_once_and_opened(void)
{
    cleanup(free) char *path = path_format("%s/created.db", unit_dir());
    struct catalog *c;
    struct stat st;
    CHECK_FAILS(catalog_open(path, CATALOG_FULL, &c, &e), ERR_NOT_FOUND);
    CHECK(strstr(e.msg, "labboot init"));
    CHECK_OK(catalog_create(path, &e));
    CHECK_OK(catalog_create(path, &e));
    CHECK(stat(path, &st) == 0 && (st.st_mode & 07777) == 0640);
    CHECK_OK(catalog_open(path, CATALOG_FULL, &c, &e));
    catalog_close(c);
    catalog_close(NULL);
}

static struct bench file(const char *name)
{
    return (struct bench){.path = path_format("%s/%s", unit_dir(), name)};
}

static void write_file(const char *path, const char *text)
{
    CHECK_OK(atomic_replace(path, NULL, text, strlen(text), 0640, &e));
}

static void strange_files_are_refused(void)
{
    struct catalog *c;
    struct bench b = file("strange.db");
    write_file(b.path, "");
    CHECK_FAILS(catalog_open(b.path, CATALOG_FULL, &c, &e), ERR_NOT_FOUND);
    CHECK_OK(catalog_create(b.path, &e));
    CHECK(bench_ask(&b, "PRAGMA user_version = 99") == -1);
    CHECK_FAILS(catalog_open(b.path, CATALOG_FULL, &c, &e), ERR_STATE);
    CHECK_FAILS(catalog_create(b.path, &e), ERR_STATE);
    CHECK(strstr(e.msg, "newer"));
    CHECK(bench_ask(&b, "PRAGMA application_id = 7") == -1);
    CHECK_FAILS(catalog_open(b.path, CATALOG_FULL, &c, &e), ERR_STATE);
    write_file(b.path,
               "this is no database, and it is longer than the header of one, which has a hundred bytes: see "
               "the file format");
    CHECK_FAILS(catalog_open(b.path, CATALOG_FULL, &c, &e), ERR_CORRUPT);
    CHECK_FAILS(catalog_create(b.path, &e), ERR_CORRUPT);
    CHECK_FAILS(catalog_open(unit_dir(), CATALOG_FULL, &c, &e), ERR_FAILED);
    free(b.path);
}

static void migrations_go_forward_after_a_backup(void)
{
    static const char *const steps[] = {"CREATE TABLE first (x)",
                                        "CREATE TABLE second (y); INSERT INTO first VALUES (7)",
                                        "CREATE TABLE third (z)"};
    static const char *const broken[] = {steps[0], "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1)"};
    struct bench b = file("migrated.db"), copy = file("migrated.db.before-1");
    CHECK_OK(db_migrate(b.path, steps, 1, &e));
    CHECK(!path_exists(copy.path));
    CHECK_FAILS(db_migrate(b.path, broken, 2, &e), ERR_FAILED);
    CHECK(bench_ask(&b, "SELECT count(*) FROM sqlite_schema") == 1);
    CHECK(bench_ask(&b, "PRAGMA user_version") == 1);
    CHECK_OK(db_migrate(b.path, steps, 3, &e));
    CHECK(bench_ask(&b, "PRAGMA user_version") == 3);
    CHECK(bench_ask(&b, "SELECT x FROM first") == 7);
    CHECK(bench_ask(&copy, "PRAGMA user_version") == 1);
    CHECK(bench_ask(&copy, "SELECT count(*) FROM first") == 0);
    CHECK_OK(db_migrate(b.path, steps, 3, &e));
    CHECK_FAILS(db_migrate(b.path, steps, 2, &e), ERR_STATE);
    free(b.path);
    free(copy.path);
}

static void data_version_shows_others_changes(void)
{
    struct bench b = bench_open();
    struct catalog *other;
    uint64_t before, after;
    CHECK_OK(catalog_open(b.path, CATALOG_FULL, &other, &e));
    CHECK_OK(catalog_data_version(other, &before, &e));
    CHECK_OK(catalog_data_version(other, &after, &e));
    CHECK(before == after);
    bench_queue(&b, false);
    CHECK_OK(catalog_data_version(other, &after, &e));
    CHECK(before != after);
    catalog_close(other);
    bench_close(&b);
}

static void a_full_disk_changes_nothing(void)
{
    struct bench b = bench_open();
    int64_t id = 77, events = bench_ask(&b, "SELECT count(*) FROM event");
    cleanup(free) char *comment = calloc(1, 200000);
    memset(comment, 'x', 199999);
    CHECK_OK(db_script(b.c, "PRAGMA max_page_count = 1", &e)); /* as many pages as there are */
    CHECK_FAILS(boot_queue(b.c, "alice", &b.mac, &b.setup, false, comment, &id, NULL, &e), ERR_FAILED);
    CHECK(e.sys == ENOSPC && id == 77);
    CHECK_OK(db_script(b.c, "PRAGMA max_page_count = 1000000", &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM boot") == 0);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event") == events);
    bench_queue(&b, false);
    bench_close(&b);
}

static bool syncs_fail;

/* SQLite's too. */
__attribute__((visibility("default"))) int fdatasync(int fd)
{
    if (!syncs_fail)
        return (int)syscall(SYS_fdatasync, fd);
    errno = EIO;
    return -1;
}

/* The users of the catalog that is found when all are killed who have it open: without the memory that they share. */
static int64_t users_after_a_kill(const struct bench *b)
{
    struct bench copy = file("killed.db");
    cleanup(free) char *command =
        path_format("cp %s %s && cp %s-wal %s-wal", b->path, copy.path, b->path, copy.path);
    CHECK(system(command) == 0);
    int64_t users = bench_ask(&copy, "SELECT count(*) FROM user");
    free(copy.path);
    return users;
}

static void what_failed_comes_back_unless_settled(void)
{
    struct bench b = bench_open();
    CHECK_OK(db_script(b.c, "PRAGMA synchronous = FULL", &e));
    CHECK_OK(user_add(b.c, "root", "bob", "", "bob@example.org", "user", &e));
    syncs_fail = true;
    CHECK_FAILS(catalog_settle(b.c, &e), ERR_FAILED);
    CHECK_FAILS(user_add(b.c, "root", "carol", "", "carol@example.org", "user", &e), ERR_FAILED);
    syncs_fail = false;
    CHECK(bench_ask(&b, "SELECT count(*) FROM user") == 2);
    CHECK(users_after_a_kill(&b) == 3); /* so SQLite is: else there is nothing to settle */
    CHECK_OK(catalog_settle(b.c, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM user") == 2);
    CHECK(users_after_a_kill(&b) == 2);
    bench_close(&b);
}

/* Carol is added within the outer transaction, Dave within one that is given up, and Erin after it. */
static void add_within(struct bench *b)
{
    CHECK_OK(user_add(b->c, "root", "carol", "", "carol@example.org", "user", &e));
    {
        cleanup(tx) struct catalog *given_up = NULL;
        CHECK_OK(tx_begin(b->c, &given_up, &e));
        CHECK_OK(user_add(b->c, "root", "dave", "", "dave@example.org", "user", &e));
    }
    CHECK_FAILS(user_add(b->c, "root", "carol", "", "other@example.org", "user", &e), ERR_STATE);
    CHECK_OK(user_add(b->c, "root", "erin", "", "erin@example.org", "user", &e));
}

static void transactions_stand_within_each_other(void)
{
    struct bench b = bench_open();
    static const char users[] = "SELECT group_concat(username) = 'alice,carol,erin' FROM user";
    static const char events[] = "SELECT count(*) FROM event WHERE what = 'user-added'";
    int64_t before = bench_ask(&b, events);
    {
        cleanup(tx) struct catalog *tx = NULL;
        CHECK_OK(tx_begin(b.c, &tx, &e));
        add_within(&b);
        CHECK(bench_ask(&b, events) == before); /* others see nothing of it yet */
    }
    CHECK(bench_ask(&b, events) == before);
    cleanup(tx) struct catalog *tx = NULL;
    CHECK_OK(tx_begin(b.c, &tx, &e));
    add_within(&b);
    CHECK_OK(tx_commit(&tx, &e));
    CHECK(!tx && bench_ask(&b, users) == 1 && bench_ask(&b, events) == before + 2);
    bench_close(&b);
}

/* After an error of the disk SQLite may roll the outermost one back: nothing may then begin anew inside of it. */
static void a_lost_transaction_stays_lost(void)
{
    struct bench b = bench_open();
    {
        cleanup(tx) struct catalog *tx = NULL;
        CHECK_OK(tx_begin(b.c, &tx, &e));
        CHECK_OK(user_add(b.c, "root", "carol", "", "carol@example.org", "user", &e));
        CHECK_OK(db_script(b.c, "ROLLBACK", &e)); /* as SQLite does by itself */
        CHECK_FAILS(user_add(b.c, "root", "dave", "", "dave@example.org", "user", &e), ERR_FAILED);
        CHECK_FAILS(tx_commit(&tx, &e), ERR_FAILED);
    }
    CHECK(bench_ask(&b, "SELECT count(*) FROM user") == 1);
    CHECK_OK(user_add(b.c, "root", "dave", "", "dave@example.org", "user", &e));
    bench_close(&b);
}

int main(void)
{
    UNIT(all_statements_prepare);
    UNIT(created_once_and_opened);
    UNIT(strange_files_are_refused);
    UNIT(migrations_go_forward_after_a_backup);
    UNIT(data_version_shows_others_changes);
    UNIT(a_full_disk_changes_nothing);
    UNIT(what_failed_comes_back_unless_settled);
    UNIT(transactions_stand_within_each_other);
    UNIT(a_lost_transaction_stays_lost);
    return 0;
}
