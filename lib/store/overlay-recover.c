/* SPDX-License-Identifier: BSD-3-Clause */

/* Opening an overlay again: the map is read twice. The first pass finds how far the records reach and which
 * of them a SYNC or SEAL vouches for; the second builds the index, and reads the data of the others to verify
 * it. */

#include "lib/store/overlay-impl.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/fsutil.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERIFY_BLOCKS 64u

struct recovery {
    struct overlay *o;
    uint64_t vouched;     /* records up to this sequence need no look at their data */
    uint64_t still;       /* and of them those up to this one, when what was not replayed is cut off */
    uint64_t data_blocks; /* whole ones in `data` */
    uint64_t
        end; /* of what is in `data`, or should be: blocks past the end of the file belong to no record, but a
                           * write may have been at them */
    uint8_t *buf; /* VERIFY_BLOCKS */
};

static int find_vouched(struct recovery *v, struct err *e)
{
    struct overlay *o = v->o;
    cleanup(map_scan) struct map_scan scan = {0};
    struct map_record r;
    const uint8_t *sums;
    int got;
    if (map_scan_init(&scan, o->map_fd, o->seed, o->blocks, e) < 0)
        return -1;
    while ((got = map_scan_next(&scan, &r, &sums, e)) == 1) {
        if (r.type == MAP_SYNC || r.type == MAP_SEAL)
            v->vouched = max_u64(v->vouched, r.block);
        if (r.type == MAP_SEAL)
            return 0;
    }
    bool damaged;
    if (got < 0 || map_scan_find_damage(&scan, &damaged, e) < 0)
        return -1;
    if (damaged)
        return err_set_sys(e, ERR_CORRUPT, EIO,
                           "map: damaged at %" PRIu64 ", before records that were flushed", scan.position);
    return 0;
}

/* 1: the blocks match; 0: they do not; -1: they cannot be read. */
static int verify_data(struct recovery *v, const struct map_record *r, const uint8_t *sums, struct err *e)
{
    if (r->physical + r->count > v->data_blocks)
        return 0;
    for (uint64_t done = 0; done < r->count;) {
        uint64_t n = min_u64(VERIFY_BLOCKS, r->count - done);
        if (full_pread(v->o->data_fd, v->buf, n * OVERLAY_BLOCK, (r->physical + done) * OVERLAY_BLOCK, e) < 0)
            return err_wrap(e, "data");
        for (uint64_t i = 0; i < n; i++, done++)
            if (crc32c(0, v->buf + i * OVERLAY_BLOCK, OVERLAY_BLOCK) != get_le32(sums + done * MAP_SUM))
                return 0;
    }
    return 1;
}

static int apply_data(struct recovery *v, const struct map_record *r, const uint8_t *sums, struct err *e)
{
    struct overlay *o = v->o;
    if (r->sequence > v->vouched) {
        int good = verify_data(v, r, sums, e);
        if (good != 1)
            return good;
    }
    if (radix_prepare(&o->radix, r->block, r->count, false, e) < 0)
        return -1;
    uint64_t there = r->physical < v->data_blocks ? min_u64(r->count, v->data_blocks - r->physical) : 0;
    space_need(&o->space, r->physical, there);
    radix_set_data(&o->radix, r->block, there, r->physical, sums);
    /* Flushed, but the file is shorter: each of these blocks is an error to who reads it. */
    for (uint64_t i = there; i < r->count; i++)
        radix_set_data(&o->radix, r->block + i, 1, PHYSICAL_LOST, sums + MAP_SUM * i);
    return 1;
}

/* 1: applied; 0: the replay ends before this record; -1: error. */
static int apply(struct recovery *v, const struct map_record *r, const uint8_t *sums, struct err *e)
{
    struct overlay *o = v->o;
    switch (r->type) {
    case MAP_DATA:
        return apply_data(v, r, sums, e);
    case MAP_ZERO:
        if (radix_prepare(&o->radix, r->block, r->count, true, e) < 0)
            return -1;
        radix_set_zero(&o->radix, r->block, r->count);
        return 1;
    case MAP_SEAL:
        o->sealed = o->fenced = true;
        return 1;
    case MAP_SYNC:
        v->still = max_u64(v->still, r->block);
        return 1;
    }
    return 0;
}

static int replay(struct recovery *v, struct err *e)
{
    struct overlay *o = v->o;
    cleanup(map_scan) struct map_scan scan = {0};
    struct map_record r;
    const uint8_t *sums;
    int got;
    if (map_scan_init(&scan, o->map_fd, o->seed, o->blocks, e) < 0)
        return -1;
    while (!o->sealed && (got = map_scan_next(&scan, &r, &sums, e)) != 0) {
        if (got > 0)
            got = apply(v, &r, sums, e);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        o->map_end = scan.position;
        o->sequence = r.sequence;
        if (r.type == MAP_DATA || r.type == MAP_ZERO)
            o->last_change = r.sequence;
    }
    return 0;
}

/* A SYNC may stand behind records that it does not vouch for, and is cut off with them. Without it, damage of the data that
 * it vouched for would pass for what a power cut left. */
static int vouch_again(struct recovery *v, struct err *e)
{
    uint8_t buf[MAP_HEADER];
    struct map_record r = {.type = MAP_SYNC, .block = v->vouched};
    return v->still < v->vouched ? overlay_append(v->o, &r, buf, e) : 0;
}

/* Durably, before anything is appended: a record of old behind the new ones could else continue their
 * sequence. */
static int cut_map(struct recovery *v, struct err *e)
{
    struct overlay *o = v->o;
    if (vouch_again(v, e) < 0)
        return -1;
    if (ftruncate(o->map_fd, (off_t)o->map_end) < 0)
        return err_sys(e, errno, "map: cut");
    if (o->meta.durable && fsync(o->map_fd) < 0)
        return err_sys(e, errno, "map: sync");
    o->map_allocated = o->map_end;
    return 0;
}

int overlay_recover(struct overlay *o, struct err *e)
{
    struct stat st;
    if (fstat(o->data_fd, &st) < 0)
        return err_sys(e, errno, "data");
    uint64_t size = (uint64_t)st.st_size;
    cleanup(free) uint8_t *buf = malloc(VERIFY_BLOCKS * OVERLAY_BLOCK);
    if (!buf)
        return err_sys(e, ENOMEM, "data");
    struct recovery v = {.o = o, .data_blocks = size / OVERLAY_BLOCK, .buf = buf};
    /* Blocks past the last whole one belong to no record, but a write may have been at them. */
    if (find_vouched(&v, e) < 0 || space_load(&o->space, div_up(size, OVERLAY_BLOCK), e) < 0 ||
        replay(&v, e) < 0)
        return -1;
    o->synced = o->vouched = v.vouched;
    if (!o->sealed && cut_map(&v, e) < 0)
        return -1;
    return space_loaded(&o->space, o->data_fd, o->sequence, e);
}
