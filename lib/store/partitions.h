/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_PARTITIONS_H
#define LABBOOT_PARTITIONS_H

/* The partitions of a disk (GPT; MBR with logical ones), by libblkid: it is told of sectors of 512 bytes, as NBD's clients
 * have, and sees a copy of the table's own sectors, all else zero. What it allocates is bounded. */

#include "lib/store/reader.h"

#include <stdbool.h>

struct partition {
    unsigned number;      /* as in /dev/nbd0pNUMBER */
    bool bare;            /* of a GPT type that holds no file system: BIOS boot and the like */
    uint64_t start, size; /* bytes; as the table says: may lie beyond the disk */
};

/* A table with more, or a GPT with room for more, is taken for none. */
#define PARTITIONS_MAX 512u
#define PARTITIONS_GPT_MAX 256u

/* *ret, the caller's to free: as many as there are, without extended ones; NULL and none where there is no table. Fails
 * when a read of the disk does, and for want of memory or descriptors. */
int partitions_find(const struct reader *disk, struct partition **ret, size_t *ret_count,
                    struct err *e) must_check;

#endif
