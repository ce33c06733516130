/* SPDX-License-Identifier: BSD-3-Clause */

/* Overlays that become versions, against a disk in memory. */

#include "lib/base/cleanup.h"
#include "lib/store/commit.h"
#include "lib/store/import.h"
#include "tests/unit/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

static struct err e;
static struct store *store;
static struct uuid image;
static uint64_t last_version;
static const struct overlay_limits no_limits;

static struct view *publish(struct build *b)
{
    struct view *v;
    CHECK_OK(build_publish(b, ++last_version, &e));
    build_free(b);
    CHECK_OK(view_open(store, &image, last_version, &v, &e));
    return v;
}

static int disk_file(const struct disk *d, uint64_t size)
{
    cleanup(free) char *path = path_format("%s/disk.raw", unit_dir());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    CHECK_OK(full_pwrite(fd, d->data, d->size, 0, &e));
    return fd;
}

/* The first version of a new image: d, and zeroes up to `size`. */
static struct view *first_version(const struct disk *d, uint64_t size, unsigned chunk_shift, enum codec codec)
{
    struct build *b;
    struct build_result result;
    uuid_make(&image);
    CHECK_OK(store_make_image(store, &image, &e));
    struct build_options o = {
        .image = image, .chunk_shift = chunk_shift, .compression = {codec, codec != CODEC_RAW}};
    cleanup(close) int fd = disk_file(d, size);
    CHECK_OK(import_raw(store, fd, "disk.raw", &o, &b, &result, &e));
    return publish(b);
}

static const struct compression zstd_1 = {CODEC_ZSTD, 1};

static char *overlay_dir(void)
{
    static unsigned count;
    return path_format("%s/overlay-%u", unit_dir(), count++);
}

static struct overlay *new_overlay(struct view *base)
{
    const struct footer *f = view_footer(base);
    struct overlay_meta meta = {
        .image = image, .base_version = f->version, .base_layer = f->layer, .size = f->virtual_size};
    struct overlay *o;
    cleanup(free) char *dir = overlay_dir();
    CHECK_OK(overlay_create(dir, &meta, &no_limits, &o, &e));
    return o;
}

static struct view *commit(struct overlay *o, struct view *base, struct build_result *ret_result)
{
    struct build *b;
    CHECK_OK(overlay_seal(o, &e));
    CHECK_OK(commit_overlay(store, o, base, zstd_1, NULL, &b, ret_result, &e));
    return publish(b);
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

static void write_at_random(struct overlay *o, const struct reader *base, struct disk *d)
{
    size_t offset = disk_random() % d->size, len = 1 + disk_random() % (600 * KIB);
    len = min_u64(len, d->size - offset);
    if (disk_random() % 3 == 0) {
        memset(d->data + offset, 0, len);
        CHECK_OK(overlay_zero(o, base, len, offset, &e));
    } else {
        disk_scribble(d, offset, len);
        CHECK_OK(overlay_pwrite(o, base, d->data + offset, len, offset, &e));
    }
}

static void generations_read_back(unsigned chunk_shift, enum codec codec)
{
    struct disk d = {0};
    struct build_result result;
    disk_resize(&d, 5 * MIB * (chunk_shift - 12) + 4321);
    disk_change(&d, 12, MIB);
    struct view *v = first_version(&d, d.size, chunk_shift, codec);
    for (unsigned number = 0; number < 8; number++) {
        struct overlay *o = new_overlay(v);
        const struct reader base = view_reader(v);
        for (unsigned i = 0; i < number * 3; i++)
            write_at_random(o, &base, &d);
        struct view *next = commit(o, v, &result);
        CHECK(uuid_equal(&view_footer(next)->overlay, &overlay_meta(o)->overlay));
        CHECK(view_footer(next)->parent_version == view_footer(v)->version);
        expect_disk(next, &d);
        overlay_close(o);
        view_close(v);
        v = next;
    }
    view_close(v);
    disk_free(&d);
    CHECK(files_in_tmp() == 0);
}

static void generations_of_small_chunks_read_back(void)
{
    generations_read_back(CHUNK_SHIFT_MIN, CODEC_ZSTD);
}

static void generations_of_large_chunks_read_back(void)
{
    generations_read_back(CHUNK_SHIFT_MAX, CODEC_ZSTD);
}

static void generations_over_a_gzip_base_read_back(void)
{
    generations_read_back(CHUNK_SHIFT_MAX, CODEC_GZIP);
}

static void generations_over_a_raw_base_read_back(void)
{
    generations_read_back(CHUNK_SHIFT_MAX, CODEC_RAW);
}

static void what_is_written_but_the_same_is_not_stored(void)
{
    struct disk d = {0};
    struct build_result result;
    disk_resize(&d, 20 * MIB);
    disk_scribble(&d, 0, d.size);
    struct view *v = first_version(&d, d.size, CHUNK_SHIFT_DEFAULT, CODEC_ZSTD);
    struct overlay *o = new_overlay(v);
    const struct reader base = view_reader(v);
    CHECK_OK(overlay_pwrite(o, &base, d.data + MIB, 9 * MIB, MIB, &e));
    struct view *next = commit(o, v, &result);
    CHECK(result.new_chunks == 0 && result.kept_chunks == 9 * MIB >> CHUNK_SHIFT_DEFAULT);
    CHECK(memcmp(view_root(next), view_root(v), 3 * ROOT_ENTRY_SIZE) == 0);
    CHECK(memcmp(view_footer(next)->checksum, view_footer(v)->checksum, CHECKSUM_SIZE) == 0);
    overlay_close(o);
    view_close(next);
    view_close(v);
    disk_free(&d);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A disk of 1000 GiB, and three kinds of overlay that must not cost by its size: hardly anything written, all of it
 * trimmed, and a partial block far out. Generous limits: this runs under valgrind too. */
static void a_huge_disk_costs_what_was_changed(void)
{
    struct disk d = {0};
    struct build_result result;
    uint64_t size = 1000 * GIB;
    disk_resize(&d, 3 * MIB);
    disk_scribble(&d, 0, d.size);
    struct view *v = first_version(&d, size, CHUNK_SHIFT_DEFAULT, CODEC_ZSTD);
    const struct reader base = view_reader(v);
    struct overlay *o = new_overlay(v);
    double start = now();
    CHECK_OK(overlay_pwrite(o, &base, "x", 1, size - 1, &e));
    struct view *next = commit(o, v, &result);
    CHECK(result.new_chunks == 1);
    uint64_t root = leaves_of(size, CHUNK_SHIFT_DEFAULT) * ROOT_ENTRY_SIZE;
    CHECK(result.file_length < root + 2 * LEAF_SIZE + FOOTER_SIZE + CHUNK_SIZE_MAX);
    overlay_close(o);
    o = new_overlay(next);
    const struct reader next_base = view_reader(next);
    CHECK_OK(overlay_zero(o, &next_base, size, 0, &e));
    struct view *last = commit(o, next, &result);
    CHECK(result.new_chunks == 0 && result.file_length < root + FOOTER_SIZE + LEAF_SIZE);
    CHECK(now() - start < 60);
    uint64_t length;
    bool zero;
    CHECK_OK(view_extent(last, 0, size, &length, &zero, &e));
    CHECK(zero && length == size);
    overlay_close(o);
    view_close(last);
    view_close(next);
    view_close(v);
    disk_free(&d);
}

struct progress_log {
    uint64_t done, total;
};

static bool record(void *ctx, uint64_t done, uint64_t total)
{
    *(struct progress_log *)ctx = (struct progress_log){done, total};
    return true;
}

static bool refuse(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)done;
    (void)total;
    return false;
}

static void progress_ends_at_its_total(void)
{
    struct disk d = {0};
    struct build *b;
    struct build_result result;
    struct progress_log log = {0};
    disk_resize(&d, 20 * MIB);
    struct view *v = first_version(&d, d.size, CHUNK_SHIFT_DEFAULT, CODEC_ZSTD);
    struct overlay *o = new_overlay(v);
    const struct reader base = view_reader(v);
    CHECK_OK(overlay_pwrite(o, &base, "x", 1, 5, &e));
    CHECK_OK(overlay_pwrite(o, &base, "y", 1, 9 * MIB, &e));
    CHECK_OK(overlay_zero(o, &base, MIB, 2 * MIB, &e));
    CHECK_OK(overlay_seal(o, &e));
    struct progress p = {record, &log};
    CHECK_OK(commit_overlay(store, o, v, zstd_1, &p, &b, &result, &e));
    CHECK(log.done == 2 * OVERLAY_BLOCK && log.total == log.done);
    build_free(b);
    p.report = refuse;
    CHECK_FAILS(commit_overlay(store, o, v, zstd_1, &p, &b, &result, &e), ERR_FAILED);
    CHECK_STR(e.msg, "interrupted");
    CHECK(files_in_tmp() == 0);
    overlay_close(o);
    view_close(v);
    disk_free(&d);
}

static void a_wrong_pair_is_refused(void)
{
    struct disk d = {0};
    struct build *b;
    struct build_result result;
    disk_resize(&d, MIB);
    struct view *v = first_version(&d, d.size, CHUNK_SHIFT_DEFAULT, CODEC_ZSTD);
    struct overlay *o = new_overlay(v);
    const struct reader base = view_reader(v);
    CHECK_OK(overlay_pwrite(o, &base, "x", 1, 5, &e));
    CHECK_FAILS(commit_overlay(store, o, v, zstd_1, NULL, &b, &result, &e), ERR_STATE); /* unsealed */
    struct view *next = commit(o, v, &result);
    CHECK_FAILS(commit_overlay(store, o, next, zstd_1, NULL, &b, &result, &e), ERR_STATE);
    view_close(next);
    view_close(v);
    v = first_version(&d, d.size, CHUNK_SHIFT_DEFAULT, CODEC_ZSTD);
    CHECK_FAILS(commit_overlay(store, o, v, zstd_1, NULL, &b, &result, &e), ERR_STATE);
    CHECK(files_in_tmp() == 0);
    view_close(v);
    overlay_close(o);
    disk_free(&d);
}

/* A partial chunk needs its base: where that is damaged, nothing is published. */
static void a_damaged_base_stops_the_commit(void)
{
    struct disk d = {0};
    struct build *b;
    struct build_result result;
    struct leaf_entry n;
    char text[UUID_TEXT_SIZE];
    disk_resize(&d, MIB);
    disk_scribble(&d, 0, d.size);
    struct view *v = first_version(&d, d.size, CHUNK_SHIFT_DEFAULT, CODEC_ZSTD);
    CHECK_OK(view_entry(v, 3, &n, &e));
    cleanup(free) char *path = path_format("%s/%s/%llu.img", store_images_dir(store),
                                           uuid_to_text(&image, text), (unsigned long long)last_version);
    cleanup(close) int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    CHECK_OK(full_pread(fd, &byte, 1, n.offset + n.stored / 2, &e));
    byte ^= 0x10;
    CHECK_OK(full_pwrite(fd, &byte, 1, n.offset + n.stored / 2, &e));
    struct overlay *o = new_overlay(v);
    const struct reader base = view_reader(v);
    CHECK_OK(overlay_pwrite(o, &base, d.data, OVERLAY_BLOCK, 3 * CHUNK_SIZE_MAX, &e));
    CHECK_OK(overlay_seal(o, &e));
    CHECK_FAILS(commit_overlay(store, o, v, zstd_1, NULL, &b, &result, &e), ERR_CORRUPT);
    CHECK(e.sys == EIO && files_in_tmp() == 0);
    overlay_close(o);
    view_close(v);
    disk_free(&d);
}

int main(void)
{
    cleanup(free) char *images = path_format("%s/images", unit_dir());
    CHECK_OK(make_dirs(images, 0700, &e));
    CHECK_OK(store_open(images, 4 * MIB, &store, &e));
    UNIT(generations_of_small_chunks_read_back);
    UNIT(generations_of_large_chunks_read_back);
    UNIT(generations_over_a_gzip_base_read_back);
    UNIT(generations_over_a_raw_base_read_back);
    UNIT(what_is_written_but_the_same_is_not_stored);
    UNIT(a_huge_disk_costs_what_was_changed);
    UNIT(progress_ends_at_its_total);
    UNIT(a_wrong_pair_is_refused);
    UNIT(a_damaged_base_stops_the_commit);
    store_close(store);
    return 0;
}
