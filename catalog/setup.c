/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

static const struct named setups = {
    .what = "setup",
    .by_uuid = SQL_SETUP_NAMED_BY_UUID,
    .by_owner = SQL_SETUP_NAMED_BY_OWNER,
    .by_name = SQL_SETUP_NAMED_BY_NAME,
};

int setup_find(struct catalog *c, const char *text, const char *owner, struct setup *ret, struct err *e)
{
    struct found found;
    if (named_find(c, &setups, text, owner, &found, e) < 0)
        return -1;
    ret->uuid = found.uuid;
    memcpy(ret->name, found.name, sizeof ret->name);
    memcpy(ret->owner, found.owner, sizeof ret->owner);
    return 0;
}

int setup_by_uuid(struct catalog *c, const struct uuid *uuid, struct setup *ret, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    return setup_find(c, uuid_to_text(uuid, text), NULL, ret, e);
}

int setup_images(struct catalog *c, const struct uuid *setup, struct setup_image ret[SETUP_IMAGES_MAX],
                 size_t *ret_count, struct err *e)
{
    size_t count = 0;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_ENTRIES);
    put_uuid(s, setup);
    while ((row = stmt_row(s, e)) > 0 && count < SETUP_IMAGES_MAX) {
        take_uuid(s, &ret[count].image);
        ret[count].version = take_uint(s);
        ret[count].update = take_bool(s);
        count++;
    }
    if (row < 0)
        return -1;
    *ret_count = count;
    return 0;
}

/* An export is named after the image, so within a setup names are unique whoever owns the images. */
static int check_images(struct catalog *c, const struct setup_image *images, size_t count, struct err *e)
{
    struct image seen[SETUP_IMAGES_MAX];
    for (size_t i = 0; i < count; i++) {
        if (image_by_uuid(c, &images[i].image, &seen[i], e) < 0)
            return -1;
        if (strcmp(seen[i].type, "machine") == 0)
            return err_set(e, ERR_STATE, "image '%s' is a machine's own, which every setup has anyway",
                           seen[i].name);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(seen[k].name, seen[i].name) == 0)
                return err_set(e, ERR_STATE, "two images are named '%s': an export's name must mean one disk",
                               seen[i].name);
        }
        if (images[i].version != 0 && !version_exists(c, &images[i].image, images[i].version))
            return err_set(e, ERR_NOT_FOUND, "image '%s' has no version %llu; try: labboot image versions %s",
                           seen[i].name, (unsigned long long)images[i].version, seen[i].name);
    }
    return 0;
}

static int insert(struct catalog *c, const struct uuid *uuid, const char *name, const char *owner,
                  struct err *e)
{
    cleanup(stmt) struct stmt *other = stmt_use(c, SQL_SETUP_NAMED_BY_OWNER);
    put_text(other, owner);
    put_text(other, name);
    int row = stmt_row(other, e);
    if (row != 0)
        return row < 0 ? -1 : err_set(e, ERR_STATE, "setup '%s/%s' exists already", owner, name);
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_ADD);
    put_uuid(s, uuid);
    put_text(s, name);
    put_text(s, owner);
    return stmt_run(s, e);
}

static int insert_images(struct catalog *c, const struct uuid *setup, const struct setup_image *images,
                         size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_IMAGE_ADD);
        put_uuid(s, setup);
        put_int(s, (int64_t)i);
        put_uuid(s, &images[i].image);
        put_nonzero(s, images[i].version);
        put_int(s, images[i].update);
        if (stmt_run(s, e) < 0)
            return -1;
    }
    return 0;
}

int setup_create(struct catalog *c, const char *actor, const char *name, const char *owner,
                 const struct setup_image *images, size_t count, struct uuid *ret, struct err *e)
{
    if (parse_name("setup", name, e) < 0)
        return -1;
    if (count < 1 || count > SETUP_IMAGES_MAX)
        return err_set(e, ERR_USAGE, "a setup has 1 to %d images", SETUP_IMAGES_MAX);
    struct uuid uuid;
    uuid_make(&uuid);
    char object[OBJECT_SIZE];
    snprintf(object, sizeof object, "setup %s/%s", owner, name);
    struct event ev = {.actor = actor, .what = "setup-created", .object = object};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || user_check(c, owner, e) < 0 || check_images(c, images, count, e) < 0 ||
        insert(c, &uuid, name, owner, e) < 0 || insert_images(c, &uuid, images, count, e) < 0 ||
        event_write(c, &ev, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = uuid;
    return 0;
}
