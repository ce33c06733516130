/* SPDX-License-Identifier: BSD-3-Clause */

/* An overlay that is written over and over.
 *
 * data: what is needed of segments that are mostly not is written again, by ordinary records, at the end. A block that
 * somebody writes meanwhile is his: its slot is another one when the record is to be written. The segments then have
 * nothing that is needed, and become holes like any other, after two syncs.
 *
 * map: what the index says is written to another file, while requests go on; then, while they wait, what was appended to
 * the old one since. What of the index was newer than the beginning stands in that part again. All of it is vouched for,
 * so all of data is synced before; then the new map gets the old one's name. A crash leaves the one or the other. */

#include "lib/store/overlay-impl.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK ((uint64_t)OVERLAY_BLOCK)
#define SLACK_BLOCKS (GIB / OVERLAY_BLOCK)   /* that may be superseded anyway */
#define SLACK_QUOTA_SHARE 8u                 /* and of the quota */
#define NEEDED_MOST (SEGMENT_BLOCKS * 3 / 4) /* blocks of a segment that is worth to be emptied */
#define ROUND_SEGMENTS 64u                   /* emptied before they are given back, at least */
#define ROUND_SHARE 64u                      /* and of all */
#define RUN_BLOCKS 64u                       /* moved at a time */

struct compaction {
    struct overlay *o;
    const atomic_bool *stop;
    uint8_t *victims; /* a byte a segment: VICTIM in this round, TRIED before */
    size_t segments;
    uint8_t *buf; /* RUN_BLOCKS blocks */
};
enum { TRIED = 1, VICTIM = 2 };

static bool goes_on(const struct compaction *c)
{
    return !(c->stop && *c->stop);
}

/* ---- whether ---- */

/* The rest is of the caller's lock `append`. */
static uint64_t needed_blocks(struct overlay *o)
{
    pthread_rwlock_rdlock(&o->index);
    uint64_t blocks = o->radix.data_blocks;
    pthread_rwlock_unlock(&o->index);
    return blocks;
}

static bool map_is_long(const struct overlay *o)
{
    return o->map_end > 2 * o->map_floor + o->map_slack;
}

bool overlay_wants_compaction(struct overlay *o)
{
    pthread_mutex_lock(&o->append);
    uint64_t needed = needed_blocks(o), slack = SLACK_BLOCKS;
    if (o->limits.quota > 0)
        slack = min_u64(slack, o->limits.quota / OVERLAY_BLOCK / SLACK_QUOTA_SHARE);
    bool crowded = o->limits.quota > 0 && overlay_stored(o) > o->limits.quota - o->limits.quota / 4;
    bool wants = o->space.held > (crowded ? needed : 2 * needed) + slack || map_is_long(o);
    wants = wants && !o->fenced && !o->failed;
    pthread_mutex_unlock(&o->append);
    return wants;
}

/* ---- data ---- */

/* Marks the segments of which the least is needed, up to a number. Returns how many; `append` is held. */
static size_t choose(struct compaction *c)
{
    const struct space *s = &c->o->space;
    size_t open = (size_t)(s->cursor / SEGMENT_BLOCKS),
           most = max_u64(ROUND_SEGMENTS, c->segments / ROUND_SHARE);
    size_t chosen = 0;
    for (unsigned needed = NEEDED_MOST / 4; needed <= NEEDED_MOST; needed += NEEDED_MOST / 4)
        for (size_t i = 0; i < c->segments && chosen < most; i++) {
            const struct segment *g = &s->segments[i];
            if (i == open || c->victims[i] || g->used == 0 || g->used > needed || g->held < SEGMENT_BLOCKS)
                continue;
            c->victims[i] = VICTIM;
            chosen++;
        }
    return chosen;
}

static bool is_victim(const struct compaction *c, uint64_t slot)
{
    uint64_t segment = slot_physical(slot) / SEGMENT_BLOCKS;
    return slot_is_data(slot) && segment < c->segments && c->victims[segment] == VICTIM;
}

/* The next blocks at or after *block that stand in victims, side by side on the disk: how many; 0: none. */
static size_t next_run(const struct compaction *c, uint64_t *block, uint64_t slots[RUN_BLOCKS])
{
    struct overlay *o = c->o;
    uint64_t span;
    size_t n = 0;
    pthread_rwlock_rdlock(&o->index);
    while (*block < o->blocks && !is_victim(c, slots[0] = radix_get(&o->radix, *block, &span)))
        *block += span;
    if (*block < o->blocks)
        n = 1;
    while (n > 0 && n < RUN_BLOCKS && *block + n < o->blocks &&
           is_victim(c, slots[n] = radix_get(&o->radix, *block + n, &span)))
        n++;
    pthread_rwlock_unlock(&o->index);
    return n;
}

static int read_run(const struct compaction *c, uint64_t block, const uint64_t *slots, size_t n,
                    struct err *e)
{
    for (size_t i = 0, next; i < n; i = next) {
        next = i + 1;
        while (next < n && slot_physical(slots[next]) == slot_physical(slots[next - 1]) + 1)
            next++;
        if (overlay_read_whole(c->o, block + i, slots + i, next - i, c->buf + i * BLOCK, e) < 0)
            return -1;
    }
    return 0;
}

/* A record for the blocks from `i` on whose slots are what they were; returns the first after them. `append` is held. */
static int commit_same(struct overlay *o, uint64_t block, uint64_t physical, const uint64_t *slots, size_t n,
                       size_t i, size_t *ret_next, struct err *e)
{
    uint8_t record[MAP_HEADER + MAP_SUM * RUN_BLOCKS];
    uint64_t now[RUN_BLOCKS];
    size_t end = i;
    overlay_load_slots(o, block, n, now);
    for (; end < n && now[end] == slots[end]; end++)
        put_le32(record + MAP_HEADER + MAP_SUM * (end - i), slot_crc(slots[end]));
    if (end > i) {
        struct map_record r = {
            .type = MAP_DATA, .block = block + i, .physical = physical + i, .count = end - i};
        if (overlay_commit_record(o, &r, record, e) < 0)
            return -1;
    }
    *ret_next = end;
    return 0;
}

/* What others wrote meanwhile is dropped from what was taken. `append` is held. */
static int commit_run(struct overlay *o, uint64_t block, uint64_t physical, const uint64_t *slots, size_t n,
                      struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (commit_same(o, block, physical, slots, n, i, &i, e) < 0) {
            space_drop(&o->space, physical + i, n - i, o->sequence);
            return -1;
        }
        if (i < n)
            space_drop(&o->space, physical + i, 1, o->sequence);
    }
    return 0;
}

static int move_run(const struct compaction *c, uint64_t block, const uint64_t *slots, size_t n,
                    struct err *e)
{
    struct overlay *o = c->o;
    uint64_t physical;
    if (read_run(c, block, slots, n, e) < 0)
        return -1;
    pthread_mutex_lock(&o->append);
    int r = overlay_check_writable(o, e);
    if (r == 0)
        r = overlay_take(o, n, &physical, e);
    pthread_mutex_unlock(&o->append);
    if (r < 0)
        return -1;
    r = full_pwrite(o->data_fd, c->buf, n * BLOCK, physical * BLOCK, e);
    pthread_mutex_lock(&o->append);
    if (r == 0)
        r = commit_run(o, block, physical, slots, n, e);
    else
        space_drop(&o->space, physical, n, o->sequence);
    pthread_mutex_unlock(&o->append);
    return r;
}

static int move_all(const struct compaction *c, struct err *e)
{
    uint64_t slots[RUN_BLOCKS];
    size_t n;
    for (uint64_t block = 0; goes_on(c) && (n = next_run(c, &block, slots)) > 0; block += n)
        if (move_run(c, block, slots, n, e) < 0 && e->code != ERR_CORRUPT)
            return -1; /* a damaged block stays where it is, to be found by who reads it */
    return 0;
}

/* The second makes the SYNC of the first durable. */
static int sync_twice(struct overlay *o, struct err *e)
{
    uint64_t upto = 0;
    overlay_sync_begin(o);
    int r = overlay_sync_once(o, &upto, e);
    if (r == 0)
        r = overlay_sync_once(o, &upto, e);
    overlay_sync_end(o, r == 0 ? upto : 0);
    return r;
}

/* *ret_more: whether segments were emptied, and more may be. */
static int empty_segments(struct compaction *c, bool *ret_more, struct err *e)
{
    struct overlay *o = c->o;
    pthread_mutex_lock(&o->append);
    size_t chosen = choose(c);
    bool dead = space_has_dead(&o->space);
    pthread_mutex_unlock(&o->append);
    *ret_more = chosen > 0;
    if (chosen > 0 && move_all(c, e) < 0)
        return -1;
    for (size_t i = 0; i < c->segments; i++)
        c->victims[i] = c->victims[i] ? TRIED : 0;
    return chosen > 0 || dead ? sync_twice(o, e) : 0;
}

/* `once`: one round, for a request that waits for room. */
static int compact_data(struct overlay *o, const atomic_bool *stop, bool once, struct err *e)
{
    pthread_mutex_lock(&o->append);
    size_t segments = o->space.count;
    pthread_mutex_unlock(&o->append);
    cleanup(free) uint8_t *victims = calloc(segments + 1, 1), *buf = malloc(RUN_BLOCKS * BLOCK);
    if (!victims || !buf)
        return err_sys(e, ENOMEM, "overlay");
    struct compaction c = {.o = o, .stop = stop, .victims = victims, .segments = segments, .buf = buf};
    bool more = true;
    do
        if (empty_segments(&c, &more, e) < 0)
            return -1;
    while (more && !once && goes_on(&c));
    return 0;
}

/* ---- the map ---- */

#define OUT_SIZE (256u * 1024)
static_assert(OUT_SIZE >= MAP_RECORD_MAX, "a record fits the buffer");

struct new_map {
    struct overlay *o;
    int fd;
    uint64_t sequence; /* of its last record */
    uint64_t length;   /* with what is in the buffer */
    uint8_t *out;
    size_t used;
};

static int write_out(struct new_map *m, struct err *e)
{
    size_t used = m->used;
    m->used = 0;
    return full_pwrite(m->fd, m->out, used, m->length - used, e);
}

/* `sums` of a DATA record, else NULL. */
static int put_record(struct new_map *m, struct map_record *r, const uint8_t *sums, struct err *e)
{
    size_t size = map_record_size(r);
    if (m->used + size > OUT_SIZE && write_out(m, e) < 0)
        return -1;
    r->sequence = ++m->sequence;
    if (sums)
        memcpy(m->out + m->used + MAP_HEADER, sums, size - MAP_HEADER);
    map_record_encode(r, m->o->seed, m->out + m->used);
    m->used += size;
    m->length += size;
    return 0;
}

/* Blocks that one record can name, from *block on: *block gets the first after them. False: there are none. */
static bool next_record(struct overlay *o, uint64_t *block, struct map_record *ret,
                        uint8_t sums[MAP_SUM * RUN_BLOCKS])
{
    uint64_t span, slot = SLOT_NONE;
    pthread_rwlock_rdlock(&o->index);
    while (*block < o->blocks && (slot = radix_get(&o->radix, *block, &span)) == SLOT_NONE)
        *block += span;
    bool found = *block < o->blocks;
    *ret = (struct map_record){.type = slot == SLOT_ZERO ? MAP_ZERO : MAP_DATA, .block = *block};
    if (found && slot == SLOT_ZERO) {
        for (; *block < o->blocks && radix_get(&o->radix, *block, &span) == SLOT_ZERO; *block += span)
            ;
        *block = min_u64(*block, o->blocks);
        ret->count = *block - ret->block;
    } else if (found) {
        ret->physical = slot_physical(slot);
        for (; slot_is_data(slot) && slot_physical(slot) == ret->physical + ret->count;
             slot = *block < o->blocks ? radix_get(&o->radix, *block, &span) : SLOT_NONE, ++*block) {
            put_le32(sums + MAP_SUM * ret->count, slot_crc(slot));
            if (++ret->count == RUN_BLOCKS)
                break;
        }
        *block = ret->block + ret->count;
    }
    pthread_rwlock_unlock(&o->index);
    return found;
}

static int put_index(struct new_map *m, struct err *e)
{
    uint8_t sums[MAP_SUM * RUN_BLOCKS];
    struct map_record r;
    for (uint64_t block = 0; next_record(m->o, &block, &r, sums);)
        if (put_record(m, &r, r.type == MAP_DATA ? sums : NULL, e) < 0)
            return -1;
    return 0;
}

/* What the old map got behind the record `sequence` at `from`. `append` is held. */
static int put_tail(struct new_map *m, uint64_t from, uint64_t sequence, struct err *e)
{
    cleanup(map_scan) struct map_scan scan = {0};
    struct map_record r;
    const uint8_t *sums;
    int got = 1;
    if (map_scan_init(&scan, m->o->map_fd, m->o->seed, m->o->blocks, e) < 0 ||
        map_scan_from(&scan, from, sequence, e) < 0)
        return -1;
    while (scan.position < m->o->map_end && (got = map_scan_next(&scan, &r, &sums, e)) == 1) {
        if (r.type == MAP_SYNC)
            r.block = 0; /* the last one vouches for all */
        if (put_record(m, &r, r.type == MAP_DATA ? sums : NULL, e) < 0)
            return -1;
    }
    if (got == 0)
        return err_set_sys(e, ERR_CORRUPT, EIO, "overlay map: it is damaged on the disk");
    return got < 0 ? -1 : 0;
}

static int fail(struct overlay *o, const char *what, struct err *e)
{
    int saved_errno = errno;
    o->failed = true;
    return err_set_sys(e, ERR_FAILED, EIO, "sync of the overlay's %s: %s", what, strerror(saved_errno));
}

static int put_name(struct new_map *m, struct err *e)
{
    struct overlay *o = m->o;
    if (renameat(o->dir_fd, "map.new", o->dir_fd, "map") < 0)
        return err_sys(e, errno, "overlay map");
    /* The old one, without what follows, could come back. */
    return o->meta.durable && fsync(o->dir_fd) < 0 ? fail(o, "folder", e) : 0;
}

static int finish_map(struct new_map *m, uint64_t from, uint64_t sequence, struct err *e)
{
    struct overlay *o = m->o;
    if (put_tail(m, from, sequence, e) < 0)
        return -1;
    struct map_record all = {.type = MAP_SYNC, .block = m->sequence};
    if (put_record(m, &all, NULL, e) < 0 || write_out(m, e) < 0)
        return -1;
    if (o->meta.durable && fdatasync(o->data_fd) < 0)
        return fail(o, "data", e);
    if (o->meta.durable && fdatasync(m->fd) < 0)
        return err_sys(e, errno, "overlay map");
    if (put_name(m, e) < 0)
        return -1;
    close(o->map_fd);
    o->map_fd = steal_fd(&m->fd);
    o->map_end = o->map_allocated = o->map_floor = m->length;
    o->sequence = m->sequence;
    o->last_change = o->vouched = all.block;
    o->unsynced = 0;
    return 0;
}

/* No sync goes on. */
static int replace_map(struct new_map *m, uint64_t from, uint64_t sequence, struct err *e)
{
    struct overlay *o = m->o;
    pthread_mutex_lock(&o->append);
    int r = overlay_check_writable(o, e);
    if (r == 0)
        r = finish_map(m, from, sequence, e);
    pthread_mutex_unlock(&o->append);
    return r;
}

static int write_map(struct new_map *m, struct err *e)
{
    struct overlay *o = m->o;
    pthread_mutex_lock(&o->append);
    uint64_t from = o->map_end, sequence = m->sequence = o->sequence;
    pthread_mutex_unlock(&o->append);
    /* A sync before, so that the one that others wait for has little to do. */
    if (put_index(m, e) < 0 || overlay_sync(o, e) < 0)
        return -1;
    overlay_sync_begin(o);
    int r = replace_map(m, from, sequence, e);
    overlay_sync_end(o, r == 0 ? o->vouched : 0);
    return r;
}

static int compact_map(struct overlay *o, struct err *e)
{
    cleanup(free) uint8_t *out = malloc(OUT_SIZE);
    cleanup(close) int fd =
        openat(o->dir_fd, "map.new", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (!out || fd < 0)
        return err_sys(e, out ? errno : ENOMEM, "overlay map");
    struct new_map m = {.o = o, .fd = fd, .out = out};
    int r = write_map(&m, e);
    fd = m.fd;
    if (r < 0)
        unlinkat(o->dir_fd, "map.new", 0);
    return r;
}

/* ---- both ---- */

static int compact(struct overlay *o, const atomic_bool *stop, bool once, struct err *e)
{
    pthread_mutex_lock(&o->compaction);
    int r = compact_data(o, stop, once, e);
    pthread_mutex_lock(&o->append);
    bool is_long = map_is_long(o), fenced = o->fenced;
    pthread_mutex_unlock(&o->append);
    if (r == 0 && is_long && !fenced)
        r = compact_map(o, e);
    pthread_mutex_unlock(&o->compaction);
    return fenced ? 0 : r;
}

int overlay_compact(struct overlay *o, const atomic_bool *stop, struct err *e)
{
    return compact(o, stop, false, e);
}

bool overlay_make_room(struct overlay *o)
{
    struct err e;
    uint64_t before = overlay_stored_bytes(o);
    return compact(o, NULL, true, &e) == 0 && overlay_stored_bytes(o) < before;
}
