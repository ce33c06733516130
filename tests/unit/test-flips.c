/* SPDX-License-Identifier: BSD-3-Clause */
/* Every byte of a small image's files and of an overlay's is changed, one at a time, and more in other ways. Whatever it
 * was: what is read is what was written, or the reader is told; verify finds all that any reader would; export fails
 * where a read would. */
#include "lib/base/cleanup.h"
#include "lib/store/export.h"
#include "lib/store/overlay.h"
#include "lib/store/verify.h"
#include "tests/unit/craft.h"
#include "tests/unit/unit.h"

#include <fcntl.h>

static struct err e;
static unsigned seed = 11;

/* --- files that are changed and mended --- */

struct file {
    char *path;
    uint8_t *bytes;
    size_t size;
};

#define FILE_MAX (2 * MIB)

static void file_load(struct file *f, char *path)
{
    char *bytes;
    CHECK_OK(read_file(path, FILE_MAX, &bytes, &f->size, &e));
    f->path = path;
    f->bytes = (uint8_t *)bytes;
}

static void file_release(struct file *f)
{
    free(f->path);
    free(f->bytes);
}

static void file_write(const struct file *f, const uint8_t *bytes, size_t count, uint64_t offset)
{
    cleanup(close) int fd = open(f->path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_OK(full_pwrite(fd, bytes, count, offset, &e));
}

static void file_flip(const struct file *f, uint64_t at, uint8_t mask)
{
    uint8_t byte = f->bytes[at] ^ mask;
    file_write(f, &byte, 1, at);
}

static void file_mend(const struct file *f)
{
    CHECK(truncate(f->path, (off_t)f->size) == 0);
    file_write(f, f->bytes, f->size, 0);
}

/* Bits in turn, and a whole byte. */
static uint8_t mask_of(uint64_t at)
{
    return at % 9 == 8 ? 0xff : (uint8_t)(1u << at % 9);
}

static uint64_t draw(uint64_t below)
{
    return ((uint64_t)rand_r(&seed) << 31 | (uint64_t)rand_r(&seed)) % below;
}

/* Some bytes, two pieces that change places, or a piece that is lost. */
static void file_spoil(const struct file *f)
{
    uint8_t piece[512], other[512];
    size_t len = 1 + draw(draw(2) ? 8 : sizeof piece);
    uint64_t at = draw(f->size - len), from = draw(f->size - len);
    memcpy(piece, f->bytes + at, len);
    memcpy(other, f->bytes + from, len);
    switch (draw(3)) {
    case 0:
        for (size_t i = 0; i < len; i++)
            piece[i] = (uint8_t)rand_r(&seed);
        file_write(f, piece, len, at);
        break;
    case 1:
        file_write(f, piece, len, from);
        file_write(f, other, len, at);
        break;
    default:
        memset(piece, 0, len);
        file_write(f, piece, len, at);
    }
}

/* --- an image --- */

/* Three versions, compressed in each way there is, each with chunks of all before it. */
#define VERSIONS 3u
#define CHUNK (16 * KIB)
#define DISK_SIZE (6 * CHUNK + 700)

static const enum codec codecs[VERSIONS] = {CODEC_ZSTD, CODEC_GZIP, CODEC_RAW};

struct image {
    struct craft_spec spec;
    struct disk disks[VERSIONS];
    struct craft layers[VERSIONS];
    struct file files[VERSIONS];
};

static void fill(struct disk *d, uint64_t from, uint64_t count, unsigned kind)
{
    for (uint64_t i = from; i < from + count; i++)
        d->bytes[i] = kind == 0 ? (uint8_t)rand_r(&seed) : (uint8_t)(kind + i % 13);
}

static void image_make(struct image *m)
{
    m->spec = craft_image(CODEC_ZSTD, 14);
    for (unsigned i = 0; i < VERSIONS; i++) {
        if (i == 0)
            m->disks[0] = (struct disk){.bytes = calloc(1, DISK_SIZE), .size = DISK_SIZE};
        else
            disk_copy(&m->disks[i], &m->disks[i - 1]);
        struct disk *d = &m->disks[i];
        CHECK(d->bytes);
        if (i == 0)
            fill(d, CHUNK, 2 * CHUNK, 5); /* 0, 3 and 4 stay zero; 2 is of the first alone */
        if (i < 2)
            fill(d, 5 * CHUNK - i * CHUNK, CHUNK, 30 + i);
        fill(d, 6 * CHUNK, 700, 0); /* noise, so it is stored as it is */
        m->spec.version = 100 + i;
        m->spec.codec = codecs[i];
        craft_layer(&m->layers[i], craft_images(), &m->spec, d, i ? &m->layers[i - 1] : NULL);
        file_load(&m->files[i], craft_path(&m->layers[i]));
    }
}

static void image_release(struct image *m)
{
    for (unsigned i = 0; i < VERSIONS; i++) {
        craft_release(&m->layers[i]);
        disk_release(&m->disks[i]);
        file_release(&m->files[i]);
    }
}

static void expect_damage(const struct err *x)
{
    if (x->code != ERR_CORRUPT && x->sys != EIO) {
        fprintf(stderr, "no damage: %s\n", x->msg);
        exit(1);
    }
}

/* In pieces, so that what is whole of a damaged disk is read too. False: something was damaged. */
static bool read_all(struct view *v, const struct disk *d)
{
    uint8_t buf[4096];
    bool good = true;
    for (uint64_t at = 0, n; at < d->size; at += n) {
        n = min_u64(sizeof buf, d->size - at);
        if (view_pread(v, 1, buf, n, at, &e) == 0) {
            CHECK(memcmp(buf, d->bytes + at, n) == 0);
            continue;
        }
        expect_damage(&e);
        good = false;
    }
    return good;
}

static void compare_export(struct view *v, const struct disk *d, bool good)
{
    static uint8_t buf[DISK_SIZE];
    cleanup(free) char *path = path_format("%s/exported", unit_dir());
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    if (export_disk(v, fd, &(struct export_options){0}, &e) < 0) {
        expect_damage(&e);
        CHECK(!good);
        return;
    }
    CHECK(good && lseek(fd, 0, SEEK_END) == (off_t)d->size);
    CHECK_OK(full_pread(fd, buf, d->size, 0, &e));
    CHECK(memcmp(buf, d->bytes, d->size) == 0);
}

/* Which versions can be read to their end, a bit each. */
static unsigned read_versions(struct store *s, const struct image *m, bool export)
{
    unsigned good = 0;
    for (unsigned i = 0; i < VERSIONS; i++) {
        struct view *v;
        if (view_open(s, &m->spec.image, 100 + i, &v, &e) < 0) {
            expect_damage(&e);
            continue;
        }
        bool whole = read_all(v, &m->disks[i]);
        good |= whole ? 1u << i : 0;
        if (export)
            compare_export(v, &m->disks[i], whole);
        view_close(v);
    }
    return good;
}

static unsigned verify(struct store *s, const struct image *m, unsigned first, unsigned count)
{
    struct verify_result r[VERSIONS] = {0};
    const struct verify_options o = {.threads = 1};
    unsigned good = 0;
    for (unsigned i = 0; i < count; i++)
        r[i].version = 100 + first + i;
    CHECK_OK(store_verify(s, &m->spec.image, &o, r, count, &e));
    for (unsigned i = 0; i < count; i++)
        good |= r[i].damaged ? 0 : 1u << (first + i);
    return good;
}

struct tally {
    unsigned all, found, harmless;
};

/* `thorough`: export too, and verify each version alone. */
static void judge(const struct image *m, bool thorough, struct tally *t)
{
    struct store *s = craft_store(0);
    unsigned readable = read_versions(s, m, thorough);
    unsigned whole = verify(s, m, 0, VERSIONS);
    for (unsigned i = 0; i < VERSIONS && thorough; i++)
        whole |= verify(s, m, i, 1);
    if (whole & ~readable) {
        fprintf(stderr, "verify: %x are whole, but only %x can be read\n", whole, readable);
        exit(1);
    }
    store_close(s);
    t->all++;
    t->found += whole != (1u << VERSIONS) - 1;
    t->harmless += readable == (1u << VERSIONS) - 1;
}

static void report(const char *what, const struct tally *t)
{
    printf("# %s: %u changes, %u found by verify, %u harmless\n", what, t->all, t->found, t->harmless);
}

static void any_byte_of_any_layer(void)
{
    struct image m;
    struct tally whole = {0}, t = {0};
    image_make(&m);
    judge(&m, true, &whole);
    CHECK(whole.harmless == 1 && whole.found == 0);
    for (unsigned i = 0; i < VERSIONS; i++)
        for (uint64_t at = 0; at < m.files[i].size; at++) {
            file_flip(&m.files[i], at, mask_of(at));
            judge(&m, at % 16 == 0, &t);
            file_write(&m.files[i], m.files[i].bytes + at, 1, at);
        }
    report("flipped bits", &t);
    CHECK(t.found > 3 * (FOOTER_SIZE + LEAF_SIZE) && t.found + t.harmless >= t.all);
    judge(&m, true, &whole);
    CHECK(whole.harmless == 2 && whole.found == 0);
    image_release(&m);
}

static void other_damage_of_layers(void)
{
    struct image m;
    struct tally t = {0};
    image_make(&m);
    for (unsigned i = 0; i < 1500; i++) {
        const struct file *f = &m.files[i % VERSIONS];
        file_spoil(f);
        if (i % 3 == 0)
            file_spoil(f);
        judge(&m, i % 4 == 0, &t);
        file_mend(f);
    }
    report("other damage", &t);
    CHECK(t.found > 500);
    image_release(&m);
}

static void layers_of_other_lengths(void)
{
    struct image m;
    struct tally t = {0};
    image_make(&m);
    for (unsigned i = 0; i < VERSIONS; i++) {
        for (uint64_t size = 0; size < m.files[i].size + 5000; size += 61) {
            if (size == m.files[i].size)
                continue;
            CHECK(truncate(m.files[i].path, (off_t)size) == 0);
            judge(&m, false, &t);
            file_mend(&m.files[i]);
        }
    }
    report("other lengths", &t);
    CHECK(t.found == t.all && t.harmless == 0);
    image_release(&m);
}

/* --- an overlay --- */

#define BLOCKS 40u
#define OVERLAY_SIZE (BLOCKS * OVERLAY_BLOCK - 300)
static const struct overlay_limits no_limits;

static int read_base(void *ctx, void *buf, size_t count, uint64_t offset, struct err *unused)
{
    (void)ctx;
    (void)unused;
    CHECK(offset + count <= OVERLAY_SIZE);
    memset(buf, 0x77, count);
    return 0;
}
static const struct reader base = {.size = OVERLAY_SIZE, .pread = read_base};

struct changed_disk {
    char *dir;
    uint8_t bytes[OVERLAY_SIZE];
    struct file meta, data, map;
    struct tally tally;
};

static void put(struct changed_disk *d, struct overlay *o, uint64_t at, uint64_t len)
{
    for (uint64_t i = at; i < at + len; i++)
        d->bytes[i] = (uint8_t)(at / 100 + i % 17);
    CHECK_OK(overlay_pwrite(o, &base, d->bytes + at, len, at, &e));
}

/* Written, zeroed, written over, flushed in between and at the end. */
static void overlay_make(struct changed_disk *d, bool durable, bool sealed)
{
    static unsigned n;
    struct overlay_meta meta = {.base_version = 1, .size = OVERLAY_SIZE, .durable = durable};
    struct overlay *o;
    memset(d, 0, sizeof *d);
    memset(d->bytes, 0x77, sizeof d->bytes);
    d->dir = path_format("%s/overlay-%u", unit_dir(), n++);
    CHECK_OK(overlay_create(d->dir, &meta, &no_limits, &o, &e));
    put(d, o, 100, 9000);
    CHECK_OK(overlay_zero(o, &base, 4 * OVERLAY_BLOCK, 20 * OVERLAY_BLOCK, &e));
    memset(d->bytes + 20 * OVERLAY_BLOCK, 0, 4 * OVERLAY_BLOCK);
    CHECK_OK(overlay_flush(o, &e));
    put(d, o, 4096, 4096);
    put(d, o, 21 * OVERLAY_BLOCK + 5, 50);
    put(d, o, OVERLAY_SIZE - 10, 10);
    CHECK_OK(sealed ? overlay_seal(o, &e) : overlay_flush(o, &e));
    overlay_close(o);
    file_load(&d->meta, path_format("%s/meta", d->dir));
    file_load(&d->data, path_format("%s/data", d->dir));
    file_load(&d->map, path_format("%s/map", d->dir));
}

static void overlay_release(struct changed_disk *d)
{
    file_release(&d->meta);
    file_release(&d->data);
    file_release(&d->map);
    free(d->dir);
}

/* All of it was acknowledged and flushed, so nothing of it may be missing without a word. */
static void judge_overlay(struct changed_disk *d)
{
    struct overlay *o;
    uint8_t buf[OVERLAY_BLOCK];
    bool good = true;
    d->tally.all++;
    if (overlay_open(d->dir, &no_limits, &o, &e) < 0) {
        expect_damage(&e);
        d->tally.found++;
        return;
    }
    for (uint64_t at = 0, n; at < OVERLAY_SIZE; at += n) {
        n = min_u64(sizeof buf, OVERLAY_SIZE - at);
        if (overlay_pread(o, &base, buf, n, at, &e) == 0) {
            CHECK(memcmp(buf, d->bytes + at, n) == 0);
            continue;
        }
        expect_damage(&e);
        good = false;
    }
    d->tally.found += !good;
    d->tally.harmless += good;
    overlay_close(o);
}

static size_t used(const struct file *f)
{
    size_t n = f->size;
    while (n > 0 && f->bytes[n - 1] == 0)
        n--;
    return n;
}

/* Opening one that is not sealed cuts its map. */
static void flip_all(struct changed_disk *d, const struct file *f, size_t count)
{
    const size_t map_size = used(&d->map) + 8;
    for (uint64_t at = 0; at < count; at++) {
        file_flip(f, at, mask_of(at));
        judge_overlay(d);
        file_write(f, f->bytes + at, 1, at);
        file_write(&d->map, d->map.bytes, map_size, 0);
    }
}

static void any_byte_of_a_sealed_overlay(void)
{
    struct changed_disk d;
    overlay_make(&d, false, true);
    judge_overlay(&d);
    CHECK(d.tally.harmless == 1);
    flip_all(&d, &d.meta, d.meta.size);
    CHECK(d.tally.found == d.meta.size);
    flip_all(&d, &d.data, d.data.size);
    flip_all(&d, &d.map, used(&d.map) + 100);
    report("a sealed overlay", &d.tally);
    /* the blocks that were written over; the SEAL, of which a SYNC stands before; and the tail */
    CHECK(d.tally.harmless > 3000 && d.tally.found > 4 * OVERLAY_BLOCK);
    overlay_release(&d);
}

static void any_byte_of_a_flushed_map(void)
{
    struct changed_disk d;
    overlay_make(&d, true, false);
    judge_overlay(&d);
    CHECK(d.tally.harmless == 1);
    file_mend(&d.map);
    flip_all(&d, &d.map, used(&d.map) + 8);
    report("the map of a flushed overlay", &d.tally);
    CHECK(d.tally.found > 200);
    overlay_release(&d);
}

int main(void)
{
    UNIT(any_byte_of_any_layer);
    UNIT(other_damage_of_layers);
    UNIT(layers_of_other_lengths);
    UNIT(any_byte_of_a_sealed_overlay);
    UNIT(any_byte_of_a_flushed_map);
    return 0;
}
