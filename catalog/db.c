/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/db.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"

#include "catalog/schema.h"
#include "catalog/views.h"

#include <arpa/inet.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define APPLICATION_ID 0x6c626f74 /* "lbot" */
#define BUSY_MS 10000
#define BUSY_SLEEP_NS 1000000 /* on average: about the time of a transaction */
#ifdef SQLITE_RESULT_SUBTYPE  /* since 3.45 */
#define RESULT_SUBTYPE SQLITE_RESULT_SUBTYPE
#else
#define RESULT_SUBTYPE 0
#endif

struct stmt {
    struct catalog *c;
    sqlite3_stmt *s; /* NULL until its first use, or when it cannot be prepared */
    int bound, taken;
    int rc; /* the first failure since stmt_use */
};

struct catalog {
    sqlite3 *db;
    int64_t fixed_now;      /* 0: the clock */
    disk_bytes *disk_bytes; /* NULL: nobody knows */
    void *disk_ctx;
    int64_t busy_since; /* of the lock that is waited for; monotonic, ms */
    unsigned seed;
    bool views;
    unsigned depth;       /* of transactions within each other */
    unsigned views_depth; /* of the one that made the views, which go with it */
    struct stmt stmts[SQL_COUNT];
};

/* The schema of version N + 1 out of that of version N. A step that was released is never changed. */
static const char *const migrations[] = {schema_sql};

/* ---- errors -------------------------------------------------------------------------------------------- */

static enum errc code_of(int extended)
{
    switch (extended) {
    case SQLITE_CONSTRAINT_CHECK:
    case SQLITE_CONSTRAINT_NOTNULL:
        return ERR_USAGE;
    case SQLITE_NOTFOUND:
        return ERR_NOT_FOUND;
    }
    switch (extended & 0xff) {
    case SQLITE_CONSTRAINT:
        return ERR_STATE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ERR_CORRUPT;
    }
    return ERR_FAILED;
}

static int errno_of(sqlite3 *db, int extended)
{
    switch (extended & 0xff) {
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_NOMEM:
        return ENOMEM;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: {
        int sys = db ? sqlite3_system_errno(db) : 0;
        return sys ? sys : EIO;
    }
    }
    return 0;
}

/* SQLite's message names the constraint that failed, which in schema.sql is a sentence. */
static int db_error(sqlite3 *db, struct err *e)
{
    int rc = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
    const char *text = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    static const char check[] = "CHECK constraint failed: ";
    if (rc == SQLITE_CONSTRAINT_CHECK && strncmp(text, check, strlen(check)) == 0)
        return err_set(e, ERR_USAGE, "%s", text + strlen(check));
    return err_set_sys(e, code_of(rc), errno_of(db, rc), "catalog: %s", text);
}

/* ---- functions of SQL ---------------------------------------------------------------------------------- */

int64_t db_now(const struct catalog *c)
{
    return c->fixed_now ? c->fixed_now : (int64_t)time(NULL);
}

void db_set_now(struct catalog *c, int64_t now)
{
    c->fixed_now = now;
}

void db_set_disks(struct catalog *c, disk_bytes *bytes, void *ctx)
{
    c->disk_bytes = bytes;
    c->disk_ctx = ctx;
}

static void sql_now(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc;
    (void)argv;
    sqlite3_result_int64(ctx, db_now(sqlite3_user_data(ctx)));
}

static void sql_ip_text(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc;
    struct in6_addr a;
    if (sqlite3_value_bytes(argv[0]) != sizeof a)
        return; /* NULL */
    memcpy(&a, sqlite3_value_blob(argv[0]), sizeof a);
    char text[IP_TEXT_SIZE];
    sqlite3_result_text(ctx, format_ip(&a, text), -1, SQLITE_TRANSIENT);
}

static void sql_size_text(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc;
    if (sqlite3_value_type(argv[0]) == SQLITE_NULL)
        return;
    char text[SIZE_TEXT_SIZE];
    sqlite3_result_text(ctx, format_size((uint64_t)sqlite3_value_int64(argv[0]), text), -1, SQLITE_TRANSIENT);
}

static void sql_disk_bytes(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc;
    const struct catalog *c = sqlite3_user_data(ctx);
    const char *text = (const char *)sqlite3_value_text(argv[0]);
    struct uuid image;
    struct err ignored;
    if (c->disk_bytes && text && uuid_from_text(text, &image, &ignored) == 0)
        sqlite3_result_int64(ctx, (int64_t)c->disk_bytes(c->disk_ctx, &image));
}

/* The mark that SQLite's json functions put on what they make, and that gets lost on the way through a view. */
static void sql_made_json(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc;
    sqlite3_result_value(ctx, argv[0]);
    sqlite3_result_subtype(ctx, 'J');
}

static int add_functions(struct catalog *c, struct err *e)
{
    static const struct {
        const char *name;
        int arguments, flags;
        void (*run)(sqlite3_context *, int, sqlite3_value **);
    } functions[] = {
        {"now", 0, 0, sql_now},
        {"ip_text", 1, SQLITE_DETERMINISTIC, sql_ip_text},
        {"size_text", 1, SQLITE_DETERMINISTIC, sql_size_text},
        {"disk_bytes", 1, 0, sql_disk_bytes},
        {"made_json", 1, SQLITE_DETERMINISTIC | RESULT_SUBTYPE, sql_made_json},
    };
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
        if (sqlite3_create_function(c->db, functions[i].name, functions[i].arguments,
                                    SQLITE_UTF8 | SQLITE_DIRECTONLY | functions[i].flags, c, functions[i].run,
                                    NULL, NULL) != SQLITE_OK)
            return db_error(c->db, e);
    return 0;
}

/* ---- statements ---------------------------------------------------------------------------------------- */

struct stmt *stmt_use(struct catalog *c, enum statement which)
{
    struct stmt *s = &c->stmts[which];
    *s = (struct stmt){.c = c, .s = s->s};
    if (!s->s)
        s->rc = sqlite3_prepare_v3(c->db, statement_sql[which], -1, SQLITE_PREPARE_PERSISTENT, &s->s, NULL);
    return s;
}

void stmt_done(struct stmt *s)
{
    if (!s || !s->s)
        return;
    sqlite3_reset(s->s);
    sqlite3_clear_bindings(s->s);
}

static void bound(struct stmt *s, int rc)
{
    if (s->rc == SQLITE_OK)
        s->rc = rc;
}

void put_int(struct stmt *s, int64_t value)
{
    bound(s, sqlite3_bind_int64(s->s, ++s->bound, value));
}

void put_nonzero(struct stmt *s, uint64_t value)
{
    if (value == 0)
        bound(s, sqlite3_bind_null(s->s, ++s->bound));
    else
        put_int(s, (int64_t)value);
}

void put_text(struct stmt *s, const char *text)
{
    bound(s, sqlite3_bind_text(s->s, ++s->bound, text, -1, SQLITE_STATIC));
}

void put_blob(struct stmt *s, const void *data, size_t len)
{
    bound(s, sqlite3_bind_blob64(s->s, ++s->bound, data, len, SQLITE_TRANSIENT));
}

void put_mac(struct stmt *s, const struct mac *m)
{
    char text[MAC_TEXT_SIZE];
    bound(s, sqlite3_bind_text(s->s, ++s->bound, mac_format(m, text), -1, SQLITE_TRANSIENT));
}

void put_uuid(struct stmt *s, const struct uuid *u)
{
    char text[UUID_TEXT_SIZE];
    bound(s, sqlite3_bind_text(s->s, ++s->bound, u ? uuid_to_text(u, text) : NULL, -1, SQLITE_TRANSIENT));
}

int stmt_row(struct stmt *s, struct err *e)
{
    s->taken = 0;
    if (s->rc != SQLITE_OK)
        return db_error(s->c->db, e);
    int rc = sqlite3_step(s->s);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return rc == SQLITE_ROW;
    return db_error(s->c->db, e);
}

int stmt_run(struct stmt *s, struct err *e)
{
    int row;
    do
        row = stmt_row(s, e);
    while (row > 0);
    return row;
}

int64_t take_int(struct stmt *s)
{
    return sqlite3_column_int64(s->s, s->taken++);
}

uint64_t take_uint(struct stmt *s)
{
    return (uint64_t)take_int(s);
}

bool take_bool(struct stmt *s)
{
    return take_int(s) != 0;
}

void take_text(struct stmt *s, char *ret, size_t size)
{
    const char *text = stmt_column_text(s, s->taken++);
    snprintf(ret, size, "%s", text ? text : "");
}

void take_mac(struct stmt *s, struct mac *ret)
{
    struct err e;
    const char *text = stmt_column_text(s, s->taken++);
    if (!text || mac_parse(text, strlen(text), ret, &e) < 0)
        *ret = (struct mac){{0}};
}

void take_uuid(struct stmt *s, struct uuid *ret)
{
    struct err e;
    const char *text = stmt_column_text(s, s->taken++);
    if (!text || uuid_from_text(text, ret, &e) < 0)
        *ret = (struct uuid){{0}};
}

void take_address(struct stmt *s, struct in6_addr *ret)
{
    int column = s->taken++;
    *ret = (struct in6_addr){0};
    if (sqlite3_column_bytes(s->s, column) == sizeof *ret)
        memcpy(ret, sqlite3_column_blob(s->s, column), sizeof *ret);
}

void take_blob(struct stmt *s, void *ret, size_t size)
{
    int column = s->taken++;
    memset(ret, 0, size);
    if ((size_t)sqlite3_column_bytes(s->s, column) == size)
        memcpy(ret, sqlite3_column_blob(s->s, column), size);
}

int stmt_columns(const struct stmt *s)
{
    return sqlite3_column_count(s->s);
}

const char *stmt_column_name(struct stmt *s, int column)
{
    return sqlite3_column_name(s->s, column);
}

const char *stmt_column_text(struct stmt *s, int column)
{
    return (const char *)sqlite3_column_text(s->s, column);
}

int list_append(void **list, size_t *count, const void *item, size_t size, struct err *e)
{
    char *longer = reallocarray(*list, *count + 1, size);
    if (!longer)
        return err_sys(e, ENOMEM, "a list");
    memcpy(longer + *count * size, item, size);
    *list = longer;
    ++*count;
    return 0;
}

/* ---- transactions -------------------------------------------------------------------------------------- */

static int run_alone(struct catalog *c, enum statement which, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    return stmt_run(s, e);
}

int tx_begin(struct catalog *c, struct catalog **tx, struct err *e)
{
    /* A savepoint outside of a transaction would begin one of its own. */
    if (c->depth > 0 && sqlite3_get_autocommit(c->db))
        return err_set(e, ERR_FAILED, "catalog: the transaction was rolled back after an earlier failure");
    if (run_alone(c, c->depth > 0 ? SQL_SAVEPOINT : SQL_BEGIN, e) < 0)
        return -1;
    c->depth++;
    *tx = c;
    return 0;
}

int tx_commit(struct catalog **tx, struct err *e)
{
    struct catalog *c = *tx;
    if (run_alone(c, c->depth > 1 ? SQL_RELEASE : SQL_COMMIT, e) < 0)
        return -1;
    c->depth--;
    if (c->views_depth > c->depth)
        c->views_depth = c->depth;
    *tx = NULL;
    return 0;
}

void tx_rollback(struct catalog *tx)
{
    struct err e;
    if (!tx)
        return;
    if (tx->views_depth >= tx->depth)
        tx->views = false;
    tx->depth--;
    /* After some failures (disk full, I/O error) SQLite has rolled back by itself, all of it. */
    if (sqlite3_get_autocommit(tx->db))
        return;
    int r = tx->depth > 0 ? run_alone(tx, SQL_ROLLBACK_TO, &e) : run_alone(tx, SQL_ROLLBACK, &e);
    if (r == 0 && tx->depth > 0)
        r = run_alone(tx, SQL_RELEASE, &e);
    if (r < 0)
        log_error("roll back: %s", e.msg);
}

int64_t db_last_id(const struct catalog *c)
{
    return sqlite3_last_insert_rowid(c->db);
}

int db_changes(const struct catalog *c)
{
    return sqlite3_changes(c->db);
}

int db_script(struct catalog *c, const char *sql, struct err *e)
{
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(c->db, e);
}

int db_views(struct catalog *c, struct err *e)
{
    if (c->views)
        return 0;
    if (db_script(c, views_sql, e) < 0)
        return -1;
    c->views = true;
    c->views_depth = c->depth;
    return 0;
}

/* ---- the lock of writers ------------------------------------------------------------------------------- */

static int64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* SQLite's own handler sleeps longer the longer it has waited, up to 100 ms, so that who has waited longest comes last
 * when others write one transaction after another. Here all try equally often. */
static int wait_for_lock(void *ctx, int tries)
{
    struct catalog *c = ctx;
    int64_t now = monotonic_ms();
    if (tries == 0)
        c->busy_since = now;
    if (now - c->busy_since >= BUSY_MS)
        return 0;
    nanosleep(&(struct timespec){.tv_nsec = BUSY_SLEEP_NS / 2 + rand_r(&c->seed) % BUSY_SLEEP_NS}, NULL);
    return 1;
}

/* ---- open and close ------------------------------------------------------------------------------------ */

void catalog_close(struct catalog *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(c->stmts[i].s);
    sqlite3_close(c->db);
    free(c);
}
DEFINE_CLEANUP(catalog, struct catalog, catalog_close);

static int connect_file(const char *path, int flags, struct catalog **ret, struct err *e)
{
    cleanup(catalog) struct catalog *c = calloc(1, sizeof *c);
    if (!c)
        return err_sys(e, ENOMEM, "%s", path);
    flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(path, &c->db, flags, NULL) != SQLITE_OK) {
        db_error(c->db, e);
        return err_wrap(e, "%s", path);
    }
    c->seed = (unsigned)monotonic_ms() ^ (unsigned)getpid() << 16;
    sqlite3_busy_handler(c->db, wait_for_lock, c);
    /* The log of writes, which grows while somebody reads, is cut to 4 MiB after a checkpoint. */
    if (add_functions(c, e) < 0 ||
        db_script(c,
                  "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; "
                  "PRAGMA journal_size_limit = 4194304;",
                  e) < 0)
        return err_wrap(e, "%s", path);
    *ret = steal(&c);
    return 0;
}

static int pragma_number(struct catalog *c, enum statement which, int64_t *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    int row = stmt_row(s, e);
    if (row < 0)
        return -1;
    *ret = row ? take_int(s) : 0;
    return 0;
}

/* *ret: 0 for a file that is still empty. */
static int schema_version(struct catalog *c, const char *path, unsigned newest, unsigned *ret, struct err *e)
{
    int64_t id, version, objects;
    if (pragma_number(c, SQL_APPLICATION_ID, &id, e) < 0 ||
        pragma_number(c, SQL_USER_VERSION, &version, e) < 0 || pragma_number(c, SQL_OBJECTS, &objects, e) < 0)
        return err_wrap(e, "%s", path);
    if (id == 0 && version == 0 && objects == 0) {
        *ret = 0;
        return 0;
    }
    if (id != APPLICATION_ID || version < 1)
        return err_set(e, ERR_STATE, "%s: a database, but not a catalog of labboot", path);
    if (version > newest)
        return err_set(e, ERR_STATE,
                       "%s: has schema %lld, this program knows up to %u; try: the newer labboot", path,
                       (long long)version, newest);
    *ret = (unsigned)version;
    return 0;
}

int catalog_open(const char *path, enum catalog_durability durability, struct catalog **ret, struct err *e)
{
    if (!path_exists(path))
        return err_set(e, ERR_NOT_FOUND, "%s: there is no catalog; try: labboot init", path);
    cleanup(catalog) struct catalog *c = NULL;
    unsigned version = 0, newest = ARRAY_SIZE(migrations);
    if (connect_file(path, 0, &c, e) < 0 || schema_version(c, path, newest, &version, e) < 0)
        return -1;
    if (version == 0)
        return err_set(e, ERR_NOT_FOUND, "%s: is empty; try: labboot init", path);
    if (version < newest)
        return err_set(e, ERR_STATE, "%s: has the older schema %u; try: labboot init", path, version);
    const char *sync =
        durability == CATALOG_FULL ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL";
    if (db_script(c, sync, e) < 0)
        return err_wrap(e, "%s", path);
    *ret = steal(&c);
    return 0;
}

int catalog_data_version(struct catalog *c, uint64_t *ret, struct err *e)
{
    int64_t version;
    if (pragma_number(c, SQL_DATA_VERSION, &version, e) < 0)
        return -1;
    *ret = (uint64_t)version;
    return 0;
}

/* It changes nothing, but is written to the end of the log, over what a failed COMMIT has left there; then all of the log is
 * synced. */
int catalog_settle(struct catalog *c, struct err *e)
{
    char pragma[40];
    snprintf(pragma, sizeof pragma, "PRAGMA user_version = %zu", ARRAY_SIZE(migrations));
    return db_script(c, pragma, e);
}

/* ---- migrations ---------------------------------------------------------------------------------------- */

/* A copy that is whole: made under another name and renamed. An earlier one of the same version is replaced. */
static int back_up(struct catalog *c, const char *path, unsigned version, struct err *e)
{
    cleanup(free) char *copy = path_format("%s.before-%u", path, version);
    cleanup(free) char *making = path_format("%s.tmp", copy);
    if (unlink(making) < 0 && errno != ENOENT)
        return err_sys(e, errno, "%s", making);
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BACKUP);
    put_text(s, making);
    if (stmt_run(s, e) < 0)
        return err_wrap(e, "copy to %s", making);
    if (chmod(making, 0640) < 0 || rename(making, copy) < 0)
        return err_sys(e, errno, "%s", copy);
    return 0;
}

static int run_steps(struct catalog *c, const char *const *steps, unsigned from, unsigned to, struct err *e)
{
    for (unsigned i = from; i < to; i++) {
        if (db_script(c, steps[i], e) < 0)
            return err_wrap(e, "schema %u", i + 1);
    }
    char pragmas[100];
    snprintf(pragmas, sizeof pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %u", APPLICATION_ID,
             to);
    return db_script(c, pragmas, e);
}

int db_migrate(const char *path, const char *const *steps, unsigned count, struct err *e)
{
    cleanup(catalog) struct catalog *c = NULL;
    unsigned before = 0, version = 0;
    bool fresh = !path_exists(path);
    if (connect_file(path, SQLITE_OPEN_CREATE, &c, e) < 0 || schema_version(c, path, count, &before, e) < 0)
        return -1;
    /* SQLite alone opens the file, so its mode is set by name; the log files beside it take over this mode. */
    if (fresh && chmod(path, 0640) < 0)
        return err_sys(e, errno, "%s", path);
    if (before == count)
        return 0;
    if (before > 0 && back_up(c, path, before, e) < 0)
        return err_wrap(e, "%s", path);
    if (db_script(c, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", e) < 0)
        return err_wrap(e, "%s", path);
    cleanup(tx) struct catalog *tx = NULL;
    /* Another process may have been faster: then there is nothing left to do. */
    if (tx_begin(c, &tx, e) < 0 || schema_version(c, path, count, &version, e) < 0 ||
        (version < count && run_steps(c, steps, version, count, e) < 0) || tx_commit(&tx, e) < 0)
        return err_wrap(e, "%s", path);
    return 0;
}

int catalog_create(const char *path, struct err *e)
{
    return db_migrate(path, migrations, ARRAY_SIZE(migrations), e);
}
