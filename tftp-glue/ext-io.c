/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/ext-io.h"

#include "lib/base/bytes.h"

#include <stdlib.h>
#include <string.h>

/* Set while ext_open runs. */
static struct ext_disk *opening;

static errcode_t disk_open(const char *name, int flags, io_channel *ret);

static errcode_t disk_close(io_channel io)
{
    if (--io->refcount > 0)
        return 0;
    free(io->name);
    free(io);
    return 0;
}

static errcode_t disk_set_blksize(io_channel io, int size)
{
    if (size < 1024 || size > 65536)
        return EXT2_ET_UNIMPLEMENTED;
    io->block_size = size;
    return 0;
}

/* A negative count is one of bytes. */
static errcode_t disk_read64(io_channel io, unsigned long long block, int count, void *buf)
{
    struct ext_disk *disk = io->private_data;
    uint64_t offset, end, length = count < 0 ? (uint64_t) - (int64_t)count : 0;
    if (count >= 0)
        length = (uint64_t)count * (uint64_t)io->block_size;
    if (mul_overflows(block, (uint64_t)io->block_size, &offset) || add_overflows(offset, length, &end) ||
        end > disk->reader->size)
        return EXT2_ET_SHORT_READ;
    struct err e;
    if (disk->reader->pread(disk->reader->ctx, buf, length, offset, &e) == 0)
        return 0;
    if (disk->failed.code == 0)
        disk->failed = e;
    return EXT2_ET_SHORT_READ;
}

static errcode_t disk_read(io_channel io, unsigned long block, int count, void *buf)
{
    return disk_read64(io, block, count, buf);
}

static errcode_t disk_write(io_channel io, unsigned long block, int count, const void *buf)
{
    (void)io, (void)block, (void)count, (void)buf;
    return EXT2_ET_RO_FILSYS;
}

static errcode_t disk_write64(io_channel io, unsigned long long block, int count, const void *buf)
{
    (void)io, (void)block, (void)count, (void)buf;
    return EXT2_ET_RO_FILSYS;
}

static errcode_t disk_flush(io_channel io)
{
    (void)io;
    return 0;
}

/* libext2fs never changes it. */
static struct struct_io_manager disk_manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "labboot disk",
    .open = disk_open,
    .close = disk_close,
    .set_blksize = disk_set_blksize,
    .read_blk = disk_read,
    .read_blk64 = disk_read64,
    .write_blk = disk_write,
    .write_blk64 = disk_write64,
    .flush = disk_flush,
};

static errcode_t disk_open(const char *name, int flags, io_channel *ret)
{
    if (flags & IO_FLAG_RW)
        return EXT2_ET_RO_FILSYS;
    io_channel io = calloc(1, sizeof *io);
    char *copy = strdup(name);
    if (!io || !copy) {
        free(io);
        free(copy);
        return EXT2_ET_NO_MEMORY;
    }
    *io = (struct struct_io_channel){
        .magic = EXT2_ET_MAGIC_IO_CHANNEL,
        .manager = &disk_manager,
        .name = copy,
        .block_size = 1024,
        .refcount = 1,
        .private_data = opening,
    };
    *ret = io;
    return 0;
}

errcode_t ext_open(struct ext_disk *disk, ext2_filsys *ret)
{
    opening = disk;
    errcode_t rc = ext2fs_open2("disk", NULL, EXT2_FLAG_64BITS, 0, 0, &disk_manager, ret);
    opening = NULL;
    return rc;
}
