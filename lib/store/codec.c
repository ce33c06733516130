/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/codec.h"

#include "lib/base/cleanup.h"

#include <zstd.h>

struct encoder {
    ZSTD_CCtx *zstd; /* NULL: everything is stored raw */
};

DEFINE_CLEANUP(encoder, struct encoder, encoder_free);

/* The content size lets a reader size its buffer and refuse a frame that lies; zstd's own checksum would only
 * repeat what the entry's hash says. */
static int set_up_zstd(ZSTD_CCtx *zstd, int level, struct err *e)
{
    if (level < ZSTD_minCLevel() || level > ZSTD_maxCLevel() || level < INT8_MIN)
        return err_set(e, ERR_USAGE, "zstd has no level %d: at most %d", level, ZSTD_maxCLevel());
    if (ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 0)))
        return err_set(e, ERR_FAILED, "zstd: level %d cannot be set", level);
    return 0;
}

int encoder_new(enum codec codec, int level, struct encoder **ret, struct err *e)
{
    if (codec != CODEC_RAW && codec != CODEC_ZSTD)
        return err_set(e, ERR_USAGE, "codec %d: nothing is written with it", (int)codec);
    cleanup(encoder) struct encoder *n = calloc(1, sizeof *n);
    if (!n)
        return err_sys(e, ENOMEM, "encoder");
    if (codec == CODEC_ZSTD) {
        n->zstd = ZSTD_createCCtx();
        if (!n->zstd)
            return err_sys(e, ENOMEM, "encoder");
        if (set_up_zstd(n->zstd, level, e) < 0)
            return -1;
    }
    *ret = steal(&n);
    return 0;
}

void encoder_free(struct encoder *n)
{
    if (!n)
        return;
    ZSTD_freeCCtx(n->zstd);
    free(n);
}

size_t encoder_bound(size_t len)
{
    return ZSTD_COMPRESSBOUND(len);
}

int encoder_run(struct encoder *n, const uint8_t *chunk, size_t len, uint8_t *out, uint32_t *ret_stored,
                enum codec *ret_codec, struct err *e)
{
    if (n->zstd) {
        size_t got = ZSTD_compress2(n->zstd, out, encoder_bound(len), chunk, len);
        if (ZSTD_isError(got))
            return err_set(e, ERR_FAILED, "zstd: %s", ZSTD_getErrorName(got));
        if (got < len) {
            *ret_stored = (uint32_t)got;
            *ret_codec = CODEC_ZSTD;
            return 0;
        }
    }
    memcpy(out, chunk, len);
    *ret_stored = (uint32_t)len;
    *ret_codec = CODEC_RAW;
    return 0;
}
