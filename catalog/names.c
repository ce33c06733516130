/* SPDX-License-Identifier: BSD-3-Clause */
/* Texts out of one statement each: names for completion, troubles for doctor. */
#include "catalog/internal.h"

static const struct {
    enum statement sql;
    bool argument;
} kinds[] = {
    [NAMES_MACHINES] = {SQL_NAMES_MACHINES, false}, [NAMES_UNKNOWN_MACS] = {SQL_NAMES_UNKNOWN_MACS, false},
    [NAMES_USERS] = {SQL_NAMES_USERS, false},       [NAMES_IMAGES] = {SQL_NAMES_IMAGES, true},
    [NAMES_VERSIONS] = {SQL_NAMES_VERSIONS, true},  [NAMES_SETUPS] = {SQL_NAMES_SETUPS, true},
    [NAMES_BOOTS] = {SQL_NAMES_BOOTS, true},
};

int names_each(struct catalog *c, enum name_kind kind, const char *argument,
               void (*each)(void *ctx, const char *name), void *ctx, struct err *e)
{
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, kinds[kind].sql);
    if (kinds[kind].argument)
        put_text(s, argument);
    while ((row = stmt_row(s, e)) > 0)
        each(ctx, stmt_column_text(s, 0));
    return row;
}

int trouble_each(struct catalog *c, enum trouble which, const struct mac *machine,
                 void (*each)(void *ctx, const char *what, const char *why, const char *todo), void *ctx,
                 struct err *e)
{
    static const enum statement sql[] = {
        [TROUBLE_DAMAGED] = SQL_TROUBLE_DAMAGED,     [TROUBLE_INTERRUPTED] = SQL_TROUBLE_INTERRUPTED,
        [TROUBLE_STRANGERS] = SQL_TROUBLE_STRANGERS, [TROUBLE_REQUESTS] = SQL_TROUBLE_REQUESTS,
        [TROUBLE_SCRIPTS] = SQL_TROUBLE_SCRIPTS,
    };
    char mac[MAC_TEXT_SIZE];
    int row;
    if (db_views(c, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, sql[which]);
    if (which == TROUBLE_INTERRUPTED || which == TROUBLE_SCRIPTS)
        put_text(s, machine ? mac_format(machine, mac) : NULL);
    while ((row = stmt_row(s, e)) > 0)
        each(ctx, stmt_column_text(s, 0), stmt_column_text(s, 1), stmt_column_text(s, 2));
    return row;
}
