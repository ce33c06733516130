/* SPDX-License-Identifier: BSD-3-Clause */
/* For bench-store: what it takes to read a chunk of a version that is not in the cache, beside the bare decompression of the
 * same frames out of memory, in turn, each round in an order of its own.
 *
 * usage: cold-chunk IMAGES-DIR IMAGE-UUID VERSION ROUNDS */
#include "lib/base/cleanup.h"
#include "lib/base/parse.h"
#include "lib/store/decompress.h"
#include "lib/store/internal.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <time.h>

#define CHUNKS 2000u
#define SMALL 4096u
#define ROUNDS_MAX 100u

struct frame {
    uint64_t chunk;
    struct leaf_entry entry;
    uint8_t *bytes;
};

static struct err e;
static struct store *store;
static struct view *view;
static struct scratch *scratch;
static uint64_t chunk_size;
static struct frame frames[CHUNKS];
static unsigned count, seed = 1;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void keep(uint64_t chunk, const struct leaf_entry *n)
{
    struct frame *f = &frames[count++];
    CHECK_OK(view_check_entry(view, chunk, n, scratch, &e));
    *f = (struct frame){.chunk = chunk, .entry = *n, .bytes = malloc(n->stored)};
    CHECK(f->bytes);
    memcpy(f->bytes, scratch->frame, n->stored);
}

static void collect(void)
{
    uint64_t chunks = view_footer(view)->virtual_size / chunk_size; /* whole ones */
    for (uint64_t i = 0; i < chunks && count < CHUNKS; i++) {
        struct leaf_entry n;
        CHECK_OK(view_entry(view, i, &n, &e));
        if (n.codec == CODEC_ZSTD || n.codec == CODEC_GZIP)
            keep(i, &n);
    }
    CHECK(count > 0);
}

static void shuffle(void)
{
    for (unsigned i = count; i-- > 1;) {
        unsigned j = (unsigned)rand_r(&seed) % (i + 1);
        struct frame f = frames[i];
        frames[i] = frames[j];
        frames[j] = f;
    }
}

static void bare(const struct frame *f)
{
    CHECK_OK(decompress(scratch, f->entry.codec, f->bytes, f->entry.stored, scratch->chunk, chunk_size, &e));
}

static void whole(const struct frame *f)
{
    CHECK_OK(view_pread(view, 1, scratch->chunk, chunk_size, f->chunk * chunk_size, &e));
}

static void part(const struct frame *f)
{
    CHECK_OK(view_pread(view, 1, scratch->chunk, SMALL, f->chunk * chunk_size, &e));
}

struct run {
    const char *name;
    void (*one)(const struct frame *f);
    double seconds[ROUNDS_MAX];
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(struct run *r, unsigned rounds)
{
    qsort(r->seconds, rounds, sizeof(double), compare);
    return r->seconds[rounds / 2];
}

static void time_one(struct run *r, unsigned round)
{
    double begun = now();
    for (unsigned i = 0; i < count; i++)
        r->one(&frames[i]);
    r->seconds[round] = now() - begun;
}

int main(int argc, char **argv)
{
    struct uuid image;
    uint64_t version, rounds;
    struct run runs[] = {
        {"decompressed alone", bare, {0}}, {"a chunk read", whole, {0}}, {"4 KiB of it read", part, {0}}};
    CHECK(argc == 5);
    CHECK_OK(uuid_from_text(argv[2], &image, &e));
    CHECK_OK(parse_number(argv[3], 1, UINT64_MAX, &version, &e));
    CHECK_OK(parse_number(argv[4], 1, ROUNDS_MAX, &rounds, &e));
    CHECK_OK(store_open(argv[1], 0, &store, &e)); /* hardly a cache */
    CHECK_OK(view_open(store, &image, version, &view, &e));
    CHECK_OK(scratch_take(store->scratch, &scratch, &e));
    chunk_size = UINT64_C(1) << view_footer(view)->chunk_shift;
    collect();
    for (unsigned i = 0; i < rounds; i++) {
        shuffle();
        for (size_t k = 0; k < ARRAY_SIZE(runs); k++)
            time_one(&runs[k], i);
    }
    double alone = median(&runs[0], (unsigned)rounds);
    printf("a cold chunk (%u of them)\n", count);
    for (size_t k = 0; k < ARRAY_SIZE(runs); k++) {
        double seconds = median(&runs[k], (unsigned)rounds);
        printf("    %-28s %7.1f us   ratio %5.2f\n", runs[k].name, seconds / count * 1e6, seconds / alone);
    }
    scratch_give(scratch);
    view_close(view);
    store_close(store);
    return 0;
}
