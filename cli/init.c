/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "tftp-glue/render.h"

#include <stdio.h>

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

struct init_folder init_folder(const struct conf *conf, size_t i)
{
    const struct init_folder folders[INIT_FOLDERS] = {
        {conf->server.state_dir, 0711},  {conf->server.images_dir, 0700}, {conf->server.overlays_dir, 0700},
        {conf->network.tftp_root, 0755}, {conf->server.run_dir, 0755},
    };
    return folders[i];
}

static int make_folders(const struct conf *conf, struct made *m, struct err *e)
{
    for (size_t i = 0; i < INIT_FOLDERS; i++) {
        const struct init_folder f = init_folder(conf, i);
        if (make_folder(m, f.path, f.mode, e) < 0)
            return -1;
    }
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

static int run_init(struct cli *c, struct err *e)
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

const struct command init_commands[] = {
    {"init", NULL, run_init, "", 0, 0, NEEDS_CONF, RIGHT_ADMIN,
     "make the folders and the catalog; safe to repeat", NULL},
    COMMANDS_END,
};
