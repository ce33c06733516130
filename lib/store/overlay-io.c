/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading and writing through an overlay.
 *
 * Readers take slots under the index lock and read at leisure: what a slot names is not overwritten as long as it is the
 * block's; who comes later finds that its checksum does not match, and looks again.
 * Writers put their blocks into a range of `data` that they reserved, without a lock, and take `append` for
 * the record only.
 *
 * A block that a write covers in part is composed of its old content and the new bytes. The slot that the old
 * content came from is remembered; if it is another one when the record is to be written, somebody wrote to
 * the block in between, and it is composed again. Nobody waits for another's read or write of data. */

#include "lib/store/overlay-impl.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/fsutil.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define BLOCK ((uint64_t)OVERLAY_BLOCK)
#define READ_BATCH 256u    /* slots taken at a time: 1 MiB */
#define SUMS_ON_STACK 256u /* blocks of a write whose record needs no malloc */
/* A SYNC at the latest after so much data: bounds recovery. */
#define SYNC_BLOCKS (64 * MIB / OVERLAY_BLOCK)

/* --- reading --- */

/* What does not match its slot: the block was written since the slot was taken, and its old place given back, or it is
 * damaged. In the first case what it is now is read. */
static int read_anew(struct overlay *o, uint64_t block, uint64_t slot, uint8_t *dst, struct err *e)
{
    for (uint64_t seen = slot;; seen = slot) {
        overlay_load_slots(o, block, 1, &slot);
        if (slot == seen)
            return err_set_sys(e, ERR_CORRUPT, EIO, "overlay: checksum mismatch at %" PRIu64, block * BLOCK);
        if (!slot_is_data(slot)) {
            memset(dst, 0, BLOCK);
            return 0;
        }
        if (full_pread(o->data_fd, dst, BLOCK, slot_physical(slot) * BLOCK, e) < 0)
            return err_wrap(e, "overlay data");
        if (crc32c(0, dst, BLOCK) == slot_crc(slot))
            return 0;
    }
}

int overlay_read_whole(struct overlay *o, uint64_t block, const uint64_t *slots, size_t n, uint8_t *dst,
                       struct err *e)
{
    if (full_pread(o->data_fd, dst, n * BLOCK, slot_physical(slots[0]) * BLOCK, e) < 0)
        return err_wrap(e, "overlay data");
    for (size_t i = 0; i < n; i++)
        if (crc32c(0, dst + i * BLOCK, BLOCK) != slot_crc(slots[i]) &&
            read_anew(o, block + i, slots[i], dst + i * BLOCK, e) < 0)
            return -1;
    return 0;
}

static size_t adjacent(const uint64_t *slots, size_t n)
{
    size_t i = 1;
    while (i < n && slot_physical(slots[i]) == slot_physical(slots[0]) + i)
        i++;
    return i;
}

/* Bytes [from, to) of a run of blocks that are data; slots[0] is of the block of `from`. */
static int read_data(struct overlay *o, const uint64_t *slots, uint8_t *dst, uint64_t from, uint64_t to,
                     struct err *e)
{
    while (from < to) {
        uint64_t block = from / BLOCK, skip = from % BLOCK, whole = (to - from) / BLOCK, len;
        size_t blocks = 1;
        if (skip == 0 && whole > 0) {
            blocks = adjacent(slots, (size_t)whole);
            len = blocks * BLOCK;
            if (overlay_read_whole(o, block, slots, blocks, dst, e) < 0)
                return -1;
        } else {
            uint8_t bounce[OVERLAY_BLOCK];
            len = min_u64(BLOCK - skip, to - from);
            if (overlay_read_whole(o, block, slots, 1, bounce, e) < 0)
                return -1;
            memcpy(dst, bounce + skip, len);
        }
        slots += blocks;
        dst += len;
        from += len;
    }
    return 0;
}

/* Bytes [from, to) of blocks that are all of the kind of slots[0]. */
static int read_run(struct overlay *o, const struct reader *base, const uint64_t *slots, uint8_t *dst,
                    uint64_t from, uint64_t to, struct err *e)
{
    if (slots[0] == SLOT_NONE)
        return base->pread(base->ctx, dst, to - from, from, e);
    if (slots[0] == SLOT_ZERO) {
        memset(dst, 0, to - from);
        return 0;
    }
    return read_data(o, slots, dst, from, to, e);
}

void overlay_load_slots(struct overlay *o, uint64_t block, size_t n, uint64_t *slots)
{
    uint64_t span;
    pthread_rwlock_rdlock(&o->index);
    for (size_t i = 0; i < n;) {
        uint64_t slot = radix_get(&o->radix, block + i, &span);
        for (uint64_t k = min_u64(span, n - i); k > 0; k--)
            slots[i++] = slot;
    }
    pthread_rwlock_unlock(&o->index);
}

static bool same_kind(uint64_t a, uint64_t b)
{
    return a == b || (slot_is_data(a) && slot_is_data(b));
}

/* At most READ_BATCH blocks. */
static int read_batch(struct overlay *o, const struct reader *base, uint8_t *dst, uint64_t from, uint64_t to,
                      struct err *e)
{
    uint64_t slots[READ_BATCH], first = from / BLOCK;
    size_t n = (size_t)(div_up(to, BLOCK) - first);
    overlay_load_slots(o, first, n, slots);
    for (size_t i = 0; i < n;) {
        size_t next = i + 1;
        while (next < n && same_kind(slots[next], slots[i]))
            next++;
        uint64_t run_end = min_u64((first + next) * BLOCK, to);
        if (read_run(o, base, slots + i, dst, from, run_end, e) < 0)
            return -1;
        dst += run_end - from;
        from = run_end;
        i = next;
    }
    return 0;
}

static int check_range(const struct overlay *o, uint64_t count, uint64_t offset, struct err *e)
{
    if (offset > o->meta.size || count > o->meta.size - offset)
        return err_set_sys(e, ERR_FAILED, EINVAL, "%" PRIu64 " bytes at %" PRIu64 " are not within the disk",
                           count, offset);
    return 0;
}

int overlay_pread(struct overlay *o, const struct reader *base, void *buf, size_t count, uint64_t offset,
                  struct err *e)
{
    if (check_range(o, count, offset, e) < 0)
        return -1;
    uint8_t *dst = buf;
    uint64_t end = offset + count;
    while (offset < end) {
        /* Ends on multiples of the batch, so that no chunk of the base is cut in two. */
        uint64_t stop = min_u64(end, round_down(offset, READ_BATCH * BLOCK) + READ_BATCH * BLOCK);
        if (read_batch(o, base, dst, offset, stop, e) < 0)
            return -1;
        dst += stop - offset;
        offset = stop;
    }
    return 0;
}

/* --- writing --- */

/* A block that the client's bytes do not cover as it will be stored: the first or the last of a write. */
struct edge {
    uint64_t block;
    uint64_t seen; /* the slot that its old content came from */
    bool compose;  /* false: the write covers all of it that is on the disk, the rest is zero */
};

struct write {
    struct overlay *o;
    const struct reader *base;
    const uint8_t *buf;
    uint64_t from, to;      /* bytes of the disk */
    uint64_t first, blocks; /* blocks touched */
    uint64_t physical;      /* reserved for them */
    uint8_t *record;        /* the DATA record in the making */
    struct edge edge[2];
    unsigned edges;
};

static void add_edge(struct write *w, uint64_t block)
{
    uint64_t start = block * BLOCK, from = max_u64(start, w->from), to = min_u64(start + BLOCK, w->to);
    if (to - from == BLOCK || (w->edges > 0 && w->edge[0].block == block))
        return;
    uint64_t on_disk = min_u64(BLOCK, w->o->meta.size - start);
    w->edge[w->edges++] = (struct edge){.block = block, .compose = to - from < on_disk};
}

static int put_block(struct write *w, const uint8_t *data, uint64_t block, size_t blocks, struct err *e)
{
    uint64_t at = block - w->first;
    for (size_t i = 0; i < blocks; i++)
        put_le32(w->record + MAP_HEADER + (at + i) * MAP_SUM, crc32c(0, data + i * BLOCK, BLOCK));
    if (full_pwrite(w->o->data_fd, data, blocks * BLOCK, (w->physical + at) * BLOCK, e) < 0)
        return err_wrap(e, "overlay data");
    return 0;
}

static int put_edge(struct write *w, struct edge *g, struct err *e)
{
    uint8_t block[OVERLAY_BLOCK] = {0};
    uint64_t start = g->block * BLOCK, from = max_u64(start, w->from), to = min_u64(start + BLOCK, w->to);
    uint64_t on_disk = min_u64(BLOCK, w->o->meta.size - start);
    if (g->compose) {
        overlay_load_slots(w->o, g->block, 1, &g->seen);
        if (read_run(w->o, w->base, &g->seen, block, start, start + on_disk, e) < 0)
            return -1;
    }
    memcpy(block + (from - start), w->buf + (from - w->from), to - from);
    return put_block(w, block, g->block, 1, e);
}

static int put_data(struct write *w, struct err *e)
{
    uint64_t first = w->first, end = w->first + w->blocks;
    for (unsigned i = 0; i < w->edges; i++) {
        if (put_edge(w, &w->edge[i], e) < 0)
            return -1;
        if (w->edge[i].block == first)
            first++;
        else
            end--;
    }
    if (first >= end)
        return 0;
    return put_block(w, w->buf + (first * BLOCK - w->from), first, (size_t)(end - first), e);
}

/* The first edge whose block got another slot since it was composed; `append` is held, so no slot changes
 * now. */
static struct edge *stale_edge(struct write *w)
{
    uint64_t now;
    for (unsigned i = 0; i < w->edges; i++) {
        if (!w->edge[i].compose)
            continue;
        overlay_load_slots(w->o, w->edge[i].block, 1, &now);
        if (now != w->edge[i].seen)
            return &w->edge[i];
    }
    return NULL;
}

int overlay_commit_record(struct overlay *o, struct map_record *r, uint8_t *buf, struct err *e)
{
    if (overlay_check_writable(o, e) < 0)
        return -1;
    pthread_rwlock_wrlock(&o->index);
    int prepared = radix_prepare(&o->radix, r->block, r->count, r->type == MAP_ZERO, e);
    pthread_rwlock_unlock(&o->index);
    if (prepared < 0 || overlay_append(o, r, buf, e) < 0)
        return -1;
    pthread_rwlock_wrlock(&o->index);
    if (r->type == MAP_DATA)
        radix_set_data(&o->radix, r->block, r->count, r->physical, buf + MAP_HEADER);
    else
        radix_set_zero(&o->radix, r->block, r->count);
    pthread_rwlock_unlock(&o->index);
    o->last_change = r->sequence;
    return 0;
}

static int reserve(struct write *w, struct err *e)
{
    struct overlay *o = w->o;
    pthread_mutex_lock(&o->append);
    int r = overlay_check_writable(o, e);
    if (r == 0)
        r = overlay_check_space(o, w->blocks, MAP_HEADER + MAP_SUM * w->blocks, e);
    if (r == 0)
        r = overlay_take(o, w->blocks, &w->physical, e);
    pthread_mutex_unlock(&o->append);
    return r;
}

static void unreserve(struct write *w)
{
    pthread_mutex_lock(&w->o->append);
    space_drop(&w->o->space, w->physical, w->blocks, w->o->sequence);
    pthread_mutex_unlock(&w->o->append);
}

/* Sets *ret_due when a SYNC is. */
static int publish(struct write *w, bool *ret_due, struct err *e)
{
    struct overlay *o = w->o;
    struct map_record r = {.type = MAP_DATA, .block = w->first, .physical = w->physical, .count = w->blocks};
    struct edge *stale;
    pthread_mutex_lock(&o->append);
    while ((stale = stale_edge(w))) {
        pthread_mutex_unlock(&o->append);
        if (put_edge(w, stale, e) < 0)
            return -1;
        pthread_mutex_lock(&o->append);
    }
    int done = overlay_commit_record(o, &r, w->record, e);
    if (done == 0) {
        o->unsynced += w->blocks;
        *ret_due = o->unsynced >= SYNC_BLOCKS;
    }
    pthread_mutex_unlock(&o->append);
    return done;
}

static int write_with_record(struct write *w, struct err *e)
{
    bool due = false;
    add_edge(w, w->first);
    add_edge(w, w->first + w->blocks - 1);
    if (reserve(w, e) < 0 && (e->sys != ENOSPC || !overlay_make_room(w->o) || reserve(w, e) < 0))
        return -1;
    if (put_data(w, e) < 0 || publish(w, &due, e) < 0) {
        unreserve(w);
        return -1;
    }
    return due ? overlay_sync(w->o, e) : 0;
}

/* At most MAP_COUNT_MAX blocks. */
static int write_piece(struct overlay *o, const struct reader *base, const uint8_t *buf, uint64_t from,
                       uint64_t to, struct err *e)
{
    uint8_t small[MAP_HEADER + MAP_SUM * SUMS_ON_STACK];
    cleanup(free) uint8_t *large = NULL;
    uint64_t first = from / BLOCK, blocks = div_up(to, BLOCK) - first;
    if (blocks > SUMS_ON_STACK && !(large = malloc(MAP_HEADER + MAP_SUM * blocks)))
        return err_sys(e, ENOMEM, "overlay");
    struct write w = {
        .o = o, .base = base, .buf = buf, .from = from, .to = to, .first = first, .blocks = blocks};
    w.record = large ? large : small;
    return write_with_record(&w, e);
}

int overlay_pwrite(struct overlay *o, const struct reader *base, const void *buf, size_t count,
                   uint64_t offset, struct err *e)
{
    if (check_range(o, count, offset, e) < 0)
        return -1;
    const uint8_t *src = buf;
    uint64_t end = offset + count;
    while (offset < end) {
        uint64_t stop = min_u64(end, (offset / BLOCK + MAP_COUNT_MAX) * BLOCK);
        if (write_piece(o, base, src, offset, stop, e) < 0)
            return -1;
        src += stop - offset;
        offset = stop;
    }
    return 0;
}

/* --- zeroes --- */

/* `append` is held. A range that is zero already needs no record: trims repeat. */
static bool zero_already(struct overlay *o, uint64_t block, uint64_t count)
{
    uint64_t end = block + count, span;
    pthread_rwlock_rdlock(&o->index);
    while (block < end && radix_get(&o->radix, block, &span) == SLOT_ZERO)
        block += span;
    pthread_rwlock_unlock(&o->index);
    return block >= end;
}

static int zero_now(struct overlay *o, uint64_t block, uint64_t count, struct err *e)
{
    uint8_t buf[MAP_HEADER];
    struct map_record r = {.type = MAP_ZERO, .block = block, .count = count};
    pthread_mutex_lock(&o->append);
    int done = overlay_check_writable(o, e);
    if (done == 0 && !zero_already(o, block, count)) {
        done = overlay_check_space(o, 0, sizeof buf, e);
        if (done == 0)
            done = overlay_commit_record(o, &r, buf, e);
    }
    pthread_mutex_unlock(&o->append);
    return done;
}

static int zero_blocks(struct overlay *o, uint64_t block, uint64_t count, struct err *e)
{
    int r = zero_now(o, block, count, e);
    return r < 0 && e->sys == ENOSPC && overlay_make_room(o) ? zero_now(o, block, count, e) : r;
}

/* Bytes [from, to) of one block. */
static int zero_part(struct overlay *o, const struct reader *base, uint64_t from, uint64_t to, struct err *e)
{
    static const uint8_t zeroes[OVERLAY_BLOCK];
    if (from >= to)
        return 0;
    return write_piece(o, base, zeroes, from, to, e);
}

int overlay_zero(struct overlay *o, const struct reader *base, uint64_t count, uint64_t offset, struct err *e)
{
    if (check_range(o, count, offset, e) < 0)
        return -1;
    uint64_t to = offset + count, first = div_up(offset, BLOCK);
    uint64_t end = to == o->meta.size ? o->blocks : to / BLOCK; /* whole blocks [first, end) */
    if (zero_part(o, base, offset, min_u64(first * BLOCK, to), e) < 0)
        return -1;
    if (first < end && zero_blocks(o, first, end - first, e) < 0)
        return -1;
    return end >= first ? zero_part(o, base, end * BLOCK, to, e) : 0;
}
