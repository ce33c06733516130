/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_DECOMPRESS_H
#define LABBOOT_DECOMPRESS_H

/* From frames back to chunks, and the buffers for it. Buffers and decompression contexts are pooled, so that
 * a read allocates nothing once as many readers as there ever are at a time have been through here. */

#include "lib/store/format.h"

struct scratch_pool;

struct scratch {
    uint8_t frame[CHUNK_SIZE_MAX]; /* as stored */
    uint8_t chunk[CHUNK_SIZE_MAX];
    void *zstd; /* ZSTD_DCtx */
    void *gzip; /* struct libdeflate_decompressor, from the first frame of its kind on */
    struct scratch_pool *pool;
    struct scratch *next; /* in the pool */
};

int scratch_pool_new(struct scratch_pool **ret, struct err *e) must_check;
/* Everything has been given back. NULL is fine. */
void scratch_pool_free(struct scratch_pool *p);
int scratch_take(struct scratch_pool *p, struct scratch **ret, struct err *e) must_check;
/* Back to its pool. NULL is fine. */
void scratch_give(struct scratch *s);

/* Exactly out_len bytes must come out of `in`, else ERR_CORRUPT. Not for CODEC_ZERO. */
int decompress(struct scratch *s, enum codec codec, const uint8_t *in, size_t in_len, uint8_t *out,
               size_t out_len, struct err *e) must_check;

#endif
