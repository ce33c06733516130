/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CHECKSUM_H
#define LABBOOT_CHECKSUM_H

/* The checksum of a version, as format.h describes it: made from its index alone. */

#include "lib/store/format.h"

#include <nettle/sha2.h>

struct checksum {
    struct sha256_ctx sha;
};

void checksum_start(struct checksum *c, uint64_t virtual_size, unsigned chunk_shift);
/* Leaves in ascending order; those that are all zero may be left out. */
void checksum_leaf(struct checksum *c, uint64_t leaf, const uint8_t data[LEAF_SIZE]);
void checksum_end(struct checksum *c, uint8_t ret[CHECKSUM_SIZE]);

#endif
