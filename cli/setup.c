/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <string.h>

static const struct option setup_create_options[] = {
    {"image", "IMAGE[@VERSION|@latest][,update]", "its disks, the root first", true},
    {"owner", "USER", "default: who calls, or the only admin", false},
    {NULL, NULL, NULL, false},
};

/* IMAGE[@VERSION|@latest][,update] */
static int parse_image(struct cli *c, const char *text, const char *owner, struct setup_image *ret,
                       struct err *e)
{
    static const char update[] = ",update";
    cleanup(free) char *name = strdup(text);
    if (!name)
        return err_sys(e, ENOMEM, "image");
    char *comma = strchr(name, ',');
    if (comma && strcmp(comma, update) != 0)
        return err_set(e, ERR_USAGE, "--image: only ',update' may follow the image; try: --help");
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
        if (parse_image(c, text, setup.owner, &images[count], e) < 0)
            return -1;
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
    return print_query(c, QUERY_SETUPS, NULL, e);
}

static int run_setup_show(struct cli *c, struct err *e)
{
    struct setup setup;
    char text[UUID_TEXT_SIZE];
    if (setup_find(c->catalog, c->words[0], c->user, &setup, e) < 0)
        return -1;
    return print_query(c, QUERY_SETUP, uuid_to_text(&setup.uuid, text), e);
}

const struct command setup_commands[] = {
    {"setup", "create", run_setup_create, "NAME", 1, 1, NEEDS_CATALOG, RIGHT_LOOK,
     "name the disks that a machine gets together", setup_create_options},
    {"setup", "list", run_setup_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list all setups", NULL},
    {"setup", "show", run_setup_show, "SETUP", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show a setup", NULL},
    COMMANDS_END,
};
