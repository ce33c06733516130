/* SPDX-License-Identifier: BSD-3-Clause */

/* What a boot read is noted, and found again; and whatever else stands in such a file does no harm. */

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/hot.h"
#include "tests/unit/craft.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <unistd.h>

static struct err e;
static unsigned seed = 1;
static struct store *store;
static struct view *view;
static char *path; /* of its list */

#define CHUNK 16384u
#define SIZE (200 * CHUNK + 5)

static void make_version(void)
{
    struct craft c;
    struct disk d;
    struct craft_spec spec = craft_image(CODEC_ZSTD, 14);
    disk_make(&d, SIZE, &seed);
    craft_layer(&c, craft_images(), &spec, &d, NULL);
    store = craft_store(MIB);
    CHECK_OK(view_open(store, &spec.image, spec.version, &view, &e));
    cleanup(free) char *layer = craft_path(&c);
    path = path_format("%.*s.hot", (int)(strlen(layer) - 4), layer);
    craft_release(&c);
    disk_release(&d);
}

static void save(struct hot_recorder *r)
{
    CHECK_OK(hot_recorder_save(r, store, view, &e));
    hot_recorder_free(r);
}

static struct hot_recorder *new_recorder(void)
{
    struct hot_recorder *r;
    CHECK_OK(hot_recorder_new(view, &r, &e));
    return r;
}

static void expect_order(const uint32_t *wanted, size_t count)
{
    struct hot_list list;
    CHECK_OK(hot_load(store, view, &list, &e));
    CHECK(list.count == count && memcmp(list.chunks, wanted, count * sizeof *wanted) == 0);
    free(list.chunks);
}

static void the_first_reading_counts(void)
{
    uint32_t wanted[HOT_CHUNKS_MIN + 8];
    struct hot_recorder *r = new_recorder();
    size_t count = 0;
    CHECK(!hot_exists(store, view));
    for (uint32_t i = 0; i < HOT_CHUNKS_MIN; i++) {
        wanted[count++] = 199 - i;
        hot_record(r, (199 - i) * CHUNK + i, 100);
        hot_record(r, 199 * CHUNK, 4096);
    }
    hot_record(r, 3 * CHUNK - 1, 2 * CHUNK); /* of three chunks */
    for (uint32_t i = 2; i < 5; i++)
        wanted[count++] = i;
    hot_record(r, 200 * CHUNK, 5); /* the short last one */
    wanted[count++] = 200;
    hot_record(r, 0, 0);
    CHECK(!hot_recorder_is_due(r));
    save(r);
    CHECK(hot_exists(store, view));
    expect_order(wanted, count);
}

static void a_look_is_no_boot(void)
{
    CHECK(unlink(path) == 0);
    struct hot_recorder *r = new_recorder();
    for (uint32_t i = 0; i + 1 < HOT_CHUNKS_MIN; i++)
        hot_record(r, i * CHUNK, 1);
    save(r);
    CHECK(!path_exists(path) && !hot_exists(store, view));
    struct hot_list list;
    CHECK_FAILS(hot_load(store, view, &list, &e), ERR_NOT_FOUND);
}

static void *read_all(void *arg)
{
    for (uint32_t i = 0; i < SIZE; i += 4096)
        hot_record(arg, i, 4096);
    return NULL;
}

static void many_may_read_at_once(void)
{
    pthread_t threads[4];
    struct hot_list list;
    bool seen[201] = {false};
    struct hot_recorder *r = new_recorder();
    for (unsigned i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, read_all, r) == 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    save(r);
    CHECK_OK(hot_load(store, view, &list, &e));
    CHECK(list.count == 201);
    for (size_t i = 0; i < list.count; i++) {
        CHECK(!seen[list.chunks[i]]);
        seen[list.chunks[i]] = true;
    }
    free(list.chunks);
}

static void every_damage_is_seen(void)
{
    char *data;
    size_t len;
    CHECK_OK(read_file(path, MIB, &data, &len, &e));
    for (size_t i = 0; i < len; i++) {
        craft_flip(path, i);
        CHECK(!hot_exists(store, view));
        craft_flip(path, i);
    }
    CHECK(hot_exists(store, view));
    for (size_t cut = 0; cut < len; cut++) {
        CHECK_OK(replace_unsynced(path, NULL, data, cut, 0600, &e));
        CHECK(!hot_exists(store, view));
    }
    CHECK(truncate(path, (off_t)(8 * MIB)) == 0);
    CHECK(!hot_exists(store, view));
    /* And the next boot replaces it. */
    struct hot_recorder *r = new_recorder();
    read_all(r);
    save(r);
    CHECK(hot_exists(store, view));
    free(data);
}

static void names(void)
{
    uint64_t version;
    static const char *const wrong[] = {
        ".hot", "1.img", "01.hot", "x.hot", "1x.hot", "-1.hot", "99999999999999999999999.hot"};
    CHECK(hot_parse_name("123.hot", &version) && version == 123);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        CHECK(!hot_parse_name(wrong[i], &version));
}

int main(void)
{
    make_version();
    UNIT(the_first_reading_counts);
    UNIT(a_look_is_no_boot);
    UNIT(many_may_read_at_once);
    UNIT(every_damage_is_seen);
    UNIT(names);
    view_close(view);
    store_close(store);
    free(path);
    return 0;
}
