/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/flatten.h"

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/store/retire.h"

#include <inttypes.h>
#include <string.h>

DEFINE_CLEANUP(build, struct build, build_free);

/* Under the image's lock. */
static int replace(struct publisher *p, const char *actor, const struct uuid *image, uint64_t version,
                   const struct uuid *old, struct build *b, const struct build_result *result, struct err *e)
{
    cleanup(close) int lock = -1;
    struct err left;
    if (store_lock_image(p->store, image, &lock, e) < 0)
        return -1;
    if (!guarded(p->guard, version_exists, image, version))
        return err_set(e, ERR_NOT_FOUND, "version %" PRIu64 " was removed meanwhile", version);
    if (build_replace(b, old, e) < 0 || guarded(p->guard, version_flattened, actor, image, version,
                                                &result->layer, result->file_length, e) < 0)
        return -1;
    if (store_drop_retired(p->store, image, old, &left) < 0)
        log_warning("%s; try: labboot gc", left.msg);
    return 0;
}

int flatten_version(struct publisher *p, const char *actor, const struct uuid *image, uint64_t version,
                    const struct flatten_options *o, struct err *e)
{
    struct view *v;
    struct build_result result;
    cleanup(build) struct build *b = NULL;
    if (view_open(p->store, image, version, &v, e) < 0)
        return -1;
    const struct uuid old = view_footer(v)->layer;
    bool done = flatten_is_done(v, o);
    int r = done ? 0 : flatten_build(p->store, v, o, &b, &result, e);
    view_close(v); /* else the old layer would count as in use */
    return r < 0 || done ? r : replace(p, actor, image, version, &old, b, &result, e);
}

/* ---- after a crash ------------------------------------------------------------------------------------------------ */

static int checksum_of(struct publisher *p, const struct uuid *image, uint64_t version,
                       uint8_t ret[CHECKSUM_SIZE], struct err *e)
{
    cleanup(free) struct version_row *rows = NULL;
    size_t count;
    if (guarded(p->guard, version_rows, image, &rows, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (rows[i].version == version)
            memcpy(ret, rows[i].checksum, CHECKSUM_SIZE);
    return 0;
}

static int settle(struct publisher *p, const struct uuid *image, const struct uuid *layer, struct err *e)
{
    cleanup(close) int lock = -1;
    struct uuid same;
    struct footer f;
    uint64_t version;
    uint8_t checksum[CHECKSUM_SIZE] = {0};
    if (store_lock_image(p->store, image, &lock, e) < 0)
        return -1;
    int r = guarded(p->guard, version_of_layer, layer, &same, &version, e);
    if (r <= 0 || !uuid_equal(&same, image))
        return r < 0 ? -1 : 0;
    if (checksum_of(p, image, version, checksum, e) < 0)
        return -1;
    r = flatten_settle(p->store, image, version, layer, checksum, &f, e);
    if (r <= 0)
        return r;
    if (guarded(p->guard, version_flattened, "server", image, version, &f.layer, f.file_length, e) < 0)
        return -1;
    return store_drop_retired(p->store, image, layer, e);
}

/* A layer that the catalog takes for a version is not retired. */
static int see_retired(void *ctx, const struct uuid *image, const struct uuid *layer, struct err *e)
{
    struct publisher *p = ctx;
    struct uuid of;
    uint64_t version;
    int r = guarded(p->guard, version_of_layer, layer, &of, &version, e);
    return r > 0 ? settle(p, image, layer, e) : r;
}

int flatten_recover(struct publisher *p, struct err *e)
{
    return store_each_retired(p->store, see_retired, p, e);
}
