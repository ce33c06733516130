/* SPDX-License-Identifier: BSD-3-Clause */
/* An entry of a leaf is inherited unchanged, at its place, from parent to child. So what a version shares with any younger
 * one, it shares with those of its descendants that have no other existing version between: its children here. */
#include "lib/store/alone.h"

#include "lib/base/cleanup.h"

#include <string.h>

DEFINE_CLEANUP(view, struct view, view_close);

struct member {
    struct uuid layer;
    size_t parent; /* its place in the list; NO_PARENT: none of those that are there */
};
#define NO_PARENT SIZE_MAX

/* The youngest of the first `count` members that the table names. */
static size_t find_parent(const struct view *v, const struct member *members, size_t count)
{
    size_t length;
    const uint8_t *table = view_table(v, &length);
    for (size_t at = length; at > 0; at -= TABLE_ENTRY_SIZE) {
        struct table_entry t;
        table_entry_decode(table + at - TABLE_ENTRY_SIZE, &t);
        for (size_t i = count; i-- > 0;)
            if (uuid_equal(&members[i].layer, &t.layer))
                return i;
    }
    return NO_PARENT;
}

/* The index that the view's own layer has in its entries. */
static unsigned own_index(const struct view *v)
{
    size_t length;
    view_table(v, &length);
    return (unsigned)(length / TABLE_ENTRY_SIZE);
}

/* The children of one version. */
struct children {
    struct view **views;
    size_t count;
};

static uint64_t leaf_count(const struct view *v)
{
    return view_footer(v)->root_length / ROOT_ENTRY_SIZE;
}

/* One of the children has the leaf as a whole. */
static bool leaf_is_shared(const struct view *v, const struct children *c, uint64_t leaf)
{
    const uint8_t *entry = view_root(v) + leaf * ROOT_ENTRY_SIZE;
    for (size_t i = 0; i < c->count; i++)
        if (leaf < leaf_count(c->views[i]) &&
            memcmp(view_root(c->views[i]) + leaf * ROOT_ENTRY_SIZE, entry, ROOT_ENTRY_SIZE) == 0)
            return true;
    return false;
}

/* Bytes of those own frames in `raw` that no child has. Takes them out of `raw`, child by child. */
static int count_leaf(struct view *v, const struct children *c, uint64_t leaf, uint64_t *bytes, struct err *e)
{
    uint8_t raw[LEAF_SIZE], other[LEAF_SIZE];
    const unsigned own = own_index(v), shift = view_footer(v)->chunk_shift;
    if (view_leaf(v, leaf, raw, e) < 0)
        return -1;
    for (size_t i = 0; i < c->count; i++) {
        if (leaf >= leaf_count(c->views[i]))
            continue;
        if (view_leaf(c->views[i], leaf, other, e) < 0)
            return -1;
        for (unsigned k = 0; k < LEAF_SIZE; k += ENTRY_SIZE)
            if (memcmp(raw + k, other + k, ENTRY_SIZE) == 0)
                memset(raw + k, 0, ENTRY_SIZE);
    }
    for (unsigned k = 0; k < LEAF_SIZE; k += ENTRY_SIZE) {
        struct leaf_entry n;
        if (leaf_entry_decode(raw + k, shift, &n, e) < 0)
            return -1;
        if (n.codec != CODEC_ZERO && n.layer == own)
            *bytes += n.stored;
    }
    return 0;
}

/* Only a leaf of its own can have frames of its own. */
static int count_frames(struct view *v, const struct children *c, uint64_t *ret, struct err *e)
{
    const unsigned own = own_index(v);
    uint64_t bytes = 0;
    for (uint64_t leaf = 0; leaf < leaf_count(v); leaf++) {
        struct root_entry r;
        if (root_entry_decode(view_root(v) + leaf * ROOT_ENTRY_SIZE, &r, e) < 0)
            return -1;
        if (!(r.flags & ROOT_ZERO) && r.layer == own && !leaf_is_shared(v, c, leaf) &&
            count_leaf(v, c, leaf, &bytes, e) < 0)
            return -1;
    }
    *ret = bytes;
    return 0;
}

static int open_children(struct store *s, const struct uuid *image, const struct version_alone *list,
                         const struct member *members, size_t count, size_t parent, struct children *c,
                         struct err *e)
{
    for (size_t i = parent + 1; i < count; i++) {
        if (members[i].parent != parent)
            continue;
        if (view_open(s, image, list[i].version, &c->views[c->count], e) < 0)
            return -1;
        c->count++;
    }
    return 0;
}

static void judge(struct store *s, const struct uuid *image, struct version_alone *list,
                  const struct member *members, size_t count, size_t which)
{
    struct err e;
    cleanup(view) struct view *v = NULL;
    cleanup(free) struct view **views = calloc(count, sizeof(struct view *));
    struct children c = {.views = views};
    struct version_alone *one = &list[which];
    if (views && view_open(s, image, one->version, &v, &e) == 0 &&
        open_children(s, image, list, members, count, which, &c, &e) == 0) {
        one->bytes = view_file_length(v);
        one->known = c.count == 0 || count_frames(v, &c, &one->bytes, &e) == 0;
    }
    while (c.count > 0)
        view_close(views[--c.count]);
}

void store_alone(struct store *s, const struct uuid *image, struct version_alone *list, size_t count)
{
    size_t readable = 0; /* from here on all are */
    cleanup(free) struct member *members = calloc(count + 1, sizeof *members);
    for (size_t i = 0; i < count; i++) {
        struct err e;
        cleanup(view) struct view *v = NULL;
        list[i].known = false;
        if (!members || view_open(s, image, list[i].version, &v, &e) < 0) {
            readable = i + 1;
            continue;
        }
        members[i].layer = view_footer(v)->layer;
        members[i].parent = find_parent(v, members, i);
    }
    for (size_t i = readable; i < count; i++)
        judge(s, image, list, members, count, i);
}
