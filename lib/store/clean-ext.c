/* SPDX-License-Identifier: BSD-3-Clause */

/* ext2, ext3 and ext4. What the kernel does, and this rests on:
 * - ext4 and ext3 with a journal: a read-write mount sets `recover` at once and keeps it set; unmount, and remount
 *   read-only, empty the journal, clear it and write the superblock.
 * - ext2, and ext4 without a journal: a read-write mount clears VALID; unmount and remount read-only restore it.
 * - A read-write mount stores the mount time and counts the mount; a read-only one changes neither.
 * - Files that are deleted but open hang on the orphan list or in the orphan file; both are empty after a clean end. */

#include "lib/store/clean-impl.h"

#include "lib/base/bytes.h"
#include "lib/base/crc32c.h"

#include <assert.h>
#include <stdio.h>

/* The superblock of ext2, ext3 and ext4: 1024 bytes at 1024. */
#define EXT_OFFSET 1024u
#define EXT_SIZE 1024u
#define EXT_MAGIC 0xef53u
enum {
    EXT_MTIME = 0x2c,
    EXT_MNT_COUNT = 0x34,
    EXT_MAGIC_AT = 0x38,
    EXT_STATE = 0x3a,
    EXT_REVISION = 0x4c,
    EXT_COMPAT = 0x5c,
    EXT_INCOMPAT = 0x60,
    EXT_RO_COMPAT = 0x64,
    EXT_LAST_ORPHAN = 0xe8,
    EXT_CHECKSUM_TYPE = 0x175,
    EXT_MTIME_HI = 0x275,
    EXT_CHECKSUM = 0x3fc,
};
static_assert(EXT_CHECKSUM + 4 == EXT_SIZE, "the checksum ends the superblock");

#define EXT_STATE_VALID 0x1u
#define EXT_STATE_ERROR 0x2u
#define EXT_STATE_ORPHANS 0x4u
#define EXT_COMPAT_JOURNAL 0x4u
#define EXT_INCOMPAT_RECOVER 0x4u
#define EXT_INCOMPAT_JOURNAL_DEV 0x8u
#define EXT_INCOMPAT_EXTENTS 0x40u
#define EXT_RO_METADATA_CSUM 0x400u
#define EXT_RO_ORPHAN_PRESENT 0x10000u
#define EXT_CHECKSUM_CRC32C 1u

struct ext {
    uint16_t state, mount_count;
    uint32_t compat, incompat, ro_compat; /* 0 in revision 0, which has none */
    uint32_t last_orphan;
    uint64_t mount_time;
    bool checksum_wrong;
};

static bool checksum_is_wrong(const uint8_t *sb, const struct ext *x)
{
    if (!(x->ro_compat & EXT_RO_METADATA_CSUM))
        return false;
    /* The kernel's crc32c neither starts nor ends with an inversion of its own; it starts here from ~0. */
    return sb[EXT_CHECKSUM_TYPE] != EXT_CHECKSUM_CRC32C ||
           get_le32(sb + EXT_CHECKSUM) != ~crc32c(0, sb, EXT_CHECKSUM);
}

static bool ext_decode(const uint8_t sb[EXT_SIZE], struct ext *ret)
{
    if (get_le16(sb + EXT_MAGIC_AT) != EXT_MAGIC)
        return false;
    *ret = (struct ext){
        .state = get_le16(sb + EXT_STATE),
        .mount_count = get_le16(sb + EXT_MNT_COUNT),
        .mount_time = get_le32(sb + EXT_MTIME) | (uint64_t)sb[EXT_MTIME_HI] << 32,
    };
    if (get_le32(sb + EXT_REVISION) == 0)
        return true;
    ret->compat = get_le32(sb + EXT_COMPAT);
    ret->incompat = get_le32(sb + EXT_INCOMPAT);
    ret->ro_compat = get_le32(sb + EXT_RO_COMPAT);
    ret->last_orphan = get_le32(sb + EXT_LAST_ORPHAN);
    ret->checksum_wrong = checksum_is_wrong(sb, ret);
    return true;
}

static const char *ext_name(const struct ext *x)
{
    if ((x->incompat & EXT_INCOMPAT_EXTENTS) || (x->ro_compat & EXT_RO_METADATA_CSUM))
        return "ext4";
    return x->compat & EXT_COMPAT_JOURNAL ? "ext3" : "ext2";
}

/* NULL: it is clean. The checksum first: where it is wrong, nothing else means anything. */
static const char *ext_fault(const struct ext *x)
{
    if (x->checksum_wrong)
        return "the superblock's checksum is wrong";
    if (x->incompat & EXT_INCOMPAT_RECOVER)
        return "needs journal recovery";
    if (x->state & EXT_STATE_ERROR)
        return "has errors";
    if (!(x->state & EXT_STATE_VALID))
        return "was not unmounted";
    if ((x->state & EXT_STATE_ORPHANS) || x->last_orphan != 0 || (x->ro_compat & EXT_RO_ORPHAN_PRESENT))
        return "has orphaned files";
    return NULL;
}

/* *ret_is: whether there is one. */
static int ext_load(const struct reader *disk, struct ext *ret, bool *ret_is, struct err *e)
{
    uint8_t sb[EXT_SIZE];
    *ret_is = false;
    if (disk->size < EXT_OFFSET + EXT_SIZE)
        return 0;
    if (disk->pread(disk->ctx, sb, sizeof sb, EXT_OFFSET, e) < 0)
        return err_wrap(e, "superblock");
    *ret_is = ext_decode(sb, ret);
    return 0;
}

int judge_ext(const struct reader *disk, const struct reader *base, struct clean_report *ret, struct err *e)
{
    struct ext now, before = {0};
    bool is_ext, base_is_ext; /* a base without ext has an all-zero `before`: never mounted */
    if (ext_load(disk, &now, &is_ext, e) < 0 || (base && ext_load(base, &before, &base_is_ext, e) < 0))
        return -1;
    if (!is_ext)
        return 0;
    if (now.incompat & EXT_INCOMPAT_JOURNAL_DEV) {
        snprintf(ret->why, sizeof ret->why, "%s: a journal of another disk", CLEAN_NO_JUDGE);
        return 0;
    }
    const char *fault = ext_fault(&now);
    ret->state = fault ? CLEAN_NO : CLEAN_YES;
    ret->mounted_since =
        base && (now.mount_time != before.mount_time || now.mount_count != before.mount_count);
    snprintf(ret->why, sizeof ret->why, "%s: %s", ext_name(&now), fault ? fault : "clean");
    return 0;
}
