/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/retention.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/store/alone.h"
#include "lib/store/retire.h"

#include <inttypes.h>

/* A file that stays is rubbish, and no reason to fail. */
static void remove_files(struct publisher *p, const struct uuid *image, const struct version_file *gone)
{
    struct err e;
    if (p->hooks.remove_version_kernel(p->conf, image, gone->version, &e) < 0 ||
        store_retire_layer(p->store, image, gone->version, &gone->layer, &e) < 0)
        log_warning("version %" PRIu64 " is removed, but not all of its files: %s; try: labboot gc",
                    gone->version, e.msg);
}

int retention_image(struct publisher *p, const char *actor, const struct uuid *image, uint64_t last,
                    uint64_t days, bool dry_run, struct version_file **ret, size_t *ret_count, struct err *e)
{
    cleanup(close) int lock = -1;
    if (store_lock_image(p->store, image, &lock, e) < 0 ||
        guarded(p->guard, image_keep, actor, image, last, days, dry_run, ret, ret_count, e) < 0)
        return -1;
    /* The youngest first: what no other one names then can go at once. */
    for (size_t i = *ret_count; i-- > 0 && !dry_run;)
        remove_files(p, image, &(*ret)[i]);
    return 0;
}

/* ---- by the configuration ----------------------------------------------------------------------------------------- */

static uint64_t bytes_of(const struct version_alone *list, size_t count, uint64_t version)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].version == version && list[i].known)
            return list[i].bytes;
    return 0;
}

static int offer(struct publisher *p, const struct image *image, const struct version_file *old, size_t nold,
                 const struct rubbish_sink *sink, struct err *e)
{
    cleanup(free) struct version_file *all = NULL;
    size_t count;
    int answer = 0;
    if (guarded(p->guard, versions_of, &image->uuid, &all, &count, e) < 0)
        return -1;
    cleanup(free) struct version_alone *alone = calloc(count + 1, sizeof *alone);
    if (!alone)
        return err_sys(e, ENOMEM, "versions");
    for (size_t i = 0; i < count; i++)
        alone[i].version = all[i].version;
    store_alone(p->store, &image->uuid, alone, count);
    for (size_t i = 0; i < nold && answer >= 0; i++) {
        cleanup(free) char *object =
            path_format("image %s/%s@%" PRIu64, image->owner, image->name, old[i].version);
        const struct rubbish r = {.code = "old-version",
                                  .object = object,
                                  .bytes = bytes_of(alone, count, old[i].version),
                                  .text = "it is older than [store] keep-versions and keep-days"};
        answer = sink->found(sink->ctx, &r, e);
    }
    return answer;
}

/* Looked at without the image's lock first: most have nothing to go. */
static int keep_image(struct publisher *p, const char *actor, const struct image *image,
                      const struct rubbish_sink *sink, struct err *e)
{
    cleanup(free) struct version_file *old = NULL;
    cleanup(free) struct version_file *gone = NULL;
    size_t count;
    /* Without a number the newest stays all the same. */
    uint64_t last = max_u64(p->conf->store.keep_versions, 1), days = p->conf->store.keep_days;
    if (guarded(p->guard, image_keep, actor, &image->uuid, last, days, true, &old, &count, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    if (count == 0)
        return 0;
    int answer = sink ? offer(p, image, old, count, sink, e) : 1;
    if (answer <= 0)
        return answer;
    if (retention_image(p, actor, &image->uuid, last, days, false, &gone, &count, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : err_wrap(e, "image %s/%s", image->owner, image->name);
    return 0;
}

int retention_all(struct publisher *p, const char *actor, const struct rubbish_sink *sink, struct err *e)
{
    cleanup(free) struct image *images = NULL;
    size_t count;
    if (p->conf->store.keep_versions == 0 && p->conf->store.keep_days == 0)
        return 0;
    if (guarded(p->guard, images_all, &images, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count && !(p->stopping && *p->stopping); i++)
        if (keep_image(p, actor, &images[i], sink, e) < 0)
            return -1;
    return 0;
}
