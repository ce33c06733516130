/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CACHE_H
#define LABBOOT_CACHE_H

/* The cache of decompressed chunks, shared by all sessions. See cache.c for how it chooses what stays. */

#include "lib/store/format.h"
#include "lib/store/store.h"

struct cache;

/* A frame: where it is and what must be in it. A cached chunk was verified against the very hash that its
 * reader asks for, from the very frame, and has the very length. Compared as memory: no padding. */
struct cache_key {
    struct uuid layer;
    struct hash hash;
    uint64_t offset;
    uint32_t frame;  /* its length in bytes << 8 | its codec */
    uint32_t length; /* of the chunk in bytes */
};
static_assert(sizeof(struct cache_key) == 48, "keys are compared with memcmp");

/* Reads, decompresses and verifies the chunk into `slot`, CHUNK_SIZE_MAX bytes. Called without locks. */
struct cache_fill {
    int (*fill)(void *ctx, uint8_t *slot, struct err *e);
    void *ctx;
};

/* `memory` in bytes; at least CACHE_SLOTS_MIN slots are made. Memory is taken from the system as slots fill
 * up. */
#define CACHE_SLOTS_MIN 16u
int cache_new(uint64_t memory, struct cache **ret, struct err *e) must_check;
/* Nobody is reading. NULL is fine. */
void cache_free(struct cache *c);

/* Copies bytes [from, from + count) of a chunk to buf, filling it first when it is not here; of several
 * readers at once one fills and the others wait, and share its error if it fails. from + count <=
 * CHUNK_SIZE_MAX; count may be 0. Returns 0, -1, or 1 when nothing was done because every slot that could
 * hold it is in use: then read without. */
int cache_read(struct cache *c, const struct cache_key *key, uint64_t session, const struct cache_fill *fill,
               void *buf, size_t count, size_t from, struct err *e) must_check;

void cache_counters(struct cache *c, struct cache_counters *ret);
/* In bytes. */
uint64_t cache_size(const struct cache *c);

#endif
