/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/store: reading versions against a model, whole and damaged. */
#include "lib/base/cleanup.h"
#include "lib/store/store.h"
#include "tests/unit/craft.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/file.h>

static struct err e;
static unsigned seed = 1;

/* --- helpers --- */

static void expect_reads(struct view *v, const struct disk *d, int reads)
{
    uint8_t *buf = malloc(d->size + 1);
    CHECK(buf);
    CHECK_OK(view_pread(v, 1, buf, d->size, 0, &e));
    CHECK(memcmp(buf, d->bytes, d->size) == 0);
    while (reads-- > 0) {
        uint64_t offset = (uint64_t)rand_r(&seed) % d->size;
        uint64_t len = 1 + (uint64_t)rand_r(&seed) % (rand_r(&seed) % 2 ? 4096 : 200000);
        len = min_u64(len, d->size - offset);
        memset(buf, 0x5a, len);
        CHECK_OK(view_pread(v, (uint64_t)reads % 3, buf, len, offset, &e));
        CHECK(memcmp(buf, d->bytes + offset, len) == 0);
    }
    free(buf);
}

/* Every extent is what the model has, and they cover the disk. */
static void expect_extents(struct view *v, const struct disk *d)
{
    uint64_t chunk = UINT64_C(1) << view_footer(v)->chunk_shift, length;
    bool zero, last = false;
    for (uint64_t at = 0; at < d->size; at += length) {
        CHECK_OK(view_extent(v, at, d->size, &length, &zero, &e));
        CHECK(length > 0 && length <= d->size - at && (at == 0 || zero != last));
        for (uint64_t i = at; i < at + length; i += chunk)
            CHECK(all_zero(d->bytes + i, min_u64(chunk, d->size - i)) == zero);
        last = zero;
    }
    CHECK_FAILS(view_extent(v, d->size, 1, &length, &zero, &e), ERR_FAILED);
}

/* Reads chunk by chunk; returns how many failed, each of which must say so as damage does. */
static uint64_t count_damaged(struct view *v, const struct disk *d)
{
    uint64_t chunk = UINT64_C(1) << view_footer(v)->chunk_shift, damaged = 0;
    uint8_t buf[CHUNK_SIZE_MAX];
    for (uint64_t at = 0; at < d->size; at += chunk) {
        size_t len = (size_t)min_u64(chunk, d->size - at);
        if (view_pread(v, 1, buf, len, at, &e) < 0) {
            CHECK(e.code == ERR_CORRUPT && e.sys == EIO);
            damaged++;
        } else {
            CHECK(memcmp(buf, d->bytes + at, len) == 0);
        }
    }
    return damaged;
}

static void refuse_open(struct store *s, const struct craft *c, enum errc code)
{
    struct view *v;
    CHECK_FAILS(view_open(s, &c->footer.image, c->footer.version, &v, &e), code);
}

/* --- whole versions --- */

static void disks_of_all_sizes(void)
{
    static const uint64_t sizes[] = {1,     511,     16384,       65535,          65536,
                                     65537, 8 * MIB, 8 * MIB + 1, 19 * MIB + 4097};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        for (unsigned kind = 0; kind < 4; kind++) {
            struct craft_spec spec = craft_image(kind % 2 ? CODEC_ZSTD : CODEC_RAW, kind / 2 ? 14 : 16);
            struct store *s = craft_store(kind % 2 ? 0 : 64 * MIB);
            struct disk d;
            struct craft c;
            struct view *v;
            uint8_t byte;
            disk_make(&d, sizes[i], &seed);
            craft_layer(&c, craft_images(), &spec, &d, NULL);
            CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
            CHECK(view_footer(v)->virtual_size == d.size && view_file_length(v) == c.footer.file_length);
            expect_reads(v, &d, 50);
            expect_extents(v, &d);
            CHECK_FAILS(view_pread(v, 1, &byte, 1, d.size, &e), ERR_FAILED);
            CHECK_FAILS(view_pread(v, 1, &byte, 1, UINT64_MAX, &e), ERR_FAILED);
            CHECK_OK(view_pread(v, 1, &byte, 0, d.size, &e));
            view_close(v);
            store_close(s);
            craft_release(&c);
            disk_release(&d);
        }
}

static void one_byte_in_an_empty_disk(void)
{
    /* Only its index is crafted: 1 TiB of zeroes with one chunk of data near the end would not fit in memory.
     */
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk d = {.bytes = calloc(1, 600 * MIB), .size = 600 * MIB};
    struct craft c;
    struct view *v;
    uint64_t length;
    bool zero;
    CHECK(d.bytes);
    d.bytes[500 * MIB] = 1;
    craft_layer(&c, craft_images(), &spec, &d, NULL);
    struct store *s = craft_store(0);
    CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
    CHECK(view_file_length(v) < 64 * KIB);
    CHECK_OK(view_extent(v, 5, UINT64_MAX, &length, &zero, &e));
    CHECK(zero && length == 500 * MIB - 5);
    CHECK_OK(view_extent(v, 500 * MIB + 7, UINT64_MAX, &length, &zero, &e));
    CHECK(!zero && length == 65536 - 7);
    CHECK_OK(view_extent(v, 0, 4096, &length, &zero, &e));
    CHECK(zero && length == 4096);
    view_close(v);
    store_close(s);
    craft_release(&c);
    disk_release(&d);
}

static uint64_t bytes_read(void)
{
    cleanup(free) char *text = NULL;
    CHECK_OK(read_file("/proc/self/io", 4096, &text, NULL, &e));
    return strtoull(text + strlen("rchar: "), NULL, 10);
}

#define MANY_LEAVES 100u
#define LEAVES_KEPT 64u /* with the least memory */
#define SMALL_LEAF (2 * MIB)

/* Of each leaf a byte that is zero: its leaf is read, no frame. Returns how many leaves were. */
static uint64_t touch_leaves(struct view *v)
{
    uint8_t byte;
    uint64_t before = bytes_read(), look = bytes_read() - before;
    before = bytes_read();
    for (uint64_t n = 0; n < MANY_LEAVES; n++)
        CHECK_OK(view_pread(v, 1, &byte, 1, (n + 1) * SMALL_LEAF - 1, &e));
    return (bytes_read() - before - look) / LEAF_SIZE;
}

/* More leaves than are kept: memory does not grow with what is read, and all is right all the same. */
static void more_leaves_than_are_kept(void)
{
    static const enum codec codecs[] = {CODEC_ZSTD, CODEC_RAW};
    for (unsigned i = 0; i < ARRAY_SIZE(codecs); i++) {
        struct craft_spec spec = craft_image(codecs[i], 14);
        struct disk d = {.bytes = calloc(MANY_LEAVES, SMALL_LEAF), .size = MANY_LEAVES * SMALL_LEAF};
        struct craft c;
        struct view *v;
        CHECK(d.bytes);
        for (uint64_t n = 0; n < MANY_LEAVES; n++)
            memset(d.bytes + n * SMALL_LEAF + n * 4096, (int)n + 1, 5000);
        craft_layer(&c, craft_images(), &spec, &d, NULL);
        struct store *s = craft_store(0);
        for (unsigned round = 0; round < 2; round++) { /* what one view has given back the next may use */
            CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
            CHECK(touch_leaves(v) == MANY_LEAVES && touch_leaves(v) == MANY_LEAVES - LEAVES_KEPT);
            expect_extents(v, &d);
            CHECK(count_damaged(v, &d) == 0 && count_damaged(v, &d) == 0);
            view_close(v);
        }
        store_close(s);
        craft_release(&c);
        disk_release(&d);
    }
}

#define GENERATIONS 12

static void generations_of_layers(void)
{
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk d[GENERATIONS];
    struct craft c[GENERATIONS];
    struct store *s = craft_store(16 * MIB);
    for (unsigned i = 0; i < GENERATIONS; i++) {
        if (i == 0)
            disk_make(&d[0], 30 * MIB + 12345, &seed);
        else
            disk_copy(&d[i], &d[i - 1]);
        disk_change(&d[i], i, &seed);
        spec.version = 100 + i;
        craft_layer(&c[i], craft_images(), &spec, &d[i], i == 0 ? NULL : &c[i - 1]);
    }
    for (unsigned i = GENERATIONS; i-- > 0;) {
        struct view *v, *again;
        CHECK_OK(view_open(s, &spec.image, 100 + i, &v, &e));
        CHECK_OK(view_open(s, &spec.image, 100 + i, &again, &e));
        CHECK(v == again && view_ref(v) == v);
        view_close(again);
        expect_reads(v, &d[i], 100);
        expect_extents(v, &d[i]);
        view_close(v);
        view_close(v);
    }
    for (unsigned i = 0; i < GENERATIONS; i++) {
        craft_release(&c[i]);
        disk_release(&d[i]);
    }
    store_close(s);
}

static void what_a_writer_takes_from_its_parent(void)
{
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk d;
    struct craft base, c;
    struct view *v;
    struct leaf_entry n, m;
    uint8_t leaf[LEAF_SIZE];
    size_t length;
    disk_make(&d, 20 * MIB, &seed);
    memset(d.bytes + 8 * MIB, 0, 8 * MIB);
    craft_layer(&base, craft_images(), &spec, &d, NULL);
    disk_change(&d, 1, &seed);
    memset(d.bytes + 8 * MIB, 0, 8 * MIB);
    spec.version = 101;
    craft_layer(&c, craft_images(), &spec, &d, &base);
    struct store *s = craft_store(0);
    CHECK_OK(view_open(s, &spec.image, 101, &v, &e));
    CHECK(memcmp(view_root(v), c.root, c.footer.root_length) == 0);
    CHECK(memcmp(view_table(v, &length), c.table, TABLE_ENTRY_SIZE) == 0 && length == TABLE_ENTRY_SIZE);
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_OK(view_leaf(v, i, leaf, &e));
        CHECK(memcmp(leaf, c.leaves + i * LEAF_SIZE, LEAF_SIZE) == 0);
    }
    CHECK_FAILS(view_leaf(v, 3, leaf, &e), ERR_FAILED);
    for (uint64_t i = 0; i < c.chunks; i++) {
        CHECK_OK(view_entry(v, i, &n, &e));
        CHECK_OK(leaf_entry_decode(c.leaves + i * ENTRY_SIZE, 16, &m, &e));
        CHECK(n.offset == m.offset && n.layer == m.layer && n.codec == m.codec &&
              hash_equal(&n.hash, &m.hash));
    }
    CHECK_FAILS(view_entry(v, c.chunks, &n, &e), ERR_FAILED);
    view_close(v);
    store_close(s);
    craft_release(&base);
    craft_release(&c);
    disk_release(&d);
}

static void prefetched_chunks_are_hits(void)
{
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk d;
    struct craft c;
    struct view *v;
    struct cache_counters n;
    uint8_t buf[4096];
    disk_make(&d, 40 * MIB, &seed);
    for (uint64_t i = 0; i < d.size; i++)
        d.bytes[i] = (uint8_t)(1 + i / 70000);
    craft_layer(&c, craft_images(), &spec, &d, NULL);
    struct store *s = craft_store(64 * MIB);
    CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
    CHECK_OK(view_prefetch(v, 1, 100000, 50000, &e));
    store_counters(s, &n);
    CHECK(n.misses == 2);
    CHECK_OK(view_pread(v, 1, buf, sizeof buf, 131072, &e));
    store_counters(s, &n);
    CHECK(n.misses == 2 && n.hits == 1);
    CHECK_OK(view_prefetch(v, 1, 0, d.size, &e));
    store_counters(s, &n);
    CHECK(n.misses <= 16 * MIB / CHUNK_SIZE_MAX + 2 && n.misses > 100);
    CHECK_OK(view_prefetch(v, 1, d.size, 0, &e));
    CHECK_FAILS(view_prefetch(v, 1, d.size, 1, &e), ERR_FAILED);
    view_close(v);
    store_close(s);
    craft_release(&c);
    disk_release(&d);
}

/* --- damage --- */

struct damaged {
    struct craft_spec spec;
    struct disk d;
    struct craft base, c;
};

/* Two layers of 3 leaves; the younger one has a few chunks of its own. */
static void make_two_layers(struct damaged *x, enum codec codec)
{
    struct disk old;
    x->spec = craft_image(codec, 16);
    disk_make(&old, 20 * MIB, &seed);
    for (uint64_t i = 0; i < old.size; i++)
        old.bytes[i] = (uint8_t)(1 + i / 65536 % 100 + i % 7);
    craft_layer(&x->base, craft_images(), &x->spec, &old, NULL);
    disk_copy(&x->d, &old);
    for (uint64_t i = 3; i < 6; i++)
        memset(x->d.bytes + i * 65536, 0x77, 65536);
    x->spec.version = 101;
    craft_layer(&x->c, craft_images(), &x->spec, &x->d, &x->base);
    disk_release(&old);
}

static void release_two_layers(struct damaged *x)
{
    craft_release(&x->base);
    craft_release(&x->c);
    disk_release(&x->d);
}

/* How many chunks are unreadable in a new store. */
static uint64_t damaged_now(const struct damaged *x)
{
    struct view *v;
    struct store *s = craft_store(8 * MIB);
    CHECK_OK(view_open(s, &x->spec.image, 101, &v, &e));
    uint64_t n = count_damaged(v, &x->d);
    CHECK(count_damaged(v, &x->d) == n); /* asked again, it says the same */
    view_close(v);
    store_close(s);
    return n;
}

static struct leaf_entry entry_of(const struct craft *c, uint64_t chunk)
{
    struct leaf_entry n;
    CHECK_OK(leaf_entry_decode(c->leaves + chunk * ENTRY_SIZE, 16, &n, &e));
    return n;
}

static struct root_entry root_entry_of(const struct craft *c, uint64_t leaf)
{
    struct root_entry r;
    CHECK_OK(root_entry_decode(c->root + leaf * ROOT_ENTRY_SIZE, &r, &e));
    return r;
}

static void a_corrupt_byte_in_each_region(void)
{
    for (int kind = 0; kind < 2; kind++) {
        struct damaged x;
        make_two_layers(&x, kind ? CODEC_ZSTD : CODEC_RAW);
        cleanup(free) char *base = craft_path(&x.base), *own = craft_path(&x.c);
        const struct footer *f = &x.c.footer;
        struct leaf_entry n = entry_of(&x.c, 4), old = entry_of(&x.c, 200);
        CHECK(damaged_now(&x) == 0);

        craft_flip(own, n.offset + n.stored / 2);
        CHECK(damaged_now(&x) == 1);
        craft_flip(base, old.offset + 9);
        CHECK(damaged_now(&x) == 2);
        craft_flip(base, old.offset + 9);
        craft_flip(own, n.offset + n.stored / 2);

        craft_flip(own, root_entry_of(&x.c, 0).offset + 4095);
        CHECK(damaged_now(&x) == 128);
        craft_flip(own, root_entry_of(&x.c, 0).offset + 4095);
        craft_flip(base, root_entry_of(&x.c, 1).offset + 16);
        CHECK(damaged_now(&x) == 128);
        craft_flip(base, root_entry_of(&x.c, 1).offset + 16);
        CHECK(damaged_now(&x) == 0);

        const uint64_t at[] = {f->root_offset + 40, f->table_offset + 3, f->file_length - 5,
                               f->file_length - 4096};
        struct store *s = craft_store(0);
        for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
            craft_flip(own, at[i]);
            refuse_open(s, &x.c, ERR_CORRUPT);
            CHECK(e.sys == EIO);
            craft_flip(own, at[i]);
        }
        store_close(s);
        CHECK(damaged_now(&x) == 0);
        release_two_layers(&x);
    }
}

static void the_message_names_the_chunk(void)
{
    struct damaged x;
    char image[UUID_TEXT_SIZE], layer[UUID_TEXT_SIZE], byte;
    make_two_layers(&x, CODEC_ZSTD);
    cleanup(free) char *own = craft_path(&x.c);
    struct leaf_entry n = entry_of(&x.c, 4);
    craft_flip(own, n.offset + n.stored / 2);
    struct store *s = craft_store(0);
    struct view *v;
    CHECK_OK(view_open(s, &x.spec.image, 101, &v, &e));
    CHECK_FAILS(view_pread(v, 0, &byte, 1, 4 * 65536 + 17, &e), ERR_CORRUPT);
    cleanup(free) char *start =
        path_format("image %s, version 101, chunk 4: layer %s: ", uuid_to_text(&x.spec.image, image),
                    uuid_to_text(&x.c.footer.layer, layer));
    CHECK(strncmp(e.msg, start, strlen(start)) == 0);
    view_close(v);
    store_close(s);
    release_two_layers(&x);
}

static void a_file_cut_off_anywhere(void)
{
    struct damaged x;
    make_two_layers(&x, CODEC_ZSTD);
    cleanup(free) char *own = craft_path(&x.c);
    struct store *s = craft_store(0);
    for (uint64_t length = x.c.footer.file_length; length-- > 0;) {
        if (length > 5000 && length % 7 != 0)
            continue;
        CHECK(truncate(own, (off_t)length) == 0);
        refuse_open(s, &x.c, ERR_CORRUPT);
        length -= min_u64(length, 97);
    }
    CHECK(unlink(own) == 0);
    refuse_open(s, &x.c, ERR_NOT_FOUND);
    store_close(s);
    release_two_layers(&x);
}

static void a_file_cut_off_while_it_is_open(void)
{
    struct damaged x;
    char byte;
    make_two_layers(&x, CODEC_RAW);
    cleanup(free) char *own = craft_path(&x.c);
    struct store *s = craft_store(0);
    struct view *v;
    CHECK_OK(view_open(s, &x.spec.image, 101, &v, &e));
    CHECK_OK(view_pread(v, 0, &byte, 1, 4 * 65536, &e));
    CHECK(truncate(own, 0) == 0);
    CHECK(view_pread(v, 0, &byte, 1, 4 * 65536, &e) < 0 && e.sys == EIO);
    CHECK(view_pread(v, 0, &byte, 1, 5 * 65536, &e) < 0 && e.sys == EIO);
    CHECK_OK(view_pread(v, 0, &byte, 1, 6 * 65536, &e));
    view_close(v);
    store_close(s);
    release_two_layers(&x);
}

static void spoil_by_chunk(uint64_t chunk, struct leaf_entry *n)
{
    switch (chunk) {
    case 0:
        n->codec = CODEC_GZIP;
        break;
    case 1:
        n->layer = 7;
        break;
    case 2:
        n->offset = UINT64_C(1) << 40;
        break;
    case 3:
        n->stored--;
        break;
    case 4:
        n->codec = CODEC_RAW;
        break;
    case 5:
        n->hash.b[0]++;
        break;
    default:
        break;
    }
}

/* Leaves that lie, with right hashes: as a buggy writer would make them. */
static void lying_entries(void)
{
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk d;
    struct craft c;
    struct view *v;
    spec.spoil = spoil_by_chunk;
    disk_make(&d, 20 * MIB, &seed);
    memset(d.bytes, 5, d.size);
    craft_layer(&c, craft_images(), &spec, &d, NULL);
    struct store *s = craft_store(0);
    CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
    CHECK(count_damaged(v, &d) == 6);
    view_close(v);
    store_close(s);
    craft_release(&c);
    disk_release(&d);
}

static struct leaf_entry lent;

static void lend_entry(uint64_t chunk, struct leaf_entry *n)
{
    (void)chunk;
    *n = lent;
}

/* The frame of a parent's short last chunk is no frame of the whole chunk that a larger child has there, though it is in the
 * cache already. */
static void a_short_chunk_is_no_long_one(void)
{
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk small = {.bytes = calloc(1, 3000), .size = 3000};
    struct disk large = {.bytes = calloc(1, 65536), .size = 65536};
    struct craft parent, child;
    struct view *v, *w;
    CHECK(small.bytes && large.bytes);
    memset(small.bytes, 'x', small.size);
    memset(large.bytes, 'y', large.size);
    craft_layer(&parent, craft_images(), &spec, &small, NULL);
    CHECK_OK(leaf_entry_decode(parent.leaves, 16, &lent, &e));
    spec.version = 101;
    spec.spoil = lend_entry;
    craft_layer(&child, craft_images(), &spec, &large, &parent);
    struct store *s = craft_store(0);
    CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
    expect_reads(v, &small, 1);
    CHECK_OK(view_open(s, &spec.image, 101, &w, &e));
    CHECK(count_damaged(w, &large) == 1);
    expect_reads(v, &small, 1);
    view_close(v);
    view_close(w);
    store_close(s);
    craft_release(&parent);
    craft_release(&child);
    disk_release(&small);
    disk_release(&large);
}

static void the_wrong_file_in_the_right_place(void)
{
    struct damaged x, y;
    make_two_layers(&x, CODEC_ZSTD);
    make_two_layers(&y, CODEC_ZSTD);
    cleanup(free) char *mine = craft_path(&x.c), *other = craft_path(&y.c), *older = craft_path(&y.base);
    struct store *s = craft_store(0);
    CHECK(rename(other, mine) == 0);
    refuse_open(s, &x.c, ERR_CORRUPT); /* of another image */
    CHECK(rename(older, other) == 0);
    refuse_open(s, &y.c, ERR_CORRUPT); /* of another version */
    store_close(s);
    release_two_layers(&x);
    release_two_layers(&y);
}

/* --- where older layers are found --- */

static char *retired_path(const struct craft *c)
{
    char image[UUID_TEXT_SIZE], layer[UUID_TEXT_SIZE];
    return path_format("%s/%s/retired/%s.img", craft_images(), uuid_to_text(&c->footer.image, image),
                       uuid_to_text(&c->footer.layer, layer));
}

static void older_layers_are_found_by_uuid(void)
{
    struct damaged x;
    struct craft flat;
    make_two_layers(&x, CODEC_ZSTD);
    cleanup(free) char *base = craft_path(&x.base), *retired = retired_path(&x.base);

    /* deleted: moved to retired/ */
    CHECK(rename(base, retired) == 0);
    CHECK(damaged_now(&x) == 0);

    /* flattened: another layer has its name */
    x.spec.version = 100;
    craft_layer(&flat, craft_images(), &x.spec, &x.d, NULL);
    CHECK(damaged_now(&x) == 0);

    /* the uuid is there, but the file is another */
    struct footer f = x.base.footer;
    uint8_t footer[FOOTER_SIZE];
    f.level++;
    footer_encode(&f, footer);
    cleanup(close) int fd = open(retired, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_OK(full_pwrite(fd, footer, sizeof footer, f.file_length - FOOTER_SIZE, &e));
    CHECK(damaged_now(&x) == x.c.chunks - 3);

    /* nowhere: what is in the younger layer is still read */
    CHECK(unlink(retired) == 0);
    CHECK(damaged_now(&x) == x.c.chunks - 3);
    craft_release(&flat);
    release_two_layers(&x);
}

static bool lockable(const char *path)
{
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void layers_are_locked_while_they_are_used(void)
{
    struct damaged x;
    struct view *v, *w;
    char byte;
    make_two_layers(&x, CODEC_ZSTD);
    cleanup(free) char *base = craft_path(&x.base), *own = craft_path(&x.c);
    struct store *s = craft_store(0);
    CHECK_OK(view_open(s, &x.spec.image, 101, &v, &e));
    CHECK(!lockable(own) && lockable(base)); /* older ones are opened when needed */
    CHECK_OK(view_pread(v, 0, &byte, 1, 0, &e));
    CHECK(!lockable(base));
    CHECK_OK(view_open(s, &x.spec.image, 100, &w, &e));
    view_close(v);
    CHECK(lockable(own) && !lockable(base));
    view_close(w);
    CHECK(lockable(base));
    store_close(s);
    release_two_layers(&x);
}

/* --- threads --- */

struct reading {
    pthread_t thread;
    struct store *store;
    const struct damaged *x;
    unsigned seed;
};

static void *read_at_random(void *arg)
{
    struct reading *r = arg;
    const struct disk *d = &r->x->d;
    uint8_t buf[70000];
    for (int i = 0; i < 300; i++) {
        struct view *v;
        struct err err;
        CHECK(view_open(r->store, &r->x->spec.image, 101, &v, &err) == 0);
        for (int k = 0; k < 5; k++) {
            uint64_t offset = (uint64_t)rand_r(&r->seed) % d->size;
            size_t len = (size_t)min_u64(1 + (uint64_t)rand_r(&r->seed) % sizeof buf, d->size - offset);
            CHECK(view_pread(v, r->seed, buf, len, offset, &err) == 0);
            CHECK(memcmp(buf, d->bytes + offset, len) == 0);
        }
        view_close(v);
    }
    return NULL;
}

static void many_readers_at_once(void)
{
    for (int kind = 0; kind < 2; kind++) {
        struct damaged x;
        struct reading r[6];
        make_two_layers(&x, kind ? CODEC_ZSTD : CODEC_RAW);
        struct store *s = craft_store(4 * MIB);
        for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
            r[i] = (struct reading){.store = s, .x = &x, .seed = i};
            CHECK(pthread_create(&r[i].thread, NULL, read_at_random, &r[i]) == 0);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(r); i++)
            pthread_join(r[i].thread, NULL);
        store_close(s);
        release_two_layers(&x);
    }
}

int main(void)
{
    UNIT(disks_of_all_sizes);
    UNIT(one_byte_in_an_empty_disk);
    UNIT(more_leaves_than_are_kept);
    UNIT(generations_of_layers);
    UNIT(what_a_writer_takes_from_its_parent);
    UNIT(prefetched_chunks_are_hits);
    UNIT(a_corrupt_byte_in_each_region);
    UNIT(the_message_names_the_chunk);
    UNIT(a_file_cut_off_anywhere);
    UNIT(a_file_cut_off_while_it_is_open);
    UNIT(lying_entries);
    UNIT(a_short_chunk_is_no_long_one);
    UNIT(the_wrong_file_in_the_right_place);
    UNIT(older_layers_are_found_by_uuid);
    UNIT(layers_are_locked_while_they_are_used);
    UNIT(many_readers_at_once);
    return 0;
}
