/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_EXT_IO_H
#define LABBOOT_EXT_IO_H

#include "lib/base/err.h"
#include "lib/store/reader.h"

#include <ext2fs/ext2fs.h>

/* A disk as libext2fs reads one. */
struct ext_disk {
    const struct reader *reader;
    struct err failed; /* the reader's first error; code 0: none */
};

/* Opens the file system on `disk`, for reading only. libext2fs hands an io manager nothing but a name, so the
 * disk passes through a static variable: one call at a time. */
errcode_t ext_open(struct ext_disk *disk, ext2_filsys *ret);

#endif
