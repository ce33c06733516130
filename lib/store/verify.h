/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_VERIFY_H
#define LABBOOT_VERIFY_H

/* Reads versions of an image from their files, past the cache, and checks every chunk and all of their indexes. What
 * several versions share is read once. Memory: a few hundred KiB a thread (8 MiB more with sha256) and 8 MiB. */

#include "lib/store/progress.h"
#include "lib/store/store.h"

struct verify_options {
    unsigned threads;         /* 0: one a core */
    bool index_only;          /* not the data */
    bool sha256;              /* of the whole disks too: all of each version is then read */
    struct progress progress; /* in bytes of the versions' disks */
};

struct verify_result {
    uint64_t version; /* which one: set by the caller */
    bool damaged;
    uint64_t damaged_chunks; /* that cannot be read; 0 where it is something of the whole */
    char why[400];           /* the first damage that was found */
    bool has_sha256;         /* never of a damaged one */
    uint8_t sha256[CHECKSUM_SIZE];
};

/* Checks the versions in their order, which the oldest begins. Damage, a missing file or a disk's I/O error is a result;
 * -1 is for what ends the work: no memory, an interruption (all results are void then). */
int store_verify(struct store *s, const struct uuid *image, const struct verify_options *o,
                 struct verify_result *results, size_t count, struct err *e) must_check;

#endif
