/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CRC32C_H
#define LABBOOT_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli), RFC 3720 appendix B.4: crc32c(0, "123456789", 9) = 0xe3069283. `crc` is 0 or the result
 * of the bytes before. Uses the CPU's instruction where there is one. Thread-safe. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);

#endif
