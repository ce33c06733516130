/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole layer file. The first byte of an input says what is not mended, and whether it is used thoroughly. */
#include "lib/base/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/layer-file.h"

const char fuzz_name[] = "layer";

#define THOROUGH 128u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (size == 0 || size > LAYER_FILE_MAX)
        return 0;
    for (unsigned kind = 0; kind < LAYER_KINDS && !ready; kind++)
        free(layer_file_make(kind).bytes);
    ready = true;
    cleanup(free) uint8_t *copy = malloc(size);
    CHECK(copy);
    struct layer_file f = {.bytes = copy, .size = size - 1};
    memcpy(copy, data + 1, f.size);
    layer_file_mend(&f, data[0] & ~THOROUGH);
    layer_file_exercise(&f, data[0] & THOROUGH);
    return 0;
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    for (unsigned kind = 0; kind < LAYER_KINDS; kind++) {
        struct layer_file f = layer_file_make(kind);
        cleanup(free) uint8_t *seed = malloc(f.size + 1);
        CHECK(seed);
        seed[0] = kind == 3 ? THOROUGH : 0;
        memcpy(seed + 1, f.bytes, f.size);
        emit(seed, f.size + 1);
        free(f.bytes);
    }
}
