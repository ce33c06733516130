/* SPDX-License-Identifier: BSD-3-Clause */
/* How SQLite goes about the statements of the catalog: what a machine, a request or the hook waits for must not take
 * longer because of what has happened in all the years before. The plans are those of a catalog without statistics,
 * which is what every catalog is. */
#include "catalog/db.h"
#include "lib/base/bytes.h"
#include "tests/unit/unit.h"

#include "catalog/views.h"

#include <sqlite3.h>

static struct err e;
static int bad;

/* ---- a connection with what the program adds to SQL */

static void nothing(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc;
    (void)argv;
    sqlite3_result_null(ctx);
}

static sqlite3 *plain_connection(void)
{
    static const char *const functions[] = {"now", "ip_text", "size_text", "disk_bytes", "made_json"};
    cleanup(free) char *path = path_format("%s/catalog.db", unit_dir());
    sqlite3 *db;
    CHECK_OK(catalog_create(path, &e));
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
        CHECK(sqlite3_create_function(db, functions[i], -1, SQLITE_UTF8, NULL, nothing, NULL, NULL) ==
              SQLITE_OK);
    CHECK(sqlite3_exec(db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_exec(db, views_sql, NULL, NULL, NULL) == SQLITE_OK);
    /* What triggers do is part of a statement's plan. */
    CHECK(sqlite3_db_config(db, SQLITE_DBCONFIG_TRIGGER_EQP, 1, NULL) == SQLITE_OK);
    return db;
}

/* Calls `see` for each step of the plan; a statement without one (BEGIN) has none. */
static void each_step(sqlite3 *db, const char *sql, void (*see)(const char *sql, const char *step))
{
    cleanup(free) char *explain = path_format("EXPLAIN QUERY PLAN %s", sql);
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(db, explain, -1, &s, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
        exit(1);
    }
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *step = (const char *)sqlite3_column_text(s, 3);
        if (step) /* some of a trigger have no text */
            see(sql, step);
    }
    sqlite3_finalize(s);
}

static void complain(const char *sql, const char *step)
{
    fprintf(stderr, "%s\n    %s\n", sql, step);
    bad++;
}

/* ---- stories */

/* What the server does between a machine's power button and its root file system, what the hook writes, and what every
 * command that changes something waits for. */
static const enum statement hot[] = {
    SQL_EVENT_ADD,
    SQL_MACHINE_BY_MAC,
    SQL_MACHINE_BY_NAME,
    SQL_MACHINE_MACS,
    SQL_MACHINE_DEFAULT,
    SQL_ADDRESS_TAKEN,
    SQL_ADDRESS_OF_MAC,
    SQL_MACHINE_BY_ADDRESS,
    SQL_LEASE_LIVE,
    SQL_LEASE_SET,
    SQL_LEASE_REMOVE,
    SQL_IMAGE,
    SQL_IMAGE_HEAD_SET,
    SQL_VERSION_DAMAGED,
    SQL_VERSION_KERNEL,
    SQL_VERSION_ADD,
    SQL_VERSION_DAMAGE,
    SQL_SETUP_IMAGE_ADD,
    SQL_SETUP_IMAGES,
    SQL_TOKEN_IMAGES,
    SQL_BOOT_IMAGES,
    SQL_BOOT,
    SQL_BOOT_ACTIVE,
    SQL_BOOT_LAST,
    SQL_BOOT_HEAD,
    SQL_BOOT_WAIT,
    SQL_BOOTS_IN_STATE,
    SQL_BOOT_ADD,
    SQL_BOOT_MOVE,
    SQL_BOOT_LEASE,
    SQL_BOOT_UNLEASE,
    SQL_BOOT_AGAIN,
    SQL_BOOT_ELSEWHERE,
    SQL_BOOT_LEAVE_BEHIND,
    SQL_BOOT_DISCONNECTED,
    SQL_BOOT_IMAGE_ADD,
    SQL_BOOT_IMAGES_REMOVE,
    SQL_BOOT_IMAGE_RESULT,
    SQL_WARN_PEGGED,
    SQL_WARN_SECOND,
    SQL_TOKEN,
    SQL_TOKEN_ADD,
    SQL_TOKEN_IMAGE_ADD,
    SQL_TOKENS_SUPERSEDE,
    SQL_TOKEN_HAND_ON,
    SQL_SCRIPT_NEXT,
    SQL_SCRIPT_GENERATION,
    SQL_SCRIPT_DONE,
    SQL_REQUEST_ADD,
    SQL_REQUEST,
    SQL_REQUEST_OLDEST,
    SQL_REQUEST_OF_BOOT,
    SQL_REQUEST_TAKE,
    SQL_REQUEST_ANSWER,
    SQL_REQUEST_RESET_PENDING,
    SQL_BOOT_ROWS,
    SQL_BOOT_JSON,
    SQL_MACHINE_ROWS,
    SQL_MACHINE_JSON,
};

/* Rows of a subquery are few; of a partial index too: these hold only what is open now. */
static bool small_scan(const char *step)
{
    static const char *const small[] = {"SCAN CONSTANT ROW", "SCAN (subquery", "USING INDEX machine_script",
                                        "USING INDEX request_open", "USING COVERING INDEX request_open"};
    for (size_t i = 0; i < ARRAY_SIZE(small); i++)
        if (strstr(step, small[i]))
            return true;
    return false;
}

static void see_scan(const char *sql, const char *step)
{
    if (strncmp(step, "SCAN ", 5) == 0 && !small_scan(step))
        complain(sql, step);
}

static void what_machines_wait_for_goes_through_no_table(void)
{
    sqlite3 *db = plain_connection();
    for (size_t i = 0; i < ARRAY_SIZE(hot); i++)
        each_step(db, statement_sql[hot[i]], see_scan);
    CHECK(bad == 0);
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

/* The index that SQLite makes for a statement, and throws away again, reads a whole table each time. */
static void see_automatic(const char *sql, const char *step)
{
    if (strstr(step, "AUTOMATIC"))
        complain(sql, step);
}

static void no_statement_lacks_an_index(void)
{
    sqlite3 *db = plain_connection();
    /* The tree's are over the versions of one image, which the statement has gathered itself. */
    for (size_t i = 0; i < SQL_COUNT; i++)
        if (i != SQL_VERSION_TREE_ROWS)
            each_step(db, statement_sql[i], see_automatic);
    CHECK(bad == 0);
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

/* Both would be silent if SQLite worded its plans in another way. */
static void scans_are_seen(void)
{
    sqlite3 *db = plain_connection();
    each_step(db, "SELECT * FROM boot WHERE result = 'x'", see_scan);
    CHECK(bad == 1);
    each_step(db, "SELECT count(*) FROM boot b JOIN event e ON e.detail = b.result", see_automatic);
    CHECK(bad == 2);
    bad = 0;
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

int main(void)
{
    UNIT(scans_are_seen);
    UNIT(what_machines_wait_for_goes_through_no_table);
    UNIT(no_statement_lacks_an_index);
    return 0;
}
