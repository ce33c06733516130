/* SPDX-License-Identifier: BSD-3-Clause */
/* What becomes of images and versions after they were made. */
#include "catalog/internal.h"

#include "lib/base/strbuf.h"

#define DAY 86400

/* A machine's image is changed with its machine only. */
static int get_own(struct catalog *c, const struct uuid *image, struct image *ret, struct err *e)
{
    if (image_by_uuid(c, image, ret, e) < 0)
        return -1;
    if (strcmp(ret->type, "machine") == 0)
        return err_set(e, ERR_STATE, "image %s is a machine's own; try: labboot machine", ret->name);
    return 0;
}

static int run_for_image(struct catalog *c, enum statement which, const struct uuid *image, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_uuid(s, image);
    return stmt_run(s, e);
}

static int run_for_version(struct catalog *c, enum statement which, const struct uuid *image,
                           uint64_t version, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_uuid(s, image);
    put_nonzero(s, version);
    return stmt_run(s, e);
}

/* ---- change -------------------------------------------------------------------------------------------- */

/* Takes a field over, and tells it in the event. */
static void change_field(struct strbuf *detail, const char *what, const char *to, char *field, size_t size)
{
    if (!to || strcmp(field, to) == 0)
        return;
    strbuf_appendf(detail, "%s%s: %s -> %s", detail->len ? ", " : "", what, field, to);
    snprintf(field, size, "%s", to);
}

static int check_setups(struct catalog *c, const struct image *image, struct err *e)
{
    char setup[2 * NAME_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGE_NAME_TAKEN);
    put_uuid(s, &image->uuid);
    put_text(s, image->name);
    int row = stmt_row(s, e);
    if (row <= 0)
        return row;
    take_text(s, setup, sizeof setup);
    return err_set(e, ERR_STATE, "setup %s has another image '%s': an export's name must mean one disk",
                   setup, image->name);
}

static int check_change(struct catalog *c, const struct image *before, const struct image *after,
                        struct err *e)
{
    bool renamed = strcmp(before->name, after->name) != 0, given = strcmp(before->owner, after->owner) != 0;
    if (renamed && parse_name("image", after->name, e) < 0)
        return -1;
    if ((given && user_check(c, after->owner, e) < 0) ||
        ((renamed || given) && image_name_free(c, after->owner, after->name, e) < 0))
        return -1;
    return renamed ? check_setups(c, after, e) : 0;
}

static int write_fields(struct catalog *c, const struct image *i, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGE_CHANGE);
    put_text(s, i->name);
    put_text(s, i->owner);
    put_text(s, i->type);
    put_text(s, i->compression);
    put_text(s, i->filesystem);
    put_text(s, i->file_type);
    put_uuid(s, &i->uuid);
    return stmt_run(s, e);
}

static int write_comment(struct catalog *c, const struct uuid *image, const char *comment,
                         struct strbuf *detail, struct err *e)
{
    cleanup(stmt) struct stmt *old = stmt_use(c, SQL_IMAGE_COMMENT);
    put_uuid(old, image);
    int row = stmt_row(old, e);
    if (row < 0)
        return -1;
    if (row > 0 && strcmp(stmt_column_text(old, 0), comment) == 0)
        return 0;
    strbuf_appendf(detail, "%scomment: %s", detail->len ? ", " : "", comment);
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGE_COMMENT_SET);
    put_text(s, comment);
    put_uuid(s, image);
    return stmt_run(s, e);
}

int image_change(struct catalog *c, const char *actor, const struct uuid *image,
                 const struct image_change *change, struct err *e)
{
    struct image before, after;
    cleanup(strbuf) struct strbuf detail = STRBUF_INIT;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || get_own(c, image, &before, e) < 0)
        return -1;
    after = before;
    change_field(&detail, "name", change->name, after.name, sizeof after.name);
    change_field(&detail, "owner", change->owner, after.owner, sizeof after.owner);
    change_field(&detail, "kind", change->type, after.type, sizeof after.type);
    change_field(&detail, "compression", change->compression, after.compression, sizeof after.compression);
    change_field(&detail, "file type", change->file_type, after.file_type, sizeof after.file_type);
    change_field(&detail, "filesystem", change->filesystem, after.filesystem, sizeof after.filesystem);
    if (check_change(c, &before, &after, e) < 0 || (detail.len && write_fields(c, &after, e) < 0) ||
        (change->comment && write_comment(c, image, change->comment, &detail, e) < 0))
        return err_wrap(e, "image %s/%s", before.owner, before.name);
    if (detail.len && image_event(c, actor, "image-changed", image, 0, strbuf_text(&detail), e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int version_set_comment(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                        const char *comment, struct err *e)
{
    struct image i;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || get_own(c, image, &i, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_COMMENT);
    put_text(s, *comment ? comment : NULL);
    put_uuid(s, image);
    put_nonzero(s, version);
    if (stmt_run(s, e) < 0 || image_event(c, actor, "version-commented", image, version, comment, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* ---- rollback ------------------------------------------------------------------------------------------ */

int image_rollback(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                   struct err *e)
{
    struct image i;
    char detail[40];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || get_own(c, image, &i, e) < 0 ||
        version_check_good(c, image, version, e) < 0)
        return -1;
    if (i.head == version)
        return tx_commit(&tx, e);
    snprintf(detail, sizeof detail, "latest was %llu", (unsigned long long)i.head);
    if (image_head_set(c, image, version, e) < 0 || run_for_image(c, SQL_VERSION_UNBRANCH, image, e) < 0 ||
        image_event(c, actor, "image-rolled-back", image, version, detail, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* ---- who needs it -------------------------------------------------------------------------------------- */

#define HOLDS_SHOWN 4

/* Of a statement whose rows are reasons, those that no force overcomes first: ERR_STATE with the first of them. */
static int refuse_held(struct stmt *s, struct err *e)
{
    cleanup(strbuf) struct strbuf why = STRBUF_INIT;
    bool forcible = true;
    int row, count = 0;
    for (; (row = stmt_row(s, e)) > 0; count++) {
        if (count < HOLDS_SHOWN)
            strbuf_appendf(&why, "%s%s", count ? "; " : "", stmt_column_text(s, 0));
        forcible &= strcmp(stmt_column_text(s, 1), "1") == 0;
    }
    if (row < 0)
        return -1;
    if (count == 0)
        return 0;
    if (count > HOLDS_SHOWN)
        strbuf_appendf(&why, "; and %d more", count - HOLDS_SHOWN);
    return err_set(e, ERR_STATE, "%s%s", strbuf_text(&why), forcible ? "; try: --force" : "");
}

static int check_version_holds(struct catalog *c, const struct uuid *image, uint64_t version, bool force,
                               struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_HOLDS);
    put_uuid(s, image);
    put_nonzero(s, version);
    put_int(s, force);
    return refuse_held(s, e);
}

static int check_image_holds(struct catalog *c, const struct uuid *image, bool force, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGE_HOLDS);
    put_uuid(s, image);
    put_int(s, force);
    return refuse_held(s, e);
}

/* ---- remove a version ---------------------------------------------------------------------------------- */

static void file_take(struct stmt *s, struct version_file *ret)
{
    ret->version = take_uint(s);
    take_uuid(s, &ret->layer);
}

/* *ret is malloc'ed. */
static int files_take(struct stmt *s, struct version_file **ret, size_t *ret_count, struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    int row;
    while ((row = stmt_row(s, e)) > 0) {
        struct version_file one;
        file_take(s, &one);
        if (list_append(&list, &count, &one, sizeof one, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

int versions_of(struct catalog *c, const struct uuid *image, struct version_file **ret, size_t *ret_count,
                struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSIONS);
    put_uuid(s, image);
    return files_take(s, ret, ret_count, e);
}

static int get_version(struct catalog *c, const struct image *i, uint64_t version, struct version_file *ret,
                       struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_LAYER);
    put_uuid(s, &i->uuid);
    put_nonzero(s, version);
    int row = stmt_row(s, e);
    if (row > 0)
        file_take(s, ret);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "image %s has no version %llu; try: labboot image versions %s",
                       i->name, (unsigned long long)version, i->name);
    return row < 0 ? -1 : 0;
}

static int refuse_head(struct catalog *c, const struct image *i, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSIONS);
    put_uuid(s, &i->uuid);
    int row = stmt_row(s, e);
    if (row > 0)
        row = stmt_row(s, e);
    if (row < 0)
        return -1;
    if (row == 0)
        return err_set(e, ERR_STATE, "it is the only version; try: labboot image remove %s/%s", i->owner,
                       i->name);
    return err_set(e, ERR_STATE, "it is the latest; try: labboot image rollback %s/%s --to VERSION, first",
                   i->owner, i->name);
}

static int delete_version(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                          const char *why, struct err *e)
{
    if (image_event(c, actor, "version-removed", image, version, why, e) < 0)
        return -1;
    return run_for_version(c, SQL_VERSION_REMOVE, image, version, e);
}

int version_remove(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                   bool force, struct version_file *ret, struct err *e)
{
    struct image i;
    struct version_file gone;
    cleanup(tx) struct catalog *tx = NULL;
    if (db_views(c, e) < 0 || tx_begin(c, &tx, e) < 0 || get_own(c, image, &i, e) < 0 ||
        get_version(c, &i, version, &gone, e) < 0)
        return -1;
    if ((i.head == version && refuse_head(c, &i, e) < 0) ||
        check_version_holds(c, image, version, force, e) < 0 ||
        (force && run_for_version(c, SQL_VERSION_UNPEG, image, version, e) < 0))
        return err_wrap(e, "image %s/%s, version %llu", i.owner, i.name, (unsigned long long)version);
    if (delete_version(c, actor, image, version, force ? "by force" : NULL, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = gone;
    return 0;
}

static int stale_versions(struct catalog *c, const struct uuid *image, uint64_t last, uint64_t days,
                          struct version_file **ret, size_t *ret_count, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSIONS_STALE);
    put_uuid(s, image);
    put_int(s, (int64_t)last);
    put_int(s, (int64_t)days * DAY);
    return files_take(s, ret, ret_count, e);
}

int image_keep(struct catalog *c, const char *actor, const struct uuid *image, uint64_t last, uint64_t days,
               bool dry_run, struct version_file **ret, size_t *ret_count, struct err *e)
{
    struct image i;
    cleanup(free) struct version_file *list = NULL;
    size_t count;
    char why[80];
    snprintf(why, sizeof why, "older than the newest %llu", (unsigned long long)last);
    cleanup(tx) struct catalog *tx = NULL;
    if (db_views(c, e) < 0 || tx_begin(c, &tx, e) < 0 || get_own(c, image, &i, e) < 0 ||
        stale_versions(c, image, last, days, &list, &count, e) < 0)
        return -1;
    for (size_t k = 0; k < count && !dry_run; k++)
        if (delete_version(c, actor, image, list[k].version, why, e) < 0)
            return -1;
    if (tx_commit(&tx, e) < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

/* ---- remove an image ----------------------------------------------------------------------------------- */

static int cancel_diskless(struct catalog *c, const char *actor, const struct uuid *image, struct err *e)
{
    for (;;) {
        struct boot b;
        cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_OF_IMAGE_ALONE);
        put_uuid(s, image);
        int row = boot_take(c, s, &b, e);
        if (row <= 0)
            return row;
        stmt_done(steal(&s));
        if (boot_move(c, actor, &b, BOOT_CANCELLED, "its setup has no disk left", e) < 0)
            return -1;
    }
}

static int take_out_of_setups(struct catalog *c, const char *actor, const struct uuid *image, struct err *e)
{
    if (cancel_diskless(c, actor, image, e) < 0 || run_for_image(c, SQL_IMAGE_BEHIND, image, e) < 0 ||
        run_for_image(c, SQL_IMAGE_OUT, image, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_IMAGES_UP);
    return stmt_run(s, e);
}

int image_remove(struct catalog *c, const char *actor, const struct uuid *image, bool force, struct err *e)
{
    struct image i;
    cleanup(tx) struct catalog *tx = NULL;
    if (db_views(c, e) < 0 || tx_begin(c, &tx, e) < 0 || get_own(c, image, &i, e) < 0)
        return -1;
    if (check_image_holds(c, image, force, e) < 0 || (force && take_out_of_setups(c, actor, image, e) < 0))
        return err_wrap(e, "image %s/%s", i.owner, i.name);
    if (image_event(c, actor, "image-removed", image, 0, force ? "by force" : NULL, e) < 0 ||
        run_for_image(c, SQL_IMAGE_REMOVE, image, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}
