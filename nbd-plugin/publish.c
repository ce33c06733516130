/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/publish.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/store/clean.h"
#include "lib/store/commit.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

/* Who ended a boot before may be about to close its overlays: two seconds are enough. */
#define OPEN_TRIES 40
#define OPEN_PAUSE_NS 50000000L

/* One kept disk of a boot on its way to a version. */
struct part {
    const struct boot_image *image;
    size_t disk; /* its place in the boot */
    struct view *base;
    struct overlay *overlay;
    bool opened;         /* the overlay is ours to close */
    struct build *build; /* written, not yet a version */
    int lock;            /* of the image, from the choice of the version to the catalog row */
    struct version_new version;
    char release[PUBLISH_RELEASE_SIZE];
};

struct parts {
    size_t count;
    struct part part[SETUP_IMAGES_MAX];
};

static void parts_release(struct parts *ps)
{
    for (size_t i = 0; i < ps->count; i++) {
        struct part *part = &ps->part[i];
        build_free(part->build);
        if (part->lock >= 0)
            close(part->lock);
        if (part->opened)
            overlay_close(part->overlay);
        view_close(part->base);
    }
}

static inline void cleanup_parts(struct parts *ps)
{
    parts_release(ps);
}

int publish_open_overlay(const struct conf *conf, const char *dir, struct overlay **ret, struct err *e)
{
    struct overlay_limits limits = {.quota = conf->overlay.quota, .reserve = conf->store.reserve};
    for (unsigned tries = OPEN_TRIES;; tries--) {
        if (overlay_open(dir, &limits, ret, e) == 0 || e->code == ERR_NOT_FOUND)
            return 0;
        if (e->sys != EBUSY || tries == 0)
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = OPEN_PAUSE_NS}, NULL);
    }
}

static int part_open(struct publisher *p, const struct boot *b, struct overlay *given, struct part *part,
                     struct err *e)
{
    if (view_open(p->store, &part->image->image, part->image->version, &part->base, e) < 0)
        return -1;
    part->overlay = given;
    if (!given) {
        cleanup(free) char *dir = conf_overlay_dir(p->conf, b->id, part->disk);
        if (publish_open_overlay(p->conf, dir, &part->overlay, e) < 0)
            return -1;
        part->opened = part->overlay != NULL;
    }
    if (!part->overlay)
        return 0;
    if (overlay_seal(part->overlay, e) < 0)
        return -1;
    uint64_t size = overlay_meta(part->overlay)->size;
    if (overlay_next_dirty(part->overlay, 0) == size) {
        if (part->opened)
            overlay_close(part->overlay);
        part->overlay = NULL;
    }
    return 0;
}

/* Only those that were written to: the others publish nothing. */
static int parts_open(struct publisher *p, const struct boot *b, struct overlay *const *overlays,
                      struct parts *ps, struct err *e)
{
    for (size_t i = 0; i < b->nimages; i++) {
        if (!b->images[i].keep)
            continue;
        struct part *part = &ps->part[ps->count++];
        *part = (struct part){.image = &b->images[i], .disk = i, .lock = -1};
        if (part_open(p, b, overlays ? overlays[i] : NULL, part, e) < 0)
            return err_wrap(e, "image %s", b->images[i].name);
        if (!part->overlay) {
            view_close(part->base);
            ps->count--;
        }
    }
    return 0;
}

static int check_disk(struct overlay *overlay, struct view *base, struct clean_report *ret, struct err *e)
{
    struct overlay_disk d = {.overlay = overlay, .base = view_reader(base)};
    struct reader disk = overlay_disk_reader(&d);
    return clean_check(&disk, &d.base, ret, e);
}

/* Nothing is inferred from a disk that cannot be judged: only `done` or an admin's word publishes it. */
static int part_check_clean(struct part *part, enum boot_ending ending, struct clean_report *ret,
                            bool *ret_clean, struct err *e)
{
    if (check_disk(part->overlay, part->base, ret, e) < 0)
        return err_wrap(e, "image %s", part->image->name);
    *ret_clean = ret->state == CLEAN_YES || (ret->state == CLEAN_UNKNOWN && ending == ENDING_DONE);
    return 0;
}

static void version_from_footer(struct part *part, const struct footer *f)
{
    struct version_new *v = &part->version;
    v->image = f->image;
    v->version = f->version;
    v->parent = f->parent_version;
    v->layer = f->layer;
    v->virtual_size = f->virtual_size;
    v->stored_size = f->file_length;
    memcpy(v->checksum, f->checksum, CHECKSUM_SIZE);
}

/* A publish that was cut off after its rename: the layer that names this overlay is taken as it is. */
static int part_find_published(struct publisher *p, struct part *part, struct err *e)
{
    uint64_t version;
    const struct uuid *image = &part->image->image;
    if (store_find_by_overlay(p->store, image, &overlay_meta(part->overlay)->overlay, &version, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    struct view *v;
    if (view_open(p->store, image, version, &v, e) < 0)
        return -1;
    version_from_footer(part, view_footer(v));
    view_close(v);
    return 0;
}

static bool part_is_published(const struct part *part)
{
    return part->version.version != 0;
}

static bool is_stopping(const struct publisher *p)
{
    return p->stopping && *p->stopping;
}

static bool goes_on(void *ctx, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return !is_stopping(ctx);
}

static int part_build(struct publisher *p, struct part *part, struct err *e)
{
    if (part_is_published(part))
        return 0;
    struct compression how = compression_of(part->image->compression, p->conf->store.zstd_level);
    const struct progress progress = {.report = goes_on, .ctx = p};
    struct build_result result;
    if (commit_overlay(p->store, part->overlay, part->base, how, &progress, &part->build, &result, e) < 0)
        return -1;
    struct version_new *v = &part->version;
    v->image = part->image->image;
    v->parent = part->image->version;
    v->layer = result.layer;
    v->virtual_size = result.virtual_size;
    v->stored_size = result.file_length;
    memcpy(v->checksum, result.checksum, CHECKSUM_SIZE);
    return 0;
}

/* Locks are taken in the order of the images' uuids, so that two boots with the same images cannot wait for
 * each other. */
static int parts_lock(struct publisher *p, struct parts *ps, struct err *e)
{
    for (;;) {
        struct part *next = NULL;
        for (size_t i = 0; i < ps->count; i++) {
            struct part *part = &ps->part[i];
            if (part->lock < 0 && part->build &&
                (!next || memcmp(&part->image->image, &next->image->image, sizeof(struct uuid)) < 0))
                next = part;
        }
        if (!next)
            return 0;
        if (store_lock_image(p->store, &next->image->image, &next->lock, e) < 0)
            return -1;
    }
}

static int part_rename(struct publisher *p, struct part *part, struct err *e)
{
    uint64_t highest, version;
    const struct uuid *image = &part->image->image;
    if (store_highest_version(p->store, image, &highest, e) < 0 ||
        guarded(p->guard, version_choose, image, highest + 1, &version, e) < 0 ||
        build_publish(part->build, version, e) < 0)
        return -1;
    part->version.version = version;
    return 0;
}

/* A disk without a kernel is a version like any other; only booting from it will say so. */
static int part_extract_kernel(struct publisher *p, struct part *part, struct err *e)
{
    if (p->hooks.kernel(p->conf, &part->version.image, part->version.version, part->release, e) == 0) {
        part->version.kernel = part->release;
        return 0;
    }
    if (e->code != ERR_NOT_FOUND)
        return -1;
    log_info("image %s@%" PRIu64 ": %s", part->image->name, part->version.version, e->msg);
    return 0;
}

/* A machine that comes back must not find a disk without what it wrote there. */
static int check_scratch(struct publisher *p, const struct boot *b, struct err *e)
{
    char why[TEXT_SIZE];
    for (size_t n = 0; n < b->nimages && b->ending == ENDING_AWAY; n++) {
        cleanup(free) char *dir = conf_overlay_dir(p->conf, b->id, n);
        if (b->images[n].keep || !path_exists(dir))
            continue;
        snprintf(why, sizeof why, "what it wrote to image %s is not kept", b->images[n].name);
        return guarded(p->guard, boot_no_return, b->id, why, e);
    }
    return 0;
}

static int parts_publish(struct publisher *p, int64_t boot, struct parts *ps, enum boot_state *ret,
                         struct err *e)
{
    struct version_new versions[SETUP_IMAGES_MAX];
    size_t count = 0;
    if (parts_lock(p, ps, e) < 0)
        return -1;
    for (size_t i = 0; i < ps->count; i++) {
        struct part *part = &ps->part[i];
        if ((!part_is_published(part) && part_rename(p, part, e) < 0) || part_extract_kernel(p, part, e) < 0)
            return err_wrap(e, "image %s", part->image->name);
        versions[count++] = part->version;
    }
    return guarded(p->guard, boot_publish, boot, versions, count, ret, e);
}

/* All of them before any is built: what is kept of a boot is kept whole. Not clean: *e says which and why. */
static int parts_check(struct publisher *p, struct parts *ps, enum boot_ending ending, bool *ret_clean,
                       struct err *e)
{
    bool clean = true;
    for (size_t i = 0; i < ps->count && clean; i++) {
        struct part *part = &ps->part[i];
        struct clean_report report;
        if (part_find_published(p, part, e) < 0)
            return err_wrap(e, "image %s", part->image->name);
        if (ending == ENDING_COMMIT || part_is_published(part))
            continue;
        if (part_check_clean(part, ending, &report, &clean, e) < 0)
            return -1;
        if (!clean)
            err_set(e, ERR_STATE, "image %s: not clean: %s", part->image->name, report.why);
    }
    *ret_clean = clean;
    return 0;
}

static int parts_build(struct publisher *p, struct parts *ps, struct err *e)
{
    for (size_t i = 0; i < ps->count; i++)
        if (part_build(p, &ps->part[i], e) < 0)
            return err_wrap(e, "image %s", ps->part[i].image->name);
    return 0;
}

/* *ret BOOT_INTERRUPTED: not clean, and *e says which and why; the catalog does not know yet. */
static int commit_boot(struct publisher *p, const struct boot *b, struct overlay *const *overlays,
                       enum boot_state *ret, struct err *e)
{
    cleanup(parts) struct parts ps = {0};
    if (parts_open(p, b, overlays, &ps, e) < 0)
        return -1;
    if (ps.count == 0) {
        *ret = BOOT_DISCARDED;
        return guarded(p->guard, boot_end, "server", b->id, BOOT_DISCARDED, "nothing was written", e);
    }
    bool clean;
    if (parts_check(p, &ps, b->ending, &clean, e) < 0)
        return -1;
    if (!clean && b->ending == ENDING_ABANDON) {
        *ret = BOOT_DISCARDED;
        return guarded(p->guard, boot_end, "server", b->id, BOOT_DISCARDED, e->msg, e);
    }
    if (!clean) {
        *ret = BOOT_INTERRUPTED;
        return 0;
    }
    if (parts_build(p, &ps, e) < 0 || check_scratch(p, b, e) < 0)
        return -1;
    return parts_publish(p, b->id, &ps, ret, e);
}

int publish_remove_overlays(struct publisher *p, int64_t boot, struct err *e)
{
    if (p->hooks.remove_kernel(p->conf, boot, e) < 0)
        return -1;
    cleanup(free) char *dir = path_format("%s/%" PRId64, p->conf->server.overlays_dir, boot);
    return remove_tree(dir, e);
}

/* What the kept overlays hold is about the most that their versions take; and more than has just not been enough. */
static uint64_t space_wanted(const struct publisher *p, const struct boot *b)
{
    uint64_t held = 0;
    for (size_t i = 0; i < b->nimages; i++) {
        cleanup(free) char *dir = conf_overlay_dir(p->conf, b->id, i);
        held += b->images[i].keep ? tree_bytes(dir) : 0;
    }
    return max_u64(held, free_bytes(p->conf->server.images_dir) + PUBLISH_SPACE_GROWTH);
}

/* For the reason in *e. `failed`: its commit did; else it is not clean. */
static int interrupt(struct publisher *p, const struct boot *b, bool failed, struct err *e)
{
    int r = 0;
    struct err why;
    char wanted[SIZE_TEXT_SIZE];
    bool no_space = failed && (e->sys == ENOSPC || e->sys == EDQUOT);
    if (failed && b->ending == ENDING_AWAY) /* what a commit has begun is for another commit */
        r = guarded(p->guard, boot_no_return, b->id, "its commit failed", &why);
    if (r == 0 && no_space) {
        uint64_t bytes = space_wanted(p, b);
        (void)err_wrap(e, "tried again by itself when %s are free", format_size(bytes, wanted));
        r = guarded(p->guard, boot_want_space, b->id, bytes, e->msg, &why);
    } else if (r == 0) {
        r = guarded(p->guard, boot_end, "server", b->id, BOOT_INTERRUPTED, e->msg, &why);
    }
    if (r < 0)
        log_error("boot %" PRId64 ": %s", b->id, why.msg);
    return err_wrap(e, "boot %" PRId64 " of %s is interrupted", b->id, b->machine_name);
}

int publish_finish(struct publisher *p, int64_t boot, struct overlay *const *overlays, struct boot *ret,
                   struct err *e)
{
    struct boot b;
    if (guarded(p->guard, boot_get, boot, &b, e) < 0)
        return -1;
    if (b.state == BOOT_COMMITTING) {
        enum boot_state state;
        int r = commit_boot(p, &b, overlays, &state, e);
        if (r < 0 || state == BOOT_INTERRUPTED) {
            if (is_stopping(p))
                return err_wrap(e, "boot %" PRId64 " of %s is committed when a server runs again", boot,
                                b.machine_name);
            return interrupt(p, &b, r < 0, e);
        }
    }
    if (publish_remove_overlays(p, boot, e) < 0)
        return -1;
    return guarded(p->guard, boot_get, boot, ret, e);
}

static bool needs_no_overlay(const struct boot *b)
{
    enum boot_state s = b->state;
    return (s == BOOT_QUEUED && !b->resumed) || s == BOOT_COMMITTED || s == BOOT_BRANCHED ||
           s == BOOT_DISCARDED || s == BOOT_CANCELLED;
}

/* A drop that was cut off between its row and its folder. */
static int remove_left_temporal(struct publisher *p, const char *name, struct err *e)
{
    static const char prefix[] = "temporal-";
    uint64_t id;
    struct err ignored;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0 ||
        parse_number(name + sizeof prefix - 1, 1, INT64_MAX, &id, &ignored) < 0 ||
        !guarded(p->guard, temporal_is_gone, (int64_t)id))
        return 0;
    cleanup(free) char *dir = conf_temporal_dir(p->conf, (int64_t)id);
    return overlay_remove(dir, e);
}

/* Unknown folders are kept: what this catalog does not know may be another's only copy. */
static int remove_left_overlays(struct publisher *p, struct err *e)
{
    cleanup(closedir) DIR *d = opendir(p->conf->server.overlays_dir);
    if (!d)
        return err_sys(e, errno, "%s", p->conf->server.overlays_dir);
    const struct dirent *entry;
    while ((entry = readdir(d))) {
        uint64_t id;
        struct boot b;
        struct err why;
        if (remove_left_temporal(p, entry->d_name, e) < 0)
            return -1;
        if (parse_number(entry->d_name, 1, INT64_MAX, &id, &why) < 0)
            continue;
        if (guarded(p->guard, boot_get, (int64_t)id, &b, &why) < 0)
            log_warning("overlay of boot %" PRIu64 ": %s; it is kept", id, why.msg);
        else if (needs_no_overlay(&b) && publish_remove_overlays(p, b.id, e) < 0)
            return -1;
    }
    return 0;
}

int publish_recover(struct publisher *p, void (*finish)(void *ctx, int64_t boot), void *ctx, struct err *e)
{
    if (remove_left_overlays(p, e) < 0)
        return -1;
    cleanup(free) struct boot *boots = NULL;
    size_t count;
    if (guarded(p->guard, boots_in_state, BOOT_COMMITTING, &boots, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        finish(ctx, boots[i].id);
    return 0;
}

int publish_seen_shut_down(struct publisher *p, const struct boot *boot, struct overlay *const *overlays,
                           bool *ret, struct err *e)
{
    bool mounted = false, clean = true;
    for (size_t i = 0; i < boot->nimages && clean; i++) {
        if (!overlays[i])
            continue;
        struct view *base;
        struct clean_report report;
        if (view_open(p->store, &boot->images[i].image, boot->images[i].version, &base, e) < 0)
            return -1;
        int r = check_disk(overlays[i], base, &report, e);
        view_close(base);
        if (r < 0)
            return -1;
        /* What is kept from boots before may have been mounted in one of those. */
        bool before = boot->images[i].temporal || boot->images[i].follows;
        mounted |= report.state == CLEAN_YES && report.mounted_since && !before;
        clean = report.state == CLEAN_YES || (report.state == CLEAN_UNKNOWN && !boot->images[i].keep);
    }
    *ret = mounted && clean;
    return 0;
}
