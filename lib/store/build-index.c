/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/build-index.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/checksum.h"

#include <inttypes.h>

#define PENDING_FIRST 256u /* leaves */

static uint8_t *root_at(const struct build_index *x, uint64_t leaf)
{
    return x->root + leaf * ROOT_ENTRY_SIZE;
}

int build_index_start(struct build_index *x, const struct view *parent, struct err *e)
{
    if (!parent)
        return 0;
    size_t table_length;
    view_table(parent, &table_length);
    if (table_length / TABLE_ENTRY_SIZE + 1 > TABLE_MAX)
        return err_set(e, ERR_STATE, "the version has %u ancestors, the most there can be: flatten it first",
                       TABLE_MAX);
    x->own_layer = (uint16_t)(table_length / TABLE_ENTRY_SIZE + 1);
    const struct footer *f = view_footer(parent);
    if (build_index_resize(x, leaves_of(f->virtual_size, f->chunk_shift), e) < 0)
        return -1;
    memcpy(x->root, view_root(parent), x->leaves * ROOT_ENTRY_SIZE);
    return 0;
}

void build_index_release(struct build_index *x)
{
    free(x->root);
    free(x->pending);
    free(x->pending_numbers);
}

static int grow_root(struct build_index *x, uint64_t leaves, struct err *e)
{
    uint64_t room = max_u64(leaves, min_u64(x->root_room * 2, LEAVES_MAX));
    uint8_t *root = realloc(x->root, room * ROOT_ENTRY_SIZE);
    if (!root)
        return err_sys(e, ENOMEM, "root of %" PRIu64 " leaves", leaves);
    x->root = root;
    x->root_room = room;
    return 0;
}

int build_index_resize(struct build_index *x, uint64_t leaves, struct err *e)
{
    if (leaves > x->root_room && grow_root(x, leaves, e) < 0)
        return -1;
    const struct root_entry zero = {.flags = ROOT_ZERO};
    for (; x->leaves < leaves; x->leaves++)
        root_entry_encode(&zero, root_at(x, x->leaves));
    x->leaves = leaves;
    return 0;
}

int build_index_put_zero(struct build_index *x, uint64_t leaf, struct err *e)
{
    if (leaf >= x->leaves)
        return build_index_resize(x, leaf + 1, e);
    const struct root_entry zero = {.flags = ROOT_ZERO};
    root_entry_encode(&zero, root_at(x, leaf));
    return 0;
}

static int grow_pending(struct build_index *x, struct err *e)
{
    size_t room = x->pending_room ? x->pending_room * 2 : PENDING_FIRST;
    uint8_t *pending = realloc(x->pending, room * LEAF_SIZE);
    if (pending)
        x->pending = pending;
    uint64_t *numbers = realloc(x->pending_numbers, room * sizeof *numbers);
    if (numbers)
        x->pending_numbers = numbers;
    if (!pending || !numbers)
        return err_sys(e, ENOMEM, "%zu leaves", room);
    x->pending_room = room;
    return 0;
}

int build_index_put(struct build_index *x, uint64_t leaf, const uint8_t data[LEAF_SIZE], struct err *e)
{
    if (leaf >= x->leaves && build_index_resize(x, leaf + 1, e) < 0)
        return -1;
    if (x->pending_count == x->pending_room && grow_pending(x, e) < 0)
        return -1;
    struct root_entry r = {.layer = x->own_layer};
    hash_of(data, LEAF_SIZE, &r.hash);
    root_entry_encode(&r, root_at(x, leaf));
    memcpy(x->pending + x->pending_count * LEAF_SIZE, data, LEAF_SIZE);
    x->pending_numbers[x->pending_count++] = leaf;
    return 0;
}

size_t build_index_pending_bytes(const struct build_index *x)
{
    return x->pending_count * LEAF_SIZE;
}

int build_index_flush(struct build_index *x, int fd, uint64_t offset, struct err *e)
{
    if (full_pwrite(fd, x->pending, build_index_pending_bytes(x), offset, e) < 0)
        return -1;
    for (size_t i = 0; i < x->pending_count; i++) {
        uint8_t *at = root_at(x, x->pending_numbers[i]);
        struct root_entry r;
        if (root_entry_decode(at, &r, e) < 0)
            return -1;
        r.offset = offset + i * LEAF_SIZE;
        root_entry_encode(&r, at);
    }
    x->pending_count = 0;
    return 0;
}

/* Our own leaves come from the page cache mostly, but under memory pressure from the disk: so they are
 * verified. */
static int read_leaf(const struct build_index *x, const struct root_entry *r, uint64_t leaf, int fd,
                     struct view *parent, uint8_t ret[LEAF_SIZE], struct err *e)
{
    if (r->layer != x->own_layer)
        return view_leaf(parent, leaf, ret, e);
    if (full_pread(fd, ret, LEAF_SIZE, r->offset, e) < 0)
        return -1;
    struct hash own;
    hash_of(ret, LEAF_SIZE, &own);
    if (!hash_equal(&own, &r->hash))
        return err_set_sys(e, ERR_CORRUPT, EIO, "leaf %" PRIu64 " reads differently from what was written",
                           leaf);
    return 0;
}

int build_index_checksum(const struct build_index *x, int fd, struct view *parent, uint64_t virtual_size,
                         unsigned chunk_shift, uint8_t ret[CHECKSUM_SIZE], struct err *e)
{
    uint8_t data[LEAF_SIZE];
    struct checksum sum;
    checksum_start(&sum, virtual_size, chunk_shift);
    for (uint64_t leaf = 0; leaf < x->leaves; leaf++) {
        struct root_entry r;
        if (root_entry_decode(root_at(x, leaf), &r, e) < 0)
            return -1;
        if (r.flags & ROOT_ZERO)
            continue;
        if (read_leaf(x, &r, leaf, fd, parent, data, e) < 0)
            return -1;
        checksum_leaf(&sum, leaf, data);
    }
    checksum_end(&sum, ret);
    return 0;
}
