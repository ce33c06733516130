/* SPDX-License-Identifier: BSD-3-Clause */
/* What machines keep of images of type temporal. */
#include "catalog/internal.h"

static void temporal_take(struct stmt *s, struct temporal *ret)
{
    ret->id = take_int(s);
    take_mac(s, &ret->machine);
    take_uuid(s, &ret->image);
    take_text(s, ret->owner, sizeof ret->owner);
    take_text(s, ret->name, sizeof ret->name);
    ret->version = take_uint(s);
    ret->used = take_int(s);
}

/* 1: found, 0: not. */
static int find(struct catalog *c, const struct mac *machine, const struct uuid *image, struct temporal *ret,
                struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TEMPORAL_FIND);
    put_mac(s, machine);
    put_uuid(s, image);
    int row = stmt_row(s, e);
    if (row > 0)
        temporal_take(s, ret);
    return row;
}

int temporal_find(struct catalog *c, const struct mac *machine, const struct uuid *image,
                  struct temporal *ret, struct err *e)
{
    int row = find(c, machine, image, ret, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND,
                       "the machine keeps nothing of this image; try: labboot machine show");
    return row < 0 ? -1 : 0;
}

int temporals_idle(struct catalog *c, struct temporal **ret, size_t *ret_count, struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    struct temporal t;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TEMPORALS_IDLE);
    while ((row = stmt_row(s, e)) > 0) {
        temporal_take(s, &t);
        if (list_append(&list, &count, &t, sizeof t, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

static int run_with_id(struct catalog *c, enum statement which, int64_t id, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_int(s, id);
    return stmt_run(s, e);
}

/* ---- in the lease -------------------------------------------------------------------------------------- */

static int add(struct catalog *c, const struct mac *machine, struct boot_image *i, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TEMPORAL_ADD);
    put_mac(s, machine);
    put_uuid(s, &i->image);
    put_nonzero(s, i->version);
    if (stmt_run(s, e) < 0)
        return -1;
    i->temporal = db_last_id(c);
    return 0;
}

static int attach(struct catalog *c, const struct mac *machine, struct boot_image *i, struct err *e)
{
    struct temporal t;
    int row = find(c, machine, &i->image, &t, e);
    if (row == 0)
        return add(c, machine, i, e);
    if (row < 0)
        return -1;
    /* The token may be older than what is kept. */
    i->version = t.version;
    i->temporal = t.id;
    return run_with_id(c, SQL_TEMPORAL_USE, t.id, e);
}

/* What has no version yet is refused afterwards. */
int temporal_attach(struct catalog *c, struct boot *b, struct err *e)
{
    for (size_t i = 0; i < b->nimages; i++)
        if (strcmp(b->images[i].type, "temporal") == 0 && b->images[i].version &&
            attach(c, &b->machine, &b->images[i], e) < 0)
            return -1;
    return 0;
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static int refuse_in_use(struct catalog *c, const struct temporal *t, struct err *e)
{
    char state[16];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TEMPORAL_USER);
    put_int(s, t->id);
    int row = stmt_row(s, e);
    if (row <= 0)
        return row;
    long long boot = take_int(s);
    take_text(s, state, sizeof state);
    return err_set(e, ERR_STATE, "boot %lld, which has image %s, is %s; try: labboot boot end %lld", boot,
                   t->name, state, boot);
}

static int get(struct catalog *c, int64_t id, struct temporal *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TEMPORAL);
    put_int(s, id);
    int row = stmt_row(s, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "it is dropped already");
    if (row < 0)
        return -1;
    temporal_take(s, ret);
    return 0;
}

int temporal_drop(struct catalog *c, const char *actor, int64_t id, const char *why, struct err *e)
{
    struct temporal t;
    char object[OBJECT_SIZE], detail[2 * NAME_SIZE + TEXT_SIZE];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || get(c, id, &t, e) < 0 || refuse_in_use(c, &t, e) < 0)
        return -1;
    machine_object(&t.machine, object);
    snprintf(detail, sizeof detail, "%s/%s@%llu: %s", t.owner, t.name, (unsigned long long)t.version, why);
    struct event ev = {.actor = actor,
                       .what = "temporal-dropped",
                       .object = object,
                       .detail = detail,
                       .machine = &t.machine};
    if (run_with_id(c, SQL_TEMPORAL_REMOVE, id, e) < 0 || event_write(c, &ev, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* In doubt it is there: who asks may remove what it has written. */
bool temporal_is_gone(struct catalog *c, int64_t id)
{
    struct temporal t;
    struct err e;
    if (get(c, id, &t, &e) == 0 || e.code != ERR_NOT_FOUND)
        return false;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TEMPORAL_GONE);
    put_int(s, id);
    return stmt_row(s, &e) > 0 && take_bool(s);
}
