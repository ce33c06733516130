/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_ORDERED_H
#define LABBOOT_ORDERED_H

/* Work on all cores whose results come out in order: each worker takes the next item, prepares it in a slot of its own beside
 * the others, and waits for its turn to give it out. Memory: a slot a worker. */

#include "lib/base/err.h"

#include <stdint.h>

struct ordered {
    void *ctx;
    uint64_t items;
    /* A worker's slot; what it holds is taken back by slot_free, which takes NULL. */
    int (*slot_new)(void *ctx, void **ret, struct err *e);
    void (*slot_free)(void *slot);
    int (*prepare)(void *ctx, void *slot, uint64_t item, struct err *e);
    /* One at a time, in the order of the items, each by the thread that prepared it. */
    int (*emit)(void *ctx, void *slot, uint64_t item, struct err *e);
};

/* Returns when all is out, or with the first error; nothing is given out after that. */
int ordered_run(const struct ordered *o, struct err *e) must_check;

#endif
