/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/make-version.h"
#include "cli/target.h"

#include "lib/store/alone.h"
#include "lib/store/export.h"

#include <inttypes.h>
#include <string.h>

static const struct option image_export_options[] = {
    {"format", "FORMAT", "raw, qcow2, raw.zst or raw.gz; default: as what the image came, raw or qcow2",
     false},
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

static const struct option image_list_options[] = {
    {"owner", "USER", "only that user's", false},
    {"kind", "KIND", "only those of kind boot, system, user or temporal", false},
    {NULL, NULL, NULL, false},
};

static int run_image_list(struct cli *c, struct err *e)
{
    const char *owner = cli_option(c, "owner"), *kind = cli_option(c, "kind");
    struct user user;
    if ((owner && user_get(c->catalog, owner, &user, e) < 0) || make_check_options(c, e) < 0)
        return -1;
    const char *const words[QUERY_WORDS_MAX] = {owner, kind};
    return print_query_of(c, QUERY_IMAGES, words, e);
}

static int run_image_show(struct cli *c, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    return find_image(c, uuid, e) < 0 ? -1 : print_query(c, QUERY_IMAGE, uuid, e);
}

/* Who may not read the store sees the rest all the same. */
static size_t measure(struct cli *c, const struct uuid *image, const struct version_file *files, size_t count,
                      struct version_bytes *ret)
{
    struct err e;
    struct store *store;
    size_t known = 0;
    cleanup(free) struct version_alone *list = calloc(count + 1, sizeof *list);
    if (!list || store_open(c->conf.server.images_dir, 0, &store, &e) < 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        list[i].version = files[i].version;
    store_alone(store, image, list, count);
    store_close(store);
    for (size_t i = 0; i < count; i++)
        if (list[i].known)
            ret[known++] = (struct version_bytes){list[i].version, list[i].bytes};
    return known;
}

static const struct option image_versions_options[] = {
    {"tree", NULL, "each version below the one that it was made from", false},
    {NULL, NULL, NULL, false},
};

static int run_image_versions(struct cli *c, struct err *e)
{
    struct image image;
    char uuid[UUID_TEXT_SIZE];
    size_t count;
    cleanup(free) struct version_file *files = NULL;
    if (image_find(c->catalog, c->words[0], c->user, &image, e) < 0 ||
        versions_of(c->catalog, &image.uuid, &files, &count, e) < 0)
        return -1;
    cleanup(free) struct version_bytes *alone = calloc(count + 1, sizeof *alone);
    if (!alone)
        return err_sys(e, ENOMEM, "versions");
    if (query_set_alone(c->catalog, &image.uuid, alone, measure(c, &image.uuid, files, count, alone), e) < 0)
        return -1;
    enum query q = cli_option(c, "tree") ? QUERY_VERSION_TREE : QUERY_VERSIONS;
    return print_query(c, q, uuid_to_text(&image.uuid, uuid), e);
}

/* ---- export ------------------------------------------------------------------------------------------------------ */

static const char *const formats[] = {[EXPORT_RAW] = "raw",
                                      [EXPORT_QCOW2] = "qcow2",
                                      [EXPORT_ZSTD] = "raw.zst",
                                      [EXPORT_GZIP] = "raw.gz",
                                      NULL};

static enum export_format format_of(const struct cli *c, const struct image *image)
{
    const char *name = cli_option(c, "format");
    int format = EXPORT_RAW;
    while (strcmp(name ? name : image->file_type, formats[format]) != 0)
        format++;
    return (enum export_format)format;
}

static int export_version(struct cli *c, const struct image *image, uint64_t version, const struct target *t,
                          struct err *e)
{
    struct store *store;
    struct view *view = NULL;
    if (store_open(c->conf.server.images_dir, 0, &store, e) < 0)
        return -1;
    int r = view_open(store, &image->uuid, version, &view, e);
    if (r == 0)
        r = target_check_size(t, view_footer(view)->virtual_size, e);
    if (r == 0) {
        const struct export_options o = {.format = format_of(c, image),
                                         .zstd_level = (int)c->conf.store.zstd_level,
                                         .progress = progress_begin(c, "exporting")};
        r = export_disk(view, t->fd, &o, e);
        progress_end();
    }
    view_close(view);
    store_close(store);
    return r;
}

static int check_stream(const struct cli *c, struct err *e)
{
    if (strcmp(c->words[1], "-") != 0)
        return 0;
    if (c->json)
        return err_set(e, ERR_USAGE, "--json and a disk cannot both go to standard output");
    return isatty(STDOUT_FILENO) ? err_set(e, ERR_USAGE, "a disk does not go to a terminal; try: >FILE") : 0;
}

static int run_image_export(struct cli *c, struct err *e)
{
    struct target t;
    struct image image;
    uint64_t version;
    char uuid[UUID_TEXT_SIZE];
    const char *format = cli_option(c, "format");
    if ((format && cli_check_word("--format", format, formats, e) < 0) || progress_option(c, e) < 0 ||
        check_stream(c, e) < 0 || target_open(c->words[1], cli_option(c, "force"), &t, e) < 0)
        return -1;
    int r = cli_enter_for_now(c, e);
    if (r == 0)
        r = image_version_find(c->catalog, c->words[0], c->user, &image, &version, e);
    if (r == 0 && (r = export_version(c, &image, version, &t, e)) < 0)
        err_wrap(e, "image %s, version %" PRIu64, image.name, version);
    struct err regaining;
    if (rights_regain(&regaining) < 0 && r == 0) {
        *e = regaining;
        r = -1;
    }
    if (r == 0)
        r = target_finish(&t, e);
    target_close(&t);
    if (r == 0 && c->json)
        r = print_query(c, QUERY_IMAGE, uuid_to_text(&image.uuid, uuid), e);
    return r;
}

const struct command image_commands[] = {
    {"image", "create", run_image_create, "NAME", 1, 1, NEEDS_CATALOG, RIGHT_LOOK,
     "make an image with an empty file system", image_create_options},
    {"image", "import", run_image_import, "NAME FILE|-", 2, 2, NEEDS_CONF | READS_FILE, RIGHT_LOOK,
     "make the first or the next version of an image", image_import_options},
    {"image", "export", run_image_export, "IMAGE[@VERSION] FILE|-", 2, 2, NEEDS_CONF | WRITES_FILE,
     RIGHT_IMAGE_USE, "write a version as a file", image_export_options},
    {"image", "list", run_image_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list images", image_list_options},
    {"image", "show", run_image_show, "IMAGE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show an image", NULL},
    {"image", "versions", run_image_versions, "IMAGE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK,
     "list the versions of an image", image_versions_options},
    {"image", "verify", run_image_verify, "IMAGE[@VERSION]", 1, 1, NEEDS_CATALOG, RIGHT_IMAGE_USE,
     "read versions and check all of their data", image_verify_options},
    {"image", "set", run_image_set, "IMAGE[@VERSION]", 1, 1, NEEDS_CATALOG, RIGHT_IMAGE_CHANGE,
     "change what an image is, or a version's comment", image_set_options},
    {"image", "remove", run_image_remove, "IMAGE[@VERSION]", 1, 1, NEEDS_CATALOG, RIGHT_IMAGE_CHANGE,
     "remove an image or one of its versions", image_remove_options},
    {"image", "rollback", run_image_rollback, "IMAGE", 1, 1, NEEDS_CATALOG, RIGHT_IMAGE_CHANGE,
     "make another version the latest", image_rollback_options},
    {"image", "keep", run_image_keep, "IMAGE", 1, 1, NEEDS_CATALOG, RIGHT_IMAGE_CHANGE,
     "remove old versions that nothing needs", image_keep_options},
    {"image", "flatten", run_image_flatten, "IMAGE[@VERSION]", 1, 1, NEEDS_CATALOG, RIGHT_IMAGE_CHANGE,
     "write a version anew, so that it needs no older one", image_flatten_options},
    COMMANDS_END,
};
