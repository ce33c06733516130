/* SPDX-License-Identifier: BSD-3-Clause */
/* init, config, status: the server's own files and state. */
#include "cli/cli.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "nbd-plugin/counters.h"
#include "tftp-glue/render.h"

#include <stdio.h>

const struct option status_options[] = {
    {"watch", NULL, "print it again every two seconds, until interrupted", false},
    {NULL, NULL, NULL, false},
};

/* The list of what init made: lines, or one JSON array. */
struct made {
    bool json;
    size_t count;
    struct strbuf text;
};

static void note_made(struct made *m, const char *path)
{
    if (m->json) {
        strbuf_append(&m->text, m->count ? ", " : "");
        print_json_string(&m->text, path);
    } else {
        strbuf_appendf(&m->text, "%s\n", path);
    }
    m->count++;
}

static int make_folder(struct made *m, const char *path, mode_t mode, struct err *e)
{
    if (path_exists(path))
        return make_dirs(path, mode, e); /* says so when it is no folder */
    if (make_dirs(path, mode, e) < 0 || rights_give(path, e) < 0)
        return -1;
    note_made(m, path);
    return 0;
}

static int make_folders(const struct conf *conf, struct made *m, struct err *e)
{
    const struct {
        const char *path;
        mode_t mode;
    } folders[] = {
        {conf->server.state_dir, 0711},  {conf->server.images_dir, 0700}, {conf->server.overlays_dir, 0700},
        {conf->network.tftp_root, 0755}, {conf->server.run_dir, 0755},
    };
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
        if (make_folder(m, folders[i].path, folders[i].mode, e) < 0)
            return -1;
    return 0;
}

static int make_catalog(const struct conf *conf, struct made *m, struct err *e)
{
    cleanup(free) char *path = conf_catalog_path(conf);
    bool is_new = !path_exists(path);
    if (catalog_create(path, e) < 0)
        return -1;
    if (is_new)
        note_made(m, path);
    return 0;
}

int run_init(struct cli *c, struct err *e)
{
    struct made m = {.json = c->json, .text = STRBUF_INIT};
    int r = make_folders(&c->conf, &m, e) < 0 || rights_drop(e) < 0 || make_catalog(&c->conf, &m, e) < 0 ||
                    render_tree(&c->conf, e) < 0
                ? -1
                : 0;
    if (r == 0 && c->json)
        r = print_text("[", e) < 0 || print_text(strbuf_text(&m.text), e) < 0 ? -1 : print_text("]\n", e);
    else if (print_text(strbuf_text(&m.text), r < 0 ? &(struct err){0} : e) < 0) /* also before an error */
        r = -1;
    strbuf_release(&m.text);
    return r;
}

/* ---- config ----------------------------------------------------------------------------------------------------- */
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

int run_config_check(struct cli *c, struct err *e)
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

int run_config_show(struct cli *c, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    if (c->json)
        conf_show_json(&c->conf, &out);
    else
        conf_show(&c->conf, &out);
    return out.failed ? err_sys(e, ENOMEM, "configuration") : print_text(strbuf_text(&out), e);
}

int run_config_example(struct cli *c, struct err *e)
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

/* ---- status ----------------------------------------------------------------------------------------------------- */
#define WATCH_SECONDS 2

static int print_status(struct cli *c, struct err *e)
{
    cleanup(free) struct boot_counters *counters = NULL;
    size_t count = 0;
    if (cli_server_runs(&c->conf) && counters_read(&c->conf, &counters, &count, e) < 0)
        return -1;
    if (query_set_counters(c->catalog, counters, count, e) < 0)
        return -1;
    return print_query(c, QUERY_STATUS, NULL, e);
}

int run_status(struct cli *c, struct err *e)
{
    bool terminal = isatty(STDOUT_FILENO) && !c->json;
    if (!cli_option(c, "watch"))
        return print_status(c, e);
    for (;; sleep(WATCH_SECONDS)) {
        if ((terminal && print_text("\033[H\033[2J", e) < 0) || print_status(c, e) < 0)
            return -1;
        if (fflush(stdout) != 0)
            return err_sys(e, errno, "standard output");
    }
}
