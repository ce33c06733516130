/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/craft.h"

#include "lib/base/cleanup.h"
#include "lib/store/bgzf.h"
#include "lib/store/checksum.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <zstd.h>

static struct err e;

struct writer {
    int fd;
    uint64_t at;
};

static uint64_t append(struct writer *w, const void *p, size_t len, uint64_t alignment)
{
    uint64_t offset = round_up(w->at, alignment);
    CHECK_OK(full_pwrite(w->fd, p, len, offset, &e));
    w->at = offset + len;
    return offset;
}

static size_t compress_gzip(const uint8_t *p, size_t len, uint8_t *frame)
{
    struct libdeflate_compressor *z = libdeflate_alloc_compressor(1);
    CHECK(z);
    size_t stored = bgzf_compress(z, p, len, frame, len);
    libdeflate_free_compressor(z);
    return stored ? stored : len;
}

static void make_frame(struct writer *w, enum codec codec, const uint8_t *p, size_t len, struct leaf_entry *n)
{
    uint8_t frame[CHUNK_SIZE_MAX + 1024];
    size_t stored = len;
    if (codec == CODEC_ZSTD)
        stored = ZSTD_compress(frame, sizeof frame, p, len, 1);
    if (codec == CODEC_GZIP)
        stored = compress_gzip(p, len, frame);
    CHECK(!ZSTD_isError(stored));
    n->codec = stored < len ? codec : CODEC_RAW;
    n->stored = (uint32_t)min_u64(stored, len);
    n->offset = append(w, n->codec == CODEC_RAW ? p : frame, n->stored, codec == CODEC_RAW ? ALIGNMENT : 1);
}

static void make_entry(struct writer *w, struct craft *c, const struct craft_spec *spec, const struct disk *d,
                       uint64_t chunk, const struct craft *parent)
{
    uint64_t offset = chunk << spec->chunk_shift;
    size_t len = (size_t)min_u64(UINT64_C(1) << spec->chunk_shift, d->size - offset);
    struct leaf_entry n = {.layer = (uint16_t)(c->footer.table_length / TABLE_ENTRY_SIZE)}, old;
    uint8_t *out = c->leaves + chunk * ENTRY_SIZE;
    memset(out, 0, ENTRY_SIZE);
    if (all_zero(d->bytes + offset, len))
        return;
    hash_of(d->bytes + offset, len, &n.hash);
    if (parent && chunk < parent->chunks) {
        CHECK_OK(leaf_entry_decode(parent->leaves + chunk * ENTRY_SIZE, spec->chunk_shift, &old, &e));
        if (old.codec != CODEC_ZERO && hash_equal(&old.hash, &n.hash)) {
            memcpy(out, parent->leaves + chunk * ENTRY_SIZE, ENTRY_SIZE);
            return;
        }
    }
    make_frame(w, spec->codec, d->bytes + offset, len, &n);
    if (spec->spoil)
        spec->spoil(chunk, &n);
    leaf_entry_encode(&n, out);
}

static void make_root_entry(struct writer *w, struct craft *c, const struct craft_spec *spec, uint64_t leaf,
                            const struct craft *parent)
{
    uint8_t *raw = c->leaves + leaf * LEAF_SIZE;
    struct root_entry r = {.layer = (uint16_t)(c->footer.table_length / TABLE_ENTRY_SIZE)};
    uint8_t *out = c->root + leaf * ROOT_ENTRY_SIZE;
    if (spec->spoil_leaf)
        spec->spoil_leaf(leaf, raw);
    if (all_zero(raw, LEAF_SIZE)) {
        root_entry_encode(&(struct root_entry){.flags = ROOT_ZERO}, out);
    } else if (parent && leaf < div_up(parent->chunks, LEAF_CHUNKS) &&
               memcmp(parent->leaves + leaf * LEAF_SIZE, raw, LEAF_SIZE) == 0) {
        memcpy(out, parent->root + leaf * ROOT_ENTRY_SIZE, ROOT_ENTRY_SIZE);
    } else {
        r.offset = append(w, raw, LEAF_SIZE, ALIGNMENT);
        hash_of(raw, LEAF_SIZE, &r.hash);
        root_entry_encode(&r, out);
    }
}

static void make_table(struct craft *c, const struct craft *parent)
{
    if (!parent)
        return;
    size_t old = parent->footer.table_length;
    uint8_t footer[FOOTER_SIZE];
    struct table_entry t = {.layer = parent->footer.layer,
                            .version = parent->footer.version,
                            .file_length = parent->footer.file_length};
    footer_encode(&parent->footer, footer);
    memcpy(t.footer_hash.b, footer + FOOTER_SIZE - HASH_SIZE, HASH_SIZE);
    c->table = malloc(old + TABLE_ENTRY_SIZE);
    CHECK(c->table);
    if (old > 0)
        memcpy(c->table, parent->table, old);
    table_entry_encode(&t, c->table + old);
    c->footer.table_length = old + TABLE_ENTRY_SIZE;
    c->footer.parent_layer = parent->footer.layer;
    c->footer.parent_version = parent->footer.version;
}

static void start_footer(struct craft *c, const struct craft_spec *spec, uint64_t size)
{
    c->footer = (struct footer){.image = spec->image,
                                .overlay = spec->overlay,
                                .version = spec->version,
                                .virtual_size = size,
                                .chunk_shift = spec->chunk_shift,
                                .codec = spec->codec,
                                .level = 1};
    uuid_make(&c->footer.layer);
}

static void make_folders(const struct craft *c)
{
    struct store *s;
    CHECK_OK(store_open(c->images_dir, 0, &s, &e));
    CHECK_OK(store_make_image(s, &c->footer.image, &e));
    store_close(s);
}

static void finish(struct writer *w, struct craft *c)
{
    struct footer *f = &c->footer;
    struct checksum sum;
    checksum_start(&sum, f->virtual_size, f->chunk_shift);
    for (uint64_t i = 0; i < div_up(c->chunks, LEAF_CHUNKS); i++)
        checksum_leaf(&sum, i, c->leaves + i * LEAF_SIZE);
    checksum_end(&sum, f->checksum);
    uint8_t footer[FOOTER_SIZE];
    f->root_offset = append(w, c->root, f->root_length, 1);
    hash_of(c->root, f->root_length, &f->root_hash);
    f->table_offset = append(w, c->table, f->table_length, 1);
    hash_of(c->table ? c->table : (const uint8_t *)"", f->table_length, &f->table_hash);
    f->file_length = w->at + FOOTER_SIZE;
    footer_encode(f, footer);
    append(w, footer, sizeof footer, 1);
}

char *craft_path(const struct craft *c)
{
    char text[UUID_TEXT_SIZE];
    return path_format("%s/%s/%" PRIu64 ".img", c->images_dir, uuid_to_text(&c->footer.image, text),
                       c->footer.version);
}

void craft_layer(struct craft *c, const char *images_dir, const struct craft_spec *spec, const struct disk *d,
                 const struct craft *parent)
{
    memset(c, 0, sizeof *c);
    c->images_dir = images_dir;
    start_footer(c, spec, d->size);
    make_folders(c);
    make_table(c, parent);
    c->chunks = chunks_of(d->size, spec->chunk_shift);
    uint64_t leaves = leaves_of(d->size, spec->chunk_shift);
    c->footer.root_length = leaves * ROOT_ENTRY_SIZE;
    c->leaves = calloc(leaves + 1, LEAF_SIZE);
    c->root = calloc(leaves + 1, ROOT_ENTRY_SIZE);
    cleanup(free) char *path = craft_path(c);
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(c->leaves && c->root && fd >= 0);
    struct writer w = {.fd = fd};
    for (uint64_t i = 0; i < c->chunks; i++)
        make_entry(&w, c, spec, d, i, parent);
    c->footer.frame_bytes = w.at;
    for (uint64_t i = 0; i < leaves; i++)
        make_root_entry(&w, c, spec, i, parent);
    finish(&w, c);
}

void craft_release(struct craft *c)
{
    free(c->root);
    free(c->table);
    free(c->leaves);
}

/* --- stores --- */

const char *craft_images(void)
{
    static char *dir;
    if (!dir) {
        dir = path_format("%s/images", unit_dir());
        CHECK_OK(make_dirs(dir, 0700, &e));
    }
    return dir;
}

struct store *craft_store(uint64_t cache)
{
    struct store *s;
    CHECK_OK(store_open(craft_images(), cache, &s, &e));
    return s;
}

struct craft_spec craft_image(enum codec codec, unsigned chunk_shift)
{
    struct craft_spec spec = {.version = 100, .chunk_shift = chunk_shift, .codec = codec};
    uuid_make(&spec.image);
    return spec;
}

void craft_flip(const char *path, uint64_t offset)
{
    uint8_t b;
    cleanup(close) int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_OK(full_pread(fd, &b, 1, offset, &e));
    b ^= 0x10;
    CHECK_OK(full_pwrite(fd, &b, 1, offset, &e));
}

/* --- disks --- */

static uint64_t draw(unsigned *seed, uint64_t below)
{
    uint64_t r = (uint64_t)rand_r(seed) << 31 | (uint64_t)rand_r(seed);
    return r % below;
}

static void change_piece(struct disk *d, uint64_t offset, uint64_t len, unsigned *seed)
{
    unsigned kind = (unsigned)draw(seed, 4);
    uint8_t base = (uint8_t)draw(seed, 256);
    for (uint64_t i = offset; i < offset + len; i++)
        d->bytes[i] = kind == 0 ? 0 : kind == 1 ? (uint8_t)rand_r(seed) : (uint8_t)(base + i % 61);
}

void disk_change(struct disk *d, unsigned changes, unsigned *seed)
{
    static const uint64_t lengths[] = {1, 4096, 65536, 300000};
    while (d->size > 0 && changes-- > 0) {
        uint64_t offset = draw(seed, d->size);
        uint64_t len = 1 + draw(seed, lengths[draw(seed, ARRAY_SIZE(lengths))]);
        change_piece(d, offset, min_u64(len, d->size - offset), seed);
    }
}

void disk_make(struct disk *d, uint64_t size, unsigned *seed)
{
    d->size = size;
    d->bytes = calloc(1, size + 1);
    CHECK(d->bytes);
    disk_change(d, (unsigned)(size / 200000) + 3, seed);
}

void disk_copy(struct disk *to, const struct disk *from)
{
    to->size = from->size;
    to->bytes = malloc(from->size + 1);
    CHECK(to->bytes);
    memcpy(to->bytes, from->bytes, from->size);
}

void disk_release(struct disk *d)
{
    free(d->bytes);
}
