/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/server.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "nbd-plugin/counters.h"
#include "nbd-plugin/flatten.h"
#include "nbd-plugin/flattener.h"
#include "nbd-plugin/prefetch.h"
#include "nbd-plugin/retention.h"
#include "nbd-plugin/scrubber.h"
#include "nbd-plugin/server-lock.h"
#include "nbd-plugin/stopper.h"
#include "nbd-plugin/takeover.h"
#include "nbd-plugin/ticker.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define WORKERS 2

/* ---- jobs that a request or the ticker leaves to the workers ---- */

struct started_job {
    struct server *server;
    int64_t boot;
};

static void run_started(void *arg)
{
    cleanup(free) struct started_job *j = arg;
    struct err e;
    if (guarded(&j->server->guard, boot_start, j->boot, &e) < 0)
        log_error("boot %" PRId64 ": %s", j->boot, e.msg);
}

static void on_started(void *ctx, int64_t boot)
{
    struct server *s = ctx;
    struct started_job *j = malloc(sizeof *j);
    if (!j)
        return;
    *j = (struct started_job){.server = s, .boot = boot};
    jobs_add(s->jobs, run_started, j);
}

struct damaged_job {
    struct server *server;
    struct uuid image;
    uint64_t version;
    char why[400];
};

static void run_damaged(void *arg)
{
    cleanup(free) struct damaged_job *j = arg;
    struct err e;
    if (guarded(&j->server->guard, version_mark_damaged, &j->image, j->version, j->why, &e) < 0)
        log_error("mark version %" PRIu64 " damaged: %s", j->version, e.msg);
}

static void on_damaged(void *ctx, const struct uuid *image, uint64_t version, const char *why)
{
    struct server *s = ctx;
    log_error("%s", why);
    struct damaged_job *j = malloc(sizeof *j);
    if (!j)
        return;
    *j = (struct damaged_job){.server = s, .image = *image, .version = version};
    snprintf(j->why, sizeof j->why, "%s", why);
    jobs_add(s->jobs, run_damaged, j);
}

static void run_thinning(void *arg)
{
    struct server *s = arg;
    struct err e;
    struct publisher publisher = server_publisher(s);
    s->thinning = false;
    if (retention_all(&publisher, "server", NULL, &e) < 0)
        log_error("old versions: %s", e.msg);
}

void server_thin_out(struct server *s)
{
    const struct conf *conf = server_conf(s);
    if ((conf->store.keep_versions > 0 || conf->store.keep_days > 0) && !atomic_exchange(&s->thinning, true))
        jobs_add(s->jobs, run_thinning, s);
}

struct compaction_job {
    struct server *server;
    struct session *session; /* a reference */
};

static void run_compaction(void *arg)
{
    cleanup(free) struct compaction_job *j = arg;
    session_compact(j->session);
    j->session->compacting = false;
    pthread_mutex_lock(&j->server->binding);
    session_unref_locked(j->session);
    pthread_mutex_unlock(&j->server->binding);
}

void server_compact(struct server *s, struct session *session)
{
    if (session->compacting || !session_wants_compaction(session))
        return;
    struct compaction_job *j = malloc(sizeof *j);
    if (!j)
        return;
    session->refs++;
    session->compacting = true;
    *j = (struct compaction_job){.server = s, .session = session};
    jobs_add(s->compactions, run_compaction, j);
}

struct finish_job {
    struct server *server;
    int64_t boot;
    struct session *session; /* a reference, or NULL: overlays are opened from disk */
    int64_t request;
};

/* "debian-lab@1795460000 lab-data@1795460001", or why there is none. */
static void describe_end(const struct boot *b, char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < b->nimages && n < size; i++)
        if (b->images[i].result)
            n += (size_t)snprintf(text + n, size - n, "%s%s@%" PRIu64, n ? " " : "", b->images[i].name,
                                  b->images[i].result);
}

static void answer(struct server *s, int64_t request, int code, const char *text)
{
    struct err e;
    if (request && guarded(&s->guard, request_answer, request, code, text, &e) < 0)
        log_error("request %" PRId64 ": %s", request, e.msg);
}

/* A machine that goes down with `done` reads on from what it has until its connection is gone; everything
 * else is closed, so that an admin's command or the next boot can open it. */
static void close_session(struct server *s, struct session *session, bool over)
{
    if (!over || session->fenced == FENCE_ALL) {
        session_fence(session, FENCE_ALL);
        session_close_overlays(session);
    }
    pthread_mutex_lock(&s->binding);
    session_unref_locked(session);
    pthread_mutex_unlock(&s->binding);
}

static void run_finish(void *arg)
{
    cleanup(free) struct finish_job *j = arg;
    struct overlay *overlays[SETUP_IMAGES_MAX] = {NULL};
    struct boot b;
    struct err e;
    char text[400];
    if (j->session)
        session_overlays(j->session, overlays);
    struct publisher publisher = server_publisher(j->server);
    int r = publish_finish(&publisher, j->boot, overlays, &b, &e);
    if (j->session)
        close_session(j->server, j->session, r == 0);
    if (r < 0) {
        log_warning("%s", e.msg);
        if (!j->server->stopping) /* else the next server answers, or who asked finds that there is none */
            answer(j->server, j->request, (int)e.code, e.msg);
        return;
    }
    describe_end(&b, text, sizeof text);
    log_info("boot %" PRId64 " of %s: %s %s", b.id, b.machine_name, boot_state_name(b.state), text);
    answer(j->server, j->request, 0, text);
    if (*text)
        server_thin_out(j->server);
}

static int add_finish(struct server *s, const struct finish_job *job, struct err *e)
{
    struct finish_job *j = malloc(sizeof *j);
    if (!j)
        return err_set(e, ERR_FAILED, "out of memory");
    *j = *job;
    jobs_add(s->jobs, run_finish, j);
    return 0;
}

/* ---- the table of sessions; binding held ---- */

struct session *server_find_session(struct server *s, int64_t boot)
{
    for (struct session *session = s->sessions; session; session = session->next)
        if (session->boot.id == boot)
            return session;
    return NULL;
}

int server_session(struct server *s, const struct boot *b, struct session **ret, struct err *e)
{
    struct session *session = server_find_session(s, b->id);
    if (!session) {
        const struct session_events events = {.started = on_started, .damaged = on_damaged, .ctx = s};
        struct publisher publisher = server_publisher(s);
        struct machine_disk own;
        if (takeover_finish(&publisher, b, e) < 0 ||
            guarded(&s->guard, machine_disk_get, &b->machine, &own, e) < 0 ||
            session_new(s->store, &s->temporals, &s->live, b, &own, &events, &session, e) < 0)
            return -1;
        session->disconnected = b->disconnected ? b->disconnected : time(NULL);
        session->next = s->sessions;
        s->sessions = session;
        if (session->running && b->state == BOOT_LEASED)
            on_started(s, b->id);
        if (!session->running)
            prefetch_boot(s, session);
    }
    *ret = session;
    return 0;
}

void session_unref_locked(struct session *session)
{
    if (--session->refs == 0)
        session_free(session);
}

static void forget_session(struct server *s, struct session *session)
{
    struct session **at = &s->sessions;
    while (*at != session)
        at = &(*at)->next;
    *at = session->next;
}

int server_end_boot(struct server *s, int64_t boot, enum boot_ending ending, enum fence fence,
                    const char *actor, const char *why, int64_t request, struct err *e)
{
    struct session *session = server_find_session(s, boot);
    struct finish_job job = {.server = s, .boot = boot, .session = session, .request = request};
    /* Before the fence: where the catalog fails, the boot runs on and can be ended again. What is written between
     * the two is sealed with the rest. */
    int r = guarded(&s->guard, boot_begin_end, actor, boot, ending, why, e);
    if (r < 0 && e->code != ERR_STATE && e->code != ERR_NOT_FOUND)
        return -1;
    if (session) {
        session_fence(session, r < 0 ? FENCE_ALL : fence);
        forget_session(s, session); /* its reference goes to the job */
    }
    if (r < 0) {
        if (session) {
            session_close_overlays(session);
            session_unref_locked(session);
        }
        return -1;
    }
    return add_finish(s, &job, e);
}

int server_reset_boot(struct server *s, const struct boot *b, const char *why, int64_t request, struct err *e)
{
    struct session *session = server_find_session(s, b->id);
    bool ran = session ? (bool)session->running : b->state == BOOT_RUNNING;
    if (!ran && session) {
        session_fence(session, FENCE_ALL);
        ran = session->running; /* a write may have come in before the fence */
    }
    if (ran)
        return server_end_boot(s, b->id, ENDING_AUTO, FENCE_ALL, "server", why, request, e);
    if (guarded(&s->guard, boot_requeue, b->id, why, e) < 0)
        return -1;
    if (session) {
        forget_session(s, session);
        session_unref_locked(session);
    }
    answer(s, request, 0, "");
    return 0;
}

/* ---- another configuration ---- */

/* What a machine's first or next write finds; scripts are rendered by the ticker. */
static int put_in_force(struct server *s, struct err *e)
{
    log_set_level((enum log_level)server_conf(s)->server.log_level);
    for (struct session *session = s->sessions; session; session = session->next)
        session_renew_limits(session);
    return guarded(&s->guard, script_want_all, e);
}

int server_reload(struct server *s, int64_t request, struct err *e)
{
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    bool changed;
    strbuf_appendf(&text, "%s\n", s->live.path);
    if (live_reload(&s->live, &text, &changed, e) < 0) {
        log_warning("the configuration stays as it was: %s", e->msg);
        return -1;
    }
    if (changed && put_in_force(s, e) < 0)
        return -1;
    server_thin_out(s);
    log_info("read %s again", s->live.path);
    answer(s, request, 0, strbuf_text(&text));
    return 0;
}

/* ---- start and stop ---- */

int server_configure(const char *conf_path, const struct server_hooks *hooks, struct server **ret,
                     struct err *e)
{
    struct server *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_FAILED, "out of memory");
    s->hooks = *hooks;
    s->lock_fd = -1;
    pthread_mutex_init(&s->binding, NULL);
    pthread_mutex_init(&s->temporals.lock, NULL);
    pthread_mutex_init(&s->guard.lock, NULL);
    pthread_mutex_init(&s->refusals.lock, NULL);
    if (live_init(&s->live, conf_path, e) < 0) {
        free(s);
        return -1;
    }
    *ret = s;
    return 0;
}

static int open_files(struct server *s, struct err *e)
{
    cleanup(free) char *catalog = conf_catalog_path(server_conf(s));
    if (catalog_open(catalog, CATALOG_FULL, &s->guard.catalog, e) < 0 ||
        catalog_open(catalog, CATALOG_FULL, &s->ticker_catalog, e) < 0 ||
        store_open(server_conf(s)->server.images_dir, server_conf(s)->store.cache_memory, &s->store, e) < 0)
        return -1;
    return 0;
}

struct publisher server_publisher(struct server *s)
{
    return (struct publisher){.conf = server_conf(s),
                              .guard = &s->guard,
                              .store = s->store,
                              .hooks = s->hooks.publish,
                              .stopping = &s->stopping};
}

/* Who asked for it is answered. */
static void finish_left_over(void *ctx, int64_t boot)
{
    struct server *s = ctx;
    struct finish_job job = {.server = s, .boot = boot};
    struct request q;
    struct err e;
    if (guarded(&s->guard, request_take_of_boot, boot, &q, &e) == 0)
        job.request = q.id;
    else if (e.code != ERR_NOT_FOUND)
        log_error("boot %" PRId64 ": %s", boot, e.msg);
    if (add_finish(s, &job, &e) < 0)
        log_error("boot %" PRId64 ": %s", boot, e.msg);
}

/* Boots that an earlier server had: they wait for their machines, with the times of the lease, grace and
 * abandon counted from their last sign of life. Overlays are replayed when the machine comes back. */
static int adopt_boots(struct server *s, enum boot_state state, struct err *e)
{
    cleanup(free) struct boot *boots = NULL;
    size_t count;
    if (guarded(&s->guard, boots_in_state, state, &boots, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        struct session *ignored;
        struct err why;
        if (server_session(s, &boots[i], &ignored, &why) < 0)
            log_error("boot %" PRId64 " of %s: %s", boots[i].id, boots[i].machine_name, why.msg);
    }
    return 0;
}

static int recover(struct server *s, struct err *e)
{
    if (guarded(&s->guard, catalog_settle, e) < 0 || store_clean_tmp(s->store, e) < 0 ||
        guarded(&s->guard, request_untake_all, e) < 0 || adopt_boots(s, BOOT_LEASED, e) < 0 ||
        adopt_boots(s, BOOT_RUNNING, e) < 0)
        return -1;
    struct publisher publisher = server_publisher(s);
    return flatten_recover(&publisher, e) < 0 ? -1 : publish_recover(&publisher, finish_left_over, s, e);
}

int server_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct err *e)
{
    if (server_lock_for_server(server_conf(s), &s->lock_fd, e) < 0 || open_files(s, e) < 0 ||
        jobs_start(WORKERS, &s->jobs, e) < 0 || jobs_start(1, &s->prefetches, e) < 0 ||
        jobs_start(1, &s->compactions, e) < 0 || recover(s, e) < 0)
        return -1;
    if (ticker_start(s, sleep, e) < 0 || scrubber_start(s, sleep, &s->scrubber, e) < 0)
        return -1;
    return flattener_start(s, sleep, &s->flattener, e) < 0 ? -1 : stopper_start(s, sleep, e);
}

void server_stop(struct server *s)
{
    s->stopping = true;
    ticker_stop(s);
    scrubber_stop(steal(&s->scrubber));
    flattener_stop(steal(&s->flattener));
    if (s->lock_fd >= 0)
        counters_remove(server_conf(s));
    pthread_mutex_lock(&s->binding);
    for (struct session *session = s->sessions; session; session = session->next)
        session->hurry = true;
    pthread_mutex_unlock(&s->binding);
    jobs_stop(s->prefetches);
    jobs_stop(s->compactions);
    jobs_stop(s->jobs); /* requests that still run may add to it */
    pthread_mutex_lock(&s->binding);
    for (struct session *session = s->sessions; session; session = session->next)
        session_sync(session);
    pthread_mutex_unlock(&s->binding);
}

void server_close(struct server *s)
{
    if (!s)
        return;
    while (s->sessions) {
        struct session *session = s->sessions;
        s->sessions = session->next;
        session_unref_locked(session);
    }
    jobs_free(s->jobs);
    jobs_free(s->prefetches);
    jobs_free(s->compactions);
    catalog_close(s->guard.catalog);
    catalog_close(s->ticker_catalog);
    store_close(s->store);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    live_release(&s->live);
    pthread_mutex_destroy(&s->binding);
    pthread_mutex_destroy(&s->temporals.lock);
    pthread_mutex_destroy(&s->guard.lock);
    pthread_mutex_destroy(&s->refusals.lock);
}
