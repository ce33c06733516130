/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TEST_DISK_H
#define LABBOOT_TEST_DISK_H

/* A disk in memory, changed by a generator of its own so that a failure happens again: the model of the store's tests. */

#include "lib/base/bytes.h"
#include "tests/unit/unit.h"

static uint64_t disk_seed = 88172645463325252;

static inline uint64_t disk_random(void)
{
    disk_seed ^= disk_seed << 13;
    disk_seed ^= disk_seed >> 7;
    disk_seed ^= disk_seed << 17;
    return disk_seed;
}

struct disk {
    uint8_t *data;
    size_t size;
};

/* Half of it compresses. */
static inline void disk_scribble(struct disk *d, size_t offset, size_t len)
{
    bool text = disk_random() % 2;
    for (size_t i = offset; i < offset + len; i++)
        d->data[i] =
            text ? (uint8_t)("the quick brown fox "[disk_random() % 4 + i % 16]) : (uint8_t)disk_random();
}

static inline void disk_resize(struct disk *d, size_t size)
{
    d->data = realloc(d->data, size);
    CHECK(d->data);
    if (size > d->size)
        memset(d->data + d->size, 0, size - d->size);
    d->size = size;
}

static inline void disk_change(struct disk *d, unsigned times, size_t max)
{
    while (times--) {
        size_t offset = disk_random() % d->size, len = 1 + disk_random() % max;
        len = min_u64(len, d->size - offset);
        if (disk_random() % 4 == 0)
            memset(d->data + offset, 0, len);
        else
            disk_scribble(d, offset, len);
    }
}

static inline void disk_free(struct disk *d)
{
    free(d->data);
    *d = (struct disk){0};
}

#endif
