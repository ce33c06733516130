/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/handle.h"

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "nbd-plugin/claim.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define REFUSALS_TOLD 20u /* in that many seconds: */
#define REFUSALS_SECONDS 10

static int open_image(struct handle *h, struct err *e)
{
    struct image image;
    uint64_t version;
    if (!h->admin)
        return err_set(e, ERR_DENIED,
                       "image exports are for the Unix socket and the addresses of [access] admin");
    if (guarded(&h->server->guard, image_version_find, h->name.image, NULL, &image, &version, e) < 0 ||
        view_open(h->server->store, &image.uuid, version, &h->view, e) < 0)
        return -1;
    h->size = view_footer(h->view)->virtual_size;
    h->read_only = true;
    snprintf(h->description, sizeof h->description, "image %s@%" PRIu64, image.name, version);
    return 0;
}

static int find_machine(struct handle *h, struct err *e)
{
    struct server *s = h->server;
    if (h->name.kind == EXPORT_CALLER) {
        if (access_caller(server_conf(s), &s->guard, &h->peer, &h->machine, e) < 0)
            return -1;
    } else if (guarded(&s->guard, machine_by_mac, &h->name.mac, &h->machine, e) < 0 ||
               access_check(server_conf(s), &s->guard, &h->peer, &h->machine, e) < 0) {
        return -1;
    }
    if (!h->machine.managed)
        return err_set(e, ERR_DENIED, "machine %s is not managed here", h->machine.name);
    return 0;
}

static void describe_boot(struct handle *h, const struct boot *b)
{
    const struct boot_image *image = &b->images[h->disk];
    int n = snprintf(h->description, sizeof h->description,
                     "machine %s, boot %" PRId64 " (%s%s): ", h->machine.name, b->id,
                     h->session ? "running" : boot_state_name(b->state), b->update ? ", update" : "");
    char *rest = h->description + n;
    size_t left = sizeof h->description - (size_t)n;
    if (h->disk == OWN_DISK)
        snprintf(rest, left, "its own disk");
    else
        snprintf(rest, left, "%s@%" PRIu64 "%s", image->name, image->version,
                 h->read_only && !h->admin ? ", in use by another machine" : "");
}

static int open_boot(struct handle *h, struct err *e)
{
    struct boot b;
    if (find_machine(h, e) < 0)
        return -1;
    pthread_mutex_lock(&h->server->binding);
    int r = claim_open(h, &b, e);
    pthread_mutex_unlock(&h->server->binding);
    if (r < 0)
        return -1;
    describe_boot(h, &b);
    if (h->name.kind == EXPORT_DONE) {
        h->size = DONE_SIZE;
        h->read_only = true;
    }
    return 0;
}

bool handle_may_tell_refusal(struct server *s)
{
    int64_t now = time(NULL);
    pthread_mutex_lock(&s->refusals.lock);
    if (now >= s->refusals.since + REFUSALS_SECONDS) {
        if (s->refusals.count > REFUSALS_TOLD)
            log_warning("refused %" PRIu64 " more in %" PRId64 " s", s->refusals.count - REFUSALS_TOLD,
                        now - s->refusals.since);
        s->refusals.since = now;
        s->refusals.count = 0;
    }
    bool may = s->refusals.count++ < REFUSALS_TOLD;
    pthread_mutex_unlock(&s->refusals.lock);
    return may;
}

/* In the log, and in the event trail. */
static void tell_refusal(struct handle *h, const char *export_name, struct err *why)
{
    struct err e;
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    strbuf_append_escaped(&shown, export_name, strnlen(export_name, 80));
    bool told = handle_may_tell_refusal(h->server);
    if (told)
        log_warning("refused '%s' to %s: %s", strbuf_text(&shown), peer_name(&h->peer), why->msg);
    const struct mac *machine = *h->machine.name ? &h->machine.mac : NULL;
    if (guarded(&h->server->guard, refusal_record, machine, h->peer.text, export_name, why->msg, &e) < 0)
        log_error("event of a refusal: %s", e.msg);
    if (!told)
        why->msg[0] = '\0';
}

/* For the event trail: whose disk was asked for by who was refused before anything was looked at. */
static void find_whose(struct handle *h)
{
    struct machine m;
    struct err unknown;
    if ((h->name.kind == EXPORT_BOOT || h->name.kind == EXPORT_DONE) &&
        guarded(&h->server->guard, machine_by_mac, &h->name.mac, &m, &unknown) == 0)
        h->machine = m;
}

static int open_named(struct handle *h, struct err *e)
{
    if (access_check_tls(server_conf(h->server), &h->peer, e) < 0) {
        find_whose(h);
        return -1;
    }
    return h->name.kind == EXPORT_IMAGE ? open_image(h, e) : open_boot(h, e);
}

int handle_open(struct server *s, const char *export_name, const struct peer *peer, struct handle **ret,
                struct err *e)
{
    struct handle *h = calloc(1, sizeof *h);
    if (!h)
        return err_set(e, ERR_FAILED, "out of memory");
    h->server = s;
    h->peer = *peer;
    h->admin = peer_is_admin(server_conf(s), peer);
    int r = export_name_parse(export_name, &h->name, e);
    if (r == 0)
        r = open_named(h, e);
    if (r < 0) {
        tell_refusal(h, export_name, e);
        handle_close(h);
        return -1;
    }
    *ret = h;
    return 0;
}

void handle_close(struct handle *h)
{
    pthread_mutex_lock(&h->server->binding);
    claim_close(h);
    pthread_mutex_unlock(&h->server->binding);
    view_close(h->view);
    free(h);
}

/* After the first time this is one load. */
static int bind_to_boot(struct handle *h, struct err *e)
{
    if (atomic_load_explicit(&h->bound, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&h->server->binding);
    int r = claim_bind(h, e);
    pthread_mutex_unlock(&h->server->binding);
    if (r < 0)
        tell_refusal(h, h->description, e);
    return r;
}

/* The guest's shutdown hook reads this export when its disks are as they shall stay. */
static int machine_is_done(struct handle *h, struct err *e)
{
    if (h->admin)
        return err_set(e, ERR_DENIED, "'done' is the machine's own word; try: labboot boot end %s",
                       h->machine.name);
    char actor[OBJECT_SIZE];
    machine_object(&h->machine.mac, actor);
    pthread_mutex_lock(&h->server->binding);
    int64_t boot = h->session->boot.id;
    int r = 0;
    /* Loaded first: what the machine reads on the way down is read through its overlays. */
    if (server_find_session(h->server, boot) == h->session && (r = session_load(h->session, e)) == 0)
        r = server_end_boot(h->server, boot, ENDING_DONE, FENCE_WRITES, actor, "the machine has shut down", 0,
                            e);
    pthread_mutex_unlock(&h->server->binding);
    return r;
}

int handle_pread(struct handle *h, void *buf, uint32_t count, uint64_t offset, struct err *e)
{
    if (h->name.kind == EXPORT_IMAGE)
        return view_pread(h->view, 0, buf, count, offset, e);
    if (h->name.kind == EXPORT_DONE) {
        memset(buf, 0, count);
        return machine_is_done(h, e);
    }
    if (bind_to_boot(h, e) < 0)
        return -1;
    return session_pread(h->session, h->disk, buf, count, offset, e);
}

static int refuse_write(const struct handle *h, struct err *e)
{
    return err_set_sys(e, ERR_DENIED, EROFS, "%s is read-only here", h->description);
}

/* An admin only reads beside the machine, which may have come after this connection was opened; and until the lease another
 * machine may have come to a user's image. */
static int bind_for_write(struct handle *h, struct err *e)
{
    if (h->read_only)
        return refuse_write(h, e);
    if (bind_to_boot(h, e) < 0)
        return -1;
    bool beside = h->admin && h->session->machine_connections > 0;
    return h->read_only || beside ? refuse_write(h, e) : 0;
}

int handle_pwrite(struct handle *h, const void *buf, uint32_t count, uint64_t offset, bool fua, struct err *e)
{
    if (bind_for_write(h, e) < 0)
        return -1;
    return session_pwrite(h->session, h->disk, buf, count, offset, fua, e);
}

int handle_zero(struct handle *h, uint32_t count, uint64_t offset, bool fua, struct err *e)
{
    if (bind_for_write(h, e) < 0)
        return -1;
    return session_zero(h->session, h->disk, count, offset, fua, e);
}

int handle_flush(struct handle *h, struct err *e)
{
    return h->bound ? session_flush(h->session, h->disk, e) : 0;
}

int handle_prefetch(struct handle *h, uint32_t count, uint64_t offset, struct err *e)
{
    if (h->name.kind == EXPORT_DONE)
        return 0;
    if (h->view)
        return view_prefetch(h->view, 0, offset, count, e);
    return h->bound ? session_prefetch(h->session, h->disk, count, offset, e) : 0;
}

int handle_extent(struct handle *h, uint64_t count, uint64_t offset, uint64_t *ret_length, bool *ret_zero,
                  struct err *e)
{
    if (h->name.kind == EXPORT_DONE) {
        *ret_length = count;
        *ret_zero = false;
        return 0;
    }
    if (h->name.kind == EXPORT_IMAGE)
        return view_extent(h->view, offset, count, ret_length, ret_zero, e);
    if (bind_to_boot(h, e) < 0)
        return -1;
    return session_extent(h->session, h->disk, count, offset, ret_length, ret_zero, e);
}
