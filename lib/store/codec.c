/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/codec.h"

#include "lib/base/cleanup.h"
#include "lib/store/bgzf.h"

#include <zstd.h>

/* At 6 libdeflate compresses better than gzip -6 and three times as fast; above, it soon takes ten times as long. */
#define GZIP_LEVEL 6
#define GZIP_LEVEL_MAX 12

/* Both NULL: everything is stored raw. */
struct encoder {
    ZSTD_CCtx *zstd;
    struct libdeflate_compressor *gzip;
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

static int set_up_gzip(struct encoder *n, int level, struct err *e)
{
    if (level < 1 || level > GZIP_LEVEL_MAX)
        return err_set(e, ERR_USAGE, "gzip has no level %d: 1 to %d", level, GZIP_LEVEL_MAX);
    n->gzip = libdeflate_alloc_compressor(level);
    return n->gzip ? 0 : err_sys(e, ENOMEM, "encoder");
}

struct compression compression_of(const char *name, uint64_t zstd_level)
{
    if (strcmp(name, "none") == 0)
        return (struct compression){CODEC_RAW, 0};
    if (strcmp(name, "gzip") == 0)
        return (struct compression){CODEC_GZIP, GZIP_LEVEL};
    return (struct compression){CODEC_ZSTD, (int)zstd_level};
}

int encoder_new(struct compression how, struct encoder **ret, struct err *e)
{
    cleanup(encoder) struct encoder *n = calloc(1, sizeof *n);
    if (!n)
        return err_sys(e, ENOMEM, "encoder");
    switch (how.codec) {
    case CODEC_RAW:
        break;
    case CODEC_ZSTD:
        n->zstd = ZSTD_createCCtx();
        if (!n->zstd)
            return err_sys(e, ENOMEM, "encoder");
        if (set_up_zstd(n->zstd, how.level, e) < 0)
            return -1;
        break;
    case CODEC_GZIP:
        if (set_up_gzip(n, how.level, e) < 0)
            return -1;
        break;
    default:
        return err_set(e, ERR_USAGE, "codec %d: nothing is written with it", (int)how.codec);
    }
    *ret = steal(&n);
    return 0;
}

void encoder_free(struct encoder *n)
{
    if (!n)
        return;
    ZSTD_freeCCtx(n->zstd);
    libdeflate_free_compressor(n->gzip);
    free(n);
}

size_t encoder_bound(size_t len)
{
    return ZSTD_COMPRESSBOUND(len);
}

/* The length of the frame; 0: it would not be smaller than the chunk. */
static int compress(struct encoder *n, const uint8_t *chunk, size_t len, uint8_t *out, size_t *ret,
                    struct err *e)
{
    *ret = 0;
    if (n->gzip)
        *ret = bgzf_compress(n->gzip, chunk, len, out, len - 1);
    if (!n->zstd)
        return 0;
    size_t got = ZSTD_compress2(n->zstd, out, encoder_bound(len), chunk, len);
    if (ZSTD_isError(got))
        return err_set(e, ERR_FAILED, "zstd: %s", ZSTD_getErrorName(got));
    *ret = got < len ? got : 0;
    return 0;
}

int encoder_run(struct encoder *n, const uint8_t *chunk, size_t len, uint8_t *out, uint32_t *ret_stored,
                enum codec *ret_codec, struct err *e)
{
    size_t stored;
    if (compress(n, chunk, len, out, &stored, e) < 0)
        return -1;
    *ret_codec = stored == 0 ? CODEC_RAW : n->gzip ? CODEC_GZIP : CODEC_ZSTD;
    if (stored == 0)
        memcpy(out, chunk, stored = len);
    *ret_stored = (uint32_t)stored;
    return 0;
}
