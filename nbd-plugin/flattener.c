/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/flattener.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/store/layer.h"
#include "nbd-plugin/background.h"
#include "nbd-plugin/flatten.h"

#include <inttypes.h>
#include <stdlib.h>

#define LOOK_MILLISECONDS 10000 /* whether the catalog has changed */
#define AGAIN_LOOKS 360         /* after which all images are looked at all the same */

struct flattener {
    struct background background;
    uint64_t seen; /* the sum of what `latest` meant for each image */
};

static struct server *server_of(const struct flattener *f)
{
    return f->background.server;
}

static uint64_t depth_wanted(const struct flattener *f)
{
    return server_conf(server_of(f))->store.flatten_depth;
}

static bool goes_on(void *ctx, uint64_t done, uint64_t total)
{
    const struct flattener *f = ctx;
    (void)done;
    (void)total;
    return !f->background.stopping && depth_wanted(f) > 0;
}

/* Upon how many versions it stands. */
static int depth_of(struct flattener *f, const struct image *image, uint64_t *ret, struct err *e)
{
    struct view *v;
    if (view_open(f->background.store, &image->uuid, image->head, &v, e) < 0)
        return -1;
    *ret = view_footer(v)->table_length / TABLE_ENTRY_SIZE;
    view_close(v);
    return 0;
}

static int flatten_image(struct flattener *f, const struct image *image, struct err *e)
{
    const struct conf *conf = server_conf(server_of(f));
    struct publisher p = server_publisher(server_of(f));
    const struct flatten_options o = {.compression =
                                          compression_of(image->compression, conf->store.zstd_level),
                                      .threads = 1,
                                      .reserve = conf->store.reserve,
                                      .progress = {.report = goes_on, .ctx = f}};
    uint64_t depth;
    if (depth_of(f, image, &depth, e) < 0)
        return -1;
    if (depth < depth_wanted(f))
        return 0;
    p.store = f->background.store;
    if (flatten_version(&p, "server", &image->uuid, image->head, &o, e) < 0)
        return -1;
    log_info("image %s/%s@%" PRIu64 " stood upon %" PRIu64 " versions, and needs none of them any more",
             image->owner, image->name, image->head, depth);
    return 0;
}

static void flatten_deep(struct flattener *f, const struct image *images, size_t count)
{
    struct err e;
    for (size_t i = 0; i < count && goes_on(f, 0, 0); i++)
        if (images[i].head && flatten_image(f, &images[i], &e) < 0 && goes_on(f, 0, 0))
            log_error("image %s/%s@%" PRIu64 " cannot be written anew: %s; try: labboot image verify %s/%s",
                      images[i].owner, images[i].name, images[i].head, e.msg, images[i].owner,
                      images[i].name);
}

static void look(struct flattener *f, bool all)
{
    cleanup(free) struct image *images = NULL;
    size_t count;
    struct err e;
    uint64_t sum = depth_wanted(f);
    if (guarded(&server_of(f)->guard, images_all, &images, &count, &e) < 0) {
        log_error("images: %s", e.msg);
        return;
    }
    for (size_t i = 0; i < count; i++)
        sum += images[i].head;
    if (sum != f->seen || all)
        flatten_deep(f, images, count);
    f->seen = sum;
}

static void flattener_main(void *arg)
{
    struct flattener *f = arg;
    for (unsigned looks = 0; !f->background.stopping; looks++) {
        if (depth_wanted(f) > 0)
            look(f, looks % AGAIN_LOOKS == 0);
        background_rest(&f->background, LOOK_MILLISECONDS);
    }
}

int flattener_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct flattener **ret,
                    struct err *e)
{
    struct flattener *new = calloc(1, sizeof *new);
    if (!new)
        return err_set(e, ERR_FAILED, "out of memory");
    if (background_start(&new->background, s, sleep, flattener_main, new, e) < 0) {
        free(new);
        return -1;
    }
    *ret = new;
    return 0;
}

void flattener_stop(struct flattener *f)
{
    if (!f)
        return;
    background_stop(&f->background);
    free(f);
}
