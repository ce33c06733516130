/* SPDX-License-Identifier: BSD-3-Clause */

/* A version is checked leaf by leaf: workers take leaves in turn, check the chunks of theirs in parallel, and then, one
 * after another in the order of the disk, add them to the checksums.
 *
 * What is known from versions before: a layer whose own version was checked to its end has no chunk that was not looked
 * at; chunks of other layers (retired ones, such of versions that were not asked for) are remembered one by one, in a
 * table that may forget. Damaged places are in a list. When that is full nothing counts as known any more. */
#include "lib/store/verify.h"

#include "lib/base/cleanup.h"
#include "lib/store/checksum.h"
#include "lib/store/internal.h"
#include "lib/store/workers.h"

#include <inttypes.h>
#include <time.h>

#define SEEN_SLOTS (UINT64_C(1) << 20)
#define BAD_MAX 1024u
#define REPORT_INTERVAL_NS INT64_C(200000000)

/* A frame in the store. */
struct place {
    struct uuid layer;
    uint64_t offset;
};

struct run {
    struct store *store;
    const struct verify_options *o;
    struct uuid *swept; /* layers whose frames were all looked at */
    size_t nswept;
    bool counting;  /* only how much there is to read */
    uint64_t *seen; /* hashes of places; NULL: a single version, which has each but once */
    struct place bad[BAD_MAX];
    size_t nbad;
    bool forgetful; /* there were more */
    uint64_t done, total;
    int64_t reported_at;
};

/* One version. `lock` guards all below it, and what the run knows. */
struct pass {
    struct run *run;
    struct view *view;
    struct verify_result *result;
    uint64_t leaves, chunk_size, size, from; /* from: the first leaf whose data is wanted */
    struct uuid *layers;                     /* by the index that entries use */
    bool *swept;                             /* by the same */
    size_t nlayers;

    pthread_mutex_t lock;
    pthread_cond_t turned;
    uint64_t claimed, turn; /* leaves */
    bool leaf_lost;         /* one could not be read: not all frames were looked at */
    bool stopped;
    struct err err; /* valid when stopped */
    struct checksum sum;
    struct sha256_ctx sha;
};

struct worker {
    struct pass *p;
    struct scratch *scratch;
    uint8_t *data; /* the leaf's part of the disk; NULL: nobody wants it */
    uint64_t leaf;
    uint8_t raw[LEAF_SIZE];
    struct leaf_entry entries[LEAF_CHUNKS];
    bool wanted[LEAF_CHUNKS]; /* to be read */
};

/* A disk that cannot be read any more is damage like any other. */
static bool is_damage(const struct err *e)
{
    return e->code == ERR_CORRUPT || e->code == ERR_NOT_FOUND || e->sys == EIO;
}

static void note_place(struct verify_result *r, const struct uuid *layer, uint64_t chunks)
{
    size_t i = 0;
    while (i < r->ndamage && !uuid_equal(&r->damage[i].layer, layer))
        i++;
    if (i == VERIFY_DAMAGE_MAX)
        return;
    if (i == r->ndamage)
        r->damage[r->ndamage++] = (struct verify_damage){.layer = *layer};
    r->damage[i].chunks += chunks;
}

/* `layer` NULL: that of the version itself, which could not be read. */
static void note_damage(struct verify_result *r, const struct uuid *layer, uint64_t chunks, const char *why)
{
    if (!r->damaged)
        snprintf(r->why, sizeof r->why, "%s", why);
    r->damaged = true;
    r->damaged_chunks += chunks;
    if (layer)
        note_place(r, layer, chunks);
}

/* ---- what is known; the lock is held ----------------------------------------------------------------------------- */

static uint64_t *slot_of(struct run *run, const struct place *at, uint64_t *ret_key)
{
    struct hash h;
    uint8_t bytes[sizeof at->layer.b + 8];
    memcpy(bytes, at->layer.b, sizeof at->layer.b);
    put_le64(bytes + sizeof at->layer.b, at->offset);
    hash_of(bytes, sizeof bytes, &h);
    *ret_key = get_le64(h.b) | 1; /* an empty slot is 0 */
    return &run->seen[get_le64(h.b + 8) % SEEN_SLOTS];
}

static bool is_seen(struct run *run, const struct place *at)
{
    uint64_t key;
    return run->seen && *slot_of(run, at, &key) == key;
}

static void note_seen(struct run *run, const struct place *at)
{
    uint64_t key;
    if (run->seen) {
        uint64_t *slot = slot_of(run, at, &key);
        *slot = key;
    }
}

static bool is_bad(const struct run *run, const struct place *at)
{
    for (size_t i = 0; i < run->nbad; i++)
        if (run->bad[i].offset == at->offset && uuid_equal(&run->bad[i].layer, &at->layer))
            return true;
    return false;
}

static void note_bad(struct run *run, const struct place *at)
{
    run->forgetful |= run->nbad == BAD_MAX;
    if (!run->forgetful)
        run->bad[run->nbad++] = *at;
}

static struct place place_of(const struct pass *p, const struct leaf_entry *n)
{
    return (struct place){.layer = p->layers[n->layer], .offset = n->offset};
}

/* ---- one leaf ---------------------------------------------------------------------------------------------------- */

static void note_shared_damage(struct pass *p, const struct place *at, uint64_t chunk)
{
    char why[80];
    snprintf(why, sizeof why, "chunk %" PRIu64 " is damaged, as in an older version", chunk);
    note_damage(p->result, &at->layer, 1, why);
}

/* Damage that is known already is noted. */
static bool is_known(struct worker *w, unsigned i)
{
    struct pass *p = w->p;
    struct run *run = p->run;
    const struct leaf_entry *n = &w->entries[i];
    struct place at = place_of(p, n);
    if (run->o->sha256 || run->forgetful || (!p->swept[n->layer] && !is_seen(run, &at)))
        return false;
    if (run->nbad > 0 && is_bad(run, &at))
        note_shared_damage(p, &at, w->leaf * LEAF_CHUNKS + i);
    return true;
}

/* Whether the chunk is to be read. */
static bool wants_chunk(struct worker *w, unsigned i)
{
    struct run *run = w->p->run;
    const struct leaf_entry *n = &w->entries[i];
    if (n->codec == CODEC_ZERO || run->o->index_only || w->leaf < w->p->from || is_known(w, i))
        return false;
    if (!run->counting)
        return true;
    struct place at = place_of(w->p, n);
    note_seen(run, &at);
    run->total += n->stored;
    return false;
}

static int check_entry(const struct worker *w, unsigned i, struct err *e)
{
    const struct leaf_entry *n = &w->entries[i];
    uint64_t chunk = w->leaf * LEAF_CHUNKS + i;
    if (n->codec == CODEC_ZERO)
        return 0;
    if (n->layer >= w->p->nlayers)
        return err_set_sys(e, ERR_CORRUPT, EIO, "chunk %" PRIu64 ": layer %u of %zu", chunk, n->layer,
                           w->p->nlayers);
    if (chunk * w->p->chunk_size >= w->p->size)
        return err_set_sys(e, ERR_CORRUPT, EIO, "chunk %" PRIu64 ": past the end of the disk", chunk);
    return 0;
}

static int read_leaf(struct worker *w, struct err *e)
{
    struct pass *p = w->p;
    if (view_leaf(p->view, w->leaf, w->raw, e) < 0)
        return -1;
    for (unsigned i = 0; i < LEAF_CHUNKS; i++)
        if (leaf_entry_decode(w->raw + i * ENTRY_SIZE, view_footer(p->view)->chunk_shift, &w->entries[i], e) <
                0 ||
            check_entry(w, i, e) < 0)
            return err_wrap(e, "leaf %" PRIu64, w->leaf);
    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < LEAF_CHUNKS; i++)
        w->wanted[i] = wants_chunk(w, i);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static uint64_t leaf_offset(const struct worker *w)
{
    return w->leaf * LEAF_CHUNKS * w->p->chunk_size;
}

static uint64_t leaf_bytes(const struct worker *w)
{
    return min_u64(LEAF_CHUNKS * w->p->chunk_size, w->p->size - leaf_offset(w));
}

static int pace(struct worker *w, uint64_t bytes, struct err *e)
{
    const struct verify_watch *watch = &w->p->run->o->watch;
    if (watch->pace && !watch->pace(watch->ctx, bytes))
        return err_set(e, ERR_FAILED, "interrupted");
    return 0;
}

/* 0: it was looked at, whole or not. */
static int check_chunk(struct worker *w, unsigned i, struct err *e)
{
    struct pass *p = w->p;
    const struct leaf_entry *n = &w->entries[i];
    if (pace(w, n->stored, e) < 0)
        return -1;
    int r = view_check_entry(p->view, w->leaf * LEAF_CHUNKS + i, n, w->scratch, e);
    if (r < 0 && !is_damage(e))
        return -1;
    struct place at = place_of(p, n);
    pthread_mutex_lock(&p->lock);
    note_seen(p->run, &at);
    p->run->done += n->stored;
    if (r < 0) {
        note_bad(p->run, &at);
        note_damage(p->result, &at.layer, 1, e->msg);
    }
    pthread_mutex_unlock(&p->lock);
    uint64_t from = i * p->chunk_size;
    if (w->data && r == 0)
        memcpy(w->data + from, w->scratch->chunk, min_u64(p->chunk_size, leaf_bytes(w) - from));
    return 0;
}

static void lose_leaf(struct worker *w, const char *why)
{
    struct pass *p = w->p;
    struct root_entry r;
    struct err ignored;
    const struct uuid *layer = &p->layers[p->nlayers - 1];
    if (root_entry_decode(view_root(p->view) + w->leaf * ROOT_ENTRY_SIZE, &r, &ignored) == 0 &&
        r.layer < p->nlayers)
        layer = &p->layers[r.layer];
    pthread_mutex_lock(&p->lock);
    note_damage(p->result, layer, div_up(leaf_bytes(w), p->chunk_size), why);
    p->leaf_lost = true;
    pthread_mutex_unlock(&p->lock);
    memset(w->raw, 0, sizeof w->raw);
}

static int check_leaf(struct worker *w, struct err *e)
{
    struct pass *p = w->p;
    if (w->data)
        memset(w->data, 0, LEAF_CHUNKS * p->chunk_size);
    if (pace(w, LEAF_SIZE, e) < 0)
        return -1;
    if (read_leaf(w, e) < 0) {
        if (!is_damage(e))
            return -1;
        lose_leaf(w, e->msg);
        return 0;
    }
    for (unsigned i = 0; i * p->chunk_size < leaf_bytes(w); i++)
        if (w->wanted[i] && check_chunk(w, i, e) < 0)
            return -1;
    return 0;
}

/* ---- in the order of the disk; the lock is held -------------------------------------------------------------------- */

static int report_locked(struct run *run, struct err *e)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (!run->o->progress.report || ns - run->reported_at < REPORT_INTERVAL_NS)
        return 0;
    run->reported_at = ns;
    if (!run->o->progress.report(run->o->progress.ctx, run->done, run->counting ? 0 : run->total))
        return err_set(e, ERR_FAILED, "interrupted");
    return 0;
}

static void tell_seen_locked(struct worker *w)
{
    const struct run *run = w->p->run;
    if (run->o->watch.seen && !run->counting)
        run->o->watch.seen(run->o->watch.ctx, w->p->result, leaf_offset(w) + leaf_bytes(w), false);
}

static int finish_leaf_locked(struct worker *w, struct err *e)
{
    struct pass *p = w->p;
    while (p->turn != w->leaf && !p->stopped)
        pthread_cond_wait(&p->turned, &p->lock);
    if (p->stopped)
        return 0;
    if (!p->run->counting)
        checksum_leaf(&p->sum, w->leaf, w->raw);
    if (w->data)
        sha256_update(&p->sha, leaf_bytes(w), w->data);
    p->turn++;
    pthread_cond_broadcast(&p->turned);
    tell_seen_locked(w);
    return report_locked(p->run, e);
}

/* ---- workers ------------------------------------------------------------------------------------------------------- */

static bool claim(struct worker *w)
{
    struct pass *p = w->p;
    pthread_mutex_lock(&p->lock);
    bool more = !p->stopped && p->claimed < p->leaves;
    if (more)
        w->leaf = p->claimed++;
    pthread_mutex_unlock(&p->lock);
    return more;
}

static int work(struct worker *w, struct err *e)
{
    while (claim(w)) {
        if (check_leaf(w, e) < 0)
            return -1;
        pthread_mutex_lock(&w->p->lock);
        int r = finish_leaf_locked(w, e);
        pthread_mutex_unlock(&w->p->lock);
        if (r < 0)
            return -1;
    }
    return 0;
}

static int worker_run(struct pass *p, struct err *e)
{
    cleanup(free) struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return err_sys(e, ENOMEM, "worker");
    w->p = p;
    const bool whole = p->run->o->sha256 && !p->run->counting;
    cleanup(free) uint8_t *data = whole ? malloc(LEAF_CHUNKS * p->chunk_size) : NULL;
    if (whole && !data)
        return err_sys(e, ENOMEM, "buffer of a worker");
    w->data = data;
    if (scratch_take(p->run->store->scratch, &w->scratch, e) < 0)
        return -1;
    int r = work(w, e);
    scratch_give(w->scratch);
    return r;
}

static void *worker_main(void *arg)
{
    struct pass *p = arg;
    struct err e;
    if (worker_run(p, &e) == 0)
        return NULL;
    pthread_mutex_lock(&p->lock);
    if (!p->stopped)
        p->err = e;
    p->stopped = true;
    pthread_cond_broadcast(&p->turned);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- one version ----------------------------------------------------------------------------------------------------- */

static bool run_swept(const struct run *run, const struct uuid *layer)
{
    for (size_t i = 0; i < run->nswept; i++)
        if (uuid_equal(&run->swept[i], layer))
            return true;
    return false;
}

static int list_layers(struct pass *p, struct err *e)
{
    size_t length;
    const uint8_t *table = view_table(p->view, &length);
    size_t ancestors = length / TABLE_ENTRY_SIZE;
    p->nlayers = ancestors + 1;
    p->layers = calloc(p->nlayers, sizeof *p->layers);
    p->swept = calloc(p->nlayers, sizeof *p->swept);
    if (!p->layers || !p->swept)
        return err_sys(e, ENOMEM, "layer table");
    for (size_t i = 0; i < ancestors; i++) {
        struct table_entry t;
        table_entry_decode(table + i * TABLE_ENTRY_SIZE, &t);
        p->layers[i] = t.layer;
        p->swept[i] = run_swept(p->run, &t.layer);
    }
    p->layers[ancestors] = view_footer(p->view)->layer;
    return 0;
}

/* After the last leaf. */
static void check_sums(struct pass *p)
{
    const struct footer *f = view_footer(p->view);
    uint8_t sum[CHECKSUM_SIZE];
    checksum_end(&p->sum, sum);
    if (!p->result->damaged && memcmp(sum, f->checksum, sizeof sum) != 0)
        note_damage(p->result, &f->layer, 0, "its index does not have the checksum that its footer says");
    p->result->has_sha256 = p->run->o->sha256 && !p->result->damaged;
    if (p->result->has_sha256)
        sha256_digest(&p->sha, sizeof p->result->sha256, p->result->sha256);
}

static void finish_version(struct pass *p)
{
    struct run *run = p->run;
    if (!run->counting)
        check_sums(p);
    if (!run->o->index_only && !p->leaf_lost)
        run->swept[run->nswept++] = view_footer(p->view)->layer;
}

static int check_leaves(struct pass *p, struct err *e)
{
    if (list_layers(p, e) < 0)
        return -1;
    workers_run(p->run->o->threads, worker_main, p);
    if (p->stopped) {
        *e = p->err;
        return -1;
    }
    finish_version(p);
    return 0;
}

static int check_view(struct run *run, struct view *v, struct verify_result *result, struct err *e)
{
    const struct footer *f = view_footer(v);
    struct pass p = {.run = run,
                     .view = v,
                     .result = result,
                     .leaves = leaves_of(f->virtual_size, f->chunk_shift),
                     .chunk_size = UINT64_C(1) << f->chunk_shift,
                     .size = f->virtual_size,
                     .from = result->from / (LEAF_CHUNKS << f->chunk_shift)};
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.turned, NULL);
    checksum_start(&p.sum, p.size, f->chunk_shift);
    sha256_init(&p.sha);
    int r = check_leaves(&p, e);
    pthread_cond_destroy(&p.turned);
    pthread_mutex_destroy(&p.lock);
    free(p.layers);
    free(p.swept);
    return r;
}

/* ---- all --------------------------------------------------------------------------------------------------------------- */

static int check_version(struct run *run, const struct uuid *image, struct verify_result *result,
                         struct err *e)
{
    struct view *v;
    *result = (struct verify_result){.version = result->version, .from = result->from};
    if (view_open(run->store, image, result->version, &v, e) < 0) {
        if (!is_damage(e))
            return -1;
        note_damage(result, NULL, 0, e->msg);
        return 0;
    }
    int r = check_view(run, v, result, e);
    view_close(v);
    return r;
}

static void forget_all(struct run *run)
{
    const struct verify_options *o = run->o;
    run->nswept = o->nknown;
    if (o->nknown > 0)
        memcpy(run->swept, o->known, o->nknown * sizeof *run->swept);
    if (run->seen)
        memset(run->seen, 0, SEEN_SLOTS * sizeof *run->seen);
}

/* The same way through all indexes, so that exactly what will be read counts. */
static int count_bytes(struct run *run, const struct uuid *image, const struct verify_result *results,
                       size_t count, struct err *e)
{
    run->counting = true;
    for (size_t i = 0; i < count; i++) {
        struct verify_result r = results[i];
        if (check_version(run, image, &r, e) < 0)
            return -1;
    }
    run->counting = false;
    forget_all(run);
    return 0;
}

static int check_all(struct run *run, const struct uuid *image, struct verify_result *results, size_t count,
                     struct err *e)
{
    const struct verify_watch *watch = &run->o->watch;
    for (size_t i = 0; i < count; i++) {
        if (check_version(run, image, &results[i], e) < 0)
            return -1;
        if (watch->seen)
            watch->seen(watch->ctx, &results[i], 0, true);
    }
    return 0;
}

int store_verify(struct store *s, const struct uuid *image, const struct verify_options *o,
                 struct verify_result *results, size_t count, struct err *e)
{
    const bool many = count > 1 && !o->index_only;
    cleanup(free) struct run *run = calloc(1, sizeof *run);
    cleanup(free) struct uuid *swept = calloc(count + o->nknown + 1, sizeof *swept);
    cleanup(free) uint64_t *seen = many ? malloc(SEEN_SLOTS * sizeof *seen) : NULL;
    if (!run || !swept || (!seen && many))
        return err_sys(e, ENOMEM, "verify");
    *run = (struct run){.store = s, .o = o, .swept = swept, .seen = seen};
    forget_all(run);
    if (o->progress.report && count_bytes(run, image, results, count, e) < 0)
        return -1;
    return check_all(run, image, results, count, e);
}
