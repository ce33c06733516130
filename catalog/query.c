/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/query.h"

#include "catalog/db.h"

static const struct {
    enum statement rows, json;
    const char *one; /* what a show query did not find; NULL: a list */
    bool argument;
} queries[] = {
    [QUERY_USERS] = {SQL_USERS_ROWS, SQL_USERS_JSON, NULL, false},
    [QUERY_MACHINES] = {SQL_MACHINES_ROWS, SQL_MACHINES_JSON, NULL, false},
    [QUERY_MACHINE] = {SQL_MACHINE_ROWS, SQL_MACHINE_JSON, "machine", true},
    [QUERY_IMAGES] = {SQL_IMAGES_ROWS, SQL_IMAGES_JSON, NULL, false},
    [QUERY_IMAGE] = {SQL_IMAGE_ROWS, SQL_IMAGE_JSON, "image", true},
    [QUERY_VERSIONS] = {SQL_VERSIONS_ROWS, SQL_VERSIONS_JSON, NULL, true},
    [QUERY_SETUPS] = {SQL_SETUPS_ROWS, SQL_SETUPS_JSON, NULL, false},
    [QUERY_SETUP] = {SQL_SETUP_ROWS, SQL_SETUP_JSON, "setup", true},
    [QUERY_BOOTS] = {SQL_BOOTS_ROWS, SQL_BOOTS_JSON, NULL, true},
    [QUERY_BOOT] = {SQL_BOOT_ROWS, SQL_BOOT_JSON, "boot", true},
    [QUERY_STATUS] = {SQL_STATUS_ROWS, SQL_STATUS_JSON, NULL, false},
};

static int no_such(enum query q, const char *argument, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "there is no %s '%s'; try: labboot %s list", queries[q].one, argument,
                   queries[q].one);
}

/* A boot's id is a number, which a text never equals in SQL. */
static int put_argument(struct stmt *s, enum query q, const char *argument, struct err *e)
{
    uint64_t id;
    if (!queries[q].argument)
        return 0;
    if (q != QUERY_BOOT) {
        put_text(s, argument ? argument : "");
        return 0;
    }
    if (parse_number(argument ? argument : "", 1, INT64_MAX, &id, e) < 0)
        return err_wrap(e, "boot");
    put_int(s, (int64_t)id);
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

int query_rows(struct catalog *c, enum query q, const char *argument, query_row *row, void *ctx,
               struct err *e)
{
    int found, count = 0;
    if (db_views(c, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, queries[q].rows);
    if (put_argument(s, q, argument, e) < 0)
        return -1;
    for (; (found = stmt_row(s, e)) > 0; count++) {
        if ((count == 0 && send_row(s, true, row, ctx, e) < 0) || send_row(s, false, row, ctx, e) < 0)
            return -1;
    }
    if (found < 0)
        return -1;
    if (count == 0 && queries[q].one)
        return no_such(q, argument, e);
    return count == 0 ? send_row(s, true, row, ctx, e) : 0;
}

int query_json(struct catalog *c, enum query q, const char *argument, char **ret, struct err *e)
{
    if (db_views(c, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, queries[q].json);
    if (put_argument(s, q, argument, e) < 0)
        return -1;
    int row = stmt_row(s, e);
    if (row < 0)
        return -1;
    if (row == 0)
        return no_such(q, argument, e);
    char *json = strdup(stmt_column_text(s, 0));
    if (!json)
        return err_sys(e, ENOMEM, "JSON");
    *ret = json;
    return 0;
}
