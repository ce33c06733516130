/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "cli/make-version.h"
#include "lib/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

const struct option image_import_options[] = {
    {"owner", "USER", "default: who calls, or the only admin", false},
    {"new", NULL, "fail when the image exists", false},
    {"kind", "KIND", "of a new image: boot, system, user or temporal; default: system, of a plain user: user",
     false},
    {"compression", "HOW", "of a new image: none, zstd or gzip; default: zstd", false},
    {"filesystem", "TYPE", "of a new image: ext4, fat32 or raw; default: what is found on it", false},
    {"type", "TYPE", "what FILE is, whatever it begins with: raw or qcow2", false},
    {"follow-backing", NULL, "read a qcow2 file with its backing files", false},
    {"comment", "TEXT", "what is new in this version", false},
    {"progress", "json", "print one JSON line a second to stderr", false},
    {NULL, NULL, NULL, false},
};

/* With the caller's own rights. */
static int open_input(const char *path, int *ret, struct err *e)
{
    struct stat st;
    cleanup(close) int fd =
        strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "%s", path);
    if (S_ISDIR(st.st_mode))
        return err_sys(e, EISDIR, "%s", path);
    if (isatty(fd))
        return err_set(e, ERR_USAGE, "a disk does not come from a terminal; try: <FILE");
    *ret = steal_fd(&fd);
    return 0;
}

static int open_source(struct make *m, struct err *e)
{
    const char *path = m->c->words[1], *type = cli_option(m->c, "type");
    int fd = -1;
    if (open_input(path, &fd, e) < 0)
        return -1;
    import_source_open(&m->source, path, fd, type && strcmp(type, "raw") == 0);
    if (type && strcmp(type, "qcow2") == 0 && m->source.kind != IMPORT_QCOW2)
        return err_set(e, ERR_FAILED, "%s: no qcow2 file", path);
    return 0;
}

/* Backing files are opened by their names, which a labboot that sudo runs may not do for its caller: that one has only the
 * open file. */
static int check_follow(struct make *m, struct err *e)
{
    bool stream = strcmp(m->c->words[1], "-") == 0;
    m->copy_source = stream;
    if (!cli_option(m->c, "follow-backing") || m->source.kind != IMPORT_QCOW2)
        return 0;
    if (stream)
        return err_set(
            e, ERR_USAGE,
            "--follow-backing needs the name of a file, from one who may read the images; try: qemu-img "
            "convert -O qcow2 FILE WHOLE-FILE");
    m->follow = m->c->words[1];
    return 0;
}

static int import(struct make *m, struct err *e)
{
    struct cli *c = m->c;
    if (open_source(m, e) < 0 || check_follow(m, e) < 0 || cli_enter(c, e) < 0)
        return -1;
    m->kind = c->role == ROLE_USER ? "user" : "system";
    m->must_be_new = cli_option(c, "new");
    return make_plan(m, e) < 0 ? -1 : make_version(m, e);
}

int run_image_import(struct cli *c, struct err *e)
{
    struct make m = {.c = c, .what = "importing"};
    import_source_open(&m.source, c->words[1], -1, true);
    int r = make_check_options(c, e) < 0 ? -1 : import(&m, e);
    import_source_close(&m.source);
    return r;
}
