/* SPDX-License-Identifier: BSD-3-Clause */
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
