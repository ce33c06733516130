/* SPDX-License-Identifier: BSD-3-Clause */
/* The map of an overlay: opening it, reading, writing on, and opening it again. The first byte of an input says what is not
 * mended; the rest is the map. What the overlay said before it was closed it says again. */
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/store/overlay-map.h"
#include "lib/store/overlay-meta.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>

const char fuzz_name[] = "map";

#define DISK_SIZE (300 * OVERLAY_BLOCK - 100)
#define DATA_BLOCKS 40u
#define INPUT_LIMIT (64 * KIB)

enum keep { KEEP_CRC = 1, KEEP_SUMS = 2, KEEP_SEQUENCE = 4, KEEP_BLOCKS = 8 };

static struct err e;
static const struct uuid overlay = {{0x5a, 1, 2, 3}};
static uint8_t data_file[DATA_BLOCKS * OVERLAY_BLOCK];
static const struct overlay_limits limits = {.quota = GIB};

static int read_base(void *ctx, void *buf, size_t count, uint64_t offset, struct err *unused)
{
    (void)ctx;
    (void)unused;
    CHECK(offset + count <= DISK_SIZE);
    for (uint64_t end = offset + count, next; offset < end; offset = next) {
        next = min_u64(end, round_down(offset, OVERLAY_BLOCK) + OVERLAY_BLOCK);
        memset((uint8_t *)buf + (count - (end - offset)), (int)(offset / OVERLAY_BLOCK % 255 + 1),
               next - offset);
    }
    return 0;
}
static const struct reader base = {.size = DISK_SIZE, .pread = read_base};

/* --- the files --- */

static const char *folder(void)
{
    static char *dir;
    if (!dir) {
        dir = path_format("%s/overlay", unit_dir());
        CHECK_OK(make_dirs(dir, 0700, &e));
        for (size_t i = 0; i < sizeof data_file; i++)
            data_file[i] = (uint8_t)(i / OVERLAY_BLOCK + i % 251 + 100);
    }
    return dir;
}

static void put_file(const char *name, const uint8_t *data, size_t size)
{
    cleanup(free) char *path = path_format("%s/%s", folder(), name);
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_OK(full_pwrite(fd, data, size, 0, &e));
}

/* Not durable, so that a flush is no sync. */
static void put_files(const uint8_t *map, size_t size)
{
    static uint8_t block[META_SIZE];
    static struct uuid host;
    struct overlay_meta m = {.overlay = overlay, .size = DISK_SIZE};
    if (uuid_is_zero(&host))
        CHECK_OK(host_boot_id(&host, &e));
    meta_encode(&m, &host, block);
    put_file("meta", block, sizeof block);
    put_file("data", data_file, sizeof data_file);
    put_file("map", map, size);
}

/* --- mending --- */

/* The count of a record that starts here and fits. */
static uint64_t sums_of(const uint8_t *record, size_t room)
{
    if (record[4] != MAP_DATA)
        return 0;
    return min_u64(get_le64(record + 32), (room - MAP_HEADER) / MAP_SUM);
}

static void mend_data(uint8_t *record, uint64_t count, unsigned keep)
{
    put_le64(record + 32, count);
    if (!(keep & KEEP_BLOCKS))
        put_le64(record + 24, get_le64(record + 24) % DATA_BLOCKS);
    uint64_t physical = get_le64(record + 24);
    for (uint64_t i = 0; i < count && !(keep & KEEP_SUMS); i++)
        if (physical < DATA_BLOCKS && i < DATA_BLOCKS - physical)
            put_le32(record + MAP_HEADER + i * MAP_SUM,
                     crc32c(0, data_file + (physical + i) * OVERLAY_BLOCK, OVERLAY_BLOCK));
}

static void mend_map(uint8_t *map, size_t size, unsigned keep)
{
    const uint32_t seed = map_seed(&overlay);
    uint64_t sequence = 1;
    while (size >= MAP_HEADER) {
        uint64_t count = sums_of(map, size);
        size_t len = MAP_HEADER + MAP_SUM * count;
        if (map[4] == MAP_DATA)
            mend_data(map, count, keep);
        if (!(keep & KEEP_BLOCKS) && map[4] <= MAP_ZERO)
            put_le64(map + 16, get_le64(map + 16) % 300);
        if (!(keep & KEEP_SEQUENCE))
            put_le64(map + 8, sequence++);
        if (!(keep & KEEP_CRC))
            put_le32(map, crc32c(seed, map + 4, len - 4));
        map += len;
        size -= len;
    }
}

/* --- using --- */

/* A block that does not match its checksum is remembered as one that fails. */
struct picture {
    uint8_t bytes[DISK_SIZE];
    bool fails[300];
};

static void take_picture(struct overlay *o, struct picture *p)
{
    memset(p, 0, sizeof *p);
    if (overlay_pread(o, &base, p->bytes, DISK_SIZE, 0, &e) == 0)
        return;
    for (uint64_t i = 0; i < 300; i++) {
        uint64_t at = i * OVERLAY_BLOCK;
        p->fails[i] =
            overlay_pread(o, &base, p->bytes + at, min_u64(OVERLAY_BLOCK, DISK_SIZE - at), at, &e) < 0;
        CHECK(!p->fails[i] || e.sys == EIO);
        if (p->fails[i])
            memset(p->bytes + at, 0, min_u64(OVERLAY_BLOCK, DISK_SIZE - at));
    }
}

static void walk(struct overlay *o)
{
    uint64_t length, data = 0;
    enum overlay_kind kind;
    for (uint64_t at = 0; at < DISK_SIZE; at += length) {
        overlay_extent(o, at, UINT64_MAX, &length, &kind);
        CHECK(length > 0 && length <= DISK_SIZE - at);
        data += kind == OVERLAY_DATA ? round_up(length, OVERLAY_BLOCK) : 0;
        CHECK(kind == OVERLAY_NONE ? overlay_next_dirty(o, at) >= at + length
                                   : overlay_next_dirty(o, at) == at);
    }
    CHECK(data == overlay_dirty_bytes(o));
}

static int open_it(struct overlay **ret)
{
    int r = overlay_open(folder(), &limits, ret, &e);
    CHECK(r == 0 || e.code == ERR_CORRUPT || e.sys == EIO);
    return r;
}

/* Where a block fails, a part of it cannot be written; elsewhere all can. */
static void write_on(struct overlay *o, struct picture *p)
{
    static uint8_t text[10000];
    memset(text, 0xc3, sizeof text);
    if (overlay_pwrite(o, &base, text, sizeof text, 5000, &e) == 0)
        memcpy(p->bytes + 5000, text, sizeof text);
    CHECK_OK(overlay_zero(o, &base, 8 * OVERLAY_BLOCK, 20 * OVERLAY_BLOCK, &e));
    memset(p->bytes + 20 * OVERLAY_BLOCK, 0, 8 * OVERLAY_BLOCK);
    CHECK_OK(overlay_pwrite(o, &base, text, OVERLAY_BLOCK, 50 * OVERLAY_BLOCK, &e));
    memcpy(p->bytes + 50 * OVERLAY_BLOCK, text, OVERLAY_BLOCK);
}

static void compare(struct overlay *o, const struct picture *p)
{
    static struct picture now;
    take_picture(o, &now);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t at = i * OVERLAY_BLOCK;
        CHECK(now.fails[i] == p->fails[i]);
        CHECK(memcmp(now.bytes + at, p->bytes + at, min_u64(OVERLAY_BLOCK, DISK_SIZE - at)) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct picture p;
    struct overlay *o;
    if (size == 0 || size > INPUT_LIMIT)
        return 0;
    folder();
    cleanup(free) uint8_t *map = malloc(size);
    CHECK(map);
    memcpy(map, data + 1, size - 1);
    mend_map(map, size - 1, data[0]);
    put_files(map, size - 1);
    if (open_it(&o) < 0)
        return 0;
    bool sealed = overlay_is_sealed(o);
    take_picture(o, &p);
    walk(o);
    overlay_close(o);
    CHECK_OK(overlay_open(folder(), &limits, &o, &e));
    compare(o, &p);
    CHECK(overlay_is_sealed(o) == sealed);
    if (!sealed) {
        write_on(o, &p);
        take_picture(o, &p);
        CHECK_OK(overlay_seal(o, &e));
    }
    overlay_close(o);
    CHECK_OK(overlay_open(folder(), &limits, &o, &e));
    compare(o, &p);
    CHECK(overlay_is_sealed(o));
    walk(o);
    overlay_close(o);
    return 0;
}

/* --- seeds --- */

static size_t add(uint8_t *map, size_t at, struct map_record r)
{
    r.sequence = 1;
    map_record_encode(&r, map_seed(&overlay), map + at);
    return at + map_record_size(&r);
}

void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size))
{
    static uint8_t seed[4096];
    size_t at = add(seed, 1, (struct map_record){MAP_DATA, 0, 3, 0, 4});
    at = add(seed, at, (struct map_record){MAP_ZERO, 0, 5, 0, 60});
    at = add(seed, at, (struct map_record){MAP_SYNC, 0, 0, 0, 0});
    emit(seed, at);
    at = add(seed, at, (struct map_record){MAP_DATA, 0, 290, 10, 10});
    at = add(seed, at, (struct map_record){MAP_DATA, 0, 8, 20, 1});
    emit(seed, at);
    memset(seed + at, 0, 500);
    emit(seed, at + 500);
    at = add(seed, at, (struct map_record){MAP_SEAL, 0, 0, 0, 0});
    seed[0] = KEEP_SUMS;
    emit(seed, at);
}
