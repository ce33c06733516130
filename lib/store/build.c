/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/build.h"

/* The engine: each worker claims a leaf, loads it, and turns its 128 chunks into entries: zero, the parent's,
 * or a new frame. The frames of a leaf are gathered in the worker's buffer and written with one pwrite, at a
 * place that is reserved under the lock; so frames of one leaf stand together and in order, and leaves about
 * in the order of the disk. The leaf then goes to the index, if it is not the parent's.
 *
 * Locks: `claiming` is held while the source claims, and guards `size` and `ended`; `lock` guards the rest
 * that changes. No thread holds both. */

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/parse.h"
#include "lib/store/build-file.h"
#include "lib/store/build-index.h"
#include "lib/store/workers.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/statvfs.h>
#include <time.h>

#define PENDING_MAX (16 * MIB) /* of leaves, before they are written */
#define REPORT_INTERVAL_NS INT64_C(200000000)

DEFINE_CLEANUP(build, struct build, build_free);

struct engine {
    const struct build_options *o;
    const struct build_source *source;
    struct build *file;
    size_t chunk_size;
    uint64_t parent_size;
    /* The base of an image without compression: chunks stand at their own offsets in the disk. */
    bool own_places;

    pthread_mutex_t claiming;
    uint64_t size; /* of the disk, as far as it is known */
    bool ended;

    pthread_mutex_t lock;
    uint64_t end; /* of the file: the next free byte; 0 until the end of the build with own_places */
    struct build_index index;
    uint64_t new_chunks, kept_chunks, frame_bytes;
    uint64_t done; /* of source->total */
    int64_t reported_at;
    struct err err;     /* the first one, valid with `failed` */
    atomic_bool failed; /* read without the lock to stop early */
};

struct worker {
    struct engine *g;
    struct encoder *encoder;
    struct leaf_work w;
    uint64_t size;   /* the disk's, as known when the leaf was claimed */
    uint8_t *frames; /* new frames of this leaf; NULL with own_places */
    size_t frames_length;
    uint64_t stored_bytes; /* of those, without padding */
    uint64_t fresh[2];     /* chunks with a new frame; their offset counts from the place of `frames` */
    struct leaf_entry entries[LEAF_CHUNKS]; /* as they will be */
    struct leaf_entry older[LEAF_CHUNKS];   /* the parent's */
    struct leaf_entry ready[LEAF_CHUNKS];   /* for w.frames */
    uint8_t older_leaf[LEAF_SIZE];
    unsigned new_chunks, kept_chunks;
};

static bool bit(const uint64_t set[2], unsigned i)
{
    return set[i / 64] >> (i % 64) & 1;
}

static void set_bit(uint64_t set[2], unsigned i)
{
    set[i / 64] |= UINT64_C(1) << (i % 64);
}

/* Bytes of a disk of `size` in the chunk that starts at `offset`. */
static size_t chunk_length(const struct engine *g, uint64_t size, uint64_t offset)
{
    return offset >= size ? 0 : (size_t)min_u64(g->chunk_size, size - offset);
}

static void fail_locked(struct engine *g, const struct err *e)
{
    if (!atomic_load(&g->failed))
        g->err = *e;
    atomic_store(&g->failed, true);
}

static void fail(struct engine *g, const struct err *e)
{
    pthread_mutex_lock(&g->lock);
    fail_locked(g, e);
    pthread_mutex_unlock(&g->lock);
}

/* Chunks to entries */

static int read_older(struct worker *k, struct err *e)
{
    const struct engine *g = k->g;
    memset(k->older_leaf, 0, LEAF_SIZE);
    memset(k->older, 0, sizeof k->older);
    if (k->w.leaf * LEAF_CHUNKS * g->chunk_size >= g->parent_size)
        return 0;
    if (view_leaf(g->o->parent, k->w.leaf, k->older_leaf, e) < 0)
        return -1;
    for (unsigned i = 0; i < LEAF_CHUNKS; i++)
        if (leaf_entry_decode(k->older_leaf + i * ENTRY_SIZE, g->o->chunk_shift, &k->older[i], e) < 0)
            return -1;
    return 0;
}

/* Codec and stored length of entry i are known, and its frame stands at the end of the others. */
static void add_frame(struct worker *k, unsigned i)
{
    struct leaf_entry *n = &k->entries[i];
    n->layer = k->g->index.own_layer;
    n->offset = k->frames_length;
    k->frames_length += n->stored;
    if (k->g->o->compression.codec == CODEC_RAW) {
        size_t padded = round_up(k->frames_length, ALIGNMENT);
        memset(k->frames + k->frames_length, 0, padded - k->frames_length);
        k->frames_length = padded;
    }
}

static void count_new(struct worker *k, unsigned i)
{
    k->stored_bytes += k->entries[i].stored;
    k->new_chunks++;
    set_bit(k->fresh, i);
}

static int store_chunk(struct worker *k, unsigned i, size_t len, uint64_t offset, struct err *e)
{
    const uint8_t *chunk = k->w.data + i * k->g->chunk_size;
    struct leaf_entry *n = &k->entries[i];
    if (k->g->own_places) {
        n->layer = k->g->index.own_layer;
        n->codec = CODEC_RAW;
        n->stored = (uint32_t)len;
        n->offset = offset;
    } else {
        if (encoder_run(k->encoder, chunk, len, k->frames + k->frames_length, &n->stored, &n->codec, e) < 0)
            return -1;
        add_frame(k, i);
    }
    count_new(k, i);
    return 0;
}

static void store_ready_frame(struct worker *k, unsigned i)
{
    k->entries[i] = k->w.frames[i];
    memcpy(k->frames + k->frames_length, k->w.data + i * k->g->chunk_size, k->entries[i].stored);
    add_frame(k, i);
    count_new(k, i);
}

/* Chunk i, of which the source has given new data. */
static int take_chunk(struct worker *k, unsigned i, size_t len, uint64_t offset, struct err *e)
{
    const uint8_t *chunk = k->w.data + i * k->g->chunk_size;
    struct leaf_entry *n = &k->entries[i];
    *n = (struct leaf_entry){.codec = CODEC_ZERO};
    if (bit(k->w.zero, i) || all_zero(chunk, len)) {
        k->kept_chunks++;
        return 0;
    }
    hash_of(chunk, len, &n->hash);
    if (k->older[i].codec != CODEC_ZERO && hash_equal(&n->hash, &k->older[i].hash) &&
        chunk_length(k->g, k->g->parent_size, offset) == len) {
        *n = k->older[i];
        k->kept_chunks++;
        return 0;
    }
    return store_chunk(k, i, len, offset, e);
}

static int report_locked(struct engine *g, bool at_once, struct err *e)
{
    struct timespec now;
    if (!g->o->progress.report)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (!at_once && ns - g->reported_at < REPORT_INTERVAL_NS)
        return 0;
    g->reported_at = ns;
    if (!g->o->progress.report(g->o->progress.ctx, g->done, g->source->total))
        return err_set(e, ERR_FAILED, "interrupted");
    return 0;
}

/* Between two chunks: a leaf may take seconds. */
static int may_go_on(struct worker *k, struct err *e)
{
    struct engine *g = k->g;
    if (atomic_load(&g->failed))
        return err_set(e, ERR_FAILED, "interrupted");
    pthread_mutex_lock(&g->lock);
    int r = report_locked(g, false, e);
    pthread_mutex_unlock(&g->lock);
    return r;
}

static int take_chunks(struct worker *k, struct err *e)
{
    k->frames_length = 0;
    k->stored_bytes = 0;
    k->new_chunks = k->kept_chunks = 0;
    k->fresh[0] = k->fresh[1] = 0;
    for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
        uint64_t offset = (k->w.leaf * LEAF_CHUNKS + i) * k->g->chunk_size;
        size_t len = chunk_length(k->g, k->size, offset);
        if (len == 0)
            k->entries[i] = (struct leaf_entry){.codec = CODEC_ZERO};
        else if (!bit(k->w.dirty, i))
            k->entries[i] = k->older[i];
        else if (bit(k->w.ready, i))
            store_ready_frame(k, i);
        else if (may_go_on(k, e) < 0 || take_chunk(k, i, len, offset, e) < 0)
            return -1;
    }
    return 0;
}

/* Entries to the file */

static int check_reserve(const struct engine *g, uint64_t wanted, struct err *e)
{
    struct statvfs vfs;
    char reserve[SIZE_TEXT_SIZE];
    if (g->o->reserve == 0)
        return 0;
    if (fstatvfs(g->file->fd, &vfs) < 0)
        return err_sys(e, errno, "%s", g->file->tmp_path);
    uint64_t available = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (available >= g->o->reserve && available - g->o->reserve >= wanted)
        return 0;
    return err_set_sys(e, ERR_FAILED, ENOSPC, "%s: no space: %s must stay free on the file system",
                       g->file->tmp_path, format_size(g->o->reserve, reserve));
}

static int write_out(const struct engine *g, const uint8_t *data, size_t len, uint64_t offset, struct err *e)
{
    if (full_pwrite(g->file->fd, data, len, offset, e) < 0)
        return err_wrap(e, "%s", g->file->tmp_path);
    /* The disk starts now, beside the compression: less is left for the sync at the end. Only advice. */
    (void)sync_file_range(g->file->fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
    return 0;
}

/* Room for `len` bytes at the end of the file. */
static uint64_t reserve_locked(struct engine *g, uint64_t len, uint64_t alignment)
{
    uint64_t at = round_up(g->end, alignment);
    g->end = at + len;
    return at;
}

static int write_at_own_places(struct worker *k, struct err *e)
{
    uint64_t leaf_offset = k->w.leaf * LEAF_CHUNKS * k->g->chunk_size;
    for (unsigned i = 0, next; i < LEAF_CHUNKS; i = next) {
        size_t len = 0;
        for (next = i; next < LEAF_CHUNKS && bit(k->fresh, next); next++)
            len += k->entries[next].stored;
        size_t start = i * k->g->chunk_size;
        if (len > 0 && write_out(k->g, k->w.data + start, len, leaf_offset + start, e) < 0)
            return -1;
        if (next == i)
            next++;
    }
    return 0;
}

static int write_frames(struct worker *k, struct err *e)
{
    struct engine *g = k->g;
    if (k->new_chunks == 0)
        return 0;
    if (check_reserve(g, k->stored_bytes, e) < 0)
        return -1;
    if (g->own_places)
        return write_at_own_places(k, e);
    pthread_mutex_lock(&g->lock);
    uint64_t at = reserve_locked(g, k->frames_length, g->o->compression.codec == CODEC_RAW ? ALIGNMENT : 1);
    pthread_mutex_unlock(&g->lock);
    for (unsigned i = 0; i < LEAF_CHUNKS; i++)
        if (bit(k->fresh, i))
            k->entries[i].offset += at;
    return write_out(g, k->frames, k->frames_length, at, e);
}

static int flush_index_locked(struct engine *g, struct err *e)
{
    size_t len = build_index_pending_bytes(&g->index);
    if (len == 0)
        return 0;
    if (check_reserve(g, len, e) < 0)
        return -1;
    uint64_t at = reserve_locked(g, len, ALIGNMENT);
    if (build_index_flush(&g->index, g->file->fd, at, e) < 0)
        return err_wrap(e, "%s", g->file->tmp_path);
    return 0;
}

static int put_leaf_locked(struct worker *k, struct err *e)
{
    struct engine *g = k->g;
    uint8_t leaf[LEAF_SIZE];
    for (unsigned i = 0; i < LEAF_CHUNKS; i++)
        leaf_entry_encode(&k->entries[i], leaf + i * ENTRY_SIZE);
    if (all_zero(leaf, LEAF_SIZE))
        return build_index_put_zero(&g->index, k->w.leaf, e);
    if (memcmp(leaf, k->older_leaf, LEAF_SIZE) == 0)
        return 0; /* the root has the parent's */
    if (build_index_put(&g->index, k->w.leaf, leaf, e) < 0)
        return -1;
    /* With own_places the leaves come after the disk, of which a stream does not know the end. */
    if (build_index_pending_bytes(&g->index) >= PENDING_MAX && !g->own_places)
        return flush_index_locked(g, e);
    return 0;
}

static int finish_leaf(struct worker *k, struct err *e)
{
    struct engine *g = k->g;
    pthread_mutex_lock(&g->lock);
    int r = put_leaf_locked(k, e);
    g->new_chunks += k->new_chunks;
    g->kept_chunks += k->kept_chunks;
    g->frame_bytes += k->stored_bytes;
    g->done += k->w.bytes;
    if (r == 0)
        r = report_locked(g, false, e);
    pthread_mutex_unlock(&g->lock);
    return r;
}

/* Workers */

static int check_size(const struct engine *g, uint64_t size, struct err *e)
{
    const uint64_t most = virtual_size_max(g->o->chunk_shift);
    if (size > most)
        return err_set(e, ERR_FAILED,
                       "larger than %" PRIu64 " TiB, the most a disk with chunks of %zu KiB can have",
                       most / TIB, g->chunk_size / KIB);
    return 0;
}

static int claim_locked(struct worker *k, struct err *e)
{
    struct engine *g = k->g;
    if (g->ended || atomic_load(&g->failed))
        return 0;
    k->w = (struct leaf_work){.data = k->w.data, .frames = k->ready};
    int r = g->source->claim(g->source->ctx, &k->w, e);
    g->ended = r <= 0;
    if (r < 0 || check_size(g, *g->o->size, e) < 0)
        return -1;
    g->size = k->size = *g->o->size;
    return r;
}

static int work(struct worker *k, struct err *e)
{
    const struct build_source *source = k->g->source;
    for (;;) {
        pthread_mutex_lock(&k->g->claiming);
        int r = claim_locked(k, e);
        pthread_mutex_unlock(&k->g->claiming);
        if (r <= 0)
            return r;
        if (source->load && source->load(source->ctx, &k->w, e) < 0)
            return -1;
        if (read_older(k, e) < 0 || take_chunks(k, e) < 0 || write_frames(k, e) < 0 || finish_leaf(k, e) < 0)
            return -1;
    }
}

static void worker_free(struct worker *k)
{
    if (!k)
        return;
    encoder_free(k->encoder);
    free(k->w.data);
    free(k->frames);
    free(k);
}

DEFINE_CLEANUP(worker, struct worker, worker_free);

static int worker_new(struct engine *g, struct worker **ret, struct err *e)
{
    cleanup(worker) struct worker *k = calloc(1, sizeof *k);
    if (!k)
        return err_sys(e, ENOMEM, "worker");
    k->g = g;
    if (encoder_new(g->o->compression, &k->encoder, e) < 0)
        return -1;
    k->w.data = malloc(LEAF_CHUNKS * g->chunk_size);
    /* A frame is never longer than its chunk; the last one is given the room to be tried in. */
    if (!g->own_places)
        k->frames = malloc((LEAF_CHUNKS - 1) * g->chunk_size + encoder_bound(g->chunk_size));
    if (!k->w.data || (!k->frames && !g->own_places))
        return err_sys(e, ENOMEM, "buffers of a worker");
    *ret = steal(&k);
    return 0;
}

static void *worker_main(void *arg)
{
    struct engine *g = arg;
    struct err e;
    cleanup(worker) struct worker *k = NULL;
    if (worker_new(g, &k, &e) < 0 || work(k, &e) < 0)
        fail(g, &e);
    return NULL;
}

/* The whole */

static int check_options(const struct build_options *o, struct err *e)
{
    if (o->chunk_shift < CHUNK_SHIFT_MIN || o->chunk_shift > CHUNK_SHIFT_MAX)
        return err_set(e, ERR_USAGE, "chunks of 2^%u bytes: from 2^%u to 2^%u are possible", o->chunk_shift,
                       CHUNK_SHIFT_MIN, CHUNK_SHIFT_MAX);
    if (o->parent && view_footer(o->parent)->chunk_shift != o->chunk_shift)
        return err_set(e, ERR_USAGE, "chunks of 2^%u bytes over a version with 2^%u", o->chunk_shift,
                       view_footer(o->parent)->chunk_shift);
    return 0;
}

static int make_table(const struct view *parent, uint8_t **ret, size_t *ret_length, struct err *e)
{
    size_t older;
    const uint8_t *table = view_table(parent, &older);
    uint8_t *own = malloc(older + TABLE_ENTRY_SIZE);
    if (!own)
        return err_sys(e, ENOMEM, "layer table");
    memcpy(own, table, older);
    const struct footer *f = view_footer(parent);
    struct table_entry t = {.layer = f->layer, .version = f->version, .file_length = f->file_length};
    uint8_t block[FOOTER_SIZE];
    footer_encode(f, block);
    memcpy(t.footer_hash.b, block + FOOTER_SIZE - HASH_SIZE, HASH_SIZE);
    table_entry_encode(&t, own + older);
    *ret = own;
    *ret_length = older + TABLE_ENTRY_SIZE;
    return 0;
}

static int write_root(struct engine *g, struct err *e)
{
    struct footer *f = &g->file->footer;
    f->root_length = g->index.leaves * ROOT_ENTRY_SIZE;
    f->root_offset = reserve_locked(g, f->root_length, 1);
    hash_of(g->index.root, f->root_length, &f->root_hash);
    return write_out(g, g->index.root, f->root_length, f->root_offset, e);
}

static int write_table(struct engine *g, struct err *e)
{
    struct footer *f = &g->file->footer;
    cleanup(free) uint8_t *table = NULL;
    size_t length = 0;
    if (g->o->parent && make_table(g->o->parent, &table, &length, e) < 0)
        return -1;
    f->table_length = length;
    f->table_offset = reserve_locked(g, length, 1);
    hash_of(table, length, &f->table_hash);
    return write_out(g, table, length, f->table_offset, e);
}

static void fill_footer(struct engine *g)
{
    struct footer *f = &g->file->footer;
    if (g->o->parent) {
        f->parent_version = view_footer(g->o->parent)->version;
        f->parent_layer = view_footer(g->o->parent)->layer;
    }
    f->overlay = g->o->overlay;
    if (g->o->instead_of) {
        f->version = g->o->instead_of->version;
        f->parent_version = g->o->instead_of->parent_version;
        f->parent_layer = g->o->instead_of->parent_layer;
        f->overlay = g->o->instead_of->overlay;
    }
    f->virtual_size = g->size;
    f->chunk_shift = g->o->chunk_shift;
    f->codec = g->o->compression.codec;
    f->level = f->codec == CODEC_RAW ? 0 : g->o->compression.level;
    f->frame_bytes = g->frame_bytes;
    reserve_locked(g, FOOTER_SIZE, 1);
    f->file_length = g->end;
}

/* Everything but the footer itself. All workers have ended, so the locks are not needed any more. */
static int finish_layer(struct engine *g, struct err *e)
{
    if (g->size == 0)
        return err_set(e, ERR_FAILED, "empty: a disk has at least one byte");
    if (build_index_resize(&g->index, leaves_of(g->size, g->o->chunk_shift), e) < 0)
        return -1;
    if (g->own_places)
        g->end = g->size;
    if (flush_index_locked(g, e) < 0 ||
        build_index_checksum(&g->index, g->file->fd, g->o->parent, g->size, g->o->chunk_shift,
                             g->file->footer.checksum, e) < 0 ||
        check_reserve(g, g->index.leaves * ROOT_ENTRY_SIZE + FOOTER_SIZE, e) < 0 || write_root(g, e) < 0 ||
        write_table(g, e) < 0)
        return -1;
    fill_footer(g);
    return report_locked(g, true, e);
}

static void fill_result(const struct engine *g, struct build_result *r)
{
    const struct footer *f = &g->file->footer;
    *r = (struct build_result){.virtual_size = f->virtual_size,
                               .file_length = f->file_length,
                               .frame_bytes = f->frame_bytes,
                               .new_chunks = g->new_chunks,
                               .kept_chunks = g->kept_chunks,
                               .layer = f->layer};
    memcpy(r->checksum, f->checksum, CHECKSUM_SIZE);
}

static int run(struct engine *g, struct err *e)
{
    if (build_index_start(&g->index, g->o->parent, e) < 0)
        return -1;
    workers_run(g->o->threads, worker_main, g);
    if (atomic_load(&g->failed)) {
        *e = g->err;
        return -1;
    }
    return finish_layer(g, e);
}

int build_layer(struct store *s, const struct build_options *o, const struct build_source *source,
                struct build **ret, struct build_result *ret_result, struct err *e)
{
    cleanup(build) struct build *file = NULL;
    if (check_options(o, e) < 0 || build_create(s, &o->image, &file, e) < 0)
        return -1;
    struct engine g = {.o = o,
                       .source = source,
                       .file = file,
                       .chunk_size = (size_t)1 << o->chunk_shift,
                       .parent_size = o->parent ? view_footer(o->parent)->virtual_size : 0,
                       .own_places = o->compression.codec == CODEC_RAW && !o->parent};
    pthread_mutex_init(&g.claiming, NULL);
    pthread_mutex_init(&g.lock, NULL);
    int r = run(&g, e);
    if (r == 0) {
        fill_result(&g, ret_result);
        *ret = steal(&file);
    }
    build_index_release(&g.index);
    pthread_mutex_destroy(&g.lock);
    pthread_mutex_destroy(&g.claiming);
    return r;
}
