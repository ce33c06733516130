/* SPDX-License-Identifier: BSD-3-Clause */
/* The overlay against a model, a plain array of bytes: random requests, reopening, limits, sealing, threads. */
#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/overlay-map.h"
#include "lib/store/overlay-meta.h"
#include "lib/store/overlay-impl.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct err e;
static const struct overlay_limits no_limits;

/* --- a base with contents --- */

static uint8_t base_byte(uint64_t offset)
{
    return offset / OVERLAY_BLOCK % 3 == 0 ? 0 : (uint8_t)(offset * 7 + offset / 251);
}

static int base_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *err)
{
    const struct reader *r = ctx;
    if (offset + count > r->size)
        return err_set(err, ERR_FAILED, "the base was read past its end");
    for (size_t i = 0; i < count; i++)
        ((uint8_t *)buf)[i] = base_byte(offset + i);
    return 0;
}

static struct reader make_base(struct reader *self, uint64_t size)
{
    *self = (struct reader){self, size, base_pread};
    return *self;
}

static char *new_dir(void)
{
    static int n;
    return path_format("%s/overlay-%d", unit_dir(), n++);
}

static struct overlay *create(const char *dir, uint64_t size, const struct overlay_limits *limits)
{
    struct overlay_meta meta = {.base_version = 42, .size = size, .durable = true};
    struct overlay *o;
    uuid_make(&meta.image);
    CHECK_OK(overlay_create(dir, &meta, limits, &o, &e));
    return o;
}

static struct overlay *reopen(struct overlay *o, const char *dir)
{
    overlay_close(o);
    CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
    return o;
}

/* --- the model --- */

static uint64_t random_state;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

struct model {
    struct overlay *o;
    struct reader base;
    char *dir;
    uint8_t *bytes;
    uint64_t size;
};

static void model_init(struct model *m, uint64_t size)
{
    m->size = size;
    m->dir = new_dir();
    m->o = create(m->dir, size, &no_limits);
    make_base(&m->base, size);
    m->bytes = malloc(size);
    CHECK(m->bytes);
    CHECK_OK(base_pread(&m->base, m->bytes, size, 0, &e));
}

static void model_release(struct model *m)
{
    overlay_close(m->o);
    free(m->dir);
    free(m->bytes);
}

static void compare_all(struct model *m)
{
    cleanup(free) uint8_t *got = malloc(m->size);
    CHECK(got);
    CHECK_OK(overlay_pread(m->o, &m->base, got, m->size, 0, &e));
    CHECK(memcmp(got, m->bytes, m->size) == 0);
}

/* What the overlay says it has, by extents and by next_dirty, agrees with what it reads. */
static void check_extents(struct model *m)
{
    uint64_t length, data = 0;
    enum overlay_kind kind;
    for (uint64_t at = 0; at < m->size; at += length) {
        overlay_extent(m->o, at, m->size, &length, &kind);
        CHECK(length > 0 && length <= m->size - at);
        CHECK(overlay_next_dirty(m->o, at) == (kind == OVERLAY_NONE ? at + length : at));
        if (kind == OVERLAY_ZERO)
            CHECK(all_zero(m->bytes + at, length));
        if (kind == OVERLAY_DATA)
            data += round_up(length, OVERLAY_BLOCK);
        for (uint64_t i = at; kind == OVERLAY_NONE && i < at + length; i++)
            CHECK(m->bytes[i] == base_byte(i));
    }
    CHECK(data == overlay_dirty_bytes(m->o));
}

static void random_range(const struct model *m, uint64_t most, uint64_t *offset, uint64_t *count)
{
    *offset = rnd(m->size);
    *count = 1 + rnd(min_u64(most, m->size - *offset));
    if (rnd(2)) {
        *offset = round_down(*offset, OVERLAY_BLOCK);
        *count = min_u64(round_up(*count, OVERLAY_BLOCK), m->size - *offset);
    }
    if (rnd(8) == 0)
        *count = min_u64(*count, m->size - *offset); /* may end at the disk's end */
    if (rnd(16) == 0)
        *count = min_u64(m->size - *offset, most);
}

static void random_step(struct model *m, uint8_t *buf)
{
    uint64_t offset, count, what = rnd(100);
    random_range(m, 64 * KIB, &offset, &count);
    if (what < 45) {
        for (size_t i = 0; i < count; i++)
            buf[i] = (uint8_t)rnd(256);
        CHECK_OK(overlay_pwrite(m->o, &m->base, buf, count, offset, &e));
        memcpy(m->bytes + offset, buf, count);
    } else if (what < 65) {
        CHECK_OK(overlay_zero(m->o, &m->base, count, offset, &e));
        memset(m->bytes + offset, 0, count);
    } else if (what < 94) {
        CHECK_OK(overlay_pread(m->o, &m->base, buf, count, offset, &e));
        CHECK(memcmp(buf, m->bytes + offset, count) == 0);
    } else if (what < 97) {
        CHECK_OK(overlay_flush(m->o, &e));
    } else if (what < 98) {
        m->o->map_slack = 0;
        CHECK_OK(overlay_compact(m->o, NULL, &e));
    } else {
        m->o = reopen(m->o, m->dir);
    }
}

static void run_model(uint64_t seed, uint64_t size, int steps)
{
    struct model m;
    random_state = seed;
    model_init(&m, size);
    cleanup(free) uint8_t *buf = malloc(64 * KIB + OVERLAY_BLOCK);
    for (int i = 0; i < steps; i++) {
        random_step(&m, buf);
        if (i % (steps > 10000 ? 5000 : 200) == 0) {
            compare_all(&m);
            check_extents(&m);
        }
    }
    CHECK_OK(overlay_seal(m.o, &e));
    compare_all(&m);
    m.o = reopen(m.o, m.dir);
    CHECK(overlay_is_sealed(m.o));
    compare_all(&m);
    check_extents(&m);
    CHECK_FAILS(overlay_pwrite(m.o, &m.base, buf, 1, 0, &e), ERR_STATE);
    CHECK(e.sys == ESHUTDOWN);
    CHECK_FAILS(overlay_zero(m.o, &m.base, m.size, 0, &e), ERR_STATE);
    CHECK_OK(overlay_seal(m.o, &e));
    CHECK_OK(overlay_unseal(m.o, &e));
    for (int again = 0; again < 2; again++) { /* the handle that was open, and one that finds no seal */
        CHECK(!overlay_is_sealed(m.o));
        compare_all(&m);
        for (int i = 0; i < steps / 10; i++)
            random_step(&m, buf);
        compare_all(&m);
        m.o = reopen(m.o, m.dir);
    }
    CHECK_OK(overlay_unseal(m.o, &e)); /* it is not */
    CHECK_OK(overlay_seal(m.o, &e));
    m.o = reopen(m.o, m.dir);
    CHECK(overlay_is_sealed(m.o));
    compare_all(&m);
    model_release(&m);
}

/* LABBOOT_LONG=1: millions of them. */
static void random_requests_match_an_array_of_bytes(void)
{
    const char *wanted = getenv("LABBOOT_LONG");
    int times = wanted && strcmp(wanted, "1") == 0 ? 500 : 1;
    run_model(1, 4 * MIB, 1500 * times);
    run_model(2, 3 * MIB + 1234, 1500 * times); /* the last block is partial */
    run_model(3, 100, 300 * times);             /* one block, partial */
    run_model(4, OVERLAY_BLOCK + 1, 500 * times);
    uint64_t seed = (uint64_t)time(NULL) << 16 | (uint64_t)getpid();
    printf("# random seed %" PRIu64 "\n", seed);
    run_model(seed, MIB + rnd(MIB), 1500 * times);
}

/* --- one at a time --- */

static void an_overlay_has_one_holder(void)
{
    cleanup(free) char *dir = new_dir();
    struct overlay *o, *second;
    struct overlay_meta meta = {.size = MIB}, got;
    CHECK_FAILS(overlay_open(dir, &no_limits, &second, &e), ERR_NOT_FOUND);
    CHECK_FAILS(overlay_read_meta(dir, &got, &e), ERR_NOT_FOUND);
    o = create(dir, MIB, &no_limits);
    CHECK_FAILS(overlay_open(dir, &no_limits, &second, &e), ERR_STATE);
    CHECK_FAILS(overlay_create(dir, &meta, &no_limits, &second, &e), ERR_STATE);
    CHECK_OK(overlay_read_meta(dir, &got, &e));
    CHECK(got.base_version == 42 && got.size == MIB && got.durable);
    CHECK(uuid_equal(&got.overlay, &overlay_meta(o)->overlay) &&
          uuid_equal(&got.image, &overlay_meta(o)->image));
    overlay_close(o);
    CHECK_OK(overlay_remove(dir, &e));
    CHECK_OK(overlay_remove(dir, &e));
    CHECK(!path_exists(dir));
}

static void a_folder_without_meta_is_made_anew(void)
{
    cleanup(free) char *dir = new_dir();
    cleanup(free) char *rest = path_format("%s/data", dir);
    CHECK(mkdir(dir, 0700) == 0);
    cleanup(close) int fd = open(rest, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0);
    overlay_close(create(dir, MIB, &no_limits));
}

static void what_is_not_durable_ends_with_the_host(void)
{
    cleanup(free) char *dir = new_dir();
    cleanup(free) char *path = path_format("%s/meta", dir);
    struct overlay_meta meta = {.size = MIB, .durable = false};
    struct overlay *o;
    struct reader base;
    char got[4];
    make_base(&base, MIB);
    CHECK_OK(overlay_create(dir, &meta, &no_limits, &o, &e));
    CHECK_OK(overlay_pwrite(o, &base, "kept", 4, 4095, &e));
    CHECK_OK(overlay_flush(o, &e));
    o = reopen(o, dir); /* only the process ended */
    CHECK_OK(overlay_pread(o, &base, got, 4, 4095, &e));
    CHECK(memcmp(got, "kept", 4) == 0);
    CHECK_OK(overlay_seal(o, &e));
    overlay_close(o);

    uint8_t block[META_SIZE];
    struct uuid other_host;
    uuid_make(&other_host);
    CHECK_OK(overlay_read_meta(dir, &meta, &e));
    meta_encode(&meta, &other_host, block);
    CHECK_OK(atomic_replace(path, NULL, block, sizeof block, 0600, &e));
    CHECK_FAILS(overlay_open(dir, &no_limits, &o, &e), ERR_CORRUPT);
}

static void a_request_larger_than_a_record(void)
{
    cleanup(free) char *dir = new_dir();
    size_t size = 130 * MIB; /* a record is of 128 MiB at most */
    cleanup(free) uint64_t *buf = malloc(size), *got = malloc(size);
    struct overlay *o = create(dir, 2 * size, &no_limits);
    struct reader base;
    make_base(&base, 2 * size);
    for (size_t i = 0; i < size / sizeof *buf; i++)
        buf[i] = i * UINT64_C(0x9e3779b97f4a7c15);
    CHECK_OK(overlay_pwrite(o, &base, buf, size, 77, &e));
    o = reopen(o, dir);
    CHECK_OK(overlay_pread(o, &base, got, size, 77, &e));
    CHECK(memcmp(buf, got, size) == 0);
    overlay_close(o);
    CHECK_OK(overlay_remove(dir, &e));
}

static void flip_in(const char *dir, const char *name, uint64_t offset)
{
    cleanup(free) char *path = path_format("%s/%s", dir, name);
    cleanup(close) int fd = open(path, O_RDWR);
    uint8_t b;
    CHECK(fd >= 0);
    CHECK_OK(full_pread(fd, &b, 1, offset, &e));
    b ^= 0x20;
    CHECK_OK(full_pwrite(fd, &b, 1, offset, &e));
}

static void a_damaged_meta_is_refused(void)
{
    cleanup(free) char *dir = new_dir();
    cleanup(free) char *path = path_format("%s/meta", dir);
    struct overlay *o = create(dir, MIB, &no_limits);
    static const uint64_t bytes[] = {0, 7, 8, 24, 40, 90, 120, 4090, 4095};
    overlay_close(o);
    for (size_t i = 0; i < ARRAY_SIZE(bytes); i++) {
        flip_in(dir, "meta", bytes[i]);
        CHECK_FAILS(overlay_open(dir, &no_limits, &o, &e), ERR_CORRUPT);
        flip_in(dir, "meta", bytes[i]);
    }
    CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
    overlay_close(o);
    CHECK(truncate(path, 4095) == 0);
    CHECK_FAILS(overlay_open(dir, &no_limits, &o, &e), ERR_CORRUPT);
}

/* Opening what is no file would wait for ever, as reading a file of many terabytes nearly does. */
static void odd_files_hang_nobody(void)
{
    static const char *const names[] = {"meta", "data", "map"};
    struct overlay_meta meta;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        cleanup(free) char *dir = new_dir();
        cleanup(free) char *path = path_format("%s/%s", dir, names[i]);
        struct overlay *o = create(dir, MIB, &no_limits);
        overlay_close(o);
        CHECK(unlink(path) == 0 && mkfifo(path, 0600) == 0);
        alarm(60);
        CHECK_FAILS(overlay_open(dir, &no_limits, &o, &e), ERR_CORRUPT);
        if (i == 0)
            CHECK_FAILS(overlay_read_meta(dir, &meta, &e), ERR_CORRUPT);
    }
    alarm(0);
}

static void write_sync_at(const char *path, const struct uuid *overlay, const struct map_record *sync,
                          uint64_t offset)
{
    uint8_t record[MAP_HEADER];
    cleanup(close) int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    map_record_encode(sync, map_seed(overlay), record);
    CHECK_OK(full_pwrite(fd, record, sizeof record, offset, &e));
}

static void a_map_with_a_hole(void)
{
    cleanup(free) char *dir = new_dir();
    cleanup(free) char *path = path_format("%s/map", dir);
    struct overlay *o = create(dir, MIB, &no_limits);
    const struct uuid overlay = overlay_meta(o)->overlay;
    struct reader base;
    uint8_t text[OVERLAY_BLOCK] = "kept";
    make_base(&base, MIB);
    CHECK_OK(overlay_pwrite(o, &base, text, sizeof text, 8192, &e));
    overlay_close(o);
    CHECK(truncate(path, 4 * (off_t)TIB) == 0);
    alarm(60);
    CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
    memset(text, 1, sizeof text);
    CHECK_OK(overlay_pread(o, &base, text, sizeof text, 8192, &e));
    CHECK_STR((const char *)text, "kept");
    overlay_close(o);
    /* A SYNC behind the hole says that something is missing. */
    for (uint64_t at = TIB - 44; at <= TIB + 4; at += 4) {
        write_sync_at(path, &overlay, &(struct map_record){MAP_SYNC, 100, 99, 0, 0}, at);
        CHECK_FAILS(overlay_open(dir, &no_limits, &o, &e), ERR_CORRUPT);
        CHECK(truncate(path, 44) == 0);
    }
    alarm(0);
    CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
    overlay_close(o);
}

static void a_flipped_byte_of_data_costs_one_block(void)
{
    struct model m;
    uint8_t buf[8 * OVERLAY_BLOCK];
    model_init(&m, MIB);
    memset(buf, 7, sizeof buf);
    CHECK_OK(overlay_pwrite(m.o, &m.base, buf, sizeof buf, 0, &e));
    memset(m.bytes, 7, sizeof buf);
    CHECK_OK(overlay_flush(m.o, &e)); /* else the record would not be believed when it is opened again */
    flip_in(m.dir, "data", 3 * OVERLAY_BLOCK + 17);
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < 8; i++) {
            int r = overlay_pread(m.o, &m.base, buf, 10, i * OVERLAY_BLOCK + 100, &e);
            CHECK(i == 3 ? r < 0 && e.code == ERR_CORRUPT && e.sys == EIO : r == 0 && buf[9] == 7);
        }
        m.o = reopen(m.o, m.dir);
    }
    CHECK_FAILS(overlay_pread(m.o, &m.base, buf, sizeof buf, 0, &e), ERR_CORRUPT);
    CHECK_FAILS(overlay_pwrite(m.o, &m.base, buf, 10, 3 * OVERLAY_BLOCK, &e), ERR_CORRUPT);
    memset(buf, 9, OVERLAY_BLOCK);
    CHECK_OK(overlay_pwrite(m.o, &m.base, buf, OVERLAY_BLOCK, 3 * OVERLAY_BLOCK, &e));
    memset(m.bytes + 3 * OVERLAY_BLOCK, 9, OVERLAY_BLOCK);
    compare_all(&m);
    model_release(&m);
}

/* --- limits --- */

/* Three writes, and a SYNC that was begun before the last, whose data a power cut takes. What it vouches for stays so when
 * the map was cut: damage that comes later is damage, not what another power cut left. */
static void a_cut_leaves_what_was_vouched_for(void)
{
    cleanup(free) char *dir = new_dir();
    cleanup(free) char *map = path_format("%s/map", dir);
    struct overlay *o = create(dir, MIB, &no_limits);
    const struct uuid overlay = overlay_meta(o)->overlay;
    struct reader base;
    uint8_t block[OVERLAY_BLOCK];
    make_base(&base, MIB);
    for (uint64_t i = 0; i < 3; i++) {
        memset(block, 'a' + (int)i, sizeof block);
        CHECK_OK(overlay_pwrite(o, &base, block, sizeof block, i * OVERLAY_BLOCK, &e));
    }
    overlay_close(o);
    const uint64_t record = MAP_HEADER + MAP_SUM;
    write_sync_at(map, &overlay, &(struct map_record){MAP_SYNC, 4, 2, 0, 0}, 3 * record);
    flip_in(dir, "data", 2 * OVERLAY_BLOCK);
    CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
    flip_in(dir, "data", 7);
    o = reopen(o, dir);
    o = reopen(o, dir);
    CHECK_FAILS(overlay_pread(o, &base, block, sizeof block, 0, &e), ERR_CORRUPT);
    CHECK_OK(overlay_pread(o, &base, block, sizeof block, OVERLAY_BLOCK, &e));
    CHECK(block[0] == 'b' && overlay_dirty_bytes(o) == 2 * OVERLAY_BLOCK);
    overlay_close(o);
}

static void at_the_quota_a_write_fails_and_reads_go_on(void)
{
    struct overlay_limits limits = {.quota = 64 * KIB};
    cleanup(free) char *dir = new_dir();
    struct overlay *o = create(dir, MIB, &limits);
    struct reader base;
    uint8_t buf[OVERLAY_BLOCK], got[OVERLAY_BLOCK];
    make_base(&base, MIB);
    uint64_t n = 0;
    for (;; n++) {
        memset(buf, (int)n, sizeof buf);
        if (overlay_pwrite(o, &base, buf, sizeof buf, n * OVERLAY_BLOCK, &e) < 0)
            break;
    }
    CHECK(e.sys == ENOSPC && n == 15 && overlay_stored_bytes(o) <= limits.quota);
    CHECK_FAILS(overlay_pwrite(o, &base, buf, 1, 0, &e), ERR_FAILED);
    CHECK_OK(overlay_zero(o, &base, OVERLAY_BLOCK, 0, &e)); /* a record of 40 bytes still fits */
    for (uint64_t i = 1; i < n; i++) {
        memset(buf, (int)i, sizeof buf);
        CHECK_OK(overlay_pread(o, &base, got, sizeof got, i * OVERLAY_BLOCK, &e));
        CHECK(memcmp(buf, got, sizeof got) == 0);
    }
    CHECK_OK(overlay_flush(o, &e));
    CHECK_OK(overlay_seal(o, &e));
    overlay_close(o);
}

static void below_the_reserve_a_write_fails(void)
{
    struct overlay_limits limits = {.reserve = UINT64_C(1) << 62};
    cleanup(free) char *dir = new_dir();
    struct overlay *o = create(dir, MIB, &limits);
    struct reader base;
    make_base(&base, MIB);
    CHECK_FAILS(overlay_pwrite(o, &base, "x", 1, 0, &e), ERR_FAILED);
    CHECK(e.sys == ENOSPC);
    CHECK_OK(overlay_seal(o, &e));
    overlay_close(o);
}

static void set_file_limit(uint64_t bytes)
{
    struct rlimit limit = {bytes, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void a_short_append_is_cut_off(void)
{
    struct model m;
    uint8_t buf[4 * OVERLAY_BLOCK];
    signal(SIGXFSZ, SIG_IGN);
    model_init(&m, MIB);
    memset(buf, 1, sizeof buf);
    CHECK_OK(overlay_pwrite(m.o, &m.base, buf, sizeof buf, 0, &e));
    memcpy(m.bytes, buf, sizeof buf);
    for (uint64_t limit = 4 * OVERLAY_BLOCK; limit < 8 * OVERLAY_BLOCK; limit += 1000) {
        set_file_limit(limit);
        CHECK_FAILS(overlay_pwrite(m.o, &m.base, buf, sizeof buf, 32 * KIB, &e), ERR_FAILED);
        CHECK(e.sys == EFBIG);
        compare_all(&m);
        set_file_limit(RLIM_INFINITY);
        m.o = reopen(m.o, m.dir);
        compare_all(&m);
        memset(buf, (int)limit, OVERLAY_BLOCK);
        CHECK_OK(overlay_zero(m.o, &m.base, 4 * KIB, limit, &e));
        memset(m.bytes + limit, 0, 4 * KIB);
    }
    CHECK_OK(overlay_flush(m.o, &e));
    compare_all(&m);
    model_release(&m);
}

/* --- large disks --- */

static void a_huge_trim_is_cheap(void)
{
    cleanup(free) char *dir = new_dir();
    cleanup(free) char *map = path_format("%s/map", dir);
    struct overlay *o = create(dir, TIB, &no_limits);
    struct reader base;
    uint64_t length;
    enum overlay_kind kind;
    struct timespec start, end;
    make_base(&base, TIB);
    CHECK_OK(overlay_pwrite(o, &base, "mark", 4, 500 * GIB, &e));
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (unsigned i = 0; i < 1000; i++)
        CHECK_OK(overlay_zero(o, &base, 100 * GIB, (1 + i % 400) * GIB + 4096 * i, &e));
    CHECK(overlay_next_dirty(o, 0) == GIB);
    overlay_extent(o, 2 * GIB, TIB, &length, &kind);
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK(kind == OVERLAY_ZERO && length > 100 * GIB);
    CHECK(overlay_next_dirty(o, 600 * GIB) == TIB);
    double ms = (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6;
    printf("# 1000 trims of 100 GiB: %.1f ms\n", ms);
    CHECK(ms < 5000);
    CHECK(overlay_stored_bytes(o) < 64 * KIB && overlay_dirty_bytes(o) == 0);
    overlay_close(o);
    CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
    CHECK(overlay_next_dirty(o, 0) == GIB && overlay_next_dirty(o, 600 * GIB) == TIB);
    overlay_close(o);
}

static void the_largest_disk_to_its_last_byte(void)
{
    cleanup(free) char *dir = new_dir();
    struct overlay *o = create(dir, 64 * TIB, &no_limits);
    struct reader base;
    char got[8];
    make_base(&base, 64 * TIB);
    CHECK(overlay_next_dirty(o, 0) == 64 * TIB);
    CHECK_OK(overlay_zero(o, &base, 64 * TIB, 0, &e));
    CHECK_OK(overlay_pwrite(o, &base, "the end", 7, 64 * TIB - 7, &e));
    CHECK_OK(overlay_pread(o, &base, got, 8, 64 * TIB - 8, &e));
    CHECK(memcmp(got, "\0the end", 8) == 0);
    CHECK_FAILS(overlay_pread(o, &base, got, 8, 64 * TIB - 7, &e), ERR_FAILED);
    CHECK_FAILS(overlay_zero(o, &base, UINT64_MAX, 1, &e), ERR_FAILED);
    CHECK(overlay_dirty_bytes(o) == OVERLAY_BLOCK);
    overlay_close(o);
}

/* --- threads --- */

#define THREADS 8
#define ROUNDS 300
#define SHARED 4 /* blocks that all threads write to, each its own bytes of every block */

struct worker {
    struct overlay *o;
    const struct reader *base;
    unsigned number;
    pthread_t thread;
};

static void *write_own_bytes(void *arg)
{
    struct worker *w = arg;
    struct err err;
    uint8_t mine[OVERLAY_BLOCK / THREADS], got[OVERLAY_BLOCK / THREADS];
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t at = (uint64_t)(i % SHARED) * OVERLAY_BLOCK + w->number * sizeof mine;
        memset(mine, (int)(w->number * 31 + i), sizeof mine);
        if (overlay_pwrite(w->o, w->base, mine, sizeof mine, at, &err) < 0 ||
            overlay_pread(w->o, w->base, got, sizeof got, at, &err) < 0 ||
            memcmp(mine, got, sizeof mine) != 0)
            return w;
        if (i % 16 == w->number && overlay_flush(w->o, &err) < 0)
            return w;
        if (i % 64 == w->number && overlay_zero(w->o, w->base, MIB, MIB + w->number * 4096, &err) < 0)
            return w;
    }
    return NULL;
}

static void concurrent_writers_of_a_block_lose_nothing(void)
{
    struct model m;
    struct worker w[THREADS];
    model_init(&m, 4 * MIB);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.o = m.o, .base = &m.base, .number = i};
        CHECK(pthread_create(&w[i].thread, NULL, write_own_bytes, &w[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;
        CHECK(pthread_join(w[i].thread, &failed) == 0 && !failed);
    }
    for (unsigned i = ROUNDS - SHARED; i < ROUNDS; i++)
        for (unsigned t = 0; t < THREADS; t++)
            memset(m.bytes + (i % SHARED) * OVERLAY_BLOCK + t * (OVERLAY_BLOCK / THREADS), (int)(t * 31 + i),
                   OVERLAY_BLOCK / THREADS);
    memset(m.bytes + MIB, 0, MIB + (THREADS - 1) * 4096);
    compare_all(&m);
    m.o = reopen(m.o, m.dir);
    compare_all(&m);
    model_release(&m);
}

int main(void)
{
    UNIT(random_requests_match_an_array_of_bytes);
    UNIT(an_overlay_has_one_holder);
    UNIT(a_folder_without_meta_is_made_anew);
    UNIT(what_is_not_durable_ends_with_the_host);
    UNIT(a_request_larger_than_a_record);
    UNIT(a_damaged_meta_is_refused);
    UNIT(odd_files_hang_nobody);
    UNIT(a_map_with_a_hole);
    UNIT(a_flipped_byte_of_data_costs_one_block);
    UNIT(a_cut_leaves_what_was_vouched_for);
    UNIT(at_the_quota_a_write_fails_and_reads_go_on);
    UNIT(below_the_reserve_a_write_fails);
    UNIT(a_short_append_is_cut_off);
    UNIT(a_huge_trim_is_cheap);
    UNIT(the_largest_disk_to_its_last_byte);
    UNIT(concurrent_writers_of_a_block_lose_nothing);
    return 0;
}
