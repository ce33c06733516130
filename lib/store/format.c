/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/format.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <inttypes.h>

static_assert(sizeof(XXH128_canonical_t) == HASH_SIZE, "XXH3-128 is 16 bytes");
static_assert(sizeof(struct uuid) == 16 && sizeof(struct hash) == HASH_SIZE, "copied as they are");
static_assert(sizeof FOOTER_MAGIC == 8 + 1, "the magic is 8 bytes");

#define FOOTER_HASH_AT (FOOTER_SIZE - HASH_SIZE)
#define FOOTER_USED 240u /* bytes of fields; zero from here to the hash */
static_assert(FOOTER_HASH_AT == 4080, "as drawn in format.h");

void hash_of(const void *buf, size_t len, struct hash *ret)
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(buf, len));
    memcpy(ret->b, c.digest, HASH_SIZE);
}

bool hash_equal(const struct hash *a, const struct hash *b)
{
    return memcmp(a->b, b->b, HASH_SIZE) == 0;
}

void footer_encode(const struct footer *f, uint8_t out[FOOTER_SIZE])
{
    memset(out, 0, FOOTER_SIZE);
    memcpy(out, FOOTER_MAGIC, 8);
    put_le32(out + 8, FORMAT_VERSION);
    put_le64(out + 16, f->compat);
    put_le64(out + 24, f->incompat);
    memcpy(out + 32, f->layer.b, 16);
    memcpy(out + 48, f->image.b, 16);
    put_le64(out + 64, f->version);
    put_le64(out + 72, f->parent_version);
    memcpy(out + 80, f->parent_layer.b, 16);
    put_le64(out + 96, f->virtual_size);
    out[104] = (uint8_t)f->chunk_shift;
    out[105] = (uint8_t)f->codec;
    out[106] = (uint8_t)(int8_t)f->level;
    put_le64(out + 112, f->root_offset);
    put_le64(out + 120, f->root_length);
    memcpy(out + 128, f->root_hash.b, HASH_SIZE);
    put_le64(out + 144, f->table_offset);
    put_le64(out + 152, f->table_length);
    memcpy(out + 160, f->table_hash.b, HASH_SIZE);
    memcpy(out + 176, f->overlay.b, 16);
    memcpy(out + 192, f->checksum, CHECKSUM_SIZE);
    put_le64(out + 224, f->file_length);
    put_le64(out + 232, f->frame_bytes);
    struct hash own;
    hash_of(out, FOOTER_HASH_AT, &own);
    memcpy(out + FOOTER_HASH_AT, own.b, HASH_SIZE);
}

static void footer_fields(const uint8_t *in, struct footer *f)
{
    f->compat = get_le64(in + 16);
    f->incompat = get_le64(in + 24);
    memcpy(f->layer.b, in + 32, 16);
    memcpy(f->image.b, in + 48, 16);
    f->version = get_le64(in + 64);
    f->parent_version = get_le64(in + 72);
    memcpy(f->parent_layer.b, in + 80, 16);
    f->virtual_size = get_le64(in + 96);
    f->chunk_shift = in[104];
    f->codec = (enum codec)in[105];
    f->level = (int8_t)in[106];
    f->root_offset = get_le64(in + 112);
    f->root_length = get_le64(in + 120);
    memcpy(f->root_hash.b, in + 128, HASH_SIZE);
    f->table_offset = get_le64(in + 144);
    f->table_length = get_le64(in + 152);
    memcpy(f->table_hash.b, in + 160, HASH_SIZE);
    memcpy(f->overlay.b, in + 176, 16);
    memcpy(f->checksum, in + 192, CHECKSUM_SIZE);
    f->file_length = get_le64(in + 224);
    f->frame_bytes = get_le64(in + 232);
}

/* What tells whether this program may look at the other fields at all. */
static int check_footer_identity(const uint8_t *in, struct err *e)
{
    struct hash own;
    if (memcmp(in, FOOTER_MAGIC, 8) != 0)
        return err_set_sys(e, ERR_CORRUPT, EIO, "not a layer, or cut off: no footer at its end");
    hash_of(in, FOOTER_HASH_AT, &own);
    if (memcmp(in + FOOTER_HASH_AT, own.b, HASH_SIZE) != 0)
        return err_set_sys(e, ERR_CORRUPT, EIO, "the footer does not match its hash");
    if (get_le32(in + 8) != FORMAT_VERSION)
        return err_set_sys(e, ERR_CORRUPT, EIO, "format version %" PRIu32 ", this program reads version %u",
                           get_le32(in + 8), FORMAT_VERSION);
    uint64_t unknown = get_le64(in + 24) & ~FORMAT_INCOMPAT_KNOWN;
    if (unknown)
        return err_set_sys(e, ERR_CORRUPT, EIO,
                           "needs features 0x%" PRIx64 ", which this program does not have", unknown);
    if (get_le32(in + 12) != 0 || !all_zero(in + 107, 5) ||
        !all_zero(in + FOOTER_USED, FOOTER_HASH_AT - FOOTER_USED))
        return err_set_sys(e, ERR_CORRUPT, EIO, "the footer has bytes where it must be zero");
    return 0;
}

static int check_footer_fields(const struct footer *f, struct err *e)
{
    if (uuid_is_zero(&f->layer) || f->version == 0 || f->parent_version >= f->version)
        return err_set_sys(e, ERR_CORRUPT, EIO, "the footer's uuid or versions are impossible");
    if ((f->parent_version == 0) != uuid_is_zero(&f->parent_layer))
        return err_set_sys(e, ERR_CORRUPT, EIO, "the footer names half a parent");
    if (f->chunk_shift < CHUNK_SHIFT_MIN || f->chunk_shift > CHUNK_SHIFT_MAX)
        return err_set_sys(e, ERR_CORRUPT, EIO, "the footer's chunk size 2^%u is out of range",
                           f->chunk_shift);
    if (f->virtual_size > virtual_size_max(f->chunk_shift))
        return err_set_sys(e, ERR_CORRUPT, EIO, "the footer's disk size %" PRIu64 " is too large",
                           f->virtual_size);
    if (f->codec != CODEC_RAW && f->codec != CODEC_ZSTD && f->codec != CODEC_GZIP)
        return err_set_sys(e, ERR_CORRUPT, EIO, "the footer's codec %d is unknown", (int)f->codec);
    return 0;
}

/* Whether [offset, offset + length) lies before the footer of f's file. */
static bool region_fits(const struct footer *f, uint64_t offset, uint64_t length)
{
    uint64_t end;
    return !add_overflows(offset, length, &end) && end <= f->file_length - FOOTER_SIZE;
}

static int check_footer_regions(const struct footer *f, struct err *e)
{
    if (f->root_length != leaves_of(f->virtual_size, f->chunk_shift) * ROOT_ENTRY_SIZE)
        return err_set_sys(e, ERR_CORRUPT, EIO, "the root's length %" PRIu64 " does not fit the disk's size",
                           f->root_length);
    if (f->table_length % TABLE_ENTRY_SIZE != 0 ||
        f->table_length > UINT64_C(1) * TABLE_MAX * TABLE_ENTRY_SIZE)
        return err_set_sys(e, ERR_CORRUPT, EIO, "the layer table's length %" PRIu64 " is impossible",
                           f->table_length);
    if (f->file_length < FOOTER_SIZE || f->file_length > INT64_MAX || !region_fits(f, 0, f->frame_bytes) ||
        !region_fits(f, f->root_offset, f->root_length) || !region_fits(f, f->table_offset, f->table_length))
        return err_set_sys(e, ERR_CORRUPT, EIO,
                           "the footer's regions do not lie in a file of %" PRIu64 " bytes", f->file_length);
    return 0;
}

int footer_decode(const uint8_t in[FOOTER_SIZE], struct footer *ret, struct err *e)
{
    struct footer f;
    if (check_footer_identity(in, e) < 0)
        return -1;
    footer_fields(in, &f);
    if (check_footer_fields(&f, e) < 0 || check_footer_regions(&f, e) < 0)
        return -1;
    *ret = f;
    return 0;
}

void leaf_entry_encode(const struct leaf_entry *n, uint8_t out[ENTRY_SIZE])
{
    put_le64(out, n->offset);
    put_le32(out + 8, n->stored);
    put_le16(out + 12, n->layer);
    out[14] = (uint8_t)n->codec;
    out[15] = 0;
    memcpy(out + 16, n->hash.b, HASH_SIZE);
}

int leaf_entry_decode(const uint8_t in[ENTRY_SIZE], unsigned chunk_shift, struct leaf_entry *ret,
                      struct err *e)
{
    if (in[14] > CODEC_GZIP || in[15] != 0)
        return err_set_sys(e, ERR_CORRUPT, EIO, "an entry of unknown kind %u, %u", in[14], in[15]);
    struct leaf_entry n = {.offset = get_le64(in),
                           .stored = get_le32(in + 8),
                           .layer = get_le16(in + 12),
                           .codec = (enum codec)in[14]};
    memcpy(n.hash.b, in + 16, HASH_SIZE);
    if (n.codec == CODEC_ZERO && !all_zero(in, ENTRY_SIZE))
        return err_set_sys(e, ERR_CORRUPT, EIO, "an entry of a zero chunk that is not empty");
    /* What does not shrink is stored raw: no frame is longer than a chunk. */
    if (n.codec != CODEC_ZERO && (n.stored == 0 || n.stored > UINT32_C(1) << chunk_shift))
        return err_set_sys(e, ERR_CORRUPT, EIO, "an entry with a stored length of %" PRIu32, n.stored);
    if (n.offset > INT64_MAX - CHUNK_SIZE_MAX)
        return err_set_sys(e, ERR_CORRUPT, EIO, "an entry with the offset %" PRIu64, n.offset);
    *ret = n;
    return 0;
}

void root_entry_encode(const struct root_entry *r, uint8_t out[ROOT_ENTRY_SIZE])
{
    put_le64(out, r->offset);
    put_le16(out + 8, r->layer);
    put_le16(out + 10, r->flags);
    put_le32(out + 12, 0);
    memcpy(out + 16, r->hash.b, HASH_SIZE);
}

int root_entry_decode(const uint8_t in[ROOT_ENTRY_SIZE], struct root_entry *ret, struct err *e)
{
    struct root_entry r = {.offset = get_le64(in), .layer = get_le16(in + 8), .flags = get_le16(in + 10)};
    memcpy(r.hash.b, in + 16, HASH_SIZE);
    if ((r.flags & ~ROOT_ZERO) != 0 || get_le32(in + 12) != 0)
        return err_set_sys(e, ERR_CORRUPT, EIO, "a root entry with unknown flags 0x%x", r.flags);
    if ((r.flags & ROOT_ZERO) && (r.offset != 0 || r.layer != 0 || !all_zero(r.hash.b, HASH_SIZE)))
        return err_set_sys(e, ERR_CORRUPT, EIO, "a root entry of a zero leaf that is not empty");
    if (r.offset % ALIGNMENT != 0 || r.offset > INT64_MAX - LEAF_SIZE)
        return err_set_sys(e, ERR_CORRUPT, EIO, "a root entry with the offset %" PRIu64, r.offset);
    *ret = r;
    return 0;
}

void table_entry_encode(const struct table_entry *t, uint8_t out[TABLE_ENTRY_SIZE])
{
    memcpy(out, t->layer.b, 16);
    put_le64(out + 16, t->version);
    put_le64(out + 24, t->file_length);
    memcpy(out + 32, t->footer_hash.b, HASH_SIZE);
}

void table_entry_decode(const uint8_t in[TABLE_ENTRY_SIZE], struct table_entry *ret)
{
    memcpy(ret->layer.b, in, 16);
    ret->version = get_le64(in + 16);
    ret->file_length = get_le64(in + 24);
    memcpy(ret->footer_hash.b, in + 32, HASH_SIZE);
}
