/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/overlay-map.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/fsutil.h"
#include "lib/store/overlay-radix.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
    AT_CRC = 0,
    AT_TYPE = 4,
    AT_RESERVED = 5,
    AT_SEQUENCE = 8,
    AT_BLOCK = 16,
    AT_PHYSICAL = 24,
    AT_COUNT = 32,
    AT_SUMS = 40,
};
static_assert(AT_SUMS == MAP_HEADER, "the sums follow the header");

#define SCAN_BUFFER (256u * 1024)
static_assert(SCAN_BUFFER >= MAP_RECORD_MAX, "a record fits the buffer");

uint32_t map_seed(const struct uuid *overlay)
{
    return crc32c(0, overlay->b, sizeof overlay->b);
}

size_t map_record_size(const struct map_record *r)
{
    return MAP_HEADER + (r->type == MAP_DATA ? MAP_SUM * (size_t)r->count : 0);
}

void map_record_encode(const struct map_record *r, uint32_t seed, uint8_t *out)
{
    memset(out, 0, MAP_HEADER);
    out[AT_TYPE] = (uint8_t)r->type;
    put_le64(out + AT_SEQUENCE, r->sequence);
    put_le64(out + AT_BLOCK, r->block);
    put_le64(out + AT_PHYSICAL, r->physical);
    put_le64(out + AT_COUNT, r->count);
    put_le32(out + AT_CRC, crc32c(seed, out + AT_TYPE, map_record_size(r) - AT_TYPE));
}

/* The checks that need the header alone; what they accept has a size within MAP_RECORD_MAX. */
static bool decode_header(const uint8_t *in, uint64_t disk_blocks, struct map_record *ret)
{
    struct map_record r = {in[AT_TYPE], get_le64(in + AT_SEQUENCE), get_le64(in + AT_BLOCK),
                           get_le64(in + AT_PHYSICAL), get_le64(in + AT_COUNT)};
    if (!all_zero(in + AT_RESERVED, AT_SEQUENCE - AT_RESERVED))
        return false;
    switch (r.type) {
    case MAP_DATA:
        if (r.count > MAP_COUNT_MAX || r.physical > PHYSICAL_BLOCKS_MAX - r.count)
            return false;
        break;
    case MAP_ZERO:
        if (r.physical != 0)
            return false;
        break;
    case MAP_SYNC:
    case MAP_SEAL:
        if (r.physical != 0 || r.count != 0 || r.block >= r.sequence)
            return false;
        *ret = r;
        return true;
    default:
        return false;
    }
    if (r.count == 0 || r.count > disk_blocks || r.block > disk_blocks - r.count)
        return false;
    *ret = r;
    return true;
}

static bool crc_is_right(const uint8_t *in, const struct map_record *r, uint32_t seed)
{
    return get_le32(in + AT_CRC) == crc32c(seed, in + AT_TYPE, map_record_size(r) - AT_TYPE);
}

int map_scan_init(struct map_scan *s, int fd, uint32_t seed, uint64_t disk_blocks, struct err *e)
{
    *s = (struct map_scan){.fd = fd, .seed = seed, .disk_blocks = disk_blocks};
    s->buf = malloc(SCAN_BUFFER);
    if (!s->buf)
        return err_sys(e, ENOMEM, "overlay map");
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(e, errno, "overlay map");
    return 0;
}

int map_scan_from(struct map_scan *s, uint64_t position, uint64_t sequence, struct err *e)
{
    if (lseek(s->fd, (off_t)position, SEEK_SET) < 0)
        return err_sys(e, errno, "overlay map");
    s->start = s->end = 0;
    s->position = position;
    s->sequence = sequence;
    return 0;
}

void map_scan_release(struct map_scan *s)
{
    free(s->buf);
    s->buf = NULL;
}

/* Has `need` bytes in the buffer, or less at the end of the file. */
static int fill(struct map_scan *s, size_t need, struct err *e)
{
    if (s->end - s->start >= need)
        return 0;
    memmove(s->buf, s->buf + s->start, s->end - s->start);
    s->end -= s->start;
    s->start = 0;
    size_t got;
    if (full_read(s->fd, s->buf + s->end, SCAN_BUFFER - s->end, &got, e) < 0)
        return err_wrap(e, "overlay map");
    s->end += got;
    return 0;
}

static void advance(struct map_scan *s, size_t len)
{
    s->start += len;
    s->position += len;
}

int map_scan_next(struct map_scan *s, struct map_record *ret, const uint8_t **ret_sums, struct err *e)
{
    struct map_record r;
    if (fill(s, MAP_HEADER, e) < 0)
        return -1;
    if (s->end - s->start < MAP_HEADER || !decode_header(s->buf + s->start, s->disk_blocks, &r))
        return 0;
    size_t size = map_record_size(&r);
    if (fill(s, size, e) < 0)
        return -1;
    const uint8_t *in = s->buf + s->start;
    if (s->end - s->start < size || (s->position > 0 && r.sequence != s->sequence + 1) || r.sequence == 0 ||
        !crc_is_right(in, &r, s->seed))
        return 0;
    advance(s, size);
    s->sequence = r.sequence;
    *ret = r;
    *ret_sums = in + MAP_HEADER;
    return 1;
}

/* Before more is read: past what the file has no data for, be it terabytes. */
static int skip_hole(struct map_scan *s, struct err *e)
{
    off_t at = lseek(s->fd, (off_t)s->position, SEEK_DATA);
    if (at < 0 && errno == ENXIO)
        at = lseek(s->fd, 0, SEEK_END);
    /* A header may begin in the hole's last bytes. */
    if (at > 0 && (uint64_t)at > s->position + MAP_HEADER) {
        s->start = s->end = 0;
        s->position = round_down((uint64_t)at, MAP_SUM) - MAP_HEADER;
    }
    if (lseek(s->fd, (off_t)(s->position + (s->end - s->start)), SEEK_SET) < 0)
        return err_sys(e, errno, "overlay map");
    return 0;
}

/* All sizes are multiples of MAP_SUM, so a later record stands at such a distance. */
int map_scan_find_damage(struct map_scan *s, bool *ret_damaged, struct err *e)
{
    for (;; advance(s, MAP_SUM)) {
        if (s->end - s->start < MAP_HEADER && (skip_hole(s, e) < 0 || fill(s, MAP_HEADER, e) < 0))
            return -1;
        if (s->end - s->start < MAP_HEADER)
            break;
        const uint8_t *in = s->buf + s->start;
        struct map_record r;
        if ((in[AT_TYPE] != MAP_SYNC && in[AT_TYPE] != MAP_SEAL) || !decode_header(in, s->disk_blocks, &r))
            continue;
        if (r.block > s->sequence && crc_is_right(in, &r, s->seed)) {
            *ret_damaged = true;
            return 0;
        }
    }
    *ret_damaged = false;
    return 0;
}
