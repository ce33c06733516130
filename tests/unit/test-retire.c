/* SPDX-License-Identifier: BSD-3-Clause */

/* Files of versions that are gone: who still needs them finds them. */

#include "lib/base/cleanup.h"
#include "lib/store/import.h"
#include "lib/store/retire.h"
#include "tests/unit/disk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

static struct err e;
static struct store *store;
static struct uuid image;

/* Three versions, each the one before with a change. */
#define VERSIONS 3
static struct disk disks[VERSIONS + 1];
static struct uuid layers[VERSIONS + 1];

static void make_version(uint64_t version)
{
    struct build *b;
    struct build_result result;
    struct view *parent = NULL;
    cleanup(free) char *path = path_format("%s/disk.raw", unit_dir());
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_OK(full_pwrite(fd, disks[version].data, disks[version].size, 0, &e));
    if (version > 1)
        CHECK_OK(view_open(store, &image, version - 1, &parent, &e));
    struct build_options o = {
        .image = image, .parent = parent, .chunk_shift = CHUNK_SHIFT_DEFAULT, .compression = {CODEC_ZSTD, 1}};
    CHECK_OK(import_raw(store, fd, "disk.raw", &o, &b, &result, &e));
    CHECK_OK(build_publish(b, version, &e));
    layers[version] = result.layer;
    build_free(b);
    view_close(parent);
}

static void make_image(void)
{
    uuid_make(&image);
    CHECK_OK(store_make_image(store, &image, &e));
    for (uint64_t v = 1; v <= VERSIONS; v++) {
        disk_free(&disks[v]);
        disk_resize(&disks[v], 3 * MIB + 77);
        if (v == 1)
            disk_scribble(&disks[v], 0, disks[v].size);
        else
            memcpy(disks[v].data, disks[v - 1].data, disks[v].size);
        disk_scribble(&disks[v], (size_t)v * 200000, 5000);
        make_version(v);
    }
}

static char *image_path(const char *name)
{
    char text[UUID_TEXT_SIZE];
    return path_format("%s/%s/%s", store_images_dir(store), uuid_to_text(&image, text), name);
}

static bool is_retired(uint64_t version)
{
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *name = path_format("retired/%s.img", uuid_to_text(&layers[version], text));
    cleanup(free) char *path = image_path(name);
    return path_exists(path);
}

static void check_reads(uint64_t version)
{
    struct view *v;
    CHECK_OK(view_open(store, &image, version, &v, &e));
    cleanup(free) uint8_t *got = malloc(disks[version].size);
    CHECK_OK(view_pread(v, 0, got, disks[version].size, 0, &e));
    CHECK(memcmp(got, disks[version].data, disks[version].size) == 0);
    view_close(v);
}

static void retire(uint64_t version)
{
    CHECK_OK(store_retire_layer(store, &image, version, &layers[version], &e));
    CHECK(!store_has_version(store, &image, version));
}

static void what_nobody_names_is_unlinked(void)
{
    make_image();
    retire(3);
    CHECK(!is_retired(3));
    check_reads(2);
    retire(2);
    retire(2);
    CHECK(!is_retired(2));
    check_reads(1);
}

static void what_younger_ones_name_is_retired(void)
{
    make_image();
    retire(1);
    CHECK(is_retired(1));
    check_reads(2);
    retire(2);
    CHECK(is_retired(2));
    check_reads(3);
}

static void a_retired_one_keeps_its_own_parents(void)
{
    make_image();
    retire(2);
    retire(3);
    CHECK(is_retired(2) && !is_retired(3));
    retire(1);
    CHECK(is_retired(1));
}

/* Another process: within this one the store shares its descriptors. */
static void who_reads_is_not_disturbed(void)
{
    struct store *other;
    struct view *v;
    make_image();
    CHECK_OK(store_open(store_images_dir(store), 0, &other, &e));
    CHECK_OK(view_open(other, &image, 3, &v, &e));
    retire(3);
    retire(2);
    retire(1);
    CHECK(is_retired(1) && is_retired(2) && is_retired(3));
    cleanup(free) uint8_t *got = malloc(disks[3].size);
    CHECK_OK(view_pread(v, 0, got, disks[3].size, 0, &e));
    CHECK(memcmp(got, disks[3].data, disks[3].size) == 0);
    view_close(v);
    store_close(other);
}

static void what_cannot_be_read_may_name_it(void)
{
    make_image();
    cleanup(free) char *path = image_path("2.img");
    CHECK(truncate(path, 100) == 0);
    retire(3);
    CHECK(is_retired(3));
    retire(2);
    CHECK(is_retired(2));
}

static void an_image_goes_when_nobody_reads_it(void)
{
    bool in_use;
    struct store *other;
    struct view *v;
    cleanup(free) char *dir = NULL;
    make_image();
    dir = image_path("");
    CHECK_OK(store_open(store_images_dir(store), 0, &other, &e));
    CHECK_OK(view_open(other, &image, 3, &v, &e));
    CHECK_OK(store_retire_image(store, &image, &in_use, &e));
    CHECK(in_use && path_exists(dir));
    check_reads(3);
    view_close(v);
    store_close(other);
    CHECK_OK(store_retire_image(store, &image, &in_use, &e));
    CHECK(!in_use && !path_exists(dir));
    CHECK_OK(store_retire_image(store, &image, &in_use, &e));
}

int main(void)
{
    cleanup(free) char *dir = path_format("%s/images", unit_dir());
    CHECK_OK(make_dirs(dir, 0700, &e));
    CHECK_OK(store_open(dir, 0, &store, &e));
    UNIT(what_nobody_names_is_unlinked);
    UNIT(what_younger_ones_name_is_retired);
    UNIT(a_retired_one_keeps_its_own_parents);
    UNIT(who_reads_is_not_disturbed);
    UNIT(what_cannot_be_read_may_name_it);
    UNIT(an_image_goes_when_nobody_reads_it);
    for (unsigned i = 0; i <= VERSIONS; i++)
        disk_free(&disks[i]);
    store_close(store);
    return 0;
}
