/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "lib/store/store.h"

#include <string.h>

static const struct option user_add_options[] = {
    {"email", "ADDRESS", "must be given", false},
    {"name", "TEXT", "the full name", false},
    {"role", "ROLE", "user, moderator or admin; default: user", false},
    {NULL, NULL, NULL, false},
};

static const struct option user_set_options[] = {
    {"email", "ADDRESS", "a new email address", false},
    {"name", "TEXT", "a new full name", false},
    {"role", "ROLE", "user, moderator or admin; for admins", false},
    {"force", NULL, "take the role of the last admin", false},
    {NULL, NULL, NULL, false},
};

static const struct option user_remove_options[] = {
    {"force", NULL, "also what others' setups have, machines boot by default, and the last admin", false},
    {NULL, NULL, NULL, false},
};

static int check_role(const char *role, struct err *e)
{
    static const char *const roles[] = {"user", "moderator", "admin", NULL};
    return role ? cli_check_word("--role", role, roles, e) : 0;
}

/* What was asked with --force is done; that it was asked may be a mistake. */
static void warn_no_admin(struct cli *c)
{
    struct err e;
    uint64_t admins;
    if (user_other_admins(c->catalog, "", &admins, &e) == 0 && admins == 0)
        cli_warn(c, "no user has the role admin now: only root and the group " ADMINS_GROUP " are admins");
}

static int run_user_add(struct cli *c, struct err *e)
{
    const char *name = c->words[0], *email = cli_option(c, "email"), *role = cli_option(c, "role");
    if (parse_name("user", name, e) < 0)
        return -1;
    if (!email)
        return err_set(e, ERR_USAGE, "user %s needs an email address; try: --email ADDRESS", name);
    if (check_role(role, e) < 0 ||
        user_add(c->catalog, c->actor, name, cli_option(c, "name"), email, role, e) < 0)
        return -1;
    return print_made(c, name, QUERY_USER, name, e);
}

static int run_user_show(struct cli *c, struct err *e)
{
    if (parse_name("user", c->words[0], e) < 0)
        return -1;
    return print_query(c, QUERY_USER, c->words[0], e);
}

static int run_user_set(struct cli *c, struct err *e)
{
    const char *name = c->words[0];
    struct user_change change = {
        .name = cli_option(c, "name"), .email = cli_option(c, "email"), .role = cli_option(c, "role")};
    if (!change.name && !change.email && !change.role)
        return err_set(e, ERR_USAGE, "what shall change? try: --help");
    if (check_role(change.role, e) < 0 ||
        (change.role && rules_check_user(c, RIGHT_USER_ROLE, name, e) < 0) ||
        user_change(c->catalog, c->actor, name, &change, cli_option(c, "force"), e) < 0)
        return -1;
    if (change.role)
        warn_no_admin(c);
    return c->json ? print_query(c, QUERY_USER, name, e) : 0;
}

static int run_user_list(struct cli *c, struct err *e)
{
    return print_query(c, QUERY_USERS, NULL, e);
}

/* ---- remove --------------------------------------------------------------------------------------------------------- */

/* The images of the user that is to go, and their locks. */
struct removal {
    struct cli *c;
    struct store *store;
    struct image *images;
    int *locks;
    size_t count;
};

static int lock_images(struct removal *r, const char *owner, struct err *e)
{
    size_t count;
    if (images_all(r->c->catalog, &r->images, &count, e) < 0)
        return -1;
    r->locks = calloc(count + 1, sizeof *r->locks);
    if (!r->locks)
        return err_sys(e, ENOMEM, "images");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(r->images[i].owner, owner) != 0)
            continue;
        if (store_lock_image(r->store, &r->images[i].uuid, &r->locks[r->count], e) < 0)
            return err_wrap(e, "image %s", r->images[i].name);
        r->images[r->count++] = r->images[i];
    }
    return 0;
}

static int remove_user(struct removal *r, const char *name, bool force, struct err *e)
{
    size_t cancelled;
    if (lock_images(r, name, e) < 0 ||
        user_remove(r->c->catalog, r->c->actor, name, force, &cancelled, e) < 0)
        return -1;
    for (size_t i = 0; i < r->count; i++)
        cli_remove_image_files(r->c, r->store, &r->images[i]);
    if (cancelled)
        cli_warn(r->c, "%zu queued boot%s cancelled", cancelled, cancelled > 1 ? "s were" : " was");
    return 0;
}

static int run_user_remove(struct cli *c, struct err *e)
{
    struct removal r = {.c = c};
    if (store_open(c->conf.server.images_dir, 0, &r.store, e) < 0)
        return -1;
    int result = remove_user(&r, c->words[0], cli_option(c, "force"), e);
    for (size_t i = 0; i < r.count; i++)
        close(r.locks[i]);
    free(r.locks);
    free(r.images);
    store_close(r.store);
    if (result < 0)
        return -1;
    cli_render(c);
    if (cli_option(c, "force"))
        warn_no_admin(c);
    return c->json ? print_text("null\n", e) : 0;
}

const struct command user_commands[] = {
    {"user", "add", run_user_add, "NAME", 1, 1, NEEDS_CATALOG, RIGHT_ADMIN, "add a user", user_add_options},
    {"user", "list", run_user_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list all users", NULL},
    {"user", "show", run_user_show, "USER", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show a user", NULL},
    {"user", "set", run_user_set, "USER", 1, 1, NEEDS_CATALOG, RIGHT_USER_CHANGE, "change a user",
     user_set_options},
    {"user", "remove", run_user_remove, "USER", 1, 1, NEEDS_CATALOG, RIGHT_USER_ROLE,
     "remove a user with all its images and setups", user_remove_options},
    COMMANDS_END,
};
