/* SPDX-License-Identifier: BSD-3-Clause */

/* FAT12, FAT16 and FAT32, by Microsoft's "FAT: General Overview of On-Disk Format" 1.03 and the kernel's fs/fat/inode.c.
 * What systems do, and this rests on:
 * - Linux: a read-write mount sets bit 0 of the state byte in the boot sector at once; unmount, and remount read-only, write
 *   all else and then clear it. Where it was set before the mount it stays set until fsck.fat clears it. The bits in the FAT
 *   play no part. tests/e2e/test-ends.py sees Debian's kernel 6.1 do so.
 * - Windows and others: two high bits of the FAT's second entry. One is cleared while something is being written, and set by
 *   the unmount; the other is cleared after an error of the disk. FAT12 has no room for them.
 * - Nothing counts mounts, but the kernel notes how much is free in FAT32's FSINFO sector. */

#include "lib/store/clean-impl.h"

#include "lib/base/bytes.h"

#include <stdio.h>

#define SECTOR 512u
enum {
    BPB_SECTOR_SIZE = 11,
    BPB_CLUSTER_SECTORS = 13,
    BPB_RESERVED = 14,
    BPB_FATS = 16,
    BPB_ROOT_ENTRIES = 17,
    BPB_SECTORS_16 = 19,
    BPB_MEDIA = 21,
    BPB_FAT_SECTORS_16 = 22,
    BPB_SECTORS_32 = 32,
    BPB_FAT_SECTORS_32 = 36, /* from here on, what FAT12 and FAT16 have lies elsewhere */
    FAT16_STATE = 0x25,
    FAT32_FSINFO = 48,
    FAT32_STATE = 0x41,
    FAT32_SERIAL = 0x43,
    BOOT_MAGIC_AT = 510,
    FSINFO_FREE = 488, /* two numbers: clusters free, and where to look for one */
};
#define BOOT_MAGIC 0xaa55u
#define STATE_DIRTY 0x1u
#define DIR_ENTRY_SIZE 32u
#define FAT12_CLUSTERS 4084u /* at most */
#define FAT16_CLUSTERS 65524u

enum fat_kind { FAT12, FAT16, FAT32 };

static const struct {
    const char *name;
    unsigned state_at;   /* in the boot sector */
    unsigned entry_size; /* of the FAT, bytes; 0: it holds no such bits */
    uint32_t shut_down, no_error;
} kinds[] = {
    [FAT12] = {"FAT12", FAT16_STATE, 0, 0, 0},
    [FAT16] = {"FAT16", FAT16_STATE, 2, 0x8000, 0x4000},
    [FAT32] = {"FAT32", FAT32_STATE, 4, 0x08000000, 0x04000000},
};

struct fat {
    enum fat_kind kind;
    uint64_t fat_at;    /* bytes from the disk's begin, within it */
    uint64_t fsinfo_at; /* as well; 0: none */
    uint32_t serial;    /* 0 but for FAT32 */
    uint8_t state;
    uint32_t flags;  /* the FAT's second entry, and what follows it */
    uint8_t free[8]; /* of the FSINFO sector, or zero */
};

static bool is_power_of_2(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* All products stay far below 64 bits: a sector has at most 4096 bytes, and counts at most 32 bits. */
static bool fat_decode(const uint8_t *b, uint64_t disk_size, struct fat *ret)
{
    uint32_t sector = get_le16(b + BPB_SECTOR_SIZE), reserved = get_le16(b + BPB_RESERVED);
    uint32_t fat_sectors = get_le16(b + BPB_FAT_SECTORS_16), total = get_le16(b + BPB_SECTORS_16);
    uint32_t per_cluster = b[BPB_CLUSTER_SECTORS];
    bool is_32 = fat_sectors == 0;
    if (is_32)
        fat_sectors = get_le32(b + BPB_FAT_SECTORS_32);
    if (total == 0)
        total = get_le32(b + BPB_SECTORS_32);
    if (get_le16(b + BOOT_MAGIC_AT) != BOOT_MAGIC || !is_power_of_2(sector) || sector < 512 ||
        sector > 4096 || !is_power_of_2(per_cluster) || reserved == 0 || b[BPB_FATS] == 0 ||
        fat_sectors == 0 || (b[BPB_MEDIA] != 0xf0 && b[BPB_MEDIA] < 0xf8))
        return false;
    uint64_t root = div_up((uint64_t)get_le16(b + BPB_ROOT_ENTRIES) * DIR_ENTRY_SIZE, sector);
    uint64_t before = reserved + (uint64_t)b[BPB_FATS] * fat_sectors + root;
    if (before >= total || (uint64_t)total * sector > disk_size)
        return false;
    uint64_t clusters = (total - before) / per_cluster;
    if (!is_32 && clusters > FAT16_CLUSTERS)
        return false;
    uint32_t fsinfo = get_le16(b + FAT32_FSINFO);
    *ret = (struct fat){
        .kind = is_32                       ? FAT32
                : clusters > FAT12_CLUSTERS ? FAT16
                                            : FAT12,
        .fat_at = (uint64_t)reserved * sector,
        .fsinfo_at = is_32 && fsinfo < reserved ? (uint64_t)fsinfo * sector : 0,
        .serial = is_32 ? get_le32(b + FAT32_SERIAL) : 0,
    };
    ret->state = b[kinds[ret->kind].state_at];
    return true;
}

static int read_part(const struct reader *disk, void *buf, size_t count, uint64_t at, const char *what,
                     struct err *e)
{
    return disk->pread(disk->ctx, buf, count, at, e) < 0 ? err_wrap(e, "%s", what) : 0;
}

/* *ret_is: whether there is one. */
static int fat_load(const struct reader *disk, struct fat *ret, bool *ret_is, struct err *e)
{
    uint8_t boot[SECTOR], entry[4];
    *ret_is = false;
    if (disk->size < sizeof boot)
        return 0;
    if (read_part(disk, boot, sizeof boot, 0, "boot sector", e) < 0)
        return -1;
    if (!fat_decode(boot, disk->size, ret))
        return 0;
    if (read_part(disk, entry, sizeof entry, ret->fat_at + kinds[ret->kind].entry_size, "FAT", e) < 0)
        return -1;
    ret->flags = get_le32(entry);
    if (ret->fsinfo_at &&
        read_part(disk, ret->free, sizeof ret->free, ret->fsinfo_at + FSINFO_FREE, "FSINFO", e) < 0)
        return -1;
    *ret_is = true;
    return 0;
}

/* NULL: it is clean. */
static const char *fat_fault(const struct fat *f)
{
    uint32_t shut_down = kinds[f->kind].shut_down, no_error = kinds[f->kind].no_error;
    if ((f->state & STATE_DIRTY) || (f->flags & shut_down) != shut_down)
        return "was not unmounted";
    return (f->flags & no_error) != no_error ? "has errors" : NULL;
}

int judge_fat(const struct reader *disk, const struct reader *base, struct clean_report *ret, struct err *e)
{
    struct fat now, before;
    bool is_fat, base_is_fat = false;
    if (fat_load(disk, &now, &is_fat, e) < 0 || (base && fat_load(base, &before, &base_is_fat, e) < 0))
        return -1;
    if (!is_fat)
        return 0;
    const char *fault = fat_fault(&now);
    ret->state = fault ? CLEAN_NO : CLEAN_YES;
    /* One that was made anew, and has another serial number, was perhaps never mounted. */
    ret->mounted_since =
        base_is_fat && now.serial == before.serial && memcmp(now.free, before.free, sizeof now.free) != 0;
    snprintf(ret->why, sizeof ret->why, "%s: %s", kinds[now.kind].name, fault ? fault : "clean");
    return 0;
}
