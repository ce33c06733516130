/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_READER_H
#define LABBOOT_READER_H

#include "lib/base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Something that reads like a disk: a version, a version under an overlay, a file. `pread` fills all of buf or fails;
 * offset + count <= size. Thread-safe. The context outlives the reader. */
struct reader {
    void *ctx;
    uint64_t size; /* bytes */
    int (*pread)(void *ctx, void *buf, size_t count, uint64_t offset, struct err *e);
};

#endif
