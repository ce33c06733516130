/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "lib/base/fsutil.h"
#include "nbd-plugin/server-lock.h"
#include "tftp-glue/dhcp.h"
#include "tftp-glue/render.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>

static char *absolute(const char *path)
{
    if (path[0] == '/')
        return strdup(path);
    cleanup(free) char *cwd = getcwd(NULL, 0);
    return cwd ? path_format("%s/%s", cwd, path) : NULL;
}

bool cli_conf_given(const struct cli *c)
{
    const char *env = getenv("LABBOOT_CONFIG");
    return cli_option(c, "config") || (env && *env);
}

/* A missing file is an error only when it was asked for: else all defaults hold, as an empty file gives them. */
int cli_load_conf(struct cli *c, struct err *e)
{
    const char *given = cli_option(c, "config");
    c->conf_path = absolute(given ? given : conf_default_path());
    if (!c->conf_path)
        return err_sys(e, errno, "the current folder");
    int r = conf_load(c->conf_path, &c->conf, NULL, NULL, e);
    if (r < 0 && e->code == ERR_NOT_FOUND && !cli_conf_given(c)) {
        free(c->conf_path);
        c->conf_path = strdup("/dev/null");
        r = c->conf_path ? conf_defaults(&c->conf, e) : err_sys(e, ENOMEM, "configuration");
    }
    c->conf_loaded = r == 0;
    return r;
}

/* --as */
static int act_as(struct cli *c, struct err *e)
{
    const char *as = cli_option(c, "as");
    struct user user;
    snprintf(c->actor, sizeof c->actor, "%s", c->user);
    if (!as)
        return 0;
    if (c->role != ROLE_ADMIN)
        return err_set(e, ERR_DENIED, "--as needs the role admin");
    if (user_get(c->catalog, as, &user, e) < 0)
        return -1;
    snprintf(c->actor, sizeof c->actor, "%s as %s", c->user, user.username);
    memcpy(c->user, user.username, sizeof c->user);
    c->role = user.role;
    return 0;
}

int cli_open_catalog(struct cli *c, struct err *e)
{
    cleanup(free) char *path = conf_catalog_path(&c->conf);
    return catalog_open(path, CATALOG_FULL, &c->catalog, e);
}

static int enter(struct cli *c, int (*rights)(struct err *e), struct err *e)
{
    if (rights(e) < 0 || cli_open_catalog(c, e) < 0 || caller_role(c, e) < 0 || act_as(c, e) < 0)
        return -1;
    return rules_check_command(c, e);
}

int cli_enter(struct cli *c, struct err *e)
{
    return enter(c, rights_drop, e);
}

int cli_enter_for_now(struct cli *c, struct err *e)
{
    return enter(c, rights_lower, e);
}

int cli_check_admin(struct cli *c, struct err *e)
{
    struct err regaining;
    if (c->caller == CALLER_ADMIN && !cli_option(c, "as"))
        return 0;
    int r = cli_enter_for_now(c, e);
    catalog_close(c->catalog);
    c->catalog = NULL;
    if (rights_regain(&regaining) == 0 || r < 0)
        return r;
    *e = regaining;
    return -1;
}

void cli_release(struct cli *c)
{
    catalog_close(c->catalog);
    if (c->conf_loaded)
        conf_release(&c->conf);
    free(c->conf_path);
}

void cli_warn(const struct cli *c, const char *fmt, ...)
{
    if (c->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    fputs("labboot: warning: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

void cli_render(struct cli *c)
{
    struct err e;
    if (render_scripts(c->catalog, &c->conf, &e) < 0)
        cli_warn(c, "the machines' boot scripts are not up to date: %s", e.msg);
}

static bool is_locked(const char *path)
{
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

bool cli_server_runs(const struct conf *conf)
{
    return server_lock_holder(conf) == LOCK_SERVER;
}

bool cli_dhcp_runs(const struct conf *conf)
{
    cleanup(free) char *path = dhcp_lock_path(conf);
    return is_locked(path);
}

/* What cli_owner looks for in the list of users. */
struct owner {
    const char *caller;
    bool caller_exists;
    size_t admins;
    char admin[NAME_SIZE];
    int username, role; /* columns */
};

static int see_user(void *ctx, int count, const char *const *columns, const char *const *cells, struct err *e)
{
    struct owner *o = ctx;
    if (!cells) {
        for (int i = 0; i < count; i++) {
            if (strcmp(columns[i], "USER") == 0)
                o->username = i;
            if (strcmp(columns[i], "ROLE") == 0)
                o->role = i;
        }
        return 0;
    }
    if (o->username < 0 || o->role < 0)
        return err_set(e, ERR_FAILED, "the list of users lacks a column");
    if (strcmp(cells[o->username], o->caller) == 0)
        o->caller_exists = true;
    if (strcmp(cells[o->role], "admin") == 0 && o->admins++ == 0)
        snprintf(o->admin, sizeof o->admin, "%s", cells[o->username]);
    return 0;
}

int cli_owner(struct cli *c, const char *given, char ret[NAME_SIZE], struct err *e)
{
    struct owner o = {.caller = given ? given : c->user, .username = -1, .role = -1};
    if (given && parse_name("user", given, e) < 0)
        return -1;
    if (query_rows(c->catalog, QUERY_USERS, NULL, see_user, &o, e) < 0)
        return -1;
    if (!o.caller_exists && given)
        return err_set(e, ERR_NOT_FOUND, "there is no user '%s'; try: labboot user add", given);
    if (!o.caller_exists && o.admins != 1)
        return err_set(e, ERR_USAGE, "whose shall it be? try: --owner USER");
    snprintf(ret, NAME_SIZE, "%s", o.caller_exists ? o.caller : o.admin);
    return 0;
}

int cli_find_boot(struct cli *c, const char *text, struct boot *ret, struct err *e)
{
    uint64_t id;
    struct machine m;
    if (parse_number(text, 1, INT64_MAX, &id, e) == 0) {
        if (boot_get(c->catalog, (int64_t)id, ret, e) == 0)
            return 0;
        if (e->code != ERR_NOT_FOUND)
            return -1;
        /* A machine's name or MAC may be all digits. */
        if (machine_find(c->catalog, text, &m, e) < 0)
            return err_set(e, ERR_NOT_FOUND, "there is no boot '%s'; try: labboot boot list", text);
    } else if (machine_find(c->catalog, text, &m, e) < 0) {
        return -1;
    }
    return boot_last(c->catalog, &m.mac, ret, e);
}

int cli_check_word(const char *what, const char *text, const char *const *allowed, struct err *e)
{
    cleanup(strbuf) struct strbuf words = STRBUF_INIT, shown = STRBUF_INIT;
    for (size_t i = 0; allowed[i]; i++) {
        if (strcmp(text, allowed[i]) == 0)
            return 0;
        strbuf_appendf(&words, "%s %s", i ? "," : "", allowed[i]);
    }
    strbuf_append_escaped(&shown, text, strnlen(text, 60));
    return err_set(e, ERR_USAGE, "%s: '%s' is not one of:%s", what, strbuf_text(&shown), strbuf_text(&words));
}

int cli_check_image_name(const char *name, struct err *e)
{
    if (parse_name("image", name, e) < 0)
        return -1;
    if (strcmp(name, "done") == 0 || strcmp(name, "machine") == 0)
        return err_set(e, ERR_USAGE,
                       "'%s' cannot be an image's name: exports of that name mean something else", name);
    return 0;
}
