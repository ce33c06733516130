/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of chunks that a boot wants. The first byte of an input says what is not mended. */
#include "lib/base/cleanup.h"
#include "lib/store/hot.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/craft.h"

const char fuzz_name[] = "hot";

enum keep { KEEP_HASH = 1, KEEP_NAMES = 2, KEEP_COUNT = 4 };
enum { AT_IMAGE = 8, AT_VERSION = 24, AT_SHIFT = 32, AT_COUNT = 36, AT_CHUNKS = 40 };

#define CHUNKS 10u

static struct err e;
static struct store *store;
static struct view *view;
static char *path;

static void start(void)
{
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk d = {.bytes = calloc(CHUNKS, 65536), .size = CHUNKS * 65536};
    struct craft c;
    CHECK(d.bytes);
    craft_layer(&c, craft_images(), &spec, &d, NULL);
    store = craft_store(0);
    CHECK_OK(view_open(store, &spec.image, spec.version, &view, &e));
    path = craft_path(&c);
    memcpy(strrchr(path, '.'), ".hot", 4);
    craft_release(&c);
    disk_release(&d);
}

static void mend(uint8_t *list, size_t size, unsigned keep)
{
    struct hash h;
    const struct footer *f = view_footer(view);
    if (size < AT_CHUNKS + HASH_SIZE)
        return;
    if (!(keep & KEEP_NAMES)) {
        memcpy(list + AT_IMAGE, f->image.b, sizeof f->image.b);
        put_le64(list + AT_VERSION, f->version);
        put_le32(list + AT_SHIFT, f->chunk_shift);
    }
    if (!(keep & KEEP_COUNT))
        put_le32(list + AT_COUNT, (uint32_t)((size - AT_CHUNKS - HASH_SIZE) / 4));
    hash_of(list, size - HASH_SIZE, &h);
    if (!(keep & KEEP_HASH))
        memcpy(list + size - HASH_SIZE, h.b, HASH_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hot_list list;
    if (size == 0)
        return 0;
    if (!store)
        start();
    cleanup(free) uint8_t *copy = malloc(size);
    CHECK(copy);
    memcpy(copy, data + 1, size - 1);
    mend(copy, size - 1, data[0]);
    CHECK_OK(replace_unsynced(path, NULL, copy, size - 1, 0600, &e));
    bool exists = hot_exists(store, view);
    int r = hot_load(store, view, &list, &e);
    CHECK(exists == (r == 0) && (r == 0 || e.code == ERR_NOT_FOUND));
    if (r < 0)
        return 0;
    CHECK(list.count <= HOT_CHUNKS_MAX && list.count <= size / 4);
    for (size_t i = 0; i < list.count; i++)
        CHECK(list.chunks[i] < CHUNKS);
    free(list.chunks);
    return 0;
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    uint8_t seed[1 + AT_CHUNKS + 4 * 4 + HASH_SIZE] = {0};
    memcpy(seed + 1, "LBHOT\0\0\1", 8);
    for (uint32_t i = 0; i < 4; i++)
        put_le32(seed + 1 + AT_CHUNKS + i * 4, i * 5);
    emit(seed, sizeof seed);
    emit(seed, sizeof seed - 16);
}
