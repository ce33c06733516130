/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/ticker.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "nbd-plugin/counters.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <time.h>

#define TICK_MILLISECONDS 100
#define TICKS_A_SECOND (1000 / TICK_MILLISECONDS)
#define TICKS_A_MINUTE (60 * TICKS_A_SECOND)
#define TICKS_AN_HOUR (60 * TICKS_A_MINUTE)
#define SECONDS_A_DAY 86400
#define HISTORY_PART 500
#define SPACE_SHORT (64 * MIB) /* nearer to the reserve than this machines may soon be refused their writes */

struct ticker {
    struct server *server;
    bool (*sleep)(unsigned milliseconds);
};

/* ---- requests ---- */

static int serve_request(struct server *s, const struct request *q, struct err *e)
{
    struct boot b;
    if (q->kind == REQUEST_RELOAD)
        return server_reload(s, q->id, e);
    if (guarded(&s->guard, boot_get, q->boot, &b, e) < 0)
        return -1;
    if (q->kind == REQUEST_RESET) {
        if (b.state != BOOT_LEASED && b.state != BOOT_RUNNING)
            return err_set(e, ERR_STATE, "boot %" PRId64 " is %s", b.id, boot_state_name(b.state));
        return server_reset_boot(s, &b, "the machine was reset: it fetched its boot script", q->id, e);
    }
    return server_end_boot(s, q->boot, request_ending(q->kind), FENCE_ALL, q->actor, "ended by an admin",
                           q->id, e);
}

static void serve_requests(struct server *s)
{
    struct request q;
    struct err e;
    while (guarded(&s->guard, request_take, &q, &e) == 0) {
        pthread_mutex_lock(&s->binding);
        int r = serve_request(s, &q, &e);
        pthread_mutex_unlock(&s->binding);
        if (r == 0)
            continue;
        struct err why = e;
        if (guarded(&s->guard, request_answer, q.id, (int)why.code, why.msg, &e) < 0)
            log_error("request %" PRId64 ": %s", q.id, e.msg);
    }
    if (e.code != ERR_NOT_FOUND)
        log_error("requests: %s", e.msg);
}

/* ---- what machines keep of temporal images ---- */

static void drop(struct server *s, const struct temporal *t, const char *dir, const char *why)
{
    struct err e;
    /* A machine that came back meanwhile goes on with it. */
    if (temporal_drop(s->ticker_catalog, "server", t->id, why, &e) < 0) {
        if (e.code != ERR_STATE && e.code != ERR_NOT_FOUND)
            log_error("temporal overlay %" PRId64 ": %s", t->id, e.msg);
        return;
    }
    if (overlay_remove(dir, &e) < 0)
        log_error("%s", e.msg);
}

static void drop_temporals(struct server *s)
{
    cleanup(free) struct temporal *list = NULL;
    size_t count;
    struct err e;
    char why[60];
    uint64_t days = server_conf(s)->store.temporal_days;
    if (temporals_idle(s->ticker_catalog, &list, &count, &e) < 0) {
        log_error("temporal overlays: %s", e.msg);
        return;
    }
    snprintf(why, sizeof why, "not used for %" PRIu64 " days", days);
    for (size_t i = 0; i < count; i++) {
        cleanup(free) char *dir = conf_temporal_dir(server_conf(s), list[i].id);
        if (!path_exists(dir))
            drop(s, &list[i], dir, "nothing was written");
        else if (time(NULL) - list[i].used >= (int64_t)(days * SECONDS_A_DAY))
            drop(s, &list[i], dir, why);
    }
}

/* ---- what happened long ago ---- */

/* A part at a time, for others wait meanwhile. Whether there is more. */
static bool remove_history(struct server *s)
{
    struct err e;
    bool more = false;
    uint64_t days = server_conf(s)->server.history_days;
    if (days == 0)
        return false;
    int64_t before = time(NULL) - (int64_t)(days * SECONDS_A_DAY);
    if (history_remove(s->ticker_catalog, "server", before, HISTORY_PART, &more, &e) < 0)
        log_error("history: %s", e.msg);
    return more;
}

static void watch_catalog(struct server *s)
{
    struct err e;
    uint64_t version;
    if (catalog_data_version(s->ticker_catalog, &version, &e) < 0) {
        log_error("catalog: %s", e.msg);
        return;
    }
    if (version == s->seen_version)
        return;
    s->seen_version = version;
    serve_requests(s);
    drop_temporals(s);
    if (s->hooks.render(s->ticker_catalog, server_conf(s), &e) < 0)
        log_error("boot scripts: %s", e.msg);
}

/* ---- time; binding held ---- */

static void record_connection(struct server *s, struct session *session)
{
    struct err e;
    if (session->disconnected == session->recorded)
        return;
    if (guarded(&s->guard, boot_set_disconnected, session->boot.id, session->disconnected, &e) < 0)
        log_error("boot %" PRId64 ": %s", session->boot.id, e.msg);
    else
        session->recorded = session->disconnected;
}

/* Looks once after each disconnection: without connection nothing changes. */
static bool was_shut_down(struct server *s, struct session *session)
{
    bool shut_down = false;
    struct err e;
    struct overlay *overlays[SETUP_IMAGES_MAX];
    if (session->looked)
        return false;
    session->looked = true;
    if (session_load(session, &e) < 0) {
        log_error("%s", e.msg);
        return false;
    }
    session_overlays(session, overlays);
    struct publisher publisher = server_publisher(s);
    if (publish_seen_shut_down(&publisher, &session->boot, overlays, &shut_down, &e) < 0)
        log_error("boot %" PRId64 ": %s", session->boot.id, e.msg);
    return shut_down;
}

static int watch_disconnected(struct server *s, struct session *session, uint64_t seconds, struct err *e)
{
    const struct conf *conf = server_conf(s);
    int64_t boot = session->boot.id;
    if (!session->running) {
        if (seconds < conf->boot.lease)
            return 0;
        return server_reset_boot(s, &session->boot, "leased, but nothing came for the lease time", 0, e);
    }
    if (seconds >= conf->boot.grace && was_shut_down(s, session))
        return server_end_boot(s, boot, ENDING_AWAY, FENCE_ALL, "server",
                               "the machine was shut down: its disks are clean and its connections gone", 0,
                               e);
    if (seconds < conf->boot.abandon)
        return 0;
    bool discard = conf->boot.on_interrupt == CONF_INTERRUPT_DISCARD;
    return server_end_boot(s, boot, discard ? ENDING_ABANDON : ENDING_AWAY, FENCE_ALL, "server",
                           "abandoned: without connection for too long", 0, e);
}

static bool space_is_short(const struct conf *conf)
{
    struct statvfs fs;
    if (conf->store.reserve == 0 || statvfs(conf->server.overlays_dir, &fs) < 0)
        return false;
    return (uint64_t)fs.f_bavail * fs.f_frsize < conf->store.reserve + SPACE_SHORT;
}

static bool has_overlays(const struct conf *conf, const struct session *session)
{
    cleanup(free) char *dir = path_format("%s/%" PRId64, conf->server.overlays_dir, session->boot.id);
    return path_exists(dir);
}

/* What was written there is thrown away at its end in any case. */
static bool may_go_for_space(const struct conf *conf, const struct session *session, int64_t now)
{
    return session->running && !session->boot.keep && session->disconnected &&
           now - session->disconnected >= (int64_t)conf->boot.grace && has_overlays(conf, session);
}

/* One at a time: its space is free before the next look. */
static void make_room(struct server *s, int64_t now)
{
    const struct conf *conf = server_conf(s);
    const struct session *longest = NULL;
    struct err e;
    if (!space_is_short(conf))
        return;
    for (const struct session *session = s->sessions; session; session = session->next)
        if (may_go_for_space(conf, session, now) &&
            (!longest || session->disconnected < longest->disconnected))
            longest = session;
    if (longest &&
        server_end_boot(s, longest->boot.id, ENDING_DISCARD, FENCE_ALL, "server",
                        "abandoned: without connection for the longest time when space ran short", 0, &e) < 0)
        log_error("make room: %s", e.msg);
}

/* They end as they were to end, one after the other: each takes of the space. What was short need not have been space there
 * (the kernel's folder, the overlay's own, a quota): so once an hour it need not have grown. Binding held. */
static void end_again(struct server *s, bool hourly)
{
    cleanup(free) struct boot *boots = NULL;
    size_t count;
    struct err e;
    uint64_t space = free_bytes(server_conf(s)->server.images_dir) + (hourly ? PUBLISH_SPACE_GROWTH : 0);
    if (guarded(&s->guard, boots_with_space, space, &boots, &count, &e) < 0) {
        log_error("boots that want space: %s", e.msg);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        int r = server_end_boot(s, boots[i].id, boots[i].ending, FENCE_ALL, "server",
                                "tried again: there is space", 0, &e);
        if (r < 0 && e.code != ERR_STATE) /* somebody else is at it: asked again in a second */
            log_error("boot %" PRId64 ": %s", boots[i].id, e.msg);
        if (r == 0 && !hourly)
            return;
    }
}

static void watch_sessions(struct server *s, bool hourly)
{
    int64_t now = time(NULL);
    pthread_mutex_lock(&s->binding);
    for (struct session *session = s->sessions, *next; session; session = next) {
        next = session->next;
        struct err e;
        int64_t boot = session->boot.id;
        if (session->disconnected > now) /* the clock went back: nobody waits for as long */
            session->disconnected = now;
        record_connection(s, session);
        session_save_hot(session);
        server_compact(s, session);
        if (!session->disconnected)
            continue;
        if (watch_disconnected(s, session, (uint64_t)(now - session->disconnected), &e) == 0)
            continue;
        log_error("boot %" PRId64 ": %s", boot, e.msg);
        if (server_find_session(s, boot) == session) /* else it has been freed */
            session->looked = false;
    }
    make_room(s, now);
    end_again(s, hourly);
    counters_write(s);
    pthread_mutex_unlock(&s->binding);
}

/* ---- the thread ---- */

static void *tick(void *arg)
{
    struct ticker t = *(struct ticker *)arg;
    free(arg);
    unsigned history = 0; /* the tick at which it is looked at */
    for (unsigned n = 0; t.sleep(TICK_MILLISECONDS); n++) {
        if (n == history)
            history = n + (remove_history(t.server) ? 1 : TICKS_AN_HOUR);
        watch_catalog(t.server);
        if (n % TICKS_AN_HOUR == 0)
            server_thin_out(t.server);
        if (n % TICKS_A_MINUTE == 0)
            drop_temporals(t.server);
        if (n % TICKS_A_SECOND == 0)
            watch_sessions(t.server, n > 0 && n % TICKS_AN_HOUR == 0);
    }
    return NULL;
}

int ticker_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct err *e)
{
    struct ticker *t = malloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_FAILED, "out of memory");
    *t = (struct ticker){.server = s, .sleep = sleep};
    s->seen_version = UINT64_MAX; /* look at once */
    int r = pthread_create(&s->ticker, NULL, tick, t);
    if (r) {
        free(t);
        return err_sys(e, r, "start a thread");
    }
    s->ticker_runs = true;
    return 0;
}

void ticker_stop(struct server *s)
{
    if (s->ticker_runs)
        pthread_join(s->ticker, NULL);
    s->ticker_runs = false;
}
