/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_BYTES_H
#define LABBOOT_BYTES_H

/* Little-endian integers in byte buffers (never a cast of a buffer to a structure), checked arithmetic, rounding. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define bytes_le16(v) (v)
#define bytes_le32(v) (v)
#define bytes_le64(v) (v)
#else
#define bytes_le16(v) __builtin_bswap16(v)
#define bytes_le32(v) __builtin_bswap32(v)
#define bytes_le64(v) __builtin_bswap64(v)
#endif

static inline uint16_t get_le16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return bytes_le16(v);
}

static inline uint32_t get_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return bytes_le32(v);
}

static inline uint64_t get_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return bytes_le64(v);
}

static inline void put_le16(void *p, uint16_t v)
{
    v = bytes_le16(v);
    memcpy(p, &v, sizeof v);
}

static inline void put_le32(void *p, uint32_t v)
{
    v = bytes_le32(v);
    memcpy(p, &v, sizeof v);
}

static inline void put_le64(void *p, uint64_t v)
{
    v = bytes_le64(v);
    memcpy(p, &v, sizeof v);
}

/* True on overflow, *ret is then meaningless: `if (add_overflows(a, b, &sum)) return err_set(…)`. */
#define add_overflows(a, b, ret) __builtin_add_overflow(a, b, ret)
#define mul_overflows(a, b, ret) __builtin_mul_overflow(a, b, ret)

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* `unit` is a power of two; the caller keeps n + unit - 1 within 64 bits. */
static inline uint64_t round_down(uint64_t n, uint64_t unit)
{
    return n & ~(unit - 1);
}

static inline uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) & ~(unit - 1);
}

static inline uint64_t div_up(uint64_t n, uint64_t unit)
{
    return n / unit + (n % unit != 0);
}

/* Whether all `len` bytes are zero. */
static inline bool all_zero(const void *buf, size_t len)
{
    const unsigned char *p = buf;
    if (len == 0)
        return true;
    return p[0] == 0 && (len == 1 || memcmp(p, p + 1, len - 1) == 0);
}

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
