/* SPDX-License-Identifier: BSD-3-Clause */
/* An interrupted boot goes on: interrupted -> queued, or -> running where its machine was merely away. All that is done before
 * the catalog says so can be done again, and a commit or discard in its place finds the overlays as good as before. */
#include "nbd-plugin/publish.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"

#include <inttypes.h>
#include <string.h>

DEFINE_CLEANUP(overlay, struct overlay, overlay_close);

/* What is thrown away in the end anyway does not hold the rest back: a scratch disk that did not survive the host's restart
 * starts afresh. */
static int drop_scratch(const struct boot *b, size_t n, const char *dir, struct err *e)
{
    if (e->code != ERR_CORRUPT || b->images[n].keep)
        return -1;
    log_warning("boot %" PRId64 ": image %s starts afresh: %s", b->id, b->images[n].name, e->msg);
    return overlay_remove(dir, e);
}

int publish_check_not_begun(struct publisher *p, const struct boot *b, size_t n, struct overlay *o,
                            struct err *e)
{
    uint64_t version;
    const struct boot_image *i = &b->images[n];
    if (store_find_by_overlay(p->store, &i->image, &overlay_meta(o)->overlay, &version, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    return err_set(e, ERR_STATE,
                   "its commit had begun, and has written version %" PRIu64
                   "; try: labboot boot commit %" PRId64,
                   version, b->id);
}

/* Each overlay that the boot has, closed again after `visit`. running: its machine has all of them mounted. */
static int each_overlay(struct publisher *p, const struct boot *b, bool running,
                        int (*visit)(struct publisher *p, const struct boot *b, size_t n, struct overlay *o,
                                     struct err *e),
                        struct err *e)
{
    for (size_t n = 0; n < b->nimages; n++) {
        cleanup(free) char *dir = conf_overlay_dir(p->conf, b->id, n);
        cleanup(overlay) struct overlay *o = NULL;
        if (publish_open_overlay(p->conf, dir, &o, e) < 0 && (running || drop_scratch(b, n, dir, e) < 0))
            return err_wrap(e, "image %s", b->images[n].name);
        if (o && visit(p, b, n, o, e) < 0)
            return err_wrap(e, "image %s", b->images[n].name);
    }
    return 0;
}

static int unseal(struct publisher *p, const struct boot *b, size_t n, struct overlay *o, struct err *e)
{
    (void)p, (void)b, (void)n;
    return overlay_unseal(o, e);
}

/* 1: extracted; 0: the image was not written to, or has no kernel that can be read. */
static int extract_from(struct publisher *p, const struct boot *b, size_t n, struct err *e)
{
    struct overlay_meta meta;
    const struct boot_image *i = &b->images[n];
    cleanup(free) char *dir = conf_overlay_dir(p->conf, b->id, n);
    if (overlay_read_meta(dir, &meta, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    if (p->hooks.kernel_of_overlay(p->conf, b->id, &i->image, i->version, dir, e) == 0)
        return 1;
    if (e->code != ERR_NOT_FOUND && e->code != ERR_CORRUPT)
        return -1;
    log_info("boot %" PRId64 " goes on with the kernel of a version: image %s: %s", b->id, i->name, e->msg);
    return 0;
}

/* The machine may have got a new kernel, and have lost the modules of the old one. A file system that was not unmounted may
 * not be readable without its journal: then the kernel of the version that it stands on has to do. */
static int extract_kernel(struct publisher *p, const struct boot *b, struct err *e)
{
    int got = 0;
    for (size_t n = 0; n < b->nimages && got == 0; n++)
        if (n == 0 || strcmp(b->images[n].type, "boot") == 0)
            got = extract_from(p, b, n, e);
    return got < 0 ? -1 : 0;
}

int publish_resume(struct publisher *p, int64_t boot, const char *actor, struct err *e)
{
    struct boot b;
    if (guarded(p->guard, boot_resumable, boot, &b, e) < 0)
        return -1;
    if (p->hooks.remove_kernel(p->conf, boot, e) < 0 ||
        each_overlay(p, &b, false, publish_check_not_begun, e) < 0 || extract_kernel(p, &b, e) < 0 ||
        each_overlay(p, &b, false, unseal, e) < 0)
        return err_wrap(e, "boot %" PRId64, boot);
    return guarded(p->guard, boot_resume, actor, boot, e);
}

int publish_return(struct publisher *p, struct boot *b, const char *address, struct err *e)
{
    if (b->state == BOOT_INTERRUPTED &&
        (each_overlay(p, b, true, publish_check_not_begun, e) < 0 || each_overlay(p, b, true, unseal, e) < 0))
        return err_wrap(e, "boot %" PRId64, b->id);
    return guarded(p->guard, boot_return, &b->machine, b->token, address, b, e);
}
