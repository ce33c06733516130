/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/rules.h"

#include "cli/cli.h"

#include <string.h>

/* The least role, for an object of one's own and for another's; the same for an image that is for all: of type system or
 * boot. */
static const struct rule {
    const char *what; /* in a refusal */
    enum role own, other, own_common, other_common;
} rules[RIGHT_COUNT] = {
    [RIGHT_LOOK] = {"looking at the catalog", ROLE_USER, ROLE_USER, ROLE_USER, ROLE_USER},
    [RIGHT_ADMIN] = {"this command", ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN},
    [RIGHT_USER_CHANGE] = {"changing", ROLE_USER, ROLE_ADMIN, ROLE_USER, ROLE_ADMIN},
    [RIGHT_USER_ROLE] = {"the role or the removal of", ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN},
    /* What is for all is made by those who may change it when it is not their own. */
    [RIGHT_IMAGE_MAKE] = {"making", ROLE_USER, ROLE_ADMIN, ROLE_MODERATOR, ROLE_MODERATOR},
    [RIGHT_IMAGE_USE] = {"using", ROLE_USER, ROLE_ADMIN, ROLE_USER, ROLE_USER},
    [RIGHT_IMAGE_CHANGE] = {"changing", ROLE_USER, ROLE_ADMIN, ROLE_USER, ROLE_MODERATOR},
    [RIGHT_IMAGE_GIVE] = {"giving away", ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN, ROLE_ADMIN},
    [RIGHT_SETUP_MAKE] = {"making", ROLE_USER, ROLE_ADMIN, ROLE_USER, ROLE_ADMIN},
    [RIGHT_SETUP_CHANGE] = {"changing", ROLE_USER, ROLE_ADMIN, ROLE_USER, ROLE_ADMIN},
    [RIGHT_SETUP_BOOT] = {"booting", ROLE_USER, ROLE_MODERATOR, ROLE_USER, ROLE_MODERATOR},
    [RIGHT_BOOT_CHANGE] = {"changing", ROLE_USER, ROLE_MODERATOR, ROLE_USER, ROLE_MODERATOR},
};

static const char *role_name(enum role r)
{
    static const char *const names[] = {"user", "moderator", "admin"};
    return names[r];
}

static int check(const struct cli *c, enum right right, const char *object, const char *owner, bool common,
                 struct err *e)
{
    const struct rule *r = &rules[right];
    bool own = owner && strcmp(owner, c->user) == 0;
    enum role mine = common ? r->own_common : r->own, others = common ? r->other_common : r->other;
    enum role least = own ? mine : others;
    if (c->role >= least)
        return 0;
    return err_set(e, ERR_DENIED, "%s%s%s needs the role %s%s; %s has the role %s", r->what,
                   *object ? " " : "", object, role_name(least),
                   owner && !own && mine < others ? ", or its owner" : "", c->user, role_name(c->role));
}

int rules_check_image(struct cli *c, enum right right, const struct image *image, struct err *e)
{
    char object[2 * NAME_SIZE + 30];
    bool common = strcmp(image->type, "system") == 0 || strcmp(image->type, "boot") == 0;
    const char *owner = *image->owner ? image->owner : NULL; /* a machine's image is nobody's */
    snprintf(object, sizeof object, "the %s image %s%s%s", image->type, image->owner, owner ? "/" : "",
             image->name);
    return check(c, right, object, owner, common, e);
}

int rules_check_setup(struct cli *c, enum right right, const struct setup *setup, struct err *e)
{
    char object[2 * NAME_SIZE + 30];
    snprintf(object, sizeof object, "the setup %s/%s", setup->owner, setup->name);
    return check(c, right, object, setup->owner, false, e);
}

/* A boot is its setup's owner's; one whose setup is gone is nobody's. */
int rules_check_boot(struct cli *c, const struct boot *boot, struct err *e)
{
    struct setup setup;
    char object[40];
    snprintf(object, sizeof object, "boot %lld", (long long)boot->id);
    if (setup_by_uuid(c->catalog, &boot->setup, &setup, e) < 0) {
        if (e->code != ERR_NOT_FOUND)
            return -1;
        return check(c, RIGHT_BOOT_CHANGE, object, NULL, false, e);
    }
    return check(c, RIGHT_BOOT_CHANGE, object, setup.owner, false, e);
}

static int check_boot_word(struct cli *c, struct err *e)
{
    struct boot b;
    return cli_find_boot(c, c->words[0], &b, e) < 0 ? -1 : rules_check_boot(c, &b, e);
}

/* IMAGE[@VERSION]: whether the version exists is for the command to say. */
static int check_image_word(struct cli *c, enum right right, struct err *e)
{
    struct image image;
    cleanup(free) char *name = strndup(c->words[0], strcspn(c->words[0], "@"));
    if (!name)
        return err_sys(e, ENOMEM, "image");
    return image_find(c->catalog, name, c->user, &image, e) < 0 ? -1 : rules_check_image(c, right, &image, e);
}

int rules_check_user(struct cli *c, enum right right, const char *name, struct err *e)
{
    struct user user;
    char object[NAME_SIZE + 10];
    if (user_get(c->catalog, name, &user, e) < 0)
        return -1;
    snprintf(object, sizeof object, "user %s", user.username);
    return check(c, right, object, user.username, false, e);
}

int rules_check_command(struct cli *c, struct err *e)
{
    struct setup setup;
    switch (c->command->right) {
    case RIGHT_LOOK:
    case RIGHT_ADMIN:
        return check(c, c->command->right, "", NULL, false, e);
    case RIGHT_USER_CHANGE:
    case RIGHT_USER_ROLE:
        return rules_check_user(c, c->command->right, c->words[0], e);
    case RIGHT_IMAGE_USE:
    case RIGHT_IMAGE_CHANGE:
        return check_image_word(c, c->command->right, e);
    case RIGHT_SETUP_CHANGE:
        if (setup_find(c->catalog, c->words[0], c->user, &setup, e) < 0)
            return -1;
        return rules_check_setup(c, RIGHT_SETUP_CHANGE, &setup, e);
    case RIGHT_BOOT_CHANGE:
        return check_boot_word(c, e);
    default:
        return 0;
    }
}

int rules_check_update(struct cli *c, const struct setup *setup, struct err *e)
{
    struct setup_image images[SETUP_IMAGES_MAX];
    struct image image;
    size_t count;
    if (setup_images(c->catalog, &setup->uuid, images, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (image_by_uuid(c->catalog, &images[i].image, &image, e) < 0 ||
            rules_check_image(c, RIGHT_IMAGE_CHANGE, &image, e) < 0)
            return -1;
    }
    return 0;
}
