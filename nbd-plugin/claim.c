/* SPDX-License-Identifier: BSD-3-Clause */
/* Which boot a connection belongs to: the rules of boot-lifecycle, at the opening of an export and at its
 * first request. Everything here holds the server's `binding`. */
#include "nbd-plugin/claim.h"

#include "lib/base/log.h"
#include "lib/store/machine-image.h"
#include "nbd-plugin/takeover.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define CONNECTIONS_A_DISK 16 /* of a boot, its own disk included; kernels open four or eight */

static bool same_address(const struct in6_addr *a, const struct in6_addr *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* A live connection of the machine from another address: a dock that moved, a copied MAC. */
static int refuse_second_claimant(const struct handle *h, const struct session *s, struct err *e)
{
    char other[IP_TEXT_SIZE];
    if (h->admin || !s || s->machine_connections == 0 || same_address(&s->address, &h->peer.address))
        return 0;
    return err_set(e, ERR_STATE, "boot %" PRId64 " of %s is in use from %s", s->boot.id, h->machine.name,
                   format_ip(&s->address, other));
}

/* A client may open several for one disk, and may have left some behind that nobody has missed yet; thousands would take
 * the descriptors and threads of all machines. `done` is one more, and comes when all others are open. */
static int refuse_crowd(const struct handle *h, struct session *s, struct err *e)
{
    size_t limit = CONNECTIONS_A_DISK * (s->ndisks + 1);
    if (h->admin || h->name.kind == EXPORT_DONE || s->machine_connections < limit)
        return 0;
    (void)!err_set(e, ERR_STATE,
                   "boot %" PRId64 " of %s has %zu connections already, the most that it may have",
                   s->boot.id, h->machine.name, limit);
    if (!s->crowded)
        log_warning("%s", e->msg); /* once, also where other refusals have filled the log */
    s->crowded = true;
    return -1;
}

/* Connections count from their opening, so that a machine that has reconnected and is idle is not taken for
 * gone. */
static void join(struct handle *h, struct session *s)
{
    s->refs++;
    s->connections++;
    if (!h->admin) {
        s->machine_connections++;
        s->address = h->peer.address;
    }
    s->disconnected = 0;
    s->looked = false;
    h->session = s;
}

/* What the client is told: the disk's file may have been grown beyond its row, and may not be there yet. */
static int own_disk_size(const struct handle *h, uint64_t *ret, struct err *e)
{
    struct machine_disk own;
    uint64_t allocated;
    if (guarded(&h->server->guard, machine_disk_get, &h->machine.mac, &own, e) < 0)
        return -1;
    if (machine_image_size(store_images_dir(h->server->store), &own.image, ret, &allocated, e) == 0)
        return 0;
    if (e->code != ERR_NOT_FOUND)
        return -1;
    *ret = own.size;
    return 0;
}

static int size_in_session(const struct handle *h, const struct session *s, size_t disk, uint64_t *ret,
                           struct err *e)
{
    if (disk == OWN_DISK)
        return own_disk_size(h, ret, e);
    *ret = view_footer(s->disks[disk].base)->virtual_size;
    return 0;
}

/* Another machine had this user's image in use when the boot was leased, or has it now. */
static bool is_others(const struct boot *b, size_t disk)
{
    return disk != OWN_DISK && strcmp(b->images[disk].type, "user") == 0 && !b->images[disk].keep;
}

static int join_running(struct handle *h, const struct boot *b, struct err *e)
{
    struct session *s;
    size_t disk;
    if (session_find_disk(b, h->name.image, &disk, e) < 0 || server_session(h->server, b, &s, e) < 0 ||
        refuse_second_claimant(h, s, e) < 0 || refuse_crowd(h, s, e) < 0 ||
        size_in_session(h, s, disk, &h->size, e) < 0)
        return -1;
    h->disk = disk;
    /* So that the client is told at once. */
    h->read_only |= (h->admin && s->machine_connections > 0) || is_others(&s->boot, disk);
    join(h, s);
    return 0;
}

/* What the boot would be, for the size and the description: nothing is leased yet. */
static int look_at_next(struct handle *h, const struct boot *b, struct err *e)
{
    size_t disk;
    if (session_find_disk(b, h->name.image, &disk, e) < 0)
        return -1;
    h->disk = disk;
    if (disk == OWN_DISK)
        return own_disk_size(h, &h->size, e);
    h->read_only |= is_others(b, disk);
    if (view_open(h->server->store, &b->images[disk].image, b->images[disk].version, &h->view, e) < 0)
        return -1;
    h->size = view_footer(h->view)->virtual_size;
    return 0;
}

static int boot_of_token(struct handle *h, struct boot *b, enum token_state *state, struct err *e)
{
    if (guarded(&h->server->guard, boot_by_token, h->name.token, b, state, e) < 0)
        return -1;
    if (!mac_equal(&b->machine, &h->machine.mac))
        return err_set(e, ERR_DENIED, "the token is that of another machine");
    if (*state == TOKEN_AWAY && !h->admin)
        return guarded(&h->server->guard, boot_returnable, b, e);
    if (*state == TOKEN_ENDED || *state == TOKEN_AWAY)
        return err_set(e, ERR_STATE, "boot %" PRId64 " of %s is %s: %s", b->id, b->machine_name,
                       boot_state_name(b->state), *b->result ? b->result : "its token is too old");
    return 0;
}

static int open_by_token(struct handle *h, struct boot *ret, struct err *e)
{
    struct boot running;
    enum token_state state;
    if (boot_of_token(h, ret, &state, e) < 0)
        return -1;
    if (state == TOKEN_ACTIVE)
        return join_running(h, ret, e);
    if (h->name.kind == EXPORT_DONE)
        return err_set(e, ERR_STATE, "boot %" PRId64 " of %s is %s, not running", ret->id, ret->machine_name,
                       boot_state_name(ret->state));
    if (guarded(&h->server->guard, boot_running, &h->machine.mac, &running, e) == 0) {
        if (h->admin)
            return err_set(e, ERR_STATE, "boot %" PRId64 " of %s is running; try: labboot boot end %" PRId64,
                           running.id, running.machine_name, running.id);
        if (refuse_second_claimant(h, server_find_session(h->server, running.id), e) < 0)
            return -1;
    } else if (e->code != ERR_NOT_FOUND) {
        return -1;
    }
    return look_at_next(h, ret, e);
}

/* A machine that connects anew without a token, to disks that were mounted and are clean, was shut down
 * between. It is looked at when it connects, not at its first request: one more connection of a machine that
 * is just going down must not end its boot. */
static int look_if_shut_down(struct handle *h, struct err *e)
{
    struct overlay *overlays[SETUP_IMAGES_MAX];
    struct session *s = h->session;
    if (h->admin)
        return 0;
    if (session_load(s, e) < 0)
        return -1;
    session_overlays(s, overlays);
    struct publisher publisher = server_publisher(h->server);
    return publish_seen_shut_down(&publisher, &s->boot, overlays, &h->after_shut_down, e);
}

static int open_without_token(struct handle *h, struct boot *ret, struct err *e)
{
    if (guarded(&h->server->guard, boot_running, &h->machine.mac, ret, e) == 0)
        return join_running(h, ret, e) < 0 ? -1 : look_if_shut_down(h, e);
    if (e->code != ERR_NOT_FOUND)
        return -1;
    if (h->name.kind == EXPORT_DONE)
        return err_set(e, ERR_STATE, "no boot of machine %s is running", h->machine.name);
    if (guarded(&h->server->guard, boot_next, &h->machine.mac, ret, e) < 0)
        return e->code == ERR_NOT_FOUND ? err_set(e, ERR_NOT_FOUND,
                                                  "nothing is queued for machine %s; try: labboot "
                                                  "boot queue %s SETUP",
                                                  h->machine.name, h->machine.name)
                                        : -1;
    return look_at_next(h, ret, e);
}

int claim_open(struct handle *h, struct boot *ret, struct err *e)
{
    return *h->name.token ? open_by_token(h, ret, e) : open_without_token(h, ret, e);
}

void claim_close(struct handle *h)
{
    struct session *s = h->session;
    if (!s)
        return;
    s->connections--;
    if (!h->admin)
        s->machine_connections--;
    s->crowded &= s->machine_connections > 0;
    if (s->connections == 0)
        s->disconnected = time(NULL);
    h->session = NULL;
    session_unref_locked(s);
}

static int bind_running(struct handle *h, const struct boot *b, struct err *e)
{
    if (!h->session && join_running(h, b, e) < 0)
        return -1;
    if (session_load(h->session, e) < 0)
        return -1;
    h->bound = true;
    return 0;
}

/* The disk that was opened may be of a version that is no longer what `latest` means: its size must stand. */
static int join_leased(struct handle *h, const struct boot *b, struct err *e)
{
    uint64_t told = h->size;
    if (bind_running(h, b, e) < 0)
        return -1;
    if (h->size == told)
        return 0;
    h->size = told;
    h->bound = false;
    claim_close(h);
    return err_set_sys(e, ERR_STATE, ESHUTDOWN,
                       "image %s of boot %" PRId64 " has changed its size; try: connect again",
                       h->disk == OWN_DISK ? "machine" : b->images[h->disk].name, b->id);
}

static int lease(struct handle *h, struct err *e)
{
    struct boot b;
    struct takeover ready[SETUP_IMAGES_MAX];
    size_t count;
    struct publisher publisher = server_publisher(h->server);
    const char *token = *h->name.token ? h->name.token : NULL;
    if (takeover_prepare(&publisher, &h->machine.mac, token, ready, &count, e) < 0 ||
        guarded(&h->server->guard, boot_lease_taking, &h->machine.mac, token, h->peer.text, ready, count, &b,
                e) < 0)
        return -1;
    return join_leased(h, &b, e);
}

/* Nothing else of it runs: it is since its last lease that it is away. */
static int come_back(struct handle *h, struct boot *b, struct err *e)
{
    struct publisher publisher = server_publisher(h->server);
    return publish_return(&publisher, b, h->peer.text, e) < 0 ? -1 : join_leased(h, b, e);
}

static int bind_by_token(struct handle *h, struct err *e)
{
    struct boot b, running;
    enum token_state state;
    if (boot_of_token(h, &b, &state, e) < 0)
        return -1;
    if (state == TOKEN_ACTIVE)
        return join_leased(h, &b, e);
    if (state == TOKEN_AWAY)
        return come_back(h, &b, e);
    if (guarded(&h->server->guard, boot_running, &h->machine.mac, &running, e) == 0) {
        if (h->admin)
            return err_set(e, ERR_STATE, "boot %" PRId64 " of %s is running", running.id,
                           running.machine_name);
        if (refuse_second_claimant(h, server_find_session(h->server, running.id), e) < 0 ||
            server_reset_boot(h->server, &running,
                              "the machine was reset: it came with the token of its next boot", 0, e) < 0)
            return -1;
    } else if (e->code != ERR_NOT_FOUND) {
        return -1;
    }
    return lease(h, e);
}

static int bind_without_token(struct handle *h, struct err *e)
{
    struct boot running;
    if (guarded(&h->server->guard, boot_running, &h->machine.mac, &running, e) == 0)
        return join_leased(h, &running, e);
    return e->code == ERR_NOT_FOUND ? lease(h, e) : -1;
}

/* The boot that it joined at its opening has ended in the meantime, or is ended here: then the next one is
 * leased. */
static int end_and_lease(struct handle *h, struct err *e)
{
    struct session *s = h->session;
    int64_t boot = s->boot.id;
    bool runs = server_find_session(h->server, boot) == s;
    claim_close(h);
    if (runs && server_end_boot(h->server, boot, ENDING_AUTO, FENCE_ALL, "server",
                                "the machine was shut down and came back", 0, e) < 0)
        return -1;
    return bind_without_token(h, e);
}

int claim_bind(struct handle *h, struct err *e)
{
    if (h->bound)
        return 0;
    if (!h->session)
        return *h->name.token ? bind_by_token(h, e) : bind_without_token(h, e);
    if (h->after_shut_down)
        return end_and_lease(h, e);
    if (session_load(h->session, e) < 0)
        return -1;
    h->bound = true;
    return 0;
}
