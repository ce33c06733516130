/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/export-impl.h"

#include "lib/base/cleanup.h"
#include "lib/store/ordered.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>

#define REPORT_EVERY_NS INT64_C(250000000)

/* ---- slots ----------------------------------------------------------------------------------------------------------- */

static void slot_free(void *slot)
{
    struct export_slot *s = slot;
    if (!s)
        return;
    scratch_give(s->scratch);
    encoder_free(s->encoder);
    free(s->out);
    free(s);
}

static inline void cleanup_slot(struct export_slot **s)
{
    slot_free(*s);
}

/* All chunks of a leaf as they are, each with what a format wraps it in; and the last one the room to be tried in. */
static size_t out_size(const struct export *x)
{
    return LEAF_CHUNKS * (x->chunk_size + EXPORT_WRAP_MAX) + encoder_bound(x->chunk_size);
}

static int slot_new(void *ctx, void **ret, struct err *e)
{
    struct export *x = ctx;
    cleanup(slot) struct export_slot *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "export");
    if (scratch_take(view_store(x->view)->scratch, &s->scratch, e) < 0 ||
        encoder_new(x->how, &s->encoder, e) < 0)
        return -1;
    s->out = malloc(out_size(x));
    if (!s->out)
        return err_sys(e, ENOMEM, "export");
    *ret = steal(&s);
    return 0;
}

/* ---- the disk, leaf by leaf ------------------------------------------------------------------------------------------ */

uint64_t export_leaf_bytes(const struct export *x, uint64_t leaf)
{
    uint64_t whole = LEAF_CHUNKS * x->chunk_size;
    return min_u64(whole, x->size - leaf * whole);
}

static int add_chunk(struct export *x, struct export_slot *s, unsigned i, const struct leaf_entry *n,
                     size_t len, struct err *e)
{
    s->piece[i] = (struct piece){.kind = PIECE_ZERO, .length = (uint32_t)len};
    s->pieces = i + 1;
    if (n->codec == CODEC_ZERO)
        return 0;
    s->is_zero = false;
    if (view_check_entry(x->view, s->leaf * LEAF_CHUNKS + i, n, s->scratch, e) < 0)
        return -1;
    return x->ops->chunk(x, s, i, n, len, e);
}

static int prepare_leaf(void *ctx, void *slot, uint64_t leaf, struct err *e)
{
    struct export *x = ctx;
    struct export_slot *s = slot;
    struct root_entry r;
    struct leaf_entry n;
    uint8_t raw[LEAF_SIZE];
    s->leaf = leaf;
    s->out_length = 0;
    s->pieces = 0;
    s->is_zero = true;
    if (root_entry_decode(view_root(x->view) + leaf * ROOT_ENTRY_SIZE, &r, e) < 0)
        return -1;
    if (r.flags & ROOT_ZERO)
        return 0;
    if (view_leaf(x->view, leaf, raw, e) < 0)
        return -1;
    uint64_t bytes = export_leaf_bytes(x, leaf);
    for (unsigned i = 0; i < div_up(bytes, x->chunk_size); i++)
        if (leaf_entry_decode(raw + i * ENTRY_SIZE, x->chunk_shift, &n, e) < 0 ||
            add_chunk(x, s, i, &n, (size_t)min_u64(x->chunk_size, bytes - i * x->chunk_size), e) < 0)
            return -1;
    return 0;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int report(struct export *x, uint64_t bytes, struct err *e)
{
    const struct progress *p = &x->o->progress;
    int64_t now = now_ns();
    x->done += bytes;
    if (!p->report || (now - x->reported < REPORT_EVERY_NS && x->done < x->size))
        return 0;
    x->reported = now;
    return p->report(p->ctx, x->done, x->size) ? 0 : err_set_sys(e, ERR_FAILED, EINTR, "interrupted");
}

static int emit_leaf(void *ctx, void *slot, uint64_t leaf, struct err *e)
{
    struct export *x = ctx;
    return x->ops->leaf && x->ops->leaf(x, slot, e) < 0 ? -1 : report(x, export_leaf_bytes(x, leaf), e);
}

/* ---- frames ------------------------------------------------------------------------------------------------------------ */

int export_add_frame(struct export *x, struct export_slot *s, unsigned i, const struct leaf_entry *n,
                     size_t len, struct err *e)
{
    struct piece *p = &s->piece[i];
    uint8_t *out = s->out + s->out_length;
    enum codec codec = n->codec;
    p->stored = n->stored;
    if (x->ops->whole_chunks && len < x->chunk_size) {
        memset(s->scratch->chunk + len, 0, x->chunk_size - len);
        len = x->chunk_size;
        codec = CODEC_ZERO; /* what is stored is another */
    }
    if (codec == x->how.codec)
        memcpy(out, s->scratch->frame, n->stored);
    else if (encoder_run(s->encoder, s->scratch->chunk, len, out, &p->stored, &codec, e) < 0)
        return -1;
    p->kind = codec == x->how.codec ? PIECE_FRAME : PIECE_RAW;
    s->out_length += p->stored;
    return 0;
}

/* ---- all ------------------------------------------------------------------------------------------------------------------ */

static int run(struct export *x, struct err *e)
{
    const struct ordered o = {.ctx = x,
                              .items = x->leaves,
                              .slot_new = slot_new,
                              .slot_free = slot_free,
                              .prepare = prepare_leaf,
                              .emit = emit_leaf};
    if (x->ops->begin && x->ops->begin(x, e) < 0)
        return -1;
    if (ordered_run(&o, e) < 0)
        return -1;
    return x->ops->end ? x->ops->end(x, e) : 0;
}

static const struct export_format_ops *choose(enum export_format format, bool file)
{
    switch (format) {
    case EXPORT_QCOW2:
        return &export_qcow2;
    case EXPORT_ZSTD:
        return &export_zstd;
    case EXPORT_GZIP:
        return &export_gzip;
    case EXPORT_RAW:
        break;
    }
    return file ? &export_raw_file : &export_raw_stream;
}

int export_disk(struct view *v, int fd, const struct export_options *o, struct err *e)
{
    const struct footer *f = view_footer(v);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "export");
    if (S_ISREG(st.st_mode) && st.st_size != 0)
        return err_set(e, ERR_STATE, "export: the file is not empty");
    if (o->format == EXPORT_QCOW2 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(e, ERR_USAGE, "qcow2 cannot be written to a stream; try: a file, or raw.zst");
    struct export x = {.view = v,
                       .o = o,
                       .ops = choose(o->format, S_ISREG(st.st_mode)),
                       .fd = fd,
                       .size = f->virtual_size,
                       .leaves = leaves_of(f->virtual_size, f->chunk_shift),
                       .chunk_size = (size_t)1 << f->chunk_shift,
                       .chunk_shift = f->chunk_shift};
    x.how = x.ops->how;
    if (x.how.codec == CODEC_ZSTD)
        x.how.level = o->zstd_level;
    int r = run(&x, e);
    if (x.drop)
        x.drop(x.state);
    return r;
}
