/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/raw-disk.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define SPACE_STEP (16 * MIB)       /* how much is written between two looks at the file system */
#define SPACE_NEAR (4 * SPACE_STEP) /* nearer to the reserve than this: a look at every write */
#define ZEROES_SIZE (64 * KIB)

struct raw_disk {
    int fd;
    uint64_t size;
    atomic_uint_fast64_t reserve;
    atomic_int_fast64_t unchecked; /* bytes that may be written before the file system is asked again */
    atomic_bool failed;            /* a sync failed */
};

static int open_locked(const char *path, int *ret_fd, struct err *e)
{
    int r;
    cleanup(close) int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: no such disk", path)
                               : err_sys(e, errno, "%s", path);
    do
        r = flock(fd, LOCK_SH);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return err_sys(e, errno, "%s: lock", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int raw_disk_open(const char *path, uint64_t reserve, struct raw_disk **ret, struct err *e)
{
    cleanup(close) int fd = -1;
    struct stat st = {.st_nlink = 0};
    /* Who had it alone may have put another file in its place. */
    while (st.st_nlink == 0) {
        if (fd >= 0)
            close(steal_fd(&fd));
        if (open_locked(path, &fd, e) < 0)
            return -1;
        if (fstat(fd, &st) < 0)
            return err_sys(e, errno, "%s", path);
    }
    struct raw_disk *d = malloc(sizeof *d);
    if (!d)
        return err_sys(e, ENOMEM, "%s", path);
    *d = (struct raw_disk){.fd = steal_fd(&fd), .size = (uint64_t)st.st_size, .reserve = reserve};
    *ret = d;
    return 0;
}

void raw_disk_close(struct raw_disk *d)
{
    if (!d)
        return;
    close(d->fd);
    free(d);
}

void raw_disk_set_reserve(struct raw_disk *d, uint64_t reserve)
{
    d->reserve = reserve;
    d->unchecked = 0;
}

uint64_t raw_disk_size(const struct raw_disk *d)
{
    return d->size;
}

int raw_disk_pread(struct raw_disk *d, void *buf, size_t count, uint64_t offset, struct err *e)
{
    return full_pread(d->fd, buf, count, offset, e);
}

/* What stands there already takes no more space. */
static bool is_allocated(const struct raw_disk *d, uint64_t count, uint64_t offset)
{
    off_t hole = lseek(d->fd, (off_t)offset, SEEK_HOLE);
    return hole >= 0 && (uint64_t)hole >= offset + count;
}

static int check_space(struct raw_disk *d, uint64_t count, uint64_t offset, struct err *e)
{
    struct statvfs fs;
    uint64_t reserve = d->reserve;
    if (reserve == 0 || atomic_fetch_sub(&d->unchecked, (int64_t)count) >= (int64_t)count)
        return 0;
    if (fstatvfs(d->fd, &fs) < 0)
        return err_sys(e, errno, "free space");
    uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t spare = available > reserve ? available - reserve : 0;
    d->unchecked = spare > SPACE_NEAR ? (int64_t)SPACE_STEP : 0;
    if (count <= spare || is_allocated(d, count, offset))
        return 0;
    return err_set_sys(e, ERR_FAILED, ENOSPC, "the file system has no more than its reserve");
}

static int check_writable(struct raw_disk *d, struct err *e)
{
    return d->failed ? err_set_sys(e, ERR_FAILED, EIO, "the disk failed: a sync did") : 0;
}

int raw_disk_pwrite(struct raw_disk *d, const void *buf, size_t count, uint64_t offset, struct err *e)
{
    if (check_writable(d, e) < 0 || check_space(d, count, offset, e) < 0)
        return -1;
    return full_pwrite(d->fd, buf, count, offset, e);
}

static int write_zeroes(struct raw_disk *d, uint64_t count, uint64_t offset, struct err *e)
{
    static const char zeroes[ZEROES_SIZE];
    for (uint64_t n; count > 0; count -= n, offset += n) {
        n = min_u64(count, sizeof zeroes);
        if (raw_disk_pwrite(d, zeroes, n, offset, e) < 0)
            return -1;
    }
    return 0;
}

int raw_disk_zero(struct raw_disk *d, uint64_t count, uint64_t offset, struct err *e)
{
    if (check_writable(d, e) < 0)
        return -1;
    int r;
    do
        r = fallocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)count);
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno == EOPNOTSUPP)
        return write_zeroes(d, count, offset, e);
    return r < 0 ? err_sys(e, errno, "punch a hole") : 0;
}

int raw_disk_flush(struct raw_disk *d, struct err *e)
{
    if (check_writable(d, e) < 0)
        return -1;
    if (fdatasync(d->fd) == 0)
        return 0;
    int errnum = errno;
    d->failed = true;
    return err_set_sys(e, ERR_FAILED, EIO, "sync of the disk: %s", strerror(errnum));
}

int raw_disk_extent(struct raw_disk *d, uint64_t count, uint64_t offset, uint64_t *ret_length, bool *ret_hole,
                    struct err *e)
{
    off_t data = lseek(d->fd, (off_t)offset, SEEK_DATA), end = -1;
    if (data < 0 && errno != ENXIO) /* ENXIO: no data up to the end */
        return err_sys(e, errno, "look for data");
    bool hole = data < 0 || (uint64_t)data > offset;
    if (!hole && (end = lseek(d->fd, (off_t)offset, SEEK_HOLE)) < 0)
        return err_sys(e, errno, "look for a hole");
    uint64_t to = !hole ? (uint64_t)end : data < 0 ? d->size : (uint64_t)data;
    /* Data may have come or gone between the two looks. */
    *ret_length = to > offset ? min_u64(count, to - offset) : count;
    *ret_hole = hole;
    return 0;
}
