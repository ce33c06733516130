/* SPDX-License-Identifier: BSD-3-Clause */
/* The footer of a layer. What is accepted must be what the encoder writes of it, byte for byte: so nothing of it was
 * overlooked. */
#include "lib/store/format.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "footer";

#define HASH_AT (FOOTER_SIZE - HASH_SIZE)

static void decode(const uint8_t block[FOOTER_SIZE])
{
    struct err e;
    struct footer f;
    uint8_t again[FOOTER_SIZE];
    if (footer_decode(block, &f, &e) < 0) {
        CHECK(e.code == ERR_CORRUPT);
        return;
    }
    CHECK(f.file_length >= FOOTER_SIZE && f.root_offset + f.root_length <= f.file_length - FOOTER_SIZE &&
          f.table_offset + f.table_length <= f.file_length - FOOTER_SIZE);
    footer_encode(&f, again);
    CHECK(memcmp(block, again, FOOTER_SIZE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t block[FOOTER_SIZE] = {0};
    struct hash own;
    memcpy(block, data, min_u64(size, FOOTER_SIZE));
    decode(block);
    hash_of(block, HASH_AT, &own);
    memcpy(block + HASH_AT, own.b, HASH_SIZE);
    decode(block);
    return 0;
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    uint8_t block[FOOTER_SIZE];
    struct footer f = {.layer = {{1}},
                       .image = {{2}},
                       .version = 7,
                       .virtual_size = GIB + 5,
                       .chunk_shift = 16,
                       .codec = CODEC_ZSTD,
                       .level = -3,
                       .root_offset = 4096,
                       .root_length = 129 * ROOT_ENTRY_SIZE,
                       .table_offset = 10000,
                       .file_length = 20000};
    footer_encode(&f, block);
    emit(block, 240);
    f.parent_version = 6;
    f.parent_layer.b[3] = 3;
    f.table_length = 3 * TABLE_ENTRY_SIZE;
    f.frame_bytes = 4000;
    footer_encode(&f, block);
    emit(block, FOOTER_SIZE);
}
