/* SPDX-License-Identifier: BSD-3-Clause */

/* An image at a time, under its lock: nothing is published or retired meanwhile. The candidates are the layers without a
 * version; each file of a version, and each candidate that somebody has open or an overlay is based on, keeps those that
 * its table names. A table names all ancestors, so one step is enough. A candidate that is to go is locked before: who
 * opened it in between and waits for the lock sees that it has no name any more, and looks again. */
#include "lib/store/gc.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/base/parse.h"
#include "lib/store/hot.h"
#include "lib/store/internal.h"
#include "lib/store/overlay.h"
#include "lib/store/punch.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

/* ---- overlays that are there: what they are based on is needed, and what was made of them may be to be finished ---- */

struct overlay_list {
    struct overlay_meta *metas;
    size_t count;
};

static inline void cleanup_overlay_list(struct overlay_list *l)
{
    free(l->metas);
}

struct overlay_walk {
    struct overlay_list *list;
    const char *dir; /* of all overlays, or of a boot's */
};

static int add_overlay(void *ctx, const char *name, struct err *e)
{
    struct overlay_walk *w = ctx;
    struct overlay_meta meta;
    struct err unreadable;
    cleanup(free) char *dir = path_format("%s/%s", w->dir, name);
    if (overlay_read_meta(dir, &meta, &unreadable) < 0)
        return 0;
    struct overlay_meta *longer = reallocarray(w->list->metas, w->list->count + 1, sizeof *longer);
    if (!longer)
        return err_sys(e, ENOMEM, "%s", dir);
    w->list->metas = longer;
    longer[w->list->count++] = meta;
    return 0;
}

/* A boot's folder with a folder a disk, or an overlay that outlives its boots. */
static int add_overlays(void *ctx, const char *name, struct err *e)
{
    const struct overlay_walk *w = ctx;
    struct stat st;
    cleanup(free) char *dir = path_format("%s/%s", w->dir, name);
    struct overlay_walk boot = {.list = w->list, .dir = dir};
    if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return 0;
    return add_overlay(ctx, name, e) < 0 ? -1 : each_entry(dir, add_overlay, &boot, e);
}

/* ---- one image ------------------------------------------------------------------------------------------------------ */

struct candidate {
    struct uuid layer;
    uint64_t version; /* of a stray one; 0: it lies in retired/ */
    char *path;
    bool needed;
    bool read; /* as a version: somebody has it open, or an overlay is based on it */
};

struct image_gc {
    struct store *store;
    const struct gc_catalog *catalog;
    const struct rubbish_sink *sink;
    const struct overlay_list *overlays;
    const struct uuid *image;
    char *dir;
    struct candidate *candidates;
    size_t count;
    uint64_t *roots; /* versions whose files are here, and such as are to be finished */
    size_t nroots;
    struct gc_version *versions; /* of the catalog */
    size_t nversions, present;   /* present: those whose file is here */
    bool unsure;                 /* there is a file that may need any of them */
};

static inline void cleanup_image_gc(struct image_gc *g)
{
    for (size_t i = 0; i < g->count; i++)
        free(g->candidates[i].path);
    free(g->versions);
    free(g->candidates);
    free(g->roots);
    free(g->dir);
}

static int open_quietly(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* Whether nobody else holds it. The lock is ours until fd is closed. */
static bool take_alone(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static bool is_in_use(const char *path)
{
    cleanup(close) int fd = open_quietly(path);
    return fd >= 0 && !take_alone(fd);
}

#define YOUNG 60 /* seconds */

/* What is empty may be somebody's who is about to begin, and has no lock yet. */
static bool is_young(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && time(NULL) - st.st_mtime < YOUNG;
}

static int add_candidate(struct image_gc *g, const struct candidate *c, struct err *e)
{
    struct candidate *longer = reallocarray(g->candidates, g->count + 1, sizeof *longer);
    if (!longer)
        return err_sys(e, ENOMEM, "%s", g->dir);
    g->candidates = longer;
    longer[g->count] = *c;
    longer[g->count].path = path_format("%s", c->path);
    g->count++;
    return 0;
}

static int add_root(struct image_gc *g, uint64_t version, struct err *e)
{
    uint64_t *longer = reallocarray(g->roots, g->nroots + 1, sizeof *longer);
    if (!longer)
        return err_sys(e, ENOMEM, "%s", g->dir);
    g->roots = longer;
    longer[g->nroots++] = version;
    return 0;
}

static int read_footer_of(const char *path, struct footer *ret)
{
    struct hash h;
    struct err e;
    cleanup(close) int fd = open_quietly(path);
    return fd < 0 ? -1 : layer_read_footer(fd, ret, &h, &e);
}

/* Of an overlay that is still there: its boot is finished, or committed again, with this very layer. */
static bool is_to_be_finished(const struct image_gc *g, const struct footer *f)
{
    for (size_t i = 0; i < g->overlays->count; i++)
        if (!uuid_is_zero(&f->overlay) && uuid_equal(&g->overlays->metas[i].overlay, &f->overlay))
            return true;
    return false;
}

static const struct gc_version *find_version(const struct image_gc *g, uint64_t version)
{
    for (size_t i = 0; i < g->nversions; i++)
        if (g->versions[i].version == version)
            return &g->versions[i];
    return NULL;
}

static int see_version_file(void *ctx, const char *name, struct err *e)
{
    struct image_gc *g = ctx;
    struct footer f;
    uint64_t version;
    if (!store_parse_version_name(name, &version))
        return 0;
    cleanup(free) char *path = path_format("%s/%s", g->dir, name);
    const struct gc_version *known = find_version(g, version);
    bool readable = read_footer_of(path, &f) == 0;
    g->present += known && readable && uuid_equal(&f.layer, &known->layer);
    if (known || !readable || is_to_be_finished(g, &f))
        return add_root(g, version, e);
    return add_candidate(g, &(struct candidate){.layer = f.layer, .version = version, .path = path}, e);
}

static int see_retired(void *ctx, const char *name, struct err *e)
{
    struct image_gc *g = ctx;
    struct candidate c = {0};
    if (!store_parse_layer_name(name, &c.layer))
        return 0;
    cleanup(free) char *path = path_format("%s/retired/%s", g->dir, name);
    c.path = path;
    return add_candidate(g, &c, e);
}

/* Keeps the candidates that the file names. */
static int keep_named(struct image_gc *g, const char *path, struct err *e)
{
    struct footer f;
    struct hash h;
    struct err unreadable;
    cleanup(close) int fd = open_quietly(path);
    if (fd < 0 || layer_read_footer(fd, &f, &h, &unreadable) < 0) {
        g->unsure = true;
        return 0;
    }
    cleanup(free) uint8_t *table = malloc(f.table_length + 1);
    if (!table)
        return err_sys(e, ENOMEM, "%s", path);
    if (full_pread(fd, table, f.table_length, f.table_offset, &unreadable) < 0) {
        g->unsure = true;
        return 0;
    }
    hash_of(table, f.table_length, &h);
    g->unsure |= !hash_equal(&h, &f.table_hash);
    for (uint64_t at = 0; at < f.table_length; at += TABLE_ENTRY_SIZE) {
        struct table_entry t;
        table_entry_decode(table + at, &t);
        for (size_t i = 0; i < g->count; i++)
            g->candidates[i].needed |= uuid_equal(&g->candidates[i].layer, &t.layer);
    }
    return 0;
}

static bool is_a_base(const struct image_gc *g, const struct uuid *layer)
{
    for (size_t i = 0; i < g->overlays->count; i++)
        if (uuid_equal(&g->overlays->metas[i].base_layer, layer))
            return true;
    return false;
}

static int mark(struct image_gc *g, struct err *e)
{
    g->unsure = g->present < g->nversions;
    for (size_t i = 0; i < g->nroots; i++) {
        cleanup(free) char *path = path_format("%s/%" PRIu64 ".img", g->dir, g->roots[i]);
        if (keep_named(g, path, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < g->count; i++) {
        struct candidate *c = &g->candidates[i];
        if (!is_in_use(c->path) && !is_a_base(g, &c->layer))
            continue;
        c->needed = c->read = true;
        if (keep_named(g, c->path, e) < 0)
            return -1;
    }
    return 0;
}

static int remove_candidate(struct image_gc *g, const struct candidate *c, struct err *e)
{
    cleanup(close) int fd = open_quietly(c->path);
    if (fd < 0 || !take_alone(fd))
        return 0;
    const struct rubbish r = {
        .code = c->version ? "stray-layer" : "retired-layer",
        .object = c->path,
        .bytes = tree_bytes(c->path),
        .text = c->version ? "the catalog has no such version" : "no version needs this layer any more",
    };
    int answer = g->sink->found(g->sink->ctx, &r, e);
    if (answer > 0 && unlink(c->path) < 0)
        return err_sys(e, errno, "%s", c->path);
    return answer < 0 ? -1 : 0;
}

static int move_stray(struct image_gc *g, struct candidate *c, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    const struct rubbish r = {.code = "stray-layer",
                              .object = c->path,
                              .text = "the catalog has no such version, but others need its layer"};
    int answer = g->sink->found(g->sink->ctx, &r, e);
    if (answer <= 0 || store_move_to_retired(c->path, g->dir, &c->layer, e) < 0)
        return answer <= 0 ? answer : -1;
    free(c->path);
    c->path = path_format("%s/retired/%s.img", g->dir, uuid_to_text(&c->layer, text));
    return 0;
}

static int sweep(struct image_gc *g, struct err *e)
{
    for (size_t i = 0; i < g->count && !g->unsure; i++) {
        struct candidate *c = &g->candidates[i];
        int r = !c->needed ? remove_candidate(g, c, e) : c->version ? move_stray(g, c, e) : 0;
        if (r < 0)
            return -1;
    }
    return g->count > 0 ? fsync_dir(g->dir, e) : 0;
}

/* ---- what is needed in part ---------------------------------------------------------------------------------------- */

DEFINE_CLEANUP(view, struct view, view_close);
DEFINE_CLEANUP(punch, struct punch, punch_free);

static int keep_parts(struct image_gc *g, struct punch *p, struct err *e)
{
    for (size_t i = 0; i < g->nroots; i++) {
        cleanup(view) struct view *v = NULL;
        if (view_open(g->store, g->image, g->roots[i], &v, e) < 0 || punch_keep(p, v, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < g->count; i++) {
        const struct candidate *c = &g->candidates[i];
        cleanup(view) struct view *v = NULL;
        if (c->read && ((c->version ? view_open(g->store, g->image, c->version, &v, e)
                                    : view_open_retired(g->store, g->image, &c->layer, &v, e)) < 0 ||
                        punch_keep(p, v, e) < 0))
            return -1;
    }
    return 0;
}

static int add_parts(struct image_gc *g, struct punch *p, bool *ret_any, struct err *e)
{
    *ret_any = false;
    for (size_t i = 0; i < g->count; i++) {
        const struct candidate *c = &g->candidates[i];
        if (!c->needed || c->read)
            continue;
        if (punch_add(p, c->path, e) < 0)
            return -1;
        *ret_any = true;
    }
    return 0;
}

/* Where an index cannot be read, all stays. */
static int sweep_parts(struct image_gc *g, struct err *e)
{
    cleanup(punch) struct punch *p = NULL;
    struct err why;
    bool any;
    if (g->unsure)
        return 0;
    if (punch_new(&p, e) < 0 || add_parts(g, p, &any, e) < 0)
        return -1;
    if (!any)
        return 0;
    if (keep_parts(g, p, &why) < 0) {
        log_info("%s: %s", g->dir, why.msg);
        return 0;
    }
    return punch_run(p, g->sink, e);
}

/* ---- one image, all of it ------------------------------------------------------------------------------------------ */

static int sweep_tmp(void *ctx, const char *name, struct err *e)
{
    struct image_gc *g = ctx;
    cleanup(free) char *path = path_format("%s/tmp/%s", g->dir, name);
    struct stat st;
    cleanup(close) int fd = open_quietly(path);
    if (fd < 0 || !take_alone(fd) || fstat(fd, &st) < 0 || st.st_nlink == 0 ||
        (st.st_size == 0 && is_young(path)))
        return 0;
    const struct rubbish r = {.code = "dead-tmp",
                              .object = path,
                              .bytes = tree_bytes(path),
                              .text = "who wrote it did not come to an end"};
    int answer = g->sink->found(g->sink->ctx, &r, e);
    if (answer > 0 && unlink(path) < 0)
        return err_sys(e, errno, "%s", path);
    return answer < 0 ? -1 : 0;
}

/* What a crash between a version and its list has left. */
static int sweep_hot(void *ctx, const char *name, struct err *e)
{
    struct image_gc *g = ctx;
    uint64_t version;
    if (!hot_parse_name(name, &version) || find_version(g, version))
        return 0;
    cleanup(free) char *path = path_format("%s/%s", g->dir, name);
    const struct rubbish r = {.code = "stray-hot",
                              .object = path,
                              .bytes = tree_bytes(path),
                              .text = "the catalog has no such version"};
    int answer = g->sink->found(g->sink->ctx, &r, e);
    if (answer > 0 && unlink(path) < 0)
        return err_sys(e, errno, "%s", path);
    return answer < 0 ? -1 : 0;
}

static int gc_layers(struct image_gc *g, struct err *e)
{
    cleanup(free) char *retired = path_format("%s/retired", g->dir);
    cleanup(free) char *tmp = path_format("%s/tmp", g->dir);
    if (g->catalog->versions(g->catalog->ctx, g->image, &g->versions, &g->nversions, e) < 0 ||
        each_entry(tmp, sweep_tmp, g, e) < 0 || each_entry(g->dir, sweep_hot, g, e) < 0 ||
        each_entry(g->dir, see_version_file, g, e) < 0 || each_entry(retired, see_retired, g, e) < 0 ||
        mark(g, e) < 0)
        return -1;
    return sweep(g, e) < 0 ? -1 : sweep_parts(g, e);
}

/* ---- a folder without an image ------------------------------------------------------------------------------------- */

struct folder {
    const char *dir;
    bool remove;   /* or only look whether somebody uses a file of it */
    size_t *files; /* counts them */
};

static bool is_own_folder(const char *name)
{
    return strcmp(name, "tmp") == 0 || strcmp(name, "retired") == 0;
}

/* 1: somebody has it. A new import's files may come at any time until the folder itself is gone: each file is removed
 * under its own lock, and the folders only when they are empty. */
static int visit_file(void *ctx, const char *name, struct err *e)
{
    const struct folder *f = ctx;
    cleanup(free) char *path = path_format("%s/%s", f->dir, name);
    if (strcmp(name, "lock") == 0)
        return 0;
    if (is_own_folder(name)) {
        struct folder inner = {.dir = path, .remove = f->remove, .files = f->files};
        int r = each_entry(path, visit_file, &inner, e);
        if (r == 0 && f->remove && rmdir(path) < 0)
            return 1;
        return r;
    }
    ++*f->files;
    cleanup(close) int fd = open_quietly(path);
    if (fd < 0 || !take_alone(fd))
        return 1;
    return f->remove && unlink(path) < 0 ? err_sys(e, errno, "%s", path) : 0;
}

static int remove_folder(const char *dir, struct err *e)
{
    size_t files = 0;
    struct folder f = {.dir = dir, .remove = true, .files = &files};
    cleanup(free) char *lock = path_format("%s/lock", dir);
    int r = each_entry(dir, visit_file, &f, e);
    if (r != 0)
        return r < 0 ? -1 : 0;
    if (unlink(lock) < 0 && errno != ENOENT)
        return err_sys(e, errno, "%s", lock);
    if (rmdir(dir) < 0 && errno != ENOTEMPTY && errno != EEXIST)
        return err_sys(e, errno, "%s", dir);
    return 0;
}

static bool has_to_be_finished(struct image_gc *g)
{
    for (size_t i = 0; i < g->overlays->count; i++)
        if (uuid_equal(&g->overlays->metas[i].image, g->image))
            return true;
    return false;
}

static int gc_stray_image(struct image_gc *g, struct err *e)
{
    size_t files = 0;
    struct folder look = {.dir = g->dir, .files = &files};
    if (has_to_be_finished(g))
        return 0;
    int r = each_entry(g->dir, visit_file, &look, e);
    if (r != 0 || (files == 0 && is_young(g->dir)))
        return r < 0 ? -1 : 0;
    const struct rubbish found = {.code = "stray-image",
                                  .object = g->dir,
                                  .bytes = tree_bytes(g->dir),
                                  .text = "the catalog has no such image"};
    int answer = g->sink->found(g->sink->ctx, &found, e);
    return answer > 0 ? remove_folder(g->dir, e) : answer;
}

/* ---- all ----------------------------------------------------------------------------------------------------------------- */

struct images_walk {
    struct store *store;
    const struct gc_catalog *catalog;
    const struct rubbish_sink *sink;
    struct overlay_list overlays;
};

static int gc_image(void *ctx, const char *name, struct err *e)
{
    const struct images_walk *w = ctx;
    struct uuid image;
    struct err no_image;
    if (uuid_from_text(name, &image, &no_image) < 0)
        return 0;
    cleanup(close) int lock = -1;
    if (store_lock_image(w->store, &image, &lock, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    cleanup(image_gc) struct image_gc g = {.store = w->store,
                                           .catalog = w->catalog,
                                           .sink = w->sink,
                                           .overlays = &w->overlays,
                                           .image = &image,
                                           .dir = store_image_dir(w->store, &image)};
    int known = w->catalog->has_image(w->catalog->ctx, &image, e);
    if (known < 0)
        return -1;
    return known ? gc_layers(&g, e) : gc_stray_image(&g, e);
}

int gc_images(struct store *s, const char *overlays_dir, const struct gc_catalog *c,
              const struct rubbish_sink *sink, struct err *e)
{
    cleanup(overlay_list) struct overlay_list overlays = {0};
    struct overlay_walk all = {.list = &overlays, .dir = overlays_dir};
    if (each_entry(overlays_dir, add_overlays, &all, e) < 0)
        return -1;
    struct images_walk w = {.store = s, .catalog = c, .sink = sink, .overlays = overlays};
    return each_entry(s->images_dir, gc_image, &w, e);
}
