/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_OVERLAY_META_H
#define LABBOOT_OVERLAY_META_H

/* The `meta` file of an overlay: one block of 4096 bytes, written once. Integers are little-endian.
 *
 *   OFFSET SIZE MEANING
 *        0    8 magic "LABOVL\0\1"
 *        8    4 format version, 1
 *       12    4 flags: META_DURABLE
 *       16    8 compat feature bits: unknown ones are ignored
 *       24    8 incompat feature bits: unknown ones refuse the overlay
 *       32   16 overlay uuid
 *       48   16 image uuid
 *       64    8 base version
 *       72   16 base layer uuid
 *       88    8 virtual size in bytes
 *       96   16 boot id of the host that made it (an overlay that is not durable does not outlive it)
 *      112 3980 zero
 *     4092    4 crc32c of bytes 0 … 4091 */

#include "lib/store/overlay.h"

#include <stdint.h>

#define META_SIZE 4096u

/* Fills the whole block. */
void meta_encode(const struct overlay_meta *m, const struct uuid *host, uint8_t out[META_SIZE]);
/* ERR_CORRUPT for what is no meta block of a version that this knows. */
int meta_decode(const uint8_t in[META_SIZE], struct overlay_meta *ret, struct uuid *ret_host,
                struct err *e) must_check;
int meta_read(int fd, struct overlay_meta *ret, struct uuid *ret_host, struct err *e) must_check;
/* The running host's boot id. */
int host_boot_id(struct uuid *ret, struct err *e) must_check;

#endif
