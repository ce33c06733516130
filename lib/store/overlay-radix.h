/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_OVERLAY_RADIX_H
#define LABBOOT_OVERLAY_RADIX_H

/* The index of an overlay in memory: virtual block -> slot. A tree that is made where it is written: leaves
 * of 64 slots (256 KiB of disk), inner nodes of 128 children. A subtree that is all zero is a mark in its
 * parent, so a trim of any size costs the nodes on its two edges. No locks: the overlay's `index` lock guards
 * it. */

#include "lib/base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* A slot: crc32c of the block << 32 | physical block + 1; or one of these. */
#define SLOT_NONE UINT64_C(0)
#define SLOT_ZERO UINT64_C(0xffffffff)
#define PHYSICAL_BLOCKS_MAX UINT64_C(0xfffffffe) /* 16 TiB of data */

static inline uint64_t slot_make(uint64_t physical, uint32_t crc)
{
    return (uint64_t)crc << 32 | (physical + 1);
}

static inline bool slot_is_data(uint64_t slot)
{
    return slot != SLOT_NONE && slot != SLOT_ZERO;
}

static inline uint64_t slot_physical(uint64_t slot)
{
    return (slot & UINT64_C(0xffffffff)) - 1;
}

static inline uint32_t slot_crc(uint64_t slot)
{
    return (uint32_t)(slot >> 32);
}

#define RADIX_BLOCKS_MAX (UINT64_C(1) << 34) /* 64 TiB of disk */

struct radix {
    void *root;
    uint64_t data_blocks; /* slots that are data */
    /* Unless NULL, told of each data slot that another one or ZERO replaces. */
    void (*superseded)(void *ctx, uint64_t physical);
    void *ctx;
};

#define RADIX_INIT                                                                                           \
    {                                                                                                        \
        0                                                                                                    \
    }

void radix_release(struct radix *r);
/* Makes what radix_set_data (zero=false) or radix_set_zero needs for these blocks, so that it cannot fail:
 * done before the record is written, when it can still be refused. Changes no slot. Fails with sys = ENOMEM.
 */
int radix_prepare(struct radix *r, uint64_t block, uint64_t count, bool zero, struct err *e) must_check;
/* Blocks block … block + count - 1 stand at physical …; `sums` are their crc32c, 4 bytes each, little-endian.
 */
void radix_set_data(struct radix *r, uint64_t block, uint64_t count, uint64_t physical, const uint8_t *sums);
void radix_set_zero(struct radix *r, uint64_t block, uint64_t count);
/* The slot of a block, and for how many blocks (at least 1, perhaps past the disk's end) it is known to be
 * the same NONE or ZERO. Walks an all-empty or all-zero subtree in one step. */
uint64_t radix_get(const struct radix *r, uint64_t block, uint64_t *ret_blocks);

#endif
