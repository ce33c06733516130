/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/bgzf.h"

#include <errno.h>

#define LENGTH_AT 16u
static const uint8_t head[LENGTH_AT] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, 'B', 'C', 2, 0};

/* Head and tail around `n` bytes of deflate data that stand there already. */
static size_t wrap(const uint8_t *in, size_t len, uint8_t *out, size_t n)
{
    size_t length = BGZF_HEAD + n + BGZF_TAIL;
    memcpy(out, head, sizeof head);
    put_le16(out + LENGTH_AT, (uint16_t)(length - 1));
    put_le32(out + BGZF_HEAD + n, libdeflate_crc32(0, in, len));
    put_le32(out + BGZF_HEAD + n + 4, (uint32_t)len);
    return length;
}

size_t bgzf_compress(struct libdeflate_compressor *z, const uint8_t *in, size_t len, uint8_t *out,
                     size_t room)
{
    room = (size_t)min_u64(room, BGZF_MEMBER_MAX);
    if (len > BGZF_CONTENT_MAX || room <= BGZF_HEAD + BGZF_TAIL)
        return 0;
    size_t n = libdeflate_deflate_compress(z, in, len, out + BGZF_HEAD, room - BGZF_HEAD - BGZF_TAIL);
    if (n == 0)
        return 0;
    return wrap(in, len, out, n);
}

/* A last block of the stored kind: its length, and that inverted (RFC 1951, 3.2.4). */
size_t bgzf_store(const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t *block = out + BGZF_HEAD;
    block[0] = 1;
    put_le16(block + 1, (uint16_t)len);
    put_le16(block + 3, (uint16_t)~len);
    memcpy(block + 5, in, len);
    return wrap(in, len, out, 5 + len);
}

static int check_head(const uint8_t *in, size_t len, struct err *e)
{
    if (len < BGZF_HEAD + BGZF_TAIL || len > BGZF_MEMBER_MAX || memcmp(in, head, sizeof head) != 0)
        return err_set_sys(e, ERR_CORRUPT, EIO, "gzip: not a member");
    if (get_le16(in + LENGTH_AT) + 1u != len)
        return err_set_sys(e, ERR_CORRUPT, EIO, "gzip: a member of %u bytes where %zu are stored",
                           get_le16(in + LENGTH_AT) + 1u, len);
    return 0;
}

int bgzf_decompress(struct libdeflate_decompressor *z, const uint8_t *in, size_t in_len, uint8_t *out,
                    size_t out_len, struct err *e)
{
    size_t used;
    if (check_head(in, in_len, e) < 0)
        return -1;
    /* Without a place for the actual length it insists on out_len. */
    if (libdeflate_gzip_decompress_ex(z, in, in_len, out, out_len, &used, NULL) != LIBDEFLATE_SUCCESS ||
        used != in_len)
        return err_set_sys(e, ERR_CORRUPT, EIO, "gzip: the member is damaged, or not of %zu bytes", out_len);
    return 0;
}
