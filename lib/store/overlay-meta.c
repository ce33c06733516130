/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/overlay-meta.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/fsutil.h"
#include "lib/store/format.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC "LABOVL\0\1"
#define MAGIC_SIZE 8u
#define META_VERSION 1u
#define META_DURABLE 1u
#define META_INCOMPAT_KNOWN UINT64_C(0)
static_assert(sizeof MAGIC - 1 == MAGIC_SIZE, "the magic is 8 bytes");

enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_COMPAT = 16,
    AT_INCOMPAT = 24,
    AT_OVERLAY = 32,
    AT_IMAGE = 48,
    AT_BASE_VERSION = 64,
    AT_BASE_LAYER = 72,
    AT_SIZE = 88,
    AT_HOST = 96,
    AT_ZERO = 112,
    AT_CRC = 4092,
};
static_assert(AT_HOST + sizeof(struct uuid) == AT_ZERO, "fields follow each other");
static_assert(AT_CRC + 4 == META_SIZE, "the checksum ends the block");

void meta_encode(const struct overlay_meta *m, const struct uuid *host, uint8_t out[META_SIZE])
{
    memset(out, 0, META_SIZE);
    memcpy(out + AT_MAGIC, MAGIC, MAGIC_SIZE);
    put_le32(out + AT_VERSION, META_VERSION);
    put_le32(out + AT_FLAGS, m->durable ? META_DURABLE : 0);
    memcpy(out + AT_OVERLAY, m->overlay.b, sizeof m->overlay.b);
    memcpy(out + AT_IMAGE, m->image.b, sizeof m->image.b);
    put_le64(out + AT_BASE_VERSION, m->base_version);
    memcpy(out + AT_BASE_LAYER, m->base_layer.b, sizeof m->base_layer.b);
    put_le64(out + AT_SIZE, m->size);
    memcpy(out + AT_HOST, host->b, sizeof host->b);
    put_le32(out + AT_CRC, crc32c(0, out, AT_CRC));
}

static int check_block(const uint8_t in[META_SIZE], struct err *e)
{
    if (memcmp(in + AT_MAGIC, MAGIC, MAGIC_SIZE) != 0)
        return err_set(e, ERR_CORRUPT, "not the meta file of an overlay");
    if (get_le32(in + AT_CRC) != crc32c(0, in, AT_CRC))
        return err_set(e, ERR_CORRUPT, "checksum mismatch");
    if (get_le32(in + AT_VERSION) != META_VERSION)
        return err_set(e, ERR_CORRUPT, "format version %" PRIu32 ", but this program knows %u",
                       get_le32(in + AT_VERSION), META_VERSION);
    if (get_le64(in + AT_INCOMPAT) & ~META_INCOMPAT_KNOWN)
        return err_set(e, ERR_CORRUPT, "made by a newer version (features 0x%" PRIx64 ")",
                       get_le64(in + AT_INCOMPAT));
    if (get_le64(in + AT_SIZE) == 0 || get_le64(in + AT_SIZE) > VIRTUAL_SIZE_MAX)
        return err_set(e, ERR_CORRUPT, "impossible size %" PRIu64, get_le64(in + AT_SIZE));
    return 0;
}

int meta_decode(const uint8_t in[META_SIZE], struct overlay_meta *ret, struct uuid *ret_host, struct err *e)
{
    if (check_block(in, e) < 0)
        return -1;
    *ret = (struct overlay_meta){
        .base_version = get_le64(in + AT_BASE_VERSION),
        .size = get_le64(in + AT_SIZE),
        .durable = get_le32(in + AT_FLAGS) & META_DURABLE,
    };
    memcpy(ret->overlay.b, in + AT_OVERLAY, sizeof ret->overlay.b);
    memcpy(ret->image.b, in + AT_IMAGE, sizeof ret->image.b);
    memcpy(ret->base_layer.b, in + AT_BASE_LAYER, sizeof ret->base_layer.b);
    memcpy(ret_host->b, in + AT_HOST, sizeof ret_host->b);
    return 0;
}

int meta_read(int fd, struct overlay_meta *ret, struct uuid *ret_host, struct err *e)
{
    uint8_t block[META_SIZE];
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "meta");
    if (st.st_size != META_SIZE)
        return err_set(e, ERR_CORRUPT, "meta: %jd bytes instead of %u", (intmax_t)st.st_size, META_SIZE);
    if (full_pread(fd, block, sizeof block, 0, e) < 0 || meta_decode(block, ret, ret_host, e) < 0)
        return err_wrap(e, "meta");
    return 0;
}

int host_boot_id(struct uuid *ret, struct err *e)
{
    cleanup(free) char *text = NULL;
    if (read_file("/proc/sys/kernel/random/boot_id", 64, &text, NULL, e) < 0)
        return -1;
    text[strcspn(text, "\n")] = '\0';
    return uuid_from_text(text, ret, e);
}
