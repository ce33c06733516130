/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_BUILD_H
#define LABBOOT_BUILD_H

/* Writing a layer. The one engine behind import and commit: a source hands out leaves (128 chunks) that may
 * differ from the parent; workers on all cores hash their chunks, keep what the parent has, compress and
 * append the rest; at the end come leaves, root, table. The layer lies in tmp/ without a footer until
 * build_publish gives it a version and its name. Memory: workers × about 17 MiB, 16 MiB of leaves and the root
 * (32 bytes per leaf); for the base of an image without compression all leaves, 1/2048 of its data. */

#include "lib/store/codec.h"
#include "lib/store/progress.h"
#include "lib/store/store.h"

struct build; /* a written layer without a name */

/* What one leaf of the new disk takes from the source. Bit i of a set is chunk i of the 128. */
struct leaf_work {
    uint64_t leaf;
    uint64_t dirty[2]; /* chunks that come from the source; the others are the parent's (or zero) */
    uint64_t zero[2]; /* those of the dirty ones that are known to be all zero: their data is not looked at */
    uint8_t *data; /* LEAF_CHUNKS chunks; the dirty ones are filled (a short last one: the rest is ignored) */
    /* Those of the dirty ones whose place in `data` begins with their frame instead, and what that is: codec, stored and
     * hash of frames[i]. It is taken as it is: the source has verified it. */
    uint64_t ready[2];
    struct leaf_entry *frames; /* LEAF_CHUNKS */
    uint64_t bytes;            /* by how much it brings the progress on */
};

/* `claim` is called under the engine's lock, one at a time: it picks the next leaf in ascending order, sets
 * what it knows (all but the two buffers is zero before) and returns 1, or 0 at the end, or -1; a stream reads its
 * data into w->data there. `load` (may be NULL) then reads in parallel; a chunk it sets no byte of keeps what
 * claim put there. A source whose disk is not of the parent's size makes all chunks dirty in each leaf it
 * gives, and gives the leaf in which the smaller of both ends. */
struct build_source {
    void *ctx;
    int (*claim)(void *ctx, struct leaf_work *w, struct err *e);
    int (*load)(void *ctx, struct leaf_work *w, struct err *e);
    uint64_t total; /* the sum of all leaf_work.bytes, for the progress; 0 when it is not known */
};

struct build_options {
    struct uuid image;
    struct view *parent; /* NULL: a first version */
    struct uuid overlay; /* where the data came from, or zero */
    /* The version that the layer takes the place of (build_replace), without a parent: it keeps that one's descent. */
    const struct footer *instead_of;
    unsigned chunk_shift; /* the parent's, where there is one (another is refused) */
    struct compression compression;
    unsigned threads; /* 0: one a core */
    /* Virtual size in bytes, read after each claim: a stream sets how far it has come. */
    const uint64_t *size;
    uint64_t reserve;         /* bytes of the file system that are never used (0: all may be): else ENOSPC */
    struct progress progress; /* in bytes of source data */
};

struct build_result {
    uint64_t virtual_size, file_length, frame_bytes;
    /* Of the chunks that the source gave: stored anew, and found zero or the same as the parent's. */
    uint64_t new_chunks, kept_chunks;
    uint8_t checksum[CHECKSUM_SIZE];
    struct uuid layer;
};

/* On failure nothing is left in tmp/. */
int build_layer(struct store *s, const struct build_options *o, const struct build_source *source,
                struct build **ret, struct build_result *ret_result, struct err *e) must_check;
/* The caller holds the image's lock and has chosen `version` above every one there ever was. Footer,
 * fdatasync, rename to <version>.img (never over another), fsync of the folders. On failure the file is in
 * tmp/ as before. */
int build_publish(struct build *b, uint64_t version, struct err *e) must_check;
/* The same over the file of the version that o->instead_of is: what was there is retired/<its layer>.img then, for those
 * who name that layer. ERR_STATE when it is another layer by now. After a crash, or a failure, the version is the one or
 * the other; where the name in retired/ is of a layer that is also the version's, nothing has happened. */
int build_replace(struct build *b, const struct uuid *old, struct err *e) must_check;
/* Frees; removes the file unless it was published. NULL is fine. */
void build_free(struct build *b);

#endif
