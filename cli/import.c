/* SPDX-License-Identifier: BSD-3-Clause */
/* image import: the layer is written and renamed first, the catalog's row comes last; whatever fails before that row
 * takes back what was made. */
#include "cli/cli.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/store/import.h"
#include "tftp-glue/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

const struct option image_import_options[] = {
    {"owner", "USER", "default: who calls, or the only admin", false},
    {"new", NULL, "fail when the image exists", false},
    {"kind", "KIND", "of a new image: system, user or temporal; default: system, of a plain user: user",
     false},
    {"compression", "HOW", "of a new image: none or zstd; default: zstd", false},
    {"filesystem", "TYPE", "of a new image: ext4, fat32 or raw; default: what is found on it", false},
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

/* ---- the image ----------------------------------------------------------------------------------------------------- */
struct import {
    struct cli *c;
    const char *input_name;
    int input;
    struct image image;
    bool is_new;
    bool detect; /* the file system is still to be looked for */
    struct store *store;
    struct progress progress;
    struct view *parent_view; /* open until the version is published: the layer stays that it will name */
    struct build *build;
    struct build_result result;
    uint64_t parent, version; /* version 0: its file is not there */
    int lock;
    char release[KERNEL_RELEASE_SIZE];
    bool has_kernel;
};

/* Splits NAME or OWNER/NAME of an image that is to be made. */
static int split_name(struct import *m, struct err *e)
{
    struct cli *c = m->c;
    const char *text = c->words[0], *slash = strchr(text, '/'), *name = slash ? slash + 1 : text;
    const char *given = cli_option(c, "owner");
    cleanup(free) char *prefix = slash ? path_format("%.*s", (int)(slash - text), text) : NULL;
    if (prefix && given && strcmp(prefix, given) != 0)
        return err_set(e, ERR_USAGE, "--owner and the owner before the '/' differ");
    if (parse_name("image", name, e) < 0)
        return -1;
    if (strcmp(name, "done") == 0 || strcmp(name, "machine") == 0)
        return err_set(e, ERR_USAGE,
                       "'%s' cannot be an image's name: exports of that name mean something else", name);
    if (cli_owner(c, prefix ? prefix : given, m->image.owner, e) < 0)
        return -1;
    snprintf(m->image.name, sizeof m->image.name, "%s", name);
    return 0;
}

static int new_image(struct import *m, struct err *e)
{
    struct cli *c = m->c;
    const char *kind = cli_option(c, "kind"), *compression = cli_option(c, "compression"),
               *filesystem = cli_option(c, "filesystem");
    if (split_name(m, e) < 0)
        return -1;
    m->is_new = true;
    m->detect = !filesystem;
    uuid_make(&m->image.uuid);
    snprintf(m->image.type, sizeof m->image.type, "%s",
             kind                   ? kind
             : c->role == ROLE_USER ? "user"
                                    : "system");
    snprintf(m->image.compression, sizeof m->image.compression, "%s", compression ? compression : "zstd");
    snprintf(m->image.filesystem, sizeof m->image.filesystem, "%s", filesystem ? filesystem : "raw");
    snprintf(m->image.file_type, sizeof m->image.file_type, "raw");
    return rules_check_image(c, RIGHT_IMAGE_MAKE, &m->image, e);
}

static int check_same(const char *option, const char *given, const char *is, struct err *e)
{
    if (given && strcmp(given, is) != 0)
        return err_set(e, ERR_STATE, "--%s %s: the image exists already, with %s", option, given, is);
    return 0;
}

/* What the first word means. --new means the image of one owner, existing ones may be anybody's. */
static int find_image(struct import *m, struct err *e)
{
    struct cli *c = m->c;
    const char *text = c->words[0];
    bool new = cli_option(c, "new"), owner = cli_option(c, "owner");
    cleanup(free) char *full = NULL;
    struct uuid uuid;
    struct err ignored;
    if (uuid_from_text(text, &uuid, &ignored) < 0 && (new || owner)) {
        if (split_name(m, e) < 0)
            return -1;
        text = full = path_format("%s/%s", m->image.owner, m->image.name);
    }
    return image_find(c->catalog, text, c->user, &m->image, e);
}

static int find_or_plan(struct import *m, struct err *e)
{
    struct cli *c = m->c;
    struct uuid uuid;
    struct err ignored;
    if (find_image(m, e) < 0) {
        bool make = e->code == ERR_NOT_FOUND && uuid_from_text(c->words[0], &uuid, &ignored) < 0;
        return make ? new_image(m, e) : -1;
    }
    if (cli_option(c, "new"))
        return err_set(e, ERR_STATE, "image %s/%s exists already", m->image.owner, m->image.name);
    if (rules_check_image(c, RIGHT_IMAGE_CHANGE, &m->image, e) < 0)
        return -1;
    if (check_same("kind", cli_option(c, "kind"), m->image.type, e) < 0 ||
        check_same("compression", cli_option(c, "compression"), m->image.compression, e) < 0)
        return -1;
    return check_same("filesystem", cli_option(c, "filesystem"), m->image.filesystem, e);
}

static int check_options(struct cli *c, struct err *e)
{
    static const char *const kinds[] = {"system", "user", "temporal", NULL};
    static const char *const compressions[] = {"none", "zstd", NULL};
    static const char *const filesystems[] = {"ext4", "fat32", "raw", NULL};
    const char *kind = cli_option(c, "kind"), *compression = cli_option(c, "compression"),
               *filesystem = cli_option(c, "filesystem");
    if ((kind && cli_check_word("--kind", kind, kinds, e) < 0) ||
        (compression && cli_check_word("--compression", compression, compressions, e) < 0))
        return -1;
    if (filesystem && cli_check_word("--filesystem", filesystem, filesystems, e) < 0)
        return -1;
    return progress_option(c, e);
}

/* ---- the version --------------------------------------------------------------------------------------------------- */

/* A head that cannot be read is no reason against a new version: that is then made from nothing. */
static int open_parent(struct import *m, struct err *e)
{
    if (!m->image.head)
        return 0;
    if (view_open(m->store, &m->image.uuid, m->image.head, &m->parent_view, e) == 0) {
        m->parent = m->image.head;
        return 0;
    }
    if (e->code != ERR_CORRUPT && e->code != ERR_NOT_FOUND)
        return -1;
    cli_warn(m->c, "version %" PRIu64 " is not used as parent: %s", m->image.head, e->msg);
    return 0;
}

static unsigned shift_of(uint64_t chunk_size)
{
    return (unsigned)__builtin_ctzll(chunk_size);
}

static int build(struct import *m, struct err *e)
{
    const struct conf *conf = &m->c->conf;
    if (open_parent(m, e) < 0)
        return -1;
    struct view *parent = m->parent_view;
    struct build_options o = {
        .progress = m->progress,
        .image = m->image.uuid,
        .parent = parent,
        .chunk_shift = parent ? view_footer(parent)->chunk_shift : shift_of(conf->store.chunk_size),
        .codec = strcmp(m->image.compression, "none") == 0 ? CODEC_RAW : CODEC_ZSTD,
        .level = (int)conf->store.zstd_level,
        .reserve = conf->store.reserve,
    };
    int r = import_raw(m->store, m->input, m->input_name, &o, &m->build, &m->result, e);
    if (r == 0 && m->result.virtual_size == 0)
        r = err_set(e, ERR_FAILED, "%s: empty", m->input_name);
    return r;
}

#define EXT4_MAGIC_AT 1080
#define FAT32_MAGIC_AT 82
#define BOOT_SIGNATURE_AT 510

/* Of a new image, for the catalog: nothing is decided by it that could do harm. */
static int detect_filesystem(struct import *m, struct err *e)
{
    uint8_t head[2048] = {0};
    struct view *v;
    if (view_open(m->store, &m->image.uuid, m->version, &v, e) < 0)
        return -1;
    int r = view_pread(v, 0, head, (size_t)min_u64(sizeof head, view_footer(v)->virtual_size), 0, e);
    view_close(v);
    if (head[EXT4_MAGIC_AT] == 0x53 && head[EXT4_MAGIC_AT + 1] == 0xef)
        memcpy(m->image.filesystem, "ext4", 5);
    else if (memcmp(head + FAT32_MAGIC_AT, "FAT32   ", 8) == 0 &&
             get_le16(head + BOOT_SIGNATURE_AT) == 0xaa55)
        memcpy(m->image.filesystem, "fat32", 6);
    return r;
}

static int publish_file(struct import *m, struct err *e)
{
    uint64_t highest, version;
    const struct uuid *image = &m->image.uuid;
    if (store_lock_image(m->store, image, &m->lock, e) < 0 ||
        store_highest_version(m->store, image, &highest, e) < 0 ||
        version_choose(m->c->catalog, image, highest + 1, &version, e) < 0 ||
        build_publish(m->build, version, e) < 0)
        return -1;
    m->version = version;
    return 0;
}

/* A disk without a kernel is a version like any other; only booting from it will say so. */
static int extract_kernel(struct import *m, struct err *e)
{
    m->has_kernel = kernel_extract(&m->c->conf, &m->image.uuid, m->version, m->release, e) == 0;
    if (m->has_kernel)
        return 0;
    if (e->code != ERR_NOT_FOUND)
        return err_wrap(e, "its kernel");
    log_info("%s", e->msg);
    return 0;
}

static int publish_row(struct import *m, struct err *e)
{
    struct version_new v = {
        .image = m->image.uuid,
        .version = m->version,
        .parent = m->parent,
        .layer = m->result.layer,
        .virtual_size = m->result.virtual_size,
        .stored_size = m->result.file_length,
        .kernel = m->has_kernel ? m->release : NULL,
        .comment = cli_option(m->c, "comment"),
    };
    memcpy(v.checksum, m->result.checksum, sizeof v.checksum);
    return version_publish(m->c->catalog, m->c->actor, m->is_new ? &m->image : NULL, &v, e);
}

static int import(struct import *m, struct err *e)
{
    if (store_make_image(m->store, &m->image.uuid, e) < 0 || build(m, e) < 0 || publish_file(m, e) < 0 ||
        (m->detect && detect_filesystem(m, e) < 0) || extract_kernel(m, e) < 0 || progress_check(e) < 0)
        return -1;
    return publish_row(m, e);
}

/* Nobody refers to the file yet: the image's lock is held, and its row was not made. */
static void take_back(struct import *m)
{
    struct err e;
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *path = path_format("%s/%s/%" PRIu64 ".img", m->c->conf.server.images_dir,
                                           uuid_to_text(&m->image.uuid, uuid), m->version);
    if (m->version && kernel_remove(&m->c->conf, &m->image.uuid, m->version, &e) < 0)
        cli_warn(m->c, "%s", e.msg);
    if (m->version && !m->is_new && unlink(path) < 0)
        cli_warn(m->c, "%s: %s", path, strerror(errno));
    if (m->is_new && store_remove_image(m->store, &m->image.uuid, &e) < 0)
        cli_warn(m->c, "%s", e.msg);
}

static int run_with_store(struct import *m, struct err *e)
{
    if (store_open(m->c->conf.server.images_dir, 0, &m->store, e) < 0)
        return -1;
    m->progress = progress_begin(m->c, "importing");
    int r = import(m, e);
    build_free(m->build);
    view_close(m->parent_view);
    if (r < 0)
        take_back(m);
    progress_end();
    if (m->lock >= 0)
        close(m->lock);
    store_close(m->store);
    return r;
}

int run_image_import(struct cli *c, struct err *e)
{
    struct import m = {.c = c, .input_name = c->words[1], .input = -1, .lock = -1};
    char text[24], uuid[UUID_TEXT_SIZE];
    if (check_options(c, e) < 0 || open_input(c->words[1], &m.input, e) < 0)
        return -1;
    int r = cli_enter(c, e);
    if (r == 0)
        r = find_or_plan(&m, e);
    if (r == 0 && (r = run_with_store(&m, e)) < 0)
        err_wrap(e, "image %s", m.image.name);
    close(m.input);
    if (r < 0)
        return -1;
    cli_render(c);
    snprintf(text, sizeof text, "%" PRIu64, m.version);
    return print_made(c, text, QUERY_IMAGE, uuid_to_text(&m.image.uuid, uuid), e);
}
