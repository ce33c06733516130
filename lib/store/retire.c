/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/retire.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/hot.h"
#include "lib/store/internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>

/* Calls `each` with the layer files of one folder, in no order, until it returns non-zero, which is returned. A folder
 * that is not there has none. -1: the folder cannot be read. */
static int each_layer_file(const char *dir, int (*each)(void *ctx, int dir_fd, const char *name), void *ctx,
                           struct err *e)
{
    cleanup(closedir) DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, errno, "%s", dir);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (!entry)
            return errno ? err_sys(e, errno, "%s", dir) : 0;
        size_t len = strlen(entry->d_name);
        if (len <= 4 || strcmp(entry->d_name + len - 4, ".img") != 0)
            continue;
        int r = each(ctx, dirfd(d), entry->d_name);
        if (r != 0)
            return r;
    }
}

static int open_layer_file(int dir_fd, const char *name)
{
    return openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* Every reader holds a shared flock. What cannot be told is in use. */
static bool is_open(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) < 0;
}

/* ---- who names a layer ------------------------------------------------------------------------------------------ */

static bool table_names(const uint8_t *table, uint64_t length, const struct uuid *layer)
{
    for (uint64_t at = 0; at < length; at += TABLE_ENTRY_SIZE) {
        struct table_entry t;
        table_entry_decode(table + at, &t);
        if (uuid_equal(&t.layer, layer))
            return true;
    }
    return false;
}

struct search {
    const struct uuid *layer;
    const char *own; /* the file that is to go */
};

/* 1: it names the layer. What cannot be read may name it. */
static int names_layer(void *ctx, int dir_fd, const char *name)
{
    const struct search *search = ctx;
    struct footer f;
    struct hash h;
    struct err e;
    if (strcmp(name, search->own) == 0)
        return 0;
    cleanup(close) int fd = open_layer_file(dir_fd, name);
    if (fd < 0 || layer_read_footer(fd, &f, &h, &e) < 0)
        return 1;
    cleanup(free) uint8_t *table = malloc(f.table_length + 1);
    if (!table || full_pread(fd, table, f.table_length, f.table_offset, &e) < 0)
        return 1;
    hash_of(table, f.table_length, &h);
    return !hash_equal(&h, &f.table_hash) || table_names(table, f.table_length, search->layer);
}

/* Retired layers count too: who reads one may still need those that it names. */
static int is_named(const char *dir, const char *retired, const char *own, const struct uuid *layer,
                    bool *ret, struct err *e)
{
    struct search search = {.layer = layer, .own = own};
    int r = each_layer_file(dir, names_layer, &search, e);
    if (r == 0)
        r = each_layer_file(retired, names_layer, &search, e);
    if (r < 0)
        return -1;
    *ret = r > 0;
    return 0;
}

/* ---- one layer ---------------------------------------------------------------------------------------------------- */

/* A file of that name is the same layer, which a flattening that was cut off has left there; if it is even the same file,
 * rename does nothing, and says that it did. */
int store_move_to_retired(const char *path, const char *dir, const struct uuid *layer, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *retired = path_format("%s/retired", dir);
    cleanup(free) char *to = path_format("%s/%s.img", retired, uuid_to_text(layer, text));
    if (make_dirs(retired, 0700, e) < 0)
        return -1;
    if (rename(path, to) < 0)
        return err_sys(e, errno, "%s", to);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(e, errno, "%s", path);
    if (fsync_dir(retired, e) < 0)
        return -1;
    return fsync_dir(dir, e);
}

static struct uuid layer_of(int fd, const struct uuid *known)
{
    struct footer f;
    struct hash h;
    struct err unreadable;
    return layer_read_footer(fd, &f, &h, &unreadable) < 0 ? *known : f.layer;
}

int store_retire_layer(struct store *s, const struct uuid *image, uint64_t version, const struct uuid *layer,
                       struct err *e)
{
    cleanup(free) char *dir = store_image_dir(s, image);
    cleanup(free) char *retired = path_format("%s/retired", dir);
    cleanup(free) char *name = path_format("%" PRIu64 ".img", version);
    cleanup(free) char *path = path_format("%s/%s", dir, name);
    cleanup(close) int fd = open_layer_file(AT_FDCWD, path);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "%s", path);
    hot_remove(dir, version);
    const struct uuid own = layer_of(fd, layer);
    bool wanted = is_open(fd);
    if (!wanted && is_named(dir, retired, name, &own, &wanted, e) < 0)
        return -1;
    if (wanted)
        return store_move_to_retired(path, dir, &own, e);
    if (unlink(path) < 0)
        return err_sys(e, errno, "%s", path);
    return fsync_dir(dir, e);
}

int store_drop_retired(struct store *s, const struct uuid *image, const struct uuid *layer, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    cleanup(free) char *dir = store_image_dir(s, image);
    cleanup(free) char *retired = path_format("%s/retired", dir);
    cleanup(free) char *name = path_format("%s.img", uuid_to_text(layer, text));
    cleanup(free) char *path = path_format("%s/%s", retired, name);
    cleanup(close) int fd = open_layer_file(AT_FDCWD, path);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "%s", path);
    bool wanted = is_open(fd);
    if (!wanted && is_named(dir, retired, name, layer, &wanted, e) < 0)
        return -1;
    if (!wanted && unlink(path) < 0)
        return err_sys(e, errno, "%s", path);
    return wanted ? 0 : fsync_dir(retired, e);
}

/* ---- what is there ------------------------------------------------------------------------------------------------ */

bool store_parse_layer_name(const char *name, struct uuid *ret)
{
    struct err ignored;
    char text[UUID_TEXT_SIZE] = "";
    if (strlen(name) != sizeof text - 1 + 4 || strcmp(name + sizeof text - 1, ".img") != 0)
        return false;
    memcpy(text, name, sizeof text - 1);
    return uuid_from_text(text, ret, &ignored) == 0;
}

struct retired_walk {
    struct store *store;
    int (*each)(void *ctx, const struct uuid *image, const struct uuid *layer, struct err *e);
    void *ctx;
    struct uuid image;
};

static int visit_retired(void *ctx, const char *name, struct err *e)
{
    const struct retired_walk *w = ctx;
    struct uuid layer;
    return store_parse_layer_name(name, &layer) ? w->each(w->ctx, &w->image, &layer, e) : 0;
}

static int visit_image(void *ctx, const char *name, struct err *e)
{
    struct retired_walk *w = ctx;
    struct err ignored;
    if (uuid_from_text(name, &w->image, &ignored) < 0)
        return 0;
    cleanup(free) char *retired = path_format("%s/%s/retired", w->store->images_dir, name);
    return each_entry(retired, visit_retired, w, e);
}

int store_each_retired(struct store *s,
                       int (*each)(void *ctx, const struct uuid *image, const struct uuid *layer,
                                   struct err *e),
                       void *ctx, struct err *e)
{
    struct retired_walk w = {.store = s, .each = each, .ctx = ctx};
    return each_entry(s->images_dir, visit_image, &w, e);
}

/* ---- a whole image ------------------------------------------------------------------------------------------------ */

static int stop_at_open(void *ctx, int dir_fd, const char *name)
{
    (void)ctx;
    cleanup(close) int fd = open_layer_file(dir_fd, name);
    return fd >= 0 && is_open(fd);
}

int store_retire_image(struct store *s, const struct uuid *image, bool *ret_in_use, struct err *e)
{
    cleanup(free) char *dir = store_image_dir(s, image);
    cleanup(free) char *retired = path_format("%s/retired", dir);
    int r = each_layer_file(dir, stop_at_open, NULL, e);
    if (r == 0)
        r = each_layer_file(retired, stop_at_open, NULL, e);
    if (r == 0)
        r = store_remove_image(s, image, e);
    if (r < 0)
        return -1;
    *ret_in_use = r > 0;
    return 0;
}
