/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of exports: what the caller may open, and nothing else. */
#include "lib/base/cleanup.h"
#include "nbd-plugin/handle.h"

#include <inttypes.h>
#include <string.h>

struct list {
    int (*add)(void *ctx, const char *name, const char *description);
    void *ctx;
};

static int add(const struct list *l, const char *name, const char *description, struct err *e)
{
    return l->add(l->ctx, name, description) < 0 ? err_set(e, ERR_FAILED, "list exports: refused by nbdkit")
                                                 : 0;
}

static int list_boot(const struct list *l, const struct boot *b, struct err *e)
{
    char mac[MAC_TEXT_SIZE], name[MAC_TEXT_SIZE + NAME_SIZE], description[200];
    mac_format_dashes(&b->machine, mac);
    for (size_t i = 0; i < b->nimages; i++) {
        const struct boot_image *image = &b->images[i];
        snprintf(description, sizeof description, "machine %s, boot %" PRId64 ": %s@%" PRIu64,
                 b->machine_name, b->id, image->name, image->version);
        snprintf(name, sizeof name, "%s/%s", mac, image->name);
        if ((i == 0 && add(l, mac, description, e) < 0) || add(l, name, description, e) < 0)
            return -1;
    }
    snprintf(name, sizeof name, "%s/machine", mac);
    snprintf(description, sizeof description, "machine %s, boot %" PRId64 ": its own disk", b->machine_name,
             b->id);
    return add(l, name, description, e);
}

/* The exports of what runs, or of what would run. A machine without either has none. */
static int list_machine(struct server *s, const struct list *l, const struct machine *m, struct err *e)
{
    struct boot b;
    if (!m->managed)
        return 0;
    int r = guarded(&s->guard, boot_running, &m->mac, &b, e);
    if (r < 0 && e->code == ERR_NOT_FOUND)
        r = guarded(&s->guard, boot_next, &m->mac, &b, e);
    if (r < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    return list_boot(l, &b, e);
}

static int list_images(struct server *s, const struct list *l, struct err *e)
{
    cleanup(free) struct image *images = NULL;
    size_t count;
    if (guarded(&s->guard, images_all, &images, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char name[2 * NAME_SIZE + 8], description[64];
        if (images[i].head == 0)
            continue;
        snprintf(name, sizeof name, "image/%s/%s", images[i].owner, images[i].name);
        snprintf(description, sizeof description, "version %" PRIu64 ", read-only", images[i].head);
        if (add(l, name, description, e) < 0)
            return -1;
    }
    return 0;
}

static int list_all(struct server *s, const struct list *l, struct err *e)
{
    cleanup(free) struct machine *machines = NULL;
    size_t count;
    if (guarded(&s->guard, machines_all, &machines, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (list_machine(s, l, &machines[i], e) < 0)
            return -1;
    return list_images(s, l, e);
}

int exports_list(struct server *s, const struct peer *peer,
                 int (*add_one)(void *ctx, const char *name, const char *description), void *ctx,
                 struct err *e)
{
    struct list l = {.add = add_one, .ctx = ctx};
    struct machine m;
    if (access_check_tls(server_conf(s), peer, e) < 0)
        return -1;
    if (peer_is_admin(server_conf(s), peer))
        return list_all(s, &l, e);
    if (access_caller(server_conf(s), &s->guard, peer, &m, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    return list_machine(s, &l, &m, e);
}
