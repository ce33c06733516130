/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/ordered.h"

#include "lib/store/workers.h"

#include <pthread.h>
#include <stdbool.h>

struct run {
    const struct ordered *o;
    pthread_mutex_t lock; /* of all below; not held while an item is given out: the turn is enough */
    pthread_cond_t turned;
    uint64_t claimed, turn;
    bool stopped;
    struct err err; /* the first one, valid when stopped */
};

static bool claim(struct run *r, uint64_t *ret)
{
    pthread_mutex_lock(&r->lock);
    bool more = !r->stopped && r->claimed < r->o->items;
    if (more)
        *ret = r->claimed++;
    pthread_mutex_unlock(&r->lock);
    return more;
}

static bool wait_for_turn(struct run *r, uint64_t item)
{
    pthread_mutex_lock(&r->lock);
    while (r->turn != item && !r->stopped)
        pthread_cond_wait(&r->turned, &r->lock);
    bool go = !r->stopped;
    pthread_mutex_unlock(&r->lock);
    return go;
}

static void pass_turn(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    r->turn++;
    pthread_cond_broadcast(&r->turned);
    pthread_mutex_unlock(&r->lock);
}

static int work(struct run *r, void *slot, struct err *e)
{
    const struct ordered *o = r->o;
    uint64_t item;
    while (claim(r, &item)) {
        if (o->prepare(o->ctx, slot, item, e) < 0)
            return -1;
        if (!wait_for_turn(r, item))
            return 0;
        if (o->emit(o->ctx, slot, item, e) < 0)
            return -1;
        pass_turn(r);
    }
    return 0;
}

static void *worker_main(void *arg)
{
    struct run *r = arg;
    struct err e;
    void *slot = NULL;
    int result = r->o->slot_new(r->o->ctx, &slot, &e);
    if (result == 0)
        result = work(r, slot, &e);
    r->o->slot_free(slot);
    if (result == 0)
        return NULL;
    pthread_mutex_lock(&r->lock);
    if (!r->stopped)
        r->err = e;
    r->stopped = true;
    pthread_cond_broadcast(&r->turned);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int ordered_run(const struct ordered *o, struct err *e)
{
    struct run r = {.o = o, .lock = PTHREAD_MUTEX_INITIALIZER, .turned = PTHREAD_COND_INITIALIZER};
    workers_run(0, worker_main, &r);
    if (r.stopped)
        *e = r.err;
    pthread_cond_destroy(&r.turned);
    pthread_mutex_destroy(&r.lock);
    return r.stopped ? -1 : 0;
}
