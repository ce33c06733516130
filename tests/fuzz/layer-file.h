/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_FUZZ_LAYER_FILE_H
#define LABBOOT_FUZZ_LAYER_FILE_H

/* Layer files for fuzz targets: made, mended, read in every way there is. The version that is fuzzed is 100 of an image whose
 * version 50, which is whole, is its parent. */

#include "lib/store/format.h"

#define LAYER_FILE_MAX (256 * KIB)
#define LAYER_DISK_MAX (2 * MIB + 512 * KIB) /* disks are cut to it: two leaves of small chunks */

struct layer_file {
    uint8_t *bytes;
    size_t size;
};

/* What mending leaves alone, so that wrong hashes are tried too. */
enum layer_keep {
    KEEP_CHUNKS = 1, /* hashes of chunks, in leaves */
    KEEP_LEAVES = 2, /* hashes of leaves, in the root */
    KEEP_ROOT = 4,
    KEEP_TABLE = 8,   /* its hash */
    KEEP_PARENT = 16, /* its entry of version 50 */
    KEEP_CHECKSUM = 32,
    KEEP_SIZES = 64, /* lengths that follow from others */
};

/* A child with chunks of every codec, its parent's and its own; `kind` < LAYER_KINDS. Freed by the caller. */
#define LAYER_KINDS 4u
struct layer_file layer_file_make(unsigned kind);
/* Makes every hash right as far as it can be told what it is of, and the names those of version 100. */
void layer_file_mend(struct layer_file *f, unsigned keep);
/* Its root or its table replaced by `size` bytes of `data`; LAYER_LEAF: its first leaf, cut to LEAF_SIZE. Freed by the caller. */
enum layer_part { LAYER_LEAF, LAYER_ROOT, LAYER_TABLE };
struct layer_file layer_file_with(const struct layer_file *whole, enum layer_part part, const uint8_t *data,
                                  size_t size);
/* The part itself, within the file. */
const uint8_t *layer_file_part(const struct layer_file *f, enum layer_part part, size_t *ret_size);
/* Opens, reads, exports and verifies it as version 100; a thorough one takes its SHA-256, exports it in all formats
 * and flattens it too, which takes ten times as long. Ends the program when their answers do not agree. */
void layer_file_exercise(const struct layer_file *f, bool thorough);

#endif
