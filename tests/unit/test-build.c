/* SPDX-License-Identifier: BSD-3-Clause */

/* Layers against a model: a disk in memory is changed at random and imported generation by generation, and
 * every version must read back as the disk was. Then the failures: each must leave no rubbish. */

#include "lib/base/cleanup.h"
#include "lib/store/build.h"
#include "lib/store/import.h"
#include "tests/unit/disk.h"
#include "tests/unit/unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << CHUNK_SHIFT_MIN) /* the smallest, so that leaves are 2 MiB */
#define LEAF (CHUNK * LEAF_CHUNKS)

static struct err e;
static struct store *store;
static struct uuid image;
static uint64_t last_version;

/* The disk as a file, with holes where pages are zero. */
static int disk_file(const struct disk *d)
{
    cleanup(free) char *path = path_format("%s/disk.raw", unit_dir());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)d->size) == 0);
    for (size_t at = 0; at < d->size; at += 4096) {
        size_t len = min_u64(4096, d->size - at);
        if (!all_zero(d->data + at, len))
            CHECK_OK(full_pwrite(fd, d->data + at, len, at, &e));
    }
    return fd;
}

struct pipe_writer {
    const struct disk *disk;
    int fd;
};

static void *write_pipe(void *arg)
{
    const struct pipe_writer *w = arg;
    struct err own;
    if (full_write(w->fd, w->disk->data, w->disk->size, &own) < 0 && own.sys != EPIPE)
        abort();
    close(w->fd);
    return NULL;
}

/* Imports */

static struct build_options options(struct view *parent, enum codec codec, unsigned threads)
{
    return (struct build_options){.image = image,
                                  .parent = parent,
                                  .chunk_shift = CHUNK_SHIFT_MIN,
                                  .compression = {codec, codec != CODEC_RAW},
                                  .threads = threads};
}

static int import_file(const struct disk *d, const struct build_options *o, struct build **ret,
                       struct build_result *ret_result)
{
    cleanup(close) int fd = disk_file(d);
    return import_raw(store, fd, "disk.raw", o, ret, ret_result, &e);
}

static int import_pipe(const struct disk *d, const struct build_options *o, struct build **ret,
                       struct build_result *ret_result)
{
    int ends[2];
    pthread_t thread;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    struct pipe_writer w = {d, ends[1]};
    CHECK(pthread_create(&thread, NULL, write_pipe, &w) == 0);
    int r = import_raw(store, ends[0], "stream", o, ret, ret_result, &e);
    close(ends[0]);
    pthread_join(thread, NULL);
    return r;
}

static struct view *publish(struct build *b)
{
    struct view *v;
    CHECK_OK(build_publish(b, ++last_version, &e));
    build_free(b);
    CHECK_OK(view_open(store, &image, last_version, &v, &e));
    return v;
}

static unsigned files_in_tmp(void)
{
    char text[UUID_TEXT_SIZE];
    unsigned count = 0;
    cleanup(free) char *path = path_format("%s/%s/tmp", store_images_dir(store), uuid_to_text(&image, text));
    cleanup(closedir) DIR *dir = opendir(path);
    CHECK(dir);
    for (struct dirent *n; (n = readdir(dir));)
        count += n->d_name[0] != '.';
    return count;
}

static void expect_disk(struct view *v, const struct disk *d)
{
    CHECK(view_footer(v)->virtual_size == d->size);
    cleanup(free) uint8_t *got = malloc(d->size);
    CHECK(got);
    CHECK_OK(view_pread(v, 0, got, d->size, 0, &e));
    CHECK(memcmp(got, d->data, d->size) == 0);
}

static void start_image(void)
{
    uuid_make(&image);
    CHECK_OK(store_make_image(store, &image, &e));
}

/* Stories */

static void all_sizes_read_back(void)
{
    static const size_t sizes[] = {1,           4095,     4096, CHUNK - 1, CHUNK,    CHUNK + 1,
                                   3 * CHUNK,   LEAF - 1, LEAF, LEAF + 1,  2 * LEAF, 2 * LEAF + CHUNK,
                                   5 * LEAF - 7};
    start_image();
    for (unsigned codec = CODEC_RAW; codec <= CODEC_GZIP; codec++)
        for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
            for (unsigned stream = 0; stream < 2; stream++) {
                struct disk d = {0};
                struct build *b;
                struct build_result result;
                disk_resize(&d, sizes[i]);
                disk_change(&d, 8, sizes[i]);
                d.data[d.size - 1] = 1;
                struct build_options o = options(NULL, (enum codec)codec, 2);
                CHECK_OK((stream ? import_pipe : import_file)(&d, &o, &b, &result));
                CHECK(result.virtual_size == d.size);
                struct view *v = publish(b);
                expect_disk(v, &d);
                view_close(v);
                disk_free(&d);
            }
    CHECK(files_in_tmp() == 0);
}

static void generation(struct disk *d, struct view **v, enum codec codec, unsigned number)
{
    struct build *b;
    struct build_result first, result;
    bool stream = number % 3 == 2;
    struct build_options o = options(*v, codec, 1 + number % 3);
    CHECK_OK((stream ? import_pipe : import_file)(d, &o, &b, &result));
    struct view *next = publish(b);
    expect_disk(next, d);
    view_close(*v);
    *v = next;
    /* The same disk without a parent has the same checksum. */
    o = options(NULL, CODEC_ZSTD, 2);
    CHECK_OK(import_file(d, &o, &b, &first));
    CHECK(memcmp(first.checksum, result.checksum, CHECKSUM_SIZE) == 0);
    CHECK(memcmp(first.checksum, view_footer(next)->checksum, CHECKSUM_SIZE) == 0);
    build_free(b);
}

static void generations_read_back(enum codec codec)
{
    struct disk d = {0};
    struct view *v = NULL;
    start_image();
    disk_resize(&d, 3 * LEAF + 12345);
    for (unsigned number = 0; number < 24; number++) {
        disk_change(&d, 1 + (unsigned)(disk_random() % 6), number % 4 ? 3 * CHUNK : LEAF);
        generation(&d, &v, codec, number);
        if (number % 3 == 1)
            disk_resize(&d, 1 + disk_random() % (5 * LEAF));
        if (number % 7 == 6)
            disk_resize(&d, round_up(d.size, LEAF));
    }
    view_close(v);
    disk_free(&d);
    CHECK(files_in_tmp() == 0);
}

static void generations_of_zstd_read_back(void)
{
    generations_read_back(CODEC_ZSTD);
}

static void generations_of_gzip_read_back(void)
{
    generations_read_back(CODEC_GZIP);
}

static void generations_of_none_read_back(void)
{
    generations_read_back(CODEC_RAW);
}

static void an_old_version_stays_as_it_was(void)
{
    struct disk d = {0};
    struct build *b;
    struct build_result result;
    start_image();
    disk_resize(&d, 2 * LEAF);
    disk_scribble(&d, 0, d.size);
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    CHECK_OK(import_file(&d, &o, &b, &result));
    struct view *first = publish(b);
    struct disk changed = {0};
    disk_resize(&changed, d.size);
    memcpy(changed.data, d.data, d.size);
    disk_change(&changed, 20, CHUNK);
    o.parent = first;
    CHECK_OK(import_file(&changed, &o, &b, &result));
    struct view *second = publish(b);
    expect_disk(second, &changed);
    expect_disk(first, &d);
    view_close(second);
    view_close(first);
    disk_free(&d);
    disk_free(&changed);
}

static void kept_chunks_cost_nothing(void)
{
    struct disk d = {0};
    struct build *b;
    struct build_result result;
    start_image();
    disk_resize(&d, 4 * LEAF);
    disk_scribble(&d, 0, d.size);
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    CHECK_OK(import_file(&d, &o, &b, &result));
    CHECK(result.new_chunks == 4 * LEAF_CHUNKS && result.kept_chunks == 0);
    struct view *v = publish(b);
    o.parent = v;
    CHECK_OK(import_file(&d, &o, &b, &result));
    CHECK(result.new_chunks == 0 && result.kept_chunks == 4 * LEAF_CHUNKS && result.frame_bytes == 0);
    CHECK(result.file_length == 4 * ROOT_ENTRY_SIZE + TABLE_ENTRY_SIZE + FOOTER_SIZE); /* no leaf either */
    build_free(b);
    d.data[LEAF + 5] ^= 1;
    CHECK_OK(import_file(&d, &o, &b, &result));
    CHECK(result.new_chunks == 1 && result.frame_bytes <= CHUNK);
    struct view *second = publish(b);
    expect_disk(second, &d);
    CHECK(memcmp(view_root(second), view_root(v), ROOT_ENTRY_SIZE) == 0);
    CHECK(memcmp(view_root(second) + 2 * ROOT_ENTRY_SIZE, view_root(v) + 2 * ROOT_ENTRY_SIZE,
                 2 * ROOT_ENTRY_SIZE) == 0);
    view_close(second);
    view_close(v);
    disk_free(&d);
}

static void a_base_of_none_is_a_raw_disk(void)
{
    struct disk d = {0};
    struct build *b;
    struct build_result result;
    struct stat st;
    char text[UUID_TEXT_SIZE];
    start_image();
    disk_resize(&d, 4 * LEAF + 99);
    disk_scribble(&d, LEAF + 3 * CHUNK, 2 * CHUNK);
    d.data[d.size - 1] = 7;
    struct build_options o = options(NULL, CODEC_RAW, 2);
    CHECK_OK(import_file(&d, &o, &b, &result));
    view_close(publish(b));
    cleanup(free) char *path = path_format("%s/%s/%llu.img", store_images_dir(store),
                                           uuid_to_text(&image, text), (unsigned long long)last_version);
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    CHECK((st.st_mode & 07777) == 0640);
    CHECK((uint64_t)st.st_blocks * 512 < LEAF); /* sparse */
    cleanup(free) uint8_t *got = malloc(d.size);
    CHECK(got);
    CHECK_OK(full_pread(fd, got, d.size, 0, &e));
    CHECK(memcmp(got, d.data, d.size) == 0);
    disk_free(&d);
}

static void an_empty_part_costs_a_root_entry(void)
{
    cleanup(free) char *path = path_format("%s/huge.raw", unit_dir());
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct build *b;
    struct build_result result;
    uint64_t size = 100 * GIB;
    start_image();
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    CHECK_OK(full_pwrite(fd, "x", 1, 70 * GIB + 5, &e));
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    o.chunk_shift = CHUNK_SHIFT_DEFAULT;
    CHECK_OK(import_raw(store, fd, "huge.raw", &o, &b, &result, &e));
    CHECK(result.new_chunks == 1);
    CHECK(result.file_length <
          leaves_of(size, o.chunk_shift) * ROOT_ENTRY_SIZE + LEAF_SIZE + FOOTER_SIZE + 8192);
    struct view *v = publish(b);
    uint8_t got[2];
    CHECK_OK(view_pread(v, 0, got, 2, 70 * GIB + 4, &e));
    CHECK(got[0] == 0 && got[1] == 'x');
    view_close(v);
}

static void the_checksum_is_the_same_for_any_number_of_threads(void)
{
    struct disk d = {0};
    struct build *b;
    struct build_result one, more;
    start_image();
    disk_resize(&d, 6 * LEAF);
    disk_change(&d, 40, LEAF / 2);
    struct build_options o = options(NULL, CODEC_ZSTD, 1);
    CHECK_OK(import_file(&d, &o, &b, &one));
    build_free(b);
    for (unsigned threads = 2; threads < 6; threads++) {
        o.threads = threads;
        CHECK_OK(import_file(&d, &o, &b, &more));
        CHECK(memcmp(one.checksum, more.checksum, CHECKSUM_SIZE) == 0);
        CHECK(one.frame_bytes == more.frame_bytes && one.file_length == more.file_length);
        build_free(b);
    }
    disk_free(&d);
    CHECK(files_in_tmp() == 0);
}

/* Failures */

static struct disk some_disk(void)
{
    struct disk d = {0};
    start_image();
    disk_resize(&d, 4 * LEAF);
    disk_scribble(&d, 0, d.size);
    return d;
}

static void an_empty_input_is_refused(void)
{
    struct build *b;
    struct build_result result;
    struct disk d = {0};
    start_image();
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_FAILED);
    CHECK_FAILS(import_pipe(&d, &o, &b, &result), ERR_FAILED);
    CHECK(files_in_tmp() == 0);
}

static void wrong_options_are_refused(void)
{
    struct build *b;
    struct build_result result;
    struct disk d = some_disk();
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    o.compression.level = 99;
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_USAGE);
    o = options(NULL, CODEC_GZIP, 2);
    o.compression.level = 13;
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_USAGE);
    o = options(NULL, CODEC_ZERO, 2);
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_USAGE);
    o = options(NULL, CODEC_ZSTD, 2);
    o.chunk_shift = CHUNK_SHIFT_MAX + 1;
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_USAGE);
    o.chunk_shift = CHUNK_SHIFT_MIN;
    CHECK_OK(import_file(&d, &o, &b, &result));
    o.parent = publish(b);
    o.chunk_shift = CHUNK_SHIFT_MAX;
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_USAGE);
    view_close(o.parent);
    disk_free(&d);
    CHECK(files_in_tmp() == 0);
}

static void a_disk_too_large_is_refused(void)
{
    cleanup(free) char *path = path_format("%s/large.raw", unit_dir());
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct build *b;
    struct build_result result;
    start_image();
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    if (ftruncate(fd, (off_t)(VIRTUAL_SIZE_MAX + 1)) < 0)
        return; /* this file system has no such files: nobody can import one from it */
    CHECK_FAILS(import_raw(store, fd, "large.raw", &o, &b, &result, &e), ERR_FAILED);
    CHECK(files_in_tmp() == 0);
}

static bool refuse(void *ctx, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    ++*(unsigned *)ctx;
    return false;
}

static void an_interrupted_import_leaves_nothing(void)
{
    unsigned calls = 0;
    struct build *b;
    struct build_result result;
    struct disk d = some_disk();
    struct build_options o = options(NULL, CODEC_ZSTD, 3);
    o.progress = (struct progress){refuse, &calls};
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_FAILED);
    CHECK_STR(e.msg, "interrupted");
    CHECK_FAILS(import_pipe(&d, &o, &b, &result), ERR_FAILED);
    CHECK(files_in_tmp() == 0);
    disk_free(&d);
}

/* A pipe that stays open and gives nothing. */
static void a_stalled_stream_can_be_interrupted(void)
{
    unsigned calls = 0;
    int ends[2];
    struct build *b;
    struct build_result result;
    start_image();
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    CHECK(write(ends[1], "some data", 9) == 9);
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    o.progress = (struct progress){refuse, &calls};
    CHECK_FAILS(import_raw(store, ends[0], "stream", &o, &b, &result, &e), ERR_FAILED);
    CHECK_STR(e.msg, "interrupted");
    CHECK(calls == 1 && files_in_tmp() == 0);
    close(ends[0]);
    close(ends[1]);
}

struct progress_log {
    uint64_t done, total;
    bool backwards;
};

static bool record(void *ctx, uint64_t done, uint64_t total)
{
    struct progress_log *p = ctx;
    p->backwards |= done < p->done;
    p->done = done;
    p->total = total;
    return true;
}

static void progress_ends_at_its_total(void)
{
    struct build *b;
    struct build_result result;
    struct progress_log p = {0};
    struct disk d = some_disk();
    memset(d.data + LEAF, 0, LEAF + 1);
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    o.progress = (struct progress){record, &p};
    CHECK_OK(import_file(&d, &o, &b, &result));
    build_free(b);
    CHECK(!p.backwards && p.done == d.size && p.total == d.size);
    p = (struct progress_log){0};
    CHECK_OK(import_pipe(&d, &o, &b, &result));
    build_free(b);
    CHECK(!p.backwards && p.done == d.size && p.total == 0);
    disk_free(&d);
}

static int shrinking_fd;

static bool shrink(void *ctx, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return ftruncate(shrinking_fd, *(off_t *)ctx) == 0;
}

static void a_file_that_shrinks_is_refused(void)
{
    struct build *b;
    struct build_result result;
    struct disk d = some_disk();
    disk_resize(&d, 40 * LEAF);
    disk_scribble(&d, 30 * LEAF, 10 * LEAF); /* compressing it takes longer than until the first report */
    off_t sizes[] = {CHUNK + 77, 0, 35 * LEAF};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        cleanup(close) int fd = shrinking_fd = disk_file(&d);
        struct build_options o = options(NULL, CODEC_ZSTD, 1);
        o.compression.level = 1;
        o.progress = (struct progress){shrink, &sizes[i]};
        CHECK_FAILS(import_raw(store, fd, "disk.raw", &o, &b, &result, &e), ERR_FAILED);
        CHECK_STR(e.msg, "disk.raw: truncated while being read");
        CHECK(files_in_tmp() == 0);
    }
    disk_free(&d);
}

static void a_reserve_that_is_not_there_is_no_space(void)
{
    struct build *b;
    struct build_result result;
    struct disk d = some_disk();
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    o.reserve = UINT64_C(1) << 60;
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_FAILED);
    CHECK(e.sys == ENOSPC);
    o = options(NULL, CODEC_RAW, 2);
    o.reserve = UINT64_C(1) << 60;
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_FAILED);
    CHECK(e.sys == ENOSPC);
    CHECK(files_in_tmp() == 0);
    disk_free(&d);
}

static void set_file_limit(rlim_t limit)
{
    struct rlimit r;
    CHECK(getrlimit(RLIMIT_FSIZE, &r) == 0);
    r.rlim_cur = limit;
    CHECK(setrlimit(RLIMIT_FSIZE, &r) == 0);
}

/* Every limit is one more place where a write fails: in the frames, the leaves, the root, the table, the
 * footer. */
static void a_failing_write_leaves_nothing(void)
{
    struct build *b;
    struct build_result result;
    struct disk d = some_disk();
    struct build_options o = options(NULL, CODEC_ZSTD, 1);
    CHECK_OK(import_file(&d, &o, &b, &result));
    uint64_t length = result.file_length;
    build_free(b);
    cleanup(close) int fd = disk_file(&d);
    signal(SIGXFSZ, SIG_IGN);
    for (uint64_t limit = 1; limit < length; limit += limit + 20000 < length ? length / 8 : 500) {
        set_file_limit(limit);
        int r = import_raw(store, fd, "disk.raw", &o, &b, &result, &e);
        CHECK(r < 0 || limit >= length - FOOTER_SIZE);
        if (r == 0) {
            CHECK_FAILS(build_publish(b, last_version + 1, &e), ERR_FAILED);
            CHECK(files_in_tmp() == 1);
            build_free(b);
        }
        CHECK(e.sys == EFBIG && files_in_tmp() == 0);
    }
    set_file_limit(RLIM_INFINITY);
    disk_free(&d);
}

static bool die(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)done;
    (void)total;
    kill(getpid(), SIGKILL);
    return true;
}

static void a_killed_import_is_cleaned_away(void)
{
    struct disk d = some_disk();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct build *b;
        struct build_result result;
        struct build_options o = options(NULL, CODEC_ZSTD, 2);
        o.progress = (struct progress){die, NULL};
        _exit(import_file(&d, &o, &b, &result) == 0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    CHECK(files_in_tmp() == 1);
    CHECK_OK(store_clean_tmp(store, &e));
    CHECK(files_in_tmp() == 0 && !store_has_version(store, &image, last_version + 1));
    disk_free(&d);
}

/* An import over a parent needs the parent's leaves. */
static void a_damaged_parent_stops_the_import(void)
{
    struct build *b;
    struct build_result result;
    struct disk d = some_disk();
    char text[UUID_TEXT_SIZE];
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    CHECK_OK(import_file(&d, &o, &b, &result));
    o.parent = publish(b);
    cleanup(free) char *path = path_format("%s/%s/%llu.img", store_images_dir(store),
                                           uuid_to_text(&image, text), (unsigned long long)last_version);
    cleanup(close) int fd = open(path, O_WRONLY | O_CLOEXEC);
    uint64_t leaf = get_le64(view_root(o.parent) + 2 * ROOT_ENTRY_SIZE);
    CHECK_OK(full_pwrite(fd, "damaged", 7, leaf + 100, &e));
    CHECK_FAILS(import_file(&d, &o, &b, &result), ERR_CORRUPT);
    CHECK(e.sys == EIO && files_in_tmp() == 0);
    view_close(o.parent);
    disk_free(&d);
}

static void a_version_is_never_replaced(void)
{
    struct build *b;
    struct build_result result;
    struct disk d = some_disk(), other = {0};
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    CHECK_OK(import_file(&d, &o, &b, &result));
    struct view *v = publish(b);
    disk_resize(&other, 5);
    other.data[0] = 1;
    CHECK_OK(import_file(&other, &o, &b, &result));
    CHECK_FAILS(build_publish(b, last_version, &e), ERR_STATE);
    CHECK(files_in_tmp() == 1);
    struct view *second = publish(b); /* as it is in tmp/ still, it can have another number */
    expect_disk(second, &other);
    expect_disk(v, &d);
    o.parent = second;
    CHECK_OK(import_file(&d, &o, &b, &result));
    CHECK_FAILS(build_publish(b, last_version, &e), ERR_STATE); /* not above its parent */
    build_free(b);
    view_close(second);
    view_close(v);
    CHECK(files_in_tmp() == 0);
    disk_free(&d);
    disk_free(&other);
}

static void cleaning_leaves_live_builds_alone(void)
{
    struct build *b;
    struct build_result result;
    struct disk d = some_disk();
    struct build_options o = options(NULL, CODEC_ZSTD, 2);
    CHECK_OK(import_file(&d, &o, &b, &result));
    CHECK_OK(store_clean_tmp(store, &e));
    CHECK(files_in_tmp() == 1);
    struct view *v = publish(b);
    expect_disk(v, &d);
    view_close(v);
    disk_free(&d);
}

int main(void)
{
    cleanup(free) char *images = path_format("%s/images", unit_dir());
    CHECK_OK(make_dirs(images, 0700, &e));
    CHECK_OK(store_open(images, 4 * MIB, &store, &e));
    signal(SIGPIPE, SIG_IGN);
    UNIT(all_sizes_read_back);
    UNIT(generations_of_zstd_read_back);
    UNIT(generations_of_gzip_read_back);
    UNIT(generations_of_none_read_back);
    UNIT(an_old_version_stays_as_it_was);
    UNIT(kept_chunks_cost_nothing);
    UNIT(a_base_of_none_is_a_raw_disk);
    UNIT(an_empty_part_costs_a_root_entry);
    UNIT(the_checksum_is_the_same_for_any_number_of_threads);
    UNIT(an_empty_input_is_refused);
    UNIT(wrong_options_are_refused);
    UNIT(a_disk_too_large_is_refused);
    UNIT(an_interrupted_import_leaves_nothing);
    UNIT(a_stalled_stream_can_be_interrupted);
    UNIT(progress_ends_at_its_total);
    UNIT(a_file_that_shrinks_is_refused);
    UNIT(a_reserve_that_is_not_there_is_no_space);
    UNIT(a_failing_write_leaves_nothing);
    UNIT(a_killed_import_is_cleaned_away);
    UNIT(a_damaged_parent_stops_the_import);
    UNIT(a_version_is_never_replaced);
    UNIT(cleaning_leaves_live_builds_alone);
    store_close(store);
    return 0;
}
