/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_SERVER_H
#define LABBOOT_SERVER_H

/* The running server: catalog, store, the table of sessions, and the decisions about boots. plugin.c has the
 * one instance.
 *
 * Lock order: binding -> a disk's `create` -> the locks of overlay and store -> the guard of the catalog. A
 * request that runs holds its session's fence shared; who raises the fence holds `binding` and waits for such
 * requests, so nothing inside a request takes `binding`. */

#include "nbd-plugin/access.h"
#include "nbd-plugin/export-name.h"
#include "nbd-plugin/jobs.h"
#include "nbd-plugin/live.h"
#include "nbd-plugin/publish.h"
#include "nbd-plugin/session.h"

struct server_hooks {
    struct publish_hooks publish;
    /* As render_scripts of tftp-glue. */
    int (*render)(struct catalog *c, const struct conf *conf, struct err *e);
};

struct server {
    struct live live;
    struct server_hooks hooks;
    int lock_fd; /* RUN/server.lock */
    struct guard guard;
    struct catalog *ticker_catalog; /* the ticker's own connection: rendering takes long */
    struct store *store;
    struct temporals temporals;
    struct jobs *jobs, *prefetches, *compactions;
    atomic_bool stopping; /* for all that takes long */
    pthread_t ticker;
    bool ticker_runs;
    uint64_t seen_version; /* of the catalog, by the ticker */
    struct scrubber *scrubber;
    struct flattener *flattener;
    struct {
        pthread_mutex_t lock; /* innermost */
        int64_t since;
        uint64_t count; /* since then */
    } refusals;
    atomic_bool thinning;  /* a job to remove old versions waits or runs */
    bool counters_written; /* RUN/counters, by the ticker: */
    uint32_t counters_sum; /* of what it holds */

    pthread_mutex_t binding;  /* sessions, and which boot a connection belongs to */
    struct session *sessions; /* of leased and running boots */
};

/* Reads the configuration (plain checks only: no thread, no SQLite before nbdkit has forked). */
int server_configure(const char *conf_path, const struct server_hooks *hooks, struct server **ret,
                     struct err *e) must_check;
/* Takes RUN/server.lock, opens catalog and store, finishes what an earlier server left, starts the threads.
 * `sleep` waits that many milliseconds and returns false when the server is to stop (nbdkit_nanosleep). */
int server_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct err *e) must_check;
/* Makes every overlay durable and ends the threads: never commits. */
void server_stop(struct server *s);
/* What it has; the structure itself stays, because the stopper, which may be late, sets `stopping`. NULL is fine. */
void server_close(struct server *s);

/* The configuration in force; good for as long as the caller is at it. */
static inline const struct conf *server_conf(const struct server *s)
{
    return live_conf(&s->live);
}
/* For one publish, with that configuration. */
struct publisher server_publisher(struct server *s);

/* ---- what follows is called with `binding` held ---- */

/* Reads the configuration again, and answers the request. */
int server_reload(struct server *s, int64_t request, struct err *e) must_check;

/* The session of a leased or running boot; made, and its overlays opened, when this process has none yet. */
int server_session(struct server *s, const struct boot *b, struct session **ret, struct err *e) must_check;
/* Lets a job make its overlays smaller, if that is worth while. */
void server_compact(struct server *s, struct session *session);
/* The session in the table, or NULL. */
struct session *server_find_session(struct server *s, int64_t boot);
/* Ends a boot: fences its session, takes it out of the table, and lets a job publish or discard it.
 * `request`: the request to answer when that is done, 0: none. */
int server_end_boot(struct server *s, int64_t boot, enum boot_ending ending, enum fence fence,
                    const char *actor, const char *why, int64_t request, struct err *e) must_check;
/* The machine was reset while this boot was leased or running: ends it, or queues it again when it never ran. */
int server_reset_boot(struct server *s, const struct boot *b, const char *why, int64_t request,
                      struct err *e) must_check;

/* ---- without ---- */
/* Lets a job remove the versions that [store] keep-versions and keep-days do not keep. */
void server_thin_out(struct server *s);
void session_unref_locked(struct session *session); /* binding held */

#endif
