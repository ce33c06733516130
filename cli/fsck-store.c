/* SPDX-License-Identifier: BSD-3-Clause */
/* The versions' files against their rows, and overlays against their boots. */
#include "cli/fsck.h"

#include "lib/base/fsutil.h"
#include "lib/store/layer.h"
#include "lib/store/overlay.h"
#include "lib/store/verify.h"
#include "tftp-glue/kernel.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* ---- versions ------------------------------------------------------------------------------------------------------ */

struct version_check {
    struct fsck *fsck;
    const struct image *image;
    const struct version_row *row;
    const char *why; /* for the mark */
    struct footer footer;
};

static int mark_damaged(void *ctx, struct err *e)
{
    const struct version_check *v = ctx;
    return version_mark_damaged(v->fsck->c->catalog, &v->image->uuid, v->row->version, v->why, e);
}

static int extract_again(void *ctx, struct err *e)
{
    const struct version_check *v = ctx;
    char release[KERNEL_RELEASE_SIZE];
    return kernel_extract(&v->fsck->c->conf, &v->image->uuid, v->row->version, release, e);
}

static char *version_object(const struct version_check *v)
{
    return path_format("image %s/%s@%" PRIu64, v->image->owner, v->image->name, v->row->version);
}

/* A version that is removed meanwhile is none. */
static bool is_still_there(const struct version_check *v)
{
    return version_exists(v->fsck->c->catalog, &v->image->uuid, v->row->version);
}

static int report_damage(struct version_check *v, const char *code, const char *why, struct err *e)
{
    if (!is_still_there(v))
        return 0;
    cleanup(free) char *object = version_object(v);
    cleanup(free) char *text = path_format("%s%s", why, v->row->damaged ? " (marked damaged already)" : "");
    v->why = why;
    const struct finding x = {.code = code,
                              .object = object,
                              .text = text,
                              .repair = v->row->damaged ? NULL : mark_damaged,
                              .ctx = v,
                              .lost = true};
    return fsck_report(v->fsck, &x, e);
}

static const char *difference(const struct version_check *v, const struct footer *f)
{
    const struct version_row *r = v->row;
    if (f->version != r->version || !uuid_equal(&f->image, &v->image->uuid))
        return "its file belongs to another version or image";
    if (f->virtual_size != r->virtual_size)
        return "its disk has another size than the catalog says";
    if (memcmp(f->checksum, r->checksum, CHECKSUM_SIZE) != 0)
        return "its file has another checksum than the catalog says";
    return NULL;
}

static int take_layer(void *ctx, struct err *e)
{
    const struct version_check *v = ctx;
    return version_flattened(v->fsck->c->catalog, v->fsck->c->actor, &v->image->uuid, v->row->version,
                             &v->footer.layer, v->footer.file_length, e);
}

/* What a crash between file and row leaves of a flattening; else the row was changed. */
static int report_layer(struct version_check *v, struct err *e)
{
    cleanup(free) char *object = version_object(v);
    const struct finding x = {.code = "version-layer",
                              .object = object,
                              .text = "its file is another layer of the same disk than the catalog says",
                              .repair = take_layer,
                              .ctx = v};
    return fsck_report(v->fsck, &x, e) < 0 ? -1 : 1;
}

/* 1: the file is there and the one that the row means, so that more can be looked at. */
static int check_footer(struct version_check *v, struct err *e)
{
    struct footer f;
    struct hash h;
    struct err why;
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *path = path_format("%s/%s/%" PRIu64 ".img", v->fsck->c->conf.server.images_dir,
                                           uuid_to_text(&v->image->uuid, uuid), v->row->version);
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return report_damage(v, "version-missing", "its file is not there", e);
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    if (layer_read_footer(fd, &f, &h, &why) < 0)
        return report_damage(v, "version-footer", why.msg, e);
    v->footer = f;
    const char *different = difference(v, &f);
    if (different)
        return report_damage(v, "version-footer", different, e);
    bool same = uuid_equal(&f.layer, &v->row->layer) && f.file_length == v->row->stored_size;
    return same ? 1 : report_layer(v, e);
}

/* 1: all layers are there. */
static int check_layers(struct version_check *v, struct err *e)
{
    struct view *view;
    struct err why;
    if (view_open(v->fsck->store, &v->image->uuid, v->row->version, &view, &why) < 0)
        return why.code == ERR_CORRUPT ? report_damage(v, "version-index", why.msg, e) : 1;
    int r = view_check_layers(view, &why);
    view_close(view);
    return r < 0 ? report_damage(v, "layer-missing", why.msg, e) : 1;
}

static int check_kernel(struct version_check *v, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *dir = path_format("%s/kernels/%s/%" PRIu64, v->fsck->c->conf.network.tftp_root,
                                          uuid_to_text(&v->image->uuid, uuid), v->row->version);
    cleanup(free) char *kernel = path_format("%s/vmlinuz", dir), *initrd = path_format("%s/initrd.img", dir);
    if (!*v->row->kernel || v->row->damaged || (path_exists(kernel) && path_exists(initrd)) ||
        !is_still_there(v))
        return 0;
    cleanup(free) char *object = version_object(v);
    const struct finding x = {.code = "kernel-missing",
                              .object = object,
                              .text = "its kernel is not in the TFTP tree",
                              .repair = extract_again,
                              .ctx = v};
    return fsck_report(v->fsck, &x, e);
}

/* ---- all versions of an image --------------------------------------------------------------------------------------------- */

/* Those that passed so far: `rows` of the same order. */
static int verify_rows(struct fsck *f, const struct image *image, const struct version_row **rows,
                       size_t count, bool data, bool *bad, struct err *e)
{
    cleanup(free) struct verify_result *results = calloc(count + 1, sizeof *results);
    const struct verify_options o = {.index_only = !data};
    if (!results)
        return err_sys(e, ENOMEM, "check");
    for (size_t i = 0; i < count; i++)
        results[i].version = rows[i]->version;
    if (store_verify(f->store, &image->uuid, &o, results, count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        struct version_check v = {.fsck = f, .image = image, .row = rows[i]};
        bad[i] = results[i].damaged;
        if (bad[i] && report_damage(&v, data ? "version-data" : "version-index", results[i].why, e) < 0)
            return -1;
    }
    return 0;
}

/* The data of those whose index is whole. */
static int verify_all(struct fsck *f, const struct image *image, const struct version_row **rows,
                      size_t count, struct err *e)
{
    size_t good = 0;
    cleanup(free) bool *bad = calloc(count + 1, sizeof *bad);
    if (!bad)
        return err_sys(e, ENOMEM, "check");
    if (verify_rows(f, image, rows, count, false, bad, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (!bad[i])
            rows[good++] = rows[i];
    return f->data ? verify_rows(f, image, rows, good, true, bad, e) : 0;
}

static int check_image(struct fsck *f, const struct image *image, struct err *e)
{
    cleanup(free) struct version_row *files = NULL;
    size_t count, good = 0;
    if (version_rows(f->c->catalog, &image->uuid, &files, &count, e) < 0)
        return -1;
    cleanup(free) const struct version_row **rows = calloc(count + 1, sizeof *rows);
    if (!rows)
        return err_sys(e, ENOMEM, "check");
    for (size_t i = 0; i < count; i++) {
        struct version_check v = {.fsck = f, .image = image, .row = &files[i]};
        int r = check_footer(&v, e);
        if (r > 0)
            r = check_layers(&v, e);
        if (r < 0 || check_kernel(&v, e) < 0)
            return -1;
        if (r > 0)
            rows[good++] = &files[i];
    }
    return verify_all(f, image, rows, good, e);
}

int fsck_versions(struct fsck *f, struct err *e)
{
    cleanup(free) struct image *images = NULL;
    size_t count;
    if (images_all(f->c->catalog, &images, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (check_image(f, &images[i], e) < 0)
            return err_wrap(e, "image %s", images[i].name);
    return 0;
}

/* ---- overlays -------------------------------------------------------------------------------------------------------------- */

struct overlay_check {
    struct fsck *fsck;
    const struct boot *boot;
    const char *dir;
};

static int report_overlay(struct fsck *f, const char *code, const char *object, const char *text,
                          struct err *e)
{
    return fsck_report(f, &(struct finding){.code = code, .object = object, .text = text}, e);
}

/* A folder without `meta` is no overlay yet, or not any more. */
static int see_disk(void *ctx, const char *name, struct err *e)
{
    const struct overlay_check *o = ctx;
    struct overlay_meta meta;
    struct err why;
    uint64_t n;
    cleanup(free) char *dir = path_format("%s/%s", o->dir, name);
    if (parse_number(name, 0, SETUP_IMAGES_MAX - 1, &n, &why) < 0)
        return 0;
    if (overlay_read_meta(dir, &meta, &why) < 0)
        return why.code == ERR_NOT_FOUND ? 0 : report_overlay(o->fsck, "overlay-damaged", dir, why.msg, e);
    if (n >= o->boot->nimages || !uuid_equal(&meta.image, &o->boot->images[n].image) ||
        meta.base_version != o->boot->images[n].version)
        return report_overlay(o->fsck, "overlay-mismatch", dir,
                              "it is of another version than its boot has there", e);
    return 0;
}

static int see_overlays(void *ctx, const char *name, struct err *e)
{
    struct fsck *f = ctx;
    uint64_t id;
    bool newer;
    struct boot b;
    struct err no_id;
    if (parse_number(name, 1, INT64_MAX, &id, &no_id) < 0)
        return 0;
    cleanup(free) char *dir = path_format("%s/%s", f->c->conf.server.overlays_dir, name);
    int known = boot_is_known(f->c->catalog, (int64_t)id, &newer, e);
    if (known < 0)
        return -1;
    if (!known)
        return newer ? report_overlay(f, "overlay-unknown", dir,
                                      "the catalog never had such a boot: was an older catalog restored?", e)
                     : 0;
    if (boot_get(f->c->catalog, (int64_t)id, &b, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    if (b.state == BOOT_QUEUED && !b.resumed)
        return report_overlay(f, "overlay-unexpected", dir,
                              "its boot is queued; it goes when the server is started again", e);
    struct overlay_check o = {.fsck = f, .boot = &b, .dir = dir};
    bool over = b.state != BOOT_QUEUED && b.state != BOOT_LEASED && b.state != BOOT_RUNNING &&
                b.state != BOOT_COMMITTING && b.state != BOOT_INTERRUPTED;
    return over ? 0 : each_entry(dir, see_disk, &o, e);
}

static int check_interrupted(struct fsck *f, struct err *e)
{
    cleanup(free) struct boot *boots = NULL;
    size_t count;
    if (boots_in_state(f->c->catalog, BOOT_INTERRUPTED, &boots, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cleanup(free) char *dir = path_format("%s/%" PRId64, f->c->conf.server.overlays_dir, boots[i].id);
        cleanup(free) char *object = path_format("boot %" PRId64, boots[i].id);
        cleanup(free) char *text = path_format(
            "it is interrupted, but what it wrote is not there; try: labboot boot end %" PRId64 " --discard",
            boots[i].id);
        if (!path_exists(dir) && report_overlay(f, "overlay-missing", object, text, e) < 0)
            return -1;
    }
    return 0;
}

int fsck_overlays(struct fsck *f, struct err *e)
{
    if (each_entry(f->c->conf.server.overlays_dir, see_overlays, f, e) < 0)
        return -1;
    return check_interrupted(f, e);
}
