/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_VERIFY_H
#define LABBOOT_VERIFY_H

/* Reads versions of an image from their files, past the cache, and checks every chunk and all of their indexes. What
 * several versions share is read once. Memory: a few hundred KiB a thread (8 MiB more with sha256) and 8 MiB. */

#include "lib/store/progress.h"
#include "lib/store/store.h"

struct verify_result;

/* For who reads slowly beside others' work, and remembers how far it came. */
struct verify_watch {
    /* A worker, without locks, is about to read so many bytes of the store: it may wait here. false stops the work. */
    bool (*pace)(void *ctx, uint64_t bytes);
    /* A version's disk was looked at up to `to`; `over`: all of it, and this is the result. One call at a time. */
    void (*seen)(void *ctx, const struct verify_result *r, uint64_t to, bool over);
    void *ctx;
};

struct verify_options {
    unsigned threads;         /* 0: one a core */
    bool index_only;          /* not the data */
    bool sha256;              /* of the whole disks too: all of each version is then read */
    struct progress progress; /* in bytes of frames, which are counted before */
    struct verify_watch watch;
    /* Layers of versions that were found whole before: their chunks are not read. */
    const struct uuid *known;
    size_t nknown;
};

/* A layer, in whose file some of a version's damage lies. */
struct verify_damage {
    struct uuid layer;
    uint64_t chunks;
};
#define VERIFY_DAMAGE_MAX 8

struct verify_result {
    uint64_t version; /* which one: set by the caller */
    uint64_t
        from; /* what is before on its disk was looked at, and was whole: set by the caller; not with sha256 */
    bool damaged;
    uint64_t damaged_chunks; /* that cannot be read; 0 where it is something of the whole */
    char why[400];           /* the first damage that was found */
    struct verify_damage
        damage[VERIFY_DAMAGE_MAX]; /* where it lies, the first ones; none where no index could be read */
    size_t ndamage;
    bool has_sha256; /* never of a damaged one */
    uint8_t sha256[CHECKSUM_SIZE];
};

/* Checks the versions in their order, which the oldest begins. Damage, a missing file or a disk's I/O error is a result;
 * -1 is for what ends the work: no memory, an interruption (all results are void then). */
int store_verify(struct store *s, const struct uuid *image, const struct verify_options *o,
                 struct verify_result *results, size_t count, struct err *e) must_check;

#endif
