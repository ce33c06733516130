/* SPDX-License-Identifier: BSD-3-Clause */
/* The layer table: each entry alone, and all of them in a layer that is whole otherwise. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/layer-file.h"

const char fuzz_name[] = "table";

#define LAYERS_MAX 1000u

static void decode(const uint8_t in[TABLE_ENTRY_SIZE])
{
    struct table_entry t;
    uint8_t again[TABLE_ENTRY_SIZE];
    table_entry_decode(in, &t);
    table_entry_encode(&t, again);
    CHECK(memcmp(in, again, TABLE_ENTRY_SIZE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct layer_file whole;
    if (!whole.bytes)
        whole = layer_file_make(0);
    for (size_t at = 0; at + TABLE_ENTRY_SIZE <= size; at += TABLE_ENTRY_SIZE)
        decode(data + at);
    struct layer_file f =
        layer_file_with(&whole, LAYER_TABLE, data, min_u64(size, LAYERS_MAX * TABLE_ENTRY_SIZE));
    layer_file_mend(&f, 0);
    layer_file_exercise(&f, false);
    free(f.bytes);
    return 0;
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    struct layer_file f = layer_file_make(0);
    size_t size;
    const uint8_t *table = layer_file_part(&f, LAYER_TABLE, &size);
    uint8_t twice[2 * TABLE_ENTRY_SIZE];
    CHECK(size == TABLE_ENTRY_SIZE);
    emit(table, size);
    memset(twice, 7, sizeof twice);
    memcpy(twice + TABLE_ENTRY_SIZE, table, size);
    emit(twice, sizeof twice);
    free(f.bytes);
}
