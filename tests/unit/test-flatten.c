/* SPDX-License-Identifier: BSD-3-Clause */

/* Versions that are written anew: they are what they were, and so is all that was built on them. */

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/flatten.h"
#include "lib/store/import.h"
#include "lib/store/retire.h"
#include "tests/unit/disk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

static struct err e;
static struct store *store;
static struct uuid image;

/* Each version is the one before with changes; none is compressed as the one before. */
#define VERSIONS 4
static struct disk disks[VERSIONS + 1];
static struct uuid layers[VERSIONS + 1];

static const struct compression ways[] = {{CODEC_ZSTD, 3}, {CODEC_GZIP, 6}, {CODEC_RAW, 0}};

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
    struct build_options o = {.image = image,
                              .parent = parent,
                              .chunk_shift = CHUNK_SHIFT_MIN,
                              .compression = ways[version % ARRAY_SIZE(ways)]};
    uuid_make(&o.overlay);
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
        disk_resize(&disks[v], 9 * MIB + 77);
        if (v == 1)
            disk_scribble(&disks[v], 0, 3 * MIB);
        else
            memcpy(disks[v].data, disks[v - 1].data, disks[v].size);
        disk_change(&disks[v], 12, 100000);
        make_version(v);
    }
}

static char *image_path(const char *name)
{
    char text[UUID_TEXT_SIZE];
    return path_format("%s/%s/%s", store_images_dir(store), uuid_to_text(&image, text), name);
}

static char *version_path(uint64_t version)
{
    cleanup(free) char *name = path_format("%" PRIu64 ".img", version);
    return image_path(name);
}

static char *retired_path(const struct uuid *layer)
{
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *name = path_format("retired/%s.img", uuid_to_text(layer, text));
    return image_path(name);
}

static bool is_retired(const struct uuid *layer)
{
    cleanup(free) char *path = retired_path(layer);
    return path_exists(path);
}

static void check_view(struct view *v, uint64_t version)
{
    cleanup(free) uint8_t *got = malloc(disks[version].size);
    CHECK_OK(view_pread(v, 0, got, disks[version].size, 0, &e));
    CHECK(memcmp(got, disks[version].data, disks[version].size) == 0);
}

/* By a store of its own, which knows no layer yet. */
static void check_all(uint64_t first)
{
    struct store *fresh;
    CHECK_OK(store_open(store_images_dir(store), 0, &fresh, &e));
    for (uint64_t version = first; version <= VERSIONS; version++) {
        struct view *v;
        CHECK_OK(view_open(fresh, &image, version, &v, &e));
        check_view(v, version);
        view_close(v);
    }
    store_close(fresh);
}

static struct footer footer_of(uint64_t version)
{
    struct view *v;
    CHECK_OK(view_open(store, &image, version, &v, &e));
    struct footer f = *view_footer(v);
    view_close(v);
    return f;
}

static struct build *rewrite(uint64_t version, struct compression how, bool recompress)
{
    struct view *v;
    struct build *b;
    struct build_result result;
    const struct flatten_options o = {.compression = how, .recompress = recompress};
    CHECK_OK(view_open(store, &image, version, &v, &e));
    CHECK_OK(flatten_build(store, v, &o, &b, &result, &e));
    view_close(v);
    return b;
}

static void flatten(uint64_t version, struct compression how, bool recompress)
{
    const struct footer old = footer_of(version);
    struct build *b = rewrite(version, how, recompress);
    CHECK_OK(build_replace(b, &old.layer, &e));
    build_free(b);
    const struct footer f = footer_of(version);
    CHECK(!uuid_equal(&f.layer, &old.layer) && f.table_length == 0);
    CHECK(memcmp(f.checksum, old.checksum, CHECKSUM_SIZE) == 0);
    CHECK(f.parent_version == old.parent_version && uuid_equal(&f.parent_layer, &old.parent_layer));
    CHECK(uuid_equal(&f.overlay, &old.overlay));
    CHECK(is_retired(&old.layer));
}

static void versions_are_what_they_were(void)
{
    for (unsigned way = 0; way < ARRAY_SIZE(ways); way++)
        for (unsigned again = 0; again < 2; again++) {
            make_image();
            for (uint64_t version = 1; version <= VERSIONS; version++) {
                flatten(version, ways[way], again);
                check_all(1);
            }
            /* From flat to flat, and a next version upon it. */
            flatten(VERSIONS, ways[(way + 1) % ARRAY_SIZE(ways)], false);
            check_all(1);
            CHECK_OK(store_retire_layer(store, &image, VERSIONS, &layers[VERSIONS], &e));
            flatten(VERSIONS - 1, ways[way], true);
            make_version(VERSIONS);
            check_all(1);
        }
}

/* The level says what is worth doing. */
static void what_is_flat_is_known(void)
{
    make_image();
    struct flatten_options o = {.compression = {CODEC_ZSTD, 3}};
    flatten(2, o.compression, false);
    struct view *v;
    CHECK_OK(view_open(store, &image, 2, &v, &e));
    CHECK(flatten_is_done(v, &o));
    o.recompress = true;
    CHECK(flatten_is_done(v, &o));
    o.compression.level = 9;
    CHECK(!flatten_is_done(v, &o));
    o.recompress = false;
    CHECK(flatten_is_done(v, &o));
    o.compression.codec = CODEC_GZIP;
    CHECK(!flatten_is_done(v, &o));
    view_close(v);
    CHECK_OK(view_open(store, &image, 3, &v, &e));
    o.compression = (struct compression){CODEC_ZSTD, 3};
    CHECK(!flatten_is_done(v, &o));
    view_close(v);
}

/* Without compression the file opens as a disk. */
static void without_compression_the_file_is_the_disk(void)
{
    make_image();
    flatten(3, (struct compression){CODEC_RAW, 0}, false);
    cleanup(free) char *path = version_path(3);
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    cleanup(free) uint8_t *got = malloc(disks[3].size);
    CHECK_OK(full_pread(fd, got, disks[3].size, 0, &e));
    CHECK(memcmp(got, disks[3].data, disks[3].size) == 0);
}

/* Who has the version open goes on with the old layer, which stays for as long. */
static void the_old_layer_stays_while_it_is_needed(void)
{
    struct store *other;
    struct view *v;
    make_image();
    CHECK_OK(store_open(store_images_dir(store), 0, &other, &e));
    CHECK_OK(view_open(other, &image, VERSIONS, &v, &e));
    flatten(VERSIONS, ways[0], false);
    CHECK_OK(store_drop_retired(store, &image, &layers[VERSIONS], &e));
    CHECK(is_retired(&layers[VERSIONS]));
    for (uint64_t version = 1; version < VERSIONS; version++)
        flatten(version, ways[0], false);
    check_view(v, VERSIONS);
    view_close(v);
    store_close(other);
    for (uint64_t version = VERSIONS; version > 0; version--) {
        CHECK_OK(store_drop_retired(store, &image, &layers[version], &e));
        CHECK(!is_retired(&layers[version]));
    }
    CHECK_OK(store_drop_retired(store, &image, &layers[1], &e));
    check_all(1);
}

static void younger_versions_keep_the_old_layer(void)
{
    make_image();
    flatten(2, ways[0], false);
    CHECK_OK(store_drop_retired(store, &image, &layers[2], &e));
    CHECK(is_retired(&layers[2]));
    check_all(1);
    /* The new one goes, and the old one stays. */
    CHECK_OK(store_retire_layer(store, &image, 2, &layers[2], &e));
    CHECK(is_retired(&layers[2]) && !store_has_version(store, &image, 2));
    check_all(3);
}

static void who_was_faster_wins(void)
{
    make_image();
    const struct footer old = footer_of(3);
    struct build *first = rewrite(3, ways[0], false), *second = rewrite(3, ways[1], false);
    CHECK_OK(build_replace(first, &old.layer, &e));
    CHECK_FAILS(build_replace(second, &old.layer, &e), ERR_STATE);
    build_free(first);
    build_free(second);
    CHECK(footer_of(3).codec == ways[0].codec);
    check_all(1);
}

static void damage_is_not_carried_on(void)
{
    struct view *v;
    struct build *b;
    struct build_result result;
    const struct flatten_options o = {.compression = {CODEC_GZIP, 6}};
    make_image();
    cleanup(free) char *path = version_path(2);
    cleanup(close) int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_OK(full_pwrite(fd, "damaged", 7, 1000, &e));
    CHECK_OK(view_open(store, &image, 2, &v, &e));
    CHECK_FAILS(flatten_build(store, v, &o, &b, &result, &e), ERR_CORRUPT);
    view_close(v);
    cleanup(free) char *tmp = image_path("tmp");
    CHECK(rmdir(tmp) == 0); /* nothing is left in it */
}

/* ---- what a crash leaves --------------------------------------------------------------------------------------------- */

static int settle(uint64_t version, struct footer *ret)
{
    const struct footer f = footer_of(version);
    return flatten_settle(store, &image, version, &layers[version], f.checksum, ret, &e);
}

static void a_second_name_alone_is_removed(void)
{
    struct footer f;
    make_image();
    cleanup(free) char *path = version_path(2);
    cleanup(free) char *name = retired_path(&layers[2]);
    CHECK(link(path, name) == 0);
    CHECK_OK(settle(2, &f));
    CHECK(!path_exists(name) && path_exists(path));
    /* And nobody trips over it before. */
    CHECK(link(path, name) == 0);
    flatten(2, ways[0], false);
    check_all(1);
    make_image();
    cleanup(free) char *path_2 = version_path(2);
    cleanup(free) char *name_2 = retired_path(&layers[2]);
    CHECK(link(path_2, name_2) == 0);
    CHECK_OK(store_retire_layer(store, &image, 2, &layers[2], &e));
    CHECK(path_exists(name_2) && !path_exists(path_2));
    check_all(3);
}

static void a_replaced_file_is_told(void)
{
    struct footer f;
    uint8_t other[CHECKSUM_SIZE] = {1};
    make_image();
    flatten(2, ways[0], false);
    CHECK(settle(2, &f) == 1);
    const struct footer now = footer_of(2);
    CHECK(uuid_equal(&f.layer, &now.layer) && is_retired(&layers[2]));
    CHECK(flatten_settle(store, &image, 2, &layers[2], other, &f, &e) == 0);
    check_all(1);
}

int main(void)
{
    cleanup(free) char *dir = path_format("%s/images", unit_dir());
    CHECK_OK(make_dirs(dir, 0700, &e));
    CHECK_OK(store_open(dir, 0, &store, &e));
    UNIT(versions_are_what_they_were);
    UNIT(what_is_flat_is_known);
    UNIT(without_compression_the_file_is_the_disk);
    UNIT(the_old_layer_stays_while_it_is_needed);
    UNIT(younger_versions_keep_the_old_layer);
    UNIT(who_was_faster_wins);
    UNIT(damage_is_not_carried_on);
    UNIT(a_second_name_alone_is_removed);
    UNIT(a_replaced_file_is_told);
    for (unsigned i = 0; i <= VERSIONS; i++)
        disk_free(&disks[i]);
    store_close(store);
    return 0;
}
