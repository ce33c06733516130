/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/machine-image.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/internal.h"
#include "lib/store/mkfs.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static char *file_path(const char *images_dir, const struct uuid *image)
{
    char uuid[UUID_TEXT_SIZE];
    return path_format("%s/%s/machine.raw", images_dir, uuid_to_text(image, uuid));
}

int machine_image_size(const char *images_dir, const struct uuid *image, uint64_t *ret_size,
                       uint64_t *ret_allocated, struct err *e)
{
    struct stat st;
    cleanup(free) char *path = file_path(images_dir, image);
    if (stat(path, &st) < 0)
        return errno == ENOENT ? err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: not used yet", path)
                               : err_sys(e, errno, "%s", path);
    *ret_size = (uint64_t)st.st_size;
    *ret_allocated = (uint64_t)st.st_blocks * 512;
    return 0;
}

/* A file of the image that is being made. */
struct making {
    char *dir, *tmp, *path;
    int lock; /* of the image */
    int fd;   /* of tmp; its flock tells store_clean_tmp that somebody is at it */
};

static inline void cleanup_making(struct making *m)
{
    if (m->fd >= 0) {
        unlink(m->tmp); /* it did not get its name */
        close(m->fd);
    }
    if (m->lock >= 0)
        close(m->lock);
    free(m->dir);
    free(m->tmp);
    free(m->path);
}

static int begin(struct store *s, const struct uuid *image, struct making *m, struct err *e)
{
    m->dir = store_image_dir(s, image);
    m->tmp = path_format("%s/tmp/machine.raw", m->dir);
    m->path = file_path(store_images_dir(s), image);
    return store_make_image(s, image, e) < 0 ? -1 : store_lock_image(s, image, &m->lock, e);
}

static int make_tmp(struct making *m, uint64_t size, struct err *e)
{
    if (m->fd < 0)
        m->fd = open(m->tmp, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (m->fd < 0)
        return err_sys(e, errno, "%s", m->tmp);
    if (flock(m->fd, LOCK_EX) < 0 || ftruncate(m->fd, 0) < 0 || ftruncate(m->fd, (off_t)size) < 0)
        return err_sys(e, errno, "%s", m->tmp);
    return 0;
}

static int publish(struct making *m, struct err *e)
{
    if (fsync(m->fd) < 0)
        return err_sys(e, errno, "%s: sync", m->tmp);
    if (rename(m->tmp, m->path) < 0)
        return err_sys(e, errno, "%s", m->path);
    close(steal_fd(&m->fd));
    return fsync_dir(m->dir, e);
}

static int check_space(const char *dir, uint64_t bytes, uint64_t reserve, struct err *e)
{
    struct statvfs fs;
    if (statvfs(dir, &fs) < 0)
        return err_sys(e, errno, "%s", dir);
    uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (available >= reserve && available - reserve >= bytes)
        return 0;
    return err_set_sys(e, ERR_FAILED, ENOSPC, "%s: no space beside the reserve", dir);
}

/* Under the image's lock. */
static int make(struct making *m, uint64_t size, const char *filesystem, uint64_t reserve, struct err *e)
{
    if (check_space(m->dir, MIB, reserve, e) < 0 || make_tmp(m, size, e) < 0 ||
        mkfs_make(m->tmp, filesystem, "machine", e) < 0)
        return -1;
    return publish(m, e);
}

int machine_image_open(struct store *s, const struct uuid *image, uint64_t size, const char *filesystem,
                       uint64_t reserve, struct raw_disk **ret, struct err *e)
{
    cleanup(free) char *path = file_path(store_images_dir(s), image);
    cleanup(free) char *dir = store_image_dir(s, image);
    /* Who gave it its name may have been killed before it had synced that. */
    if (path_exists(path) && fsync_dir(dir, e) < 0)
        return -1;
    if (raw_disk_open(path, reserve, ret, e) == 0)
        return 0;
    if (e->code != ERR_NOT_FOUND)
        return -1;
    cleanup(making) struct making m = {.lock = -1, .fd = -1};
    if (begin(s, image, &m, e) < 0)
        return -1;
    if (!path_exists(path) && make(&m, size, filesystem, reserve, e) < 0)
        return err_wrap(e, "format the machine's disk");
    return raw_disk_open(path, reserve, ret, e);
}

/* Takes the file alone; -1 with ERR_NOT_FOUND where it is not made yet. */
static int open_alone(const char *path, int *ret_fd, struct stat *st, struct err *e)
{
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_FAILED, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? err_set(e, ERR_STATE, "the machine's disk is in use; try: again later")
                                    : err_sys(e, errno, "%s: lock", path);
    if (fstat(fd, st) < 0)
        return err_sys(e, errno, "%s", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int copy_range(int from, int to, off_t start, off_t end, struct err *e)
{
    for (off_t at = start; at < end;) {
        off_t in = at, out = at;
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);
        if (n <= 0)
            return err_sys(e, n < 0 ? errno : EIO, "copy the machine's disk");
        at += n;
    }
    return 0;
}

/* Data alone: holes stay holes. */
static int copy_data(int from, int to, struct err *e)
{
    for (off_t end = 0;;) {
        off_t start = lseek(from, end, SEEK_DATA);
        if (start < 0)
            return errno == ENXIO ? 0 : err_sys(e, errno, "copy the machine's disk");
        end = lseek(from, start, SEEK_HOLE);
        if (end < 0)
            return err_sys(e, errno, "copy the machine's disk");
        if (copy_range(from, to, start, end, e) < 0)
            return -1;
    }
}

/* On a copy: what goes wrong with it, or is killed, leaves the disk as it was. */
static int grow_copy(struct making *m, int from, uint64_t size, const char *filesystem,
                     char ret_left[MACHINE_IMAGE_TEXT_SIZE], struct err *e)
{
    struct err why = {.msg = ""};
    if (make_tmp(m, size, e) < 0 || copy_data(from, m->fd, e) < 0)
        return -1;
    if (strcmp(filesystem, "fat32") == 0)
        err_set(&why, ERR_FAILED, "there is no tool to grow FAT");
    else if (strcmp(filesystem, "ext4") == 0 && mkfs_grow_ext4(m->tmp, &why) < 0 &&
             (make_tmp(m, size, e) < 0 || copy_data(from, m->fd, e) < 0))
        return -1;
    snprintf(ret_left, MACHINE_IMAGE_TEXT_SIZE, "%s", why.msg);
    return publish(m, e);
}

int machine_image_grow(struct store *s, const struct uuid *image, uint64_t size, const char *filesystem,
                       uint64_t reserve, char ret_left[MACHINE_IMAGE_TEXT_SIZE], struct err *e)
{
    struct stat st;
    cleanup(close) int from = -1;
    cleanup(making) struct making m = {.lock = -1, .fd = -1};
    ret_left[0] = '\0';
    cleanup(free) char *path = file_path(store_images_dir(s), image);
    if (!path_exists(path))
        return 0;
    if (begin(s, image, &m, e) < 0)
        return -1;
    if (open_alone(path, &from, &st, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    if ((uint64_t)st.st_size >= size)
        return 0;
    if (check_space(m.dir, (uint64_t)st.st_blocks * 512, reserve, e) < 0)
        return -1;
    return grow_copy(&m, from, size, filesystem, ret_left, e);
}
