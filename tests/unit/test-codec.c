/* SPDX-License-Identifier: BSD-3-Clause */
/* Chunks become frames and come back; a frame that is not whole is refused. */
#include "lib/store/bgzf.h"
#include "lib/store/codec.h"
#include "lib/store/decompress.h"
#include "tests/unit/unit.h"

static struct err e;
static struct scratch_pool *pool;

static const struct compression all[] = {{CODEC_RAW, 0},  {CODEC_ZSTD, 1}, {CODEC_ZSTD, 3}, {CODEC_ZSTD, 19},
                                         {CODEC_GZIP, 1}, {CODEC_GZIP, 6}, {CODEC_GZIP, 12}};

/* From all the same over text to noise. */
static void fill(uint8_t *chunk, size_t len, unsigned kind)
{
    uint32_t x = 12345 + kind;
    for (size_t i = 0; i < len; i++) {
        x = x * 1664525 + 1013904223;
        chunk[i] = kind == 0 ? 7 : kind == 1 ? (uint8_t)('a' + (x >> 28)) : (uint8_t)(x >> 24);
    }
}

static size_t encode(struct compression how, const uint8_t *chunk, size_t len, uint8_t *frame,
                     enum codec *ret)
{
    struct encoder *n;
    uint32_t stored;
    CHECK_OK(encoder_new(how, &n, &e));
    CHECK_OK(encoder_run(n, chunk, len, frame, &stored, ret, &e));
    encoder_free(n);
    CHECK(stored <= len && (*ret == how.codec || *ret == CODEC_RAW));
    return stored;
}

static void chunks_come_back(void)
{
    static const size_t lengths[] = {1, 2, 26, 27, 511, 4096, 16384, 65535, 65536};
    static uint8_t chunk[CHUNK_SIZE_MAX], frame[CHUNK_SIZE_MAX + 4096], back[CHUNK_SIZE_MAX];
    struct scratch *s;
    CHECK_OK(scratch_take(pool, &s, &e));
    for (unsigned h = 0; h < ARRAY_SIZE(all); h++)
        for (unsigned l = 0; l < ARRAY_SIZE(lengths); l++)
            for (unsigned kind = 0; kind < 3; kind++) {
                enum codec codec;
                fill(chunk, lengths[l], kind);
                size_t stored = encode(all[h], chunk, lengths[l], frame, &codec);
                CHECK(kind > 0 || lengths[l] < 4096 || all[h].codec == CODEC_RAW || stored < 200);
                memset(back, 0xee, sizeof back);
                CHECK_OK(decompress(s, codec, frame, stored, back, lengths[l], &e));
                CHECK(memcmp(chunk, back, lengths[l]) == 0);
            }
    scratch_give(s);
}

/* Whatever gzip would refuse, or bgzip not find its way in. Other deflate data may mean the same bytes. */
static void a_changed_member_is_refused_or_means_the_same(void)
{
    static uint8_t chunk[16384], frame[CHUNK_SIZE_MAX], back[16384];
    struct scratch *s;
    enum codec codec;
    fill(chunk, sizeof chunk, 1);
    memset(chunk + 300, 'x', sizeof chunk - 300);
    size_t stored = encode((struct compression){CODEC_GZIP, 6}, chunk, sizeof chunk, frame, &codec);
    CHECK(codec == CODEC_GZIP && stored < 1000);
    CHECK_OK(scratch_take(pool, &s, &e));
    for (size_t i = 0; i < stored; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            frame[i] = (uint8_t)(frame[i] ^ 1u << bit);
            bool seen = decompress(s, codec, frame, stored, back, sizeof back, &e) < 0;
            CHECK(seen ? e.code == ERR_CORRUPT : memcmp(chunk, back, sizeof back) == 0);
            CHECK(seen || (i >= BGZF_HEAD && i < stored - BGZF_TAIL));
            frame[i] = (uint8_t)(frame[i] ^ 1u << bit);
        }
    for (size_t len = 0; len < stored; len++)
        CHECK_FAILS(decompress(s, codec, frame, len, back, sizeof back, &e), ERR_CORRUPT);
    CHECK_FAILS(decompress(s, codec, frame, stored + 1, back, sizeof back, &e), ERR_CORRUPT);
    CHECK_FAILS(decompress(s, codec, frame, stored, back, sizeof back - 1, &e), ERR_CORRUPT);
    CHECK_OK(decompress(s, codec, frame, stored, back, sizeof back, &e));
    scratch_give(s);
}

static void levels_have_bounds(void)
{
    static const struct compression wrong[] = {
        {CODEC_ZSTD, 23}, {CODEC_ZSTD, -129}, {CODEC_GZIP, 0}, {CODEC_GZIP, 13}, {CODEC_ZERO, 0}};
    struct encoder *n;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        CHECK_FAILS(encoder_new(wrong[i], &n, &e), ERR_USAGE);
    CHECK(compression_of("none", 9).codec == CODEC_RAW);
    CHECK(compression_of("zstd", 9).codec == CODEC_ZSTD && compression_of("zstd", 9).level == 9);
    CHECK(compression_of("gzip", 19).codec == CODEC_GZIP && compression_of("gzip", 19).level == 6);
}

int main(void)
{
    CHECK_OK(scratch_pool_new(&pool, &e));
    UNIT(chunks_come_back);
    UNIT(a_changed_member_is_refused_or_means_the_same);
    UNIT(levels_have_bounds);
    scratch_pool_free(pool);
    return 0;
}
