/* SPDX-License-Identifier: BSD-3-Clause */

/* qcow2 version 3 (docs/interop/qcow2.txt of QEMU), integers big-endian, one cluster a chunk, compression type zstd: the
 * frames of the store as they are. The file, in clusters:
 *
 *     [header][data and L2 tables, as the disk goes …][L1 table][refcount blocks][refcount table]
 *
 * header (its length 112; behind it the end of the header extensions, 8 zero bytes)
 *   OFFSET SIZE MEANING
 *        0    4 "QFI\xfb"
 *        4    4 3
 *        8   12 no backing file
 *       20    4 cluster bits
 *       24    8 size of the disk: a multiple of 512
 *       32    4 no encryption
 *       36    4 entries of the L1 table
 *       40    8 its offset
 *       48    8 offset of the refcount table
 *       56    4 its clusters
 *       60   12 no snapshots
 *       72    8 incompatible features: a compression type
 *       80   16 none other
 *       96    4 refcount order 4: 16 bits
 *      100    4 header length
 *      104    1 compression type 1: zstd
 *
 * An L2 entry of a compressed cluster: bit 62; from bit 62 - (cluster bits - 8) on the number of further sectors of 512 bytes
 * that the frame touches; below, its offset. Frames are packed, so a host cluster has as many references as frames touch
 * it. What has its cluster alone has bit 63 in its entry. */
#include "lib/store/export-impl.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <errno.h>

#define HEADER_SIZE 112u
#define NO_EXTENSIONS 8u /* bytes that end them */
#define INCOMPATIBLE_COMPRESSION 8u
#define COMPRESSION_ZSTD 1u
#define REFCOUNT_ORDER 4u
#define SECTOR 512u
#define FLAG_COPIED (UINT64_C(1) << 63)
#define FLAG_COMPRESSED (UINT64_C(1) << 62)
#define ENTRY 8u

struct qcow2 {
    uint64_t cluster;
    uint64_t end; /* of the file */
    uint8_t *l1, *l2;
    uint64_t l2_entries; /* of a table */
    uint64_t l1_entries;
    uint64_t l1_at;   /* the L2 table that is being filled */
    bool l2_used;     /* has an entry */
    uint16_t *counts; /* of host clusters */
    uint64_t counted; /* room */
};

static void put_be16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put_be32(uint8_t *p, uint32_t v)
{
    put_be16(p, (uint16_t)(v >> 16));
    put_be16(p + 2, (uint16_t)v);
}

static void put_be64(uint8_t *p, uint64_t v)
{
    put_be32(p, (uint32_t)(v >> 32));
    put_be32(p + 4, (uint32_t)v);
}

static void drop(void *state)
{
    struct qcow2 *q = state;
    if (!q)
        return;
    free(q->l1);
    free(q->l2);
    free(q->counts);
    free(q);
}

static int begin(struct export *x, struct err *e)
{
    struct qcow2 *q = calloc(1, sizeof *q);
    x->state = q;
    x->drop = drop;
    if (!q)
        return err_sys(e, ENOMEM, "export");
    q->cluster = x->chunk_size;
    q->end = q->cluster;
    q->l2_entries = q->cluster / ENTRY;
    q->l1_entries = div_up(div_up(x->size, q->cluster), q->l2_entries);
    q->l1 = calloc(q->l1_entries, ENTRY);
    q->l2 = calloc(q->l2_entries, ENTRY);
    return q->l1 && q->l2 ? 0 : err_sys(e, ENOMEM, "L1 table");
}

/* ---- host clusters ------------------------------------------------------------------------------------------------------ */

static int count(struct qcow2 *q, uint64_t offset, uint64_t length, struct err *e)
{
    uint64_t last = (offset + length - 1) / q->cluster;
    if (last >= q->counted) {
        uint64_t room = max_u64(last + 1, 2 * q->counted);
        uint16_t *longer = reallocarray(q->counts, room, sizeof *longer);
        if (!longer)
            return err_sys(e, ENOMEM, "refcounts");
        memset(longer + q->counted, 0, (room - q->counted) * sizeof *longer);
        q->counts = longer;
        q->counted = room;
    }
    for (uint64_t i = offset / q->cluster; i <= last; i++)
        q->counts[i]++;
    return 0;
}

/* Whole clusters at the end, of which `length` bytes are written. */
static int append_clusters(struct export *x, const uint8_t *data, uint64_t length, uint64_t *ret_at,
                           struct err *e)
{
    struct qcow2 *q = x->state;
    *ret_at = round_up(q->end, q->cluster);
    q->end = *ret_at + round_up(length, q->cluster);
    if (count(q, *ret_at, q->end - *ret_at, e) < 0)
        return -1;
    return full_pwrite(x->fd, data, length, *ret_at, e);
}

/* ---- the disk ------------------------------------------------------------------------------------------------------------ */

/* The L2 table that is being filled goes to the file, if there is anything in it. */
static int write_l2(struct export *x, struct err *e)
{
    struct qcow2 *q = x->state;
    uint64_t at;
    if (!q->l2_used)
        return 0;
    if (append_clusters(x, q->l2, q->cluster, &at, e) < 0)
        return -1;
    put_be64(q->l1 + q->l1_at * ENTRY, at | FLAG_COPIED);
    memset(q->l2, 0, q->cluster);
    q->l2_used = false;
    return 0;
}

static void set_entry(struct qcow2 *q, uint64_t chunk, uint64_t entry)
{
    q->l2_used = true;
    put_be64(q->l2 + chunk % q->l2_entries * ENTRY, entry);
}

static int add_raw(struct export *x, uint64_t chunk, const uint8_t *data, struct err *e)
{
    struct qcow2 *q = x->state;
    uint64_t at;
    if (append_clusters(x, data, q->cluster, &at, e) < 0)
        return -1;
    set_entry(q, chunk, at | FLAG_COPIED);
    return 0;
}

static int add_frame(struct export *x, uint64_t chunk, uint32_t stored, struct err *e)
{
    struct qcow2 *q = x->state;
    uint64_t at = q->end, sectors = (at + stored - 1) / SECTOR - at / SECTOR;
    if (count(q, at, stored, e) < 0)
        return -1;
    q->end += stored;
    set_entry(q, chunk, FLAG_COMPRESSED | sectors << (62 - (x->chunk_shift - 8)) | at);
    return 0;
}

/* Frames from piece i on that follow each other, in one write. */
static int add_frames(struct export *x, const struct export_slot *s, unsigned i, size_t at,
                      unsigned *ret_next, struct err *e)
{
    const struct qcow2 *q = x->state;
    size_t length = 0;
    unsigned next = i;
    for (; next < s->pieces && s->piece[next].kind == PIECE_FRAME; next++)
        length += s->piece[next].stored;
    if (full_pwrite(x->fd, s->out + at, length, q->end, e) < 0)
        return -1;
    for (; i < next; i++)
        if (add_frame(x, s->leaf * LEAF_CHUNKS + i, s->piece[i].stored, e) < 0)
            return -1;
    *ret_next = next;
    return 0;
}

static int write_pieces(struct export *x, const struct export_slot *s, struct err *e)
{
    size_t at = 0;
    for (unsigned i = 0, next; i < s->pieces; i = next) {
        next = i + 1;
        if (s->piece[i].kind == PIECE_RAW && add_raw(x, s->leaf * LEAF_CHUNKS + i, s->out + at, e) < 0)
            return -1;
        if (s->piece[i].kind == PIECE_FRAME && add_frames(x, s, i, at, &next, e) < 0)
            return -1;
        for (; i < next; i++)
            at += s->piece[i].stored;
    }
    return 0;
}

/* A leaf never has entries in two L2 tables. */
static int write_leaf(struct export *x, struct export_slot *s, struct err *e)
{
    struct qcow2 *q = x->state;
    const uint64_t table = s->leaf * LEAF_CHUNKS / q->l2_entries;
    if (s->is_zero)
        return 0;
    if (table != q->l1_at && write_l2(x, e) < 0)
        return -1;
    q->l1_at = table;
    return write_pieces(x, s, e);
}
static_assert((UINT64_C(1) << CHUNK_SHIFT_MIN) / ENTRY % LEAF_CHUNKS == 0,
              "a leaf has its place in one L2 table");

/* ---- the end ---------------------------------------------------------------------------------------------------------- */

/* Blocks of refcounts, which count themselves and the table of them too. */
static uint64_t refcount_blocks(const struct qcow2 *q, uint64_t clusters)
{
    const uint64_t per_block = q->cluster / 2, per_table = q->cluster / ENTRY;
    for (uint64_t blocks = 0;;) {
        uint64_t needed = div_up(clusters + blocks + div_up(blocks, per_table), per_block);
        if (needed <= blocks)
            return blocks;
        blocks = needed;
    }
}

/* And puts where they are into the header. */
static int write_refcounts(struct export *x, uint8_t *header, struct err *e)
{
    struct qcow2 *q = x->state;
    uint64_t first = div_up(q->end, q->cluster), blocks = refcount_blocks(q, first);
    uint64_t table_bytes = round_up(blocks * ENTRY, q->cluster), table = (first + blocks) * q->cluster;
    if (count(q, first * q->cluster, blocks * q->cluster + table_bytes, e) < 0)
        return -1;
    uint64_t used = first + blocks + table_bytes / q->cluster;
    cleanup(free) uint8_t *out = calloc(1, blocks * q->cluster + table_bytes);
    if (!out)
        return err_sys(e, ENOMEM, "refcounts");
    for (uint64_t i = 0; i < used; i++)
        put_be16(out + 2 * i, q->counts[i]);
    for (uint64_t i = 0; i < blocks; i++)
        put_be64(out + blocks * q->cluster + i * ENTRY, (first + i) * q->cluster);
    put_be64(header + 48, table);
    put_be32(header + 56, (uint32_t)(table_bytes / q->cluster));
    return full_pwrite(x->fd, out, blocks * q->cluster + table_bytes, first * q->cluster, e);
}

static int end(struct export *x, struct err *e)
{
    struct qcow2 *q = x->state;
    uint64_t l1;
    uint8_t header[HEADER_SIZE + NO_EXTENSIONS] = "QFI\xfb";
    if (write_l2(x, e) < 0 || count(q, 0, q->cluster, e) < 0 ||
        append_clusters(x, q->l1, q->l1_entries * ENTRY, &l1, e) < 0 || write_refcounts(x, header, e) < 0)
        return -1;
    put_be32(header + 4, 3);
    put_be32(header + 20, x->chunk_shift);
    put_be64(header + 24, round_up(x->size, SECTOR));
    put_be32(header + 36, (uint32_t)q->l1_entries);
    put_be64(header + 40, l1);
    put_be64(header + 72, INCOMPATIBLE_COMPRESSION);
    put_be32(header + 96, REFCOUNT_ORDER);
    put_be32(header + 100, HEADER_SIZE);
    header[104] = COMPRESSION_ZSTD;
    return full_pwrite(x->fd, header, sizeof header, 0, e);
}

const struct export_format_ops export_qcow2 = {.how = {CODEC_ZSTD, 0},
                                               .whole_chunks = true,
                                               .begin = begin,
                                               .chunk = export_add_frame,
                                               .leaf = write_leaf,
                                               .end = end};
