/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/prefetch.h"

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/store/hot.h"

#include <inttypes.h>
#include <string.h>

/* For the cache this is a session like a machine's: what it brings in and a machine then reads is what others will want
 * too. */
#define SESSION UINT64_MAX

struct prefetch {
    struct server *server;
    struct uuid image;
    uint64_t version;
};

/* Half of the cache at the most: the machines that run have the rest. */
static uint64_t budget(const struct conf *conf)
{
    return min_u64(conf->store.prefetch, conf->store.cache_memory / 2);
}

/* What cannot be read is told by who needs it. */
static void read_chunks(struct server *s, struct view *v, const struct hot_list *list)
{
    const struct footer *f = view_footer(v);
    const uint64_t chunk = UINT64_C(1) << f->chunk_shift;
    struct err ignored;
    uint64_t left = budget(server_conf(s));
    for (size_t i = 0; i < list->count && left >= chunk && !s->stopping; i++, left -= chunk) {
        uint64_t offset = list->chunks[i] * chunk;
        if (view_prefetch(v, SESSION, offset, min_u64(chunk, f->virtual_size - offset), &ignored) < 0)
            return;
    }
}

static void run(void *arg)
{
    cleanup(free) struct prefetch *p = arg;
    struct server *s = p->server;
    struct hot_list list = {0};
    struct view *v;
    struct err e;
    if (s->stopping || view_open(s->store, &p->image, p->version, &v, &e) < 0)
        return;
    if (hot_load(s->store, v, &list, &e) == 0)
        read_chunks(s, v, &list);
    free(list.chunks);
    view_close(v);
}

void prefetch_boot(struct server *s, struct session *session)
{
    if (budget(server_conf(s)) == 0)
        return;
    for (size_t n = 0; n < session->ndisks; n++) {
        struct prefetch *p = malloc(sizeof *p);
        if (!p)
            return;
        const struct boot_image *i = &session->boot.images[n];
        *p = (struct prefetch){.server = s, .image = i->image, .version = i->version};
        jobs_add(s->prefetches, run, p);
    }
}
