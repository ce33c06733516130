/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_OVERLAY_MAP_H
#define LABBOOT_OVERLAY_MAP_H

/* The records of an overlay's `map`, one after the other from offset 0; integers are little-endian.
 *
 *   OFFSET SIZE MEANING
 *        0    4 crc32c of the overlay's uuid and then of bytes 4 … end of the record
 *        4    1 type: MAP_DATA, MAP_ZERO, MAP_SYNC, MAP_SEAL
 *        5    3 zero
 *        8    8 sequence: one more in each record; in the first one it is 1, or more in a map that was written anew
 *       16    8 DATA, ZERO: first virtual block; SYNC, SEAL: all records up to this sequence, and their
 *              data, were on the disk before this record was written
 *       24    8 DATA: first physical block, that is its offset in `data` / 4096; else zero
 *       32    8 DATA, ZERO: count of blocks; else zero
 *       40  4×n DATA: crc32c of each of the n = count blocks
 *
 * The file is allocated ahead in steps and reads as zeroes past its last record. The uuid in the checksum
 * keeps a guest, who chooses the checksums of blocks, from composing a record out of them. */

#include "lib/base/err.h"
#include "lib/base/hwid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum map_type { MAP_DATA = 1, MAP_ZERO = 2, MAP_SYNC = 3, MAP_SEAL = 4 };

#define MAP_HEADER 40u
#define MAP_SUM 4u
#define MAP_COUNT_MAX 32768u /* blocks of a DATA record: 128 MiB; bounds the memory of a replay */
#define MAP_RECORD_MAX (MAP_HEADER + MAP_SUM * MAP_COUNT_MAX)

struct map_record {
    enum map_type type;
    uint64_t sequence;
    uint64_t block; /* SYNC, SEAL: the sequence that it vouches for */
    uint64_t physical, count;
};

/* What the checksums of an overlay's records start from. */
uint32_t map_seed(const struct uuid *overlay);
size_t map_record_size(const struct map_record *r);
/* Fills the header before the sums that stand at out + MAP_HEADER already. */
void map_record_encode(const struct map_record *r, uint32_t seed, uint8_t *out);

/* A sequential reader with a bounded buffer. */
struct map_scan {
    int fd;
    uint32_t seed;
    uint64_t disk_blocks;
    uint64_t position; /* of the next record; at the end: of the first byte that is no good record */
    uint64_t sequence; /* of the last good record */
    uint8_t *buf;
    size_t start, end;
};

/* At the file's beginning; sets the file position of fd. Free with map_scan_release, also after a failure. */
int map_scan_init(struct map_scan *s, int fd, uint32_t seed, uint64_t disk_blocks, struct err *e) must_check;
/* Goes on behind a record that has that sequence: the next one is at `position`. */
int map_scan_from(struct map_scan *s, uint64_t position, uint64_t sequence, struct err *e) must_check;
void map_scan_release(struct map_scan *s);
/* 1: a record, and its sums (valid until the next call); 0: the end, or the first record that is not good;
 * -1: it cannot be read. */
int map_scan_next(struct map_scan *s, struct map_record *ret, const uint8_t **ret_sums,
                  struct err *e) must_check;
/* After map_scan_next returned 0: whether a SYNC or SEAL stands further on that vouches for what is missing
 * here. Then the map is damaged; else its end is what a power cut left. Reads all data to the end of the file. */
int map_scan_find_damage(struct map_scan *s, bool *ret_damaged, struct err *e) must_check;

static inline void cleanup_map_scan(struct map_scan *s)
{
    map_scan_release(s);
}

#endif
