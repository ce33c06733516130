/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/store: verify. Whatever is wrong with a layer's file is found, told of the versions that it touches, and of no
 * other; and no file brings the program down. */
#include "lib/base/cleanup.h"
#include "lib/store/verify.h"
#include "tests/unit/craft.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

static struct err e;
static unsigned seed = 7;

/* Three versions, each with a change of its own in a chunk of its own. */
#define VERSIONS 3
#define DISK_SIZE (20 * MIB + 4321)

struct lineage {
    struct craft_spec spec;
    struct disk disks[VERSIONS];
    struct craft layers[VERSIONS];
    char *paths[VERSIONS];
};

static void lineage_make(struct lineage *l, enum codec codec)
{
    l->spec = craft_image(codec, 16);
    for (unsigned i = 0; i < VERSIONS; i++) {
        if (i == 0)
            disk_make(&l->disks[0], DISK_SIZE, &seed);
        else
            disk_copy(&l->disks[i], &l->disks[i - 1]);
        /* chunk 10 is new in each; chunk 11 is of the first alone */
        memset(l->disks[i].bytes + 10 * 65536, (int)i + 1, 65536);
        memset(l->disks[i].bytes + 11 * 65536, 9, 65536);
        l->spec.version = 100 + i;
        craft_layer(&l->layers[i], craft_images(), &l->spec, &l->disks[i], i ? &l->layers[i - 1] : NULL);
        l->paths[i] = craft_path(&l->layers[i]);
    }
}

static void lineage_release(struct lineage *l)
{
    for (unsigned i = 0; i < VERSIONS; i++) {
        craft_release(&l->layers[i]);
        disk_release(&l->disks[i]);
        free(l->paths[i]);
    }
}

static void verify(const struct lineage *l, const struct verify_options *o, struct verify_result *r, size_t n)
{
    struct store *s = craft_store(0);
    for (size_t i = 0; i < n; i++)
        r[i] = (struct verify_result){.version = 100 + i};
    CHECK_OK(store_verify(s, &l->spec.image, o, r, n, &e));
    store_close(s);
}

/* `damaged`: a letter a version, d or w. */
static void expect(const struct lineage *l, const char *damaged)
{
    struct verify_result r[VERSIONS];
    const struct verify_options o = {.threads = 3};
    verify(l, &o, r, VERSIONS);
    for (unsigned i = 0; i < VERSIONS; i++) {
        if (r[i].damaged != (damaged[i] == 'd')) {
            fprintf(stderr, "version %u of %s: %s\n", i, damaged, r[i].damaged ? r[i].why : "whole");
            exit(1);
        }
        CHECK(r[i].damaged == (r[i].why[0] != '\0'));
    }
}

/* The first chunk from there on that is not zero. */
static unsigned chunk_with_data(const struct craft *c, unsigned chunk)
{
    struct leaf_entry n;
    for (;; chunk++) {
        CHECK(chunk < c->chunks);
        CHECK_OK(leaf_entry_decode(c->leaves + chunk * ENTRY_SIZE, 16, &n, &e));
        if (n.codec != CODEC_ZERO)
            return chunk;
    }
}

static uint64_t frame_of(const struct craft *c, unsigned chunk)
{
    struct leaf_entry n;
    CHECK_OK(leaf_entry_decode(c->leaves + chunk * ENTRY_SIZE, 16, &n, &e));
    return n.offset + 3;
}

static void all_is_well(void)
{
    static const enum codec codecs[] = {CODEC_ZSTD, CODEC_RAW};
    for (unsigned k = 0; k < ARRAY_SIZE(codecs); k++) {
        struct lineage l;
        struct verify_result r[VERSIONS];
        const struct verify_options o = {.sha256 = true, .threads = 4};
        lineage_make(&l, codecs[k]);
        expect(&l, "www");
        verify(&l, &o, r, VERSIONS);
        for (unsigned i = 0; i < VERSIONS; i++) {
            uint8_t sum[SHA256_DIGEST_SIZE];
            struct sha256_ctx sha;
            sha256_init(&sha);
            sha256_update(&sha, l.disks[i].size, l.disks[i].bytes);
            sha256_digest(&sha, sizeof sum, sum);
            CHECK(!r[i].damaged && r[i].has_sha256 && memcmp(sum, r[i].sha256, sizeof sum) == 0);
        }
        lineage_release(&l);
    }
}

static void damage_is_told_of_those_it_touches(void)
{
    struct lineage l;
    lineage_make(&l, CODEC_ZSTD);
    struct {
        unsigned version, chunk;
        const char *damaged;
    } cases[] = {{0, 10, "dww"}, {1, 10, "wdw"}, {2, 10, "wwd"}, {0, 11, "ddd"}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t at = frame_of(&l.layers[cases[i].version], cases[i].chunk);
        craft_flip(l.paths[cases[i].version], at);
        expect(&l, cases[i].damaged);
        craft_flip(l.paths[cases[i].version], at);
        expect(&l, "www");
    }
    lineage_release(&l);
}

static void damage_of_the_index(void)
{
    struct lineage l;
    lineage_make(&l, CODEC_ZSTD);
    const struct footer *f = &l.layers[0].footer;
    struct root_entry root;
    CHECK_OK(root_entry_decode(l.layers[0].root, &root, &e));
    /* The root of the first is its own; its leaf 0 too, for the others have their own; its footer is everybody's. */
    struct {
        uint64_t at;
        const char *damaged;
    } cases[] = {{f->root_offset + 5, "dww"}, {root.offset + 77, "dww"}, {f->file_length - 100, "ddd"}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        craft_flip(l.paths[0], cases[i].at);
        expect(&l, cases[i].damaged);
        craft_flip(l.paths[0], cases[i].at);
    }
    craft_flip(l.paths[2], l.layers[2].footer.table_offset + 1);
    expect(&l, "wwd");
    craft_flip(l.paths[2], l.layers[2].footer.table_offset + 1);
    expect(&l, "www");
    lineage_release(&l);
}

/* A leaf that is lost hides frames, which the younger versions still have: one of those is damaged too. */
static void a_lost_leaf_hides_nothing(void)
{
    struct lineage l;
    struct root_entry root;
    lineage_make(&l, CODEC_ZSTD);
    CHECK_OK(root_entry_decode(l.layers[0].root, &root, &e));
    craft_flip(l.paths[0], root.offset);
    craft_flip(l.paths[0], frame_of(&l.layers[0], 11));
    expect(&l, "ddd");
    lineage_release(&l);
}

static void files_that_are_gone(void)
{
    struct lineage l;
    lineage_make(&l, CODEC_ZSTD);
    cleanup(free) char *aside = path_format("%s/aside", unit_dir());
    CHECK(rename(l.paths[0], aside) == 0);
    expect(&l, "ddd");
    CHECK(rename(aside, l.paths[0]) == 0);
    CHECK(truncate(l.paths[0], 1000) == 0);
    expect(&l, "ddd");
    CHECK(truncate(l.paths[0], 0) == 0);
    expect(&l, "ddd");
    CHECK(unlink(l.paths[0]) == 0 && mkdir(l.paths[0], 0700) == 0);
    expect(&l, "ddd");
    lineage_release(&l);
}

/* --- files that are written to deceive: every hash in them is right --- */

#define SPOILER(name, what)                                                                                  \
    static void name(uint64_t chunk, struct leaf_entry *n)                                                   \
    {                                                                                                        \
        if (chunk == 11) {                                                                                   \
            what;                                                                                            \
        }                                                                                                    \
    }
SPOILER(no_such_layer, n->layer = 999)
SPOILER(far_away, n->offset = UINT64_MAX - 10)
SPOILER(in_the_footer, n->offset = 1 << 30)
SPOILER(too_short, n->stored = 1)
SPOILER(other_codec, n->codec = CODEC_RAW; n->stored = 65536)
SPOILER(not_gzip, n->codec = CODEC_GZIP)
SPOILER(other_hash, n->hash.b[0] ^= 1)

static void (*const spoilers[])(uint64_t, struct leaf_entry *) = {
    no_such_layer, far_away, in_the_footer, too_short, other_codec, not_gzip, other_hash};

static void hostile_entries(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(spoilers); i++) {
        struct lineage l = {.spec = craft_image(CODEC_ZSTD, 16)};
        struct verify_result r = {.version = 100};
        struct craft c;
        const struct verify_options o = {0};
        l.spec.spoil = spoilers[i];
        disk_make(&l.disks[0], MIB, &seed);
        memset(l.disks[0].bytes + 11 * 65536, 9, 65536);
        craft_layer(&c, craft_images(), &l.spec, &l.disks[0], NULL);
        verify(&l, &o, &r, 1);
        CHECK(r.damaged);
        craft_release(&c);
        disk_release(&l.disks[0]);
    }
}

static void past_the_end(uint64_t leaf, uint8_t raw[LEAF_SIZE])
{
    (void)leaf;
    memcpy(raw + 100 * ENTRY_SIZE, raw + 11 * ENTRY_SIZE, ENTRY_SIZE);
}

/* Of a disk of 16 chunks: nobody reads it there, but it cannot be flattened. */
static void a_chunk_past_the_end(void)
{
    struct lineage l = {.spec = craft_image(CODEC_ZSTD, 16)};
    struct verify_result r = {.version = 100};
    struct craft c;
    const struct verify_options o = {0};
    disk_make(&l.disks[0], MIB, &seed);
    memset(l.disks[0].bytes + 11 * 65536, 9, 65536);
    l.spec.spoil_leaf = past_the_end;
    craft_layer(&c, craft_images(), &l.spec, &l.disks[0], NULL);
    verify(&l, &o, &r, 1);
    CHECK(r.damaged && strstr(r.why, "chunk 100: past the end of the disk"));
    craft_release(&c);
    disk_release(&l.disks[0]);
}

/* Any byte of a file may be another: it is found, or it is one that nothing reads. */
static void any_byte(void)
{
    struct lineage l;
    lineage_make(&l, CODEC_ZSTD);
    struct verify_result r[VERSIONS];
    const struct verify_options o = {.sha256 = true};
    struct verify_result before[VERSIONS];
    unsigned found = 0;
    verify(&l, &o, before, VERSIONS);
    for (unsigned i = 0; i < 60; i++) {
        unsigned v = i % VERSIONS;
        struct stat st;
        CHECK(stat(l.paths[v], &st) == 0);
        /* mostly in the indexes, which are at the end */
        uint64_t back = (uint64_t)rand_r(&seed) % (i % 2 ? (uint64_t)st.st_size : 20000);
        uint64_t at = (uint64_t)st.st_size - 1 - min_u64(back, (uint64_t)st.st_size - 1);
        craft_flip(l.paths[v], at);
        verify(&l, &o, r, VERSIONS);
        found += r[v].damaged;
        for (unsigned k = 0; k < VERSIONS; k++)
            CHECK(r[k].damaged || memcmp(r[k].sha256, before[k].sha256, CHECKSUM_SIZE) == 0);
        craft_flip(l.paths[v], at);
    }
    CHECK(found > 40);
    lineage_release(&l);
}

/* --- work --- */

static uint64_t bytes_read(void)
{
    cleanup(free) char *text = NULL;
    CHECK_OK(read_file("/proc/self/io", 4096, &text, NULL, &e));
    return strtoull(text + strlen("rchar: "), NULL, 10);
}

static void what_is_shared_is_read_once(void)
{
    struct lineage l;
    struct verify_result r[VERSIONS];
    const struct verify_options o = {0};
    lineage_make(&l, CODEC_RAW);
    uint64_t start = bytes_read();
    verify(&l, &o, r, 1);
    uint64_t one = bytes_read() - start;
    verify(&l, &o, r, VERSIONS);
    uint64_t all = bytes_read() - start - one;
    CHECK(one > 2 * MIB && all < one + one / 4 + MIB / 2);
    /* without the oldest one's file at its place, its frames are those of no version */
    struct store *s = craft_store(0);
    cleanup(free) char *dir = path_format("%.*s", (int)(strrchr(l.paths[0], '/') - l.paths[0]), l.paths[0]);
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *retired =
        path_format("%s/retired/%s.img", dir, uuid_to_text(&l.layers[0].footer.layer, text));
    CHECK(rename(l.paths[0], retired) == 0);
    r[0].version = 101;
    r[1].version = 102;
    start = bytes_read();
    CHECK_OK(store_verify(s, &l.spec.image, &o, r, 2, &e));
    CHECK(!r[0].damaged && !r[1].damaged && bytes_read() - start < one + one / 4 + MIB / 2);
    store_close(s);
    lineage_release(&l);
}

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
    CHECK(done == 0 && total == 0); /* it still counts */
    ++*(unsigned *)ctx;
    return false;
}

static void it_can_be_interrupted(void)
{
    struct lineage l;
    struct verify_result r[VERSIONS] = {{.version = 100}, {.version = 101}, {.version = 102}};
    unsigned calls = 0;
    const struct verify_options o = {.progress = {.report = stop, .ctx = &calls}, .threads = 4};
    lineage_make(&l, CODEC_ZSTD);
    struct store *s = craft_store(0);
    CHECK_FAILS(store_verify(s, &l.spec.image, &o, r, VERSIONS, &e), ERR_FAILED);
    CHECK_STR(e.msg, "interrupted");
    CHECK(calls == 1);
    store_close(s);
    lineage_release(&l);
}

/* --- slowly, and again later --- */

struct watched {
    uint64_t bytes, limit; /* asked for; where it is stopped, 0: never */
    uint64_t to;           /* of the version that is not over yet */
    unsigned over, calls;
    bool damaged;
};

static bool count_bytes(void *ctx, uint64_t bytes)
{
    struct watched *w = ctx;
    w->bytes += bytes;
    return w->limit == 0 || w->bytes < w->limit;
}

static void see(void *ctx, const struct verify_result *r, uint64_t to, bool over)
{
    struct watched *w = ctx;
    CHECK(over || to > w->to);
    w->calls++;
    w->over += over;
    w->to = over ? 0 : to;
    w->damaged |= r->damaged;
}

static struct verify_options watching(struct watched *w)
{
    *w = (struct watched){.bytes = 0};
    return (struct verify_options){.watch = {.pace = count_bytes, .seen = see, .ctx = w}, .threads = 1};
}

static uint64_t file_size(const char *path)
{
    struct stat st;
    CHECK(stat(path, &st) == 0);
    return (uint64_t)st.st_size;
}

static void what_is_read_is_told_before(void)
{
    struct lineage l;
    struct verify_result r[VERSIONS];
    struct watched w;
    struct verify_options o = watching(&w);
    lineage_make(&l, CODEC_RAW);
    verify(&l, &o, r, VERSIONS);
    uint64_t files = 0;
    for (unsigned i = 0; i < VERSIONS; i++)
        files += file_size(l.paths[i]);
    CHECK(w.over == VERSIONS && w.calls == VERSIONS * 4); /* three leaves each */
    CHECK(w.bytes > files - VERSIONS * 4 * 65536 && w.bytes < files + VERSIONS * 3 * LEAF_SIZE);
    lineage_release(&l);
}

/* Layers that were found whole are not read again, and of the others only what is theirs. */
static void what_is_known_is_not_read(void)
{
    struct lineage l;
    struct watched w;
    struct verify_options o = watching(&w);
    lineage_make(&l, CODEC_RAW);
    const struct uuid known[] = {l.layers[0].footer.layer, l.layers[1].footer.layer};
    o.known = known;
    o.nknown = 2;
    struct store *s = craft_store(0);
    struct verify_result r = {.version = 102};
    CHECK_OK(store_verify(s, &l.spec.image, &o, &r, 1, &e));
    CHECK(!r.damaged && w.bytes == 65536 + 3 * LEAF_SIZE);
    /* So damage there is nobody's business now; in its own chunk it is. */
    craft_flip(l.paths[0], frame_of(&l.layers[0], 11));
    CHECK_OK(store_verify(s, &l.spec.image, &o, &r, 1, &e));
    CHECK(!r.damaged);
    craft_flip(l.paths[2], frame_of(&l.layers[2], 10));
    CHECK_OK(store_verify(s, &l.spec.image, &o, &r, 1, &e));
    CHECK(r.damaged && r.damaged_chunks == 1);
    store_close(s);
    lineage_release(&l);
}

/* Stopped at any place, it goes on there: everything is read once, and found. */
static void it_goes_on_where_it_was(void)
{
    struct lineage l;
    struct watched whole, part;
    struct verify_options o = watching(&whole);
    lineage_make(&l, CODEC_ZSTD);
    struct store *s = craft_store(0);
    struct verify_result r = {.version = 100};
    CHECK_OK(store_verify(s, &l.spec.image, &o, &r, 1, &e));
    uint64_t first = frame_of(&l.layers[0], chunk_with_data(&l.layers[0], 0));
    uint64_t last = frame_of(&l.layers[0], chunk_with_data(&l.layers[0], 256));
    for (uint64_t limit = 1; limit < whole.bytes; limit += whole.bytes / 7) {
        o = watching(&part);
        part.limit = limit;
        r.from = 0;
        CHECK_FAILS(store_verify(s, &l.spec.image, &o, &r, 1, &e), ERR_FAILED);
        CHECK_STR(e.msg, "interrupted");
        r.from = part.to;
        o = watching(&part);
        CHECK_OK(store_verify(s, &l.spec.image, &o, &r, 1, &e));
        CHECK(!r.damaged && part.over == 1 && part.bytes <= whole.bytes);
        CHECK(r.from < 16 * MIB || part.bytes < whole.bytes / 2);
        craft_flip(l.paths[0], last);
        CHECK_OK(store_verify(s, &l.spec.image, &o, &r, 1, &e));
        CHECK(r.damaged);
        craft_flip(l.paths[0], last);
        craft_flip(l.paths[0], first);
        CHECK_OK(store_verify(s, &l.spec.image, &o, &r, 1, &e));
        CHECK(r.damaged == (r.from == 0));
        craft_flip(l.paths[0], first);
    }
    store_close(s);
    lineage_release(&l);
}

static void it_says_in_which_files_the_damage_lies(void)
{
    struct lineage l;
    struct verify_result r[VERSIONS];
    const struct verify_options o = {0};
    lineage_make(&l, CODEC_ZSTD);
    craft_flip(l.paths[0], frame_of(&l.layers[0], 11));
    craft_flip(l.paths[0], frame_of(&l.layers[0], chunk_with_data(&l.layers[0], 12)));
    craft_flip(l.paths[2], frame_of(&l.layers[2], 10));
    verify(&l, &o, r, VERSIONS);
    for (unsigned i = 0; i < VERSIONS; i++) {
        CHECK(r[i].ndamage == (i == 2 ? 2 : 1) && r[i].damaged_chunks == (i == 2 ? 3 : 2));
        for (unsigned k = 0; k < r[i].ndamage; k++) {
            bool oldest = uuid_equal(&r[i].damage[k].layer, &l.layers[0].footer.layer);
            CHECK(oldest || uuid_equal(&r[i].damage[k].layer, &l.layers[2].footer.layer));
            CHECK(r[i].damage[k].chunks == (oldest ? 2 : 1));
        }
    }
    /* A leaf that the oldest has for itself; a footer, whose file is all that can be told. */
    struct root_entry root;
    CHECK_OK(root_entry_decode(l.layers[0].root, &root, &e));
    craft_flip(l.paths[0], root.offset + 77);
    verify(&l, &o, r, 1);
    CHECK(r[0].ndamage == 1 && r[0].damage[0].chunks == 128 && r[0].damaged_chunks == 128);
    craft_flip(l.paths[0], l.layers[0].footer.file_length - 100);
    verify(&l, &o, r, 1);
    CHECK(r[0].damaged && r[0].ndamage == 0 && r[0].damaged_chunks == 0);
    lineage_release(&l);
}

/* --- progress --- */

struct reported {
    uint64_t done, total;
    unsigned calls;
};

static bool note_report(void *ctx, uint64_t done, uint64_t total)
{
    struct reported *p = ctx;
    struct timespec rest = {.tv_nsec = 210 * 1000 * 1000}; /* so that the next leaf reports too */
    CHECK(total == 0 || (done >= p->done && done <= total));
    CHECK(p->total == 0 || p->total == total);
    *p = (struct reported){done, total, p->calls + 1};
    nanosleep(&rest, NULL);
    return true;
}

/* Each frame counts once, whatever number of versions has it, and in the end all were there. */
static void progress_counts_what_is_read(void)
{
    struct lineage l;
    struct verify_result r[VERSIONS];
    lineage_make(&l, CODEC_RAW);
    uint64_t files = 0;
    for (unsigned i = 0; i < VERSIONS; i++)
        files += file_size(l.paths[i]);
    for (int sha256 = 0; sha256 < 2; sha256++) {
        struct reported p = {0};
        const struct verify_options o = {
            .progress = {.report = note_report, .ctx = &p}, .threads = 1, .sha256 = sha256};
        verify(&l, &o, r, VERSIONS);
        CHECK(p.done == p.total && !r[0].damaged && !r[2].damaged);
        CHECK(sha256 ? p.total > 2 * files : p.total < files && p.total > files - 300000);
    }
    lineage_release(&l);
}

/* --- what the disk has --- */

static size_t cached_pages(const char *path)
{
    unsigned char pages[16384];
    size_t size = (size_t)file_size(path), count = div_up(size, 4096), n = 0;
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && count <= sizeof pages);
    void *map = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED && mincore(map, size, pages) == 0);
    munmap(map, size);
    for (size_t i = 0; i < count; i++)
        n += pages[i] & 1;
    return n;
}

/* false: the file system keeps its pages in any case. */
static bool drop_pages(const char *path)
{
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    return cached_pages(path) == 0;
}

/* What all of this process had from disks. */
static uint64_t disk_bytes_read(void)
{
    cleanup(free) char *text = NULL;
    CHECK_OK(read_file("/proc/self/io", 4096, &text, NULL, &e));
    const char *at = strstr(text, "\nread_bytes: ");
    CHECK(at);
    return strtoull(at + strlen("\nread_bytes: "), NULL, 10);
}

static void the_disk_is_read_though_memory_has_it(const struct lineage *l)
{
    cleanup(free) char *all = NULL;
    struct verify_result r = {.version = 100};
    const struct verify_options o = {.threads = 1};
    size_t size;
    CHECK_OK(read_file(l->paths[0], 64 * MIB, &all, &size, &e));
    CHECK(cached_pages(l->paths[0]) == div_up(size, 4096));
    uint64_t before = disk_bytes_read();
    struct store *s = craft_store(0);
    CHECK_OK(store_verify(s, &l->spec.image, &o, &r, 1, &e));
    CHECK(disk_bytes_read() - before < MIB);
    store_close(s);
    s = craft_store(0);
    store_read_medium(s);
    CHECK_OK(store_verify(s, &l->spec.image, &o, &r, 1, &e));
    CHECK(disk_bytes_read() - before > size - size / 10);
    store_close(s);
    CHECK(!r.damaged && cached_pages(l->paths[0]) == div_up(size, 4096));
}

static void the_page_cache_stays_as_it_was(void)
{
    struct lineage l;
    struct verify_result r[VERSIONS] = {{.version = 100}, {.version = 101}, {.version = 102}};
    const struct verify_options o = {.threads = 1};
    lineage_make(&l, CODEC_ZSTD);
    bool can = true;
    for (unsigned i = 0; i < VERSIONS; i++)
        can &= drop_pages(l.paths[i]);
    if (can) {
        /* somebody uses 64 KiB in the middle of the oldest */
        uint8_t used[65536];
        cleanup(close) int fd = open(l.paths[0], O_RDONLY | O_CLOEXEC);
        posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
        CHECK_OK(full_pread(fd, used, sizeof used, 65536, &e));
        CHECK(cached_pages(l.paths[0]) == 16);
        struct store *s = craft_store(0);
        store_read_medium(s);
        CHECK_OK(store_verify(s, &l.spec.image, &o, r, VERSIONS, &e));
        store_close(s);
        for (unsigned i = 0; i < VERSIONS; i++)
            CHECK(!r[i].damaged && cached_pages(l.paths[i]) <= (i ? 2 : 18)); /* the footer's may stay */
        CHECK(cached_pages(l.paths[0]) >= 16);
        the_disk_is_read_though_memory_has_it(&l);
    }
    lineage_release(&l);
}

int main(void)
{
    UNIT(all_is_well);
    UNIT(damage_is_told_of_those_it_touches);
    UNIT(damage_of_the_index);
    UNIT(a_lost_leaf_hides_nothing);
    UNIT(files_that_are_gone);
    UNIT(hostile_entries);
    UNIT(a_chunk_past_the_end);
    UNIT(any_byte);
    UNIT(what_is_shared_is_read_once);
    UNIT(it_can_be_interrupted);
    UNIT(what_is_read_is_told_before);
    UNIT(what_is_known_is_not_read);
    UNIT(it_goes_on_where_it_was);
    UNIT(it_says_in_which_files_the_damage_lies);
    UNIT(progress_counts_what_is_read);
    UNIT(the_page_cache_stays_as_it_was);
    return 0;
}
