/* SPDX-License-Identifier: BSD-3-Clause */
/* A view is a version opened for reading: its layer, its table and root, and the leaves that were needed so
 * far.
 *
 * Open checks footer, table and root. A leaf is read and checked when a chunk of it is first wanted, and an
 * older layer is opened when an entry first points into it; both are put into their arrays by
 * compare-and-swap and stay until the view is closed, so that reading takes no lock here. Those who lose that
 * race throw theirs away. Once the store's views keep as many leaves as they may, others are read each time.
 *
 * A chunk of CODEC_RAW is verified as a whole at its first touch through a view; from then on requests go
 * straight to the file. All other chunks go through the cache, which holds nothing unverified. */
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>

struct view {
    struct store *store;
    unsigned refs; /* under the store's lock */
    struct view *next;
    char *image_dir;
    struct layer *own;
    uint64_t size;
    unsigned chunk_shift;
    uint64_t leaf_count;
    uint8_t *root;
    _Atomic(const uint8_t *) *leaves; /* as they lie on the disk; NULL: not kept */
    _Atomic uint64_t *verified;       /* RAW chunks whose hash was checked, a bit each: whole words a leaf */
    unsigned layer_count;             /* own included: it is the last */
    uint8_t *raw_table;
    struct table_entry *table;       /* layer_count entries */
    _Atomic(struct layer *) *layers; /* layer_count; NULL: not opened yet */
};

#define VERIFIED_WORDS (LEAF_CHUNKS / 64)

/* For all leaves that are zero. */
static const uint8_t zero_leaf[LEAF_SIZE];

/* --- opening --- */

/* A copy of the leaf. NULL: as many are kept as may be, or there is no memory for it. */
static const uint8_t *keep_leaf(struct store *s, const uint8_t raw[LEAF_SIZE])
{
    uint8_t *leaf = NULL;
    if (atomic_fetch_add(&s->leaves, 1) < s->leaves_max)
        leaf = malloc(LEAF_SIZE);
    if (leaf)
        memcpy(leaf, raw, LEAF_SIZE);
    else
        atomic_fetch_sub(&s->leaves, 1);
    return leaf;
}

static void forget_leaf(struct store *s, const uint8_t *leaf)
{
    free((void *)(uintptr_t)leaf);
    atomic_fetch_sub(&s->leaves, 1);
}

static void view_free(struct view *v)
{
    if (!v)
        return;
    for (uint64_t i = 0; v->leaves && i < v->leaf_count; i++) {
        const uint8_t *leaf = atomic_load_explicit(&v->leaves[i], memory_order_relaxed);
        if (leaf && leaf != zero_leaf)
            forget_leaf(v->store, leaf);
    }
    for (unsigned i = 0; i + 1 < v->layer_count; i++)
        layer_close(atomic_load_explicit(&v->layers[i], memory_order_relaxed));
    layer_close(v->own);
    free(v->leaves);
    free(v->verified);
    free(v->layers);
    free(v->table);
    free(v->raw_table);
    free(v->root);
    free(v->image_dir);
    free(v);
}

DEFINE_CLEANUP(view, struct view, view_free);

static int load_table(struct view *v, struct err *e)
{
    const struct footer *f = &v->own->footer;
    unsigned ancestors = (unsigned)(f->table_length / TABLE_ENTRY_SIZE);
    v->raw_table = malloc(f->table_length + 1);
    v->table = calloc(ancestors + 1, sizeof *v->table);
    if (!v->raw_table || !v->table)
        return err_sys(e, ENOMEM, "layer table");
    if (layer_pread_verified(v->own, v->raw_table, f->table_length, f->table_offset, &f->table_hash, e) < 0)
        return err_wrap(e, "layer table");
    for (unsigned i = 0; i < ancestors; i++)
        table_entry_decode(v->raw_table + i * TABLE_ENTRY_SIZE, &v->table[i]);
    v->table[ancestors] = (struct table_entry){.layer = f->layer};
    v->layers = calloc(ancestors + 1, sizeof *v->layers);
    if (!v->layers)
        return err_sys(e, ENOMEM, "layer table");
    atomic_init(&v->layers[ancestors], v->own);
    v->layer_count = ancestors + 1;
    return 0;
}

static int load_root(struct view *v, struct err *e)
{
    const struct footer *f = &v->own->footer;
    v->leaf_count = f->root_length / ROOT_ENTRY_SIZE;
    v->root = malloc(f->root_length + 1);
    v->leaves = calloc(v->leaf_count + 1, sizeof *v->leaves);
    v->verified = calloc(v->leaf_count + 1, VERIFIED_WORDS * sizeof *v->verified);
    if (!v->root || !v->leaves || !v->verified)
        return err_sys(e, ENOMEM, "root of %" PRIu64 " bytes", f->root_length);
    if (layer_pread_verified(v->own, v->root, f->root_length, f->root_offset, &f->root_hash, e) < 0)
        return err_wrap(e, "root");
    return 0;
}

/* Takes `own`, also on failure. */
static int view_load(struct store *s, const char *image_dir, struct layer *own, struct view **ret,
                     struct err *e)
{
    cleanup(view) struct view *v = calloc(1, sizeof *v);
    if (!v) {
        layer_close(own);
        return err_sys(e, ENOMEM, "version");
    }
    v->own = own;
    v->store = s;
    v->refs = 1;
    v->image_dir = path_format("%s", image_dir);
    v->size = own->footer.virtual_size;
    v->chunk_shift = own->footer.chunk_shift;
    if (load_table(v, e) < 0 || load_root(v, e) < 0)
        return -1;
    *ret = steal(&v);
    return 0;
}

/* The store's lock is held. A reference is taken. */
static struct view *find_view(struct store *s, const struct layer *own)
{
    for (struct view *v = s->views; v; v = v->next)
        if (v->own == own) {
            v->refs++;
            return v;
        }
    return NULL;
}

/* Puts v among the open views, unless another thread was faster: then that one is used. */
static struct view *view_register(struct store *s, struct view *v)
{
    pthread_mutex_lock(&s->lock);
    struct view *known = find_view(s, v->own);
    if (!known) {
        v->next = s->views;
        s->views = v;
    }
    pthread_mutex_unlock(&s->lock);
    if (!known)
        return v;
    view_free(v);
    return known;
}

/* Takes `own`, also on failure. */
static int view_of_layer(struct store *s, const char *image_dir, struct layer *own, struct view **ret,
                         struct err *e)
{
    pthread_mutex_lock(&s->lock);
    struct view *v = find_view(s, own);
    pthread_mutex_unlock(&s->lock);
    if (v)
        layer_close(own);
    else if (view_load(s, image_dir, own, &v, e) < 0)
        return -1;
    else
        v = view_register(s, v);
    *ret = v;
    return 0;
}

static int open_version(struct store *s, const struct uuid *image, uint64_t version, struct view **ret,
                        struct err *e)
{
    struct layer *own;
    cleanup(free) char *dir = store_image_dir(s, image);
    if (layer_open_version(s->layers, dir, version, &own, e) < 0)
        return -1;
    if (own->footer.version != version || !uuid_equal(&own->footer.image, image)) {
        layer_close(own);
        return err_set_sys(e, ERR_CORRUPT, EIO, "the footer belongs to another version or image");
    }
    return view_of_layer(s, dir, own, ret, e);
}

int view_open(struct store *s, const struct uuid *image, uint64_t version, struct view **ret, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    if (open_version(s, image, version, ret, e) < 0)
        return err_wrap(e, "image %s, version %" PRIu64, uuid_to_text(image, text), version);
    return 0;
}

int view_open_retired(struct store *s, const struct uuid *image, const struct uuid *layer, struct view **ret,
                      struct err *e)
{
    struct layer *own;
    cleanup(free) char *dir = store_image_dir(s, image);
    return layer_open_retired(s->layers, dir, layer, &own, e) < 0 ? -1 : view_of_layer(s, dir, own, ret, e);
}

struct view *view_ref(struct view *v)
{
    pthread_mutex_lock(&v->store->lock);
    v->refs++;
    pthread_mutex_unlock(&v->store->lock);
    return v;
}

void view_close(struct view *v)
{
    if (!v)
        return;
    struct store *s = v->store;
    pthread_mutex_lock(&s->lock);
    bool last = --v->refs == 0;
    if (last) {
        struct view **link = &s->views;
        while (*link != v)
            link = &(*link)->next;
        *link = v->next;
    }
    pthread_mutex_unlock(&s->lock);
    if (last)
        view_free(v);
}

struct store *view_store(const struct view *v)
{
    return v->store;
}

const struct footer *view_footer(const struct view *v)
{
    return &v->own->footer;
}

uint64_t view_file_length(const struct view *v)
{
    return v->own->footer.file_length;
}

/* --- layers and leaves --- */

static int get_layer(struct view *v, unsigned index, struct layer **ret, struct err *e)
{
    if (index >= v->layer_count)
        return err_set_sys(e, ERR_CORRUPT, EIO, "layer %u of %u", index, v->layer_count);
    struct layer *l = atomic_load_explicit(&v->layers[index], memory_order_acquire);
    if (!l) {
        struct layer *none = NULL;
        if (layer_open_listed(v->store->layers, v->image_dir, &v->table[index], &l, e) < 0)
            return -1;
        if (!atomic_compare_exchange_strong(&v->layers[index], &none, l)) {
            layer_close(l);
            l = none;
        }
    }
    *ret = l;
    return 0;
}

/* A leaf as it lies on the disk. *ret_zero: it does not, all of it is zero. */
static int read_leaf(struct view *v, uint64_t index, uint8_t raw[LEAF_SIZE], bool *ret_zero, struct err *e)
{
    struct root_entry r;
    struct layer *layer;
    if (root_entry_decode(v->root + index * ROOT_ENTRY_SIZE, &r, e) < 0)
        return -1;
    *ret_zero = r.flags & ROOT_ZERO;
    if (*ret_zero)
        return 0;
    if (get_layer(v, r.layer, &layer, e) < 0)
        return -1;
    return layer_pread_verified(layer, raw, LEAF_SIZE, r.offset, &r.hash, e);
}

/* *ret is the leaf: the one that is kept, or else what is in buf now. */
static int load_leaf(struct view *v, uint64_t index, uint8_t buf[LEAF_SIZE], const uint8_t **ret,
                     struct err *e)
{
    bool zero;
    if (read_leaf(v, index, buf, &zero, e) < 0)
        return err_wrap(e, "leaf %" PRIu64, index);
    const uint8_t *none = NULL, *kept = zero ? zero_leaf : keep_leaf(v->store, buf);
    *ret = kept ? kept : buf;
    if (kept && !atomic_compare_exchange_strong(&v->leaves[index], &none, kept)) {
        if (kept != zero_leaf)
            forget_leaf(v->store, kept);
        *ret = none;
    }
    return 0;
}

static int get_leaf(struct view *v, uint64_t index, uint8_t buf[LEAF_SIZE], const uint8_t **ret,
                    struct err *e)
{
    const uint8_t *leaf = atomic_load_explicit(&v->leaves[index], memory_order_acquire);
    if (!leaf)
        return load_leaf(v, index, buf, ret, e);
    *ret = leaf;
    return 0;
}

static int get_entry(struct view *v, uint64_t chunk, struct leaf_entry *ret, struct err *e)
{
    uint8_t buf[LEAF_SIZE];
    const uint8_t *leaf;
    if (get_leaf(v, chunk / LEAF_CHUNKS, buf, &leaf, e) < 0)
        return -1;
    return leaf_entry_decode(leaf + chunk % LEAF_CHUNKS * ENTRY_SIZE, v->chunk_shift, ret, e);
}

/* --- reading --- */

/* One chunk to be read. */
struct chunk {
    struct view *view;
    const struct leaf_entry *entry;
    uint32_t length; /* of the chunk in bytes: the last of a disk may be short */
};

/* Reads the frame and makes `out` the chunk, verified. */
static int read_frame(const struct chunk *k, struct scratch *scratch, uint8_t *out, struct err *e)
{
    const struct leaf_entry *n = k->entry;
    char text[UUID_TEXT_SIZE];
    struct layer *layer;
    struct hash h;
    if (get_layer(k->view, n->layer, &layer, e) < 0 ||
        layer_pread(layer, scratch->frame, n->stored, n->offset, e) < 0)
        return -1;
    if (decompress(scratch, n->codec, scratch->frame, n->stored, out, k->length, e) < 0)
        return err_wrap(e, "layer %s", uuid_to_text(&layer->footer.layer, text));
    hash_of(out, k->length, &h);
    if (!hash_equal(&h, &n->hash))
        return err_set_sys(e, ERR_CORRUPT, EIO, "layer %s: the chunk does not match its hash",
                           uuid_to_text(&layer->footer.layer, text));
    return 0;
}

static void cleanup_scratch(struct scratch **s)
{
    scratch_give(*s);
}

static int fill_slot(void *ctx, uint8_t *slot, struct err *e)
{
    const struct chunk *k = ctx;
    cleanup(scratch) struct scratch *scratch = NULL;
    if (scratch_take(k->view->store->scratch, &scratch, e) < 0)
        return -1;
    return read_frame(k, scratch, slot, e);
}

static int read_uncached(struct chunk *k, void *buf, size_t count, size_t from, struct err *e)
{
    cleanup(scratch) struct scratch *scratch = NULL;
    if (scratch_take(k->view->store->scratch, &scratch, e) < 0 ||
        read_frame(k, scratch, scratch->chunk, e) < 0)
        return -1;
    memcpy(buf, scratch->chunk + from, count);
    return 0;
}

static int read_compressed(struct chunk *k, uint64_t session, void *buf, size_t count, size_t from,
                           struct err *e)
{
    const struct leaf_entry *n = k->entry;
    struct view *v = k->view;
    if (n->layer >= v->layer_count)
        return err_set_sys(e, ERR_CORRUPT, EIO, "layer %u of %u", n->layer, v->layer_count);
    struct cache_key key = {.layer = v->table[n->layer].layer,
                            .hash = n->hash,
                            .offset = n->offset,
                            .frame = n->stored << 8 | (uint32_t)n->codec,
                            .length = (uint32_t)k->length};
    struct cache_fill fill = {.fill = fill_slot, .ctx = k};
    int rc = cache_read(v->store->cache, &key, session, &fill, buf, count, from, e);
    if (rc <= 0 || count == 0)
        return rc < 0 ? -1 : 0;
    return read_uncached(k, buf, count, from, e);
}

static int read_raw(struct chunk *k, uint64_t chunk, void *buf, size_t count, size_t from, struct err *e)
{
    _Atomic uint64_t *verified = &k->view->verified[chunk / 64];
    const uint64_t bit = UINT64_C(1) << chunk % 64;
    if (!(atomic_load_explicit(verified, memory_order_relaxed) & bit)) {
        if (read_uncached(k, buf, count, from, e) < 0)
            return -1;
        atomic_fetch_or_explicit(verified, bit, memory_order_relaxed);
        return 0;
    }
    struct layer *layer;
    if (get_layer(k->view, k->entry->layer, &layer, e) < 0)
        return -1;
    return layer_pread(layer, buf, count, k->entry->offset + from, e);
}

static uint32_t chunk_length(const struct view *v, uint64_t chunk)
{
    return (uint32_t)min_u64(UINT64_C(1) << v->chunk_shift, v->size - (chunk << v->chunk_shift));
}

/* Bytes [from, from + count) of one chunk. */
static int read_chunk(struct view *v, uint64_t session, uint64_t chunk, void *buf, size_t count, size_t from,
                      struct err *e)
{
    struct leaf_entry n;
    if (get_entry(v, chunk, &n, e) < 0)
        return -1;
    struct chunk k = {.view = v, .entry = &n, .length = chunk_length(v, chunk)};
    switch (n.codec) {
    case CODEC_ZERO:
        memset(buf, 0, count);
        return 0;
    case CODEC_RAW:
        return read_raw(&k, chunk, buf, count, from, e);
    case CODEC_ZSTD:
    case CODEC_GZIP:
        break;
    }
    return read_compressed(&k, session, buf, count, from, e);
}

static int check_range(const struct view *v, uint64_t offset, uint64_t count, struct err *e)
{
    uint64_t end;
    if (add_overflows(offset, count, &end) || end > v->size)
        return err_set_sys(e, ERR_FAILED, EINVAL,
                           "%" PRIu64 " bytes at %" PRIu64 ": past the end of the disk", count, offset);
    return 0;
}

static int wrap_chunk(const struct view *v, uint64_t chunk, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    const struct footer *f = &v->own->footer;
    return err_wrap(e, "image %s, version %" PRIu64 ", chunk %" PRIu64, uuid_to_text(&f->image, text),
                    f->version, chunk);
}

int view_pread(struct view *v, uint64_t session, void *buf, size_t count, uint64_t offset, struct err *e)
{
    const uint64_t chunk_size = UINT64_C(1) << v->chunk_shift;
    uint8_t *p = buf;
    if (check_range(v, offset, count, e) < 0)
        return -1;
    while (count > 0) {
        uint64_t chunk = offset >> v->chunk_shift;
        size_t from = (size_t)(offset & (chunk_size - 1));
        size_t n = (size_t)min_u64(count, chunk_size - from);
        if (read_chunk(v, session, chunk, p, n, from, e) < 0)
            return wrap_chunk(v, chunk, e);
        p += n;
        offset += n;
        count -= n;
    }
    return 0;
}

static int reader_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *e)
{
    return view_pread(ctx, 0, buf, count, offset, e);
}

struct reader view_reader(struct view *v)
{
    return (struct reader){.ctx = v, .size = v->size, .pread = reader_pread};
}

/* --- the index --- */

int view_entry(struct view *v, uint64_t chunk, struct leaf_entry *ret, struct err *e)
{
    if (chunk >= chunks_of(v->size, v->chunk_shift))
        return err_set_sys(e, ERR_FAILED, EINVAL, "chunk %" PRIu64 ": past the end of the disk", chunk);
    return get_entry(v, chunk, ret, e) < 0 ? wrap_chunk(v, chunk, e) : 0;
}

int view_check_layers(struct view *v, struct err *e)
{
    for (unsigned i = 0; i + 1 < v->layer_count; i++) {
        struct layer *l;
        if (layer_open_listed(v->store->layers, v->image_dir, &v->table[i], &l, e) < 0)
            return -1;
        layer_close(l);
    }
    return 0;
}

int view_check_entry(struct view *v, uint64_t chunk, const struct leaf_entry *n, struct scratch *scratch,
                     struct err *e)
{
    struct chunk k = {.view = v, .entry = n, .length = chunk_length(v, chunk)};
    return read_frame(&k, scratch, scratch->chunk, e) < 0 ? wrap_chunk(v, chunk, e) : 0;
}

const uint8_t *view_root(const struct view *v)
{
    return v->root;
}

const uint8_t *view_table(const struct view *v, size_t *ret_length)
{
    *ret_length = (size_t)v->own->footer.table_length;
    return v->raw_table;
}

int view_leaf(struct view *v, uint64_t leaf, uint8_t ret[LEAF_SIZE], struct err *e)
{
    uint8_t raw[LEAF_SIZE] = {0};
    bool zero;
    if (leaf >= v->leaf_count)
        return err_set_sys(e, ERR_FAILED, EINVAL, "leaf %" PRIu64 ": past the end of the disk", leaf);
    if (read_leaf(v, leaf, raw, &zero, e) < 0)
        return wrap_chunk(v, leaf * LEAF_CHUNKS, e);
    memcpy(ret, raw, LEAF_SIZE);
    return 0;
}

/* Moves *chunk, in one leaf that ends (or all ends) at `end`, to the first that is not as `zero` says, or to the end. */
static int end_in_leaf(struct view *v, uint64_t *chunk, uint64_t end, bool zero, struct err *e)
{
    uint8_t buf[LEAF_SIZE];
    const uint8_t *leaf;
    struct leaf_entry n;
    if (get_leaf(v, *chunk / LEAF_CHUNKS, buf, &leaf, e) < 0)
        return wrap_chunk(v, *chunk, e);
    if (leaf == zero_leaf && zero)
        *chunk = end; /* at once: a hole may be 100 GiB long */
    for (; *chunk < end; ++*chunk) {
        if (leaf_entry_decode(leaf + *chunk % LEAF_CHUNKS * ENTRY_SIZE, v->chunk_shift, &n, e) < 0)
            return wrap_chunk(v, *chunk, e);
        if ((n.codec == CODEC_ZERO) != zero)
            return 0;
    }
    return 0;
}

/* The first chunk from `chunk` on, below `end`, that is not as `zero` says; `end` when all are. */
static int end_of_run(struct view *v, uint64_t chunk, uint64_t end, bool zero, uint64_t *ret, struct err *e)
{
    for (uint64_t leaf_end = chunk; chunk == leaf_end && chunk < end;) {
        leaf_end = min_u64(end, round_down(chunk, LEAF_CHUNKS) + LEAF_CHUNKS);
        if (end_in_leaf(v, &chunk, leaf_end, zero, e) < 0)
            return -1;
    }
    *ret = chunk;
    return 0;
}

int view_extent(struct view *v, uint64_t offset, uint64_t max, uint64_t *ret_length, bool *ret_zero,
                struct err *e)
{
    const uint64_t chunk_size = UINT64_C(1) << v->chunk_shift;
    uint64_t first = offset >> v->chunk_shift, stop = first;
    struct leaf_entry n;
    if (check_range(v, offset, 1, e) < 0 || view_entry(v, first, &n, e) < 0)
        return -1;
    uint64_t length = min_u64(max, v->size - offset);
    bool zero = n.codec == CODEC_ZERO;
    if (end_of_run(v, first, div_up(offset + length, chunk_size), zero, &stop, e) < 0)
        return -1;
    *ret_length = min_u64(length, (stop << v->chunk_shift) - offset);
    *ret_zero = zero;
    return 0;
}

/* What is not compressed is read from the file again and again: the kernel has it. */
static int advise(struct view *v, const struct leaf_entry *n, struct err *e)
{
    struct layer *layer;
    if (get_layer(v, n->layer, &layer, e) < 0)
        return -1;
    (void)posix_fadvise(layer->fd, (off_t)n->offset, n->stored, POSIX_FADV_WILLNEED);
    return 0;
}

int view_prefetch(struct view *v, uint64_t session, uint64_t offset, uint64_t count, struct err *e)
{
    const uint64_t chunk_size = UINT64_C(1) << v->chunk_shift;
    if (check_range(v, offset, count, e) < 0)
        return -1;
    if (count == 0)
        return 0;
    uint64_t room = cache_size(v->store->cache) / 4;
    uint64_t end = div_up(offset + count, chunk_size);
    for (uint64_t chunk = offset >> v->chunk_shift; chunk < end && room >= CHUNK_SIZE_MAX; chunk++) {
        struct leaf_entry n;
        if (view_entry(v, chunk, &n, e) < 0)
            return -1;
        if (n.codec == CODEC_RAW && advise(v, &n, e) < 0)
            return -1;
        if (n.codec == CODEC_ZERO || n.codec == CODEC_RAW)
            continue;
        if (read_chunk(v, session, chunk, NULL, 0, 0, e) < 0)
            return wrap_chunk(v, chunk, e);
        room -= CHUNK_SIZE_MAX;
    }
    return 0;
}
