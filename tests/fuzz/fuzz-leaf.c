/* SPDX-License-Identifier: BSD-3-Clause */
/* The entries of a leaf: each alone, and all of them as the first leaf of a layer that is whole otherwise. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/layer-file.h"

const char fuzz_name[] = "leaf";

static void decode(const uint8_t in[ENTRY_SIZE], unsigned chunk_shift)
{
    struct err e;
    struct leaf_entry n;
    uint8_t again[ENTRY_SIZE];
    if (leaf_entry_decode(in, chunk_shift, &n, &e) < 0) {
        CHECK(e.code == ERR_CORRUPT);
        return;
    }
    CHECK(n.stored <= UINT32_C(1) << chunk_shift);
    leaf_entry_encode(&n, again);
    CHECK(memcmp(in, again, ENTRY_SIZE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct layer_file whole;
    if (!whole.bytes)
        whole = layer_file_make(0);
    for (size_t at = 0; at + ENTRY_SIZE <= size; at += ENTRY_SIZE)
        decode(data + at, at / ENTRY_SIZE % 2 ? CHUNK_SHIFT_MIN : CHUNK_SHIFT_MAX);
    struct layer_file f = layer_file_with(&whole, LAYER_LEAF, data, size);
    layer_file_mend(&f, 0);
    layer_file_exercise(&f, false);
    free(f.bytes);
    return 0;
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    struct layer_file f = layer_file_make(0);
    size_t size;
    const uint8_t *leaf = layer_file_part(&f, LAYER_LEAF, &size);
    emit(leaf, size);
    free(f.bytes);
}
