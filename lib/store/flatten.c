/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/flatten.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/internal.h"

#include <inttypes.h>
#include <sys/stat.h>

struct flatten {
    struct store *store;
    struct view *view;
    const struct flatten_options *o;
    uint64_t size, chunk_size;
    uint64_t next, leaves; /* guarded by the engine's lock */
};

bool flatten_is_done(const struct view *v, const struct flatten_options *o)
{
    const struct footer *f = view_footer(v);
    return f->table_length == 0 && f->codec == o->compression.codec &&
           (!o->recompress || f->level == o->compression.level);
}

/* 1: it has data, 0: it is all zero, -1. */
static int leaf_has_data(const struct flatten *f, uint64_t leaf, struct err *e)
{
    struct root_entry r;
    if (root_entry_decode(view_root(f->view) + leaf * ROOT_ENTRY_SIZE, &r, e) < 0)
        return -1;
    return !(r.flags & ROOT_ZERO);
}

static uint64_t leaf_bytes(const struct flatten *f, uint64_t leaf)
{
    uint64_t whole = LEAF_CHUNKS * f->chunk_size;
    return min_u64(whole, f->size - leaf * whole);
}

static int claim_leaf(void *ctx, struct leaf_work *w, struct err *e)
{
    struct flatten *f = ctx;
    while (f->next < f->leaves) {
        w->leaf = f->next++;
        int r = leaf_has_data(f, w->leaf, e);
        if (r < 0)
            return -1;
        if (r > 0) {
            w->dirty[0] = w->dirty[1] = UINT64_MAX;
            w->bytes = leaf_bytes(f, w->leaf);
            return 1;
        }
    }
    return 0;
}

/* Of a layer without compression chunks stand at their own places, uncompressed: there frames are nothing to copy. */
static bool is_copied(const struct flatten *f, const struct leaf_entry *n)
{
    enum codec wanted = f->o->compression.codec;
    return !f->o->recompress && wanted != CODEC_RAW && (n->codec == wanted || n->codec == CODEC_RAW);
}

static int load_chunk(const struct flatten *f, struct leaf_work *w, unsigned i, const struct leaf_entry *n,
                      struct scratch *scratch, struct err *e)
{
    uint64_t chunk = w->leaf * LEAF_CHUNKS + i;
    uint8_t *to = w->data + i * f->chunk_size;
    if (view_check_entry(f->view, chunk, n, scratch, e) < 0)
        return -1;
    if (is_copied(f, n)) {
        memcpy(to, scratch->frame, n->stored);
        w->frames[i] = (struct leaf_entry){.codec = n->codec, .stored = n->stored, .hash = n->hash};
        w->ready[i / 64] |= UINT64_C(1) << (i % 64);
    } else {
        memcpy(to, scratch->chunk, min_u64(f->chunk_size, f->size - chunk * f->chunk_size));
    }
    return 0;
}

static int load_chunks(const struct flatten *f, struct leaf_work *w, struct scratch *scratch, struct err *e)
{
    uint8_t raw[LEAF_SIZE];
    struct leaf_entry n;
    if (view_leaf(f->view, w->leaf, raw, e) < 0)
        return -1;
    for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
        if (leaf_entry_decode(raw + i * ENTRY_SIZE, view_footer(f->view)->chunk_shift, &n, e) < 0)
            return -1;
        if (n.codec == CODEC_ZERO)
            w->zero[i / 64] |= UINT64_C(1) << (i % 64);
        else if ((w->leaf * LEAF_CHUNKS + i) * f->chunk_size >= f->size)
            return err_set_sys(e, ERR_CORRUPT, EIO, "a chunk past the end of the disk");
        else if (load_chunk(f, w, i, &n, scratch, e) < 0)
            return -1;
    }
    return 0;
}

static int load_leaf(void *ctx, struct leaf_work *w, struct err *e)
{
    const struct flatten *f = ctx;
    struct scratch *scratch;
    if (scratch_take(f->store->scratch, &scratch, e) < 0)
        return -1;
    int r = load_chunks(f, w, scratch, e);
    scratch_give(scratch);
    return r;
}

static uint64_t bytes_to_read(const struct flatten *f)
{
    uint64_t bytes = 0;
    struct err ignored; /* what cannot be decoded ends the work itself */
    for (uint64_t leaf = 0; leaf < f->leaves; leaf++)
        if (leaf_has_data(f, leaf, &ignored) > 0)
            bytes += leaf_bytes(f, leaf);
    return bytes;
}

int flatten_build(struct store *s, struct view *v, const struct flatten_options *o, struct build **ret,
                  struct build_result *ret_result, struct err *e)
{
    const struct footer *footer = view_footer(v);
    struct flatten f = {.store = s,
                        .view = v,
                        .o = o,
                        .size = footer->virtual_size,
                        .chunk_size = UINT64_C(1) << footer->chunk_shift,
                        .leaves = leaves_of(footer->virtual_size, footer->chunk_shift)};
    const struct build_options options = {.image = footer->image,
                                          .instead_of = footer,
                                          .chunk_shift = footer->chunk_shift,
                                          .compression = o->compression,
                                          .size = &f.size,
                                          .threads = o->threads,
                                          .reserve = o->reserve,
                                          .progress = o->progress};
    const struct build_source source = {
        .ctx = &f, .claim = claim_leaf, .load = load_leaf, .total = bytes_to_read(&f)};
    struct build *b;
    struct build_result result;
    if (build_layer(s, &options, &source, &b, &result, e) < 0)
        return -1;
    if (memcmp(result.checksum, footer->checksum, CHECKSUM_SIZE) != 0) {
        build_free(b);
        return err_set_sys(e, ERR_CORRUPT, EIO, "its index does not have the checksum that its footer says");
    }
    *ret = b;
    *ret_result = result;
    return 0;
}

static int remove_second_name(const char *name, const char *path, struct err *e)
{
    struct stat own, other;
    if (stat(path, &own) < 0 || stat(name, &other) < 0 || own.st_dev != other.st_dev ||
        own.st_ino != other.st_ino)
        return 0;
    return unlink(name) < 0 ? err_sys(e, errno, "%s", name) : 0;
}

int flatten_settle(struct store *s, const struct uuid *image, uint64_t version, const struct uuid *layer,
                   const uint8_t checksum[CHECKSUM_SIZE], struct footer *ret, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    struct err unreadable;
    struct view *v;
    cleanup(free) char *dir = store_image_dir(s, image);
    cleanup(free) char *path = path_format("%s/%" PRIu64 ".img", dir, version);
    cleanup(free) char *name = path_format("%s/retired/%s.img", dir, uuid_to_text(layer, text));
    if (view_open(s, image, version, &v, &unreadable) < 0)
        return 0;
    const struct footer f = *view_footer(v);
    view_close(v);
    if (uuid_equal(&f.layer, layer))
        return remove_second_name(name, path, e);
    if (memcmp(f.checksum, checksum, CHECKSUM_SIZE) != 0)
        return 0;
    /* Who renamed it may have been killed before it had synced that. */
    if (fsync_dir(dir, e) < 0)
        return -1;
    *ret = f;
    return 1;
}
