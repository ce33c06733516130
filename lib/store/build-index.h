/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_BUILD_INDEX_H
#define LABBOOT_BUILD_INDEX_H

/* The index of a layer that is being written: its root, which starts as the parent's, and the new leaves that
 * are not in the file yet. Not thread-safe: the engine's lock is held. */

#include "lib/store/format.h"
#include "lib/store/store.h"

struct build_index {
    uint8_t *root; /* encoded */
    uint64_t leaves, root_room;
    uint8_t *pending;          /* leaves without a place; their entries in the root lack the offset */
    uint64_t *pending_numbers; /* which leaves they are */
    size_t pending_count, pending_room;
    uint16_t own_layer; /* the layer index of the file itself */
};

#define BUILD_INDEX_INIT                                                                                     \
    {                                                                                                        \
        0                                                                                                    \
    }

/* `parent` may be NULL. ERR_STATE when it has too many ancestors. */
int build_index_start(struct build_index *x, const struct view *parent, struct err *e) must_check;
void build_index_release(struct build_index *x);

/* Both replace what the root says of the leaf. */
int build_index_put(struct build_index *x, uint64_t leaf, const uint8_t data[LEAF_SIZE],
                    struct err *e) must_check;
int build_index_put_zero(struct build_index *x, uint64_t leaf, struct err *e) must_check;
/* Cuts or extends (by zero leaves) the root. */
int build_index_resize(struct build_index *x, uint64_t leaves, struct err *e) must_check;

size_t build_index_pending_bytes(const struct build_index *x);
/* Writes the pending leaves at `offset`, a multiple of ALIGNMENT; the caller has made room. */
int build_index_flush(struct build_index *x, int fd, uint64_t offset, struct err *e) must_check;

/* The checksum of the version, with all leaves flushed: its own leaves are read back from fd, the others from
 * the parent. */
int build_index_checksum(const struct build_index *x, int fd, struct view *parent, uint64_t virtual_size,
                         unsigned chunk_shift, uint8_t ret[CHECKSUM_SIZE], struct err *e) must_check;

#endif
