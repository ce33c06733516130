/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/commit.h"

#include <inttypes.h>

struct commit {
    struct overlay *overlay;
    struct reader base;
    uint64_t size, chunk_size, leaf_bytes;
    uint64_t position; /* nothing is left before it. Guarded by the engine's lock */
};

static unsigned chunk_at(const struct commit *c, uint64_t offset_in_leaf)
{
    return (unsigned)(offset_in_leaf / c->chunk_size);
}

/* Marks what one extent of the overlay, [from, to) in the leaf, touches, and what it makes zero as a whole.
 */
static void mark_extent(const struct commit *c, struct leaf_work *w, uint64_t from, uint64_t to,
                        enum overlay_kind kind)
{
    uint64_t leaf_end = c->size - w->leaf * c->leaf_bytes;
    for (unsigned i = chunk_at(c, from); i <= chunk_at(c, to - 1); i++) {
        uint64_t start = i * c->chunk_size, end = min_u64(start + c->chunk_size, leaf_end);
        w->dirty[i / 64] |= UINT64_C(1) << (i % 64);
        if (kind == OVERLAY_ZERO && from <= start && to >= end)
            w->zero[i / 64] |= UINT64_C(1) << (i % 64);
    }
    if (kind == OVERLAY_DATA)
        w->bytes += to - from;
}

static int claim_dirty_leaf(void *ctx, struct leaf_work *w, struct err *e)
{
    struct commit *c = ctx;
    (void)e;
    uint64_t at = overlay_next_dirty(c->overlay, c->position);
    if (at >= c->size)
        return 0;
    w->leaf = at / c->leaf_bytes;
    uint64_t start = w->leaf * c->leaf_bytes, end = min_u64(start + c->leaf_bytes, c->size);
    while (at < end) {
        uint64_t length;
        enum overlay_kind kind;
        overlay_extent(c->overlay, at, end - at, &length, &kind);
        if (kind != OVERLAY_NONE)
            mark_extent(c, w, at - start, at - start + length, kind);
        at = overlay_next_dirty(c->overlay, at + length);
    }
    c->position = end;
    return 1;
}

/* Through the overlay, so that what it lacks of a chunk comes from the base. */
static int load_dirty_chunks(void *ctx, struct leaf_work *w, struct err *e)
{
    const struct commit *c = ctx;
    uint64_t start = w->leaf * c->leaf_bytes;
    for (unsigned i = 0, next; i < LEAF_CHUNKS; i = next) {
        for (next = i; next < LEAF_CHUNKS; next++)
            if (!((w->dirty[next / 64] & ~w->zero[next / 64]) >> (next % 64) & 1))
                break;
        if (next == i) {
            next++;
            continue;
        }
        uint64_t from = start + i * c->chunk_size, to = min_u64(start + next * c->chunk_size, c->size);
        if (overlay_pread(c->overlay, &c->base, w->data + (from - start), to - from, from, e) < 0)
            return -1;
    }
    return 0;
}

static int check_pair(struct overlay *o, const struct footer *base, struct err *e)
{
    const struct overlay_meta *m = overlay_meta(o);
    if (!overlay_is_sealed(o))
        return err_set(e, ERR_STATE, "the overlay still takes writes");
    if (!uuid_equal(&m->image, &base->image) || m->base_version != base->version ||
        m->size != base->virtual_size)
        return err_set(e, ERR_STATE, "the overlay does not belong to version %" PRIu64 " of the image",
                       base->version);
    return 0;
}

int commit_overlay(struct store *s, struct overlay *o, struct view *base, struct compression how,
                   const struct progress *progress, struct build **ret, struct build_result *ret_result,
                   struct err *e)
{
    const struct footer *f = view_footer(base);
    if (check_pair(o, f, e) < 0)
        return -1;
    struct commit c = {.overlay = o,
                       .base = view_reader(base),
                       .size = f->virtual_size,
                       .chunk_size = UINT64_C(1) << f->chunk_shift,
                       .leaf_bytes = (UINT64_C(1) << f->chunk_shift) * LEAF_CHUNKS};
    const struct build_options options = {.image = f->image,
                                          .parent = base,
                                          .overlay = overlay_meta(o)->overlay,
                                          .chunk_shift = f->chunk_shift,
                                          .compression = how,
                                          .size = &c.size,
                                          .progress = progress ? *progress : (struct progress){0}};
    const struct build_source source = {
        .ctx = &c, .claim = claim_dirty_leaf, .load = load_dirty_chunks, .total = overlay_dirty_bytes(o)};
    return build_layer(s, &options, &source, ret, ret_result, e);
}
