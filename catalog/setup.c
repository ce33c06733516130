/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

#include "lib/base/strbuf.h"

#include <inttypes.h>

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

int setups_all(struct catalog *c, struct setup **ret, size_t *ret_count, struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    struct setup setup;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUPS);
    while ((row = stmt_row(s, e)) > 0) {
        take_uuid(s, &setup.uuid);
        take_text(s, setup.name, sizeof setup.name);
        take_text(s, setup.owner, sizeof setup.owner);
        if (list_append(&list, &count, &setup, sizeof setup, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
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

struct list {
    struct setup_image images[SETUP_IMAGES_MAX];
    size_t count;
};

static bool pegs(const struct list *l, const struct setup_image *image)
{
    for (size_t i = 0; i < l->count; i++)
        if (uuid_equal(&l->images[i].image, &image->image) && l->images[i].version == image->version)
            return true;
    return false;
}

/* An export is named after the image, so within a setup names are unique whoever owns the images. */
static int check_images(struct catalog *c, const struct setup_image *images, size_t count,
                        const struct list *before, struct err *e)
{
    struct image seen[SETUP_IMAGES_MAX];
    if (count < 1 || count > SETUP_IMAGES_MAX)
        return err_set(e, ERR_USAGE, "a setup has 1 to %d images", SETUP_IMAGES_MAX);
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
        if (images[i].version != 0 && !pegs(before, &images[i]) &&
            version_check_good(c, &images[i].image, images[i].version, e) < 0)
            return -1;
    }
    return 0;
}

static int refuse_existing(struct catalog *c, const char *name, const char *owner, struct err *e)
{
    cleanup(stmt) struct stmt *other = stmt_use(c, SQL_SETUP_NAMED_BY_OWNER);
    put_text(other, owner);
    put_text(other, name);
    int row = stmt_row(other, e);
    return row > 0 ? err_set(e, ERR_STATE, "setup '%s/%s' exists already", owner, name) : row;
}

static int insert(struct catalog *c, const struct uuid *uuid, const char *name, const char *owner,
                  struct err *e)
{
    if (refuse_existing(c, name, owner, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_ADD);
    put_uuid(s, uuid);
    put_text(s, name);
    put_text(s, owner);
    return stmt_run(s, e);
}

static int write_images(struct catalog *c, const struct uuid *setup, const struct setup_image *images,
                        size_t count, struct err *e)
{
    cleanup(stmt) struct stmt *old = stmt_use(c, SQL_SETUP_IMAGES_REMOVE);
    put_uuid(old, setup);
    if (stmt_run(old, e) < 0)
        return -1;
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

static void object_of(const char *owner, const char *name, char ret[OBJECT_SIZE])
{
    snprintf(ret, OBJECT_SIZE, "setup %s/%s", owner, name);
}

int setup_create(struct catalog *c, const char *actor, const char *name, const char *owner,
                 const struct setup_image *images, size_t count, struct uuid *ret, struct err *e)
{
    if (parse_name("setup", name, e) < 0)
        return -1;
    struct uuid uuid;
    uuid_make(&uuid);
    char object[OBJECT_SIZE];
    object_of(owner, name, object);
    const struct list none = {.count = 0};
    struct event ev = {.actor = actor, .what = "setup-created", .object = object};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || user_check(c, owner, e) < 0 ||
        check_images(c, images, count, &none, e) < 0 || insert(c, &uuid, name, owner, e) < 0 ||
        write_images(c, &uuid, images, count, e) < 0 || event_write(c, &ev, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = uuid;
    return 0;
}

/* ---- changes ------------------------------------------------------------------------------------------- */

/* "debian@latest lab-data@1795460000,update" */
static int describe(struct catalog *c, const struct setup_image *images, size_t count, struct strbuf *out,
                    struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        struct image image;
        if (image_by_uuid(c, &images[i].image, &image, e) < 0)
            return -1;
        strbuf_appendf(out, "%s%s@", i ? " " : "", image.name);
        if (images[i].version)
            strbuf_appendf(out, "%" PRIu64, images[i].version);
        else
            strbuf_append(out, "latest");
        strbuf_append(out, images[i].update ? ",update" : "");
    }
    return 0;
}

static bool same_image(const struct setup_image *a, const struct setup_image *b)
{
    return uuid_equal(&a->image, &b->image) && a->version == b->version && a->update == b->update;
}

static bool same_list(const struct list *l, const struct setup_image *images, size_t count)
{
    bool same = l->count == count;
    for (size_t i = 0; same && i < count; i++)
        same = same_image(&l->images[i], &images[i]);
    return same;
}

/* Appends "images A B -> A" to `detail`. */
static int change_images(struct catalog *c, const struct uuid *setup, const struct setup_change *change,
                         struct strbuf *detail, struct err *e)
{
    struct list before;
    if (!change->images)
        return 0;
    if (setup_images(c, setup, before.images, &before.count, e) < 0)
        return -1;
    if (same_list(&before, change->images, change->count))
        return 0;
    strbuf_appendf(detail, "%simages ", detail->len ? "; " : "");
    if (check_images(c, change->images, change->count, &before, e) < 0 ||
        describe(c, before.images, before.count, detail, e) < 0)
        return -1;
    strbuf_append(detail, " -> ");
    return describe(c, change->images, change->count, detail, e) < 0
               ? -1
               : write_images(c, setup, change->images, change->count, e);
}

/* Appends "name desk -> table" to `detail`. */
static int change_names(struct catalog *c, const struct setup *setup, const struct setup_change *change,
                        struct strbuf *detail, struct err *e)
{
    const char *name = change->name ? change->name : setup->name;
    const char *owner = change->owner ? change->owner : setup->owner;
    bool rename = strcmp(name, setup->name) != 0, give = strcmp(owner, setup->owner) != 0;
    if (!rename && !give)
        return 0;
    if (parse_name("setup", name, e) < 0 || user_check(c, owner, e) < 0 ||
        refuse_existing(c, name, owner, e) < 0)
        return -1;
    if (rename)
        strbuf_appendf(detail, "name %s -> %s", setup->name, name);
    if (give)
        strbuf_appendf(detail, "%sowner %s -> %s", rename ? "; " : "", setup->owner, owner);
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_SET);
    put_text(s, name);
    put_text(s, owner);
    put_uuid(s, &setup->uuid);
    return stmt_run(s, e);
}

int setup_set(struct catalog *c, const char *actor, const struct uuid *uuid,
              const struct setup_change *change, struct err *e)
{
    struct setup setup;
    char object[OBJECT_SIZE];
    cleanup(strbuf) struct strbuf detail = STRBUF_INIT;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || setup_by_uuid(c, uuid, &setup, e) < 0 ||
        change_names(c, &setup, change, &detail, e) < 0 || change_images(c, uuid, change, &detail, e) < 0)
        return -1;
    if (detail.failed)
        return err_sys(e, ENOMEM, "setup");
    if (detail.len == 0)
        return 0;
    object_of(setup.owner, setup.name, object);
    struct event ev = {
        .actor = actor, .what = "setup-changed", .object = object, .detail = strbuf_text(&detail)};
    return event_write(c, &ev, e) < 0 ? -1 : tx_commit(&tx, e);
}

#define HOLDERS_SHOWN 5

/* Who it cannot be taken from: "the default of lab-1, boot 7 of lab-2 and 12 more". */
static int check_free(struct catalog *c, const struct setup *setup, struct err *e)
{
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    char one[TEXT_SIZE];
    int row, count = 0;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_HOLDERS);
    put_uuid(s, &setup->uuid);
    for (; (row = stmt_row(s, e)) > 0; count++) {
        take_text(s, one, sizeof one);
        if (count < HOLDERS_SHOWN)
            strbuf_appendf(&text, "%s%s", count ? ", " : "", one);
    }
    if (row < 0 || count == 0)
        return row;
    if (count > HOLDERS_SHOWN)
        strbuf_appendf(&text, " and %d more", count - HOLDERS_SHOWN);
    return err_set(e, ERR_STATE, "setup '%s/%s' is in use: %s; try: --force", setup->owner, setup->name,
                   strbuf_text(&text));
}

static int count_queued(struct catalog *c, const struct uuid *setup, size_t *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_QUEUED);
    put_uuid(s, setup);
    if (stmt_row(s, e) < 0)
        return -1;
    *ret = (size_t)take_int(s);
    return 0;
}

int setup_update_queued(struct catalog *c, const struct uuid *setup, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_QUEUED_UPDATES);
    put_uuid(s, setup);
    return stmt_row(s, e);
}

int setup_remove(struct catalog *c, const char *actor, const struct uuid *uuid, bool force,
                 size_t *ret_cancelled, struct err *e)
{
    struct setup setup;
    char object[OBJECT_SIZE];
    size_t queued;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || setup_by_uuid(c, uuid, &setup, e) < 0 ||
        (!force && check_free(c, &setup, e) < 0) || count_queued(c, uuid, &queued, e) < 0)
        return -1;
    object_of(setup.owner, setup.name, object);
    struct event ev = {.actor = actor, .what = "setup-removed", .object = object};
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_REMOVE);
    put_uuid(s, uuid);
    if (stmt_run(s, e) < 0 || event_write(c, &ev, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret_cancelled = queued;
    return 0;
}
