/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/fuzz/layer-file.h"

#include "lib/base/cleanup.h"
#include "lib/store/checksum.h"
#include "lib/store/decompress.h"
#include "lib/store/export.h"
#include "lib/store/flatten.h"
#include "lib/store/verify.h"
#include "tests/unit/craft.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <nettle/sha2.h>

static struct err e;

#define FUZZED 100u
#define PARENT_VERSION 50u
#define DISK_SIZE (2 * MIB + 40000u)

/* Where the fields stand, as drawn in format.h: the decoder would refuse what is to be mended. */
enum {
    AT_IMAGE = 48,
    AT_VERSION = 64,
    AT_SIZE = 96,
    AT_SHIFT = 104,
    AT_ROOT = 112,
    AT_TABLE = 144,
    AT_CHECKSUM = 192,
    AT_FILE_LENGTH = 224,
    AT_FOOTER_HASH = FOOTER_SIZE - HASH_SIZE,
};

static struct craft parents[LAYER_KINDS];
static struct uuid image;

/* --- making --- */

/* 16 KiB pieces: none, text, noise, text that the child changes; the last is short. */
static void fill_disk(struct disk *d, bool child)
{
    for (uint64_t i = 0; i < d->size; i++) {
        uint64_t piece = i >> 14;
        uint8_t noise = (uint8_t)((i * i * UINT64_C(2654435761)) >> 13);
        uint8_t text = (uint8_t)("labboot "[i % 8] + (piece == 3 && child));
        d->bytes[i] = piece % 40 == 1 || piece % 40 == 3   ? text
                      : piece % 40 == 2 && i % 16384 < 300 ? noise
                                                           : 0;
        if (i >= d->size - 40)
            d->bytes[i] = (uint8_t)(noise + child);
    }
}

static const struct craft_spec specs[LAYER_KINDS] = {
    {.codec = CODEC_ZSTD, .chunk_shift = 14},
    {.codec = CODEC_GZIP, .chunk_shift = 14},
    {.codec = CODEC_RAW, .chunk_shift = 14},
    {.codec = CODEC_ZSTD, .chunk_shift = 16},
};

struct layer_file layer_file_make(unsigned kind)
{
    struct craft_spec spec = specs[kind];
    struct disk d = {.bytes = calloc(1, DISK_SIZE), .size = DISK_SIZE};
    struct craft child;
    struct layer_file f;
    char *text;
    CHECK(d.bytes);
    if (uuid_is_zero(&image))
        uuid_make(&image);
    spec.image = image;
    spec.version = PARENT_VERSION + kind;
    fill_disk(&d, false);
    if (!parents[kind].root)
        craft_layer(&parents[kind], craft_images(), &spec, &d, NULL);
    spec.version = FUZZED;
    fill_disk(&d, true);
    craft_layer(&child, craft_images(), &spec, &d, &parents[kind]);
    cleanup(free) char *path = craft_path(&child);
    CHECK_OK(read_file(path, LAYER_FILE_MAX, &text, &f.size, &e));
    f.bytes = (uint8_t *)text;
    craft_release(&child);
    disk_release(&d);
    return f;
}

/* --- parts --- */

static const uint8_t *footer_of(const struct layer_file *f)
{
    return f->bytes + f->size - FOOTER_SIZE;
}

const uint8_t *layer_file_part(const struct layer_file *f, enum layer_part part, size_t *ret_size)
{
    const uint8_t *field = footer_of(f) + (part == LAYER_TABLE ? AT_TABLE : AT_ROOT);
    const uint8_t *at = f->bytes + get_le64(field);
    *ret_size = get_le64(field + 8);
    if (part != LAYER_LEAF)
        return at;
    *ret_size = LEAF_SIZE;
    return f->bytes + get_le64(at);
}

/* A root that is longer makes a larger disk. */
static void set_part(uint8_t *footer, enum layer_part part, uint64_t offset, uint64_t size)
{
    unsigned field = part == LAYER_TABLE ? AT_TABLE : AT_ROOT;
    put_le64(footer + field, offset);
    put_le64(footer + field + 8, size);
    if (part == LAYER_ROOT &&
        leaves_of(get_le64(footer + AT_SIZE), footer[AT_SHIFT]) != size / ROOT_ENTRY_SIZE)
        put_le64(footer + AT_SIZE, (size / ROOT_ENTRY_SIZE * LEAF_CHUNKS) << footer[AT_SHIFT]);
}

/* What is new stands before the footer; what it replaces stays where it is, and nothing names it. */
struct layer_file layer_file_with(const struct layer_file *whole, enum layer_part part, const uint8_t *data,
                                  size_t size)
{
    size_t body = whole->size - FOOTER_SIZE, old;
    struct layer_file f = {.bytes = malloc(whole->size + size), .size = whole->size};
    CHECK(f.bytes);
    memcpy(f.bytes, whole->bytes, whole->size);
    if (part == LAYER_LEAF) {
        size_t at = (size_t)(layer_file_part(whole, part, &old) - whole->bytes);
        memset(f.bytes + at, 0, LEAF_SIZE);
        memcpy(f.bytes + at, data, min_u64(size, LEAF_SIZE));
        return f;
    }
    if (size > 0)
        memcpy(f.bytes + body, data, size);
    f.size = whole->size + size;
    memcpy(f.bytes + body + size, footer_of(whole), FOOTER_SIZE);
    set_part(f.bytes + body + size, part, body, size);
    return f;
}

/* --- mending --- */

struct mend {
    uint8_t *bytes;
    uint64_t end; /* of what lies before the footer */
    uint8_t *footer, *root, *table;
    uint64_t size, leaves, root_length, table_length;
    unsigned shift, keep;
};

static void put_hash(uint8_t *at, const void *p, size_t len)
{
    struct hash h;
    hash_of(p, len, &h);
    memcpy(at, h.b, HASH_SIZE);
}

static bool lies_within(const struct mend *m, uint64_t offset, uint64_t length)
{
    return offset <= m->end && length <= m->end - offset;
}

/* The hash of what comes out of the frame, whatever that is. */
static void mend_chunk(const struct mend *m, uint8_t *entry, uint64_t chunk)
{
    static struct scratch_pool *pool;
    struct scratch *scratch;
    struct leaf_entry n;
    uint64_t from = chunk << m->shift;
    if (!pool)
        CHECK_OK(scratch_pool_new(&pool, &e));
    if (leaf_entry_decode(entry, m->shift, &n, &e) < 0 || n.codec == CODEC_ZERO || from >= m->size ||
        n.layer != m->table_length / TABLE_ENTRY_SIZE || !lies_within(m, n.offset, n.stored))
        return;
    CHECK_OK(scratch_take(pool, &scratch, &e));
    size_t len = (size_t)min_u64(UINT64_C(1) << m->shift, m->size - from);
    if (decompress(scratch, n.codec, m->bytes + n.offset, n.stored, scratch->chunk, len, &e) == 0)
        put_hash(entry + ENTRY_SIZE - HASH_SIZE, scratch->chunk, len);
    scratch_give(scratch);
}

static void mend_leaf(const struct mend *m, uint64_t leaf)
{
    uint8_t *entry = m->root + leaf * ROOT_ENTRY_SIZE;
    struct root_entry r;
    if (root_entry_decode(entry, &r, &e) < 0 || (r.flags & ROOT_ZERO) ||
        r.layer != m->table_length / TABLE_ENTRY_SIZE || !lies_within(m, r.offset, LEAF_SIZE))
        return;
    for (unsigned i = 0; i < LEAF_CHUNKS && !(m->keep & KEEP_CHUNKS); i++)
        mend_chunk(m, m->bytes + r.offset + i * ENTRY_SIZE, leaf * LEAF_CHUNKS + i);
    if (!(m->keep & KEEP_LEAVES))
        put_hash(entry + ROOT_ENTRY_SIZE - HASH_SIZE, m->bytes + r.offset, LEAF_SIZE);
}

static void mend_table(const struct mend *m)
{
    for (uint64_t at = 0; at + TABLE_ENTRY_SIZE <= m->table_length; at += TABLE_ENTRY_SIZE) {
        uint64_t kind = get_le64(m->table + at + 16) - PARENT_VERSION;
        if (kind >= LAYER_KINDS || !parents[kind].root || (m->keep & KEEP_PARENT))
            continue;
        uint8_t block[FOOTER_SIZE];
        const struct footer *f = &parents[kind].footer;
        struct table_entry t = {.layer = f->layer, .version = f->version, .file_length = f->file_length};
        footer_encode(f, block);
        memcpy(t.footer_hash.b, block + AT_FOOTER_HASH, HASH_SIZE);
        table_entry_encode(&t, m->table + at);
    }
}

/* Leaves of the parent are not looked for: they cannot be told here. */
static void mend_checksum(const struct mend *m)
{
    struct checksum sum;
    checksum_start(&sum, m->size, m->shift);
    for (uint64_t i = 0; i < m->leaves; i++) {
        struct root_entry r;
        if (root_entry_decode(m->root + i * ROOT_ENTRY_SIZE, &r, &e) == 0 && !(r.flags & ROOT_ZERO) &&
            lies_within(m, r.offset, LEAF_SIZE))
            checksum_leaf(&sum, i, m->bytes + r.offset);
    }
    checksum_end(&sum, m->footer + AT_CHECKSUM);
}

static void mend_sizes(struct mend *m)
{
    m->size = get_le64(m->footer + AT_SIZE);
    m->shift = m->footer[AT_SHIFT];
    if (m->shift < CHUNK_SHIFT_MIN || m->shift > CHUNK_SHIFT_MAX)
        return;
    if (!(m->keep & KEEP_SIZES)) {
        m->size %= LAYER_DISK_MAX + 1;
        put_le64(m->footer + AT_SIZE, m->size);
        put_le64(m->footer + AT_ROOT + 8, leaves_of(m->size, m->shift) * ROOT_ENTRY_SIZE);
        put_le64(m->footer + AT_FILE_LENGTH, m->end + FOOTER_SIZE);
    }
    uint64_t root = get_le64(m->footer + AT_ROOT), table = get_le64(m->footer + AT_TABLE);
    uint64_t root_length = get_le64(m->footer + AT_ROOT + 8),
             table_length = get_le64(m->footer + AT_TABLE + 8);
    if (!lies_within(m, root, root_length) || !lies_within(m, table, table_length))
        return;
    m->root = m->bytes + root;
    m->root_length = root_length;
    m->leaves = root_length / ROOT_ENTRY_SIZE;
    m->table = m->bytes + table;
    m->table_length = table_length;
}

void layer_file_mend(struct layer_file *f, unsigned keep)
{
    if (f->size < FOOTER_SIZE)
        return;
    struct mend m = {.bytes = f->bytes, .end = f->size - FOOTER_SIZE, .keep = keep};
    m.footer = f->bytes + m.end;
    memcpy(m.footer + AT_IMAGE, image.b, sizeof image.b);
    put_le64(m.footer + AT_VERSION, FUZZED);
    mend_sizes(&m);
    if (m.root) {
        mend_table(&m);
        for (uint64_t i = 0; i < m.leaves; i++)
            mend_leaf(&m, i);
        if (!(keep & KEEP_CHECKSUM))
            mend_checksum(&m);
        if (!(keep & KEEP_ROOT))
            put_hash(m.footer + AT_ROOT + 16, m.root, m.root_length);
        if (!(keep & KEEP_TABLE))
            put_hash(m.footer + AT_TABLE + 16, m.table, m.table_length);
    }
    put_hash(m.footer + AT_FOOTER_HASH, m.footer, AT_FOOTER_HASH);
}

/* --- using --- */

struct answer {
    bool good;
    uint64_t size;
    uint8_t *bytes;
};

/* Pieces that are no multiple of anything. */
static struct answer read_all(struct view *v)
{
    static uint8_t disk[LAYER_DISK_MAX];
    struct answer a = {.good = true, .size = view_footer(v)->virtual_size, .bytes = disk};
    CHECK(a.size <= sizeof disk);
    for (uint64_t at = 0, n; at < a.size; at += n) {
        n = min_u64(33333, a.size - at);
        if (view_pread(v, 1, disk + at, n, at, &e) < 0) {
            CHECK(e.code == ERR_CORRUPT && e.sys == EIO);
            a.good = false;
        }
    }
    return a;
}

/* A second time, from the cache or not. */
static void read_again(struct view *v, const struct answer *a)
{
    static uint8_t buf[100000];
    for (uint64_t at = 0, n; at < a->size && a->good; at += n) {
        n = min_u64(sizeof buf, a->size - at);
        CHECK_OK(view_pread(v, 2, buf, n, at, &e));
        CHECK(memcmp(buf, a->bytes + at, n) == 0);
    }
}

static void walk_extents(struct view *v, const struct answer *a)
{
    uint64_t length;
    bool zero;
    for (uint64_t at = 0; at < a->size; at += length) {
        if (view_extent(v, at, UINT64_MAX, &length, &zero, &e) < 0) {
            CHECK(e.code == ERR_CORRUPT && !a->good);
            return;
        }
        CHECK(length > 0 && length <= a->size - at);
        CHECK(!zero || !a->good || all_zero(a->bytes + at, length));
    }
}

static void compare_file(int fd, const struct answer *a)
{
    static uint8_t buf[65536];
    for (uint64_t at = 0, n; at < a->size; at += n) {
        n = min_u64(sizeof buf, a->size - at);
        CHECK_OK(full_pread(fd, buf, n, at, &e));
        CHECK(memcmp(buf, a->bytes + at, n) == 0);
    }
}

static void export_as(struct view *v, enum export_format format, const struct answer *a)
{
    const struct export_options o = {.format = format, .zstd_level = 1};
    cleanup(free) char *path = path_format("%s/exported", unit_dir());
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    int r = export_disk(v, fd, &o, &e);
    CHECK(a->good == (r == 0));
    if (r == 0 && format == EXPORT_RAW)
        compare_file(fd, a);
}

static bool verify(struct store *s, const struct answer *a, bool thorough)
{
    struct verify_result r = {.version = FUZZED};
    const struct verify_options o = {.threads = 1, .sha256 = thorough};
    uint8_t sum[SHA256_DIGEST_SIZE];
    struct sha256_ctx sha;
    CHECK_OK(store_verify(s, &image, &o, &r, 1, &e));
    if (r.damaged)
        return false;
    CHECK(a->good && r.has_sha256 == thorough);
    if (!thorough)
        return true;
    sha256_init(&sha);
    sha256_update(&sha, a->size, a->bytes);
    sha256_digest(&sha, sizeof sum, sum);
    CHECK(memcmp(sum, r.sha256, sizeof sum) == 0);
    return true;
}

/* `whole`: as verify says. */
static void flatten_it(struct store *s, struct view *v, bool whole)
{
    const struct flatten_options o = {.compression = {CODEC_ZSTD, 1}};
    struct build_result result;
    struct build *b;
    int r = flatten_build(s, v, &o, &b, &result, &e);
    CHECK(whole ? r == 0 || view_footer(v)->virtual_size == 0 : true);
    if (r == 0) {
        CHECK(memcmp(result.checksum, view_footer(v)->checksum, CHECKSUM_SIZE) == 0);
        build_free(b);
    }
}

static void use(struct store *s, bool thorough)
{
    struct view *v;
    if (view_open(s, &image, FUZZED, &v, &e) < 0) {
        CHECK(e.code == ERR_CORRUPT);
        struct answer none = {0};
        CHECK(!verify(s, &none, false));
        return;
    }
    (void)!view_check_layers(v, &e);
    struct answer a = read_all(v);
    read_again(v, &a);
    walk_extents(v, &a);
    if (a.size > 0)
        (void)!view_prefetch(v, 3, 0, a.size, &e);
    export_as(v, EXPORT_RAW, &a);
    for (enum export_format f = EXPORT_QCOW2; thorough && f <= EXPORT_GZIP; f++)
        export_as(v, f, &a);
    bool whole = verify(s, &a, thorough);
    if (thorough)
        flatten_it(s, v, whole);
    view_close(v);
}

void layer_file_exercise(const struct layer_file *f, bool thorough)
{
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *path =
        path_format("%s/%s/%u.img", craft_images(), uuid_to_text(&image, text), FUZZED);
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_OK(full_pwrite(fd, f->bytes, f->size, 0, &e));
    struct store *s = craft_store(0);
    /* What would not fit the buffer is only opened. */
    if (f->size >= FOOTER_SIZE && get_le64(f->bytes + f->size - FOOTER_SIZE + AT_SIZE) > LAYER_DISK_MAX) {
        struct view *v;
        if (view_open(s, &image, FUZZED, &v, &e) == 0)
            view_close(v);
    } else {
        use(s, thorough);
    }
    store_close(s);
}
