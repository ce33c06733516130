/* SPDX-License-Identifier: BSD-3-Clause */
/* What becomes of images and versions after they were made. Rows go first, files after them: what a crash between leaves
 * is no version, and `labboot gc` removes it. */
#include "cli/make-version.h"

#include "lib/base/fsutil.h"
#include "lib/store/retire.h"
#include "nbd-plugin/retention.h"
#include "tftp-glue/kernel.h"

#include <inttypes.h>
#include <string.h>

const struct option image_set_options[] = {
    {"name", "NAME", "a new name", false},
    {"owner", "USER", "give it to another user; for admins", false},
    {"kind", "KIND", "boot, system, user or temporal, from the next boot on", false},
    {"compression", "HOW", "of later versions: none, zstd or gzip", false},
    {"filesystem", "TYPE", "what is on it: ext4, fat32 or raw", false},
    {"type", "TYPE", "what export writes: raw or qcow2", false},
    {"comment", "TEXT", "what it is; of IMAGE@VERSION: what is new in it; \"\": none", false},
    {NULL, NULL, NULL, false},
};

const struct option image_remove_options[] = {
    {"force", NULL, "also what setups have or queued boots may start with", false},
    {NULL, NULL, NULL, false},
};

const struct option image_rollback_options[] = {
    {"to", "VERSION", "the one that `latest` shall mean", false},
    {NULL, NULL, NULL, false},
};

const struct option image_keep_options[] = {
    {"last", "N", "how many of the newest stay in any case", false},
    {"days", "D", "and those that are not older than D days", false},
    {"dry-run", NULL, "only print what would go", false},
    {NULL, NULL, NULL, false},
};

static int print_image(struct cli *c, const struct uuid *image, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    return c->json ? print_query(c, QUERY_IMAGE, uuid_to_text(image, uuid), e) : 0;
}

/* ---- set ------------------------------------------------------------------------------------------------------------ */

/* To or from a kind that is for all. */
static int check_kind(struct cli *c, const struct image *image, const char *kind, struct err *e)
{
    struct image after = *image;
    if (strcmp(kind, image->type) == 0)
        return 0;
    snprintf(after.type, sizeof after.type, "%s", kind);
    bool for_all = strcmp(kind, "system") == 0 || strcmp(kind, "boot") == 0;
    return rules_check_image(c, RIGHT_IMAGE_MAKE, for_all ? &after : image, e);
}

static int check_change(struct cli *c, const struct image *image, const struct image_change *change,
                        struct err *e)
{
    if ((change->name && cli_check_image_name(change->name, e) < 0) ||
        (change->owner && parse_name("user", change->owner, e) < 0) || make_check_options(c, e) < 0)
        return -1;
    if (change->owner && strcmp(change->owner, image->owner) != 0 &&
        rules_check_image(c, RIGHT_IMAGE_GIVE, image, e) < 0)
        return -1;
    return change->type ? check_kind(c, image, change->type, e) : 0;
}

static int set_image(struct cli *c, const struct image_change *change, struct err *e)
{
    struct image image;
    if (image_find(c->catalog, c->words[0], c->user, &image, e) < 0 ||
        check_change(c, &image, change, e) < 0 ||
        image_change(c->catalog, c->actor, &image.uuid, change, e) < 0)
        return -1;
    cli_render(c);
    return print_image(c, &image.uuid, e);
}

/* Options of all commands do not count. */
static size_t count_options(const struct cli *c)
{
    size_t count = 0;
    for (const struct option *o = c->command->options; o->name; o++)
        count += cli_option(c, o->name) != NULL;
    return count;
}

static int set_version(struct cli *c, const char *comment, struct err *e)
{
    struct image image;
    uint64_t version;
    if (count_options(c) > 1 || !comment)
        return err_set(e, ERR_USAGE, "a version has nothing to set but --comment");
    if (image_version_find(c->catalog, c->words[0], c->user, &image, &version, e) < 0 ||
        version_set_comment(c->catalog, c->actor, &image.uuid, version, comment, e) < 0)
        return -1;
    return print_image(c, &image.uuid, e);
}

int run_image_set(struct cli *c, struct err *e)
{
    struct image_change change = {
        .name = cli_option(c, "name"),
        .owner = cli_option(c, "owner"),
        .type = cli_option(c, "kind"),
        .compression = cli_option(c, "compression"),
        .filesystem = cli_option(c, "filesystem"),
        .file_type = cli_option(c, "type"),
        .comment = cli_option(c, "comment"),
    };
    if (strchr(c->words[0], '@'))
        return set_version(c, change.comment, e);
    if (!change.name && !change.owner && !change.type && !change.compression && !change.filesystem &&
        !change.file_type && !change.comment)
        return err_set(e, ERR_USAGE, "what shall be set? try: --help");
    return set_image(c, &change, e);
}

/* ---- remove --------------------------------------------------------------------------------------------------------- */

/* Where rows go, with the image's lock held, and the files after them. */
struct removal {
    struct cli *c;
    struct image image;
    struct store *store;
    int lock;
};

static int removal_open(struct removal *r, struct err *e)
{
    r->lock = -1;
    if (store_open(r->c->conf.server.images_dir, 0, &r->store, e) < 0)
        return -1;
    if (store_lock_image(r->store, &r->image.uuid, &r->lock, e) == 0)
        return 0;
    store_close(r->store);
    return -1;
}

static void removal_close(struct removal *r)
{
    if (r->lock >= 0)
        close(r->lock);
    store_close(r->store);
}

/* The row is gone, so is the version: a file that stays is rubbish, and no reason to fail. */
static void remove_files(struct removal *r, const struct version_file *gone)
{
    struct err e;
    if (kernel_remove(&r->c->conf, &r->image.uuid, gone->version, &e) < 0 ||
        store_retire_layer(r->store, &r->image.uuid, gone->version, &gone->layer, &e) < 0)
        cli_warn(r->c, "version %" PRIu64 " is removed, but not all of its files: %s; try: labboot gc",
                 gone->version, e.msg);
}

void cli_remove_image_files(struct cli *c, struct store *store, const struct image *image)
{
    struct err e;
    bool in_use = false;
    if (kernel_remove_all(&c->conf, &image->uuid, &e) < 0 ||
        store_retire_image(store, &image->uuid, &in_use, &e) < 0)
        cli_warn(c, "image %s is removed, but not all of its files: %s; try: labboot gc", image->name, e.msg);
    else if (in_use)
        cli_warn(c, "image %s is still being read: its files stay until the next labboot gc", image->name);
}

static int remove_version(struct removal *r, uint64_t version, bool force, struct err *e)
{
    struct version_file gone;
    if (version_remove(r->c->catalog, r->c->actor, &r->image.uuid, version, force, &gone, e) < 0)
        return -1;
    remove_files(r, &gone);
    return 0;
}

static int remove_image(struct removal *r, bool force, struct err *e)
{
    if (image_remove(r->c->catalog, r->c->actor, &r->image.uuid, force, e) < 0)
        return -1;
    cli_remove_image_files(r->c, r->store, &r->image);
    return 0;
}

int run_image_remove(struct cli *c, struct err *e)
{
    struct removal r = {.c = c};
    uint64_t version = 0;
    bool force = cli_option(c, "force"), one = strchr(c->words[0], '@');
    if ((one ? image_version_find(c->catalog, c->words[0], c->user, &r.image, &version, e)
             : image_find(c->catalog, c->words[0], c->user, &r.image, e)) < 0 ||
        removal_open(&r, e) < 0)
        return -1;
    int result = one ? remove_version(&r, version, force, e) : remove_image(&r, force, e);
    removal_close(&r);
    if (result < 0)
        return -1;
    cli_render(c);
    return one ? print_image(c, &r.image.uuid, e) : c->json ? print_text("null\n", e) : 0;
}

/* ---- keep ----------------------------------------------------------------------------------------------------------- */

#define KEEP_DAYS_MAX 36500

static int print_gone(struct cli *c, const struct version_file *list, size_t count, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    for (size_t i = 0; i < count; i++)
        strbuf_appendf(&out, c->json ? "%s%" PRIu64 : "%s%" PRIu64 "\n", c->json && i ? ", " : "",
                       list[i].version);
    cleanup(free) char *json = c->json ? path_format("[%s]\n", strbuf_text(&out)) : NULL;
    return out.failed ? err_sys(e, ENOMEM, "the list") : print_text(json ? json : strbuf_text(&out), e);
}

static int keep(struct cli *c, const struct image *image, uint64_t last, uint64_t days, struct err *e)
{
    cleanup(free) struct version_file *gone = NULL;
    size_t count;
    struct guard guard = GUARD_INIT(c->catalog);
    struct publisher p = {.conf = &c->conf, .guard = &guard, .hooks = cli_publish_hooks};
    if (store_open(c->conf.server.images_dir, 0, &p.store, e) < 0)
        return -1;
    int r =
        retention_image(&p, c->actor, &image->uuid, last, days, cli_option(c, "dry-run"), &gone, &count, e);
    store_close(p.store);
    return r < 0 ? -1 : print_gone(c, gone, count, e);
}

int run_image_keep(struct cli *c, struct err *e)
{
    struct image image;
    const char *last_text = cli_option(c, "last"), *days_text = cli_option(c, "days");
    uint64_t last, days = 0;
    if (!last_text)
        return err_set(e, ERR_USAGE, "how many shall stay? try: --last 5");
    if (parse_number(last_text, 1, INT64_MAX, &last, e) < 0)
        return err_wrap(e, "--last");
    if (days_text && parse_number(days_text, 1, KEEP_DAYS_MAX, &days, e) < 0)
        return err_wrap(e, "--days");
    return image_find(c->catalog, c->words[0], c->user, &image, e) < 0 ? -1 : keep(c, &image, last, days, e);
}

/* ---- rollback ------------------------------------------------------------------------------------------------------- */

int run_image_rollback(struct cli *c, struct err *e)
{
    struct image image;
    const char *to = cli_option(c, "to");
    uint64_t version;
    if (!to)
        return err_set(e, ERR_USAGE, "to which version? try: --to VERSION");
    if (parse_number(to, 1, INT64_MAX, &version, e) < 0)
        return err_wrap(e, "--to");
    if (image_find(c->catalog, c->words[0], c->user, &image, e) < 0 ||
        image_rollback(c->catalog, c->actor, &image.uuid, version, e) < 0)
        return -1;
    cli_render(c);
    return print_image(c, &image.uuid, e);
}
