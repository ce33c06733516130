/* SPDX-License-Identifier: BSD-3-Clause */
/* What is written over and over does not grow without end: superseded blocks are given back, segments emptied, the map
 * written anew; and nobody who reads or writes meanwhile notices. */
#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/store/overlay-impl.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK OVERLAY_BLOCK
#define SIZE (16 * MIB)
#define BLOCKS (SIZE / BLOCK)

static struct err e;
static const struct overlay_limits no_limits;
static char *dir;

static int zero_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *err)
{
    (void)ctx, (void)offset, (void)err;
    memset(buf, 0, count);
    return 0;
}
static const struct reader base = {NULL, SIZE, zero_pread};

static struct overlay *make(const struct overlay_limits *limits, bool durable)
{
    static int n;
    struct overlay_meta meta = {.size = SIZE, .durable = durable};
    struct overlay *o;
    free(dir);
    dir = path_format("%s/overlay-%d", unit_dir(), n++);
    CHECK_OK(overlay_create(dir, &meta, limits, &o, &e));
    return o;
}

static struct overlay *reopen(struct overlay *o, const struct overlay_limits *limits)
{
    overlay_close(o);
    CHECK_OK(overlay_open(dir, limits, &o, &e));
    return o;
}

/* Bytes that a file takes on the disk. */
static uint64_t taken(const char *name)
{
    cleanup(free) char *path = path_format("%s/%s", dir, name);
    struct stat st;
    CHECK(stat(path, &st) == 0);
    return (uint64_t)st.st_blocks * 512;
}

/* A block's content says which it is and how often it was written. */
static void fill(uint8_t block[BLOCK], uint64_t number, uint64_t times)
{
    for (unsigned i = 0; i < BLOCK; i += 16) {
        put_le64(block + i, number);
        put_le64(block + i + 8, times);
    }
}

static uint64_t written[BLOCKS]; /* how often; 0: never, or zeroed since */

static void put(struct overlay *o, uint64_t number, uint64_t times)
{
    uint8_t block[BLOCK];
    fill(block, number, times);
    CHECK_OK(overlay_pwrite(o, &base, block, BLOCK, number * BLOCK, &e));
    written[number] = times;
}

static void compare(struct overlay *o)
{
    static const uint8_t zeroes[BLOCK];
    uint8_t got[BLOCK], block[BLOCK];
    for (uint64_t i = 0; i < BLOCKS; i++) {
        CHECK_OK(overlay_pread(o, &base, got, BLOCK, i * BLOCK, &e));
        fill(block, i, written[i]);
        CHECK(memcmp(got, written[i] ? block : zeroes, BLOCK) == 0);
    }
}

static uint64_t rnd(uint64_t below)
{
    static uint64_t state = 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

/* ---- space ---- */

/* In order: whole segments are superseded, and nobody has to move anything. */
static void what_is_superseded_is_given_back(void)
{
    struct overlay *o = make(&no_limits, true);
    memset(written, 0, sizeof written);
    for (uint64_t times = 1; times <= 4; times++) {
        for (uint64_t i = 0; i < BLOCKS; i++)
            put(o, i, times);
        CHECK_OK(overlay_flush(o, &e));
    }
    CHECK(taken("data") > 2 * SIZE - MIB); /* what superseded the third could still be lost */
    put(o, 0, 5);
    CHECK_OK(overlay_flush(o, &e));
    CHECK(taken("data") < SIZE + 3 * MIB);
    CHECK(overlay_stored_bytes(o) < SIZE + 4 * MIB && overlay_dirty_bytes(o) == SIZE);
    compare(o);
    o = reopen(o, &no_limits);
    CHECK(overlay_stored_bytes(o) < SIZE + 4 * MIB);
    compare(o);
    CHECK_OK(overlay_zero(o, &base, SIZE, 0, &e));
    memset(written, 0, sizeof written);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(overlay_flush(o, &e));
        put(o, 7, 6);
    }
    CHECK_OK(overlay_flush(o, &e));
    CHECK(taken("data") <= 3 * MIB);
    compare(o);
    overlay_close(o);
}

/* At random places every segment keeps something that is needed. The quota is met by compaction alone. */
static void a_quota_holds_what_is_rewritten_for_long(bool durable)
{
    const struct overlay_limits limits = {.quota = 2 * SIZE};
    struct overlay *o = make(&limits, durable);
    uint64_t most = 0;
    unsigned compactions = 0;
    memset(written, 0, sizeof written);
    for (uint64_t times = 1; times <= 60000; times++) {
        put(o, rnd(BLOCKS), times);
        if (times % 1000 == 0)
            CHECK_OK(overlay_flush(o, &e));
        if (times % 100 == 0 && overlay_wants_compaction(o)) {
            CHECK_OK(overlay_compact(o, NULL, &e));
            compactions++;
        }
        most = max_u64(most, overlay_stored_bytes(o));
    }
    CHECK(compactions > 1 && most <= limits.quota);
    CHECK(taken("data") + taken("map") <= limits.quota + MIB);
    printf("# 234 MiB into 16: %u compactions, at most %" PRIu64 " MiB\n", compactions, most / MIB);
    compare(o);
    o = reopen(o, &limits);
    compare(o);
    CHECK_OK(overlay_compact(o, NULL, &e));
    CHECK(overlay_stored_bytes(o) < SIZE + SIZE / 2);
    compare(o);
    CHECK_OK(overlay_seal(o, &e));
    CHECK_OK(overlay_compact(o, NULL, &e)); /* does nothing */
    o = reopen(o, &limits);
    CHECK(overlay_is_sealed(o));
    compare(o);
    overlay_close(o);
}

static void a_quota_holds_what_is_rewritten(void)
{
    a_quota_holds_what_is_rewritten_for_long(true);
    a_quota_holds_what_is_rewritten_for_long(false);
}

/* Without anybody who compacts in time: the request that meets the quota does. */
static void a_write_at_the_quota_makes_room(void)
{
    const struct overlay_limits limits = {.quota = SIZE + SIZE / 2};
    struct overlay *o = make(&limits, true);
    memset(written, 0, sizeof written);
    for (uint64_t times = 1; times <= 20000; times++)
        put(o, rnd(BLOCKS / 2), times);
    compare(o);
    for (uint64_t i = 0; i < BLOCKS / 2; i++) /* what is zeroed takes nothing */
        if (i % 2) {
            CHECK_OK(overlay_zero(o, &base, BLOCK, i * BLOCK, &e));
            written[i] = 0;
        }
    o = reopen(o, &limits);
    compare(o);
    overlay_close(o);
}

static void the_map_stays_short(void)
{
    struct overlay *o = make(&no_limits, true);
    memset(written, 0, sizeof written);
    uint64_t longest = 0;
    for (uint64_t times = 1; times <= 150000; times++) {
        uint64_t i = rnd(100);
        put(o, i, times);
        if (times % 2) {
            CHECK_OK(overlay_zero(o, &base, BLOCK, i * BLOCK, &e));
            written[i] = 0;
        }
        longest = max_u64(longest, o->map_end);
        if (times % 1000 == 0 && overlay_wants_compaction(o))
            CHECK_OK(overlay_compact(o, NULL, &e));
    }
    CHECK(longest < 9 * MIB && o->map_end < 6 * MIB && o->map_floor > 0);
    compare(o);
    o = reopen(o, &no_limits);
    compare(o);
    overlay_close(o);
}

/* As after months: the file is so long that its holes are taken again. */
static void holes_are_taken_again(void)
{
    struct overlay *o = make(&no_limits, true);
    memset(written, 0, sizeof written);
    for (uint64_t i = 0; i < BLOCKS; i++)
        put(o, i, 1);
    CHECK_OK(overlay_flush(o, &e));
    cleanup(free) char *path = path_format("%s/data", dir);
    uint64_t length = UINT64_C(40) << 30;
    CHECK(truncate(path, (off_t)length) == 0);
    o = reopen(o, &no_limits);
    CHECK(overlay_stored_bytes(o) < SIZE + 2 * MIB);
    for (uint64_t times = 2; times < 6; times++) {
        for (uint64_t i = 0; i < BLOCKS; i++)
            put(o, i, times);
        CHECK_OK(overlay_flush(o, &e));
        put(o, 0, times);
        CHECK_OK(overlay_flush(o, &e));
    }
    compare(o);
    struct stat st;
    CHECK(stat(path, &st) == 0 && (uint64_t)st.st_size <= length + SIZE);
    CHECK(o->space.cursor * BLOCK < length);
    o = reopen(o, &no_limits);
    compare(o);
    overlay_close(o);
}

static void a_damaged_block_stays_where_it_is(void)
{
    struct overlay *o = make(&no_limits, true);
    memset(written, 0, sizeof written);
    for (uint64_t i = 0; i < BLOCKS; i++)
        put(o, i, 1);
    for (uint64_t i = 0; i < BLOCKS; i++)
        if (i % 8)
            put(o, i, 2);
    cleanup(free) char *path = path_format("%s/data", dir);
    cleanup(close) int fd = open(path, O_RDWR);
    CHECK(pwrite(fd, "damage", 6, 800 * BLOCK) == 6); /* block 800 stands there: 8 divides it */
    CHECK_OK(overlay_compact(o, NULL, &e));
    uint8_t block[BLOCK];
    CHECK_FAILS(overlay_pread(o, &base, block, BLOCK, 800 * BLOCK, &e), ERR_CORRUPT);
    put(o, 800, 3);
    CHECK_OK(overlay_compact(o, NULL, &e));
    compare(o);
    CHECK(taken("data") < SIZE + 3 * MIB);
    overlay_close(o);
}

/* Flushed data that the file does not have: only its blocks are lost, also after compactions, until they are written. */
static void a_file_that_is_too_short_costs_its_blocks(void)
{
    struct overlay *o = make(&no_limits, true);
    uint8_t block[BLOCK];
    memset(written, 0, sizeof written);
    for (uint64_t i = 0; i < BLOCKS; i++)
        put(o, i, 1);
    CHECK_OK(overlay_flush(o, &e));
    CHECK_OK(overlay_flush(o, &e));
    cleanup(free) char *path = path_format("%s/data", dir);
    CHECK(truncate(path, (BLOCKS / 2) * BLOCK + 100) == 0);
    for (int pass = 0; pass < 2; pass++) {
        o = reopen(o, &no_limits);
        CHECK_OK(overlay_pread(o, &base, block, BLOCK, (BLOCKS / 2 - 1) * BLOCK, &e));
        for (uint64_t i = BLOCKS / 2; i < BLOCKS; i++)
            CHECK(overlay_pread(o, &base, block, BLOCK, i * BLOCK, &e) < 0);
        o->map_slack = 0;
        CHECK_OK(overlay_compact(o, NULL, &e));
    }
    for (uint64_t i = BLOCKS / 2; i < BLOCKS; i++)
        put(o, i, 2);
    compare(o);
    o = reopen(o, &no_limits);
    compare(o);
    overlay_close(o);
}

/* ---- beside requests ---- */

#define THREADS 4
#define ROUNDS 12000

struct worker {
    struct overlay *o;
    uint64_t number;
    uint64_t times[BLOCKS / THREADS];
    pthread_t thread;
};
static atomic_bool over;

/* Its blocks are every fourth one; some requests are of a part of a block. */
static bool one_request(struct worker *w, uint64_t *state, uint64_t times, struct err *err)
{
    uint8_t block[BLOCK], got[BLOCK];
    *state = *state * UINT64_C(6364136223846793005) + 1;
    uint64_t i = (*state >> 33) % (BLOCKS / THREADS), number = i * THREADS + w->number;
    fill(block, number, times);
    if (times % 5 == 0
            ? overlay_pwrite(w->o, &base, block, BLOCK / 2, number * BLOCK, err) < 0 ||
                  overlay_pwrite(w->o, &base, block, BLOCK / 2, number * BLOCK + BLOCK / 2, err) < 0
            : overlay_pwrite(w->o, &base, block, BLOCK, number * BLOCK, err) < 0)
        return false;
    w->times[i] = times;
    i = (*state >> 20) % (BLOCKS / THREADS);
    number = i * THREADS + w->number;
    memset(block, 0, BLOCK);
    if (w->times[i])
        fill(block, number, w->times[i]);
    return overlay_pread(w->o, &base, got, BLOCK, number * BLOCK, err) == 0 && memcmp(got, block, BLOCK) == 0;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct err err;
    uint64_t state = w->number + 1;
    for (uint64_t times = 1; times <= ROUNDS; times++) {
        if (!one_request(w, &state, times, &err))
            return w;
        if (times % 500 == w->number && overlay_flush(w->o, &err) < 0)
            return w;
    }
    return NULL;
}

static void *compact(void *arg)
{
    struct overlay *o = arg;
    struct err err;
    uintptr_t n = 0;
    for (; !over; n++)
        if (overlay_compact(o, &over, &err) < 0)
            return (void *)UINTPTR_MAX;
    return (void *)n;
}

static void nobody_notices_a_compaction(void)
{
    static struct worker w[THREADS];
    struct overlay *o = make(&no_limits, true);
    pthread_t compactor;
    void *result;
    o->map_slack = 0;
    over = false;
    CHECK(pthread_create(&compactor, NULL, compact, o) == 0);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.o = o, .number = i};
        CHECK(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(w[i].thread, &result) == 0 && !result);
    over = true;
    CHECK(pthread_join(compactor, &result) == 0 && result != (void *)UINTPTR_MAX);
    printf("# %zu compactions beside %u requests\n", (size_t)(uintptr_t)result, THREADS * ROUNDS);
    for (uint64_t i = 0; i < BLOCKS; i++)
        written[i] = w[i % THREADS].times[i / THREADS];
    compare(o);
    CHECK_OK(overlay_compact(o, NULL, &e)); /* what was written since the last one */
    CHECK(overlay_stored_bytes(o) < 2 * SIZE);
    o = reopen(o, &no_limits);
    compare(o);
    overlay_close(o);
}

int main(void)
{
    UNIT(what_is_superseded_is_given_back);
    UNIT(a_quota_holds_what_is_rewritten);
    UNIT(a_write_at_the_quota_makes_room);
    UNIT(the_map_stays_short);
    UNIT(holes_are_taken_again);
    UNIT(a_damaged_block_stays_where_it_is);
    UNIT(a_file_that_is_too_short_costs_its_blocks);
    UNIT(nobody_notices_a_compaction);
    free(dir);
    return 0;
}
