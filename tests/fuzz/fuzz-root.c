/* SPDX-License-Identifier: BSD-3-Clause */
/* The root of a layer: each entry alone, and all of them in a layer that is whole otherwise. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/layer-file.h"

const char fuzz_name[] = "root";

#define ENTRIES_MAX 1000u

static void decode(const uint8_t in[ROOT_ENTRY_SIZE])
{
    struct err e;
    struct root_entry r;
    uint8_t again[ROOT_ENTRY_SIZE];
    if (root_entry_decode(in, &r, &e) < 0) {
        CHECK(e.code == ERR_CORRUPT);
        return;
    }
    root_entry_encode(&r, again);
    CHECK(memcmp(in, again, ROOT_ENTRY_SIZE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct layer_file whole;
    if (!whole.bytes)
        whole = layer_file_make(1);
    size = min_u64(size / ROOT_ENTRY_SIZE, ENTRIES_MAX) * ROOT_ENTRY_SIZE;
    for (size_t at = 0; at < size; at += ROOT_ENTRY_SIZE)
        decode(data + at);
    struct layer_file f = layer_file_with(&whole, LAYER_ROOT, data, size);
    layer_file_mend(&f, 0);
    layer_file_exercise(&f, false);
    free(f.bytes);
    return 0;
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    struct layer_file f = layer_file_make(1);
    size_t size;
    const uint8_t *root = layer_file_part(&f, LAYER_ROOT, &size);
    emit(root, size);
    free(f.bytes);
}
