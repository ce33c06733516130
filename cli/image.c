/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "lib/base/fsutil.h"
#include "lib/store/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static const struct option image_export_options[] = {
    {"force", NULL, "replace an existing file", false},
    {"progress", "json", "print one JSON line a second to stderr", false},
    {NULL, NULL, NULL, false},
};

static int find_image(struct cli *c, char ret[UUID_TEXT_SIZE], struct err *e)
{
    struct image image;
    if (image_find(c->catalog, c->words[0], c->user, &image, e) < 0)
        return -1;
    uuid_to_text(&image.uuid, ret);
    return 0;
}

static int run_image_list(struct cli *c, struct err *e)
{
    return print_query(c, QUERY_IMAGES, NULL, e);
}

static int run_image_show(struct cli *c, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    return find_image(c, uuid, e) < 0 ? -1 : print_query(c, QUERY_IMAGE, uuid, e);
}

static int run_image_versions(struct cli *c, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    return find_image(c, uuid, e) < 0 ? -1 : print_query(c, QUERY_VERSIONS, uuid, e);
}

/* ---- export ------------------------------------------------------------------------------------------------------ */

/* Where an export goes: a stream or a device, which is written as it is, or a file, which appears whole or not at all. */
struct target {
    const char *path;
    int fd;
    char *temporary; /* of a file: beside it; NULL otherwise */
    bool device;
};

static int open_temporary(struct target *t, struct err *e)
{
    t->temporary = path_format("%s.XXXXXX", t->path);
    t->fd = mkostemp(t->temporary, O_CLOEXEC);
    if (t->fd >= 0)
        return 0;
    int r = err_sys(e, errno, "%s", t->path);
    free(steal(&t->temporary));
    return r;
}

/* With the caller's own rights: the catalog is not open yet. */
static int open_target(struct cli *c, const char *path, struct target *t, struct err *e)
{
    struct stat st;
    *t = (struct target){.path = path, .fd = -1};
    if (strcmp(path, "-") == 0) {
        if (c->json)
            return err_set(e, ERR_USAGE, "--json and a disk cannot both go to standard output");
        if (isatty(STDOUT_FILENO))
            return err_set(e, ERR_USAGE, "a disk does not go to a terminal; try: >FILE");
        t->fd = STDOUT_FILENO;
        return 0;
    }
    if (stat(path, &st) < 0 && errno != ENOENT)
        return err_sys(e, errno, "%s", path);
    if (errno == ENOENT && !path_exists(path))
        return open_temporary(t, e);
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        t->device = S_ISBLK(st.st_mode);
        t->fd = open(path, O_WRONLY | O_CLOEXEC | (t->device ? O_EXCL : 0));
        return t->fd < 0 ? err_sys(e, errno, "%s", path) : 0;
    }
    if (!cli_option(c, "force"))
        return err_set(e, ERR_STATE, "%s exists already; try: --force", path);
    return open_temporary(t, e);
}

static int finish_file(struct target *t, struct err *e)
{
    mode_t mask = umask(0);
    umask(mask);
    if (fchmod(t->fd, 0666 & ~mask) < 0 || fsync(t->fd) < 0 || rename(t->temporary, t->path) < 0)
        return err_sys(e, errno, "%s", t->path);
    free(steal(&t->temporary));
    return 0;
}

static int finish_target(struct target *t, struct err *e)
{
    if (t->temporary)
        return finish_file(t, e);
    if (t->device && fsync(t->fd) < 0)
        return err_sys(e, errno, "%s", t->path);
    return 0;
}

static void close_target(struct target *t)
{
    if (t->temporary)
        unlink(t->temporary);
    free(t->temporary);
    if (t->fd > STDERR_FILENO)
        close(t->fd);
}

static int check_device(const struct target *t, uint64_t size, struct err *e)
{
    uint64_t room;
    if (!t->device)
        return 0;
    if (ioctl(t->fd, BLKGETSIZE64, &room) < 0)
        return err_sys(e, errno, "%s: size", t->path);
    return room < size ? err_set(e, ERR_FAILED, "%s: smaller than the disk", t->path) : 0;
}

static int export_version(struct cli *c, const struct uuid *image, uint64_t version, const struct target *t,
                          struct err *e)
{
    struct store *store;
    struct view *view = NULL;
    if (store_open(c->conf.server.images_dir, 0, &store, e) < 0)
        return -1;
    int r = view_open(store, image, version, &view, e);
    if (r == 0)
        r = check_device(t, view_footer(view)->virtual_size, e);
    if (r == 0) {
        struct progress progress = progress_begin(c, "exporting");
        r = export_raw(view, t->fd, &progress, e);
        progress_end();
    }
    view_close(view);
    store_close(store);
    return r;
}

static int run_image_export(struct cli *c, struct err *e)
{
    struct target t;
    struct image image;
    uint64_t version;
    char uuid[UUID_TEXT_SIZE];
    if (progress_option(c, e) < 0 || open_target(c, c->words[1], &t, e) < 0)
        return -1;
    int r = cli_enter_for_now(c, e);
    if (r == 0)
        r = image_version_find(c->catalog, c->words[0], c->user, &image, &version, e);
    if (r == 0 && (r = export_version(c, &image.uuid, version, &t, e)) < 0)
        err_wrap(e, "image %s, version %" PRIu64, image.name, version);
    struct err regaining;
    if (rights_regain(&regaining) < 0 && r == 0) {
        *e = regaining;
        r = -1;
    }
    if (r == 0)
        r = finish_target(&t, e);
    close_target(&t);
    if (r == 0 && c->json)
        r = print_query(c, QUERY_IMAGE, uuid_to_text(&image.uuid, uuid), e);
    return r;
}

const struct command image_commands[] = {
    {"image", "import", run_image_import, "NAME FILE|-", 2, 2, NEEDS_CONF, RIGHT_LOOK,
     "make the first or the next version of an image", image_import_options},
    {"image", "export", run_image_export, "IMAGE[@VERSION] FILE|-", 2, 2, NEEDS_CONF, RIGHT_LOOK,
     "write a version as a raw disk", image_export_options},
    {"image", "list", run_image_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list all images", NULL},
    {"image", "show", run_image_show, "IMAGE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show an image", NULL},
    {"image", "versions", run_image_versions, "IMAGE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK,
     "list the versions of an image", NULL},
    COMMANDS_END,
};
