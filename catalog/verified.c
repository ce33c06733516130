/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/verified.h"

#include "catalog/internal.h"

/* ---- what came of it -------------------------------------------------------------------------------------------- */

/* 0: it is gone, or another layer. */
static int note_time(struct catalog *c, const struct uuid *image, const struct version_row *before,
                     struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_VERIFIED);
    put_uuid(s, image);
    put_nonzero(s, before->version);
    put_uuid(s, &before->layer);
    return stmt_run(s, e) < 0 ? -1 : db_changes(c);
}

static int forget_places(struct catalog *c, const struct uuid *image, uint64_t version, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_DAMAGE_FORGET);
    put_uuid(s, image);
    put_nonzero(s, version);
    return stmt_run(s, e);
}

static int note_place(struct catalog *c, const struct uuid *image, uint64_t version,
                      const struct verify_damage *d, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_DAMAGE_ADD);
    put_uuid(s, image);
    put_nonzero(s, version);
    put_uuid(s, &d->layer);
    put_int(s, (int64_t)d->chunks);
    return stmt_run(s, e);
}

/* Where not even its index could be read, it is its own file. */
static int note_damage(struct catalog *c, const char *actor, const struct uuid *image,
                       const struct version_row *before, const struct verify_result *r, bool *ret_news,
                       struct err *e)
{
    const struct verify_damage own = {.layer = before->layer};
    if (forget_places(c, image, before->version, e) < 0)
        return -1;
    for (size_t i = 0; i < r->ndamage; i++)
        if (note_place(c, image, before->version, &r->damage[i], e) < 0)
            return -1;
    if (r->ndamage == 0 && note_place(c, image, before->version, &own, e) < 0)
        return -1;
    return version_damage(c, actor, image, before->version, r->why, ret_news, e);
}

static int note_whole(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                      bool *ret_news, struct err *e)
{
    if (forget_places(c, image, version, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_WHOLE);
    put_uuid(s, image);
    put_nonzero(s, version);
    if (stmt_run(s, e) < 0)
        return -1;
    *ret_news = db_changes(c) > 0;
    return *ret_news ? image_event(c, actor, "version-whole", image, version, NULL, e) : 0;
}

static int note_sha256(struct catalog *c, const char *actor, const struct uuid *image,
                       const struct verify_result *r, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_SHA256);
    put_blob(s, r->sha256, sizeof r->sha256);
    put_uuid(s, image);
    put_nonzero(s, r->version);
    if (stmt_run(s, e) < 0)
        return -1;
    return db_changes(c) > 0 ? image_event(c, actor, "version-sha256", image, r->version, NULL, e) : 0;
}

int version_verified(struct catalog *c, const char *actor, const struct uuid *image,
                     const struct version_row *before, const struct verify_result *r, bool *ret_news,
                     struct err *e)
{
    bool news = false;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    int known = note_time(c, image, before, e);
    if (known < 0 || (known && r->damaged && note_damage(c, actor, image, before, r, &news, e) < 0) ||
        (known && !r->damaged && before->damaged &&
         note_whole(c, actor, image, before->version, &news, e) < 0) ||
        (known && r->has_sha256 && note_sha256(c, actor, image, r, e) < 0) || tx_commit(&tx, e) < 0)
        return -1;
    *ret_news = news;
    return 0;
}

/* ---- what is to be read again ----------------------------------------------------------------------------------- */

static int next_image(struct catalog *c, const struct uuid *after, uint64_t days, struct uuid *ret,
                      struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRUB_IMAGE);
    put_int(s, (int64_t)days);
    put_uuid(s, after);
    int row = stmt_row(s, e);
    if (row > 0)
        take_uuid(s, ret);
    return row;
}

static int take_versions(struct stmt *s, struct scrub_version **ret, size_t *ret_count, struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    struct scrub_version v;
    int row;
    while ((row = stmt_row(s, e)) > 0) {
        version_row_take(s, &v.row);
        v.to = take_uint(s);
        v.due = take_bool(s);
        if (list_append(&list, &count, &v, sizeof v, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

int scrub_next(struct catalog *c, const struct uuid *after, uint64_t days, struct uuid *ret_image,
               struct scrub_version **ret, size_t *ret_count, struct err *e)
{
    struct uuid image;
    int row = next_image(c, after, days, &image, e);
    if (row <= 0)
        return row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRUB_VERSIONS);
    put_int(s, (int64_t)days);
    put_uuid(s, &image);
    if (take_versions(s, ret, ret_count, e) < 0)
        return -1;
    *ret_image = image;
    return 1;
}

int scrub_note(struct catalog *c, const struct uuid *image, const struct version_row *row, uint64_t to,
               struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRUB_NOTE);
    put_uuid(s, image);
    put_nonzero(s, row->version);
    put_uuid(s, &row->layer);
    put_int(s, (int64_t)to);
    return stmt_run(s, e);
}
