/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

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

const struct command user_commands[] = {
    {"user", "add", run_user_add, "NAME", 1, 1, NEEDS_CATALOG, RIGHT_ADMIN, "add a user", user_add_options},
    {"user", "list", run_user_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list all users", NULL},
    {"user", "show", run_user_show, "NAME", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show a user", NULL},
    {"user", "set", run_user_set, "NAME", 1, 1, NEEDS_CATALOG, RIGHT_USER_CHANGE, "change a user",
     user_set_options},
    COMMANDS_END,
};
