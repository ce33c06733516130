/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/store/cache: one fill for many readers, what stays and what goes, errors, and more readers than slots. */
#include "lib/store/cache.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static struct err e;

/* --- a source of chunks: chunk n is filled with the number n --- */

struct source {
    uint64_t number;
    atomic_int *fills; /* counted there, may be NULL */
    atomic_int *gate;  /* the fill waits until it is open; may be NULL */
    bool broken;
};

static int fill(void *ctx, uint8_t *slot, struct err *err)
{
    const struct source *s = ctx;
    if (s->fills)
        atomic_fetch_add(s->fills, 1);
    while (s->gate && !atomic_load(s->gate))
        usleep(100);
    if (s->broken)
        return err_set_sys(err, ERR_CORRUPT, EIO, "chunk %d is broken", (int)s->number);
    for (size_t i = 0; i < CHUNK_SIZE_MAX; i += 8)
        put_le64(slot + i, s->number);
    return 0;
}

static struct cache_key key_of(uint64_t number)
{
    struct cache_key k = {.offset = number * 65536};
    hash_of(&number, sizeof number, &k.hash);
    return k;
}

static int read_as(struct cache *c, uint64_t session, struct source *s, uint64_t *ret, struct err *err)
{
    struct cache_key k = key_of(s->number);
    struct cache_fill f = {.fill = fill, .ctx = s};
    return cache_read(c, &k, session, &f, ret, sizeof *ret, 65528, err);
}

/* Reads chunk `number` and says whether it had to be filled. */
static bool missed(struct cache *c, uint64_t session, uint64_t number)
{
    uint64_t got = 0;
    atomic_int fills = 0;
    struct source s = {.number = number, .fills = &fills};
    CHECK(read_as(c, session, &s, &got, &e) == 0);
    CHECK(got == number);
    return fills > 0;
}

static struct cache *new_cache(uint64_t slots)
{
    struct cache *c;
    CHECK_OK(cache_new(slots * CHUNK_SIZE_MAX, &c, &e));
    CHECK(cache_size(c) + 64 * CHUNK_SIZE_MAX > slots * CHUNK_SIZE_MAX);
    return c;
}

/* --- stories --- */

static void a_second_read_is_a_hit(void)
{
    struct cache *c = new_cache(1024);
    struct cache_counters n;
    for (uint64_t i = 0; i < 300; i++)
        CHECK(missed(c, 1, i));
    for (uint64_t i = 0; i < 300; i++)
        CHECK(!missed(c, 2, i));
    cache_counters(c, &n);
    CHECK(n.hits == 300 && n.misses == 300 && n.evictions == 0);
    cache_free(c);
}

static void any_size_of_cache(void)
{
    for (uint64_t slots = 0; slots < 700; slots = slots * 2 + 1) {
        struct cache *c = new_cache(slots);
        for (uint64_t i = 0; i < slots * 3 + 50; i++)
            missed(c, i % 3, i % (slots + 20));
        cache_free(c);
    }
    struct cache *c;
    CHECK_FAILS(cache_new(UINT64_MAX, &c, &e), ERR_USAGE);
}

static void the_key_is_all_of_it(void)
{
    struct cache *c = new_cache(16);
    struct source a = {.number = 1}, b = {.number = 2};
    uint64_t got;
    struct cache_key k = key_of(1);
    struct cache_fill from_a = {.fill = fill, .ctx = &a}, from_b = {.fill = fill, .ctx = &b};
    CHECK(cache_read(c, &k, 0, &from_a, &got, 8, 0, &e) == 0 && got == 1);
    k.layer.b[3] = 1;
    CHECK(cache_read(c, &k, 0, &from_b, &got, 8, 0, &e) == 0 && got == 2);
    k.layer.b[3] = 0;
    CHECK(cache_read(c, &k, 0, &from_b, &got, 8, 0, &e) == 0 && got == 1);
    k.hash.b[15] ^= 1;
    CHECK(cache_read(c, &k, 0, &from_b, &got, 8, 0, &e) == 0 && got == 2);
    cache_free(c);
}

/* Forty machines' common chunks survive one machine that reads its whole disk, twice over and in small
 * pieces. */
static void a_scan_does_not_push_out_what_is_shared(void)
{
    struct cache *c = new_cache(1024);
    for (uint64_t session = 1; session <= 3; session++)
        for (uint64_t i = 0; i < 400; i++)
            missed(c, session, i);
    for (uint64_t i = 1000; i < 9000; i++) {
        missed(c, 99, i);
        for (int again = 0; again < 15; again++)
            missed(c, 99, i);
    }
    int lost = 0;
    for (uint64_t i = 0; i < 400; i++)
        lost += missed(c, 4, i);
    CHECK(lost == 0);
    cache_free(c);
}

static void own_hits_do_not_promote(void)
{
    struct cache *c = new_cache(1024);
    for (int again = 0; again < 10; again++)
        for (uint64_t i = 0; i < 400; i++)
            missed(c, 1, i);
    for (uint64_t i = 1000; i < 9000; i++)
        missed(c, 1, i);
    for (uint64_t i = 0; i < 400; i++)
        CHECK(missed(c, 1, i));
    cache_free(c);
}

/* What comes back soon after its eviction goes to main, where another scan does not reach it. */
static void what_was_missed_once_stays(void)
{
    struct cache *c = new_cache(1024);
    for (uint64_t i = 0; i < 1024 + 700; i++)
        missed(c, 1, i);
    for (uint64_t i = 0; i < 300; i++)
        missed(c, 1, i);
    for (uint64_t i = 5000; i < 9000; i++)
        missed(c, 1, i);
    int kept = 0;
    for (uint64_t i = 0; i < 300; i++)
        kept += !missed(c, 1, i);
    CHECK(kept > 150); /* shards are filled unevenly: in some, none of the 300 was evicted before */
    cache_free(c);
}

struct reader_thread {
    pthread_t thread;
    struct cache *cache;
    struct source source;
    int result;
    uint64_t got;
    struct err err;
};

static void *run_reader(void *arg)
{
    struct reader_thread *t = arg;
    t->result = read_as(t->cache, (uintptr_t)t, &t->source, &t->got, &t->err);
    return NULL;
}

static void start(struct reader_thread *t, struct cache *c, struct source s)
{
    t->cache = c;
    t->source = s;
    CHECK(pthread_create(&t->thread, NULL, run_reader, t) == 0);
}

static void wait_for(struct cache *c, uint64_t reads)
{
    struct cache_counters n;
    do {
        usleep(100);
        cache_counters(c, &n);
    } while (n.hits + n.misses < reads);
}

#define READERS 12

static void one_fill_for_all_who_wait(void)
{
    struct cache *c = new_cache(64);
    atomic_int fills = 0, gate = 0;
    struct reader_thread t[READERS];
    for (size_t i = 0; i < READERS; i++)
        start(&t[i], c, (struct source){.number = 7, .fills = &fills, .gate = &gate});
    wait_for(c, READERS);
    gate = 1;
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(t[i].thread, NULL);
        CHECK(t[i].result == 0 && t[i].got == 7);
    }
    CHECK(fills == 1);
    cache_free(c);
}

static void an_error_wakes_all_and_leaves_nothing(void)
{
    struct cache *c = new_cache(16);
    for (int round = 0; round < 30; round++) { /* more often than there are slots: none is lost */
        atomic_int fills = 0, gate = 0;
        struct reader_thread t[READERS];
        for (size_t i = 0; i < READERS; i++)
            start(&t[i], c, (struct source){.number = 7, .fills = &fills, .gate = &gate, .broken = true});
        wait_for(c, (READERS + 1) * (uint64_t)round + READERS);
        gate = 1;
        for (size_t i = 0; i < READERS; i++) {
            pthread_join(t[i].thread, NULL);
            CHECK(t[i].result == -1 && t[i].err.code == ERR_CORRUPT && t[i].err.sys == EIO);
            CHECK_STR(t[i].err.msg, "chunk 7 is broken");
        }
        CHECK(fills == 1);
        CHECK(missed(c, 0, 1000 + (uint64_t)round));
    }
    CHECK(missed(c, 0, 7));
    CHECK(!missed(c, 0, 7));
    cache_free(c);
}

/* Every slot is being filled: who comes then is told to read without. */
static void more_readers_than_slots(void)
{
    struct cache *c = new_cache(CACHE_SLOTS_MIN);
    atomic_int gate = 0, fills = 0;
    struct reader_thread t[64];
    for (size_t i = 0; i < ARRAY_SIZE(t); i++)
        start(&t[i], c, (struct source){.number = 100 + i, .gate = &gate, .fills = &fills});
    wait_for(c, ARRAY_SIZE(t));
    while (atomic_load(&fills) < (int)CACHE_SLOTS_MIN)
        usleep(100);
    gate = 1;
    unsigned without = 0;
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        pthread_join(t[i].thread, NULL);
        CHECK(t[i].result == 1 || (t[i].result == 0 && t[i].got == 100 + i));
        without += t[i].result == 1;
    }
    CHECK(without == ARRAY_SIZE(t) - CACHE_SLOTS_MIN);
    for (uint64_t i = 0; i < 200; i++) /* and all slots are usable again */
        missed(c, 1, i);
    cache_free(c);
}

struct storm {
    pthread_t thread;
    struct cache *cache;
    unsigned seed;
};

static void *run_storm(void *arg)
{
    struct storm *st = arg;
    for (int i = 0; i < 4000; i++) {
        uint64_t number = (uint64_t)rand_r(&st->seed) % 60, got = 0;
        struct source s = {.number = number, .broken = rand_r(&st->seed) % 50 == 0};
        struct err err;
        int result = read_as(st->cache, st->seed % 4, &s, &got, &err);
        CHECK(result != 0 || got == number);
        CHECK(result >= 0 || err.code == ERR_CORRUPT);
    }
    return NULL;
}

static void everything_at_once(void)
{
    struct cache *c = new_cache(32);
    struct storm st[8];
    for (unsigned i = 0; i < ARRAY_SIZE(st); i++) {
        st[i] = (struct storm){.cache = c, .seed = i};
        CHECK(pthread_create(&st[i].thread, NULL, run_storm, &st[i]) == 0);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(st); i++)
        pthread_join(st[i].thread, NULL);
    cache_free(c);
}

int main(void)
{
    UNIT(a_second_read_is_a_hit);
    UNIT(any_size_of_cache);
    UNIT(the_key_is_all_of_it);
    UNIT(a_scan_does_not_push_out_what_is_shared);
    UNIT(own_hits_do_not_promote);
    UNIT(what_was_missed_once_stays);
    UNIT(one_fill_for_all_who_wait);
    UNIT(an_error_wakes_all_and_leaves_nothing);
    UNIT(more_readers_than_slots);
    UNIT(everything_at_once);
    return 0;
}
