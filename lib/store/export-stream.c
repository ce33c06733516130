/* SPDX-License-Identifier: BSD-3-Clause */

/* Compressed streams: a frame a chunk, and runs of zeroes in as little as the format allows.
 *
 * zstd (RFC 8878): the frames of the store, and frames of raw and of RLE blocks, which are made here; then the seek table of
 * the seekable format (contrib/seekable_format/zstd_seekable_compression_format.md of zstd, version 0.1.0), a skippable
 * frame:
 *   OFFSET SIZE MEANING
 *        0    4 0x184D2A5E
 *        4    4 length of what follows, 8 n + 9
 *        8  8 n for each frame its length, and that of what it holds
 *    8 + 8n   4 n
 *   12 + 8n   1 0: no checksums of frames
 *   13 + 8n   4 0x8F92EAB1
 * gzip: members of bgzf.h, and the empty member that ends a BGZF file. */
#include "lib/store/export-impl.h"

#include "lib/base/fsutil.h"
#include "lib/store/bgzf.h"

#include <errno.h>
#include <stdlib.h>

#define ZSTD_FRAME_MAGIC 0xfd2fb528u
#define ZSTD_BLOCK_MAX 131072u
#define ZSTD_RAW_HEAD 12u /* of a frame of one raw block: magic, descriptor, content size, block header */
static_assert(ZSTD_RAW_HEAD <= EXPORT_WRAP_MAX && 2 * BGZF_WRAP <= EXPORT_WRAP_MAX,
              "there is room for a wrapped chunk");

/* Descriptor (3.1.1.1.1): content size of 4 bytes; alone, or with a window that no decoder refuses: 128 KiB. */
#define ZSTD_SINGLE_SEGMENT 0xa0u
#define ZSTD_WITH_WINDOW 0x80u
#define ZSTD_WINDOW_128K 0x38u
/* Block header (3.1.1.2): last, kind, size. */
#define ZSTD_BLOCK_LAST 1u
#define ZSTD_BLOCK_RAW (0u << 1)
#define ZSTD_BLOCK_RLE (1u << 1)
#define ZSTD_BLOCK_SIZE_SHIFT 3

#define SEEK_MAGIC_HEAD 0x184d2a5eu
#define SEEK_MAGIC_END 0x8f92eab1u
#define SEEK_ENTRY 8u
#define SEEK_HEAD 8u
#define SEEK_END 9u
#define SEEK_FRAMES_MAX 0x8000000u

#define ZERO_FRAME_MAX (UINT64_C(1) << 30) /* of zeroes in one frame */
#define ZERO_MEMBERS 512u                  /* in one write */

struct stream {
    uint64_t zeroes; /* to be written before the next frame */
    uint8_t *seek;   /* entries of the seek table */
    size_t frames, room;
    struct libdeflate_compressor *gzip;
    uint8_t *members; /* ZERO_MEMBERS times 64 KiB of zeroes */
    size_t member_length;
};

static void drop_stream(void *state)
{
    struct stream *t = state;
    if (!t)
        return;
    libdeflate_free_compressor(t->gzip);
    free(t->members);
    free(t->seek);
    free(t);
}

static int begin_stream(struct export *x, struct err *e)
{
    x->drop = drop_stream;
    x->state = calloc(1, sizeof(struct stream));
    return x->state ? 0 : err_sys(e, ENOMEM, "export");
}

/* ---- zstd -------------------------------------------------------------------------------------------------------------- */

static void put_le24(uint8_t *p, uint32_t value)
{
    put_le16(p, (uint16_t)value);
    p[2] = (uint8_t)(value >> 16);
}

static int note_frame(struct stream *t, uint32_t stored, uint32_t length, struct err *e)
{
    if (t->frames == SEEK_FRAMES_MAX)
        return err_set(e, ERR_FAILED,
                       "more than %u frames, the most that a seek table has; try: --format raw",
                       SEEK_FRAMES_MAX);
    if (t->frames == t->room) {
        size_t room = t->room ? 2 * t->room : 4096;
        uint8_t *seek = reallocarray(t->seek, room, SEEK_ENTRY);
        if (!seek)
            return err_sys(e, ENOMEM, "seek table");
        t->seek = seek;
        t->room = room;
    }
    put_le32(t->seek + t->frames * SEEK_ENTRY, stored);
    put_le32(t->seek + t->frames * SEEK_ENTRY + 4, length);
    t->frames++;
    return 0;
}

/* A frame of RLE blocks. */
static int write_zero_frame(struct export *x, uint32_t length, struct err *e)
{
    uint8_t out[10 + ZERO_FRAME_MAX / ZSTD_BLOCK_MAX * 4];
    size_t n = 10;
    put_le32(out, ZSTD_FRAME_MAGIC);
    out[4] = ZSTD_WITH_WINDOW;
    out[5] = ZSTD_WINDOW_128K;
    put_le32(out + 6, length);
    for (uint32_t left = length, size; left > 0; left -= size, n += 4) {
        size = (uint32_t)min_u64(left, ZSTD_BLOCK_MAX);
        put_le24(out + n,
                 (size == left ? ZSTD_BLOCK_LAST : 0) | ZSTD_BLOCK_RLE | size << ZSTD_BLOCK_SIZE_SHIFT);
        out[n + 3] = 0;
    }
    if (note_frame(x->state, (uint32_t)n, length, e) < 0)
        return -1;
    return full_write(x->fd, out, n, e);
}

static int write_zeroes_zstd(struct export *x, uint64_t count, struct err *e)
{
    while (count > 0) {
        uint32_t length = (uint32_t)min_u64(count, ZERO_FRAME_MAX);
        if (write_zero_frame(x, length, e) < 0)
            return -1;
        count -= length;
    }
    return 0;
}

static int chunk_zstd(struct export *x, struct export_slot *s, unsigned i, const struct leaf_entry *n,
                      size_t len, struct err *e)
{
    if (export_add_frame(x, s, i, n, len, e) < 0)
        return -1;
    struct piece *p = &s->piece[i];
    if (p->kind == PIECE_FRAME)
        return 0;
    uint8_t *out = s->out + s->out_length - p->stored;
    memmove(out + ZSTD_RAW_HEAD, out, p->stored);
    put_le32(out, ZSTD_FRAME_MAGIC);
    out[4] = ZSTD_SINGLE_SEGMENT;
    put_le32(out + 5, (uint32_t)len);
    put_le24(out + 9, ZSTD_BLOCK_LAST | ZSTD_BLOCK_RAW | (uint32_t)len << ZSTD_BLOCK_SIZE_SHIFT);
    p->stored += ZSTD_RAW_HEAD;
    s->out_length += ZSTD_RAW_HEAD;
    return 0;
}

static int end_zstd(struct export *x, struct err *e)
{
    const struct stream *t = x->state;
    uint8_t head[SEEK_HEAD], end[SEEK_END] = {0};
    if (write_zeroes_zstd(x, t->zeroes, e) < 0)
        return -1;
    put_le32(head, SEEK_MAGIC_HEAD);
    put_le32(head + 4, (uint32_t)(t->frames * SEEK_ENTRY + SEEK_END));
    put_le32(end, (uint32_t)t->frames);
    put_le32(end + 5, SEEK_MAGIC_END);
    if (full_write(x->fd, head, sizeof head, e) < 0 ||
        full_write(x->fd, t->seek, t->frames * SEEK_ENTRY, e) < 0)
        return -1;
    return full_write(x->fd, end, sizeof end, e);
}

/* ---- gzip -------------------------------------------------------------------------------------------------------------- */

static const uint8_t zero_chunk[BGZF_CONTENT_MAX];

static int begin_gzip(struct export *x, struct err *e)
{
    if (begin_stream(x, e) < 0)
        return -1;
    struct stream *t = x->state;
    uint8_t member[1024];
    t->gzip = libdeflate_alloc_compressor(x->how.level);
    if (!t->gzip)
        return err_sys(e, ENOMEM, "export");
    t->member_length = bgzf_compress(t->gzip, zero_chunk, sizeof zero_chunk, member, sizeof member);
    t->members = malloc(ZERO_MEMBERS * t->member_length);
    if (!t->members)
        return err_sys(e, ENOMEM, "export");
    for (size_t i = 0; i < ZERO_MEMBERS; i++)
        memcpy(t->members + i * t->member_length, member, t->member_length);
    return 0;
}

static int write_zeroes_gzip(struct export *x, uint64_t count, struct err *e)
{
    const struct stream *t = x->state;
    uint8_t member[1024];
    for (uint64_t members = count / BGZF_CONTENT_MAX, n; members > 0; members -= n) {
        n = min_u64(members, ZERO_MEMBERS);
        if (full_write(x->fd, t->members, n * t->member_length, e) < 0)
            return -1;
    }
    size_t rest = count % BGZF_CONTENT_MAX;
    if (rest == 0)
        return 0;
    size_t length = bgzf_compress(t->gzip, zero_chunk, rest, member, sizeof member);
    return full_write(x->fd, member, length, e);
}

/* A chunk of 64 KiB that does not compress is more than a stored member can have: it takes two. */
static int chunk_gzip(struct export *x, struct export_slot *s, unsigned i, const struct leaf_entry *n,
                      size_t len, struct err *e)
{
    if (export_add_frame(x, s, i, n, len, e) < 0)
        return -1;
    struct piece *p = &s->piece[i];
    if (p->kind == PIECE_FRAME)
        return 0;
    uint8_t *out = s->out + s->out_length - p->stored;
    size_t first = len <= BGZF_STORED_MAX ? len : len / 2;
    size_t stored = bgzf_store(s->scratch->chunk, first, out);
    if (first < len)
        stored += bgzf_store(s->scratch->chunk + first, len - first, out + stored);
    s->out_length += stored - p->stored;
    p->stored = (uint32_t)stored;
    return 0;
}

static int end_gzip(struct export *x, struct err *e)
{
    static const uint8_t last[] = {0x1f, 0x8b, 8,  4, 0, 0, 0, 0, 0, 0xff, 6, 0, 'B', 'C',
                                   2,    0,    27, 0, 3, 0, 0, 0, 0, 0,    0, 0, 0,   0};
    const struct stream *t = x->state;
    if (write_zeroes_gzip(x, t->zeroes, e) < 0)
        return -1;
    return full_write(x->fd, last, sizeof last, e);
}

/* ---- both -------------------------------------------------------------------------------------------------------------- */

static int write_pending_zeroes(struct export *x, struct err *e)
{
    struct stream *t = x->state;
    uint64_t zeroes = t->zeroes;
    t->zeroes = 0;
    return x->how.codec == CODEC_ZSTD ? write_zeroes_zstd(x, zeroes, e) : write_zeroes_gzip(x, zeroes, e);
}

/* Frames from piece `i` on up to the next zeroes; *ret_next is the piece after them. */
static int write_run(struct export *x, struct export_slot *s, unsigned i, size_t at, unsigned *ret_next,
                     size_t *ret_at, struct err *e)
{
    size_t end = at;
    if (write_pending_zeroes(x, e) < 0)
        return -1;
    for (; i < s->pieces && s->piece[i].kind != PIECE_ZERO; i++) {
        end += s->piece[i].stored;
        if (x->how.codec == CODEC_ZSTD && note_frame(x->state, s->piece[i].stored, s->piece[i].length, e) < 0)
            return -1;
    }
    *ret_next = i;
    *ret_at = end;
    return full_write(x->fd, s->out + at, end - at, e);
}

static int write_leaf(struct export *x, struct export_slot *s, struct err *e)
{
    struct stream *t = x->state;
    size_t at = 0;
    if (s->is_zero) {
        t->zeroes += export_leaf_bytes(x, s->leaf);
        return 0;
    }
    for (unsigned i = 0; i < s->pieces;) {
        if (s->piece[i].kind == PIECE_ZERO)
            t->zeroes += s->piece[i++].length;
        else if (write_run(x, s, i, at, &i, &at, e) < 0)
            return -1;
    }
    return 0;
}

const struct export_format_ops export_zstd = {
    .how = {CODEC_ZSTD, 0}, .begin = begin_stream, .chunk = chunk_zstd, .leaf = write_leaf, .end = end_zstd};
const struct export_format_ops export_gzip = {
    .how = {CODEC_GZIP, 6}, .begin = begin_gzip, .chunk = chunk_gzip, .leaf = write_leaf, .end = end_gzip};
