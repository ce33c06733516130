/* SPDX-License-Identifier: BSD-3-Clause */
/* A frame of a chunk. The first byte of an input chooses the codec, the next three are the length that must come out; an
 * output of that very length lies on the heap, where sanitizers see what is written past its end. */
#include "lib/base/cleanup.h"
#include "lib/store/codec.h"
#include "lib/store/decompress.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "frame";

#define HEAD 4u
static const enum codec codecs[] = {CODEC_ZSTD, CODEC_GZIP, CODEC_RAW, CODEC_ZERO};
static struct err e;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scratch_pool *pool;
    struct scratch *s;
    if (size < HEAD || size - HEAD > CHUNK_SIZE_MAX)
        return 0;
    if (!pool)
        CHECK_OK(scratch_pool_new(&pool, &e));
    enum codec codec = codecs[data[0] % ARRAY_SIZE(codecs)];
    size_t len = 1 + (data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16) % CHUNK_SIZE_MAX;
    cleanup(free) uint8_t *first = malloc(len);
    cleanup(free) uint8_t *second = malloc(len);
    CHECK(first && second);
    memset(first, 0, len);
    memset(second, 0xff, len);
    CHECK_OK(scratch_take(pool, &s, &e));
    int r = decompress(s, codec, data + HEAD, size - HEAD, first, len, &e);
    CHECK(r == 0 || (e.code == ERR_CORRUPT && e.sys == EIO));
    /* Success fills all of it, whatever was there before. */
    CHECK(decompress(s, codec, data + HEAD, size - HEAD, second, len, &e) == r);
    CHECK(r < 0 || memcmp(first, second, len) == 0);
    scratch_give(s);
    return 0;
}

static void emit_frame(unsigned which, int level, size_t len, void (*emit)(const uint8_t *, size_t))
{
    static uint8_t chunk[CHUNK_SIZE_MAX], seed[HEAD + CHUNK_SIZE_MAX + 4096];
    struct encoder *n;
    enum codec codec;
    uint32_t stored;
    for (size_t i = 0; i < len; i++)
        chunk[i] = (uint8_t)(i % 7 < 5 ? "labboot"[i % 7] : (int)(i * i >> 5));
    CHECK_OK(encoder_new((struct compression){codecs[which], level}, &n, &e));
    CHECK_OK(encoder_run(n, chunk, len, seed + HEAD, &stored, &codec, &e));
    encoder_free(n);
    CHECK(codec == codecs[which]);
    seed[0] = (uint8_t)which;
    put_le16(seed + 1, (uint16_t)(len - 1));
    seed[3] = 0;
    emit(seed, HEAD + stored);
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    emit_frame(0, 1, 3000, emit);
    emit_frame(0, 19, 65536, emit);
    emit_frame(1, 1, 3000, emit);
    emit_frame(1, 6, 65536, emit);
    emit_frame(2, 0, 300, emit);
}
