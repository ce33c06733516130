/* SPDX-License-Identifier: BSD-3-Clause */
/* The layer is written and renamed first, the catalog's row comes last; whatever fails before that row takes back what was
 * made. */
#include "cli/make-version.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/store/import.h"
#include "lib/store/mkfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>

/* ---- the image ----------------------------------------------------------------------------------------------------- */
static const struct image_option {
    const char *name;
    const char *allowed[6]; /* NULL-terminated */
    size_t at, size;        /* in struct image */
} image_options[] = {
#define FIELD(field) offsetof(struct image, field), sizeof(((struct image *)NULL)->field)
    {"kind", {"boot", "system", "user", "temporal", NULL}, FIELD(type)},
    {"compression", {"none", "zstd", "gzip", NULL}, FIELD(compression)},
    {"filesystem", {"ext4", "fat32", "raw", NULL}, FIELD(filesystem)},
    {"type", {"raw", "qcow2", NULL}, FIELD(file_type)},
};
#define IMAGE_OPTIONS ARRAY_SIZE(image_options)

static char *field_of(struct image *i, const struct image_option *o)
{
    return (char *)i + o->at;
}

/* Splits NAME or OWNER/NAME of an image that is to be made. */
static int split_name(struct make *m, struct err *e)
{
    struct cli *c = m->c;
    const char *text = c->words[0], *slash = strchr(text, '/'), *name = slash ? slash + 1 : text;
    const char *given = cli_option(c, "owner");
    cleanup(free) char *prefix = slash ? path_format("%.*s", (int)(slash - text), text) : NULL;
    if (prefix && given && strcmp(prefix, given) != 0)
        return err_set(e, ERR_USAGE, "--owner and the owner before the '/' differ");
    if (cli_check_image_name(name, e) < 0 || cli_owner(c, prefix ? prefix : given, m->image.owner, e) < 0)
        return -1;
    snprintf(m->image.name, sizeof m->image.name, "%s", name);
    return 0;
}

static int new_image(struct make *m, struct err *e)
{
    const char *defaults[IMAGE_OPTIONS] = {m->kind, "zstd", m->filesystem ? m->filesystem : "raw",
                                           m->source.kind == IMPORT_QCOW2 ? "qcow2" : "raw"};
    if (split_name(m, e) < 0)
        return -1;
    m->is_new = true;
    m->detect = !m->filesystem && !cli_option(m->c, "filesystem");
    uuid_make(&m->image.uuid);
    for (size_t i = 0; i < IMAGE_OPTIONS; i++) {
        const char *given = cli_option(m->c, image_options[i].name);
        snprintf(field_of(&m->image, &image_options[i]), image_options[i].size, "%s",
                 given ? given : defaults[i]);
    }
    return rules_check_image(m->c, RIGHT_IMAGE_MAKE, &m->image, e);
}

/* What was given must be what the image is, but for what this version comes as. */
static int existing_image(struct make *m, struct err *e)
{
    if (m->must_be_new)
        return err_set(e, ERR_STATE, "image %s/%s exists already", m->image.owner, m->image.name);
    for (size_t i = 0; i < IMAGE_OPTIONS; i++) {
        const char *given = cli_option(m->c, image_options[i].name),
                   *is = field_of(&m->image, &image_options[i]);
        if (given && strcmp(given, is) != 0 && strcmp(image_options[i].name, "type") != 0)
            return err_set(e, ERR_STATE, "--%s %s: the image exists already, with %s", image_options[i].name,
                           given, is);
    }
    return rules_check_image(m->c, RIGHT_IMAGE_CHANGE, &m->image, e);
}

/* What the first word means. --new means the image of one owner, existing ones may be anybody's. */
static int find_image(struct make *m, struct err *e)
{
    struct cli *c = m->c;
    const char *text = c->words[0];
    bool owner = cli_option(c, "owner");
    cleanup(free) char *full = NULL;
    struct uuid uuid;
    struct err ignored;
    if (uuid_from_text(text, &uuid, &ignored) < 0 && (m->must_be_new || owner)) {
        if (split_name(m, e) < 0)
            return -1;
        text = full = path_format("%s/%s", m->image.owner, m->image.name);
    }
    return image_find(c->catalog, text, c->user, &m->image, e);
}

int make_plan(struct make *m, struct err *e)
{
    struct uuid uuid;
    struct err ignored;
    if (find_image(m, e) == 0)
        return existing_image(m, e);
    bool make = e->code == ERR_NOT_FOUND && uuid_from_text(m->c->words[0], &uuid, &ignored) < 0;
    return make ? new_image(m, e) : -1;
}

int make_check_options(const struct cli *c, struct err *e)
{
    for (size_t i = 0; i < IMAGE_OPTIONS; i++) {
        const char *given = cli_option(c, image_options[i].name);
        cleanup(free) char *option = path_format("--%s", image_options[i].name);
        if (given && cli_check_word(option, given, image_options[i].allowed, e) < 0)
            return -1;
    }
    return progress_option(c, e);
}

/* ---- the version --------------------------------------------------------------------------------------------------- */

/* A head that cannot be read is no reason against a new version: that is then made from nothing. It stays open until the
 * row is there: its file then outlives its removal meanwhile. */
static int open_parent(struct make *m, struct err *e)
{
    if (!m->image.head || view_open(m->store, &m->image.uuid, m->image.head, &m->parent, e) == 0)
        return 0;
    if (e->code != ERR_CORRUPT && e->code != ERR_NOT_FOUND)
        return -1;
    cli_warn(m->c, "version %" PRIu64 " is not used as parent: %s", m->image.head, e->msg);
    return 0;
}

static unsigned shift_of(uint64_t chunk_size)
{
    return (unsigned)__builtin_ctzll(chunk_size);
}

static int build(struct make *m, struct err *e)
{
    const struct conf *conf = &m->c->conf;
    if (open_parent(m, e) < 0)
        return -1;
    struct build_options o = {
        .progress = m->progress,
        .image = m->image.uuid,
        .parent = m->parent,
        .chunk_shift = m->parent ? view_footer(m->parent)->chunk_shift : shift_of(conf->store.chunk_size),
        .compression = compression_of(m->image.compression, conf->store.zstd_level),
        .reserve = conf->store.reserve,
    };
    if (import_raw(m->store, m->source.fd, m->source.name, &o, &m->build, &m->result, e) < 0) {
        import_source_explain(&m->source, e);
        return -1;
    }
    return import_source_end(&m->source, e);
}

#define EXT4_MAGIC_AT 1080
#define FAT32_MAGIC_AT 82
#define BOOT_SIGNATURE_AT 510

/* Of a new image, for the catalog: nothing is decided by it that could do harm. */
static int detect_filesystem(struct make *m, struct err *e)
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

static int publish_file(struct make *m, struct err *e)
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
static int extract_kernel(struct make *m, struct err *e)
{
    m->has_kernel = kernel_extract(&m->c->conf, &m->image.uuid, m->version, m->release, e) == 0;
    if (m->has_kernel)
        return 0;
    if (e->code != ERR_NOT_FOUND)
        return err_wrap(e, "its kernel");
    log_info("%s", e->msg);
    return 0;
}

static int publish_row(struct make *m, struct err *e)
{
    struct version_new v = {
        .image = m->image.uuid,
        .version = m->version,
        .parent = m->parent ? view_footer(m->parent)->version : 0,
        .layer = m->result.layer,
        .virtual_size = m->result.virtual_size,
        .stored_size = m->result.file_length,
        .kernel = m->has_kernel ? m->release : NULL,
        .comment = cli_option(m->c, "comment"),
    };
    memcpy(v.checksum, m->result.checksum, sizeof v.checksum);
    return version_publish(m->c->catalog, m->c->actor, m->is_new ? &m->image : NULL, &v, e);
}

/* In tmp/, locked: what is killed here leaves it to the next start of the server. */
static int make_blank(struct make *m, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *path =
        path_format("%s/%s/tmp/blank", m->c->conf.server.images_dir, uuid_to_text(&m->image.uuid, uuid));
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) < 0 || ftruncate(fd, (off_t)m->blank_size) < 0)
        return err_sys(e, errno, "%s", path);
    if (mkfs_make(path, m->image.filesystem, NULL, e) < 0)
        return -1;
    if (unlink(path) < 0)
        return err_sys(e, errno, "%s", path);
    import_source_open(&m->source, "the empty disk", steal_fd(&fd), true);
    return 0;
}

static int begin_source(struct make *m, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *tmp =
        path_format("%s/%s/tmp", m->c->conf.server.images_dir, uuid_to_text(&m->image.uuid, uuid));
    const struct import_source_options o = {.tmp_dir = tmp,
                                            .reserve = m->c->conf.store.reserve,
                                            .copy = m->copy_source,
                                            .follow = m->follow,
                                            .progress = m->progress};
    return import_source_begin(&m->source, &o, e);
}

static int publish(struct make *m, struct err *e)
{
    if (store_make_image(m->store, &m->image.uuid, e) < 0 ||
        (m->blank_size ? make_blank(m, e) : begin_source(m, e)) < 0 || build(m, e) < 0 ||
        publish_file(m, e) < 0 || (m->detect && detect_filesystem(m, e) < 0) || extract_kernel(m, e) < 0 ||
        progress_check(e) < 0)
        return -1;
    return publish_row(m, e);
}

/* Nobody refers to the file yet: the image's lock is held, and its row was not made. Where even that is not certain, the
 * file is better left. */
static void take_back(struct make *m)
{
    struct err e;
    if (m->version && catalog_settle(m->c->catalog, &e) < 0) {
        cli_warn(m->c, "what was written stays: %s; try: labboot gc", e.msg);
        return;
    }
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *path = path_format("%s/%s/%" PRIu64 ".img", m->c->conf.server.images_dir,
                                           uuid_to_text(&m->image.uuid, uuid), m->version);
    if (m->version && kernel_remove(&m->c->conf, &m->image.uuid, m->version, &e) < 0)
        cli_warn(m->c, "%s", e.msg);
    if (m->version && !m->is_new && unlink(path) < 0)
        cli_warn(m->c, "%s: %s", path, strerror(errno));
    if (m->is_new && (store_remove_image(m->store, &m->image.uuid, &e) < 0 ||
                      kernel_remove_all(&m->c->conf, &m->image.uuid, &e) < 0))
        cli_warn(m->c, "%s", e.msg);
}

static int run_with_store(struct make *m, struct err *e)
{
    if (store_open(m->c->conf.server.images_dir, 0, &m->store, e) < 0)
        return -1;
    m->progress = progress_begin(m->c, m->what);
    int r = publish(m, e);
    build_free(m->build);
    view_close(m->parent);
    if (r < 0)
        take_back(m);
    progress_end();
    if (m->lock >= 0)
        close(m->lock);
    store_close(m->store);
    return r;
}

int make_version(struct make *m, struct err *e)
{
    char text[24], uuid[UUID_TEXT_SIZE];
    m->lock = -1;
    if (run_with_store(m, e) < 0)
        return err_wrap(e, "image %s", m->image.name);
    cli_render(m->c);
    snprintf(text, sizeof text, "%" PRIu64, m->version);
    return print_made(m->c, text, QUERY_IMAGE, uuid_to_text(&m->image.uuid, uuid), e);
}
