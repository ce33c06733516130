/* SPDX-License-Identifier: BSD-3-Clause */
/* The overlay when things go wrong: killed at every system call and at random moments, each call failing once, power
 * cut between flushes, syncs that fail. The calls are replaced below. */
#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/overlay-impl.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct err e;
static const struct overlay_limits no_limits;

/* --- the calls, with faults --- */

enum fault { FAULT_KILL, FAULT_ERROR };
static enum fault fault;
static int fault_errno;
static int fault_after; /* the call that faults, counted down; 0: none */
static bool fault_met;
static atomic_int syncs;
static atomic_int sync_delay_ms;

static bool faults_now(void)
{
    return fault_after > 0 && --fault_after == 0;
}

static int act(void)
{
    fault_met = true;
    if (fault == FAULT_KILL)
        kill(getpid(), SIGKILL);
    errno = fault_errno;
    return -1;
}

ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
{
    if (!faults_now())
        return syscall(SYS_pwrite64, fd, buf, count, offset);
    syscall(SYS_pwrite64, fd, buf, count / 2, offset); /* half of it gets there */
    return act();
}

int ftruncate(int fd, off_t size)
{
    return faults_now() ? act() : (int)syscall(SYS_ftruncate, fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    return faults_now() ? act() : (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

int fsync(int fd)
{
    return faults_now() ? act() : (int)syscall(SYS_fsync, fd);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return faults_now() ? act() : (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int fdatasync(int fd)
{
    syncs++;
    if (sync_delay_ms > 0)
        usleep((useconds_t)sync_delay_ms * 1000);
    return faults_now() ? act() : (int)syscall(SYS_fdatasync, fd);
}

/* --- a disk, and what it should read as, in memory that a child shares --- */

#define SIZE (256 * KIB + 100)

struct disk {
    bool made;      /* overlay_create returned */
    bool in_flight; /* the request below may be there, or not, block by block */
    bool zero;
    uint8_t value;
    uint64_t offset, count;
    uint8_t bytes[SIZE];
};

static int base_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *err)
{
    (void)ctx, (void)offset, (void)err;
    memset(buf, 0xba, count);
    return 0;
}
static const struct reader base = {NULL, SIZE, base_pread};

static struct disk *new_disk(void)
{
    struct disk *d = mmap(NULL, sizeof *d, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(d != MAP_FAILED);
    memset(d->bytes, 0xba, SIZE);
    return d;
}

static char *new_dir(void)
{
    static int n;
    return path_format("%s/overlay-%d", unit_dir(), n++);
}

static char *copy_of(const char *dir)
{
    char *copy = new_dir();
    cleanup(free) char *command = path_format("cp -r %s %s", dir, copy);
    CHECK(system(command) == 0);
    return copy;
}

static int make(const char *dir, struct overlay **ret)
{
    struct overlay_meta meta = {.size = SIZE, .durable = true};
    return overlay_create(dir, &meta, &no_limits, ret, &e);
}

static uint64_t random_state = 1;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

/* One random write or zero. Where it fails it stays in flight. */
static int request(struct overlay *o, struct disk *d)
{
    uint8_t buf[32 * KIB];
    d->offset = rnd(SIZE);
    d->count = 1 + rnd(min_u64(sizeof buf, SIZE - d->offset));
    if (rnd(2)) {
        d->offset = round_down(d->offset, OVERLAY_BLOCK);
        d->count = min_u64(round_up(d->count, OVERLAY_BLOCK) % sizeof buf + OVERLAY_BLOCK, SIZE - d->offset);
        d->count = min_u64(d->count, sizeof buf);
    }
    d->zero = rnd(4) == 0;
    d->value = d->zero ? 0 : (uint8_t)(1 + rnd(255));
    memset(buf, d->value, d->count);
    d->in_flight = true;
    atomic_signal_fence(memory_order_seq_cst);
    int r = d->zero ? overlay_zero(o, &base, d->count, d->offset, &e)
                    : overlay_pwrite(o, &base, buf, d->count, d->offset, &e);
    if (r < 0)
        return -1;
    memset(d->bytes + d->offset, d->value, d->count);
    atomic_signal_fence(memory_order_seq_cst);
    d->in_flight = false;
    return 0;
}

/* Every block is as acknowledged, or as the request in flight would leave it; what it is then, is the truth. */
static void compare(struct overlay *o, struct disk *d)
{
    cleanup(free) uint8_t *got = malloc(SIZE), *new = malloc(SIZE);
    CHECK_OK(overlay_pread(o, &base, got, SIZE, 0, &e));
    memcpy(new, d->bytes, SIZE);
    if (d->in_flight)
        memset(new + d->offset, d->value, d->count);
    for (uint64_t at = 0; at < SIZE; at += OVERLAY_BLOCK) {
        size_t len = (size_t)min_u64(OVERLAY_BLOCK, SIZE - at);
        CHECK(memcmp(got + at, d->bytes + at, len) == 0 || memcmp(got + at, new + at, len) == 0);
    }
    memcpy(d->bytes, got, SIZE);
    d->in_flight = false;
}

/* --- killed --- */

static void live(const char *dir, struct disk *d, int requests)
{
    struct overlay *o;
    if ((d->made ? overlay_open(dir, &no_limits, &o, &e) : make(dir, &o)) < 0)
        _exit(1);
    d->made = true;
    for (int i = 0; i != requests; i++)
        if (request(o, d) < 0 || (i % 5 == 4 && overlay_flush(o, &e) < 0))
            _exit(1);
    if (overlay_seal(o, &e) < 0)
        _exit(1);
    _exit(0);
}

static pid_t start(const char *dir, struct disk *d, int requests)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        live(dir, d, requests);
    return pid;
}

/* Data and map, whatever there is to gain. */
static int compact(struct overlay *o)
{
    o->map_slack = 0;
    o->map_floor = 0;
    return overlay_compact(o, NULL, &e);
}

static pid_t start_compacting(const char *dir, struct disk *d)
{
    pid_t pid = fork();
    struct overlay *o;
    CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    if (overlay_open(dir, &no_limits, &o, &e) < 0)
        _exit(1);
    for (int i = 0; i < 3; i++)
        if (compact(o) < 0 || request(o, d) < 0 || request(o, d) < 0 || overlay_flush(o, &e) < 0)
            _exit(1);
    _exit(0);
}

static bool was_killed(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

static void killed_at_any_call_nothing_acknowledged_is_lost(void)
{
    int call = 1;
    for (bool killed = true; killed; call++) {
        cleanup(free) char *dir = new_dir();
        struct disk *d = new_disk();
        struct overlay *o;
        fault = FAULT_KILL;
        fault_after = call;
        killed = was_killed(start(dir, d, 20));
        fault_after = 0;
        if (overlay_open(dir, &no_limits, &o, &e) < 0) {
            CHECK(!d->made && e.code == ERR_NOT_FOUND); /* all of it or nothing */
            CHECK_OK(make(dir, &o));
        }
        compare(o, d);
        if (!overlay_is_sealed(o)) {
            CHECK_OK(request(o, d));
            compare(o, d);
        }
        overlay_close(o);
        munmap(d, sizeof *d);
    }
    CHECK(call > 60);
    printf("# killed at %d calls\n", call - 2);
}

/* Of which segments of data are needed in part. */
static void fill_overlay(const char *dir, struct disk *d)
{
    struct overlay *o;
    CHECK_OK(make(dir, &o));
    d->made = true;
    for (int i = 0; i < 250; i++)
        CHECK_OK(request(o, d));
    CHECK(o->space.held > 2 * SEGMENT_BLOCKS);
    overlay_close(o);
}

static void killed_at_any_call_of_a_compaction_nothing_is_lost(void)
{
    cleanup(free) char *filled = new_dir();
    struct disk *first = new_disk(), *d = new_disk();
    struct overlay *o;
    fill_overlay(filled, first);
    int call = 1;
    for (bool killed = true; killed; call++) {
        cleanup(free) char *dir = copy_of(filled);
        *d = *first;
        fault = FAULT_KILL;
        fault_after = call;
        killed = was_killed(start_compacting(dir, d));
        fault_after = 0;
        for (int pass = 0; pass < 2; pass++) {
            CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
            compare(o, d);
            CHECK_OK(request(o, d));
            compare(o, d);
            CHECK_OK(compact(o));
            compare(o, d);
            overlay_close(o);
        }
        CHECK_OK(overlay_remove(dir, &e));
    }
    CHECK(call > 60);
    printf("# killed at %d calls\n", call - 2);
    munmap(first, sizeof *first);
    munmap(d, sizeof *d);
}

static void a_compaction_that_fails_loses_nothing(int errnum)
{
    cleanup(free) char *filled = new_dir();
    struct disk *first = new_disk(), *d = new_disk();
    struct overlay *o;
    fill_overlay(filled, first);
    fault = FAULT_ERROR;
    fault_errno = errnum;
    fault_met = true;
    for (int call = 1; fault_met; call++) {
        cleanup(free) char *dir = copy_of(filled);
        *d = *first;
        CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
        fault_met = false;
        fault_after = call;
        int r = compact(o);
        fault_after = 0;
        CHECK(fault_met || r == 0);
        compare(o, d);
        if (request(o, d) < 0) {
            CHECK(r < 0 && e.sys == EIO); /* a sync failed */
            d->in_flight = false;
        } else {
            CHECK_OK(compact(o));
            compare(o, d);
        }
        overlay_close(o);
        CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
        compare(o, d);
        overlay_close(o);
        CHECK_OK(overlay_remove(dir, &e));
    }
    munmap(first, sizeof *first);
    munmap(d, sizeof *d);
}

static void compactions_that_fail_lose_nothing(void)
{
    a_compaction_that_fails_loses_nothing(ENOSPC);
    a_compaction_that_fails_loses_nothing(EIO);
}

static void killed_again_and_again_nothing_acknowledged_is_lost(void)
{
    cleanup(free) char *dir = new_dir();
    struct disk *d = new_disk();
    struct overlay *o;
    random_state = (uint64_t)time(NULL) << 16 | (uint64_t)getpid();
    printf("# random seed %" PRIu64 "\n", random_state);
    for (int round = 0; round < 25; round++) {
        pid_t pid = start(dir, d, -1);
        while (!d->made)
            usleep(100);
        usleep((useconds_t)rnd(20000));
        CHECK(kill(pid, SIGKILL) == 0 && was_killed(pid));
        CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
        compare(o, d);
        overlay_close(o);
        rnd(2); /* another sequence in the next child */
    }
    munmap(d, sizeof *d);
}

/* --- failing calls --- */

/* Requests go on after one failed; only a failed sync ends them. */
static void live_with_errors(struct overlay *o, struct disk *d)
{
    for (int i = 0; i < 20; i++) {
        if (request(o, d) < 0) {
            CHECK(fault_met && e.sys == fault_errno);
            compare(o, d);
        }
        if (i % 5 == 4 && overlay_flush(o, &e) < 0) {
            CHECK(fault_met && e.sys == EIO);
            CHECK(request(o, d) < 0 && e.sys == EIO);
            d->in_flight = false;
            CHECK(overlay_flush(o, &e) < 0 && e.sys == EIO);
            CHECK(overlay_seal(o, &e) < 0 && e.sys == EIO);
            return;
        }
    }
}

static void errors_at_every_call(int errnum)
{
    fault_met = true;
    fault = FAULT_ERROR;
    fault_errno = errnum;
    for (int call = 1; fault_met; call++) {
        cleanup(free) char *dir = new_dir();
        struct disk *d = new_disk();
        struct overlay *o;
        CHECK_OK(make(dir, &o));
        fault_met = false;
        fault_after = call;
        live_with_errors(o, d);
        fault_after = 0;
        compare(o, d);
        overlay_close(o);
        CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
        compare(o, d);
        overlay_close(o);
        munmap(d, sizeof *d);
    }
}

static void each_failing_call_fails_one_request(void)
{
    errors_at_every_call(ENOSPC);
    errors_at_every_call(EIO);
}

static void a_create_that_fails_leaves_nothing(void)
{
    cleanup(free) char *dir = new_dir();
    struct overlay *o;
    fault = FAULT_ERROR;
    fault_errno = ENOSPC;
    int call = 1;
    for (;; call++) {
        fault_after = call;
        int r = make(dir, &o);
        fault_after = 0;
        if (r == 0)
            break;
        CHECK(e.sys == ENOSPC && !path_exists(dir));
    }
    CHECK(call > 5);
    overlay_close(o);
}

/* --- power cuts --- */

static uint64_t file_size(const char *dir, const char *name)
{
    cleanup(free) char *path = path_format("%s/%s", dir, name);
    struct stat st;
    CHECK(stat(path, &st) == 0);
    return (uint64_t)st.st_size;
}

/* From `synced` on, the file may hold anything: it is cut, or pages of it are zero or hold other bytes. */
static void damage(const char *dir, const char *name, uint64_t synced, uint64_t size)
{
    cleanup(free) char *path = path_format("%s/%s", dir, name);
    cleanup(close) int fd = open(path, O_RDWR);
    uint8_t page[512];
    CHECK(fd >= 0 && size >= synced);
    if (rnd(3) == 0)
        CHECK(ftruncate(fd, (off_t)(synced + rnd(size - synced + 1))) == 0);
    for (uint64_t n = rnd(3); n > 0 && size > synced; n--) {
        uint64_t at = synced + rnd(size - synced);
        memset(page, rnd(2) ? 0 : (int)rnd(256), sizeof page);
        CHECK_OK(full_pwrite(fd, page, rnd(2) ? 1 : sizeof page, at, &e));
    }
}

#define AFTER 12 /* requests after the last flush */

/* A request with unaligned ends is up to three records: some of its blocks may be there. */
static bool is_between(const uint8_t *got, const uint8_t *before, const uint8_t *after)
{
    for (uint64_t at = 0; at < SIZE; at += OVERLAY_BLOCK) {
        size_t len = (size_t)min_u64(OVERLAY_BLOCK, SIZE - at);
        if (memcmp(got + at, before + at, len) != 0 && memcmp(got + at, after + at, len) != 0)
            return false;
    }
    return true;
}

static bool is_one_of(const uint8_t *got, uint8_t (*states)[SIZE])
{
    for (int i = 0; i < AFTER; i++)
        if (is_between(got, states[i], states[i + 1]))
            return true;
    return false;
}

/* What a power cut leaves reads as the disk was at some moment, none before the last flush. */
static void cut_power(const char *dir, uint8_t (*states)[SIZE], uint64_t map_synced, uint64_t data_synced,
                      uint64_t map_end)
{
    cleanup(free) char *copy = copy_of(dir);
    cleanup(free) uint8_t *got = malloc(SIZE);
    struct overlay *o;
    damage(copy, "map", map_synced, map_end);
    damage(copy, "data", data_synced, file_size(copy, "data"));
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(overlay_open(copy, &no_limits, &o, &e));
        CHECK_OK(overlay_pread(o, &base, got, SIZE, 0, &e));
        CHECK(is_one_of(got, states));
        overlay_close(o);
    }
    CHECK_OK(overlay_remove(copy, &e));
}

static void after_a_power_cut_flushed_writes_are_there(void)
{
    struct disk *d = new_disk();
    uint8_t(*states)[SIZE] = malloc((AFTER + 1) * SIZE);
    struct overlay *o;
    for (int round = 0; round < 6; round++) {
        cleanup(free) char *dir = new_dir();
        memset(d->bytes, 0xba, SIZE);
        CHECK_OK(make(dir, &o));
        for (int i = 0; i < 10; i++)
            CHECK_OK(request(o, d));
        uint64_t data_synced = file_size(dir, "data"), map_synced = overlay_stored_bytes(o) - data_synced;
        CHECK_OK(overlay_flush(o, &e)); /* its SYNC itself may be lost */
        for (int i = 0; i <= AFTER; i++) {
            memcpy(states[i], d->bytes, SIZE);
            if (i < AFTER)
                CHECK_OK(request(o, d));
        }
        uint64_t map_end = overlay_stored_bytes(o) - file_size(dir, "data");
        overlay_close(o);
        for (int i = 0; i < 25; i++)
            cut_power(dir, states, map_synced, data_synced, map_end);
    }
    free(states);
    munmap(d, sizeof *d);
}

static void a_damaged_map_before_a_sync_is_refused(void)
{
    cleanup(free) char *dir = new_dir();
    cleanup(free) char *path = path_format("%s/map", dir);
    struct disk *d = new_disk();
    struct overlay *o;
    uint8_t b;
    CHECK_OK(make(dir, &o));
    for (int i = 0; i < 10; i++)
        CHECK_OK(request(o, d));
    uint64_t end = overlay_stored_bytes(o) - file_size(dir, "data");
    CHECK_OK(overlay_flush(o, &e));
    overlay_close(o);
    cleanup(close) int fd = open(path, O_RDWR);
    for (uint64_t at = 0; at < end; at += 7) {
        CHECK_OK(full_pread(fd, &b, 1, at, &e));
        b ^= 1;
        CHECK_OK(full_pwrite(fd, &b, 1, at, &e));
        CHECK_FAILS(overlay_open(dir, &no_limits, &o, &e), ERR_CORRUPT);
        b ^= 1;
        CHECK_OK(full_pwrite(fd, &b, 1, at, &e));
    }
    CHECK_OK(overlay_open(dir, &no_limits, &o, &e));
    compare(o, d);
    overlay_close(o);
    munmap(d, sizeof *d);
}

/* --- syncs --- */

static void *write_and_flush(void *arg)
{
    struct err err;
    for (uint64_t i = 0; i < 10; i++)
        if (overlay_pwrite(arg, &base, "x", 1, i * OVERLAY_BLOCK, &err) < 0 || overlay_flush(arg, &err) < 0)
            return arg;
    return NULL;
}

static void flushes_share_a_sync(void)
{
    cleanup(free) char *dir = new_dir();
    struct overlay *o;
    pthread_t threads[16];
    CHECK_OK(make(dir, &o));
    syncs = 0;
    sync_delay_ms = 2;
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        CHECK(pthread_create(&threads[i], NULL, write_and_flush, o) == 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *failed;
        CHECK(pthread_join(threads[i], &failed) == 0 && !failed);
    }
    sync_delay_ms = 0;
    printf("# 160 flushes, %d syncs of 2 files\n", syncs / 2);
    CHECK(syncs < 160);
    syncs = 0;
    CHECK_OK(overlay_flush(o, &e));
    CHECK(syncs == 0); /* nothing was written since */
    CHECK_OK(overlay_pwrite(o, &base, "y", 1, 0, &e));
    CHECK_OK(overlay_flush(o, &e));
    CHECK(syncs == 2); /* data and map */
    CHECK_OK(overlay_seal(o, &e));
    CHECK(syncs == 3); /* the SEAL */
    overlay_close(o);
}

int main(void)
{
    UNIT(killed_at_any_call_nothing_acknowledged_is_lost);
    UNIT(killed_at_any_call_of_a_compaction_nothing_is_lost);
    UNIT(compactions_that_fail_lose_nothing);
    UNIT(killed_again_and_again_nothing_acknowledged_is_lost);
    UNIT(each_failing_call_fails_one_request);
    UNIT(a_create_that_fails_leaves_nothing);
    UNIT(after_a_power_cut_flushed_writes_are_there);
    UNIT(a_damaged_map_before_a_sync_is_refused);
    UNIT(flushes_share_a_sync);
    return 0;
}
