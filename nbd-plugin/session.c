/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/session.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/store/machine-image.h"

#include <inttypes.h>
#include <string.h>

/* Firmware, partition scans and blkid read far less, a kernel with its root far more. */
#define PROBE_BYTES (4 * MIB)

static uint64_t cache_session(const struct session *s)
{
    return (uint64_t)s->boot.id;
}

static int base_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *e)
{
    struct disk *d = ctx;
    if (d->recorder)
        hot_record(d->recorder, offset, count);
    if (view_pread(d->base, cache_session(d->session), buf, count, offset, e) == 0)
        return 0;
    const struct boot_image *image = &d->session->boot.images[d->n];
    if (e->code == ERR_CORRUPT && !atomic_exchange(&d->damage_told, true))
        d->session->events.damaged(d->session->events.ctx, &image->image, image->version, e->msg);
    return -1;
}

static struct reader base_reader(struct disk *d)
{
    return (struct reader){.ctx = d, .size = view_footer(d->base)->virtual_size, .pread = base_pread};
}

/* Of the first boot of a version, from its beginning on. One that goes on after a restart of the server has lost that. */
static void start_recorder(struct disk *d)
{
    struct session *s = d->session;
    struct err e;
    if (s->running || live_conf(s->live)->store.prefetch == 0 || hot_exists(s->store, d->base))
        return;
    if (hot_recorder_new(d->base, &d->recorder, &e) < 0)
        log_warning("%s", e.msg);
}

static void save_recorder(struct disk *d)
{
    struct err e;
    if (hot_recorder_save(d->recorder, d->session->store, d->base, &e) < 0)
        log_warning("%s", e.msg);
}

void session_save_hot(struct session *s)
{
    for (size_t n = 0; n < s->ndisks; n++)
        if (s->disks[n].recorder && hot_recorder_is_due(s->disks[n].recorder))
            save_recorder(&s->disks[n]);
}

static int disk_init(struct session *s, struct store *store, size_t n, struct err *e)
{
    struct disk *d = &s->disks[n];
    const struct boot_image *image = &s->boot.images[n];
    if (view_open(store, &image->image, image->version, &d->base, e) < 0)
        return err_wrap(e, "image %s@%" PRIu64, image->name, image->version);
    d->session = s;
    d->n = n;
    d->dir = image->temporal ? conf_temporal_dir(live_conf(s->live), image->temporal)
                             : conf_overlay_dir(live_conf(s->live), s->boot.id, n);
    pthread_mutex_init(&d->create, NULL);
    start_recorder(d);
    s->ndisks++;
    return 0;
}

/* A boot that was written to ran, also when a crash came before the catalog heard of it. Those of a resumed boot say nothing
 * of its new run. */
static bool has_overlays(const struct session *s)
{
    if (s->boot.resumed)
        return false;
    cleanup(free) char *dir = path_format("%s/%" PRId64, live_conf(s->live)->server.overlays_dir, s->boot.id);
    return path_exists(dir);
}

int session_new(struct store *store, struct temporals *temporals, const struct live *live,
                const struct boot *boot, const struct machine_disk *own, const struct session_events *events,
                struct session **ret, struct err *e)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_FAILED, "out of memory");
    s->boot = *boot;
    s->live = live;
    s->store = store;
    s->temporals = temporals;
    s->own = *own;
    pthread_mutex_init(&s->own_open, NULL);
    s->events = *events;
    s->refs = 1;
    s->running = boot->state == BOOT_RUNNING || has_overlays(s);
    s->recorded = boot->disconnected;
    pthread_rwlockattr_t attr; /* readers never nest: a fence must not starve behind a busy client */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&s->fence, &attr);
    pthread_rwlockattr_destroy(&attr);
    for (size_t n = 0; n < boot->nimages; n++) {
        if (disk_init(s, store, n, e) < 0) {
            session_free(s);
            return -1;
        }
    }
    *ret = s;
    return 0;
}

void session_free(struct session *s)
{
    session_close_overlays(s);
    for (size_t n = 0; n < s->ndisks; n++) {
        struct disk *d = &s->disks[n];
        if (d->recorder)
            save_recorder(d);
        hot_recorder_free(d->recorder);
        view_close(d->base);
        free(d->dir);
        pthread_mutex_destroy(&d->create);
    }
    raw_disk_close(s->raw);
    pthread_mutex_destroy(&s->own_open);
    pthread_rwlock_destroy(&s->fence);
    free(s);
}

static int check_overlay(struct disk *d, struct overlay *o, struct err *e)
{
    const struct footer *f = view_footer(d->base);
    const struct overlay_meta *m = overlay_meta(o);
    if (uuid_equal(&m->image, &f->image) && m->base_version == f->version && m->size == f->virtual_size)
        return 0;
    return err_set(e, ERR_CORRUPT, "%s: it belongs to another version than %" PRIu64, d->dir, f->version);
}

static struct overlay_limits limits_of(const struct session *s)
{
    const struct conf *conf = live_conf(s->live);
    return (struct overlay_limits){.quota = conf->overlay.quota, .reserve = conf->store.reserve};
}

/* 0: an overlay of its boot alone. */
static int64_t temporal_of(const struct disk *d)
{
    return d->session->boot.images[d->n].temporal;
}

static void close_overlay(struct disk *d)
{
    struct overlay *o = atomic_exchange(&d->overlay, NULL);
    if (temporal_of(d))
        temporal_close(d->session->temporals, o);
    else
        overlay_close(o);
}

static int open_overlay(struct disk *d, struct overlay **ret, struct err *e)
{
    struct overlay_limits limits = limits_of(d->session);
    int64_t temporal = temporal_of(d);
    return temporal ? temporal_open(d->session->temporals, temporal, d->dir, &limits, ret, e)
                    : overlay_open(d->dir, &limits, ret, e);
}

static int disk_load(struct disk *d, struct err *e)
{
    struct overlay *o;
    if (open_overlay(d, &o, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    d->overlay = o;
    if (check_overlay(d, o, e) == 0)
        return 0;
    close_overlay(d);
    return -1;
}

static bool is_fenced(struct session *s)
{
    pthread_rwlock_rdlock(&s->fence);
    bool fenced = s->fenced != FENCE_NONE;
    pthread_rwlock_unlock(&s->fence);
    return fenced;
}

int session_load(struct session *s, struct err *e)
{
    if (!s->loaded && is_fenced(s)) /* its overlays are those of who ends it */
        return err_set_sys(e, ERR_STATE, ESHUTDOWN, "boot %" PRId64 " of %s has ended", s->boot.id,
                           s->boot.machine_name);
    for (size_t n = 0; n < s->ndisks && !s->loaded; n++)
        if (!s->disks[n].overlay && disk_load(&s->disks[n], e) < 0)
            return err_wrap(e, "boot %" PRId64 ": overlay of %s", s->boot.id, s->boot.images[n].name);
    s->loaded = true;
    return 0;
}

/* Who makes an overlay holds `create` from before it looks at the limits. */
void session_renew_limits(struct session *s)
{
    for (size_t n = 0; n < s->ndisks; n++) {
        struct disk *d = &s->disks[n];
        pthread_mutex_lock(&d->create);
        if (d->overlay)
            overlay_set_limits(d->overlay, limits_of(s));
        pthread_mutex_unlock(&d->create);
    }
    pthread_mutex_lock(&s->own_open);
    if (s->raw)
        raw_disk_set_reserve(s->raw, live_conf(s->live)->store.reserve);
    pthread_mutex_unlock(&s->own_open);
}

int session_find_disk(const struct boot *b, const char *image, size_t *ret, struct err *e)
{
    if (strcmp(image, "machine") == 0) {
        *ret = OWN_DISK;
        return 0;
    }
    for (size_t n = 0; n < b->nimages; n++) {
        if (!*image || strcmp(b->images[n].name, image) == 0) {
            *ret = n;
            return 0;
        }
    }
    return err_set(e, ERR_NOT_FOUND, "boot %" PRId64 " of %s has no image '%s'", b->id, b->machine_name,
                   image);
}

void session_fence(struct session *s, enum fence level)
{
    s->hurry = true;
    pthread_rwlock_wrlock(&s->fence);
    if (level > s->fenced)
        s->fenced = level;
    pthread_rwlock_unlock(&s->fence);
}

void session_close_overlays(struct session *s)
{
    for (size_t n = 0; n < s->ndisks; n++)
        close_overlay(&s->disks[n]);
}

void session_overlays(struct session *s, struct overlay *ret[SETUP_IMAGES_MAX])
{
    for (size_t n = 0; n < s->ndisks; n++)
        ret[n] = s->disks[n].overlay;
}

void session_sync(struct session *s)
{
    struct err e;
    for (size_t n = 0; n < s->ndisks; n++)
        if (s->disks[n].overlay && overlay_flush(s->disks[n].overlay, &e) < 0)
            log_error("boot %" PRId64 ": %s", s->boot.id, e.msg);
    if (s->raw && raw_disk_flush(s->raw, &e) < 0)
        log_error("boot %" PRId64 ": the machine's own disk: %s", s->boot.id, e.msg);
}

/* Every request stands between enter and leave. */
static int enter(struct session *s, enum fence refused_from, struct err *e)
{
    pthread_rwlock_rdlock(&s->fence);
    if (s->fenced < refused_from)
        return 0;
    pthread_rwlock_unlock(&s->fence);
    return err_set_sys(e, ERR_STATE, ESHUTDOWN, "boot %" PRId64 " of %s has ended", s->boot.id,
                       s->boot.machine_name);
}

static int leave(struct session *s, int result)
{
    pthread_rwlock_unlock(&s->fence);
    return result;
}

bool session_wants_compaction(struct session *s)
{
    bool wants = false;
    for (size_t n = 0; n < s->ndisks; n++)
        wants |= s->disks[n].overlay && overlay_wants_compaction(s->disks[n].overlay);
    return wants && !s->hurry;
}

void session_compact(struct session *s)
{
    struct err e;
    if (enter(s, FENCE_WRITES, &e) < 0)
        return;
    for (size_t n = 0; n < s->ndisks; n++) {
        struct overlay *o = s->disks[n].overlay;
        if (o && overlay_wants_compaction(o) && overlay_compact(o, &s->hurry, &e) < 0)
            log_error("boot %" PRId64 ": what was written to image %s cannot be made smaller: %s", s->boot.id,
                      s->boot.images[n].name, e.msg);
    }
    leave(s, 0);
}

static void note_io(struct session *s, uint64_t bytes_read, uint64_t bytes_written)
{
    uint64_t total = atomic_fetch_add_explicit(&s->bytes_read, bytes_read, memory_order_relaxed) + bytes_read;
    atomic_fetch_add_explicit(&s->bytes_written, bytes_written, memory_order_relaxed);
    if (!atomic_load_explicit(&s->running, memory_order_relaxed) && (bytes_written || total > PROBE_BYTES) &&
        !atomic_exchange(&s->running, true))
        s->events.started(s->events.ctx, s->boot.id);
}

static int disk_pread(struct disk *d, void *buf, size_t count, uint64_t offset, struct err *e)
{
    struct overlay *o = atomic_load_explicit(&d->overlay, memory_order_acquire);
    if (!o)
        return base_pread(d, buf, count, offset, e);
    struct reader base = base_reader(d);
    return overlay_pread(o, &base, buf, count, offset, e);
}

/* The machine's own disk, made at its first use. Within a request. */
static int own_disk(struct session *s, struct raw_disk **ret, struct err *e)
{
    struct raw_disk *raw = atomic_load_explicit(&s->raw, memory_order_acquire);
    int r = 0;
    if (!raw) {
        pthread_mutex_lock(&s->own_open);
        raw = s->raw;
        if (!raw && (r = machine_image_open(s->store, &s->own.image, s->own.size, s->own.filesystem,
                                            live_conf(s->live)->store.reserve, &raw, e)) == 0)
            atomic_store_explicit(&s->raw, raw, memory_order_release);
        pthread_mutex_unlock(&s->own_open);
    }
    if (r < 0)
        return err_wrap(e, "machine %s", s->boot.machine_name);
    *ret = raw;
    return 0;
}

static int own_pread(struct session *s, void *buf, size_t count, uint64_t offset, struct err *e)
{
    struct raw_disk *raw;
    return own_disk(s, &raw, e) < 0 ? -1 : raw_disk_pread(raw, buf, count, offset, e);
}

/* buf NULL: zeroes. */
static int own_write(struct session *s, const void *buf, uint64_t count, uint64_t offset, bool fua,
                     struct err *e)
{
    struct raw_disk *raw;
    if (enter(s, FENCE_WRITES, e) < 0)
        return -1;
    note_io(s, 0, count);
    int r = own_disk(s, &raw, e);
    if (r == 0)
        r = buf ? raw_disk_pwrite(raw, buf, count, offset, e) : raw_disk_zero(raw, count, offset, e);
    return leave(s, r == 0 && fua ? raw_disk_flush(raw, e) : r);
}

static int own_flush(struct session *s, struct err *e)
{
    struct raw_disk *raw = s->raw;
    return raw && s->fenced == FENCE_NONE ? raw_disk_flush(raw, e) : 0;
}

static int own_extent(struct session *s, uint64_t count, uint64_t offset, uint64_t *ret_length,
                      bool *ret_zero, struct err *e)
{
    struct raw_disk *raw;
    return own_disk(s, &raw, e) < 0 ? -1 : raw_disk_extent(raw, count, offset, ret_length, ret_zero, e);
}

int session_pread(struct session *s, size_t disk, void *buf, size_t count, uint64_t offset, struct err *e)
{
    if (enter(s, FENCE_ALL, e) < 0)
        return -1;
    note_io(s, count, 0);
    if (disk == OWN_DISK)
        return leave(s, own_pread(s, buf, count, offset, e));
    return leave(s, disk_pread(&s->disks[disk], buf, count, offset, e));
}

static int create_overlay(struct disk *d, struct overlay **ret, struct err *e)
{
    const struct session *s = d->session;
    const struct footer *f = view_footer(d->base);
    cleanup(free) char *parent =
        path_format("%s/%" PRId64, live_conf(s->live)->server.overlays_dir, s->boot.id);
    struct overlay_limits limits = limits_of(s);
    struct overlay_meta meta = {
        .image = f->image,
        .base_version = s->boot.images[d->n].version,
        .base_layer = f->layer,
        .size = f->virtual_size,
        .durable = s->boot.images[d->n].keep || temporal_of(d) ||
                   live_conf(s->live)->overlay.durability == CONF_DURABILITY_ALWAYS,
    };
    if (temporal_of(d))
        return temporal_create(s->temporals, temporal_of(d), d->dir, &meta, &limits, ret, e);
    if (make_dirs(parent, 0700, e) < 0 || fsync_dir(live_conf(s->live)->server.overlays_dir, e) < 0)
        return -1;
    return overlay_create(d->dir, &meta, &limits, ret, e);
}

/* The overlay, made at the first write. */
static int writable_overlay(struct disk *d, struct overlay **ret, struct err *e)
{
    struct overlay *o = atomic_load_explicit(&d->overlay, memory_order_acquire);
    int r = 0;
    if (!o) {
        pthread_mutex_lock(&d->create);
        o = d->overlay;
        if (!o && (r = create_overlay(d, &o, e)) == 0)
            atomic_store_explicit(&d->overlay, o, memory_order_release);
        pthread_mutex_unlock(&d->create);
    }
    if (r == 0)
        *ret = o;
    return r;
}

/* 0: the caller writes to *ret_overlay and calls end_write. */
static int begin_write(struct session *s, struct disk *d, uint64_t count, struct overlay **ret_overlay,
                       struct err *e)
{
    if (enter(s, FENCE_WRITES, e) < 0)
        return -1;
    note_io(s, 0, count);
    return writable_overlay(d, ret_overlay, e) < 0 ? leave(s, -1) : 0;
}

static int end_write(struct session *s, struct overlay *o, bool fua, int result, struct err *e)
{
    return leave(s, result == 0 && fua ? overlay_flush(o, e) : result);
}

int session_pwrite(struct session *s, size_t disk, const void *buf, size_t count, uint64_t offset, bool fua,
                   struct err *e)
{
    if (disk == OWN_DISK)
        return own_write(s, buf, count, offset, fua, e);
    struct disk *d = &s->disks[disk];
    struct reader base = base_reader(d);
    struct overlay *o;
    if (begin_write(s, d, count, &o, e) < 0)
        return -1;
    return end_write(s, o, fua, overlay_pwrite(o, &base, buf, count, offset, e), e);
}

int session_zero(struct session *s, size_t disk, uint64_t count, uint64_t offset, bool fua, struct err *e)
{
    if (disk == OWN_DISK)
        return own_write(s, NULL, count, offset, fua, e);
    struct disk *d = &s->disks[disk];
    struct reader base = base_reader(d);
    struct overlay *o;
    if (begin_write(s, d, count, &o, e) < 0)
        return -1;
    return end_write(s, o, fua, overlay_zero(o, &base, count, offset, e), e);
}

int session_flush(struct session *s, size_t disk, struct err *e)
{
    if (enter(s, FENCE_ALL, e) < 0)
        return -1;
    if (disk == OWN_DISK)
        return leave(s, own_flush(s, e));
    struct overlay *o = atomic_load_explicit(&s->disks[disk].overlay, memory_order_acquire);
    return leave(s, o && s->fenced == FENCE_NONE ? overlay_flush(o, e) : 0);
}

int session_prefetch(struct session *s, size_t disk, uint64_t count, uint64_t offset, struct err *e)
{
    if (enter(s, FENCE_ALL, e) < 0)
        return -1;
    note_io(s, 0, 0);
    if (disk == OWN_DISK) /* the kernel's cache does it */
        return leave(s, 0);
    return leave(s, view_prefetch(s->disks[disk].base, cache_session(s), offset, count, e));
}

int session_extent(struct session *s, size_t disk, uint64_t count, uint64_t offset, uint64_t *ret_length,
                   bool *ret_zero, struct err *e)
{
    if (enter(s, FENCE_ALL, e) < 0)
        return -1;
    if (disk == OWN_DISK)
        return leave(s, own_extent(s, count, offset, ret_length, ret_zero, e));
    struct disk *d = &s->disks[disk];
    struct overlay *o = atomic_load_explicit(&d->overlay, memory_order_acquire);
    uint64_t block = round_down(offset, OVERLAY_BLOCK), length = count;
    enum overlay_kind kind = OVERLAY_NONE;
    if (o) {
        overlay_extent(o, block, count + (offset - block), &length, &kind);
        length -= offset - block;
    }
    int r = 0;
    if (kind == OVERLAY_NONE)
        r = view_extent(d->base, offset, min_u64(length, count), &length, ret_zero, e);
    else
        *ret_zero = kind == OVERLAY_ZERO;
    if (r == 0)
        *ret_length = min_u64(length, count);
    return leave(s, r);
}
