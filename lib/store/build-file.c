/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/build-file.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/layer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

DEFINE_CLEANUP(build, struct build, build_free);

static int lock_fd(int fd)
{
    int r;
    do
        r = flock(fd, LOCK_EX);
    while (r < 0 && errno == EINTR);
    return r;
}

/* Between open and flock gc may take the file for a dead one, and before that the whole folder, which had no file of
 * anybody: *ret_alive says whether it is still there. */
static int open_locked(struct store *s, struct build *b, bool *ret_alive, struct err *e)
{
    struct stat st;
    b->fd = open(b->tmp_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (b->fd < 0 && errno == ENOENT) {
        *ret_alive = false;
        return store_make_image(s, &b->footer.image, e);
    }
    if (b->fd < 0)
        return err_sys(e, errno, "%s", b->tmp_path);
    if (lock_fd(b->fd) < 0 || fstat(b->fd, &st) < 0)
        return err_sys(e, errno, "%s: lock", b->tmp_path);
    *ret_alive = st.st_nlink > 0;
    return 0;
}

int build_create(struct store *s, const struct uuid *image, struct build **ret, struct err *e)
{
    char image_text[UUID_TEXT_SIZE], layer_text[UUID_TEXT_SIZE];
    cleanup(build) struct build *b = calloc(1, sizeof *b);
    if (!b)
        return err_sys(e, ENOMEM, "layer");
    b->fd = -1;
    b->footer.image = *image;
    uuid_make(&b->footer.layer);
    b->image_dir = path_format("%s/%s", store_images_dir(s), uuid_to_text(image, image_text));
    b->tmp_path = path_format("%s/tmp/%s", b->image_dir, uuid_to_text(&b->footer.layer, layer_text));
    for (bool alive = false; !alive;) {
        if (b->fd >= 0)
            close(steal_fd(&b->fd));
        if (open_locked(s, b, &alive, e) < 0)
            return -1;
    }
    *ret = steal(&b);
    return 0;
}

/* Moves without ever replacing: sys = EEXIST. */
static int move_file(const char *from, const char *to, struct err *e)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return err_sys(e, errno, "%s", to);
    if (linkat(AT_FDCWD, from, AT_FDCWD, to, 0) < 0)
        return err_sys(e, errno, "%s", to);
    if (unlink(from) < 0) {
        int saved_errno = errno;
        unlink(to);
        return err_sys(e, saved_errno, "%s", from);
    }
    return 0;
}

static int write_footer(struct build *b, uint64_t version, struct err *e)
{
    uint8_t block[FOOTER_SIZE];
    struct footer f = b->footer;
    f.version = version;
    footer_encode(&f, block);
    if (full_pwrite(b->fd, block, sizeof block, f.file_length - FOOTER_SIZE, e) < 0)
        return err_wrap(e, "%s", b->tmp_path);
    if (fdatasync(b->fd) < 0) {
        b->unsound = true;
        return err_sys(e, errno, "%s: sync", b->tmp_path);
    }
    return 0;
}

static int sync_folders(const struct build *b, struct err *e)
{
    cleanup(free) char *tmp_dir = path_format("%s/tmp", b->image_dir);
    if (fsync_dir(b->image_dir, e) < 0)
        return -1;
    return fsync_dir(tmp_dir, e);
}

int build_publish(struct build *b, uint64_t version, struct err *e)
{
    struct err ignored;
    if (b->published || b->unsound)
        return err_set(e, ERR_FAILED, "%s: %s", b->tmp_path,
                       b->unsound ? "cannot be published after a failed sync" : "is published already");
    if (version == 0 || version <= b->footer.parent_version)
        return err_set(e, ERR_STATE, "version %" PRIu64 " is not above its parent's", version);
    if (write_footer(b, version, e) < 0)
        return -1;
    cleanup(free) char *path = path_format("%s/%" PRIu64 ".img", b->image_dir, version);
    if (move_file(b->tmp_path, path, e) < 0) {
        if (e->sys == EEXIST)
            e->code = ERR_STATE;
        return -1;
    }
    b->published = true;
    if (sync_folders(b, e) < 0) {
        /* A file that stays there nevertheless has no row in the catalog, so it is no version. */
        b->published = move_file(path, b->tmp_path, &ignored) < 0;
        return -1;
    }
    /* Readers take it shared. Not before the rename: store_clean_tmp would take the file for a dead build's.
     */
    flock(b->fd, LOCK_UN);
    return 0;
}

/* The file gets a second name in retired/; one that is left there of an attempt before is this very file. */
static int keep_in_retired(const struct build *b, const char *path, const struct uuid *old, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *retired = path_format("%s/retired", b->image_dir);
    cleanup(free) char *name = path_format("%s/%s.img", retired, uuid_to_text(old, text));
    if (make_dirs(retired, 0700, e) < 0)
        return -1;
    if (linkat(AT_FDCWD, path, AT_FDCWD, name, 0) < 0 && errno != EEXIST)
        return err_sys(e, errno, "%s", name);
    return fsync_dir(retired, e);
}

static int check_is_layer(const char *path, const struct uuid *layer, struct err *e)
{
    struct footer f;
    struct hash h;
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    if (layer_read_footer(fd, &f, &h, e) < 0)
        return err_wrap(e, "%s", path);
    return uuid_equal(&f.layer, layer) ? 0 : err_set(e, ERR_STATE, "the version was rewritten meanwhile");
}

int build_replace(struct build *b, const struct uuid *old, struct err *e)
{
    if (b->published || b->unsound)
        return err_set(e, ERR_FAILED, "%s: cannot be published", b->tmp_path);
    cleanup(free) char *path = path_format("%s/%" PRIu64 ".img", b->image_dir, b->footer.version);
    if (check_is_layer(path, old, e) < 0 || write_footer(b, b->footer.version, e) < 0 ||
        keep_in_retired(b, path, old, e) < 0)
        return -1;
    if (rename(b->tmp_path, path) < 0)
        return err_sys(e, errno, "%s", path);
    b->published = true;
    if (sync_folders(b, e) < 0)
        return -1;
    flock(b->fd, LOCK_UN); /* as in build_publish */
    return 0;
}

void build_free(struct build *b)
{
    if (!b)
        return;
    int saved_errno = errno;
    if (b->fd >= 0 && !b->published)
        unlink(b->tmp_path);
    if (b->fd >= 0)
        close(b->fd);
    free(b->tmp_path);
    free(b->image_dir);
    free(b);
    errno = saved_errno;
}
