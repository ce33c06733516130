/* SPDX-License-Identifier: BSD-3-Clause */
/* The parent's side of the extraction: it makes an empty folder in <tftp-root>/tmp, lets a limited child fill
 * it, and renames it to its place only when the child has said that all is well. Whatever happens to the
 * child, there is nothing to see under kernels/ but whole folders. Extractions are made one at a time, under
 * an flock. */
#include "tftp-glue/kernel.h"
#include "tftp-glue/tree.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/spawn.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* A kernel and its initrd are 100 MB at most in practice. */
static const struct spawn_limits extract_limits = {.seconds = 120, .file_bytes = 512 * MIB};

static char *image_dir(const struct conf *conf, const struct uuid *image)
{
    char uuid[UUID_TEXT_SIZE];
    return path_format("%s/kernels/%s", conf->network.tftp_root, uuid_to_text(image, uuid));
}

static char *version_dir(const struct conf *conf, const struct uuid *image, uint64_t version)
{
    cleanup(free) char *parent = image_dir(conf, image);
    return path_format("%s/%" PRIu64, parent, version);
}

/* The release of a version whose kernel is there. ERR_NOT_FOUND when one of the files is not. */
static int read_release(const char *dir, char ret[KERNEL_RELEASE_SIZE], struct err *e)
{
    static const char *const files[] = {"vmlinuz", "initrd.img"};
    for (size_t i = 0; i < 2; i++) {
        cleanup(free) char *path = path_format("%s/%s", dir, files[i]);
        if (!path_exists(path))
            return err_set(e, ERR_NOT_FOUND, "%s: no such file", path);
    }
    cleanup(free) char *path = path_format("%s/release", dir);
    cleanup(free) char *text = NULL;
    size_t len;
    if (read_file(path, KERNEL_RELEASE_SIZE - 1, &text, &len, e) < 0)
        return -1;
    snprintf(ret, KERNEL_RELEASE_SIZE, "%s", text);
    return 0;
}

/* What is extracted from where to where. */
struct extraction {
    const struct conf *conf;
    const struct uuid *image;
    uint64_t version;
    const char *overlay; /* its folder; NULL: the version as it is */
    const char *dir;
};

static int run_child(const struct extraction *x, const char *out, struct err *e)
{
    cleanup(free) char *program = tree_program("labboot-kernel");
    char uuid[UUID_TEXT_SIZE], number[24];
    uuid_to_text(x->image, uuid);
    snprintf(number, sizeof number, "%" PRIu64, x->version);
    const char *const argv[] = {program, x->conf->server.images_dir, uuid, number, out, x->overlay, NULL};
    return spawn_limited(argv, &extract_limits, e);
}

/* Fills `tmp` and gives it its name. */
static int extract_into(const struct extraction *x, const char *tmp, struct err *e)
{
    char release[KERNEL_RELEASE_SIZE];
    if (run_child(x, tmp, e) < 0)
        return -1;
    if (read_release(tmp, release, e) < 0)
        return err_wrap(e, "kernel extraction");
    if (chmod(tmp, 0755) < 0)
        return err_sys(e, errno, "%s", tmp);
    cleanup(free) char *parent = path_format("%.*s", (int)(strrchr(x->dir, '/') - x->dir), x->dir);
    cleanup(free) char *above = path_format("%s/kernels", x->conf->network.tftp_root);
    if (make_dirs(parent, 0755, e) < 0 || remove_tree(x->dir, e) < 0)
        return -1;
    if (rename(tmp, x->dir) < 0)
        return err_sys(e, errno, "%s: rename to %s", tmp, x->dir);
    /* The parent may be new too. */
    return fsync_dir(parent, e) < 0 ? -1 : fsync_dir(above, e);
}

static int extract_locked(const struct extraction *x, struct err *e)
{
    cleanup(free) char *tmp = path_format("%s/tmp/kernel-XXXXXX", x->conf->network.tftp_root);
    if (!mkdtemp(tmp))
        return err_sys(e, errno, "%s", tmp);
    if (extract_into(x, tmp, e) == 0)
        return 0;
    struct err ignored;
    if (remove_tree(tmp, &ignored) < 0)
        return err_wrap(e, "%s is left", tmp);
    return -1;
}

int kernel_extract(const struct conf *conf, const struct uuid *image, uint64_t version,
                   char ret_release[KERNEL_RELEASE_SIZE], struct err *e)
{
    cleanup(free) char *dir = version_dir(conf, image, version);
    struct err missing;
    if (read_release(dir, ret_release, &missing) == 0)
        return 0;
    cleanup(close) int lock = -1;
    if (tree_make(conf, e) < 0 || tree_lock(conf, TREE_LOCK_KERNELS, &lock, e) < 0)
        return -1;
    /* Another process may have been faster. */
    if (read_release(dir, ret_release, &missing) == 0)
        return 0;
    const struct extraction x = {.conf = conf, .image = image, .version = version, .dir = dir};
    if (extract_locked(&x, e) < 0)
        return -1;
    return read_release(dir, ret_release, e);
}

static char *boot_dir(const struct conf *conf, int64_t boot)
{
    return path_format("%s/kernels/boot-%" PRId64, conf->network.tftp_root, boot);
}

int kernel_extract_overlay(const struct conf *conf, int64_t boot, const struct uuid *image, uint64_t version,
                           const char *overlay, struct err *e)
{
    cleanup(free) char *dir = boot_dir(conf, boot);
    cleanup(close) int lock = -1;
    const struct extraction x = {
        .conf = conf, .image = image, .version = version, .overlay = overlay, .dir = dir};
    if (tree_make(conf, e) < 0 || tree_lock(conf, TREE_LOCK_KERNELS, &lock, e) < 0)
        return -1;
    return extract_locked(&x, e);
}

bool kernel_of_boot(const struct conf *conf, int64_t boot, char ret_release[KERNEL_RELEASE_SIZE])
{
    cleanup(free) char *dir = boot_dir(conf, boot);
    struct err missing;
    return read_release(dir, ret_release, &missing) == 0;
}

int kernel_remove_boot(const struct conf *conf, int64_t boot, struct err *e)
{
    cleanup(free) char *dir = boot_dir(conf, boot);
    return remove_tree(dir, e);
}

int kernel_remove(const struct conf *conf, const struct uuid *image, uint64_t version, struct err *e)
{
    cleanup(free) char *dir = version_dir(conf, image, version);
    return remove_tree(dir, e);
}

int kernel_remove_all(const struct conf *conf, const struct uuid *image, struct err *e)
{
    cleanup(free) char *dir = image_dir(conf, image);
    return remove_tree(dir, e);
}
