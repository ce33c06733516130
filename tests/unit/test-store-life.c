/* SPDX-License-Identifier: BSD-3-Clause */

/* An image lives: versions are made, removed, flattened, collected after, while some are being read. What is a version, and
 * what is being read, is at all times what it was. The seed is printed; LABBOOT_SEED and LABBOOT_STEPS choose others. */

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/flatten.h"
#include "lib/store/gc.h"
#include "lib/store/import.h"
#include "lib/store/retire.h"
#include "tests/unit/disk.h"

#include <fcntl.h>
#include <unistd.h>

#define VERSIONS_MAX 9
#define READERS_MAX 3
#define STEPS 150

static struct err e;
static char *images_dir, *overlays_dir;
static struct store *store;
static struct uuid image;
static uint64_t next_number = 1;

/* What the catalog would know. */
static struct version {
    uint64_t number;
    struct uuid layer;
    struct disk disk;
} versions[VERSIONS_MAX];
static size_t nversions;

/* Another process: a store of its own. */
static struct reader_of {
    struct store *store;
    struct view *view;
    struct disk disk;
} readers[READERS_MAX];

static size_t pick(size_t count)
{
    return (size_t)(disk_random() % count);
}

static struct compression some_compression(void)
{
    static const struct compression ways[] = {{CODEC_ZSTD, 1}, {CODEC_GZIP, 1}, {CODEC_RAW, 0}};
    return ways[pick(ARRAY_SIZE(ways))];
}

static struct disk copy_of(const struct disk *d)
{
    struct disk copy = {0};
    disk_resize(&copy, d->size);
    memcpy(copy.data, d->data, d->size);
    return copy;
}

static void check_view(struct view *v, const struct disk *d)
{
    cleanup(free) uint8_t *got = malloc(d->size);
    CHECK(view_footer(v)->virtual_size == d->size);
    CHECK_OK(view_pread(v, 0, got, d->size, 0, &e));
    CHECK(memcmp(got, d->data, d->size) == 0);
}

/* ---- what happens ---------------------------------------------------------------------------------------------------- */

/* Takes `disk`. */
static void add_version(const struct version *parent, struct disk disk, struct compression how)
{
    struct build *b;
    struct build_result result;
    cleanup(free) char *path = path_format("%s/disk.raw", unit_dir());
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct build_options o = {.image = image, .chunk_shift = CHUNK_SHIFT_MIN, .compression = how};
    if (parent)
        CHECK_OK(view_open(store, &image, parent->number, &o.parent, &e));
    CHECK_OK(full_pwrite(fd, disk.data, disk.size, 0, &e));
    CHECK_OK(import_raw(store, fd, "disk.raw", &o, &b, &result, &e));
    CHECK_OK(build_publish(b, next_number, &e));
    versions[nversions++] = (struct version){.number = next_number++, .layer = result.layer, .disk = disk};
    build_free(b);
    view_close(o.parent);
}

static void make_version(void)
{
    struct disk d = {0};
    const struct version *parent = nversions > 0 ? &versions[pick(nversions)] : NULL;
    if (nversions == VERSIONS_MAX)
        return;
    if (parent) {
        d = copy_of(&parent->disk);
    } else {
        disk_resize(&d, 6 * MIB + 4321);
        disk_scribble(&d, 0, d.size);
    }
    disk_change(&d, 1 + (unsigned)pick(4), pick(3) ? 40000 : 2 * MIB);
    add_version(parent, d, some_compression());
}

static void remove_one(size_t i)
{
    CHECK_OK(store_retire_layer(store, &image, versions[i].number, &versions[i].layer, &e));
    disk_free(&versions[i].disk);
    versions[i] = versions[--nversions];
}

static void remove_version(void)
{
    if (nversions < 2)
        return;
    remove_one(pick(nversions));
}

static void flatten_one(struct version *one, struct compression how, bool recompress, bool drop)
{
    struct build *b;
    struct view *v;
    struct build_result result;
    const struct flatten_options o = {.compression = how, .recompress = recompress};
    CHECK_OK(view_open(store, &image, one->number, &v, &e));
    CHECK_OK(flatten_build(store, v, &o, &b, &result, &e));
    view_close(v);
    CHECK_OK(build_replace(b, &one->layer, &e));
    build_free(b);
    if (drop)
        CHECK_OK(store_drop_retired(store, &image, &one->layer, &e));
    one->layer = result.layer;
}

static void flatten_version(void)
{
    if (nversions > 0)
        flatten_one(&versions[pick(nversions)], some_compression(), pick(2), pick(2));
}

static void close_reader(struct reader_of *r)
{
    if (!r->store)
        return;
    check_view(r->view, &r->disk);
    view_close(r->view);
    store_close(r->store);
    disk_free(&r->disk);
    *r = (struct reader_of){0};
}

static void change_reader(void)
{
    struct reader_of *r = &readers[pick(READERS_MAX)];
    if (r->store) {
        close_reader(r);
    } else if (nversions > 0) {
        const struct version *v = &versions[pick(nversions)];
        CHECK_OK(store_open(images_dir, 0, &r->store, &e));
        CHECK_OK(view_open(r->store, &image, v->number, &r->view, &e));
        r->disk = copy_of(&v->disk);
    }
}

/* ---- gc --------------------------------------------------------------------------------------------------------------- */

static int has_image(void *ctx, const struct uuid *uuid, struct err *err)
{
    (void)ctx, (void)err;
    return uuid_equal(uuid, &image);
}

static int list_versions(void *ctx, const struct uuid *uuid, struct gc_version **ret, size_t *ret_count,
                         struct err *err)
{
    (void)ctx, (void)uuid, (void)err;
    struct gc_version *list = calloc(nversions + 1, sizeof *list);
    for (size_t i = 0; i < nversions; i++)
        list[i] = (struct gc_version){versions[i].number, versions[i].layer};
    *ret = list;
    *ret_count = nversions;
    return 0;
}

static int boot_is_over(void *ctx, int64_t boot, struct err *err)
{
    (void)ctx, (void)boot, (void)err;
    return 0;
}

struct tally {
    bool remove;
    uint64_t count, bytes, parts;
};

static int found(void *ctx, const struct rubbish *r, struct err *err)
{
    struct tally *t = ctx;
    (void)err;
    t->count++;
    t->bytes += r->bytes;
    t->parts += strcmp(r->code, "retired-part") == 0;
    return t->remove;
}

static struct tally collect(bool remove)
{
    const struct gc_catalog catalog = {
        .has_image = has_image, .versions = list_versions, .boot_is_over = boot_is_over};
    struct tally t = {.remove = remove};
    const struct rubbish_sink sink = {.ctx = &t, .found = found};
    CHECK_OK(gc_images(store, overlays_dir, &catalog, &sink, &e));
    return t;
}

/* What was announced is what goes, and nothing is left. The file system counts its lists of extents too: they may grow by
 * a hole, or shrink. */
static struct tally collect_all(void)
{
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *dir = path_format("%s/%s", images_dir, uuid_to_text(&image, text));
    struct tally dry = collect(false);
    uint64_t before = tree_bytes(dir);
    struct tally wet = collect(true);
    CHECK(dry.count == wet.count && dry.bytes == wet.bytes);
    uint64_t freed = before - tree_bytes(dir), slack = 16 * KIB * wet.count;
    CHECK(freed <= wet.bytes + slack && wet.bytes <= freed + slack);
    CHECK(collect(false).count == 0);
    return wet;
}

/* ---- stories ------------------------------------------------------------------------------------------------------------ */

/* By a store that has nothing in its cache, and no layer open. */
static void check_all(void)
{
    struct store *fresh;
    CHECK_OK(store_open(images_dir, 0, &fresh, &e));
    for (size_t i = 0; i < nversions; i++) {
        struct view *v;
        CHECK_OK(view_open(fresh, &image, versions[i].number, &v, &e));
        check_view(v, &versions[i].disk);
        view_close(v);
    }
    store_close(fresh);
    for (size_t i = 0; i < READERS_MAX; i++)
        if (readers[i].view)
            check_view(readers[i].view, &readers[i].disk);
}

static unsigned number_from(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void nothing_is_lost_on_the_way(void)
{
    unsigned seed = number_from("LABBOOT_SEED", (unsigned)getpid()),
             steps = number_from("LABBOOT_STEPS", STEPS);
    struct tally all = {0};
    printf("seed %u\n", seed);
    disk_seed += UINT64_C(0x9e3779b97f4a7c15) * seed;
    for (unsigned step = 0; step < steps; step++) {
        static void (*const ways[])(void) = {make_version,   make_version,    remove_version,
                                             remove_version, flatten_version, change_reader};
        size_t way = pick(ARRAY_SIZE(ways) + 1);
        if (way < ARRAY_SIZE(ways)) {
            ways[way]();
        } else {
            struct tally t = collect_all();
            all.count += t.count;
            all.parts += t.parts;
        }
        check_all();
    }
    printf("%u steps, gc found %u, %u of them parts\n", steps, (unsigned)all.count, (unsigned)all.parts);
}

/* Nothing is held any more: in the end only what versions need is there. */
static void in_the_end_it_is_tidy(void)
{
    for (size_t i = 0; i < READERS_MAX; i++)
        close_reader(&readers[i]);
    while (nversions < 3)
        make_version();
    collect_all();
    check_all();
    for (size_t i = 0; i < nversions; i++)
        flatten_one(&versions[i], (struct compression){CODEC_ZSTD, 1}, false, false);
    collect_all();
    check_all();
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *retired = path_format("%s/%s/retired", images_dir, uuid_to_text(&image, text));
    CHECK(rmdir(retired) == 0);
}

static void fill_with_noise(struct disk *d, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        d->data[i] = (uint8_t)(disk_random() >> 32);
}

/* The next version writes over the first half, and the one that had it goes. */
static void what_only_a_removed_version_had_is_punched(void)
{
    struct disk d = {0};
    while (nversions > 0)
        remove_one(0);
    collect_all();
    disk_resize(&d, 8 * MIB);
    fill_with_noise(&d, 0, d.size);
    add_version(NULL, copy_of(&d), (struct compression){CODEC_ZSTD, 1});
    fill_with_noise(&d, 0, d.size / 2);
    add_version(&versions[0], d, (struct compression){CODEC_ZSTD, 1});
    remove_one(0);
    struct tally t = collect_all();
    CHECK(t.count == 1 && t.parts == 1);
    CHECK(t.bytes > 4 * MIB - 128 * KIB && t.bytes < 4 * MIB + 128 * KIB);
    check_all();
}

int main(void)
{
    images_dir = path_format("%s/images", unit_dir());
    overlays_dir = path_format("%s/overlays", unit_dir());
    CHECK_OK(make_dirs(images_dir, 0700, &e));
    CHECK_OK(make_dirs(overlays_dir, 0700, &e));
    CHECK_OK(store_open(images_dir, 0, &store, &e));
    uuid_make(&image);
    CHECK_OK(store_make_image(store, &image, &e));
    UNIT(nothing_is_lost_on_the_way);
    UNIT(in_the_end_it_is_tidy);
    UNIT(what_only_a_removed_version_had_is_punched);
    for (size_t i = 0; i < nversions; i++)
        disk_free(&versions[i].disk);
    store_close(store);
    free(images_dir);
    free(overlays_dir);
    return 0;
}
