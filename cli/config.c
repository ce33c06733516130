/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/tls.h"

#include "lib/base/fsutil.h"
#include "tftp-glue/render.h"

#include <string.h>
#include <time.h>

#define POLL_MS 50

struct mistakes {
    bool json;
    size_t count;
    struct strbuf text;
};

static void see_mistake(void *ctx, const char *line)
{
    struct mistakes *m = ctx;
    if (m->json) {
        strbuf_append(&m->text, m->count ? ", " : "");
        print_json_string(&m->text, line);
    } else {
        strbuf_appendf(&m->text, "%s\n", line);
    }
    m->count++;
}

/* Not a part of reading the file, which every command does: a certificate that is gone stops the server alone. */
static void check_tls(const char *path, const struct conf *conf, struct mistakes *m)
{
    struct err e;
    if (tls_find(conf, &e) == 0 || e.code != ERR_NOT_FOUND)
        return; /* who checks may not be who serves */
    unsigned given = conf_line(conf, "access", "tls-credentials");
    unsigned line = given ? given : conf_line(conf, "access", "tls");
    cleanup(free) char *text = path_format("%s:%u: tls-credentials: %s", path, line, e.msg);
    see_mistake(m, text);
}

static int print_mistakes(const struct mistakes *m, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    strbuf_appendf(&out, m->json ? "[%s]\n" : "%s", strbuf_text(&m->text));
    return print_text(strbuf_text(&out), e);
}

static int run_config_check(struct cli *c, struct err *e)
{
    const char *given = cli_option(c, "config"), *path = given ? given : conf_default_path();
    struct mistakes m = {.json = c->json, .text = STRBUF_INIT};
    struct conf conf;
    int r = conf_load(path, &conf, see_mistake, &m, e);
    if (r == 0) {
        check_tls(path, &conf, &m);
        conf_release(&conf);
    }
    struct err printing;
    if ((r == 0 || m.count) && print_mistakes(&m, &printing) < 0) {
        *e = printing;
        r = -1;
    } else if (m.count) {
        r = err_set(e, ERR_USAGE, "%s: %zu mistake%s", path, m.count, m.count == 1 ? "" : "s");
    }
    strbuf_release(&m.text);
    return r;
}

static int run_config_show(struct cli *c, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    if (c->json)
        conf_show_json(&c->conf, &out);
    else
        conf_show(&c->conf, &out);
    return out.failed ? err_sys(e, ENOMEM, "configuration") : print_text(strbuf_text(&out), e);
}

static int run_config_example(struct cli *c, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT, json = STRBUF_INIT;
    conf_example(&out);
    if (c->json) {
        print_json_string(&json, strbuf_text(&out));
        strbuf_append(&json, "\n");
    }
    if (out.failed || json.failed)
        return err_sys(e, ENOMEM, "configuration");
    return print_text(strbuf_text(c->json ? &json : &out), e);
}

/* ---- reload -------------------------------------------------------------------------------------------------- */

/* What the server answers, or "" where it has gone: the next one reads the file when it starts. */
static int wait_for_server(struct cli *c, int64_t request, struct request *ret, struct err *e)
{
    for (;;) {
        bool runs = cli_server_runs(&c->conf); /* before the look at what may have been its last deed */
        if (request_get(c->catalog, request, ret, e) < 0)
            return -1;
        if (ret->answered && ret->code)
            return err_set(e, ret->code, "the server goes on with what it has: %s", ret->answer);
        if (ret->answered || !runs)
            return 0;
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
}

static const char *restart_text(unsigned restart)
{
    static const char *const texts[] = {"", "labboot serve", "labboot dhcp", "labboot serve, labboot dhcp"};
    return texts[restart];
}

/* Appends one changed key to what is printed of all and of those that need a restart. */
static void add_changed(const struct cli *c, const char *key, struct strbuf *changed, struct strbuf *restart)
{
    unsigned need = conf_restart_of(key);
    strbuf_append(changed, changed->len ? ", " : "");
    if (c->json)
        print_json_string(changed, key);
    else
        strbuf_append(changed, key);
    if (!need)
        return;
    strbuf_append(restart, restart->len ? ", " : "");
    strbuf_appendf(restart, c->json ? "{\"Key\": \"%s\", \"Restart\": \"%s\"}" : "%s (%s)", key,
                   restart_text(need));
}

/* `answer`: the server's file, then a key a line. */
static int print_reload(const struct cli *c, char *answer, struct err *e)
{
    cleanup(strbuf) struct strbuf changed = STRBUF_INIT, restart = STRBUF_INIT, out = STRBUF_INIT;
    char *rest = NULL;
    const char *file = strtok_r(answer, "\n", &rest);
    if (file && strcmp(file, c->conf_path) != 0)
        cli_warn(c, "the server's configuration is another file: %s", file);
    for (const char *key; file && (key = strtok_r(NULL, "\n", &rest));)
        add_changed(c, key, &changed, &restart);
    if (c->json)
        strbuf_appendf(&out, "{\"Server\": %s, \"Changed\": [%s], \"Restart\": [%s]}\n",
                       file ? "true" : "false", strbuf_text(&changed), strbuf_text(&restart));
    else if (changed.len)
        strbuf_appendf(&out, "changed: %s\n", strbuf_text(&changed));
    else if (file)
        strbuf_append(&out, "no changes\n");
    if (!c->json && restart.len)
        strbuf_appendf(&out, "needs a restart: %s\n", strbuf_text(&restart));
    return out.failed ? err_sys(e, ENOMEM, "configuration") : print_text(strbuf_text(&out), e);
}

/* The file has been read, and has no mistakes, when a command runs. */
static int run_config_reload(struct cli *c, struct err *e)
{
    struct request answer = {.id = 0};
    int64_t request;
    if (reload_ask(c->catalog, c->actor, cli_server_runs(&c->conf), &request, e) < 0)
        return -1;
    if (request && wait_for_server(c, request, &answer, e) < 0)
        return -1;
    if (!answer.answered)
        cli_warn(c, "no server runs: it will read the file when it starts");
    if (render_tree(&c->conf, e) < 0)
        return -1;
    cli_render(c);
    return print_reload(c, answer.answer, e);
}

const struct command config_commands[] = {
    {"config", "check", run_config_check, "", 0, 0, 0, RIGHT_NONE,
     "report every mistake in the configuration", NULL},
    {"config", "show", run_config_show, "", 0, 0, NEEDS_CONF, RIGHT_NONE, "print the values in force", NULL},
    {"config", "example", run_config_example, "", 0, 0, 0, RIGHT_NONE,
     "print a commented configuration with all defaults", NULL},
    {"config", "reload", run_config_reload, "", 0, 0, NEEDS_CATALOG, RIGHT_ADMIN,
     "let the running server take over what changed", NULL},
    COMMANDS_END,
};
