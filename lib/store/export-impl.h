/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_EXPORT_IMPL_H
#define LABBOOT_EXPORT_IMPL_H

/* For the files of the export alone: export.c walks the disk leaf by leaf, a format makes something of each leaf's chunks. */

#include "lib/store/codec.h"
#include "lib/store/export.h"
#include "lib/store/internal.h"

struct export;
struct export_slot;

struct export_format_ops {
    struct compression how; /* of frames; CODEC_RAW: the format has none. The level of zstd is the caller's */
    bool whole_chunks;      /* a short last chunk is filled up with zeroes */
    /* Each may be NULL. `begin` and `end` are the first and the last word. */
    int (*begin)(struct export *x, struct err *e);
    int (*end)(struct export *x, struct err *e);
    /* Makes something of one chunk, n->codec not CODEC_ZERO, that scratch has: verified, as stored and as it is. */
    int (*chunk)(struct export *x, struct export_slot *s, unsigned i, const struct leaf_entry *n, size_t len,
                 struct err *e);
    /* All chunks of the leaf have been through; in order, one at a time. s->is_zero: there was none. */
    int (*leaf)(struct export *x, struct export_slot *s, struct err *e);
};

struct export
{
    struct view *view;
    const struct export_options *o;
    const struct export_format_ops *ops;
    struct compression how;
    int fd;
    uint64_t size, leaves; /* of the disk */
    size_t chunk_size;
    unsigned chunk_shift;
    void *state; /* the format's; its to free in `drop` */
    void (*drop)(void *state);
    uint64_t done;
    int64_t reported;
};

#define EXPORT_WRAP_MAX 128u /* bytes that a format may add to a chunk */

/* What became of a chunk. */
enum piece_kind {
    PIECE_ZERO,
    PIECE_FRAME, /* of the format's codec */
    PIECE_RAW,   /* the chunk itself */
};
struct piece {
    enum piece_kind kind;
    uint32_t stored; /* bytes in `out` */
    uint32_t length; /* of the chunk */
};

/* A worker's. */
struct export_slot {
    struct scratch *scratch;
    struct encoder *encoder;
    uint8_t *out;
    size_t out_length;
    uint64_t leaf;
    bool is_zero;
    unsigned pieces;
    struct piece piece[LEAF_CHUNKS];
};

uint64_t export_leaf_bytes(const struct export *x, uint64_t leaf);
/* The frame of a chunk at the end of s->out: as stored, or made now; PIECE_RAW where it does not compress. A piece. */
int export_add_frame(struct export *x, struct export_slot *s, unsigned i, const struct leaf_entry *n,
                     size_t len, struct err *e) must_check;

/* Those that `fd` is good for. (export-raw.c, export-qcow2.c, export-stream.c) */
extern const struct export_format_ops export_raw_file, export_raw_stream;
extern const struct export_format_ops export_qcow2, export_zstd, export_gzip;

#endif
