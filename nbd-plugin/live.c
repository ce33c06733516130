/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/live.h"

#include <stdlib.h>

/* Takes what *conf owns. */
static int put(struct live *l, struct conf *conf, struct err *e)
{
    struct reading *r = malloc(sizeof *r);
    if (!r) {
        conf_release(conf);
        return err_set(e, ERR_FAILED, "out of memory");
    }
    *r = (struct reading){.conf = *conf, .before = atomic_load(&l->now)};
    atomic_store(&l->now, r);
    return 0;
}

int live_init(struct live *l, const char *path, struct err *e)
{
    struct conf conf;
    *l = (struct live){.path = path};
    return conf_load(path, &conf, NULL, NULL, e) < 0 ? -1 : put(l, &conf, e);
}

void live_release(struct live *l)
{
    for (struct reading *r = atomic_exchange(&l->now, NULL), *before; r; r = before) {
        before = r->before;
        conf_release(&r->conf);
        free(r);
    }
}

const struct conf *live_conf(const struct live *l)
{
    return &atomic_load(&l->now)->conf;
}

struct difference {
    struct strbuf *out;
    bool changes;
};

static void differs(void *ctx, const char *name, unsigned restart)
{
    struct difference *d = ctx;
    strbuf_appendf(d->out, "%s\n", name);
    d->changes |= !(restart & CONF_RESTART_SERVE);
}

int live_reload(struct live *l, struct strbuf *out, bool *ret_changed, struct err *e)
{
    struct conf file, made;
    struct difference d = {.out = out};
    if (conf_load(l->path, &file, NULL, NULL, e) < 0)
        return -1;
    conf_compare(live_conf(l), &file, differs, &d);
    int r = d.changes ? conf_take_over(live_conf(l), &file, &made, e) : 0;
    conf_release(&file);
    if (r < 0 || (d.changes && put(l, &made, e) < 0))
        return -1;
    *ret_changed = d.changes;
    return 0;
}
