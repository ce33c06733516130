/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/overlay-radix.h"

#include "lib/base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* An entry of level 0 points to a leaf, one of level n > 0 to a node whose entries are of level n - 1. An
 * entry is NULL (nothing there), ZERO_MARK (all zero) or the pointer. */
#define LEAF_BITS 6u
#define NODE_BITS 7u
#define TOP_LEVEL 4u
#define LEAF_SLOTS (1u << LEAF_BITS)
#define NODE_CHILDREN (1u << NODE_BITS)
static_assert((UINT64_C(1) << (LEAF_BITS + TOP_LEVEL * NODE_BITS)) == RADIX_BLOCKS_MAX,
              "the tree maps the largest disk");

struct leaf {
    uint64_t slot[LEAF_SLOTS];
};

struct node {
    void *child[NODE_CHILDREN];
};

static char zero_mark;
#define ZERO_MARK ((void *)&zero_mark)

/* Blocks [first, end). */
struct range {
    uint64_t first, end;
};

static unsigned shift_of(unsigned level)
{
    return LEAF_BITS + level * NODE_BITS;
}

static bool covers(const struct range *r, uint64_t start, unsigned level)
{
    return r->first <= start && r->end - start >= UINT64_C(1) << shift_of(level);
}

/* The children of a node of `level` that starts at block `start` and that `r` touches: [*from, *to). */
static void children_of(const struct range *r, uint64_t start, unsigned level, unsigned *from, unsigned *to)
{
    unsigned shift = shift_of(level - 1);
    *from = r->first <= start ? 0 : (unsigned)((r->first - start) >> shift);
    *to = (unsigned)min_u64(NODE_CHILDREN, div_up(r->end - start, UINT64_C(1) << shift));
}

/* Makes the leaf or node of an entry that is NULL or ZERO_MARK. */
static int expand(void **entry, unsigned level)
{
    if (*entry && *entry != ZERO_MARK)
        return 0;
    void *made = calloc(1, level == 0 ? sizeof(struct leaf) : sizeof(struct node));
    if (!made)
        return -1;
    if (*entry == ZERO_MARK && level == 0)
        for (unsigned i = 0; i < LEAF_SLOTS; i++)
            ((struct leaf *)made)->slot[i] = SLOT_ZERO;
    if (*entry == ZERO_MARK && level > 0)
        for (unsigned i = 0; i < NODE_CHILDREN; i++)
            ((struct node *)made)->child[i] = ZERO_MARK;
    *entry = made;
    return 0;
}

static int prepare(void **entry, unsigned level, uint64_t start, const struct range *r, bool zero)
{
    if (zero && (*entry == ZERO_MARK || covers(r, start, level)))
        return 0;
    if (expand(entry, level) < 0)
        return -1;
    if (level == 0)
        return 0;
    unsigned from, to;
    children_of(r, start, level, &from, &to);
    struct node *n = *entry;
    for (unsigned i = from; i < to; i++)
        if (prepare(&n->child[i], level - 1, start + ((uint64_t)i << shift_of(level - 1)), r, zero) < 0)
            return -1;
    return 0;
}

int radix_prepare(struct radix *r, uint64_t block, uint64_t count, bool zero, struct err *e)
{
    struct range range = {block, block + count};
    if (prepare(&r->root, TOP_LEVEL, 0, &range, zero) < 0)
        return err_sys(e, ENOMEM, "index of the overlay");
    return 0;
}

static void replace(struct radix *r, uint64_t *slot, uint64_t by)
{
    if (slot_is_data(*slot)) {
        r->data_blocks--;
        if (r->superseded)
            r->superseded(r->ctx, slot_physical(*slot));
    }
    *slot = by;
}

static void free_entry(void *entry, unsigned level)
{
    if (!entry || entry == ZERO_MARK)
        return;
    for (unsigned i = 0; level > 0 && i < NODE_CHILDREN; i++)
        free_entry(((struct node *)entry)->child[i], level - 1);
    free(entry);
}

void radix_release(struct radix *r)
{
    free_entry(r->root, TOP_LEVEL);
    *r = (struct radix)RADIX_INIT;
}

static void zero_leaf(struct radix *tree, struct leaf *leaf, uint64_t start, const struct range *r)
{
    uint64_t from = r->first <= start ? 0 : r->first - start, to = min_u64(LEAF_SLOTS, r->end - start);
    for (uint64_t i = from; i < to; i++)
        replace(tree, &leaf->slot[i], SLOT_ZERO);
}

static void set_zero(struct radix *tree, void **entry, unsigned level, uint64_t start, const struct range *r)
{
    if (*entry == ZERO_MARK || (!*entry && covers(r, start, level))) {
        *entry = ZERO_MARK;
        return;
    }
    if (level == 0) {
        zero_leaf(tree, *entry, start, r);
    } else {
        unsigned from, to;
        children_of(r, start, level, &from, &to);
        for (unsigned i = from; i < to; i++)
            set_zero(tree, &((struct node *)*entry)->child[i], level - 1,
                     start + ((uint64_t)i << shift_of(level - 1)), r);
    }
    if (covers(r, start, level)) {
        free_entry(*entry, level);
        *entry = ZERO_MARK;
    }
}

void radix_set_zero(struct radix *r, uint64_t block, uint64_t count)
{
    struct range range = {block, block + count};
    set_zero(r, &r->root, TOP_LEVEL, 0, &range);
}

static unsigned child_index(uint64_t block, unsigned level)
{
    return (unsigned)(block >> shift_of(level)) & (NODE_CHILDREN - 1);
}

static struct leaf *leaf_at(const struct radix *r, uint64_t block)
{
    void *entry = r->root;
    for (unsigned level = TOP_LEVEL; level > 0; level--)
        entry = ((struct node *)entry)->child[child_index(block, level - 1)];
    return entry;
}

void radix_set_data(struct radix *r, uint64_t block, uint64_t count, uint64_t physical, const uint8_t *sums)
{
    struct leaf *leaf = NULL;
    for (uint64_t i = 0; i < count; i++) {
        unsigned at = (unsigned)(block + i) & (LEAF_SLOTS - 1);
        if (!leaf || at == 0)
            leaf = leaf_at(r, block + i);
        replace(r, &leaf->slot[at], slot_make(physical + i, get_le32(sums + 4 * i)));
        r->data_blocks++;
    }
}

uint64_t radix_get(const struct radix *r, uint64_t block, uint64_t *ret_blocks)
{
    void *entry = r->root;
    unsigned level = TOP_LEVEL;
    while (entry && entry != ZERO_MARK && level > 0)
        entry = ((struct node *)entry)->child[child_index(block, --level)];
    if (entry && entry != ZERO_MARK) {
        *ret_blocks = 1;
        return ((struct leaf *)entry)->slot[block & (LEAF_SLOTS - 1)];
    }
    uint64_t span = UINT64_C(1) << shift_of(level);
    *ret_blocks = span - (block & (span - 1));
    return entry ? SLOT_ZERO : SLOT_NONE;
}
