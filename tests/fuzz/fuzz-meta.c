/* SPDX-License-Identifier: BSD-3-Clause */
/* The meta file of an overlay. What was read once reads the same when it is written anew. */
#include "lib/base/crc32c.h"
#include "lib/store/overlay-meta.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "meta";

#define CRC_AT (META_SIZE - 4)

static bool equal(const struct overlay_meta *a, const struct overlay_meta *b)
{
    return uuid_equal(&a->overlay, &b->overlay) && uuid_equal(&a->image, &b->image) &&
           uuid_equal(&a->base_layer, &b->base_layer) && a->base_version == b->base_version &&
           a->size == b->size && a->durable == b->durable;
}

static void decode(const uint8_t block[META_SIZE])
{
    struct err e;
    struct overlay_meta m, again;
    struct uuid host, host_again;
    uint8_t written[META_SIZE];
    if (meta_decode(block, &m, &host, &e) < 0) {
        CHECK(e.code == ERR_CORRUPT);
        return;
    }
    CHECK(m.size > 0);
    meta_encode(&m, &host, written);
    CHECK_OK(meta_decode(written, &again, &host_again, &e));
    CHECK(equal(&m, &again) && uuid_equal(&host, &host_again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t block[META_SIZE] = {0};
    memcpy(block, data, min_u64(size, META_SIZE));
    decode(block);
    put_le32(block + CRC_AT, crc32c(0, block, CRC_AT));
    decode(block);
    return 0;
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    uint8_t block[META_SIZE];
    struct overlay_meta m = {.overlay = {{1}},
                             .image = {{2}},
                             .base_layer = {{3}},
                             .base_version = 4,
                             .size = 5 * GIB,
                             .durable = true};
    meta_encode(&m, &(struct uuid){{9}}, block);
    emit(block, META_SIZE);
    m.durable = false;
    meta_encode(&m, &(struct uuid){{9}}, block);
    emit(block, 112);
}
