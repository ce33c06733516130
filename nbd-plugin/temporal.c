/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/temporal.h"

#include <stdlib.h>

struct temporal_overlay {
    int64_t id;
    struct overlay *overlay;
    size_t refs;
    struct temporal_overlay *next;
};

/* `meta` NULL: open what is there. `lock` is held. */
static int add(struct temporals *t, int64_t id, const char *dir, const struct overlay_meta *meta,
               const struct overlay_limits *limits, struct overlay **ret, struct err *e)
{
    struct temporal_overlay *o = malloc(sizeof *o);
    if (!o)
        return err_set(e, ERR_FAILED, "out of memory");
    *o = (struct temporal_overlay){.id = id, .refs = 1, .next = t->first};
    int r =
        meta ? overlay_create(dir, meta, limits, &o->overlay, e) : overlay_open(dir, limits, &o->overlay, e);
    if (r < 0) {
        free(o);
        return -1;
    }
    t->first = o;
    *ret = o->overlay;
    return 0;
}

static int share_or_add(struct temporals *t, int64_t id, const char *dir, const struct overlay_meta *meta,
                        const struct overlay_limits *limits, struct overlay **ret, struct err *e)
{
    int r = 0;
    pthread_mutex_lock(&t->lock);
    struct temporal_overlay *o = t->first;
    while (o && o->id != id)
        o = o->next;
    if (o) {
        o->refs++;
        *ret = o->overlay;
    } else {
        r = add(t, id, dir, meta, limits, ret, e);
    }
    pthread_mutex_unlock(&t->lock);
    return r;
}

int temporal_open(struct temporals *t, int64_t id, const char *dir, const struct overlay_limits *limits,
                  struct overlay **ret, struct err *e)
{
    return share_or_add(t, id, dir, NULL, limits, ret, e);
}

int temporal_create(struct temporals *t, int64_t id, const char *dir, const struct overlay_meta *meta,
                    const struct overlay_limits *limits, struct overlay **ret, struct err *e)
{
    return share_or_add(t, id, dir, meta, limits, ret, e);
}

void temporal_close(struct temporals *t, struct overlay *overlay)
{
    if (!overlay)
        return;
    pthread_mutex_lock(&t->lock);
    struct temporal_overlay **at = &t->first;
    while ((*at)->overlay != overlay)
        at = &(*at)->next;
    struct temporal_overlay *o = *at;
    if (--o->refs == 0) {
        *at = o->next;
        overlay_close(o->overlay);
        free(o);
    }
    pthread_mutex_unlock(&t->lock);
}
