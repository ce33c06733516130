/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk that a guest wrote. An input is a list of sectors, each behind its number; the disk is zero elsewhere, and ends with
 * the last sector that a table may have. */
#include "lib/base/cleanup.h"
#include "lib/store/clean.h"
#include "tests/fuzz/fuzz.h"

#include <libdeflate.h>

const char fuzz_name[] = "clean";

#define SECTOR 512u
#define PIECE (4 + SECTOR)    /* the sector's number, which is taken modulo SECTORS, and its bytes */
#define SECTORS (64u * 2048)  /* 64 MiB */
#define CHECK_GPT 0x80000000u /* in a number: its GPT header's checksums are mended */

static struct err e;

struct input {
    const uint8_t *data;
    size_t pieces;
    size_t read; /* bytes that were asked for */
};

/* NULL: it is zero. */
static const uint8_t *find_sector(const struct input *in, uint64_t sector, bool *ret_mend)
{
    for (size_t i = 0; i < in->pieces; i++) {
        const uint8_t *piece = in->data + i * PIECE;
        uint32_t number = get_le32(piece);
        *ret_mend = (number & CHECK_GPT) && (sector == 1 || sector == SECTORS - 1);
        if ((number & ~CHECK_GPT) % SECTORS == sector)
            return piece + 4;
    }
    return NULL;
}

static uint32_t sum_of_entries(const struct input *in, const uint8_t *header)
{
    uint64_t at = get_le64(header + 72);
    uint64_t bytes = (uint64_t)get_le32(header + 80) * get_le32(header + 84);
    static const uint8_t zero[SECTOR];
    uint32_t sum = 0;
    bool unused;
    if (at < 2 || at >= SECTORS - 1 || bytes > 32 * KIB)
        return 0;
    for (; bytes > 0; at++) {
        size_t len = min_u64(bytes, SECTOR);
        const uint8_t *sector = find_sector(in, at, &unused);
        sum = libdeflate_crc32(sum, sector ? sector : zero, len);
        bytes -= len;
    }
    return sum;
}

static void mend_gpt(const struct input *in, uint8_t *header)
{
    uint32_t size = get_le32(header + 12);
    put_le32(header + 88, sum_of_entries(in, header));
    put_le32(header + 16, 0);
    put_le32(header + 16, libdeflate_crc32(0, header, size > SECTOR ? SECTOR : size));
}

static void read_sector(const struct input *in, uint64_t sector, uint8_t *buf)
{
    bool mend = false;
    const uint8_t *found = find_sector(in, sector, &mend);
    if (found)
        memcpy(buf, found, SECTOR);
    else
        memset(buf, 0, SECTOR);
    if (found && mend)
        mend_gpt(in, buf);
}

static int input_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *err)
{
    struct input *in = ctx;
    uint8_t sector[SECTOR];
    (void)err;
    CHECK(offset + count >= offset && offset + count <= (uint64_t)SECTORS * SECTOR);
    in->read += count;
    for (size_t done = 0; done < count;) {
        size_t from = (offset + done) % SECTOR, len = min_u64(count - done, SECTOR - from);
        read_sector(in, (offset + done) / SECTOR, sector);
        memcpy((uint8_t *)buf + done, sector + from, len);
        done += len;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size / PIECE, 0}, none = {NULL, 0, 0};
    struct reader disk = {&in, (uint64_t)SECTORS * SECTOR, input_pread};
    struct reader base = {&none, disk.size, input_pread};
    struct clean_report report, again;
    CHECK_OK(clean_check(&disk, NULL, &report, &e));
    CHECK(in.read < 4 * MIB);
    CHECK_OK(clean_check(&disk, &base, &again, &e));
    CHECK(strlen(report.why) > 0 && strcmp(report.why, again.why) == 0 && report.state == again.state);
    CHECK(!report.mounted_since);
    CHECK_OK(clean_check(&disk, &disk, &again, &e));
    CHECK(!again.mounted_since);
    return 0;
}

/* ---- seeds ---- */

struct seed {
    uint8_t data[12 * PIECE];
    size_t size;
};

static uint8_t *add(struct seed *s, uint32_t number)
{
    uint8_t *piece = s->data + s->size;
    CHECK(s->size + PIECE <= sizeof s->data);
    s->size += PIECE;
    put_le32(piece, number);
    return piece + 4;
}

static void add_ext(struct seed *s, uint32_t at)
{
    uint8_t *sb = add(s, at + 2);
    put_le16(sb + 0x38, 0xef53);
    put_le16(sb + 0x3a, 1);
    put_le32(sb + 0x4c, 1);
    put_le32(sb + 0x5c, 4);
    put_le32(sb + 0x60, 0x40);
}

static void add_fat(struct seed *s, uint32_t at, bool is_32)
{
    uint8_t *b = add(s, at), *fat = add(s, at + 32);
    put_le16(b + 11, SECTOR);
    b[13] = 1;
    put_le16(b + 14, 32);
    b[16] = 2;
    b[21] = 0xf8;
    put_le16(b + (is_32 ? 48 : 17), is_32 ? 1 : 512);
    put_le32(b + 32, is_32 ? 100000 : 16384);
    put_le16(b + (is_32 ? 36 : 22), is_32 ? 800 : 64);
    put_le16(b + 510, 0xaa55);
    memset(fat, 0xff, 8);
}

static uint8_t *add_mbr(struct seed *s, uint32_t at)
{
    uint8_t *b = add(s, at);
    put_le16(b + 510, 0xaa55);
    return b + 446;
}

static void mbr_entry(uint8_t *entry, uint8_t type, uint32_t start, uint32_t count)
{
    entry[4] = type;
    put_le32(entry + 8, start);
    put_le32(entry + 12, count);
}

static void seed_mbr(struct seed *s)
{
    uint8_t *mbr = add_mbr(s, 0), *first = add_mbr(s, 40000), *second = add_mbr(s, 60000);
    mbr_entry(mbr, 0x83, 2048, 16384);
    mbr_entry(mbr + 16, 0x05, 40000, 80000);
    mbr_entry(first, 0x83, 2048, 16384);
    mbr_entry(first + 16, 0x05, 20000, 30000);
    mbr_entry(second, 0x0c, 2048, 16384);
    add_ext(s, 2048);
    add_ext(s, 42048);
    add_fat(s, 62048, false);
}

static void gpt_header(uint8_t *h, uint64_t own, uint64_t other, uint64_t entries)
{
    memcpy(h, "EFI PART\0\0\1", 12);
    put_le32(h + 12, 92);
    put_le64(h + 24, own);
    put_le64(h + 32, other);
    put_le64(h + 40, 34);
    put_le64(h + 48, SECTORS - 34);
    put_le64(h + 72, entries);
    put_le32(h + 80, 8);
    put_le32(h + 84, 128);
}

static void seed_gpt(struct seed *s)
{
    mbr_entry(add_mbr(s, 0), 0xee, 1, SECTORS - 1);
    gpt_header(add(s, CHECK_GPT | 1), 1, SECTORS - 1, 2);
    gpt_header(add(s, CHECK_GPT | (SECTORS - 1)), SECTORS - 1, 1, SECTORS - 33);
    for (unsigned copy = 0; copy < 2; copy++) {
        uint8_t *entries = add(s, copy == 0 ? 2 : SECTORS - 33);
        for (unsigned i = 0; i < 2; i++) {
            memset(entries + i * 128, 0x11 + (int)i, 32);
            put_le64(entries + i * 128 + 32, 2048 + i * 16384);
            put_le64(entries + i * 128 + 40, 2048 + i * 16384 + 16383);
        }
    }
    add_ext(s, 2048);
    add_fat(s, 2048 + 16384, false);
}

static void seed_ext(struct seed *s)
{
    add_ext(s, 0);
}

static void seed_fat(struct seed *s)
{
    add_fat(s, 0, true);
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    static const struct {
        void (*make)(struct seed *s);
        const char *why;
    } seeds[] = {{seed_ext, "ext4: clean"},
                 {seed_fat, "FAT32: clean"},
                 {seed_mbr, "3 partitions: clean"},
                 {seed_gpt, "2 partitions: clean"}};
    for (size_t i = 0; i < ARRAY_SIZE(seeds); i++) {
        struct seed s = {.size = 0};
        seeds[i].make(&s);
        struct input in = {s.data, s.size / PIECE, 0};
        struct reader disk = {&in, (uint64_t)SECTORS * SECTOR, input_pread};
        struct clean_report report;
        CHECK_OK(clean_check(&disk, NULL, &report, &e));
        CHECK_STR(report.why, seeds[i].why); /* it gets as far as it should */
        emit(s.data, s.size);
    }
}
