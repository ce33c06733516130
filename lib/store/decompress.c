/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/decompress.h"

#include "lib/store/bgzf.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <zstd.h>

struct scratch_pool {
    pthread_mutex_t lock; /* of `free`; a leaf of the lock order */
    struct scratch *free;
};

int scratch_pool_new(struct scratch_pool **ret, struct err *e)
{
    struct scratch_pool *p = calloc(1, sizeof *p);
    if (!p)
        return err_sys(e, ENOMEM, "decompression");
    pthread_mutex_init(&p->lock, NULL);
    *ret = p;
    return 0;
}

static void scratch_free(struct scratch *s)
{
    ZSTD_freeDCtx(s->zstd);
    libdeflate_free_decompressor(s->gzip);
    free(s);
}

void scratch_pool_free(struct scratch_pool *p)
{
    if (!p)
        return;
    while (p->free) {
        struct scratch *s = p->free;
        p->free = s->next;
        scratch_free(s);
    }
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static struct scratch *scratch_new(struct scratch_pool *p)
{
    struct scratch *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    s->pool = p;
    s->gzip = NULL;
    s->zstd = ZSTD_createDCtx();
    if (!s->zstd) {
        free(s);
        return NULL;
    }
    return s;
}

int scratch_take(struct scratch_pool *p, struct scratch **ret, struct err *e)
{
    pthread_mutex_lock(&p->lock);
    struct scratch *s = p->free;
    if (s)
        p->free = s->next;
    pthread_mutex_unlock(&p->lock);
    if (!s)
        s = scratch_new(p);
    if (!s)
        return err_sys(e, ENOMEM, "decompression");
    *ret = s;
    return 0;
}

void scratch_give(struct scratch *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->pool->lock);
    s->next = s->pool->free;
    s->pool->free = s;
    pthread_mutex_unlock(&s->pool->lock);
}

static int decompress_zstd(struct scratch *s, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len,
                           struct err *e)
{
    size_t n = ZSTD_decompressDCtx(s->zstd, out, out_len, in, in_len);
    if (ZSTD_isError(n))
        return err_set_sys(e, ERR_CORRUPT, EIO, "zstd: %s", ZSTD_getErrorName(n));
    if (n != out_len)
        return err_set_sys(e, ERR_CORRUPT, EIO, "zstd: %zu bytes where %zu should be", n, out_len);
    return 0;
}

static int decompress_gzip(struct scratch *s, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len,
                           struct err *e)
{
    if (!s->gzip)
        s->gzip = libdeflate_alloc_decompressor();
    if (!s->gzip)
        return err_sys(e, ENOMEM, "decompression");
    return bgzf_decompress(s->gzip, in, in_len, out, out_len, e);
}

int decompress(struct scratch *s, enum codec codec, const uint8_t *in, size_t in_len, uint8_t *out,
               size_t out_len, struct err *e)
{
    switch (codec) {
    case CODEC_RAW:
        if (in_len != out_len)
            return err_set_sys(e, ERR_CORRUPT, EIO, "%zu bytes stored where %zu should be", in_len, out_len);
        memcpy(out, in, in_len);
        return 0;
    case CODEC_ZSTD:
        return decompress_zstd(s, in, in_len, out, out_len, e);
    case CODEC_GZIP:
        return decompress_gzip(s, in, in_len, out, out_len, e);
    case CODEC_ZERO:
        break;
    }
    return err_set_sys(e, ERR_CORRUPT, EIO, "codec %d: nothing is stored with it", (int)codec);
}
