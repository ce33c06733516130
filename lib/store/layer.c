/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/layer.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/medium.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>

struct layers {
    pthread_mutex_t
        lock; /* of the list and of all refs; no other lock is taken under it, and no file touched */
    struct layer *first;
    bool medium; /* set before the first is opened */
};

DEFINE_CLEANUP(layer, struct layer, layer_close);

int layers_new(struct layers **ret, struct err *e)
{
    struct layers *r = calloc(1, sizeof *r);
    if (!r)
        return err_sys(e, ENOMEM, "layers");
    pthread_mutex_init(&r->lock, NULL);
    *ret = r;
    return 0;
}

void layers_read_medium(struct layers *r)
{
    r->medium = true;
}

void layers_free(struct layers *r)
{
    if (!r)
        return;
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* The lock is held. A reference is taken. */
static struct layer *find_open(struct layers *r, const struct uuid *uuid)
{
    for (struct layer *l = r->first; l; l = l->next)
        if (uuid_equal(&l->footer.layer, uuid)) {
            l->refs++;
            return l;
        }
    return NULL;
}

static void unlink_from(struct layers *r, struct layer *l)
{
    struct layer **link = &r->first;
    while (*link != l)
        link = &(*link)->next;
    *link = l->next;
}

static void layer_free(struct layer *l)
{
    close(l->fd);
    free(l);
}

void layer_close(struct layer *l)
{
    if (!l)
        return;
    struct layers *r = l->registry;
    pthread_mutex_lock(&r->lock);
    bool last = --l->refs == 0;
    if (last)
        unlink_from(r, l);
    pthread_mutex_unlock(&r->lock);
    if (last)
        layer_free(l);
}

int layer_read_footer(int fd, struct footer *ret, struct hash *ret_hash, struct err *e)
{
    uint8_t raw[FOOTER_SIZE];
    struct footer f;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "stat");
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < FOOTER_SIZE)
        return err_set_sys(e, ERR_CORRUPT, EIO, "not a layer: too short or no file");
    if (full_pread(fd, raw, sizeof raw, (uint64_t)st.st_size - FOOTER_SIZE, e) < 0)
        return err_wrap(e, "footer");
    if (footer_decode(raw, &f, e) < 0)
        return -1;
    if (f.file_length != (uint64_t)st.st_size)
        return err_set_sys(e, ERR_CORRUPT, EIO, "%" PRIu64 " bytes long, its footer says %" PRIu64,
                           (uint64_t)st.st_size, f.file_length);
    *ret = f;
    memcpy(ret_hash->b, raw + FOOTER_SIZE - HASH_SIZE, HASH_SIZE);
    return 0;
}

static int lock_shared(int fd, struct err *e)
{
    int rc;
    do
        rc = flock(fd, LOCK_SH);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? err_sys(e, errno, "flock") : 0;
}

/* Who removes a file holds its lock, and may have done so between the opening and the lock. */
static int open_locked(const char *path, int *ret_fd, struct err *e)
{
    struct stat st;
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: no such file", path);
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    if (lock_shared(fd, e) < 0)
        return err_wrap(e, "%s", path);
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "%s", path);
    if (st.st_nlink == 0)
        return err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: removed", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* The footer is read before there is a layer: from then on the page cache has it as the disk does. */
static int prepare_medium(int fd, struct err *e)
{
    uint8_t footer[FOOTER_SIZE];
    off_t size = lseek(fd, 0, SEEK_END);
    medium_prepare(fd);
    return size < FOOTER_SIZE ? 0 : medium_pread(fd, footer, sizeof footer, (uint64_t)size - FOOTER_SIZE, e);
}

static int open_file(const struct layers *r, const char *path, struct layer **ret, struct err *e)
{
    struct footer footer;
    struct hash hash;
    cleanup(close) int fd = -1;
    if (open_locked(path, &fd, e) < 0)
        return -1;
    if ((r->medium && prepare_medium(fd, e) < 0) || layer_read_footer(fd, &footer, &hash, e) < 0)
        return err_wrap(e, "%s", path);
    struct layer *l = calloc(1, sizeof *l);
    if (!l)
        return err_sys(e, ENOMEM, "%s", path);
    l->fd = steal_fd(&fd);
    l->footer = footer;
    l->footer_hash = hash;
    *ret = l;
    return 0;
}

/* Opens outside the lock; where another thread was faster, or the layer was open before, that one is shared.
 */
static int open_and_register(struct layers *r, const char *path, struct layer **ret, struct err *e)
{
    struct layer *l;
    if (open_file(r, path, &l, e) < 0)
        return -1;
    l->registry = r;
    l->refs = 1;
    pthread_mutex_lock(&r->lock);
    struct layer *known = find_open(r, &l->footer.layer);
    if (!known) {
        l->next = r->first;
        r->first = l;
    }
    pthread_mutex_unlock(&r->lock);
    if (known)
        layer_free(l);
    *ret = known ? known : l;
    return 0;
}

int layer_open_version(struct layers *r, const char *image_dir, uint64_t version, struct layer **ret,
                       struct err *e)
{
    cleanup(free) char *path = path_format("%s/%" PRIu64 ".img", image_dir, version);
    return open_and_register(r, path, ret, e);
}

int layer_open_retired(struct layers *r, const char *image_dir, const struct uuid *uuid, struct layer **ret,
                       struct err *e)
{
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *path = path_format("%s/retired/%s.img", image_dir, uuid_to_text(uuid, text));
    return open_and_register(r, path, ret, e);
}

/* The file of the version may be another layer now (flattened), gone (deleted) or damaged: then the layer may
 * still be found in retired/. */
static int find_listed(struct layers *r, const char *image_dir, const struct table_entry *want,
                       struct layer **ret, struct err *e)
{
    pthread_mutex_lock(&r->lock);
    struct layer *known = find_open(r, &want->layer);
    pthread_mutex_unlock(&r->lock);
    if (known) {
        *ret = known;
        return 0;
    }
    struct err first;
    cleanup(layer) struct layer *l = NULL;
    if (layer_open_version(r, image_dir, want->version, &l, &first) == 0) {
        if (uuid_equal(&l->footer.layer, &want->layer)) {
            *ret = steal(&l);
            return 0;
        }
        first.code = ERR_NOT_FOUND;
    }
    if (layer_open_retired(r, image_dir, &want->layer, ret, e) == 0)
        return 0;
    if (first.code != ERR_NOT_FOUND && e->code == ERR_NOT_FOUND)
        *e = first;
    return -1;
}

int layer_open_listed(struct layers *r, const char *image_dir, const struct table_entry *want,
                      struct layer **ret, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    cleanup(layer) struct layer *l = NULL;
    if (find_listed(r, image_dir, want, &l, e) < 0) {
        if (e->code == ERR_NOT_FOUND)
            return err_set_sys(e, ERR_CORRUPT, EIO, "layer %s (version %" PRIu64 ") is missing",
                               uuid_to_text(&want->layer, text), want->version);
        return err_wrap(e, "layer %s", uuid_to_text(&want->layer, text));
    }
    if (!uuid_equal(&l->footer.layer, &want->layer) || !hash_equal(&l->footer_hash, &want->footer_hash) ||
        l->footer.file_length != want->file_length)
        return err_set_sys(e, ERR_CORRUPT, EIO, "layer %s is not the file that it was",
                           uuid_to_text(&want->layer, text));
    *ret = steal(&l);
    return 0;
}

int layer_pread(const struct layer *l, void *buf, size_t count, uint64_t offset, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    uint64_t end;
    if (add_overflows(offset, count, &end) || end > l->footer.file_length - FOOTER_SIZE)
        return err_set_sys(e, ERR_CORRUPT, EIO, "layer %s: nothing can be at %" PRIu64,
                           uuid_to_text(&l->footer.layer, text), offset);
    int r = l->registry->medium ? medium_pread(l->fd, buf, count, offset, e)
                                : full_pread(l->fd, buf, count, offset, e);
    if (r < 0)
        return err_wrap(e, "layer %s", uuid_to_text(&l->footer.layer, text));
    return 0;
}

int layer_pread_verified(const struct layer *l, void *buf, size_t count, uint64_t offset,
                         const struct hash *want, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    struct hash h;
    if (layer_pread(l, buf, count, offset, e) < 0)
        return -1;
    hash_of(buf, count, &h);
    if (!hash_equal(&h, want))
        return err_set_sys(e, ERR_CORRUPT, EIO, "layer %s: what is at %" PRIu64 " does not match its hash",
                           uuid_to_text(&l->footer.layer, text), offset);
    return 0;
}
