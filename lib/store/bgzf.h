/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_BGZF_H
#define LABBOOT_BGZF_H

/* gzip members that carry their own length: the blocked gzip format, section 4.1 of the SAM specification (samtools
 * hts-specs, SAMv1), by which bgzip finds its way in a file that is plain gzip (RFC 1952) to all others.
 *
 *   OFFSET SIZE MEANING
 *        0    4 1f 8b 08 04: gzip, deflate, with an extra field
 *        4    6 00 00 00 00 00 ff: no time, no hint, no system
 *       10    2 length of the extra field, 6
 *       12    4 'B' 'C' 02 00: a subfield of two bytes
 *       16    2 length of the member less 1
 *       18    n deflate data (RFC 1951)
 *     18+n    4 CRC-32 of the contents
 *     22+n    4 their length
 * All integers are little-endian. A member holds at most 64 KiB and is itself not longer. */

#include "lib/base/bytes.h"
#include "lib/base/err.h"

#include <libdeflate.h>

#define BGZF_HEAD 18u
#define BGZF_TAIL 8u
#define BGZF_CONTENT_MAX 65536u
#define BGZF_MEMBER_MAX 65536u

/* The member of `len` bytes (1 … BGZF_CONTENT_MAX), if it fits `room` bytes (at most BGZF_MEMBER_MAX); else 0. */
size_t bgzf_compress(struct libdeflate_compressor *z, const uint8_t *in, size_t len, uint8_t *out,
                     size_t room);
/* The member of `len` bytes (1 … BGZF_STORED_MAX) without compression, BGZF_WRAP bytes longer; returns its length. */
#define BGZF_WRAP (BGZF_HEAD + 5 + BGZF_TAIL)
#define BGZF_STORED_MAX (BGZF_MEMBER_MAX - BGZF_WRAP)
size_t bgzf_store(const uint8_t *in, size_t len, uint8_t *out);
/* One whole member, `in_len` bytes, of exactly `out_len` bytes of content; else ERR_CORRUPT with sys = EIO. All of it is
 * checked: gzip will accept what this accepts. */
int bgzf_decompress(struct libdeflate_decompressor *z, const uint8_t *in, size_t in_len, uint8_t *out,
                    size_t out_len, struct err *e) must_check;

#endif
