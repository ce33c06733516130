/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

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
    if (r == 0)
        conf_release(&conf);
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

const struct command config_commands[] = {
    {"config", "check", run_config_check, "", 0, 0, 0, RIGHT_NONE,
     "report every mistake in the configuration", NULL},
    {"config", "show", run_config_show, "", 0, 0, NEEDS_CONF, RIGHT_NONE, "print the values in force", NULL},
    {"config", "example", run_config_example, "", 0, 0, 0, RIGHT_NONE,
     "print a commented configuration with all defaults", NULL},
    COMMANDS_END,
};
