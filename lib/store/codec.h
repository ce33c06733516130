/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CODEC_H
#define LABBOOT_CODEC_H

/* Chunks to frames. An encoder is one thread's: it keeps its context and tables from chunk to chunk. */

#include "lib/store/format.h"

struct encoder;

/* How new chunks are stored. The level is the codec's own. */
struct compression {
    enum codec codec; /* CODEC_RAW: not at all */
    int level;
};

/* Of an image's "none", "zstd" (with that level) or "gzip". */
struct compression compression_of(const char *name, uint64_t zstd_level);

/* CODEC_RAW, CODEC_ZSTD or CODEC_GZIP; the level must be one it has. */
int encoder_new(struct compression how, struct encoder **ret, struct err *e) must_check;
/* NULL is fine. */
void encoder_free(struct encoder *n);

/* The room that encoder_run wants for a chunk of `len` bytes. */
size_t encoder_bound(size_t len);
/* Puts the frame of one chunk (1 … CHUNK_SIZE_MAX bytes) at `out`; *ret_codec is CODEC_RAW, and the frame the
 * bytes themselves, where the encoder's own would not be smaller. */
int encoder_run(struct encoder *n, const uint8_t *chunk, size_t len, uint8_t *out, uint32_t *ret_stored,
                enum codec *ret_codec, struct err *e) must_check;

#endif
