/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/query.h"

#include "catalog/db.h"

static const struct {
    enum statement rows, json;
    const char *one, *hint; /* what a show query did not find, and who lists them; NULL: a list */
    size_t words;
} queries[] = {
    [QUERY_USERS] = {SQL_USERS_ROWS, SQL_USERS_JSON, NULL, NULL, 0},
    [QUERY_USER] = {SQL_USER_ROWS, SQL_USER_JSON, "user", "user list", 1},
    [QUERY_MACHINES] = {SQL_MACHINES_ROWS, SQL_MACHINES_JSON, NULL, NULL, 0},
    [QUERY_MACHINE] = {SQL_MACHINE_ROWS, SQL_MACHINE_JSON, "machine", "machine list", 1},
    [QUERY_IMAGES] = {SQL_IMAGES_ROWS, SQL_IMAGES_JSON, NULL, NULL, 2},
    [QUERY_IMAGE] = {SQL_IMAGE_ROWS, SQL_IMAGE_JSON, "image", "image list", 1},
    [QUERY_VERSIONS] = {SQL_VERSIONS_ROWS, SQL_VERSIONS_JSON, NULL, NULL, 1},
    [QUERY_VERSION_TREE] = {SQL_VERSION_TREE_ROWS, SQL_VERSIONS_JSON, NULL, NULL, 1},
    [QUERY_SETUPS] = {SQL_SETUPS_ROWS, SQL_SETUPS_JSON, NULL, NULL, 2},
    [QUERY_SETUP] = {SQL_SETUP_ROWS, SQL_SETUP_JSON, "setup", "setup list", 1},
    [QUERY_SETUP_IMAGE] = {SQL_SETUP_IMAGE_ROWS, SQL_SETUP_IMAGE_JSON, "image of this setup", "setup show",
                           2},
    [QUERY_BOOTS] = {SQL_BOOTS_ROWS, SQL_BOOTS_JSON, NULL, NULL, 5},
    [QUERY_BOOTS_OF] = {SQL_BOOTS_OF_ROWS, SQL_BOOTS_OF_JSON, NULL, NULL, 1},
    [QUERY_BOOT] = {SQL_BOOT_ROWS, SQL_BOOT_JSON, "boot", "boot list", 1},
    [QUERY_VERIFIED] = {SQL_VERIFIED_ROWS, SQL_VERIFIED_JSON, NULL, NULL, 0},
    [QUERY_STATUS] = {SQL_STATUS_ROWS, SQL_STATUS_JSON, NULL, NULL, 0},
};

/* The last word is what was asked for. */
static int no_such(enum query q, const char *const words[], struct err *e)
{
    const char *word = words[queries[q].words - 1];
    return err_set(e, ERR_NOT_FOUND, "there is no %s '%s'; try: labboot %s", queries[q].one, word ? word : "",
                   queries[q].hint);
}

/* A boot's id is a number, which a text never equals in SQL. */
static int put_words(struct stmt *s, enum query q, const char *const words[], struct err *e)
{
    uint64_t id;
    if (q == QUERY_BOOT) {
        if (parse_number(words[0] ? words[0] : "", 1, INT64_MAX, &id, e) < 0)
            return err_wrap(e, "boot");
        put_int(s, (int64_t)id);
        return 0;
    }
    for (size_t i = 0; i < queries[q].words; i++)
        put_text(s, words[i] ? words[i] : "");
    return 0;
}

/* The columns' names live as long as the statement, the texts as long as the row. */
static int send_row(struct stmt *s, bool heading, query_row *row, void *ctx, struct err *e)
{
    int count = stmt_columns(s);
    cleanup(free) const char **columns = calloc((size_t)count, 2 * sizeof *columns);
    if (!columns)
        return err_sys(e, ENOMEM, "a row");
    for (int i = 0; i < count; i++) {
        columns[i] = stmt_column_name(s, i);
        columns[count + i] = heading ? NULL : stmt_column_text(s, i);
    }
    return row(ctx, count, columns, heading ? NULL : columns + count, e);
}

int query_set_counters(struct catalog *c, const struct boot_counters *list, size_t count, struct err *e)
{
    if (db_views(c, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *clear = stmt_use(c, SQL_COUNTERS_CLEAR);
    if (stmt_run(clear, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cleanup(stmt) struct stmt *s = stmt_use(c, SQL_COUNTERS_ADD);
        put_int(s, list[i].boot);
        put_int(s, (int64_t)list[i].bytes_read);
        put_int(s, (int64_t)list[i].bytes_written);
        put_int(s, (int64_t)list[i].overlay);
        if (stmt_run(s, e) < 0)
            return -1;
    }
    return 0;
}

void query_set_disks(struct catalog *c, uint64_t (*bytes)(void *ctx, const struct uuid *image), void *ctx)
{
    db_set_disks(c, bytes, ctx);
}

int query_set_alone(struct catalog *c, const struct uuid *image, const struct version_bytes *list,
                    size_t count, struct err *e)
{
    if (db_views(c, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *clear = stmt_use(c, SQL_ALONE_CLEAR);
    if (stmt_run(clear, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cleanup(stmt) struct stmt *s = stmt_use(c, SQL_ALONE_ADD);
        put_uuid(s, image);
        put_nonzero(s, list[i].version);
        put_int(s, (int64_t)list[i].bytes);
        if (stmt_run(s, e) < 0)
            return -1;
    }
    return 0;
}

int query_set_verified(struct catalog *c, const struct uuid *image, const struct verified_version *list,
                       size_t count, struct err *e)
{
    if (db_views(c, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *clear = stmt_use(c, SQL_VERIFIED_CLEAR);
    if (stmt_run(clear, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERIFIED_ADD);
        put_uuid(s, image);
        put_int(s, (int64_t)list[i].version);
        put_int(s, (int64_t)list[i].damaged_chunks);
        if (stmt_run(s, e) < 0)
            return -1;
    }
    return 0;
}

int query_rows_of(struct catalog *c, enum query q, const char *const words[], query_row *row, void *ctx,
                  struct err *e)
{
    int found, count = 0;
    if (db_views(c, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, queries[q].rows);
    if (put_words(s, q, words, e) < 0)
        return -1;
    for (; (found = stmt_row(s, e)) > 0; count++) {
        if ((count == 0 && send_row(s, true, row, ctx, e) < 0) || send_row(s, false, row, ctx, e) < 0)
            return -1;
    }
    if (found < 0)
        return -1;
    if (count == 0 && queries[q].one)
        return no_such(q, words, e);
    return count == 0 ? send_row(s, true, row, ctx, e) : 0;
}

int query_json_of(struct catalog *c, enum query q, const char *const words[], char **ret, struct err *e)
{
    if (db_views(c, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, queries[q].json);
    if (put_words(s, q, words, e) < 0)
        return -1;
    int row = stmt_row(s, e);
    if (row < 0)
        return -1;
    if (row == 0)
        return no_such(q, words, e);
    char *json = strdup(stmt_column_text(s, 0));
    if (!json)
        return err_sys(e, ENOMEM, "JSON");
    *ret = json;
    return 0;
}

int query_rows(struct catalog *c, enum query q, const char *argument, query_row *row, void *ctx,
               struct err *e)
{
    const char *const words[QUERY_WORDS_MAX] = {argument};
    return query_rows_of(c, q, words, row, ctx, e);
}

int query_json(struct catalog *c, enum query q, const char *argument, char **ret, struct err *e)
{
    const char *const words[QUERY_WORDS_MAX] = {argument};
    return query_json_of(c, q, words, ret, e);
}
