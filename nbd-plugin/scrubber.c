/* SPDX-License-Identifier: BSD-3-Clause */
/* An image is read as a whole: versions that are due, the oldest first, and of each what no version before had. What others
 * of its versions have alone was read when they were, so that in scrub-days each byte of the store is read once. That holds
 * only where all was found whole: in an image with damage nothing is taken as known. */
#include "nbd-plugin/scrubber.h"

#include "catalog/verified.h"
#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "nbd-plugin/background.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#define LOOK_MILLISECONDS 10000 /* whether something is due */
#define FAIL_MILLISECONDS 60000 /* after a failure, the next image */
#define SLEEP_MILLISECONDS 100  /* at most: another rate may be in force */
#define AHEAD_SECONDS 0.05      /* what may be read before it is time */
#define NOTE_SECONDS 60         /* how much is read again after a kill */

/* The image that is read. */
struct pass {
    struct uuid image;
    struct scrub_version *versions; /* all of it */
    size_t count;
    struct verify_result *results;   /* of those that are due */
    const struct version_row **rows; /* the same ones */
    size_t ndue;
    struct uuid *known;
    size_t nknown;
    const struct version_row *reading;
    uint64_t to;  /* of that */
    double noted; /* when that was written down */
    bool told;    /* its damage was */
    bool failed;  /* something could not be written down: it would be read again at once */
};

struct scrubber {
    struct background background;
    bool interrupted; /* the pass was: there is no failure to tell */
    double owed, at;  /* bytes that were read before their time, as of then */
    struct pass pass;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct server *server_of(const struct scrubber *s)
{
    return s->background.server;
}

static bool is_on(const struct scrubber *s)
{
    const struct conf *conf = server_conf(server_of(s));
    return !s->background.stopping && conf->store.scrub_days > 0 && conf->store.scrub_rate > 0;
}

/* ---- how fast --------------------------------------------------------------------------------------------------- */

/* By the rate that is in force now. */
static double rate_of(const struct scrubber *s)
{
    return (double)server_conf(server_of(s))->store.scrub_rate;
}

static void pay(struct scrubber *s)
{
    double t = now(), paid = (t - s->at) * rate_of(s);
    s->owed = s->owed > paid ? s->owed - paid : 0;
    s->at = t;
}

static bool pace(void *ctx, uint64_t bytes)
{
    struct scrubber *s = ctx;
    bool on = is_on(s);
    pay(s);
    s->owed += (double)bytes;
    while (on && s->owed > rate_of(s) * AHEAD_SECONDS) {
        double wait = s->owed / rate_of(s) * 1000;
        background_rest(&s->background, wait < SLEEP_MILLISECONDS ? (unsigned)wait + 1 : SLEEP_MILLISECONDS);
        on = is_on(s);
        pay(s);
    }
    s->interrupted = !on;
    return on;
}

/* ---- what is found ------------------------------------------------------------------------------------------------ */

static void tell(struct scrubber *s, const struct verify_result *r)
{
    struct image image = {.name = "?"};
    struct err e;
    if (guarded(&server_of(s)->guard, image_by_uuid, &s->pass.image, &image, &e) < 0)
        log_warning("%s", e.msg);
    if (r->damaged)
        log_error("image %s/%s@%" PRIu64 " is damaged: %s; try: labboot doctor", image.owner, image.name,
                  r->version, r->why);
    else
        log_info("image %s/%s@%" PRIu64 " is whole again", image.owner, image.name, r->version);
}

static void note_result(struct scrubber *s, const struct version_row *row, const struct verify_result *r)
{
    struct err e;
    bool news;
    if (guarded(&server_of(s)->guard, version_verified, "server", &s->pass.image, row, r, &news, &e) < 0) {
        log_error("version %" PRIu64 ": %s", row->version, e.msg);
        s->pass.failed = true;
    } else if (news) {
        tell(s, r);
    }
}

static void note_place(struct scrubber *s, const struct version_row *row)
{
    struct err e;
    if (guarded(&server_of(s)->guard, scrub_note, &s->pass.image, row, s->pass.to, &e) < 0)
        log_error("version %" PRIu64 ": %s", row->version, e.msg);
    s->pass.noted = now();
}

/* Damage is told at once, not hours later when all of the version was read. */
static void seen(void *ctx, const struct verify_result *r, uint64_t to, bool over)
{
    struct scrubber *s = ctx;
    struct pass *p = &s->pass;
    const struct version_row *row = p->rows[r - p->results];
    if (over || (r->damaged && !p->told))
        note_result(s, row, r);
    p->told = r->damaged && !over;
    p->reading = row;
    p->to = over || r->damaged ? 0 : to;
    if (p->to > 0 && now() - p->noted >= NOTE_SECONDS)
        note_place(s, row);
}

/* ---- one image ---------------------------------------------------------------------------------------------------- */

static bool has_damage(const struct pass *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->versions[i].row.damaged)
            return true;
    return false;
}

static int plan(struct pass *p, struct err *e)
{
    bool trust = !has_damage(p);
    p->results = calloc(p->count + 1, sizeof *p->results);
    p->rows = calloc(p->count + 1, sizeof(struct version_row *));
    p->known = calloc(p->count + 1, sizeof *p->known);
    if (!p->results || !p->rows || !p->known)
        return err_sys(e, ENOMEM, "scrub");
    for (size_t i = 0; i < p->count; i++) {
        const struct scrub_version *v = &p->versions[i];
        if (v->due) {
            p->rows[p->ndue] = &v->row;
            p->results[p->ndue++] =
                (struct verify_result){.version = v->row.version, .from = trust ? v->to : 0};
        } else if (trust) {
            p->known[p->nknown++] = v->row.layer;
        }
    }
    return 0;
}

static void pass_release(struct pass *p)
{
    free(p->versions);
    free(p->results);
    free(p->rows);
    free(p->known);
    *p = (struct pass){.image = p->image};
}

static int read_due(struct scrubber *s, struct err *e)
{
    struct pass *p = &s->pass;
    const struct verify_options o = {.threads = 1,
                                     .watch = {.pace = pace, .seen = seen, .ctx = s},
                                     .known = p->known,
                                     .nknown = p->nknown};
    s->interrupted = false;
    if (store_verify(s->background.store, &p->image, &o, p->results, p->ndue, e) == 0)
        return 0;
    if (p->to > 0)
        note_place(s, p->reading);
    return s->interrupted ? 0 : -1;
}

/* 1: an image was read, 0: there is nothing to do for now, -1: a failure. */
static int scrub_image(struct scrubber *s, const struct uuid *after, struct err *e)
{
    struct pass *p = &s->pass;
    uint64_t days = server_conf(server_of(s))->store.scrub_days;
    if (!is_on(s))
        return 0;
    int r = guarded(&server_of(s)->guard, scrub_next, after, days, &p->image, &p->versions, &p->count, e);
    if (r <= 0)
        return r;
    p->noted = now();
    r = plan(p, e) < 0 || read_due(s, e) < 0 ? -1 : !p->failed;
    pass_release(p);
    return r;
}

/* ---- the thread ----------------------------------------------------------------------------------------------------- */

static void scrub(void *arg)
{
    struct scrubber *s = arg;
    struct uuid *after = NULL, last;
    while (!s->background.stopping) {
        struct err e;
        int r = scrub_image(s, after, &e);
        if (r < 0)
            log_error("the versions of an image cannot be read: %s", e.msg);
        last = s->pass.image;
        after = &last;
        if (r <= 0)
            background_rest(&s->background, r < 0 ? FAIL_MILLISECONDS : LOOK_MILLISECONDS);
    }
}

int scrubber_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct scrubber **ret,
                   struct err *e)
{
    struct scrubber *new = calloc(1, sizeof *new);
    if (!new)
        return err_set(e, ERR_FAILED, "out of memory");
    if (background_start(&new->background, s, sleep, scrub, new, e) < 0) {
        free(new);
        return -1;
    }
    *ret = new;
    return 0;
}

void scrubber_stop(struct scrubber *s)
{
    if (!s)
        return;
    background_stop(&s->background);
    free(s);
}
