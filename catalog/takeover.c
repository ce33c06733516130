/* SPDX-License-Identifier: BSD-3-Clause */
/* What an interrupted boot has written to a user's image, and the machine's next boot goes on with. */
#include "catalog/internal.h"

int takeover_check_none(struct catalog *c, int64_t boot, struct err *e)
{
    char name[NAME_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_TAKER);
    put_int(s, boot);
    int row = stmt_row(s, e);
    if (row <= 0)
        return row;
    long long taker = take_int(s);
    take_text(s, name, sizeof name);
    return err_set(
        e, ERR_STATE,
        "boot %lld is about to take over what boot %lld has written to %s; try: labboot serve, which does it",
        taker, (long long)boot, name);
}

/* Whether it still waits there. */
static int is_there(struct catalog *c, const struct boot *b, const struct takeover *t, bool *ret,
                    struct err *e)
{
    struct boot from;
    struct err taken;
    if (boot_get(c, t->boot, &from, e) < 0)
        return -1;
    const struct boot_image *i = &from.images[t->position];
    *ret = from.state == BOOT_INTERRUPTED && mac_equal(&from.machine, &b->machine) &&
           t->position < from.nimages && i->keep && !i->result &&
           takeover_check_none(c, t->boot, &taken) == 0;
    return 0;
}

int takeover_attach(struct catalog *c, struct boot *b, const struct takeover *ready, size_t count,
                    bool *ret_any, struct err *e)
{
    bool any = false;
    for (size_t n = 0; n < b->nimages; n++) {
        struct boot_image *i = &b->images[n];
        for (size_t t = 0; t < count; t++) {
            bool there;
            if (strcmp(i->type, "user") != 0 || !i->keep || !uuid_equal(&i->image, &ready[t].image) ||
                i->version != ready[t].version)
                continue;
            if (is_there(c, b, &ready[t], &there, e) < 0)
                return -1;
            if (there) {
                i->follows = ready[t].boot;
                i->follows_position = ready[t].position;
                any = true;
            }
        }
    }
    *ret_any = any;
    return 0;
}

static int note(struct catalog *c, const struct boot *b, const struct boot_image *i, struct err *e)
{
    char object[OBJECT_SIZE], detail[NAME_SIZE + TEXT_SIZE];
    snprintf(object, sizeof object, "boot %lld", (long long)b->id);
    snprintf(detail, sizeof detail, "what boot %lld has written to %s", (long long)i->follows, i->name);
    struct event ev = {.actor = "server",
                       .what = "boot-took-over",
                       .object = object,
                       .detail = detail,
                       .machine = &b->machine};
    return event_write(c, &ev, e);
}

int takeover_note(struct catalog *c, const struct boot *b, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_TAKE_OVER);
    put_int(s, b->id);
    if (stmt_run(s, e) < 0)
        return -1;
    for (size_t n = 0; n < b->nimages; n++)
        if (b->images[n].follows && note(c, b, &b->images[n], e) < 0)
            return -1;
    return 0;
}

static int hand_over(struct catalog *c, const struct boot_image *i, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_HAND_OVER);
    put_int(s, i->follows);
    put_int(s, (int64_t)i->follows_position);
    return stmt_run(s, e);
}

int boot_handed_over(struct catalog *c, const struct boot *b, size_t n, bool over, struct err *e)
{
    const struct boot_image *i = &b->images[n];
    struct boot from;
    char object[OBJECT_SIZE], why[NAME_SIZE + TEXT_SIZE];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, i->follows, &from, e) < 0)
        return -1;
    if (from.state != BOOT_INTERRUPTED || !from.images[i->follows_position].keep)
        return 0;
    snprintf(object, sizeof object, "boot %lld", (long long)from.id);
    snprintf(why, sizeof why, "what was written to %s goes on in boot %lld", i->name, (long long)b->id);
    struct event ev = {.actor = "server",
                       .what = "boot-handed-over",
                       .object = object,
                       .detail = why,
                       .machine = &from.machine};
    if (hand_over(c, i, e) < 0 ||
        (over ? boot_move(c, "server", &from, BOOT_DISCARDED, why, e) : event_write(c, &ev, e)) < 0)
        return -1;
    return tx_commit(&tx, e);
}
