/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/base/strbuf.h"

/* ---- by name ------------------------------------------------------------------------------------------- */

static void found_take(struct stmt *s, struct found *ret)
{
    take_uuid(s, &ret->uuid);
    take_text(s, ret->name, sizeof ret->name);
    take_text(s, ret->owner, sizeof ret->owner);
}

/* 1: found, 0: not. `owner` NULL: the statement has one parameter. */
static int find_one(struct catalog *c, enum statement which, const char *owner, const char *text,
                    struct found *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    if (owner)
        put_text(s, owner);
    put_text(s, text);
    int row = stmt_row(s, e);
    if (row > 0)
        found_take(s, ret);
    return row;
}

static int no_such(const struct named *n, const char *text, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "there is no %s '%s'; try: labboot %s list", n->what, text, n->what);
}

/* The only one of this name among all owners. */
static int find_unique(struct catalog *c, const struct named *n, const char *name, struct found *ret,
                       struct err *e)
{
    cleanup(strbuf) struct strbuf owners = STRBUF_INIT;
    struct found one = {.name = ""};
    int row, count = 0;
    cleanup(stmt) struct stmt *s = stmt_use(c, n->by_name);
    put_text(s, name);
    for (; (row = stmt_row(s, e)) > 0; count++) {
        found_take(s, &one);
        strbuf_appendf(&owners, "%s%s/%s", count ? ", " : "", one.owner, name);
    }
    if (row < 0)
        return -1;
    if (count == 0)
        return no_such(n, name, e);
    if (count > 1)
        return err_set(e, ERR_STATE, "the %s '%s' is one of several; try: %s", n->what, name,
                       strbuf_text(&owners));
    *ret = one;
    return 0;
}

static int find_in_owner(struct catalog *c, const struct named *n, const char *text, const char *slash,
                         struct found *ret, struct err *e)
{
    cleanup(free) char *owner = path_format("%.*s", (int)(slash - text), text);
    if (parse_name("user", owner, e) < 0 || parse_name(n->what, slash + 1, e) < 0)
        return -1;
    int row = find_one(c, n->by_owner, owner, slash + 1, ret, e);
    if (row == 0)
        return no_such(n, text, e);
    return row < 0 ? -1 : 0;
}

int named_find(struct catalog *c, const struct named *n, const char *text, const char *owner,
               struct found *ret, struct err *e)
{
    struct uuid uuid;
    struct err not_uuid;
    char lower[UUID_TEXT_SIZE];
    int row = 0;
    if (uuid_from_text(text, &uuid, &not_uuid) == 0)
        row = find_one(c, n->by_uuid, NULL, uuid_to_text(&uuid, lower), ret, e);
    if (row != 0)
        return row < 0 ? -1 : 0;
    const char *slash = strchr(text, '/');
    if (slash)
        return find_in_owner(c, n, text, slash, ret, e);
    if (parse_name(n->what, text, e) < 0)
        return -1;
    row = owner ? find_one(c, n->by_owner, owner, text, ret, e) : 0;
    if (row != 0)
        return row < 0 ? -1 : 0;
    return find_unique(c, n, text, ret, e);
}

static const struct named images = {
    .what = "image",
    .by_uuid = SQL_IMAGE_NAMED_BY_UUID,
    .by_owner = SQL_IMAGE_NAMED_BY_OWNER,
    .by_name = SQL_IMAGE_NAMED_BY_NAME,
};

static void image_take(struct stmt *s, struct image *ret)
{
    take_uuid(s, &ret->uuid);
    take_text(s, ret->name, sizeof ret->name);
    take_text(s, ret->owner, sizeof ret->owner);
    take_text(s, ret->type, sizeof ret->type);
    take_text(s, ret->compression, sizeof ret->compression);
    take_text(s, ret->file_type, sizeof ret->file_type);
    take_text(s, ret->filesystem, sizeof ret->filesystem);
    ret->head = take_uint(s);
    ret->last_version = take_uint(s);
}

int image_by_uuid(struct catalog *c, const struct uuid *uuid, struct image *ret, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGE);
    put_uuid(s, uuid);
    int row = stmt_row(s, e);
    if (row == 0)
        return no_such(&images, uuid_to_text(uuid, text), e);
    if (row < 0)
        return -1;
    image_take(s, ret);
    return 0;
}

int images_all(struct catalog *c, struct image **ret, size_t *ret_count, struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    struct image i;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGES);
    while ((row = stmt_row(s, e)) > 0) {
        image_take(s, &i);
        if (list_append(&list, &count, &i, sizeof i, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

int image_find(struct catalog *c, const char *text, const char *owner, struct image *ret, struct err *e)
{
    struct found found;
    if (named_find(c, &images, text, owner, &found, e) < 0)
        return -1;
    return image_by_uuid(c, &found.uuid, ret, e);
}

/* ---- versions ------------------------------------------------------------------------------------------ */

/* 1: there; *ret_damaged says how. 0: no such version. */
static int version_state(struct catalog *c, const struct uuid *image, uint64_t version, bool *ret_damaged,
                         struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_DAMAGED);
    put_uuid(s, image);
    put_nonzero(s, version);
    int row = stmt_row(s, e);
    if (row > 0)
        *ret_damaged = take_bool(s);
    return row;
}

bool version_exists(struct catalog *c, const struct uuid *image, uint64_t version)
{
    struct err e;
    bool damaged;
    int row = version_state(c, image, version, &damaged, &e);
    /* Who asks may remove the files of what does not exist: in doubt it does. */
    if (row < 0)
        log_error("version %llu: %s", (unsigned long long)version, e.msg);
    return row != 0;
}

int version_check_good(struct catalog *c, const struct uuid *image, uint64_t version, struct err *e)
{
    struct image i;
    bool damaged;
    int row = version_state(c, image, version, &damaged, e);
    if (row < 0 || (row > 0 && !damaged))
        return row < 0 ? -1 : 0;
    if (image_by_uuid(c, image, &i, e) < 0)
        return -1;
    if (version == 0)
        return err_set(e, ERR_STATE, "image %s has no version yet; try: labboot image import", i.name);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "image %s has no version %llu; try: labboot image versions %s",
                       i.name, (unsigned long long)version, i.name);
    return err_set(e, ERR_STATE, "version %llu of image %s is damaged; try: labboot image verify %s@%llu",
                   (unsigned long long)version, i.name, i.name, (unsigned long long)version);
}

int version_kernel(struct catalog *c, const struct uuid *image, uint64_t version, char ret[TEXT_SIZE],
                   struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_KERNEL);
    put_uuid(s, image);
    put_nonzero(s, version);
    int row = stmt_row(s, e);
    if (row < 0)
        return -1;
    ret[0] = '\0';
    if (row > 0)
        take_text(s, ret, TEXT_SIZE);
    return 0;
}

int image_version_find(struct catalog *c, const char *text, const char *owner, struct image *ret,
                       uint64_t *ret_version, struct err *e)
{
    const char *at = strrchr(text, '@');
    size_t len = at ? (size_t)(at - text) : strlen(text);
    cleanup(free) char *name = path_format("%.*s", (int)min_u64(len, 1000), text);
    struct image image;
    uint64_t version = 0;
    bool latest = !at || strcmp(at, "@latest") == 0, damaged;
    if (!latest && parse_number(at + 1, 1, INT64_MAX, &version, e) < 0)
        return -1;
    if (image_find(c, name, owner, &image, e) < 0)
        return -1;
    if (latest)
        version = image.head;
    if (version == 0)
        return err_set(e, ERR_NOT_FOUND, "image %s has no version yet; try: labboot image import",
                       image.name);
    int row = version_state(c, &image.uuid, version, &damaged, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "image %s has no version %llu; try: labboot image versions %s",
                       image.name, (unsigned long long)version, image.name);
    if (row < 0)
        return -1;
    *ret = image;
    *ret_version = version;
    return 0;
}

int version_choose(struct catalog *c, const struct uuid *image, uint64_t at_least, uint64_t *ret,
                   struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_CHOOSE);
    put_uuid(s, image);
    int row = stmt_row(s, e);
    if (row < 0)
        return -1;
    /* An image that is about to be made has no row yet. */
    uint64_t least = row ? take_uint(s) : (uint64_t)db_now(c);
    *ret = max_u64(least, at_least);
    return 0;
}

int version_insert(struct catalog *c, const struct version_new *v, int64_t boot, struct err *e)
{
    bool damaged;
    int row = version_state(c, &v->image, v->version, &damaged, e);
    if (row != 0)
        return row < 0 ? -1
                       : err_set(e, ERR_STATE, "version %llu exists already", (unsigned long long)v->version);
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_ADD);
    put_uuid(s, &v->image);
    put_nonzero(s, v->version);
    put_nonzero(s, v->parent);
    put_uuid(s, &v->layer);
    put_int(s, (int64_t)v->virtual_size);
    put_int(s, (int64_t)v->stored_size);
    put_blob(s, v->checksum, sizeof v->checksum);
    put_text(s, v->kernel);
    put_text(s, v->comment);
    put_nonzero(s, (uint64_t)boot);
    if (stmt_run(s, e) < 0)
        return err_wrap(e, "version %llu", (unsigned long long)v->version);
    cleanup(stmt) struct stmt *last = stmt_use(c, SQL_IMAGE_LAST_RAISE);
    put_nonzero(last, v->version);
    put_uuid(last, &v->image);
    return stmt_run(last, e);
}

int image_head_set(struct catalog *c, const struct uuid *image, uint64_t version, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGE_HEAD_SET);
    put_nonzero(s, version);
    put_uuid(s, image);
    return stmt_run(s, e);
}

/* ---- publish ------------------------------------------------------------------------------------------- */

int image_name_free(struct catalog *c, const char *owner, const char *name, struct err *e)
{
    struct found other;
    int row = find_one(c, SQL_IMAGE_NAMED_BY_OWNER, owner, name, &other, e);
    if (row != 0)
        return row < 0 ? -1 : err_set(e, ERR_STATE, "image '%s/%s' exists already", owner, name);
    return 0;
}

static int image_insert(struct catalog *c, const struct image *i, struct err *e)
{
    if (image_name_free(c, i->owner, i->name, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGE_ADD);
    put_uuid(s, &i->uuid);
    put_text(s, i->name);
    put_text(s, i->owner);
    put_text(s, i->type);
    put_text(s, i->compression);
    put_text(s, i->file_type);
    put_text(s, i->filesystem);
    if (stmt_run(s, e) < 0)
        return err_wrap(e, "image '%s/%s'", i->owner, i->name);
    return 0;
}

int image_event(struct catalog *c, const char *actor, const char *what, const struct uuid *image,
                uint64_t version, const char *detail, struct err *e)
{
    struct image i;
    char object[OBJECT_SIZE * 2];
    if (image_by_uuid(c, image, &i, e) < 0)
        return -1;
    int len = snprintf(object, sizeof object, "image %s/%s", i.owner, i.name);
    if (version)
        snprintf(object + len, sizeof object - (size_t)len, "@%llu", (unsigned long long)version);
    struct event ev = {.actor = actor, .what = what, .object = object, .detail = detail};
    return event_write(c, &ev, e);
}

int version_publish(struct catalog *c, const char *actor, const struct image *create,
                    const struct version_new *v, struct err *e)
{
    if (create && parse_name("image", create->name, e) < 0)
        return -1;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || (create && user_check(c, create->owner, e) < 0) ||
        (create && (image_insert(c, create, e) < 0 ||
                    image_event(c, actor, "image-created", &create->uuid, 0, create->type, e) < 0)))
        return -1;
    struct image image;
    if (image_by_uuid(c, &v->image, &image, e) < 0)
        return -1;
    if (version_insert(c, v, 0, e) < 0 || image_head_set(c, &v->image, v->version, e) < 0)
        return err_wrap(e, "image '%s/%s'", image.owner, image.name);
    if (image_event(c, actor, "version-published", &v->image, v->version, v->comment, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int version_damage(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                   const char *why, bool *ret_news, struct err *e)
{
    bool damaged;
    int row = version_state(c, image, version, &damaged, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no version %llu", (unsigned long long)version);
    if (row < 0)
        return -1;
    *ret_news = !damaged;
    if (damaged)
        return 0;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_DAMAGE);
    put_text(s, why);
    put_uuid(s, image);
    put_nonzero(s, version);
    if (stmt_run(s, e) < 0)
        return -1;
    return image_event(c, actor, "version-damaged", image, version, why, e);
}

int version_mark_damaged(struct catalog *c, const struct uuid *image, uint64_t version, const char *why,
                         struct err *e)
{
    bool news;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || version_damage(c, "server", image, version, why, &news, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}
