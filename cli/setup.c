/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

static const struct option setup_create_options[] = {
    {"image", "IMAGE[@VERSION|@latest][,update]", "its disks, the root first", true},
    {"owner", "USER", "default: who calls, or the only admin", false},
    {NULL, NULL, NULL, false},
};
static const struct option setup_list_options[] = {
    {"owner", "USER", "only that user's", false},
    {"image", "NAME", "only those with an image of that name", false},
    {NULL, NULL, NULL, false},
};
static const struct option setup_show_options[] = {
    {"image", "NAME", "only this image of it", false},
    {NULL, NULL, NULL, false},
};
static const struct option setup_peg_options[] = {
    {"update", "yes|no", "whether what machines write to it is always kept; default: as it is", false},
    {NULL, NULL, NULL, false},
};
static const struct option setup_move_options[] = {
    {"to", "NUMBER", "its new place; 1: the root disk", false},
    {NULL, NULL, NULL, false},
};
static const struct option setup_set_options[] = {
    {"owner", "USER", "whose it is", false},
    {NULL, NULL, NULL, false},
};
static const struct option setup_remove_options[] = {
    {"force", NULL, "also from machines whose default it is; boots that run are left alone", false},
    {NULL, NULL, NULL, false},
};

int cli_setup_image(struct cli *c, const char *text, const char *owner, struct setup_image *ret,
                    struct err *e)
{
    static const char update[] = ",update";
    cleanup(free) char *name = strdup(text);
    if (!name)
        return err_sys(e, ENOMEM, "image");
    char *comma = strchr(name, ',');
    if (comma && strcmp(comma, update) != 0)
        return err_set(e, ERR_USAGE, "only ',update' may follow an image; try: --help");
    if (comma)
        *comma = '\0';
    *ret = (struct setup_image){.update = comma != NULL};
    struct image image;
    char *at = strchr(name, '@');
    if (at && strcmp(at, "@latest") != 0) {
        if (image_version_find(c->catalog, name, owner, &image, &ret->version, e) < 0)
            return -1;
    } else {
        if (at)
            *at = '\0';
        if (image_find(c->catalog, name, owner, &image, e) < 0)
            return -1;
    }
    ret->image = image.uuid;
    return rules_check_image(c, ret->update ? RIGHT_IMAGE_CHANGE : RIGHT_IMAGE_USE, &image, e);
}

static int run_setup_create(struct cli *c, struct err *e)
{
    struct setup setup = {.name = ""}; /* that is to be */
    char uuid_text[UUID_TEXT_SIZE];
    struct setup_image images[SETUP_IMAGES_MAX];
    size_t count = 0;
    struct uuid uuid;
    const char *text;
    if (parse_name("setup", c->words[0], e) < 0 || cli_owner(c, cli_option(c, "owner"), setup.owner, e) < 0)
        return -1;
    snprintf(setup.name, sizeof setup.name, "%s", c->words[0]);
    if (rules_check_setup(c, RIGHT_SETUP_MAKE, &setup, e) < 0)
        return -1;
    while ((text = cli_option_at(c, "image", count))) {
        if (count == SETUP_IMAGES_MAX)
            return err_set(e, ERR_USAGE, "a setup has at most %d images", SETUP_IMAGES_MAX);
        if (cli_setup_image(c, text, setup.owner, &images[count], e) < 0)
            return err_wrap(e, "--image");
        count++;
    }
    if (count == 0)
        return err_set(e, ERR_USAGE, "a setup needs a root disk; try: --image IMAGE");
    if (setup_create(c->catalog, c->actor, setup.name, setup.owner, images, count, &uuid, e) < 0)
        return -1;
    cli_render(c);
    uuid_to_text(&uuid, uuid_text);
    return print_made(c, uuid_text, QUERY_SETUP, uuid_text, e);
}

static int run_setup_list(struct cli *c, struct err *e)
{
    const char *const words[QUERY_WORDS_MAX] = {cli_option(c, "owner"), cli_option(c, "image")};
    return print_query_of(c, QUERY_SETUPS, words, e);
}

static int print_setup(struct cli *c, const struct uuid *setup, struct err *e)
{
    char text[UUID_TEXT_SIZE];
    return print_query(c, QUERY_SETUP, uuid_to_text(setup, text), e);
}

static int run_setup_show(struct cli *c, struct err *e)
{
    struct setup setup;
    char uuid[UUID_TEXT_SIZE];
    const char *image = cli_option(c, "image");
    if (setup_find(c->catalog, c->words[0], c->user, &setup, e) < 0)
        return -1;
    if (!image)
        return print_setup(c, &setup.uuid, e);
    const char *const words[QUERY_WORDS_MAX] = {uuid_to_text(&setup.uuid, uuid), image};
    return print_query_of(c, QUERY_SETUP_IMAGE, words, e);
}

/* ---- changes of its images ------------------------------------------------------------------------------------- */

/* What a command makes of a setup's list of images, within the transaction that read it. */
struct edit {
    struct setup setup;
    struct setup_image images[SETUP_IMAGES_MAX];
    size_t count;
    char said[2 * NAME_SIZE + 60]; /* printed when all is done; "": nothing */
    char warning[NAME_SIZE + 60];
};

/* Words name an image of the setup as they name any; a bare name is enough, as it is the only one of it there. */
static int find_in_setup(struct cli *c, const struct edit *s, const char *word, size_t *ret,
                         struct image *ret_image, struct err *e)
{
    char full[2 * NAME_SIZE], uuid[UUID_TEXT_SIZE];
    for (size_t i = 0; i < s->count; i++) {
        if (image_by_uuid(c->catalog, &s->images[i].image, ret_image, e) < 0)
            return -1;
        snprintf(full, sizeof full, "%s/%s", ret_image->owner, ret_image->name);
        if (strcmp(word, ret_image->name) == 0 || strcmp(word, full) == 0 ||
            strcmp(word, uuid_to_text(&ret_image->uuid, uuid)) == 0) {
            *ret = i;
            return 0;
        }
    }
    return err_set(e, ERR_NOT_FOUND, "setup '%s' has no image '%s'; try: labboot setup show %s",
                   s->setup.name, word, s->setup.name);
}

static int change_images(struct cli *c, int (*change)(struct cli *c, struct edit *s, struct err *e),
                         struct err *e)
{
    struct edit s = {.count = 0};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c->catalog, &tx, e) < 0 || setup_find(c->catalog, c->words[0], c->user, &s.setup, e) < 0 ||
        setup_images(c->catalog, &s.setup.uuid, s.images, &s.count, e) < 0 || change(c, &s, e) < 0)
        return -1;
    const struct setup_change new = {.images = s.images, .count = s.count};
    if (setup_set(c->catalog, c->actor, &s.setup.uuid, &new, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    cli_render(c);
    if (*s.warning)
        cli_warn(c, "%s", s.warning);
    return c->json ? print_setup(c, &s.setup.uuid, e) : print_text(s.said, e);
}

static int add_image(struct cli *c, struct edit *s, struct err *e)
{
    if (s->count == SETUP_IMAGES_MAX)
        return err_set(e, ERR_STATE, "a setup has at most %d images", SETUP_IMAGES_MAX);
    struct setup_image *new = &s->images[s->count++];
    struct image image;
    if (cli_setup_image(c, c->words[1], s->setup.owner, new, e) < 0)
        return -1;
    /* An update that is queued already would write into it. */
    int queued = setup_update_queued(c->catalog, &s->setup.uuid, e);
    if (queued <= 0)
        return queued;
    return image_by_uuid(c->catalog, &new->image, &image, e) < 0
               ? -1
               : rules_check_image(c, RIGHT_IMAGE_CHANGE, &image, e);
}

/* The images between the two places move up by one. */
static void move(struct edit *s, size_t from, size_t to)
{
    struct setup_image moved = s->images[from];
    for (; from < to; from++)
        s->images[from] = s->images[from + 1];
    for (; from > to; from--)
        s->images[from] = s->images[from - 1];
    s->images[to] = moved;
}

static int warn_of_root(struct cli *c, struct edit *s, struct err *e)
{
    struct image root;
    if (image_by_uuid(c->catalog, &s->images[0].image, &root, e) < 0)
        return -1;
    snprintf(s->warning, sizeof s->warning, "%s is the root disk now", root.name);
    return 0;
}

static int remove_image(struct cli *c, struct edit *s, struct err *e)
{
    struct image image;
    size_t at;
    if (find_in_setup(c, s, c->words[1], &at, &image, e) < 0)
        return -1;
    if (s->count == 1)
        return err_set(e, ERR_STATE, "%s is the only image of setup '%s'; try: labboot setup remove %s",
                       image.name, s->setup.name, s->setup.name);
    move(s, at, --s->count);
    return at == 0 ? warn_of_root(c, s, e) : 0;
}

static int move_image(struct cli *c, struct edit *s, struct err *e)
{
    struct image image;
    uint64_t to;
    size_t at;
    const char *text = cli_option(c, "to");
    if (!text)
        return err_set(e, ERR_USAGE, "where to? try: --to NUMBER");
    if (parse_number(text, 1, s->count, &to, e) < 0)
        return err_wrap(e, "--to");
    if (find_in_setup(c, s, c->words[1], &at, &image, e) < 0)
        return -1;
    move(s, at, to - 1);
    return at != to - 1 && (at == 0 || to == 1) ? warn_of_root(c, s, e) : 0;
}

static const char *version_text(uint64_t version, char buf[24])
{
    snprintf(buf, 24, version ? "%" PRIu64 : "latest", version);
    return buf;
}

/* IMAGE@VERSION or IMAGE@latest; with --update also IMAGE alone, whose version stays. */
static int parse_peg(struct cli *c, const struct edit *s, size_t *ret, struct image *image,
                     uint64_t *ret_version, struct err *e)
{
    const char *word = c->words[1], *at = strchr(word, '@');
    cleanup(free) char *name = strndup(word, strcspn(word, "@"));
    if (!name)
        return err_sys(e, ENOMEM, "image");
    if (!at && !cli_option(c, "update"))
        return err_set(e, ERR_USAGE, "which version? try: %s@latest, or %s@VERSION", name, name);
    if (find_in_setup(c, s, name, ret, image, e) < 0)
        return -1;
    *ret_version = s->images[*ret].version;
    if (!at)
        return 0;
    *ret_version = 0;
    if (strcmp(at, "@latest") == 0)
        return 0;
    return parse_number(at + 1, 1, INT64_MAX, ret_version, e) < 0 ? err_wrap(e, "%s: a version", name) : 0;
}

static int peg(struct cli *c, struct edit *s, struct err *e)
{
    struct image image;
    size_t at;
    uint64_t version;
    char was[24], is[24];
    const char *update = cli_option(c, "update");
    if (parse_peg(c, s, &at, &image, &version, e) < 0)
        return -1;
    struct setup_image *entry = &s->images[at], before = *entry;
    if (update && parse_bool(update, &entry->update, e) < 0)
        return err_wrap(e, "--update");
    if (entry->update && !before.update && rules_check_image(c, RIGHT_IMAGE_CHANGE, &image, e) < 0)
        return -1;
    entry->version = version;
    snprintf(s->said, sizeof s->said, "%s: %s%s -> %s%s\n", image.name, version_text(before.version, was),
             before.update ? ",update" : "", version_text(version, is), entry->update ? ",update" : "");
    return 0;
}

static int run_setup_add_image(struct cli *c, struct err *e)
{
    return change_images(c, add_image, e);
}

static int run_setup_remove_image(struct cli *c, struct err *e)
{
    return change_images(c, remove_image, e);
}

static int run_setup_move_image(struct cli *c, struct err *e)
{
    return change_images(c, move_image, e);
}

static int run_setup_peg(struct cli *c, struct err *e)
{
    return change_images(c, peg, e);
}

/* ---- changes of the setup -------------------------------------------------------------------------------------- */

static int change_setup(struct cli *c, const struct setup *setup, const struct setup_change *change,
                        struct err *e)
{
    if (setup_set(c->catalog, c->actor, &setup->uuid, change, e) < 0)
        return -1;
    cli_render(c);
    return c->json ? print_setup(c, &setup->uuid, e) : 0;
}

static int run_setup_rename(struct cli *c, struct err *e)
{
    struct setup setup;
    const struct setup_change change = {.name = c->words[1]};
    if (setup_find(c->catalog, c->words[0], c->user, &setup, e) < 0)
        return -1;
    return change_setup(c, &setup, &change, e);
}

static int run_setup_set(struct cli *c, struct err *e)
{
    struct setup setup, given;
    const char *owner = cli_option(c, "owner");
    const struct setup_change change = {.owner = owner};
    if (!owner)
        return err_set(e, ERR_USAGE, "nothing to change; try: --owner USER");
    if (setup_find(c->catalog, c->words[0], c->user, &setup, e) < 0)
        return -1;
    given = setup;
    if (cli_owner(c, owner, given.owner, e) < 0 || rules_check_setup(c, RIGHT_SETUP_MAKE, &given, e) < 0)
        return -1;
    return change_setup(c, &setup, &change, e);
}

static int run_setup_remove(struct cli *c, struct err *e)
{
    struct setup setup;
    size_t cancelled;
    cleanup(free) char *json = NULL;
    char uuid[UUID_TEXT_SIZE];
    if (setup_find(c->catalog, c->words[0], c->user, &setup, e) < 0 ||
        query_json(c->catalog, QUERY_SETUP, uuid_to_text(&setup.uuid, uuid), &json, e) < 0 ||
        setup_remove(c->catalog, c->actor, &setup.uuid, cli_option(c, "force"), &cancelled, e) < 0)
        return -1;
    cli_render(c);
    if (cancelled)
        cli_warn(c, "%zu queued boot%s of it %s cancelled", cancelled, cancelled > 1 ? "s" : "",
                 cancelled > 1 ? "were" : "was");
    if (!c->json)
        return 0;
    return print_text(json, e) < 0 ? -1 : print_text("\n", e);
}

const struct command setup_commands[] = {
    {"setup", "create", run_setup_create, "NAME", 1, 1, NEEDS_CATALOG, RIGHT_LOOK,
     "name the disks that a machine gets together", setup_create_options},
    {"setup", "list", run_setup_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list setups", setup_list_options},
    {"setup", "show", run_setup_show, "SETUP", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show a setup",
     setup_show_options},
    {"setup", "add-image", run_setup_add_image, "SETUP IMAGE[@VERSION|@latest][,update]", 2, 2, NEEDS_CATALOG,
     RIGHT_SETUP_CHANGE, "give machines one more disk", NULL},
    {"setup", "remove-image", run_setup_remove_image, "SETUP IMAGE", 2, 2, NEEDS_CATALOG, RIGHT_SETUP_CHANGE,
     "take a disk out of a setup", NULL},
    {"setup", "move-image", run_setup_move_image, "SETUP IMAGE", 2, 2, NEEDS_CATALOG, RIGHT_SETUP_CHANGE,
     "change the order of the disks", setup_move_options},
    {"setup", "peg", run_setup_peg, "SETUP IMAGE@VERSION|IMAGE@latest", 2, 2, NEEDS_CATALOG,
     RIGHT_SETUP_CHANGE, "choose the version of a disk, or follow the latest", setup_peg_options},
    {"setup", "rename", run_setup_rename, "SETUP NAME", 2, 2, NEEDS_CATALOG, RIGHT_SETUP_CHANGE,
     "give a setup another name", NULL},
    {"setup", "set", run_setup_set, "SETUP", 1, 1, NEEDS_CATALOG, RIGHT_SETUP_CHANGE,
     "give a setup to another user", setup_set_options},
    {"setup", "remove", run_setup_remove, "SETUP", 1, 1, NEEDS_CATALOG, RIGHT_SETUP_CHANGE, "remove a setup",
     setup_remove_options},
    COMMANDS_END,
};
