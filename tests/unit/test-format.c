/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/store/format: known bytes out and in, and nothing else accepted. */
#include "lib/store/format.h"
#include "tests/unit/unit.h"

#include <errno.h>

static struct err e;

static struct footer sample(void)
{
    struct footer f = {.version = 1795460000,
                       .parent_version = 1795459999,
                       .virtual_size = 20 * MIB + 4097,
                       .chunk_shift = 16,
                       .codec = CODEC_ZSTD,
                       .level = -3,
                       .root_offset = 8192,
                       .root_length = 3 * ROOT_ENTRY_SIZE,
                       .table_offset = 8288,
                       .table_length = 2 * TABLE_ENTRY_SIZE,
                       .file_length = 8384 + FOOTER_SIZE,
                       .frame_bytes = 4000};
    for (uint8_t i = 0; i < 16; i++) {
        f.layer.b[i] = (uint8_t)(0x10 + i);
        f.image.b[i] = (uint8_t)(0x20 + i);
        f.parent_layer.b[i] = (uint8_t)(0x30 + i);
        f.overlay.b[i] = (uint8_t)(0x40 + i);
        f.root_hash.b[i] = (uint8_t)(0x50 + i);
        f.table_hash.b[i] = (uint8_t)(0x60 + i);
    }
    for (uint8_t i = 0; i < CHECKSUM_SIZE; i++)
        f.checksum[i] = (uint8_t)(0x70 + i);
    return f;
}

static void hash_is_xxh3_128(void)
{
    static const uint8_t of_nothing[HASH_SIZE] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
                                                  0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f};
    struct hash h;
    hash_of("", 0, &h);
    CHECK(memcmp(h.b, of_nothing, HASH_SIZE) == 0);
}

static void footer_has_the_drawn_bytes(void)
{
    struct footer f = sample(), g;
    uint8_t b[FOOTER_SIZE];
    footer_encode(&f, b);
    CHECK(memcmp(b, "LABBOOT\1\1\0\0\0\0\0\0\0", 16) == 0);
    CHECK(b[32] == 0x10 && b[48] == 0x20 && b[80] == 0x30 && b[128] == 0x50 && b[160] == 0x60);
    CHECK(b[176] == 0x40 && b[192] == 0x70);
    CHECK(memcmp(b + 64, "\xa0\x8b\x04\x6b\0\0\0\0\x9f\x8b\x04\x6b\0\0\0\0", 16) == 0);
    CHECK(memcmp(b + 96, "\x01\x10\x40\x01\0\0\0\0\x10\x02\xfd\0\0\0\0\0", 16) == 0);
    CHECK(memcmp(b + 112, "\0\x20\0\0\0\0\0\0\x60\0\0\0\0\0\0\0", 16) == 0);
    CHECK(memcmp(b + 144, "\x60\x20\0\0\0\0\0\0\x60\0\0\0\0\0\0\0", 16) == 0);
    CHECK(memcmp(b + 224, "\xc0\x30\0\0\0\0\0\0\xa0\x0f\0\0\0\0\0\0", 16) == 0);
    CHECK(all_zero(b + 240, 3840));
    CHECK_OK(footer_decode(b, &g, &e));
    uint8_t again[FOOTER_SIZE];
    footer_encode(&g, again);
    CHECK(memcmp(b, again, FOOTER_SIZE) == 0 && g.level == -3);
}

static void any_flipped_byte_of_a_footer(void)
{
    struct footer f = sample(), g;
    uint8_t b[FOOTER_SIZE];
    footer_encode(&f, b);
    for (size_t i = 0; i < FOOTER_SIZE; i++) {
        b[i] ^= 0x40;
        CHECK_FAILS(footer_decode(b, &g, &e), ERR_CORRUPT);
        CHECK(e.sys == EIO);
        b[i] ^= 0x40;
    }
    CHECK_OK(footer_decode(b, &g, &e));
}

/* As a buggy or malicious writer would do it: wrong, with a right hash. */
static void refuse(const struct footer *f)
{
    uint8_t b[FOOTER_SIZE];
    struct footer g;
    footer_encode(f, b);
    CHECK_FAILS(footer_decode(b, &g, &e), ERR_CORRUPT);
}

#define REFUSE_WITH(assignment)                                                                              \
    do {                                                                                                     \
        struct footer f = sample();                                                                          \
        f.assignment;                                                                                        \
        refuse(&f);                                                                                          \
    } while (0)

static void impossible_footers(void)
{
    REFUSE_WITH(incompat = 1);
    REFUSE_WITH(incompat = UINT64_C(1) << 63);
    REFUSE_WITH(version = 0);
    REFUSE_WITH(parent_version = f.version);
    REFUSE_WITH(parent_version = 0);
    REFUSE_WITH(virtual_size = VIRTUAL_SIZE_MAX + 1);
    REFUSE_WITH(virtual_size = UINT64_MAX);
    REFUSE_WITH(virtual_size = 8 * MIB);
    REFUSE_WITH(chunk_shift = CHUNK_SHIFT_MIN - 1);
    REFUSE_WITH(chunk_shift = CHUNK_SHIFT_MAX + 1);
    REFUSE_WITH(codec = CODEC_ZERO);
    REFUSE_WITH(codec = (enum codec)4);
    REFUSE_WITH(root_length += ROOT_ENTRY_SIZE);
    REFUSE_WITH(root_offset = f.file_length - FOOTER_SIZE - f.root_length + 1);
    REFUSE_WITH(root_offset = UINT64_MAX - 5);
    REFUSE_WITH(table_length = 47);
    REFUSE_WITH(table_length = (UINT64_C(1) + TABLE_MAX) * TABLE_ENTRY_SIZE);
    REFUSE_WITH(table_offset = UINT64_MAX - 96);
    REFUSE_WITH(file_length = FOOTER_SIZE - 1);
    REFUSE_WITH(file_length = UINT64_MAX);
    REFUSE_WITH(frame_bytes = f.file_length);
    REFUSE_WITH(layer = (struct uuid){0});
}

/* The root is read as a whole: small chunks must not make it larger than large ones do. */
static void the_largest_disks(void)
{
    uint8_t b[FOOTER_SIZE];
    struct footer g;
    for (unsigned shift = CHUNK_SHIFT_MIN; shift <= CHUNK_SHIFT_MAX; shift++) {
        struct footer f = sample();
        f.chunk_shift = shift;
        f.virtual_size = virtual_size_max(shift);
        f.root_length = 256 * MIB;
        f.file_length = GIB;
        footer_encode(&f, b);
        CHECK_OK(footer_decode(b, &g, &e));
        f.virtual_size++;
        f.root_length += ROOT_ENTRY_SIZE;
        refuse(&f);
    }
    CHECK(virtual_size_max(CHUNK_SHIFT_MAX) == VIRTUAL_SIZE_MAX);
}

static void compat_features_are_ignored(void)
{
    struct footer f = sample(), g;
    uint8_t b[FOOTER_SIZE];
    f.compat = UINT64_MAX;
    footer_encode(&f, b);
    CHECK_OK(footer_decode(b, &g, &e));
    CHECK(g.compat == UINT64_MAX);
}

static void reserved_bytes_are_zero(void)
{
    static const size_t at[] = {8, 12, 15, 107, 111, 240, 4079};
    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        struct footer f = sample(), g;
        uint8_t b[FOOTER_SIZE];
        struct hash h;
        footer_encode(&f, b);
        b[at[i]] ^= 2;
        hash_of(b, FOOTER_SIZE - HASH_SIZE, &h);
        memcpy(b + FOOTER_SIZE - HASH_SIZE, h.b, HASH_SIZE);
        CHECK_FAILS(footer_decode(b, &g, &e), ERR_CORRUPT);
    }
}

static void entries_of_a_leaf(void)
{
    struct leaf_entry n = {.offset = 0x123456789a, .stored = 0x8001, .layer = 0xbeef, .codec = CODEC_ZSTD}, m;
    uint8_t b[ENTRY_SIZE];
    memset(n.hash.b, 0x77, HASH_SIZE);
    leaf_entry_encode(&n, b);
    CHECK(memcmp(b, "\x9a\x78\x56\x34\x12\0\0\0\x01\x80\0\0\xef\xbe\x02\0\x77", 17) == 0);
    CHECK_OK(leaf_entry_decode(b, 16, &m, &e));
    CHECK(m.offset == n.offset && m.stored == n.stored && m.layer == n.layer && m.codec == n.codec &&
          hash_equal(&m.hash, &n.hash));
    CHECK_FAILS(leaf_entry_decode(b, 14, &m, &e), ERR_CORRUPT);
    b[15] = 1;
    CHECK_FAILS(leaf_entry_decode(b, 16, &m, &e), ERR_CORRUPT);
    b[15] = 0;
    b[14] = 4;
    CHECK_FAILS(leaf_entry_decode(b, 16, &m, &e), ERR_CORRUPT);
    b[14] = CODEC_ZERO;
    CHECK_FAILS(leaf_entry_decode(b, 16, &m, &e), ERR_CORRUPT);
    n.stored = 0;
    leaf_entry_encode(&n, b);
    CHECK_FAILS(leaf_entry_decode(b, 16, &m, &e), ERR_CORRUPT);
    n.stored = 5;
    n.offset = UINT64_MAX - 2;
    leaf_entry_encode(&n, b);
    CHECK_FAILS(leaf_entry_decode(b, 16, &m, &e), ERR_CORRUPT);
    memset(b, 0, sizeof b);
    CHECK_OK(leaf_entry_decode(b, 16, &m, &e));
    CHECK(m.codec == CODEC_ZERO);
}

static void entries_of_a_root(void)
{
    struct root_entry r = {.offset = 0x12345000, .layer = 0x0102}, s;
    uint8_t b[ROOT_ENTRY_SIZE];
    memset(r.hash.b, 0x77, HASH_SIZE);
    root_entry_encode(&r, b);
    CHECK(memcmp(b, "\0\x50\x34\x12\0\0\0\0\x02\x01\0\0\0\0\0\0\x77", 17) == 0);
    CHECK_OK(root_entry_decode(b, &s, &e));
    CHECK(s.offset == r.offset && s.layer == r.layer && s.flags == 0 && hash_equal(&s.hash, &r.hash));
    b[10] = 2;
    CHECK_FAILS(root_entry_decode(b, &s, &e), ERR_CORRUPT);
    b[10] = ROOT_ZERO;
    CHECK_FAILS(root_entry_decode(b, &s, &e), ERR_CORRUPT);
    b[10] = 0;
    b[12] = 1;
    CHECK_FAILS(root_entry_decode(b, &s, &e), ERR_CORRUPT);
    b[12] = 0;
    b[0] = 1;
    CHECK_FAILS(root_entry_decode(b, &s, &e), ERR_CORRUPT);
    memset(b, 0, sizeof b);
    b[10] = ROOT_ZERO;
    CHECK_OK(root_entry_decode(b, &s, &e));
    CHECK(s.flags == ROOT_ZERO);
}

static void entries_of_a_table(void)
{
    struct table_entry t = {.version = 0x0102, .file_length = 0x123456789a}, u;
    uint8_t b[TABLE_ENTRY_SIZE];
    memset(t.layer.b, 0x55, 16);
    memset(t.footer_hash.b, 0x77, HASH_SIZE);
    table_entry_encode(&t, b);
    CHECK(b[0] == 0x55 && b[15] == 0x55 && b[32] == 0x77 && b[47] == 0x77);
    CHECK(memcmp(b + 16, "\x02\x01\0\0\0\0\0\0\x9a\x78\x56\x34\x12\0\0\0", 16) == 0);
    table_entry_decode(b, &u);
    CHECK(uuid_equal(&t.layer, &u.layer) && u.version == t.version && u.file_length == t.file_length &&
          hash_equal(&t.footer_hash, &u.footer_hash));
}

int main(void)
{
    UNIT(hash_is_xxh3_128);
    UNIT(footer_has_the_drawn_bytes);
    UNIT(any_flipped_byte_of_a_footer);
    UNIT(impossible_footers);
    UNIT(the_largest_disks);
    UNIT(compat_features_are_ignored);
    UNIT(reserved_bytes_are_zero);
    UNIT(entries_of_a_leaf);
    UNIT(entries_of_a_root);
    UNIT(entries_of_a_table);
    return 0;
}
