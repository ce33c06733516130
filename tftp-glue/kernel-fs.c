/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/kernel-fs.h"
#include "tftp-glue/ext-io.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <et/com_err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define RELEASE_MAX 150
#define KERNELS_MAX 256
#define COPY_SIZE (256 * KIB)
#define KERNEL_PREFIX "vmlinuz-"

struct kernel {
    char release[RELEASE_MAX + 1];
};

struct found {
    struct kernel kernels[KERNELS_MAX];
    size_t count;
};

struct pair {
    ext2_ino_t kernel, initrd;
    char release[RELEASE_MAX + 1];
};

static void close_fs(ext2_filsys fs)
{
    if (fs)
        ext2fs_free(fs);
}
DEFINE_CLEANUP(fs, struct struct_ext2_filsys, close_fs);

static void close_ext_file(ext2_file_t file)
{
    if (file)
        ext2fs_file_close(file);
}
DEFINE_CLEANUP(ext_file, struct ext2_file, close_ext_file);

static int fs_error(const struct ext_disk *disk, errcode_t rc, const char *what, struct err *e)
{
    if (disk->failed.code != 0) {
        *e = disk->failed;
        return err_wrap(e, "%s", what);
    }
    return err_set(e, ERR_CORRUPT, "%s: %s", what, error_message(rc));
}

/* A release is a word of the names that distributions give: it is printed and stored. */
static bool is_release(const char *text, size_t len)
{
    if (len == 0 || len > RELEASE_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool fine = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    (c != '\0' && strchr("._+~-", c) != NULL);
        if (!fine)
            return false;
    }
    return true;
}

/* "vmlinuz-RELEASE" */
static bool release_of(const char *name, size_t len, char ret[RELEASE_MAX + 1])
{
    size_t prefix = sizeof KERNEL_PREFIX - 1;
    if (len <= prefix || memcmp(name, KERNEL_PREFIX, prefix) != 0 || !is_release(name + prefix, len - prefix))
        return false;
    memcpy(ret, name + prefix, len - prefix);
    ret[len - prefix] = '\0';
    return true;
}

static int note_kernel(ext2_ino_t dir, int entry, struct ext2_dir_entry *d, int offset, int block_size,
                       char *buf, void *ctx)
{
    (void)dir, (void)entry, (void)offset, (void)block_size, (void)buf;
    struct found *found = ctx;
    if (found->count == KERNELS_MAX)
        return DIRENT_ABORT;
    if (release_of(d->name, (size_t)ext2fs_dirent_name_len(d), found->kernels[found->count].release))
        found->count++;
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct kernel *x = a, *y = b;
    return strverscmp(y->release, x->release);
}

/* A regular, not empty file at the end of all links. */
static bool find_file(ext2_filsys fs, const char *path, ext2_ino_t *ret)
{
    ext2_ino_t ino;
    struct ext2_inode inode;
    if (ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) ||
        ext2fs_read_inode(fs, ino, &inode))
        return false;
    if (!LINUX_S_ISREG(inode.i_mode) || EXT2_I_SIZE(&inode) == 0)
        return false;
    *ret = ino;
    return true;
}

/* `dir` is "/boot", or "" for the file system of a /boot of its own. */
static bool find_in_dir(ext2_filsys fs, const char *dir, struct found *found, struct pair *ret)
{
    ext2_ino_t boot;
    found->count = 0;
    if (ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, *dir ? dir : "/", &boot) ||
        ext2fs_dir_iterate2(fs, boot, 0, NULL, note_kernel, found))
        return false;
    qsort(found->kernels, found->count, sizeof found->kernels[0], newest_first);
    for (size_t i = 0; i < found->count; i++) {
        const char *release = found->kernels[i].release;
        cleanup(free) char *kernel = path_format("%s/" KERNEL_PREFIX "%s", dir, release);
        cleanup(free) char *initrd = path_format("%s/initrd.img-%s", dir, release);
        if (!find_file(fs, kernel, &ret->kernel) || !find_file(fs, initrd, &ret->initrd))
            continue;
        memcpy(ret->release, release, sizeof ret->release);
        return true;
    }
    return false;
}

/* The text of a symbolic link; "" for anything else. */
static void read_link(ext2_filsys fs, const char *path, char *ret, size_t size)
{
    ext2_ino_t ino;
    struct ext2_inode inode;
    ret[0] = '\0';
    if (ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) || ext2fs_read_inode(fs, ino, &inode) ||
        !LINUX_S_ISLNK(inode.i_mode))
        return;
    uint64_t len = min_u64(EXT2_I_SIZE(&inode), size - 1);
    if (ext2fs_is_fast_symlink(&inode)) {
        len = min_u64(len, sizeof inode.i_block);
        memcpy(ret, inode.i_block, len);
        ret[len] = '\0';
        return;
    }
    cleanup(ext_file) ext2_file_t file = NULL;
    unsigned got = 0;
    if (ext2fs_file_open(fs, ino, 0, &file) == 0 && ext2fs_file_read(file, ret, (unsigned)len, &got) == 0)
        ret[got] = '\0';
    else
        ret[0] = '\0';
}

static bool find_in_root(ext2_filsys fs, struct pair *ret)
{
    if (!find_file(fs, "/vmlinuz", &ret->kernel) || !find_file(fs, "/initrd.img", &ret->initrd))
        return false;
    char target[PATH_MAX];
    read_link(fs, "/vmlinuz", target, sizeof target);
    const char *slash = strrchr(target, '/');
    const char *name = slash ? slash + 1 : target;
    if (!release_of(name, strlen(name), ret->release))
        snprintf(ret->release, sizeof ret->release, "vmlinuz");
    return true;
}

static int copy_bytes(const struct ext_disk *disk, ext2_file_t from, uint64_t size, int to, const char *name,
                      struct err *e)
{
    cleanup(free) char *buf = malloc(COPY_SIZE);
    if (!buf)
        return err_sys(e, ENOMEM, "%s", name);
    for (uint64_t done = 0; done < size;) {
        unsigned got = 0;
        errcode_t rc = ext2fs_file_read(from, buf, (unsigned)min_u64(COPY_SIZE, size - done), &got);
        if (rc || got == 0)
            return fs_error(disk, rc ? rc : EXT2_ET_SHORT_READ, name, e);
        if (full_write(to, buf, got, e) < 0)
            return err_wrap(e, "%s", name);
        done += got;
    }
    return fsync(to) < 0 ? err_sys(e, errno, "%s: fsync", name) : 0;
}

static int make_file(const char *dir, const char *name, int *ret, struct err *e)
{
    cleanup(free) char *path = path_format("%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    *ret = fd;
    /* Whatever the umask: dnsmasq's user reads it. */
    return fchmod(fd, 0644) < 0 ? err_sys(e, errno, "%s", path) : 0;
}

static int copy_file(const struct ext_disk *disk, ext2_filsys fs, ext2_ino_t ino, uint64_t most,
                     const char *dir, const char *name, struct err *e)
{
    cleanup(ext_file) ext2_file_t file = NULL;
    cleanup(close) int to = -1;
    __u64 size;
    errcode_t rc = ext2fs_file_open(fs, ino, 0, &file);
    if (rc || (rc = ext2fs_file_get_lsize(file, &size)))
        return fs_error(disk, rc, name, e);
    if (size > most)
        return err_set(e, ERR_CORRUPT, "%s: %" PRIu64 " bytes are more than a %s may have", name,
                       (uint64_t)size, name);
    if (make_file(dir, name, &to, e) < 0)
        return -1;
    return copy_bytes(disk, file, size, to, name, e);
}

static int write_release(const char *dir, const char *release, struct err *e)
{
    cleanup(close) int fd = -1;
    if (make_file(dir, "release", &fd, e) < 0 || full_write(fd, release, strlen(release), e) < 0)
        return -1;
    if (fsync(fd) < 0)
        return err_sys(e, errno, "%s: fsync", dir);
    return fsync_dir(dir, e);
}

static int open_fs(struct ext_disk *disk, ext2_filsys *ret, struct err *e)
{
    initialize_ext2_error_table();
    if (disk->reader->size < 64 * KIB)
        return err_set(e, ERR_NOT_FOUND, "no ext4 file system on the disk itself");
    errcode_t rc = ext_open(disk, ret);
    if (rc == EXT2_ET_BAD_MAGIC)
        return err_set(e, ERR_NOT_FOUND, "no ext4 file system on the disk itself");
    return rc ? fs_error(disk, rc, "file system", e) : 0;
}

int kernel_fs_copy(const struct reader *reader, const char *dir, struct err *e)
{
    struct ext_disk disk = {.reader = reader};
    cleanup(fs) ext2_filsys fs = NULL;
    if (open_fs(&disk, &fs, e) < 0)
        return -1;
    struct pair pair;
    cleanup(free) struct found *found = calloc(1, sizeof *found);
    if (!found)
        return err_sys(e, ENOMEM, "kernels");
    if (!find_in_dir(fs, "/boot", found, &pair) && !find_in_root(fs, &pair) &&
        !find_in_dir(fs, "", found, &pair)) {
        if (disk.failed.code != 0)
            return fs_error(&disk, 0, "/boot", e);
        return err_set(
            e, ERR_NOT_FOUND,
            "no kernel with its initrd: neither /boot/vmlinuz-X with /boot/initrd.img-X nor /vmlinuz "
            "with /initrd.img nor /vmlinuz-X with /initrd.img-X");
    }
    if (copy_file(&disk, fs, pair.kernel, KERNEL_SIZE_MAX, dir, "vmlinuz", e) < 0 ||
        copy_file(&disk, fs, pair.initrd, INITRD_SIZE_MAX, dir, "initrd.img", e) < 0)
        return -1;
    return write_release(dir, pair.release, e);
}
