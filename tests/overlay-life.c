/* SPDX-License-Identifier: BSD-3-Clause */
/* For tests/test-overlay-power.py: the life of an overlay, which is recorded; and whether what a power
 * cut has left of it is a disk as it was at some moment of that life.
 *
 * usage: overlay-life live FOLDER SEED REQUESTS   prints "did N" after each request, "flushed N" after each flush
 *        overlay-life check FOLDER SEED FROM TO   after FROM … TO requests, of the next one any part */
#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/store/overlay-impl.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <unistd.h>

#define SIZE (192 * KIB + 100)
#define REQUEST_MAX (24 * KIB)

static struct err e;
static const struct overlay_limits no_limits;
static uint64_t state;
static atomic_bool over;
static uint8_t disk[SIZE];

static uint64_t rnd(uint64_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % below;
}

static int base_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *err)
{
    (void)ctx, (void)offset, (void)err;
    memset(buf, 0xba, count);
    return 0;
}
static const struct reader base = {NULL, SIZE, base_pread};

/* By the seed. */
static const struct kind {
    unsigned requests_a_flush, requests_a_compaction;
    bool beside; /* another thread compacts all the time */
} kinds[] = {{5, 15, false}, {25, 15, false}, {5, 0, true}, {150, 0, false}};
static const struct kind *kind;

struct request {
    uint64_t offset, count;
    uint8_t value; /* 0: by a zero request */
    bool flush, compact;
};

static struct request next_request(void)
{
    struct request r = {.offset = rnd(SIZE)};
    r.count = 1 + rnd(min_u64(REQUEST_MAX, SIZE - r.offset));
    if (rnd(3)) {
        r.offset = round_down(r.offset, OVERLAY_BLOCK);
        r.count = min_u64(round_up(r.count, OVERLAY_BLOCK), SIZE - r.offset);
    }
    r.value = rnd(4) == 0 ? 0 : (uint8_t)(1 + rnd(255));
    r.flush = rnd(kind->requests_a_flush) == 0;
    r.compact = kind->requests_a_compaction && rnd(kind->requests_a_compaction) == 0;
    return r;
}

static void apply(const struct request *r)
{
    memset(disk + r->offset, r->value, r->count);
}

static void say(const char *what, unsigned n)
{
    char line[40];
    int len = snprintf(line, sizeof line, "%s %u\n", what, n);
    CHECK(write(STDOUT_FILENO, line, (size_t)len) ==
          len); /* not through a buffer: its place in the record counts */
}

static void do_request(struct overlay *o, const struct request *r)
{
    static uint8_t buf[REQUEST_MAX + OVERLAY_BLOCK];
    memset(buf, r->value, r->count);
    if (r->value)
        CHECK_OK(overlay_pwrite(o, &base, buf, r->count, r->offset, &e));
    else
        CHECK_OK(overlay_zero(o, &base, r->count, r->offset, &e));
}

static void *compact(void *o)
{
    static struct err own;
    for (; !over; usleep(3000))
        if (overlay_compact(o, &over, &own) < 0)
            exit(1);
    return NULL;
}

static void live(const char *dir, unsigned requests)
{
    pthread_t thread;
    struct overlay_meta meta = {.size = SIZE, .durable = true};
    struct overlay *o;
    CHECK_OK(overlay_create(dir, &meta, &no_limits, &o, &e));
    o->map_slack = 0;
    CHECK(!kind->beside || pthread_create(&thread, NULL, compact, o) == 0);
    for (unsigned n = 1; n <= requests; n++) {
        struct request r = next_request();
        do_request(o, &r);
        say("did", n);
        if (r.flush) {
            CHECK_OK(overlay_flush(o, &e));
            say("flushed", n);
        }
        if (r.compact)
            CHECK_OK(overlay_compact(o, NULL, &e));
    }
    over = true;
    CHECK(!kind->beside || pthread_join(thread, NULL) == 0);
    overlay_close(o);
}

/* A request is up to three records: some of its blocks may be there. */
static bool is_disk(const uint8_t *got, const struct request *r)
{
    for (uint64_t at = 0; at < SIZE; at += OVERLAY_BLOCK) {
        uint64_t end = min_u64(at + OVERLAY_BLOCK, SIZE), from = max_u64(at, r->offset);
        uint64_t to = min_u64(end, r->offset + r->count);
        if (memcmp(got + at, disk + at, end - at) == 0)
            continue;
        if (from >= to || memcmp(got + at, disk + at, from - at) != 0 ||
            memcmp(got + to, disk + to, end - to) != 0)
            return false;
        for (; from < to; from++)
            if (got[from] != r->value)
                return false;
    }
    return true;
}

static void check(const char *dir, unsigned from, unsigned to)
{
    struct overlay *o;
    cleanup(free) uint8_t *got = malloc(SIZE);
    CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
    CHECK_OK(overlay_pread(o, &base, got, SIZE, 0, &e));
    overlay_close(o);
    for (unsigned n = 0; n <= to; n++) {
        struct request r = next_request();
        if (n >= from && is_disk(got, &r))
            return;
        apply(&r);
    }
    fprintf(stderr, "it is no disk as it was after %u … %u requests\n", from, to);
    exit(1);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 5);
    cleanup(free) char *dir = path_format("%s/overlay", argv[2]);
    state = strtoul(argv[3], NULL, 10);
    kind = &kinds[state % ARRAY_SIZE(kinds)];
    memset(disk, 0xba, sizeof disk);
    if (strcmp(argv[1], "live") == 0)
        live(dir, (unsigned)strtoul(argv[4], NULL, 10));
    else
        check(dir, (unsigned)strtoul(argv[4], NULL, 10), (unsigned)strtoul(argv[5], NULL, 10));
    return 0;
}
