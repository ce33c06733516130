/* SPDX-License-Identifier: BSD-3-Clause */
/* How the cache works.
 *
 * Memory is one reservation cut into slots of 64 KiB, a chunk each. Slots belong to shards by number, keys by
 * hash; a shard has its own lock, and shards have nothing to do with each other.
 *
 * A slot's life: FREE (on the shard's free list) -> LOADING (in the hash table, in no queue) -> READY (in the
 * hash table and one queue) -> evicted, that is LOADING for another key. When the fill fails: FAILED (in no
 * table, no queue, kept only for those who wait for it) -> FREE.
 *
 * PINS. Whoever reads a slot's bytes, fills it or waits for it has it pinned; only unpinned slots are
 * evicted. Pins are taken under the shard's lock, and given back without it: a hit is one lock, one copy, one
 * atomic subtraction.
 *
 * WHAT STAYS: S3-FIFO. New chunks enter the small queue, a tenth of the slots. At its end a chunk goes on to
 * the main queue when it was hit meanwhile, else it is evicted and its name is kept for a while in the ghost
 * table; a miss that is found there enters main at once. Main is a FIFO in which each hit buys one more
 * round. What differs from the book: a hit counts only when it comes from another session than the one that
 * filled the slot. A machine reads each chunk in many small requests; that says nothing about whether another
 * machine will want it. So one machine that scans its whole disk passes through the small queue and leaves
 * what all machines boot from alone. While nothing is in main, the small queue has all slots. */
#include "lib/store/cache.h"

#include "lib/base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SLOT_SIZE ((size_t)CHUNK_SIZE_MAX)
#define SHARDS_MAX 64u
#define SHARD_SLOTS_MIN 8u
#define HITS_MAX 3 /* rounds in main that hits can buy */
#define NO_SLOT UINT32_MAX
#define GHOSTS_PER_BUCKET 4u

static_assert(SLOT_SIZE >= sizeof(struct err), "a failed slot holds its error");

enum slot_state { SLOT_FREE, SLOT_LOADING, SLOT_READY, SLOT_FAILED };

/* All but `pins` is guarded by the shard's lock; the bytes by the pins. */
struct slot {
    struct cache_key key;
    uint64_t session; /* that filled it */
    uint32_t chain;   /* next in the bucket */
    uint32_t next;    /* next in the queue or the free list, younger */
    enum slot_state state;
    int hits;
    atomic_uint pins;
};

struct queue {
    uint32_t oldest, youngest, count;
};

/* Which keys were evicted from the small queue lately: a tag and the time (in evictions) for each. A
 * collision forgets the older one. */
struct ghost {
    uint32_t tag, time;
};

struct shard {
    pthread_mutex_t lock; /* of everything here; no other lock is taken under it */
    pthread_cond_t loaded;
    struct slot *slots;
    uint32_t count;    /* of slots */
    uint32_t *buckets; /* first slot of the chain */
    uint32_t mask;     /* buckets - 1 */
    uint32_t free;
    struct queue small, main;
    struct ghost *ghosts; /* GHOSTS_PER_BUCKET times the buckets: collisions are rare */
    uint32_t ghost_time;
    struct cache_counters counters;
} __attribute__((aligned(64)));

struct cache {
    uint8_t *memory;
    size_t memory_size;
    uint32_t shard_count; /* a power of two */
    struct shard shards[];
};

static uint64_t key_hash(const struct cache_key *k)
{
    /* The chunk's hash is random already, but the same chunk may stand in many places. */
    return get_le64(k->hash.b) ^ (k->offset + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static struct shard *shard_of(struct cache *c, uint64_t hash)
{
    return &c->shards[(hash >> 58) & (c->shard_count - 1)];
}

/* Slot i of all shards, then slot i + 1 of all: a cache that fills up grows from the start of its memory. */
static uint8_t *slot_bytes(const struct cache *c, const struct shard *s, const struct slot *t)
{
    size_t number = (size_t)(t - s->slots) * c->shard_count + (size_t)(s - c->shards);
    return c->memory + number * SLOT_SIZE;
}

/* --- the hash table --- */

static struct slot *find(struct shard *s, const struct cache_key *k, uint64_t hash)
{
    for (uint32_t i = s->buckets[hash & s->mask]; i != NO_SLOT; i = s->slots[i].chain)
        if (memcmp(&s->slots[i].key, k, sizeof *k) == 0)
            return &s->slots[i];
    return NULL;
}

static void insert(struct shard *s, struct slot *t)
{
    uint32_t *bucket = &s->buckets[key_hash(&t->key) & s->mask];
    t->chain = *bucket;
    *bucket = (uint32_t)(t - s->slots);
}

static void forget(struct shard *s, struct slot *t)
{
    uint32_t *link = &s->buckets[key_hash(&t->key) & s->mask];
    while (&s->slots[*link] != t)
        link = &s->slots[*link].chain;
    *link = t->chain;
}

/* --- queues --- */

static void push(struct shard *s, struct queue *q, struct slot *t)
{
    uint32_t i = (uint32_t)(t - s->slots);
    t->next = NO_SLOT;
    if (q->count++ == 0)
        q->oldest = i;
    else
        s->slots[q->youngest].next = i;
    q->youngest = i;
}

static struct slot *pop(struct shard *s, struct queue *q)
{
    struct slot *t = &s->slots[q->oldest];
    q->oldest = t->next;
    q->count--;
    return t;
}

static void push_free(struct shard *s, struct slot *t)
{
    t->state = SLOT_FREE;
    t->next = s->free;
    s->free = (uint32_t)(t - s->slots);
}

/* --- ghosts --- */

static struct ghost *ghost_at(struct shard *s, uint64_t hash)
{
    return &s->ghosts[(hash >> 20) & ((s->mask + 1) * GHOSTS_PER_BUCKET - 1)];
}

static uint32_t ghost_tag(uint64_t hash)
{
    return (uint32_t)(hash >> 24) | 1; /* 0 is no ghost */
}

static void remember(struct shard *s, const struct cache_key *k)
{
    uint64_t hash = key_hash(k);
    *ghost_at(s, hash) = (struct ghost){.tag = ghost_tag(hash), .time = s->ghost_time++};
}

/* Whether the key was among the last evictions, as many as there are slots. */
static bool recall(struct shard *s, uint64_t hash)
{
    struct ghost *g = ghost_at(s, hash);
    if (g->tag != ghost_tag(hash) || s->ghost_time - g->time > s->count)
        return false;
    g->tag = 0;
    return true;
}

/* --- eviction --- */

static bool pinned(struct slot *t)
{
    /* Acquire: what the last reader did with the bytes is over before they are filled anew. */
    return atomic_load_explicit(&t->pins, memory_order_acquire) != 0;
}

static bool evict_small(struct shard *s, struct slot **ret)
{
    struct slot *t = pop(s, &s->small);
    if (t->hits > 0) {
        t->hits = 0;
        push(s, &s->main, t);
        return false;
    }
    if (pinned(t)) {
        push(s, &s->small, t);
        return false;
    }
    remember(s, &t->key);
    *ret = t;
    return true;
}

static bool evict_main(struct shard *s, struct slot **ret)
{
    struct slot *t = pop(s, &s->main);
    if (t->hits > 0 || pinned(t)) {
        if (t->hits > 0)
            t->hits--;
        push(s, &s->main, t);
        return false;
    }
    *ret = t;
    return true;
}

/* A slot for a new chunk, NULL when all are in use. */
static struct slot *take_slot(struct shard *s)
{
    struct slot *t;
    if (s->free != NO_SLOT) {
        t = &s->slots[s->free];
        s->free = t->next;
        return t;
    }
    /* Each slot is passed once in small, and in main once for each hit and once more. */
    for (uint32_t tries = s->count * (HITS_MAX + 2); tries > 0; tries--) {
        bool from_small = s->small.count > 0 && (s->small.count > s->count / 10 || s->main.count == 0);
        if (!from_small && s->main.count == 0)
            return NULL;
        if (from_small ? evict_small(s, &t) : evict_main(s, &t)) {
            forget(s, t);
            s->counters.evictions++;
            return t;
        }
    }
    return NULL;
}

/* --- reading --- */

static void unpin(struct slot *t)
{
    atomic_fetch_sub_explicit(&t->pins, 1, memory_order_release);
}

/* The lock is held. */
static void unpin_failed(struct shard *s, struct slot *t)
{
    if (atomic_fetch_sub_explicit(&t->pins, 1, memory_order_acq_rel) == 1)
        push_free(s, t);
}

/* Pins a slot that was found, once it is filled. The lock is held. */
static int pin_present(struct cache *c, struct shard *s, struct slot *t, uint64_t session, struct err *e)
{
    atomic_fetch_add_explicit(&t->pins, 1, memory_order_relaxed);
    s->counters.hits++;
    while (t->state == SLOT_LOADING)
        pthread_cond_wait(&s->loaded, &s->lock);
    if (t->state == SLOT_FAILED) {
        memcpy(e, slot_bytes(c, s, t), sizeof *e);
        unpin_failed(s, t);
        return -1;
    }
    if (t->session != session && t->hits < HITS_MAX)
        t->hits++;
    return 0;
}

/* Fills a pinned slot in state LOADING. The lock is held, but given up for the fill. */
static int load(struct cache *c, struct shard *s, struct slot *t, const struct cache_fill *fill,
                struct queue *queue, struct err *e)
{
    uint8_t *bytes = slot_bytes(c, s, t);
    pthread_mutex_unlock(&s->lock);
    int result = fill->fill(fill->ctx, bytes, e);
    pthread_mutex_lock(&s->lock);
    if (result == 0) {
        t->state = SLOT_READY;
        push(s, queue, t);
    } else {
        /* Those who wait find the error where the bytes would be. */
        memcpy(bytes, e, sizeof *e);
        t->state = SLOT_FAILED;
        forget(s, t);
        unpin_failed(s, t);
    }
    pthread_cond_broadcast(&s->loaded);
    return result;
}

/* Pins a slot with the chunk that is not here. 1: no slot. The lock is held. */
static int pin_missing(struct cache *c, struct shard *s, const struct cache_key *key, uint64_t session,
                       const struct cache_fill *fill, struct slot **ret, struct err *e)
{
    s->counters.misses++;
    struct slot *t = take_slot(s);
    if (!t)
        return 1;
    t->key = *key;
    t->session = session;
    t->state = SLOT_LOADING;
    t->hits = 0;
    atomic_store_explicit(&t->pins, 1, memory_order_relaxed);
    insert(s, t);
    struct queue *queue = recall(s, key_hash(key)) ? &s->main : &s->small;
    *ret = t;
    return load(c, s, t, fill, queue, e);
}

int cache_read(struct cache *c, const struct cache_key *key, uint64_t session, const struct cache_fill *fill,
               void *buf, size_t count, size_t from, struct err *e)
{
    uint64_t hash = key_hash(key);
    struct shard *s = shard_of(c, hash);
    pthread_mutex_lock(&s->lock);
    struct slot *t = find(s, key, hash);
    int result = t ? pin_present(c, s, t, session, e) : pin_missing(c, s, key, session, fill, &t, e);
    pthread_mutex_unlock(&s->lock);
    if (result != 0)
        return result;
    if (count > 0)
        memcpy(buf, slot_bytes(c, s, t) + from, count);
    unpin(t);
    return 0;
}

/* --- making --- */

static int shard_init(struct shard *s, uint32_t count)
{
    uint32_t buckets = 1;
    while (buckets < count * 2)
        buckets *= 2;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->loaded, NULL);
    s->count = count;
    s->mask = buckets - 1;
    s->slots = calloc(count, sizeof *s->slots);
    s->ghosts = calloc(buckets * GHOSTS_PER_BUCKET, sizeof *s->ghosts);
    s->buckets = malloc(buckets * sizeof *s->buckets);
    if (!s->slots || !s->ghosts || !s->buckets)
        return -1;
    memset(s->buckets, 0xff, buckets * sizeof *s->buckets); /* NO_SLOT */
    s->free = NO_SLOT;
    for (uint32_t i = count; i-- > 0;)
        push_free(s, &s->slots[i]);
    return 0;
}

static void shard_release(struct shard *s)
{
    free(s->slots);
    free(s->ghosts);
    free(s->buckets);
    pthread_cond_destroy(&s->loaded);
    pthread_mutex_destroy(&s->lock);
}

void cache_free(struct cache *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->shard_count; i++)
        shard_release(&c->shards[i]);
    if (c->memory)
        munmap(c->memory, c->memory_size);
    free(c);
}

DEFINE_CLEANUP(cache, struct cache, cache_free);

int cache_new(uint64_t memory, struct cache **ret, struct err *e)
{
    uint64_t slots = max_u64(memory / SLOT_SIZE, CACHE_SLOTS_MIN);
    uint32_t shards = SHARDS_MAX;
    while (slots / shards < SHARD_SLOTS_MIN)
        shards /= 2;
    uint64_t each = slots / shards;
    if (each > UINT32_MAX / 8)
        return err_set(e, ERR_USAGE, "a cache of %" PRIu64 " bytes is too large", memory);

    size_t size = sizeof(struct cache) + shards * sizeof(struct shard);
    cleanup(cache) struct cache *c = aligned_alloc(_Alignof(struct cache), size);
    if (!c)
        return err_sys(e, ENOMEM, "cache");
    memset(c, 0, size);
    for (; c->shard_count < shards; c->shard_count++)
        if (shard_init(&c->shards[c->shard_count], (uint32_t)each) < 0) {
            c->shard_count++;
            return err_sys(e, ENOMEM, "cache of %" PRIu64 " bytes", memory);
        }
    c->memory_size = (size_t)each * shards * SLOT_SIZE;
    void *p = mmap(NULL, c->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        return err_sys(e, errno, "cache of %" PRIu64 " bytes", memory);
    c->memory = p;
    /* Random reads of a large cache are a fifth faster so; where it cannot be had, nothing is lost. */
    madvise(c->memory, c->memory_size, MADV_HUGEPAGE);
    *ret = steal(&c);
    return 0;
}

void cache_counters(struct cache *c, struct cache_counters *ret)
{
    struct cache_counters sum = {0};
    for (uint32_t i = 0; i < c->shard_count; i++) {
        struct shard *s = &c->shards[i];
        pthread_mutex_lock(&s->lock);
        sum.hits += s->counters.hits;
        sum.misses += s->counters.misses;
        sum.evictions += s->counters.evictions;
        pthread_mutex_unlock(&s->lock);
    }
    *ret = sum;
}

uint64_t cache_size(const struct cache *c)
{
    return c->memory_size;
}
