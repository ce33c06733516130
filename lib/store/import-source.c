/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/import-source.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/parse.h"
#include "lib/store/format.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define MAGIC_MAX 6
#define SAID_MAX (64 * KIB)
#define CPU_SECONDS (7 * 86400) /* of a child: nobody waits longer */

static const struct kind {
    const char *magic;
    size_t len;
    struct spawn_tool tool;
    const char *arguments[5];
} kinds[] = {
    [IMPORT_RAW] = {.magic = NULL},
    [IMPORT_QCOW2] = {"QFI\xfb", 4, {.name = "qemu-img", .package = "qemu-utils"}, {NULL}},
    /* Windows of up to 1 GiB, as large ones have that were compressed with --long. */
    [IMPORT_ZSTD] = {"\x28\xb5\x2f\xfd", 4, {.name = "zstd", .package = "zstd"}, {"-dcq", "--long=30", NULL}},
    [IMPORT_GZIP] = {"\x1f\x8b", 2, {.name = "gzip", .package = "gzip"}, {"-dcq", NULL}},
    [IMPORT_XZ] = {"\xfd"
                   "7zXZ",
                   6,
                   {.name = "xz", .package = "xz-utils"},
                   {"-dcq", "--memlimit-decompress=1GiB", NULL}},
};

/* ---- what it is ---------------------------------------------------------------------------------------------------- */

/* The first bytes without taking them; 0 where that cannot be done. */
static size_t peek(int fd, uint8_t buf[MAGIC_MAX])
{
    ssize_t n = pread(fd, buf, MAGIC_MAX, 0);
    int copy[2];
    if (n < 0 && errno == ESPIPE && pipe2(copy, O_CLOEXEC) == 0) {
        if (tee(fd, copy[1], MAGIC_MAX, 0) > 0)
            n = read(copy[0], buf, MAGIC_MAX);
        close(copy[0]);
        close(copy[1]);
    }
    return n > 0 ? (size_t)n : 0;
}

static enum import_kind kind_of(int fd)
{
    uint8_t buf[MAGIC_MAX];
    size_t len = peek(fd, buf);
    for (size_t i = 1; i < ARRAY_SIZE(kinds); i++)
        if (len >= kinds[i].len && memcmp(buf, kinds[i].magic, kinds[i].len) == 0)
            return (enum import_kind)i;
    return IMPORT_RAW;
}

void import_source_open(struct import_source *s, const char *name, int fd, bool as_raw)
{
    *s = (struct import_source){
        .name = name, .kind = as_raw ? IMPORT_RAW : kind_of(fd), .fd = fd, .child.said = -1};
}

static void read_from(struct import_source *s, int fd)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = fd;
}

void import_source_close(struct import_source *s)
{
    spawn_tool_kill(&s->child);
    read_from(s, -1);
}

/* ---- compressed ---------------------------------------------------------------------------------------------------- */

/* What is in it: only a raw disk is read so. */
static int check_contents(const struct import_source *s, struct err *e)
{
    enum import_kind inner = kind_of(s->fd);
    if (inner == IMPORT_RAW)
        return 0;
    return err_set(e, ERR_FAILED,
                   "%s: compressed by %s, but what is in it is no raw disk; try: decompress it first",
                   s->name, kinds[s->kind].tool.name);
}

static int begin_decompression(struct import_source *s, struct err *e)
{
    const struct kind *k = &kinds[s->kind];
    const struct spawn_limits limits = {.seconds = CPU_SECONDS, .file_bytes = SAID_MAX};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, errno, "pipe");
    (void)fcntl(ends[1], F_SETPIPE_SZ, MIB); /* only faster */
    int r = spawn_tool_start(&k->tool, k->arguments, s->fd, ends[1], &limits, &s->child, e);
    close(ends[1]);
    read_from(s, ends[0]);
    return r < 0 ? -1 : check_contents(s, e);
}

int import_source_end(struct import_source *s, struct err *e)
{
    if (s->child.pid == 0)
        return 0;
    read_from(s, -1);
    return spawn_tool_end(&s->child, NULL, NULL, e) < 0 ? err_wrap(e, "%s", s->name) : 0;
}

#define ASKS 10 /* tenths of a second */

static int ask_again(void *ctx, struct err *e)
{
    unsigned *asked = ctx;
    return ++*asked < ASKS ? 0 : err_set(e, ERR_CORRUPT, "it still runs");
}

void import_source_explain(struct import_source *s, struct err *e)
{
    unsigned asked = 0;
    struct err why;
    if (s->child.pid == 0)
        return;
    read_from(s, -1);
    /* One that dies for want of a reader tells nothing. */
    if (spawn_tool_end(&s->child, ask_again, &asked, &why) < 0 && why.code == ERR_FAILED) {
        *e = why;
        (void)!err_wrap(e, "%s", s->name);
    }
}

/* ---- qcow2 --------------------------------------------------------------------------------------------------------- */

/* The file system of the images must keep its reserve, and somebody may have had enough. */
struct watch {
    const struct import_source_options *o;
    int fd; /* of the file that grows */
};

static int go_on(void *ctx, struct err *e)
{
    const struct watch *w = ctx;
    const struct progress *p = &w->o->progress;
    struct statvfs vfs;
    struct stat st;
    char reserve[SIZE_TEXT_SIZE];
    if (fstatvfs(w->fd, &vfs) < 0 || fstat(w->fd, &st) < 0)
        return err_sys(e, errno, "%s", w->o->tmp_dir);
    if ((uint64_t)vfs.f_bavail * vfs.f_frsize < w->o->reserve)
        return err_set_sys(e, ERR_FAILED, ENOSPC, "%s: no space: %s must stay free on the file system",
                           w->o->tmp_dir, format_size(w->o->reserve, reserve));
    if (p->report && !p->report(p->ctx, (uint64_t)st.st_blocks * 512, 0))
        return err_set(e, ERR_FAILED, "interrupted");
    return 0;
}

/* Without a name: nothing of it is left, however this ends. */
static int open_temporary(const struct import_source_options *o, int *ret, struct err *e)
{
    *ret = open(o->tmp_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return *ret < 0 ? err_sys(e, errno, "%s", o->tmp_dir) : 0;
}

static int wait_for_input(int fd, const struct watch *w, struct err *e)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, 200) <= 0)
        if (go_on((void *)(uintptr_t)w, e) < 0)
            return -1;
    return 0;
}

static int copy_all(int from, const struct watch *w, struct err *e)
{
    cleanup(free) uint8_t *buf = malloc(MIB);
    if (!buf)
        return err_sys(e, ENOMEM, "copy");
    (void)lseek(from, 0, SEEK_SET); /* a pipe has no other place */
    for (;;) {
        if (wait_for_input(from, w, e) < 0)
            return -1;
        ssize_t n = read(from, buf, MIB);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return err_sys(e, errno, "read");
        if (n == 0)
            return 0;
        if (full_write(w->fd, buf, (size_t)n, e) < 0 || go_on((void *)(uintptr_t)w, e) < 0)
            return -1;
    }
}

static int copy(struct import_source *s, const struct import_source_options *o, struct err *e)
{
    cleanup(close) int fd = -1;
    if (open_temporary(o, &fd, e) < 0)
        return -1;
    const struct watch w = {.o = o, .fd = fd};
    if (copy_all(s->fd, &w, e) < 0)
        return err_wrap(e, "%s", s->name);
    read_from(s, steal_fd(&fd));
    return 0;
}

/* Whether a child could open it once more. */
static bool can_be_opened(int fd)
{
    struct stat st;
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) &&
           faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0;
}

/* The header (docs/interop/qcow2.txt of QEMU), big-endian: 4: version, 8: offset of the backing file's name, 24: size of the
 * disk, 32: encryption, 72: incompatible features, of which bit 2 is a data file. */
#define HEADER_MIN 72u
#define HEADER_FEATURES 80u
#define FEATURE_DATA_FILE 4u

static uint64_t get_be(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

static int check_header(const struct import_source *s, const struct import_source_options *o,
                        uint64_t *ret_size, struct err *e)
{
    uint8_t h[HEADER_FEATURES] = {0};
    ssize_t n = pread(s->fd, h, sizeof h, 0);
    uint64_t version = get_be(h + 4, 4), size = get_be(h + 24, 8);
    if (n < (ssize_t)(version == 2 ? HEADER_MIN : HEADER_FEATURES) || (version != 2 && version != 3))
        return err_set(e, ERR_FAILED, "%s: a damaged or unknown qcow2 file", s->name);
    if (get_be(h + 32, 4) != 0)
        return err_set(e, ERR_FAILED, "%s: an encrypted qcow2 file", s->name);
    if (version == 3 && (get_be(h + 72, 8) & FEATURE_DATA_FILE))
        return err_set(e, ERR_FAILED, "%s: a qcow2 file whose data is in another file", s->name);
    if (get_be(h + 8, 8) != 0 && !o->follow)
        return err_set(e, ERR_FAILED,
                       "%s: a qcow2 file with a backing file; try: --follow-backing, or qemu-img convert",
                       s->name);
    if (size == 0 || size > VIRTUAL_SIZE_MAX)
        return err_set(e, ERR_FAILED, "%s: a disk of %" PRIu64 " bytes; at most %" PRIu64 " TiB are possible",
                       s->name, size, VIRTUAL_SIZE_MAX / TIB);
    *ret_size = round_up(size, 512);
    return 0;
}

/* A backing file is not opened, whatever the header says by then; one that may be is looked for beside the path. */
#define ALONE                                                                                                \
    "json:{\"driver\": \"qcow2\", \"backing\": null, \"file\": {\"driver\": \"file\", \"filename\": "        \
    "\"/dev/fd/0\"}}"
#define TARGET "driver=raw,file.driver=file,file.filename=/dev/fd/1"
#define CONVERT "convert", "-n", "--target-is-zero", "--target-image-opts"

/* Runs qemu-img, from descriptor 0 to descriptor 1. */
static int run_qemu_img(const struct import_source *s, const struct spawn_tool *tool,
                        const char *const *arguments, uint64_t size, const struct watch *w, struct err *e)
{
    const struct spawn_limits limits = {.seconds = CPU_SECONDS, .file_bytes = size};
    struct spawned child;
    if (spawn_tool_start(tool, arguments, s->fd, w->fd, &limits, &child, e) < 0)
        return -1;
    return spawn_tool_end(&child, go_on, (void *)(uintptr_t)w, e) < 0 ? err_wrap(e, "%s", s->name) : 0;
}

/* What lies past the end of the file would be read as zero. Status 3: there are clusters that nothing refers to, no harm. */
static int check(const struct import_source *s, const struct watch *w, struct err *e)
{
    static const struct spawn_tool tool = {.name = "qemu-img", .package = "qemu-utils", .also = 3};
    static const char *const arguments[] = {"check", "-q", ALONE, NULL};
    return run_qemu_img(s, &tool, arguments, SAID_MAX, w, e);
}

static int convert(const struct import_source *s, uint64_t size, const struct watch *w, struct err *e)
{
    cleanup(free) char *path = w->o->follow ? path_format("file:%s", w->o->follow) : NULL;
    const char *const with_backing[] = {CONVERT, "-f", "qcow2", path, TARGET, NULL};
    static const char *const without[] = {CONVERT, ALONE, TARGET, NULL};
    return run_qemu_img(s, &kinds[IMPORT_QCOW2].tool, path ? with_backing : without, size, w, e);
}

static int begin_qcow2(struct import_source *s, const struct import_source_options *o, struct err *e)
{
    uint64_t size = 0;
    cleanup(close) int raw = -1;
    if ((o->copy || !can_be_opened(s->fd)) && copy(s, o, e) < 0)
        return -1;
    if (check_header(s, o, &size, e) < 0 || open_temporary(o, &raw, e) < 0)
        return -1;
    if (ftruncate(raw, (off_t)size) < 0)
        return err_sys(e, errno, "%s: %" PRIu64 " bytes", o->tmp_dir, size);
    const struct watch w = {.o = o, .fd = raw};
    if (check(s, &w, e) < 0 || convert(s, size, &w, e) < 0)
        return -1;
    read_from(s, steal_fd(&raw));
    return 0;
}

int import_source_begin(struct import_source *s, const struct import_source_options *o, struct err *e)
{
    switch (s->kind) {
    case IMPORT_RAW:
        return 0;
    case IMPORT_QCOW2:
        return begin_qcow2(s, o, e);
    default:
        return begin_decompression(s, e);
    }
}
