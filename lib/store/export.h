/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_EXPORT_H
#define LABBOOT_EXPORT_H

#include "lib/store/progress.h"
#include "lib/store/store.h"

/* EXPORT_RAW: sparse in a regular file, every byte to a stream or device.
 * EXPORT_QCOW2: to a regular file or device alone. Its size is that of the disk, rounded up to 512 bytes.
 * EXPORT_ZSTD: for `zstd -d`, and with a seek table.
 * EXPORT_GZIP: for `gzip -d`, and in blocks for bgzip. */
enum export_format { EXPORT_RAW, EXPORT_QCOW2, EXPORT_ZSTD, EXPORT_GZIP };

struct export_options {
    enum export_format format;
    int zstd_level; /* of chunks that are not stored so */
    struct progress progress;
};

/* Writes the disk to `fd`; a regular file must be empty. Every chunk is verified before any of it is written; frames that the
 * format can have as they are stored are not compressed again. On all cores; memory: some 9 MiB each, and for qcow2 and zstd
 * some bytes a chunk of data. */
int export_disk(struct view *v, int fd, const struct export_options *o, struct err *e) must_check;

#endif
