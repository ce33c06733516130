/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "cli/make-version.h"
#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"

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
    {"type", "TYPE", "of a new image: what the disk came as, raw or qcow2; default: raw", false},
    {"comment", "TEXT", "what is new in this version", false},
    {"progress", "json", "print one JSON line a second to stderr", false},
    {NULL, NULL, NULL, false},
};

/* ---- the input ---------------------------------------------------------------------------------------------------- */
#define MAGIC_MAX 6

static const struct {
    const char *magic;
    size_t len;
    const char *name, *way_out;
} refused_formats[] = {
    {"QFI\xfb", 4, "a qcow2 file", "qemu-img convert -O raw FILE RAW-FILE"},
    {"\x28\xb5\x2f\xfd", 4, "compressed by zstd", "zstd -dc FILE | labboot image import NAME -"},
    {"\x1f\x8b", 2, "compressed by gzip", "gzip -dc FILE | labboot image import NAME -"},
    {"\xfd"
     "7zXZ",
     6, "compressed by xz", "xz -dc FILE | labboot image import NAME -"},
};

/* The first bytes without taking them; *ret_len is 0 where that cannot be done. */
static void peek(int fd, uint8_t buf[MAGIC_MAX], size_t *ret_len)
{
    ssize_t n = pread(fd, buf, MAGIC_MAX, 0);
    int copy[2];
    if (n < 0 && errno == ESPIPE && pipe2(copy, O_CLOEXEC) == 0) {
        if (tee(fd, copy[1], MAGIC_MAX, 0) > 0)
            n = read(copy[0], buf, MAGIC_MAX);
        close(copy[0]);
        close(copy[1]);
    }
    *ret_len = n > 0 ? (size_t)n : 0;
}

static int refuse_formats(int fd, const char *name, struct err *e)
{
    uint8_t buf[MAGIC_MAX];
    size_t len;
    peek(fd, buf, &len);
    for (size_t i = 0; i < ARRAY_SIZE(refused_formats); i++)
        if (len >= refused_formats[i].len &&
            memcmp(buf, refused_formats[i].magic, refused_formats[i].len) == 0)
            return err_set(e, ERR_FAILED, "%s: %s, not a raw disk; try: %s", name, refused_formats[i].name,
                           refused_formats[i].way_out);
    return 0;
}

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
    if (refuse_formats(fd, path, e) < 0)
        return -1;
    *ret = steal_fd(&fd);
    return 0;
}

int run_image_import(struct cli *c, struct err *e)
{
    struct make m = {.c = c, .what = "importing", .input_name = c->words[1]};
    cleanup(close) int input = -1;
    if (make_check_options(c, e) < 0 || open_input(c->words[1], &input, e) < 0 || cli_enter(c, e) < 0)
        return -1;
    m.input = input;
    m.kind = c->role == ROLE_USER ? "user" : "system";
    m.must_be_new = cli_option(c, "new");
    return make_plan(&m, e) < 0 ? -1 : make_version(&m, e);
}
