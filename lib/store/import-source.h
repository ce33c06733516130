/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_IMPORT_SOURCE_H
#define LABBOOT_IMPORT_SOURCE_H

/* What a disk is imported from: raw, compressed by zstd, gzip or xz, or qcow2; known by its first bytes. The well-kept
 * programs read the others, as limited children: a compressed one as a stream, a qcow2 through qemu-img, which wants a place
 * for the whole disk. Labboot itself reads no more of a qcow2 than what tells whether it is a disk by itself. */

#include "lib/base/spawn.h"
#include "lib/store/progress.h"

#include <stdbool.h>

enum import_kind { IMPORT_RAW, IMPORT_QCOW2, IMPORT_ZSTD, IMPORT_GZIP, IMPORT_XZ };

struct import_source {
    const char *name; /* for messages */
    enum import_kind kind;
    int fd;               /* what import_raw reads, once it has begun */
    struct spawned child; /* a decompressor */
};

/* Takes `fd`. as_raw: whatever it begins with. */
void import_source_open(struct import_source *s, const char *name, int fd, bool as_raw);

struct import_source_options {
    const char *tmp_dir; /* for a qcow2, on the file system of the images */
    uint64_t reserve;    /* of that: as of build_options */
    /* A qcow2 is copied before it is looked at: who gave it could change it, and has fewer rights than this process. */
    bool copy;
    /* The path of a qcow2 that may be read with its backing files, by the rights of this process; NULL: refuse such. */
    const char *follow;
    struct progress progress;
};
/* s->fd is the raw disk from then on. */
int import_source_begin(struct import_source *s, const struct import_source_options *o,
                        struct err *e) must_check;
/* After the last byte was read: whether that was all. */
int import_source_end(struct import_source *s, struct err *e) must_check;
/* After a failure to read or to use it: *e becomes the reason, where the program that reads it has one. */
void import_source_explain(struct import_source *s, struct err *e);
/* In any state. */
void import_source_close(struct import_source *s);

#endif
