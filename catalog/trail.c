/* SPDX-License-Identifier: BSD-3-Clause */
/* The event trail, read. */
#include "catalog/internal.h"

#include "lib/base/bytes.h"

static enum statement statement_of(const struct trail_filter *f)
{
    return f->boot ? SQL_TRAIL_OF_BOOT : f->machine ? SQL_TRAIL_OF_MACHINE : SQL_TRAIL;
}

static void event_take(struct stmt *s, struct trail_event *ret)
{
    *ret = (struct trail_event){.id = take_int(s)};
    const char **const texts[] = {&ret->time, &ret->actor,   &ret->what,         &ret->object, &ret->detail,
                                  &ret->peer, &ret->machine, &ret->machine_name, &ret->json};
    for (int i = 0; i < (int)ARRAY_SIZE(texts); i++)
        *texts[i] = stmt_column_text(s, i + 1);
}

int trail_read(struct catalog *c, const struct trail_filter *f,
               int (*each)(void *ctx, const struct trail_event *ev, struct err *e), void *ctx, struct err *e)
{
    struct trail_event ev;
    char mac[MAC_TEXT_SIZE], boot[OBJECT_SIZE];
    int row;
    if (db_views(c, e) < 0)
        return -1;
    snprintf(boot, sizeof boot, "boot %lld", (long long)f->boot);
    cleanup(stmt) struct stmt *s = stmt_use(c, statement_of(f));
    put_text(s, f->machine ? mac_format(f->machine, mac) : NULL);
    put_text(s, f->boot ? boot : NULL);
    put_int(s, f->after);
    put_int(s, f->since);
    put_int(s, f->until);
    put_text(s, f->actor);
    put_text(s, f->object);
    put_text(s, f->what);
    put_int(s, f->limit);
    while ((row = stmt_row(s, e)) > 0) {
        event_take(s, &ev);
        if (each(ctx, &ev, e) < 0)
            return -1;
    }
    return row;
}
