/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/base/fsutil.h"

#include "lib/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int full_pread(int fd, void *buf, size_t count, uint64_t offset, struct err *e)
{
    char *p = buf;
    while (count > 0) {
        ssize_t n = pread(fd, p, count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "read at %" PRIu64, offset);
        if (n == 0)
            return err_set_sys(e, ERR_FAILED, EIO, "the file ends at %" PRIu64 ", before what was to be read",
                               offset);
        p += n;
        count -= (size_t)n;
        offset += (size_t)n;
    }
    return 0;
}

int full_pwrite(int fd, const void *buf, size_t count, uint64_t offset, struct err *e)
{
    const char *p = buf;
    while (count > 0) {
        ssize_t n = pwrite(fd, p, count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "write at %" PRIu64, offset);
        p += n;
        count -= (size_t)n;
        offset += (size_t)n;
    }
    return 0;
}

int full_read(int fd, void *buf, size_t count, size_t *ret_got, struct err *e)
{
    size_t got = 0;
    while (got < count) {
        ssize_t n = read(fd, (char *)buf + got, count - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "read");
        if (n == 0)
            break;
        got += (size_t)n;
    }
    *ret_got = got;
    return 0;
}

int full_write(int fd, const void *buf, size_t count, struct err *e)
{
    const char *p = buf;
    while (count > 0) {
        ssize_t n = write(fd, p, count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "write");
        p += n;
        count -= (size_t)n;
    }
    return 0;
}

int read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct err *e)
{
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: no such file", path)
                               : err_sys(e, errno, "%s", path);
    cleanup(free) char *text = malloc(max + 2);
    if (!text)
        return err_sys(e, ENOMEM, "%s", path);
    size_t got;
    if (full_read(fd, text, max + 1, &got, e) < 0)
        return err_wrap(e, "%s", path);
    if (got > max)
        return err_set(e, ERR_FAILED, "%s: larger than %zu bytes", path, max);
    text[got] = '\0';
    *ret = steal(&text);
    if (ret_len)
        *ret_len = got;
    return 0;
}

static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return path_format(".");
    return path_format("%.*s", slash == path ? 1 : (int)(slash - path), path);
}

int fsync_dir(const char *path, struct err *e)
{
    cleanup(close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_sys(e, errno, "%s: sync", path);
    return 0;
}

static int write_temporary(int fd, const void *data, size_t len, mode_t mode, bool sync, struct err *e)
{
    if (full_write(fd, data, len, e) < 0)
        return -1;
    if (fchmod(fd, mode) < 0 || (sync && fsync(fd) < 0))
        return err_sys(e, errno, "write");
    return 0;
}

static int replace(const char *path, const char *tmp_dir, const void *data, size_t len, mode_t mode,
                   bool sync, struct err *e)
{
    cleanup(free) char *parent = parent_of(path);
    cleanup(free) char *tmp = path_format("%s/.new-XXXXXX", tmp_dir ? tmp_dir : parent);
    cleanup(close) int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "%s", tmp);
    if (write_temporary(fd, data, len, mode, sync, e) < 0) {
        unlink(tmp);
        return err_wrap(e, "%s", path);
    }
    if (rename(tmp, path) < 0) {
        int saved_errno = errno;
        unlink(tmp);
        return err_sys(e, saved_errno, "%s", path);
    }
    return 0;
}

int replace_unsynced(const char *path, const char *tmp_dir, const void *data, size_t len, mode_t mode,
                     struct err *e)
{
    return replace(path, tmp_dir, data, len, mode, false, e);
}

int atomic_replace(const char *path, const char *tmp_dir, const void *data, size_t len, mode_t mode,
                   struct err *e)
{
    cleanup(free) char *parent = parent_of(path);
    return replace(path, tmp_dir, data, len, mode, true, e) < 0 ? -1 : fsync_dir(parent, e);
}

int make_dirs(const char *path, mode_t mode, struct err *e)
{
    if (mkdir(path, mode) == 0) {
        if (chmod(path, mode) < 0) /* whatever the umask is */
            return err_sys(e, errno, "%s", path);
        return 0;
    }
    if (errno == ENOENT) {
        cleanup(free) char *parent = parent_of(path);
        if (make_dirs(parent, 0755, e) < 0)
            return -1;
        return make_dirs(path, mode, e);
    }
    struct stat st;
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return err_sys(e, errno, "%s", path);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int remove_tree(const char *path, struct err *e)
{
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 && errno != ENOENT)
        return err_sys(e, errno, "%s: remove", path);
    return 0;
}

bool path_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static int is_entry(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

int each_entry(const char *dir, int (*each)(void *ctx, const char *name, struct err *e), void *ctx,
               struct err *e)
{
    struct dirent **names;
    int count = scandir(dir, &names, is_entry, alphasort), r = 0;
    if (count < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "%s", dir);
    for (int i = 0; i < count; i++) {
        if (r == 0)
            r = each(ctx, names[i]->d_name, e);
        free(names[i]);
    }
    free(names);
    return r;
}

/* nftw has no context. */
static _Thread_local uint64_t bytes_so_far;

static int add_bytes(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)ftw;
    if (type != FTW_NS)
        bytes_so_far += (uint64_t)st->st_blocks * 512;
    return 0;
}

uint64_t tree_bytes(const char *path)
{
    bytes_so_far = 0;
    (void)nftw(path, add_bytes, 16, FTW_PHYS | FTW_MOUNT);
    return bytes_so_far;
}

uint64_t free_bytes(const char *path)
{
    struct statvfs fs;
    return statvfs(path, &fs) < 0 ? 0 : (uint64_t)fs.f_bavail * fs.f_frsize;
}

int lock_file(const char *path, bool wait, int *ret_fd, struct err *e)
{
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    int r;
    do
        r = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno == EWOULDBLOCK)
        return err_set_sys(e, ERR_STATE, EBUSY, "%s: held by another process", path);
    if (r < 0)
        return err_sys(e, errno, "%s: lock", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

char *path_format(const char *fmt, ...)
{
    char *s;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    return s;
}
