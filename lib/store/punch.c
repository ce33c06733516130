/* SPDX-License-Identifier: BSD-3-Clause */

/* Of a retired layer a bit for each block of 4 KiB says whether it holds something that is needed. Of every layer another bit
 * says whether the leaf there, which has a block of its own, was looked at: a leaf means the same to all versions that have
 * it, so once is enough. Holes shorter than 128 KiB would cost the file system more extents than they are worth. */
#include "lib/store/punch.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/store/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#define BLOCK 4096u
#define RUN_BLOCKS 32u /* 128 KiB */

struct known_layer {
    struct uuid layer;
    uint8_t *seen; /* a bit a block */
    uint64_t seen_blocks;
    /* Of a retired one: */
    char *path;
    uint8_t *needed; /* a bit a block; NULL: all of it stays */
    uint64_t blocks;
};

struct punch {
    struct known_layer *layers; /* retired ones, and those that were met */
    size_t count;
};

int punch_new(struct punch **ret, struct err *e)
{
    *ret = calloc(1, sizeof **ret);
    return *ret ? 0 : err_sys(e, ENOMEM, "retired layers");
}

void punch_free(struct punch *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++) {
        free(p->layers[i].path);
        free(p->layers[i].needed);
        free(p->layers[i].seen);
    }
    free(p->layers);
    free(p);
}

static bool bit(const uint8_t *bits, uint64_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static void set_bit(uint8_t *bits, uint64_t i)
{
    bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << (i % 8));
}

/* Offsets come from the disk: what lies past the end is cut. */
static void need(struct known_layer *t, uint64_t offset, uint64_t length)
{
    uint64_t end;
    if (!t->needed || length == 0 || add_overflows(offset, length, &end))
        return;
    for (uint64_t i = offset / BLOCK; i < min_u64(div_up(end, BLOCK), t->blocks); i++)
        set_bit(t->needed, i);
}

static int open_quietly(const char *path, int flags)
{
    return open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* *ret is the place of the layer among those that are known. */
static int know_layer(struct punch *p, const struct uuid *layer, size_t *ret, struct err *e)
{
    for (*ret = 0; *ret < p->count; ++*ret)
        if (uuid_equal(&p->layers[*ret].layer, layer))
            return 0;
    struct known_layer *longer = reallocarray(p->layers, p->count + 1, sizeof *longer);
    if (!longer)
        return err_sys(e, ENOMEM, "layers");
    p->layers = longer;
    longer[p->count++] = (struct known_layer){.layer = *layer};
    return 0;
}

int punch_add(struct punch *p, const char *path, struct err *e)
{
    struct footer f;
    struct hash h;
    struct err unreadable;
    size_t at;
    cleanup(close) int fd = open_quietly(path, O_RDONLY);
    if (fd < 0 || layer_read_footer(fd, &f, &h, &unreadable) < 0)
        return 0;
    if (know_layer(p, &f.layer, &at, e) < 0)
        return -1;
    struct known_layer *t = &p->layers[at];
    t->blocks = div_up(f.file_length, BLOCK);
    t->needed = calloc(t->blocks / 8 + 1, 1);
    if (!t->needed)
        return err_sys(e, ENOMEM, "%s", path);
    t->path = path_format("%s", path);
    need(t, f.table_offset, f.table_length);
    need(t, f.file_length - FOOTER_SIZE, FOOTER_SIZE);
    return 0;
}

/* ---- what a version needs ----------------------------------------------------------------------------------------- */

/* Of one view: which of the known ones each layer index is. */
struct reach {
    struct punch *punch;
    struct view *view;
    size_t *known;
    size_t count;
    size_t oldest; /* index of the oldest retired one; count: there is none */
};

static struct known_layer *layer_at(const struct reach *r, size_t index)
{
    return &r->punch->layers[r->known[index]];
}

static int map_layers(struct reach *r, struct err *e)
{
    size_t length;
    const uint8_t *table = view_table(r->view, &length);
    r->oldest = r->count = length / TABLE_ENTRY_SIZE + 1;
    r->known = calloc(r->count, sizeof *r->known);
    if (!r->known)
        return err_sys(e, ENOMEM, "layer table");
    for (size_t i = r->count; i-- > 0;) {
        struct table_entry t = {.layer = view_footer(r->view)->layer};
        if (i + 1 < r->count)
            table_entry_decode(table + i * TABLE_ENTRY_SIZE, &t);
        if (know_layer(r->punch, &t.layer, &r->known[i], e) < 0)
            return -1;
        if (layer_at(r, i)->needed)
            r->oldest = i;
    }
    return 0;
}

/* Offsets that a leaf was read at: so it is no longer than the file. */
static int set_seen(struct known_layer *l, uint64_t block, struct err *e)
{
    if (block >= l->seen_blocks) {
        uint64_t blocks = max_u64(round_up(block + 1, 8), l->seen_blocks * 2);
        uint8_t *longer = realloc(l->seen, blocks / 8);
        if (!longer)
            return err_sys(e, ENOMEM, "layer");
        memset(longer + l->seen_blocks / 8, 0, (blocks - l->seen_blocks) / 8);
        l->seen = longer;
        l->seen_blocks = blocks;
    }
    set_bit(l->seen, block);
    return 0;
}

static int keep_leaf(struct reach *r, uint64_t leaf, struct err *e)
{
    uint8_t raw[LEAF_SIZE];
    struct leaf_entry n;
    if (view_leaf(r->view, leaf, raw, e) < 0)
        return -1;
    for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
        if (leaf_entry_decode(raw + i * ENTRY_SIZE, view_footer(r->view)->chunk_shift, &n, e) < 0)
            return -1;
        if (n.codec != CODEC_ZERO && n.layer < r->count)
            need(layer_at(r, n.layer), n.offset, n.stored);
    }
    return 0;
}

/* A leaf has entries of its own layer and of older ones alone. */
static int keep_leaf_of_root(struct reach *r, uint64_t leaf, struct err *e)
{
    struct root_entry entry;
    if (root_entry_decode(view_root(r->view) + leaf * ROOT_ENTRY_SIZE, &entry, e) < 0)
        return -1;
    if ((entry.flags & ROOT_ZERO) || entry.layer < r->oldest || entry.layer >= r->count)
        return 0;
    struct known_layer *l = layer_at(r, entry.layer);
    uint64_t block = entry.offset / BLOCK;
    if (block < l->seen_blocks && bit(l->seen, block))
        return 0;
    if (keep_leaf(r, leaf, e) < 0)
        return -1;
    need(l, entry.offset, LEAF_SIZE);
    return set_seen(l, block, e);
}

static int keep_leaves(struct reach *r, struct err *e)
{
    const struct footer *f = view_footer(r->view);
    for (uint64_t leaf = 0; r->oldest < r->count && leaf < f->root_length / ROOT_ENTRY_SIZE; leaf++)
        if (keep_leaf_of_root(r, leaf, e) < 0)
            return -1;
    return 0;
}

int punch_keep(struct punch *p, struct view *v, struct err *e)
{
    struct reach r = {.punch = p, .view = v};
    int result = map_layers(&r, e);
    if (result == 0)
        result = keep_leaves(&r, e);
    free(r.known);
    return result;
}

/* ---- holes --------------------------------------------------------------------------------------------------------- */

/* The next dead run at or after *at; false: there is none. */
static bool next_run(const struct known_layer *t, uint64_t *at, uint64_t *ret_end)
{
    while (*at < t->blocks) {
        uint64_t end = *at;
        while (end < t->blocks && !bit(t->needed, end))
            end++;
        if (end - *at >= RUN_BLOCKS) {
            *ret_end = end;
            return true;
        }
        *at = end + 1;
    }
    return false;
}

static uint64_t data_in(int fd, uint64_t from, uint64_t to)
{
    uint64_t bytes = 0;
    while (from < to) {
        off_t data = lseek(fd, (off_t)from, SEEK_DATA);
        if (data < 0 || (uint64_t)data >= to)
            break;
        off_t hole = lseek(fd, data, SEEK_HOLE);
        uint64_t end = hole < 0 ? to : min_u64((uint64_t)hole, to);
        bytes += end - (uint64_t)data;
        from = end;
    }
    return bytes;
}

static uint64_t dead_bytes(const struct known_layer *t, int fd)
{
    uint64_t bytes = 0, end = 0;
    for (uint64_t at = 0; next_run(t, &at, &end); at = end)
        bytes += data_in(fd, at * BLOCK, end * BLOCK);
    return bytes;
}

/* A file system that has no holes keeps it all. */
static int punch_holes(const struct known_layer *t, int fd, struct err *e)
{
    uint64_t end = 0;
    for (uint64_t at = 0; next_run(t, &at, &end); at = end) {
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(at * BLOCK),
                      (off_t)((end - at) * BLOCK)) == 0)
            continue;
        if (errno == EOPNOTSUPP) {
            log_info("%s: its file system has no holes", t->path);
            return 0;
        }
        return err_sys(e, errno, "%s", t->path);
    }
    return 0;
}

static int punch_layer(const struct known_layer *t, const struct rubbish_sink *sink, struct err *e)
{
    cleanup(close) int fd = open_quietly(t->path, O_RDWR);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return 0;
    const struct rubbish r = {.code = "retired-part",
                              .object = t->path,
                              .bytes = dead_bytes(t, fd),
                              .text = "no version needs this much of the layer any more"};
    if (r.bytes == 0)
        return 0;
    int answer = sink->found(sink->ctx, &r, e);
    return answer > 0 ? punch_holes(t, fd, e) : answer;
}

int punch_run(struct punch *p, const struct rubbish_sink *sink, struct err *e)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->layers[i].needed && punch_layer(&p->layers[i], sink, e) < 0)
            return -1;
    return 0;
}
