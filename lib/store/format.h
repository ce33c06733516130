/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_FORMAT_H
#define LABBOOT_FORMAT_H

/* Everything that the store writes to disk: sizes, offsets, magic numbers, and the plain structures they decode to.
 * All integers are little-endian; buffers are read and written through lib/base/bytes.h.
 *
 * A layer, <images-dir>/<image uuid>/<version>.img, immutable once it has its name:
 *
 *     [frames and runs of leaves …][root][layer table][footer, 4096 bytes]
 *
 * There is no header: a torn file has no footer. Frames are packed without padding, except in a layer of codec
 * NONE: there each stands at a multiple of 4096; and the base of such an image (no parent) has its chunks at their
 * own offsets in the disk, sparse, so that the file opens as a raw disk. A leaf stands at a multiple of 4096.
 *
 * The disk is cut into chunks of 1 << chunk_shift bytes; the last is shorter when the size is no multiple. 128
 * consecutive chunks make a leaf; leaf i maps chunks 128 i … 128 i + 127.
 *
 * LAYER INDEX: a u16 in roots and leaves. The table of a layer lists its ancestors, the oldest first; index i < count
 * is entry i, index == count is the layer itself. A child's table is its parent's table and then the parent: so the
 * indices in a leaf mean the same in all younger layers, and an unchanged leaf is shared by them.
 *
 * footer (4096 bytes, the last of the file)
 *   OFFSET SIZE MEANING
 *        0    8 magic "LABBOOT\1"
 *        8    4 format version, 1
 *       12    4 zero
 *       16    8 compat feature bits: unknown ones are ignored
 *       24    8 incompat feature bits: unknown ones refuse the file
 *       32   16 layer uuid
 *       48   16 image uuid
 *       64    8 version
 *       72    8 parent version, 0: none
 *       80   16 parent layer uuid, zero: none
 *       96    8 virtual size of the disk in bytes
 *      104    1 chunk shift
 *      105    1 codec of new chunks (CODEC_RAW: compression none)
 *      106    1 level of it, signed
 *      107    5 zero
 *      112    8 root: offset
 *      120    8 root: length
 *      128   16 root: XXH3-128
 *      144    8 layer table: offset
 *      152    8 layer table: length
 *      160   16 layer table: XXH3-128
 *      176   16 uuid of the overlay that it was committed from, zero: imported
 *      192   32 checksum of the version (see below)
 *      224    8 length of the file
 *      232    8 bytes of frames in this file
 *      240 3840 zero
 *     4080   16 XXH3-128 of bytes 0 … 4079
 *
 * root: 32 bytes a leaf                       leaf: 128 entries of 32 bytes
 *   OFFSET SIZE MEANING                         OFFSET SIZE MEANING
 *        0    8 offset of the leaf in its file       0    8 offset of the frame in its file
 *        8    2 layer index                          8    4 stored length of the frame
 *       10    2 flags: ROOT_ZERO                    12    2 layer index
 *       12    4 zero                                14    1 codec
 *       16   16 XXH3-128 of the leaf                15    1 zero
 *                                                   16   16 XXH3-128 of the uncompressed chunk
 * A leaf with ROOT_ZERO has no bytes on disk, all else in its entry is zero; so is all else of an entry of CODEC_ZERO.
 *
 * layer table: 48 bytes a layer
 *        0   16 layer uuid
 *       16    8 version it was published as (where to look first; then retired/<layer uuid>.img)
 *       24    8 length of its file
 *       32   16 XXH3-128 that ends its footer
 *
 * XXH3-128 values are stored in the canonical (big-endian) form of xxhash.h, seed 0.
 *
 * CHECKSUM of a version: SHA-256 over { "labboot1", virtual size u64, chunk size u64 } and then, for each chunk that
 * is not all zero in ascending order, { chunk number u64, XXH3-128 of it }. It does not depend on where or how chunks
 * are stored, so flattening keeps it, and an empty part of a disk costs nothing.
 *
 * An overlay, <overlays-dir>/<boot id>/<n>/: see overlay.c. */

#include "lib/base/bytes.h"
#include "lib/base/hwid.h"

#include <assert.h>

#define FOOTER_SIZE 4096u
#define FOOTER_MAGIC "LABBOOT\1"
#define FORMAT_VERSION 1u
#define FORMAT_INCOMPAT_KNOWN UINT64_C(0)
#define HASH_SIZE 16u
#define CHECKSUM_SIZE 32u

#define CHUNK_SHIFT_MIN 14u /* 16 KiB */
#define CHUNK_SHIFT_MAX 16u /* 64 KiB: the slot size of the cache */
#define CHUNK_SHIFT_DEFAULT 16u
#define CHUNK_SIZE_MAX (UINT32_C(1) << CHUNK_SHIFT_MAX)

#define LEAF_CHUNKS 128u
#define ENTRY_SIZE 32u
#define LEAF_SIZE 4096u
static_assert(LEAF_CHUNKS * ENTRY_SIZE == LEAF_SIZE, "a leaf is one 4 KiB block");

#define ROOT_ENTRY_SIZE 32u
#define ROOT_ZERO 1u /* all chunks of the leaf are zero */
#define TABLE_ENTRY_SIZE 48u
#define TABLE_MAX 65535u /* ancestors: an index is 16 bits, and one is the layer itself */
#define ALIGNMENT 4096u  /* of leaves, and of frames of codec NONE */
/* 64 TiB, with smaller chunks less: a root of 256 MiB, the largest allocation that a file can ask for. */
#define VIRTUAL_SIZE_MAX (UINT64_C(64) * TIB)
#define LEAVES_MAX (VIRTUAL_SIZE_MAX / LEAF_CHUNKS >> CHUNK_SHIFT_MAX)
static_assert(LEAVES_MAX * ROOT_ENTRY_SIZE == 256 * MIB, "as said above");

struct hash {
    uint8_t b[HASH_SIZE];
};

enum codec {
    CODEC_ZERO = 0, /* nothing stored */
    CODEC_RAW = 1,  /* the bytes themselves; as an image's compression: none */
    CODEC_ZSTD = 2, /* a whole frame with its content size */
    CODEC_GZIP = 3, /* a whole BGZF member */
};

struct footer {
    struct uuid layer, image, parent_layer, overlay;
    uint64_t compat, incompat;
    uint64_t version, parent_version;
    uint64_t virtual_size;
    unsigned chunk_shift;
    enum codec codec;
    int level;
    uint64_t root_offset, root_length;
    struct hash root_hash;
    uint64_t table_offset, table_length;
    struct hash table_hash;
    uint8_t checksum[CHECKSUM_SIZE];
    uint64_t file_length, frame_bytes;
};

struct leaf_entry {
    uint64_t offset;
    uint32_t stored;
    uint16_t layer;
    enum codec codec;
    struct hash hash;
};

struct root_entry {
    uint64_t offset;
    uint16_t layer;
    uint16_t flags;
    struct hash hash;
};

struct table_entry {
    struct uuid layer;
    uint64_t version;
    uint64_t file_length;
    struct hash footer_hash;
};

/* Encoders fill the whole buffer. Decoders check what can be checked without other data (magic, version, features,
 * caps, reserved bytes, the footer's own hash, lengths against file_length) and return ERR_CORRUPT. */
void footer_encode(const struct footer *f, uint8_t out[FOOTER_SIZE]);
int footer_decode(const uint8_t in[FOOTER_SIZE], struct footer *ret, struct err *e) must_check;
void leaf_entry_encode(const struct leaf_entry *n, uint8_t out[ENTRY_SIZE]);
int leaf_entry_decode(const uint8_t in[ENTRY_SIZE], unsigned chunk_shift, struct leaf_entry *ret,
                      struct err *e) must_check;
void root_entry_encode(const struct root_entry *r, uint8_t out[ROOT_ENTRY_SIZE]);
int root_entry_decode(const uint8_t in[ROOT_ENTRY_SIZE], struct root_entry *ret, struct err *e) must_check;
void table_entry_encode(const struct table_entry *t, uint8_t out[TABLE_ENTRY_SIZE]);
void table_entry_decode(const uint8_t in[TABLE_ENTRY_SIZE], struct table_entry *ret);

void hash_of(const void *buf, size_t len, struct hash *ret);
bool hash_equal(const struct hash *a, const struct hash *b);

/* The most bytes that a disk can have. */
static inline uint64_t virtual_size_max(unsigned chunk_shift)
{
    return LEAVES_MAX * LEAF_CHUNKS << chunk_shift;
}

/* Chunks and leaves of a disk of `virtual_size` bytes. */
static inline uint64_t chunks_of(uint64_t virtual_size, unsigned chunk_shift)
{
    return div_up(virtual_size, UINT64_C(1) << chunk_shift);
}

static inline uint64_t leaves_of(uint64_t virtual_size, unsigned chunk_shift)
{
    return div_up(chunks_of(virtual_size, chunk_shift), LEAF_CHUNKS);
}

#endif
