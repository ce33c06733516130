/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/store.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/base/parse.h"
#include "lib/store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>

/* 256 KiB: what tools that read once make do with. */
#define LEAVES_MIN 64u

DEFINE_CLEANUP(store, struct store, store_close);

int store_open(const char *images_dir, uint64_t cache_memory, struct store **ret, struct err *e)
{
    cleanup(store) struct store *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "store");
    pthread_mutex_init(&s->lock, NULL);
    s->images_dir = path_format("%s", images_dir);
    s->leaves_max = max_u64(cache_memory / 8 / LEAF_SIZE, LEAVES_MIN);
    if (cache_new(cache_memory, &s->cache, e) < 0 || scratch_pool_new(&s->scratch, e) < 0 ||
        layers_new(&s->layers, e) < 0)
        return -1;
    *ret = steal(&s);
    return 0;
}

void store_read_medium(struct store *s)
{
    layers_read_medium(s->layers);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    layers_free(s->layers);
    scratch_pool_free(s->scratch);
    cache_free(s->cache);
    pthread_mutex_destroy(&s->lock);
    free(s->images_dir);
    free(s);
}

const char *store_images_dir(const struct store *s)
{
    return s->images_dir;
}

char *store_image_dir(const struct store *s, const struct uuid *image)
{
    char text[UUID_TEXT_SIZE];
    return path_format("%s/%s", s->images_dir, uuid_to_text(image, text));
}

void store_counters(struct store *s, struct cache_counters *ret)
{
    cache_counters(s->cache, ret);
}

/* --- versions in a folder --- */

bool store_parse_version_name(const char *name, uint64_t *ret)
{
    uint64_t n = 0;
    size_t i = 0;
    if (name[0] == '0')
        return false;
    for (; name[i] >= '0' && name[i] <= '9'; i++)
        if (mul_overflows(n, UINT64_C(10), &n) || add_overflows(n, (uint64_t)(name[i] - '0'), &n))
            return false;
    if (i == 0 || strcmp(name + i, ".img") != 0)
        return false;
    *ret = n;
    return true;
}

/* Calls `each` for every version in the image's folder, in no order, until it returns non-zero. An image
 * without a folder has none. */
static int each_version(struct store *s, const struct uuid *image,
                        int (*each)(void *ctx, int dir_fd, uint64_t version), void *ctx, struct err *e)
{
    cleanup(free) char *path = store_image_dir(s, image);
    cleanup(closedir) DIR *d = opendir(path);
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, errno, "%s", path);
    for (;;) {
        uint64_t version;
        errno = 0;
        struct dirent *entry = readdir(d);
        if (!entry)
            return errno ? err_sys(e, errno, "%s", path) : 0;
        if (store_parse_version_name(entry->d_name, &version) && each(ctx, dirfd(d), version) != 0)
            return 0;
    }
}

bool store_has_version(struct store *s, const struct uuid *image, uint64_t version)
{
    cleanup(free) char *dir = store_image_dir(s, image);
    cleanup(free) char *path = path_format("%s/%" PRIu64 ".img", dir, version);
    return path_exists(path);
}

static int keep_highest(void *ctx, int dir_fd, uint64_t version)
{
    (void)dir_fd;
    uint64_t *highest = ctx;
    *highest = max_u64(*highest, version);
    return 0;
}

int store_highest_version(struct store *s, const struct uuid *image, uint64_t *ret, struct err *e)
{
    uint64_t highest = 0;
    if (each_version(s, image, keep_highest, &highest, e) < 0)
        return -1;
    *ret = highest;
    return 0;
}

struct by_overlay {
    const struct uuid *overlay;
    uint64_t version; /* 0: not found */
};

/* A file whose footer cannot be read is not what is looked for: it says so itself when it is opened. */
static int match_overlay(void *ctx, int dir_fd, uint64_t version)
{
    struct by_overlay *search = ctx;
    char name[32];
    struct footer f;
    struct hash h;
    struct err e;
    snprintf(name, sizeof name, "%" PRIu64 ".img", version);
    cleanup(close) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || layer_read_footer(fd, &f, &h, &e) < 0 || !uuid_equal(&f.overlay, search->overlay))
        return 0;
    search->version = version;
    return 1;
}

int store_find_by_overlay(struct store *s, const struct uuid *image, const struct uuid *overlay,
                          uint64_t *ret, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    struct by_overlay search = {.overlay = overlay};
    /* The zero uuid is what all imported versions have. */
    if (!uuid_is_zero(overlay) && each_version(s, image, match_overlay, &search, e) < 0)
        return -1;
    if (search.version == 0)
        return err_set_sys(e, ERR_NOT_FOUND, ENOENT, "no version comes from overlay %s",
                           uuid_to_text(overlay, text));
    cleanup(free) char *dir = store_image_dir(s, image);
    if (fsync_dir(dir, e) < 0)
        return -1;
    *ret = search.version;
    return 0;
}

/* --- folders --- */

static int make_folders(const char *dir, struct err *e)
{
    cleanup(free) char *tmp = path_format("%s/tmp", dir);
    cleanup(free) char *retired = path_format("%s/retired", dir);
    return make_dirs(tmp, 0700, e) < 0 || make_dirs(retired, 0700, e) < 0 ? -1 : fsync_dir(dir, e);
}

#define MAKE_TRIES 10

/* gc may take folders that are still empty for those of no image, and away: then they are made again. */
int store_make_image(struct store *s, const struct uuid *image, struct err *e)
{
    cleanup(free) char *dir = store_image_dir(s, image);
    for (unsigned tries = MAKE_TRIES; make_folders(dir, e) < 0; tries--)
        if (e->sys != ENOENT || tries == 0)
            return -1;
    return fsync_dir(s->images_dir, e);
}

int store_remove_image(struct store *s, const struct uuid *image, struct err *e)
{
    cleanup(free) char *dir = store_image_dir(s, image);
    if (remove_tree(dir, e) < 0)
        return -1;
    return fsync_dir(s->images_dir, e);
}

int store_lock_image(struct store *s, const struct uuid *image, int *ret_fd, struct err *e)
{
    cleanup(free) char *dir = store_image_dir(s, image);
    cleanup(free) char *path = path_format("%s/lock", dir);
    struct stat st;
    /* The folder may have gone, and come again, while this waited: then the lock is another file. */
    for (;;) {
        cleanup(close) int fd = -1;
        if (lock_file(path, true, &fd, e) < 0)
            return e->sys == ENOENT ? err_set(e, ERR_NOT_FOUND, "%s: no such image", dir) : -1;
        if (fstat(fd, &st) < 0)
            return err_sys(e, errno, "%s", path);
        if (st.st_nlink > 0) {
            *ret_fd = steal_fd(&fd);
            return 0;
        }
    }
}

/* --- what killed builds left --- */

static void remove_if_dead(int dir_fd, const char *dir, const char *name)
{
    cleanup(close) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return;
    if (unlinkat(dir_fd, name, 0) == 0)
        log_info("%s/%s: removed, its writer is gone", dir, name);
    else
        log_warning("%s/%s: %s", dir, name, strerror(errno));
}

static int clean_tmp_of(const char *dir, struct err *e)
{
    cleanup(closedir) DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, errno, "%s", dir);
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(d);
        if (!entry)
            return errno ? err_sys(e, errno, "%s", dir) : 0;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_if_dead(dirfd(d), dir, entry->d_name);
    }
}

int store_clean_tmp(struct store *s, struct err *e)
{
    cleanup(closedir) DIR *d = opendir(s->images_dir);
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, errno, "%s", s->images_dir);
    for (;;) {
        struct uuid image;
        struct err ignored;
        errno = 0;
        struct dirent *entry = readdir(d);
        if (!entry)
            return errno ? err_sys(e, errno, "%s", s->images_dir) : 0;
        if (uuid_from_text(entry->d_name, &image, &ignored) < 0)
            continue;
        cleanup(free) char *tmp = path_format("%s/%s/tmp", s->images_dir, entry->d_name);
        if (clean_tmp_of(tmp, e) < 0)
            return -1;
    }
}
