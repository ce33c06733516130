/* SPDX-License-Identifier: BSD-3-Clause */

/* The copy-on-write overlay of one disk of one boot: a folder with three files.
 *
 *   meta   what it is an overlay of; written once (overlay-meta.h)
 *   data   4 KiB blocks, appended, never overwritten in place once a record names them
 *   map    records: "virtual blocks 7 … 9 stand at physical 40 …, with these checksums", "blocks 0 … 99
 *          are zero" (overlay-map.h)
 *
 * In memory an index (overlay-radix.h) says for each virtual block where its newest copy stands and what its
 * checksum is; every whole block that is read is held against it.
 *
 * A WRITE puts its blocks at the end of data, then its record at the end of map, then updates the index, then
 * is acknowledged. All of it is in the page cache by then, so a killed server loses nothing that was
 * acknowledged. A FLUSH syncs data, then map, then appends a SYNC record that vouches for all records before
 * it.
 *
 * After a power cut, records that a SYNC vouches for are there and their data too. The ones after it may be
 * there without their data, so they count only as far as the checksums of their blocks match; the map is cut
 * at the first that does not (overlay-recover.c). A flushed write whose SYNC was lost passes that test: it
 * was synced.
 *
 * Space: what later writes supersede is given back by segments, once none of a segment's blocks is needed and what superseded
 * them cannot be lost (overlay-space.h): that is, when the SYNC that vouches for it is on the disk itself. For a record that
 * no SYNC vouches for is held against its data. What is then still much too long is made short by overlay-compact.c. The
 * quota counts both files. */

#include "lib/store/overlay-impl.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/store/overlay-meta.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAP_STEP MIB          /* the map is allocated ahead in such steps */
#define MAP_SLACK (8 * MIB)   /* 200,000 small writes */
#define MAP_SPARE 4096u       /* and this much further, so that SYNC and SEAL fit on a full file system */
#define SPACE_STEP (16 * MIB) /* how much is stored between two looks at the file system */
#define SPACE_NEAR (4 * SPACE_STEP) /* nearer to the reserve than this: a look at every write */

static_assert(OVERLAY_BLOCK == 4096, "the format's block");

DEFINE_CLEANUP(overlay, struct overlay, overlay_close);

/* --- making, opening, closing --- */

/* By the record that is being committed: it has the next sequence. */
static void superseded(void *ctx, uint64_t physical)
{
    struct overlay *o = ctx;
    space_drop(&o->space, physical, 1, o->sequence);
}

static struct overlay *overlay_new(const struct overlay_meta *meta, const struct overlay_limits *limits)
{
    struct overlay *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->meta = *meta;
    o->limits = *limits;
    o->blocks = div_up(meta->size, OVERLAY_BLOCK);
    o->seed = map_seed(&meta->overlay);
    o->meta_fd = o->data_fd = o->map_fd = o->dir_fd = -1;
    o->radix.superseded = superseded;
    o->radix.ctx = o;
    o->map_slack = MAP_SLACK;
    pthread_mutex_init(&o->compaction, NULL);
    pthread_mutex_init(&o->append, NULL);
    pthread_mutex_init(&o->sync, NULL);
    pthread_cond_init(&o->synced_changed, NULL);
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* A stream of readers must not starve the writer, who holds the lock for a moment only. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&o->index, &attr);
    pthread_rwlockattr_destroy(&attr);
    return o;
}

void overlay_close(struct overlay *o)
{
    if (!o)
        return;
    int fds[] = {o->data_fd, o->map_fd, o->dir_fd, o->meta_fd}; /* the lock goes last */
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    radix_release(&o->radix);
    space_release(&o->space);
    pthread_mutex_destroy(&o->compaction);
    pthread_rwlock_destroy(&o->index);
    pthread_cond_destroy(&o->synced_changed);
    pthread_mutex_destroy(&o->sync);
    pthread_mutex_destroy(&o->append);
    free(o);
}

/* What is no regular file might never answer. */
static int open_part(const char *dir, const char *name, int flags, int *ret_fd, struct err *e)
{
    struct stat st;
    cleanup(free) char *path = path_format("%s/%s", dir, name);
    cleanup(close) int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_CORRUPT, "%s: no regular file", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int open_dir(const char *dir, int *ret_fd, struct err *e)
{
    *ret_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd < 0 ? err_sys(e, errno, "%s", dir) : 0;
}

static int lock_meta(int fd, const char *dir, struct err *e)
{
    int r;
    do
        r = flock(fd, LOCK_EX | LOCK_NB);
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno == EWOULDBLOCK)
        return err_set_sys(e, ERR_STATE, EBUSY, "%s: in use", dir);
    return r < 0 ? err_sys(e, errno, "%s: lock", dir) : 0;
}

static int sync_names(const char *dir, struct err *e)
{
    cleanup(free) char *parent = path_format("%s/..", dir);
    return fsync_dir(dir, e) < 0 ? -1 : fsync_dir(parent, e);
}

/* Makes the files in the new folder. `meta` gets its name, locked and synced, when the others are there, after a power cut
 * too: a folder without it is no overlay. */
static int make_files(struct overlay *o, const char *dir, const struct uuid *host, struct err *e)
{
    uint8_t block[META_SIZE];
    meta_encode(&o->meta, host, block);
    int flags = O_RDWR | O_CREAT | O_EXCL;
    if (open_dir(dir, &o->dir_fd, e) < 0 || open_part(dir, "data", flags, &o->data_fd, e) < 0 ||
        open_part(dir, "map", flags, &o->map_fd, e) < 0 ||
        open_part(dir, "meta.new", flags, &o->meta_fd, e) < 0 || lock_meta(o->meta_fd, dir, e) < 0 ||
        full_pwrite(o->meta_fd, block, sizeof block, 0, e) < 0)
        return -1;
    if (fsync(o->data_fd) < 0 || fsync(o->map_fd) < 0 || fsync(o->meta_fd) < 0)
        return err_sys(e, errno, "%s: sync", dir);
    if (fsync_dir(dir, e) < 0)
        return -1;
    cleanup(free) char *from = path_format("%s/meta.new", dir), *to = path_format("%s/meta", dir);
    return rename(from, to) < 0 ? err_sys(e, errno, "%s", to) : sync_names(dir, e);
}

/* An existing folder without `meta` is what a crash of overlay_create left: nothing was ever written to it.
 */
static int make_folder(const char *dir, struct err *e)
{
    if (mkdir(dir, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return err_sys(e, errno, "%s", dir);
    cleanup(free) char *meta = path_format("%s/meta", dir);
    if (path_exists(meta))
        return err_set_sys(e, ERR_STATE, EEXIST, "%s: exists", dir);
    if (remove_tree(dir, e) < 0)
        return -1;
    return mkdir(dir, 0700) < 0 ? err_sys(e, errno, "%s", dir) : 0;
}

int overlay_create(const char *dir, const struct overlay_meta *meta, const struct overlay_limits *limits,
                   struct overlay **ret, struct err *e)
{
    struct uuid host;
    if (meta->size == 0 || div_up(meta->size, OVERLAY_BLOCK) > RADIX_BLOCKS_MAX)
        return err_set(e, ERR_FAILED, "%s: an overlay is of 1 byte to 64 TiB", dir);
    if (host_boot_id(&host, e) < 0)
        return -1;
    struct overlay_meta made = *meta;
    uuid_make(&made.overlay);
    cleanup(overlay) struct overlay *o = overlay_new(&made, limits);
    if (!o)
        return err_sys(e, ENOMEM, "%s", dir);
    if (make_folder(dir, e) < 0)
        return -1;
    if (make_files(o, dir, &host, e) < 0) {
        struct err second;
        if (remove_tree(dir, &second) < 0)
            log_warning("%s: left behind: %s", dir, second.msg);
        return -1;
    }
    *ret = steal(&o);
    return 0;
}

/* Opens and locks `meta`; the file may have been removed in between. */
static int open_meta(const char *dir, int *ret_fd, struct err *e)
{
    cleanup(close) int fd = -1;
    struct stat st;
    if (open_part(dir, "meta", O_RDWR, &fd, e) < 0)
        return e->sys == ENOENT ? err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: no overlay", dir) : -1;
    if (lock_meta(fd, dir, e) < 0)
        return -1;
    if (fstat(fd, &st) < 0 || st.st_nlink == 0)
        return err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: removed", dir);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int check_host(const struct overlay_meta *meta, const struct uuid *host, struct err *e)
{
    struct uuid now;
    if (meta->durable)
        return 0;
    if (host_boot_id(&now, e) < 0)
        return -1;
    if (!uuid_equal(host, &now))
        return err_set(e, ERR_CORRUPT, "it was not durable, and the server's host has been restarted since");
    return 0;
}

int overlay_open(const char *dir, const struct overlay_limits *limits, struct overlay **ret, struct err *e)
{
    cleanup(close) int meta_fd = -1;
    struct overlay_meta meta;
    struct uuid host;
    if (open_meta(dir, &meta_fd, e) < 0)
        return -1;
    if (meta_read(meta_fd, &meta, &host, e) < 0 || check_host(&meta, &host, e) < 0)
        return err_wrap(e, "%s", dir);
    cleanup(overlay) struct overlay *o = overlay_new(&meta, limits);
    if (!o)
        return err_sys(e, ENOMEM, "%s", dir);
    o->meta_fd = steal_fd(&meta_fd);
    if (open_dir(dir, &o->dir_fd, e) < 0)
        return -1;
    if (open_part(dir, "data", O_RDWR, &o->data_fd, e) < 0 ||
        open_part(dir, "map", O_RDWR, &o->map_fd, e) < 0)
        return e->sys == ENOENT ? err_set(e, ERR_CORRUPT, "%s: a file is missing", dir) : -1;
    /* Who made it may have been killed before it had synced them. */
    if (meta.durable && sync_names(dir, e) < 0)
        return -1;
    if (unlinkat(o->dir_fd, "map.new", 0) < 0 && errno != ENOENT) /* of a compaction that was killed */
        return err_sys(e, errno, "%s: map.new", dir);
    if (overlay_recover(o, e) < 0)
        return err_wrap(e, "%s", dir);
    *ret = steal(&o);
    return 0;
}

int overlay_read_meta(const char *dir, struct overlay_meta *ret, struct err *e)
{
    cleanup(close) int fd = -1;
    struct uuid host;
    if (open_part(dir, "meta", O_RDONLY, &fd, e) < 0)
        return e->sys == ENOENT ? err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: no overlay", dir) : -1;
    if (meta_read(fd, ret, &host, e) < 0)
        return err_wrap(e, "%s", dir);
    return 0;
}

/* `meta` goes first: what a crash leaves is no overlay any more. */
int overlay_remove(const char *dir, struct err *e)
{
    cleanup(free) char *meta = path_format("%s/meta", dir);
    if (unlink(meta) < 0 && errno != ENOENT)
        return err_sys(e, errno, "%s", meta);
    return remove_tree(dir, e);
}

const struct overlay_meta *overlay_meta(const struct overlay *o)
{
    return &o->meta;
}

/* --- appending; `append` is held --- */

static int failed_before(struct err *e)
{
    return err_set_sys(e, ERR_FAILED, EIO, "the overlay failed: a sync to its disk did");
}

int overlay_check_writable(const struct overlay *o, struct err *e)
{
    if (o->failed)
        return failed_before(e);
    if (o->fenced)
        return err_set_sys(e, ERR_STATE, ESHUTDOWN, "the overlay is sealed");
    return 0;
}

void overlay_set_limits(struct overlay *o, struct overlay_limits limits)
{
    pthread_mutex_lock(&o->append);
    o->limits = limits;
    o->space_check = 0;
    pthread_mutex_unlock(&o->append);
}

uint64_t overlay_stored(const struct overlay *o)
{
    return o->space.held * OVERLAY_BLOCK + o->map_end;
}

int overlay_check_space(struct overlay *o, uint64_t blocks, size_t record, struct err *e)
{
    uint64_t add = blocks * OVERLAY_BLOCK + record, stored = overlay_stored(o);
    if (o->limits.quota > 0 && (stored > o->limits.quota || add > o->limits.quota - stored))
        return err_set_sys(e, ERR_FAILED, ENOSPC, "the overlay has reached its quota");
    if (o->limits.reserve == 0 || stored + add < o->space_check)
        return 0;
    struct statvfs fs;
    if (fstatvfs(o->data_fd, &fs) < 0)
        return err_sys(e, errno, "free space");
    uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (available < add || available - add < o->limits.reserve)
        return err_set_sys(e, ERR_FAILED, ENOSPC, "the file system has no more than its reserve");
    bool near = available - add - o->limits.reserve < SPACE_NEAR;
    o->space_check = near ? 0 : stored + add + SPACE_STEP;
    return 0;
}

int overlay_take(struct overlay *o, uint64_t blocks, uint64_t *ret_physical, struct err *e)
{
    return space_take(&o->space, blocks, o->sequence, ret_physical, e);
}

/* So that a sync of the map need not write its size. Only a help: where it fails, the write itself will tell.
 */
static void allocate_ahead(struct overlay *o, size_t len)
{
    if (o->map_end + len + MAP_SPARE <= o->map_allocated)
        return;
    uint64_t size = round_up(o->map_end + len + MAP_SPARE, MAP_STEP);
    if (fallocate(o->map_fd, 0, 0, (off_t)size) == 0)
        o->map_allocated = size;
}

int overlay_append(struct overlay *o, struct map_record *r, uint8_t *buf, struct err *e)
{
    size_t len = map_record_size(r);
    r->sequence = o->sequence + 1;
    map_record_encode(r, o->seed, buf);
    allocate_ahead(o, len);
    if (full_pwrite(o->map_fd, buf, len, o->map_end, e) < 0) {
        /* Cuts off what a short write left. Where that fails too, the next record overwrites it, and what is
         * left of it behind that one is no record. */
        if (ftruncate(o->map_fd, (off_t)o->map_end) == 0)
            o->map_allocated = o->map_end;
        return err_wrap(e, "overlay map");
    }
    o->map_end += len;
    o->sequence = r->sequence;
    return 0;
}

/* --- flush and seal --- */

static int sync_failed(struct overlay *o, const char *what, struct err *e)
{
    int saved_errno = errno;
    pthread_mutex_lock(&o->append);
    o->failed = true;
    pthread_mutex_unlock(&o->append);
    return err_set_sys(e, ERR_FAILED, EIO, "sync of the overlay's %s: %s", what, strerror(saved_errno));
}

/* Data first: a record must not be on the disk for long without its data. */
static int sync_files(struct overlay *o, struct err *e)
{
    if (!o->meta.durable)
        return 0;
    if (fdatasync(o->data_fd) < 0)
        return sync_failed(o, "data", e);
    if (fdatasync(o->map_fd) < 0)
        return sync_failed(o, "map", e);
    return 0;
}

/* Makes holes of what nobody has needed since that sequence. Where a file system cannot, it stays. */
static void give_back(struct overlay *o, uint64_t sequence)
{
    size_t segment;
    off_t len = (off_t)SEGMENT_BLOCKS * OVERLAY_BLOCK;
    pthread_mutex_lock(&o->append);
    while (space_next_dead(&o->space, sequence, &segment)) {
        pthread_mutex_unlock(&o->append);
        int r = fallocate(o->data_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)segment * len, len);
        pthread_mutex_lock(&o->append);
        if (r == 0)
            space_is_hole(&o->space, segment);
    }
    pthread_mutex_unlock(&o->append);
}

int overlay_sync_once(struct overlay *o, uint64_t *ret_upto, struct err *e)
{
    pthread_mutex_lock(&o->append);
    struct map_record r = {.type = MAP_SYNC, .block = o->last_change};
    uint64_t durable = o->vouched; /* by a record that this sync brings to the disk */
    bool failed = o->failed;
    o->unsynced = 0;
    pthread_mutex_unlock(&o->append);
    if (failed)
        return failed_before(e);
    if (sync_files(o, e) < 0)
        return -1;
    uint8_t buf[MAP_HEADER];
    struct err ignored; /* without the record, recovery has more to verify, and finds the same */
    pthread_mutex_lock(&o->append);
    if (r.block > o->vouched && overlay_append(o, &r, buf, &ignored) == 0)
        o->vouched = r.block;
    if (!o->meta.durable)
        durable = o->vouched;
    pthread_mutex_unlock(&o->append);
    give_back(o, durable);
    *ret_upto = r.block;
    return 0;
}

static void wait_for_syncer(struct overlay *o)
{
    while (o->syncing)
        pthread_cond_wait(&o->synced_changed, &o->sync);
}

void overlay_sync_begin(struct overlay *o)
{
    pthread_mutex_lock(&o->sync);
    wait_for_syncer(o);
    o->syncing = true;
    pthread_mutex_unlock(&o->sync);
}

void overlay_sync_end(struct overlay *o, uint64_t synced)
{
    pthread_mutex_lock(&o->sync);
    o->syncing = false;
    o->synced = max_u64(o->synced, synced);
    pthread_cond_broadcast(&o->synced_changed);
    pthread_mutex_unlock(&o->sync);
}

/* Who comes while a sync runs waits for the next one, as the running one may have begun before what it waits
 * for was appended; of all who wait, one does it. */
static int sync_to(struct overlay *o, uint64_t sequence, struct err *e)
{
    int r = 0;
    for (bool done = false; r == 0 && !done;) {
        uint64_t upto = 0;
        pthread_mutex_lock(&o->sync);
        while (o->syncing && o->synced < sequence)
            pthread_cond_wait(&o->synced_changed, &o->sync);
        done = o->synced >= sequence;
        o->syncing |= !done;
        pthread_mutex_unlock(&o->sync);
        if (done)
            break;
        r = overlay_sync_once(o, &upto, e);
        overlay_sync_end(o, upto);
    }
    return r;
}

int overlay_sync(struct overlay *o, struct err *e)
{
    pthread_mutex_lock(&o->append);
    uint64_t last = o->last_change;
    bool failed = o->failed;
    pthread_mutex_unlock(&o->append);
    return failed ? failed_before(e) : sync_to(o, last, e);
}

int overlay_flush(struct overlay *o, struct err *e)
{
    return o->meta.durable ? overlay_sync(o, e) : 0;
}

/* All is synced and no write goes on; `append` is held. */
static int write_seal(struct overlay *o, struct err *e)
{
    uint8_t buf[MAP_HEADER];
    struct map_record r = {.type = MAP_SEAL, .block = o->last_change};
    if (overlay_append(o, &r, buf, e) < 0)
        return -1;
    if (o->meta.durable && fdatasync(o->map_fd) < 0) {
        o->failed = true;
        return err_set_sys(e, ERR_FAILED, EIO, "sync of the overlay's map: %s", strerror(errno));
    }
    o->sealed = true;
    return 0;
}

int overlay_seal(struct overlay *o, struct err *e)
{
    pthread_mutex_lock(&o->append);
    o->fenced = true;
    pthread_mutex_unlock(&o->append);
    if (overlay_sync(o, e) < 0)
        return -1;
    pthread_mutex_lock(&o->append);
    int r = o->failed ? failed_before(e) : o->sealed ? 0 : write_seal(o, e);
    pthread_mutex_unlock(&o->append);
    return r;
}

bool overlay_is_sealed(struct overlay *o)
{
    pthread_mutex_lock(&o->append);
    bool sealed = o->sealed;
    pthread_mutex_unlock(&o->append);
    return sealed;
}

/* The SEAL is the last record, and a SYNC before it vouches for all that was written: without it the map is as good. */
int overlay_unseal(struct overlay *o, struct err *e)
{
    int r = 0;
    pthread_mutex_lock(&o->append);
    if (o->failed) {
        r = failed_before(e);
    } else if (o->sealed) {
        uint64_t end = o->map_end - MAP_HEADER;
        if (ftruncate(o->map_fd, (off_t)end) < 0 || (o->meta.durable && fsync(o->map_fd) < 0)) {
            o->failed = true;
            r = err_sys(e, errno, "overlay map");
        } else {
            o->map_end = o->map_allocated = end;
            o->sequence--;
            o->sealed = o->fenced = false;
        }
    }
    pthread_mutex_unlock(&o->append);
    return r;
}

static int disk_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *e)
{
    const struct overlay_disk *d = ctx;
    return overlay_pread(d->overlay, &d->base, buf, count, offset, e);
}

struct reader overlay_disk_reader(struct overlay_disk *d)
{
    return (struct reader){.ctx = d, .size = d->base.size, .pread = disk_pread};
}

/* --- what it holds --- */

static enum overlay_kind kind_of(uint64_t slot)
{
    return slot == SLOT_NONE ? OVERLAY_NONE : slot == SLOT_ZERO ? OVERLAY_ZERO : OVERLAY_DATA;
}

void overlay_extent(struct overlay *o, uint64_t offset, uint64_t max, uint64_t *ret_length,
                    enum overlay_kind *ret_kind)
{
    uint64_t end = offset + min_u64(max, o->meta.size - offset), block = offset / OVERLAY_BLOCK, span;
    pthread_rwlock_rdlock(&o->index);
    enum overlay_kind kind = kind_of(radix_get(&o->radix, block, &span));
    do
        block += span;
    while (block < div_up(end, OVERLAY_BLOCK) && kind_of(radix_get(&o->radix, block, &span)) == kind);
    pthread_rwlock_unlock(&o->index);
    *ret_length = min_u64(end, block * OVERLAY_BLOCK) - offset;
    *ret_kind = kind;
}

uint64_t overlay_next_dirty(struct overlay *o, uint64_t offset)
{
    uint64_t block = div_up(offset, OVERLAY_BLOCK), span;
    pthread_rwlock_rdlock(&o->index);
    while (block < o->blocks && radix_get(&o->radix, block, &span) == SLOT_NONE)
        block += span;
    pthread_rwlock_unlock(&o->index);
    return min_u64(block * OVERLAY_BLOCK, o->meta.size);
}

uint64_t overlay_dirty_bytes(struct overlay *o)
{
    pthread_rwlock_rdlock(&o->index);
    uint64_t blocks = o->radix.data_blocks;
    pthread_rwlock_unlock(&o->index);
    return blocks * OVERLAY_BLOCK;
}

uint64_t overlay_stored_bytes(struct overlay *o)
{
    pthread_mutex_lock(&o->append);
    uint64_t stored = overlay_stored(o);
    pthread_mutex_unlock(&o->append);
    return stored;
}
