/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CLEAN_H
#define LABBOOT_CLEAN_H

#include "lib/store/reader.h"

#include <stdbool.h>

/* Whether the file systems on a disk, ext2, ext3, ext4 or FAT, were unmounted, or remounted read-only, after their last
 * write: what tells that a boot ended well (a lost connection says nothing). Of a disk with partitions (GPT or MBR), all
 * must be known and clean; swap and partitions of a type that holds no file system do not count. Reads few KiB for each
 * partition, and decodes file systems here, with every field bounded: a disk written by a guest is hostile. */
enum clean_state {
    CLEAN_YES,
    CLEAN_NO,      /* mounted, needs recovery, has errors or orphans, or its superblock is torn */
    CLEAN_UNKNOWN, /* holds something that this cannot judge, and nothing unclean */
};

struct clean_report {
    enum clean_state state;
    /* One of them was mounted read-write since `base` was. ext2, ext3, ext4: its mount time or count differ. FAT counts
     * no mounts: on FAT32 what it notes as free differs, so that a mount that took and freed nothing does not show; on
     * FAT12 and FAT16 none shows. Such a boot ends otherwise, never too early. */
    bool mounted_since;
    char why[120]; /* "partition 2: ext4: needs journal recovery": for logs and for the boot's result */
};

/* `base` may be NULL; then mounted_since is false. Partitions are compared with what `base` has at the same place. Fails
 * when a read does, and for want of memory or descriptors. */
int clean_check(const struct reader *disk, const struct reader *base, struct clean_report *ret,
                struct err *e) must_check;

#endif
