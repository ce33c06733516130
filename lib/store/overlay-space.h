/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_OVERLAY_SPACE_H
#define LABBOOT_OVERLAY_SPACE_H

/* Which parts of an overlay's `data` are needed. Blocks are taken one after the other; of each segment of 1 MiB it is known
 * how many of its blocks are, by a slot of the index or by a write in the making. One of which no block is needed any more
 * waits until what superseded them cannot be lost, and is then given back to the file system: a hole. When the file has become
 * long, holes are taken again. No locks: the overlay's `append` guards it. */

#include "lib/store/overlay-radix.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEGMENT_BLOCKS 256u
/* A place that is never taken: of blocks that are not in the file, though they should be. Dropping it does nothing. */
#define PHYSICAL_LOST (PHYSICAL_BLOCKS_MAX - 1)

struct segment {
    uint64_t dead_since; /* sequence of the record that superseded its last block */
    uint32_t next;       /* of the queue */
    uint16_t used;       /* blocks that are needed */
    uint16_t held;       /* blocks that are in the file, needed or not; 0: a hole */
};

struct space {
    struct segment *segments;
    size_t count;         /* of segments: those that were ever reached */
    uint64_t cursor;      /* the next physical block */
    uint64_t held;        /* blocks that are in the file */
    uint32_t first, last; /* of the queue of dead ones, the oldest first: index + 1; 0: empty */
    bool loading;
};

void space_release(struct space *s);
/* Takes `blocks` adjacent ones (1 … 32768), which count as needed. sys = ENOSPC: there are none; ENOMEM. */
int space_take(struct space *s, uint64_t blocks, uint64_t sequence, uint64_t *ret_physical,
               struct err *e) must_check;
/* They are needed no more, since the record with that sequence, which never decreases from call to call. */
void space_drop(struct space *s, uint64_t physical, uint64_t blocks, uint64_t sequence);

/* The next dead segment whose blocks were superseded up to that sequence: it is to be made a hole. */
bool space_next_dead(struct space *s, uint64_t sequence, size_t *ret_segment);
bool space_has_dead(const struct space *s);
void space_is_hole(struct space *s, size_t segment);

/* While an overlay is opened, when nothing is known yet: `end` blocks are in the file, all needed by nobody … */
int space_load(struct space *s, uint64_t end, struct err *e) must_check;
/* … but these; … */
void space_need(struct space *s, uint64_t physical, uint64_t blocks);
/* … and after all others: those of which the file has nothing are holes, the others are dead since then. */
int space_loaded(struct space *s, int fd, uint64_t sequence, struct err *e) must_check;

#endif
