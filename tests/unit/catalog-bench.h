/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CATALOG_BENCH_H
#define LABBOOT_CATALOG_BENCH_H

/* What the tests of the catalog share: a new catalog with alice, her image "lab" in one version, her setup
 * "desk" of it, and machine 1; and questions to the file through a connection of their own. */

#include "catalog/internal.h"
#include "catalog/query.h"
#include "tests/unit/unit.h"

#include <sqlite3.h>

#define START 1795460000 /* when it is in the tests */

struct bench {
    struct catalog *c;
    char *path;
    struct mac mac;
    struct uuid image, setup;
};

static struct err e;

static inline struct mac bench_mac(unsigned n)
{
    return (struct mac){{0x52, 0x54, 0, 0, (uint8_t)(n >> 8), (uint8_t)n}};
}

static inline struct in6_addr bench_ip(const char *text)
{
    struct in6_addr a;
    CHECK_OK(parse_ip(text, &a, &e));
    return a;
}

/* Runs any SQL; the first column of its first row, -1 without one. */
static inline int64_t bench_ask(const struct bench *b, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    int64_t ret = -1;
    CHECK(sqlite3_open_v2(b->path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    CHECK(sqlite3_exec(db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK);
    if (sqlite3_step(s) == SQLITE_ROW)
        ret = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    CHECK(sqlite3_close(db) == SQLITE_OK);
    return ret;
}

static inline struct version_new bench_version(const struct uuid *image, uint64_t version, uint64_t parent)
{
    struct version_new v = {.image = *image,
                            .version = version,
                            .parent = parent,
                            .virtual_size = 1 << 30,
                            .stored_size = 1 << 20,
                            .kernel = "6.1.0-37-cloud-amd64"};
    uuid_make(&v.layer);
    memset(v.checksum, 0xc5, sizeof v.checksum);
    return v;
}

/* An image with one version, number START. */
static inline struct uuid bench_image(struct catalog *c, const char *name, const char *owner,
                                      const char *type)
{
    struct image i = {.compression = "zstd", .file_type = "raw", .filesystem = "ext4"};
    uuid_make(&i.uuid);
    snprintf(i.name, sizeof i.name, "%s", name);
    snprintf(i.owner, sizeof i.owner, "%s", owner);
    snprintf(i.type, sizeof i.type, "%s", type);
    struct version_new v = bench_version(&i.uuid, START, 0);
    CHECK_OK(version_publish(c, owner, &i, &v, &e));
    return i.uuid;
}

static inline void bench_machine(struct catalog *c, unsigned n, const struct uuid *default_setup)
{
    struct machine_new m = {.mac = bench_mac(n), .managed = true, .default_setup = default_setup};
    CHECK_OK(machine_add(c, "root", &m, &e));
}

static inline struct uuid bench_setup(struct catalog *c, const char *name, struct uuid image,
                                      uint64_t version, bool update)
{
    struct uuid setup;
    struct setup_image one = {.image = image, .version = version, .update = update};
    CHECK_OK(setup_create(c, "alice", name, "alice", &one, 1, &setup, &e));
    return setup;
}

static inline struct bench bench_open(void)
{
    static int count;
    struct bench b = {.path = path_format("%s/catalog-%d.db", unit_dir(), count++), .mac = bench_mac(1)};
    CHECK_OK(catalog_create(b.path, &e));
    CHECK_OK(catalog_open(b.path, CATALOG_NORMAL, &b.c, &e));
    db_set_now(b.c, START);
    CHECK_OK(user_add(b.c, "root", "alice", "Alice", "alice@example.org", NULL, &e));
    b.image = bench_image(b.c, "lab", "alice", "system");
    b.setup = bench_setup(b.c, "desk", b.image, 0, false);
    bench_machine(b.c, 1, NULL);
    return b;
}

/* A catalog that is sound to SQLite too. */
static inline void bench_close(struct bench *b)
{
    catalog_close(b->c);
    CHECK(bench_ask(b, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'") == 0);
    CHECK(bench_ask(b, "SELECT count(*) FROM pragma_foreign_key_check") == 0);
    free(b->path);
}

static inline int64_t bench_queue(struct bench *b, bool update)
{
    int64_t id;
    CHECK_OK(boot_queue(b->c, "alice", &b->mac, &b->setup, update, NULL, &id, NULL, &e));
    return id;
}

/* Renders all scripts; the last job that was machine 1's. */
static inline struct script_job bench_render(struct bench *b)
{
    struct script_job job, mine = {.generation = 0};
    while (script_next(b->c, NULL, &job, &e) == 0) {
        if (mac_equal(&job.machine.mac, &b->mac))
            mine = job;
        CHECK_OK(script_done(b->c, &job, &e));
    }
    CHECK(e.code == ERR_NOT_FOUND);
    return mine;
}

static inline bool bench_script_wanted(struct bench *b)
{
    return bench_ask(b, "SELECT script_wanted <> script_done FROM machine WHERE mac = '52:54:00:00:00:01'") ==
           1;
}

/* ---- boots ---- */

static inline struct boot get(struct bench *b, int64_t id)
{
    struct boot boot;
    CHECK_OK(boot_get(b->c, id, &boot, &e));
    return boot;
}

static inline struct boot lease(struct bench *b, const char *token)
{
    struct boot boot;
    CHECK_OK(boot_lease(b->c, &b->mac, token, "10.0.0.7", &boot, &e));
    return boot;
}

static inline void lease_of(struct bench *b, const struct mac *machine, const char *token, struct boot *ret)
{
    CHECK_OK(boot_lease(b->c, machine, token, "10.0.0.8", ret, &e));
}

static inline void end(struct bench *b, int64_t id, enum boot_state to)
{
    static const char why[] = "the machine was reset";
    if (to == BOOT_COMMITTING)
        CHECK_OK(boot_begin_end(b->c, "server", id, ENDING_AUTO, why, &e));
    else
        CHECK_OK(boot_end(b->c, "server", id, to, why, &e));
}

static inline void publish_image(struct bench *b, uint64_t version)
{
    struct version_new v = bench_version(&b->image, version, 0);
    CHECK_OK(version_publish(b->c, "alice", NULL, &v, &e));
}

static inline enum token_state state_of(struct bench *b, const char *token)
{
    struct boot boot;
    enum token_state state;
    CHECK_OK(boot_by_token(b->c, token, &boot, &state, &e));
    return state;
}

#endif
