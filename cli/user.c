/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

static const struct option user_add_options[] = {
    {"email", "ADDRESS", "must be given", false},
    {"name", "TEXT", "the full name", false},
    {"role", "ROLE", "user, moderator or admin; default: user", false},
    {NULL, NULL, NULL, false},
};

static int print_user(struct cli *c, const char *name, const char *role, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    if (c->json) {
        const char *full = cli_option(c, "name");
        strbuf_append(&out, "{\"Username\": ");
        print_json_string(&out, c->words[0]);
        strbuf_append(&out, ", \"Name\": ");
        print_json_string(&out, full ? full : "");
        strbuf_append(&out, ", \"Email\": ");
        print_json_string(&out, cli_option(c, "email"));
        strbuf_appendf(&out, ", \"Role\": \"%s\"}", role);
    } else {
        strbuf_append(&out, name);
    }
    strbuf_append(&out, "\n");
    return out.failed ? err_sys(e, ENOMEM, "user") : print_text(strbuf_text(&out), e);
}

static int run_user_add(struct cli *c, struct err *e)
{
    static const char *const roles[] = {"user", "moderator", "admin", NULL};
    const char *name = c->words[0], *email = cli_option(c, "email"), *role = cli_option(c, "role");
    if (parse_name("user", name, e) < 0)
        return -1;
    if (!email)
        return err_set(e, ERR_USAGE, "user %s needs an email address; try: --email ADDRESS", name);
    if (!role)
        role = "user";
    if (cli_check_word("--role", role, roles, e) < 0 ||
        user_add(c->catalog, c->actor, name, cli_option(c, "name"), email, role, e) < 0)
        return -1;
    return print_user(c, name, role, e);
}

static int run_user_list(struct cli *c, struct err *e)
{
    return print_query(c, QUERY_USERS, NULL, e);
}

const struct command user_commands[] = {
    {"user", "add", run_user_add, "NAME", 1, 1, NEEDS_CATALOG, RIGHT_ADMIN, "add a user", user_add_options},
    {"user", "list", run_user_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list all users", NULL},
    COMMANDS_END,
};
