/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/takeover.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

DEFINE_CLEANUP(overlay, struct overlay, overlay_close);

/* ---- what there is --------------------------------------------------------------------------------------------------- */

static int check_base(const struct boot_image *i, const struct overlay *o, struct err *e)
{
    const struct overlay_meta *m = overlay_meta(o);
    if (uuid_equal(&m->image, &i->image) && m->base_version == i->version)
        return 0;
    return err_set(e, ERR_CORRUPT, "it belongs to another version than %" PRIu64, i->version);
}

/* 1: it can be written to now; 0: there is none, or it is left to an admin. */
static int prepare_overlay(struct publisher *p, const struct boot *from, size_t n, struct err *e)
{
    cleanup(free) char *dir = conf_overlay_dir(p->conf, from->id, n);
    cleanup(overlay) struct overlay *o = NULL;
    int r = publish_open_overlay(p->conf, dir, &o, e);
    if (r == 0 && !o)
        return 0;
    if (r == 0 && check_base(&from->images[n], o, e) == 0 && publish_check_not_begun(p, from, n, o, e) == 0 &&
        overlay_unseal(o, e) == 0)
        return 1;
    if ((e->code != ERR_CORRUPT && e->code != ERR_STATE) || e->sys == EBUSY)
        return -1;
    log_warning("what boot %" PRId64 " of %s has written to %s stays there: %s", from->id, from->machine_name,
                from->images[n].name, e->msg);
    return 0;
}

static bool waits_in(const struct boot_image *i, const struct boot_image *there)
{
    return there->keep && !there->result && uuid_equal(&there->image, &i->image) &&
           there->version == i->version;
}

/* The newest one, of those that the machine has. */
static int prepare_image(struct publisher *p, const struct boot *b, const struct boot_image *i,
                         const struct boot *interrupted, size_t count, struct takeover *list, size_t *at,
                         struct err *e)
{
    for (size_t k = count; k-- > 0;) {
        const struct boot *from = &interrupted[k];
        for (size_t n = 0; n < from->nimages && mac_equal(&from->machine, &b->machine); n++) {
            int r = waits_in(i, &from->images[n]) ? prepare_overlay(p, from, n, e) : 0;
            if (r > 0)
                list[(*at)++] = (struct takeover){
                    .boot = from->id, .position = n, .image = i->image, .version = i->version};
            if (r != 0)
                return r < 0 ? err_wrap(e, "boot %" PRId64 ": image %s", from->id, i->name) : 0;
        }
    }
    return 0;
}

static bool is_users(const struct boot_image *i)
{
    return i->keep && strcmp(i->type, "user") == 0;
}

static int prepare_all(struct publisher *p, const struct boot *b, struct takeover *list, size_t *at,
                       struct err *e)
{
    cleanup(free) struct boot *interrupted = NULL;
    size_t count;
    if (guarded(p->guard, boots_in_state, BOOT_INTERRUPTED, &interrupted, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < b->nimages; i++)
        if (is_users(&b->images[i]) &&
            prepare_image(p, b, &b->images[i], interrupted, count, list, at, e) < 0)
            return -1;
    return 0;
}

/* 1: it has data of a user's, and no overlays yet; 0: not, or there is none: what is wrong the lease says. */
static int next_boot(struct publisher *p, const struct mac *machine, const char *token, struct boot *ret,
                     struct err *e)
{
    enum token_state state;
    int r = token ? guarded(p->guard, boot_by_token, token, ret, &state, e)
                  : guarded(p->guard, boot_next, machine, ret, e);
    if (r < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    bool has = false;
    for (size_t i = 0; i < ret->nimages; i++)
        has |= is_users(&ret->images[i]);
    return has && ret->state == BOOT_QUEUED && !ret->resumed && mac_equal(&ret->machine, machine);
}

int takeover_prepare(struct publisher *p, const struct mac *machine, const char *token,
                     struct takeover ret[SETUP_IMAGES_MAX], size_t *ret_count, struct err *e)
{
    struct boot b;
    size_t count = 0;
    int next = next_boot(p, machine, token, &b, e);
    if (next < 0 || (next > 0 && prepare_all(p, &b, ret, &count, e) < 0))
        return -1;
    *ret_count = count;
    return 0;
}

/* ---- the move -------------------------------------------------------------------------------------------------------- */

static int move_overlay(struct publisher *p, const struct boot *b, size_t n, struct err *e)
{
    const struct boot_image *i = &b->images[n];
    const char *all = p->conf->server.overlays_dir;
    cleanup(free) char *from_boot = path_format("%s/%" PRId64, all, i->follows);
    cleanup(free) char *to_boot = path_format("%s/%" PRId64, all, b->id);
    cleanup(free) char *from = conf_overlay_dir(p->conf, i->follows, i->follows_position);
    cleanup(free) char *to = conf_overlay_dir(p->conf, b->id, n);
    if (path_exists(to))
        return 0;
    if (make_dirs(to_boot, 0700, e) < 0 || fsync_dir(all, e) < 0)
        return -1;
    if (rename(from, to) < 0)
        return err_sys(e, errno, "%s", from);
    return fsync_dir(to_boot, e) < 0 ? -1 : fsync_dir(from_boot, e);
}

/* Written, that is. */
static bool has_more_to_keep(const struct publisher *p, const struct boot *from)
{
    bool more = false;
    for (size_t n = 0; n < from->nimages; n++) {
        cleanup(free) char *dir = conf_overlay_dir(p->conf, from->id, n);
        more |= from->images[n].keep && path_exists(dir);
    }
    return more;
}

/* Nothing to do when that is done already. */
static int hand_over(struct publisher *p, const struct boot *b, size_t n, struct err *e)
{
    struct boot from;
    struct err left;
    const struct boot_image *i = &b->images[n];
    if (guarded(p->guard, boot_get, i->follows, &from, e) < 0)
        return -1;
    if (from.state != BOOT_INTERRUPTED || !from.images[i->follows_position].keep)
        return 0;
    if (move_overlay(p, b, n, e) < 0)
        return err_wrap(e, "what boot %" PRId64 " has written to %s", i->follows, i->name);
    bool over = !has_more_to_keep(p, &from);
    if (guarded(p->guard, boot_handed_over, b, n, over, e) < 0)
        return -1;
    log_info("boot %" PRId64 " of %s goes on with what boot %" PRId64 " has written to %s", b->id,
             b->machine_name, i->follows, i->name);
    if (over && publish_remove_overlays(p, i->follows, &left) < 0)
        log_warning("boot %" PRId64 ": %s", i->follows, left.msg);
    return 0;
}

int takeover_finish(struct publisher *p, const struct boot *b, struct err *e)
{
    for (size_t n = 0; n < b->nimages; n++)
        if (b->images[n].follows && hand_over(p, b, n, e) < 0)
            return -1;
    return 0;
}
