/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/overlay-space.h"

#include "lib/base/bytes.h"
#include "lib/store/overlay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SEGMENT_BYTES ((off_t)SEGMENT_BLOCKS * OVERLAY_BLOCK)
#define SEGMENTS_MAX (PHYSICAL_BLOCKS_MAX / SEGMENT_BLOCKS)
#define SEGMENTS_STEP 64u
/* The file is long when it is so many times as long as what is in it, and so many blocks more: 16 GiB. */
#define LONG_TIMES 4u
#define LONG_BLOCKS (UINT64_C(4) << 20)
static_assert(PHYSICAL_LOST >= SEGMENTS_MAX * SEGMENT_BLOCKS, "no segment has it");
static_assert(SEGMENTS_MAX < UINT32_MAX, "the queue's links have 32 bits");

void space_release(struct space *s)
{
    free(s->segments);
    *s = (struct space){0};
}

/* ---- the queue of dead ones ---- */

/* The one that the cursor is in is not at its end yet. */
static bool is_open(const struct space *s, size_t segment)
{
    return segment == s->cursor / SEGMENT_BLOCKS;
}

static void check_dead(struct space *s, size_t segment, uint64_t sequence)
{
    struct segment *g = &s->segments[segment];
    if (g->used > 0 || g->held == 0 || s->loading || is_open(s, segment))
        return;
    g->dead_since = sequence;
    g->next = 0;
    if (s->last)
        s->segments[s->last - 1].next = (uint32_t)segment + 1;
    else
        s->first = (uint32_t)segment + 1;
    s->last = (uint32_t)segment + 1;
}

bool space_next_dead(struct space *s, uint64_t sequence, size_t *ret_segment)
{
    if (!s->first || s->segments[s->first - 1].dead_since > sequence)
        return false;
    *ret_segment = s->first - 1;
    s->first = s->segments[*ret_segment].next;
    if (!s->first)
        s->last = 0;
    return true;
}

bool space_has_dead(const struct space *s)
{
    return s->first != 0;
}

void space_is_hole(struct space *s, size_t segment)
{
    s->held -= s->segments[segment].held;
    s->segments[segment].held = 0;
}

/* ---- taking and dropping ---- */

static int grow(struct space *s, uint64_t blocks, struct err *e)
{
    size_t wanted = (size_t)div_up(blocks, SEGMENT_BLOCKS);
    if (wanted <= s->count)
        return 0;
    /* In steps that grow with it: who appends moves all of it a few times only. */
    size_t count = wanted + SEGMENTS_STEP + wanted / 4;
    struct segment *more = realloc(s->segments, count * sizeof *more);
    if (!more)
        return err_sys(e, ENOMEM, "overlay");
    memset(more + s->count, 0, (count - s->count) * sizeof *more);
    s->segments = more;
    s->count = count;
    return 0;
}

/* `blocks` from segments on that are holes. */
static bool find_holes(const struct space *s, uint64_t blocks, uint64_t *ret_physical)
{
    size_t end = (size_t)min_u64(s->count, SEGMENTS_MAX), wanted = (size_t)div_up(blocks, SEGMENT_BLOCKS),
           run = 0;
    for (size_t i = 0; i < end; i++) {
        run = s->segments[i].held == 0 && !is_open(s, i) ? run + 1 : 0;
        if (run == wanted) {
            *ret_physical = (i + 1 - wanted) * SEGMENT_BLOCKS;
            return true;
        }
    }
    return false;
}

/* After it has gone round, the cursor meets segments that are in use. */
static bool is_free(const struct space *s, uint64_t physical, uint64_t blocks)
{
    uint64_t end = physical + blocks;
    if (end > SEGMENTS_MAX * SEGMENT_BLOCKS)
        return false;
    for (uint64_t i = div_up(physical, SEGMENT_BLOCKS); i < div_up(end, SEGMENT_BLOCKS) && i < s->count; i++)
        if (s->segments[i].held > 0)
            return false;
    return true;
}

static void move_cursor(struct space *s, uint64_t to, uint64_t sequence)
{
    size_t left = (size_t)(s->cursor / SEGMENT_BLOCKS);
    s->cursor = to;
    if (left < s->count)
        check_dead(s, left, sequence);
}

int space_take(struct space *s, uint64_t blocks, uint64_t sequence, uint64_t *ret_physical, struct err *e)
{
    uint64_t at = s->cursor;
    bool is_long = at + blocks > LONG_TIMES * s->held + LONG_BLOCKS, has_room = is_free(s, at, blocks);
    if ((is_long || !has_room) && !find_holes(s, blocks, &at) && !has_room)
        return err_set_sys(e, ERR_FAILED, ENOSPC, "the overlay has reached 16 TiB");
    if (grow(s, at + blocks, e) < 0)
        return -1;
    for (uint64_t i = 0, n; i < blocks; i += n) {
        struct segment *g = &s->segments[(at + i) / SEGMENT_BLOCKS];
        n = min_u64(blocks - i, SEGMENT_BLOCKS - (at + i) % SEGMENT_BLOCKS);
        g->used += (uint16_t)n;
        g->held += (uint16_t)n;
    }
    s->held += blocks;
    move_cursor(s, at + blocks, sequence);
    *ret_physical = at;
    return 0;
}

void space_drop(struct space *s, uint64_t physical, uint64_t blocks, uint64_t sequence)
{
    for (uint64_t i = 0, n; physical != PHYSICAL_LOST && i < blocks; i += n) {
        size_t segment = (size_t)((physical + i) / SEGMENT_BLOCKS);
        n = min_u64(blocks - i, SEGMENT_BLOCKS - (physical + i) % SEGMENT_BLOCKS);
        s->segments[segment].used -= (uint16_t)n;
        check_dead(s, segment, sequence);
    }
}

/* ---- opening ---- */

int space_load(struct space *s, uint64_t end, struct err *e)
{
    if (grow(s, end, e) < 0)
        return -1;
    for (uint64_t i = 0; i < div_up(end, SEGMENT_BLOCKS); i++)
        s->segments[i].held = (uint16_t)min_u64(SEGMENT_BLOCKS, end - i * SEGMENT_BLOCKS);
    s->cursor = s->held = end;
    s->loading = true;
    return 0;
}

void space_need(struct space *s, uint64_t physical, uint64_t blocks)
{
    for (uint64_t i = 0; i < blocks; i++)
        s->segments[(physical + i) / SEGMENT_BLOCKS].used++;
}

/* The first segment at or after `segment` of which the file has something. */
static int next_data(int fd, size_t segment, size_t *ret, struct err *e)
{
    off_t at = lseek(fd, (off_t)segment * SEGMENT_BYTES, SEEK_DATA);
    if (at < 0 && errno != ENXIO)
        return err_sys(e, errno, "overlay data");
    *ret = at < 0 ? SIZE_MAX : (size_t)(at / SEGMENT_BYTES);
    return 0;
}

int space_loaded(struct space *s, int fd, uint64_t sequence, struct err *e)
{
    size_t data = 0, end = (size_t)div_up(s->cursor, SEGMENT_BLOCKS);
    s->loading = false;
    for (size_t i = 0; i < end; i++) {
        if ((i == 0 || data < i) && next_data(fd, i, &data, e) < 0)
            return -1;
        if (data > i && s->segments[i].used == 0 && !is_open(s, i))
            space_is_hole(s, i);
        else
            check_dead(s, i, sequence);
    }
    return 0;
}
