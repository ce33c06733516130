/* SPDX-License-Identifier: BSD-3-Clause */

/* The disk as it is. In a regular file each worker writes at its own places, where something is, in blocks of 4 KiB; a stream
 * or a device gets every byte. */
#include "lib/store/export-impl.h"

#include "lib/base/fsutil.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#define BLOCK 4096u /* the granularity of holes */

static int set_size(struct export *x, struct err *e)
{
    return ftruncate(x->fd, (off_t)x->size) < 0 ? err_sys(e, errno, "%" PRIu64 " bytes", x->size) : 0;
}

static int write_sparse(struct export *x, struct export_slot *s, unsigned i, const struct leaf_entry *n,
                        size_t len, struct err *e)
{
    (void)n;
    const uint8_t *chunk = s->scratch->chunk;
    const uint64_t offset = (s->leaf * LEAF_CHUNKS + i) << x->chunk_shift;
    for (size_t start = 0, end; start < len; start = end + BLOCK) {
        for (end = start; end < len; end += BLOCK)
            if (all_zero(chunk + end, (size_t)min_u64(BLOCK, len - end)))
                break;
        size_t stop = (size_t)min_u64(end, len);
        if (stop > start && full_pwrite(x->fd, chunk + start, stop - start, offset + start, e) < 0)
            return -1;
    }
    return 0;
}

static int gather(struct export *x, struct export_slot *s, unsigned i, const struct leaf_entry *n, size_t len,
                  struct err *e)
{
    (void)n, (void)e;
    s->piece[i].kind = PIECE_RAW;
    memcpy(s->out + i * x->chunk_size, s->scratch->chunk, len);
    return 0;
}

static int write_leaf(struct export *x, struct export_slot *s, struct err *e)
{
    const uint64_t bytes = export_leaf_bytes(x, s->leaf);
    if (s->is_zero)
        memset(s->out, 0, bytes);
    for (unsigned i = 0; i < s->pieces; i++)
        if (s->piece[i].kind == PIECE_ZERO)
            memset(s->out + i * x->chunk_size, 0, s->piece[i].length);
    return full_write(x->fd, s->out, bytes, e);
}

const struct export_format_ops export_raw_file = {
    .how = {CODEC_RAW, 0}, .begin = set_size, .chunk = write_sparse};
const struct export_format_ops export_raw_stream = {
    .how = {CODEC_RAW, 0}, .chunk = gather, .leaf = write_leaf};
