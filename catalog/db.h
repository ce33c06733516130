/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CATALOG_DB_H
#define LABBOOT_CATALOG_DB_H

/* Inside catalog/ and for its tests: the one wrapper around SQLite. A function reads as
 *
 *     cleanup(tx) struct catalog *tx = NULL;
 *     if (tx_begin(c, &tx, e) < 0)
 *         return -1;
 *     cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_STATE_SET);
 *     put_int(s, id);
 *     put_text(s, "queued");
 *     if (stmt_run(s, e) < 0)
 *         return -1;
 *     return tx_commit(&tx, e);
 *
 * Parameters are bound and columns are taken in the order of the SQL text. A failure to bind is remembered
 * and comes out of the next stmt_row or stmt_run. What is not committed is rolled back at the end of the
 * scope. */

#include "catalog/catalog.h"
#include "catalog/statements.h"
#include "lib/base/cleanup.h"

struct stmt; /* a prepared statement of one connection: one user at a time */

/* Ready to be bound. Prepared at its first use, kept by the connection. */
struct stmt *stmt_use(struct catalog *c, enum statement which);
void stmt_done(struct stmt *s); /* resets it; NULL is fine */
DEFINE_CLEANUP(stmt, struct stmt, stmt_done);

void put_int(struct stmt *s, int64_t value);
void put_nonzero(struct stmt *s, uint64_t value); /* 0: NULL */
void put_text(struct stmt *s, const char *text);  /* NULL: NULL; must live until the statement is done */
void put_blob(struct stmt *s, const void *data, size_t len);
void put_mac(struct stmt *s, const struct mac *m);
void put_uuid(struct stmt *s, const struct uuid *u); /* NULL: NULL */

/* 1: a row, 0: no more, -1: failed. */
int stmt_row(struct stmt *s, struct err *e) must_check;
/* To its end, rows are skipped. */
int stmt_run(struct stmt *s, struct err *e) must_check;

int64_t take_int(struct stmt *s); /* NULL: 0 */
uint64_t take_uint(struct stmt *s);
bool take_bool(struct stmt *s);
void take_text(struct stmt *s, char *ret, size_t size); /* NULL: ""; a longer one is cut */
void take_mac(struct stmt *s, struct mac *ret);
void take_uuid(struct stmt *s, struct uuid *ret); /* NULL: all zero */
void take_address(struct stmt *s, struct in6_addr *ret);
/* Exactly `size` bytes; anything else: zeroes. */
void take_blob(struct stmt *s, void *ret, size_t size);
/* Of the current row; valid until the next one. */
int stmt_columns(const struct stmt *s);
const char *stmt_column_name(struct stmt *s, int column);
const char *stmt_column_text(struct stmt *s, int column); /* NULL: NULL */

/* Appends a copy of *item to a malloc'ed array of *count items: *list keeps its old content when there is no memory. */
int list_append(void **list, size_t *count, const void *item, size_t size, struct err *e) must_check;

int64_t db_last_id(const struct catalog *c); /* rowid of the last insert */
int db_changes(const struct catalog *c);     /* rows that the last statement changed itself */
int64_t db_now(const struct catalog *c);     /* what now() gives in SQL */
/* For tests: now() stands still at `now`; 0: the clock again. */
void db_set_now(struct catalog *c, int64_t now);
/* What disk_bytes() gives in SQL. */
typedef uint64_t disk_bytes(void *ctx, const struct uuid *image);
void db_set_disks(struct catalog *c, disk_bytes *bytes, void *ctx);
/* Several statements without parameters; for tests too. */
int db_script(struct catalog *c, const char *sql, struct err *e) must_check;
/* The TEMP views of views.sql; no-op when they are there. */
int db_views(struct catalog *c, struct err *e) must_check;

/* Brings the file from user_version N to `count` by steps[N] … steps[count - 1], each a script, in one
 * transaction; makes the file when it is missing. N > 0: a copy goes to PATH.before-N first. */
int db_migrate(const char *path, const char *const *steps, unsigned count, struct err *e) must_check;

#endif
