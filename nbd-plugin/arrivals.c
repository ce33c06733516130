/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/arrivals.h"

#include <string.h>

/* Its own, two of nbdkit's for its workers, and one for the files that it opens. */
#define DESCRIPTORS_EACH 4

struct arrival {
    struct arrivals *all;
    struct peer peer;
    bool waits;
    struct arrival *next, *previous;
};

static void begin_to_wait(struct arrival *a)
{
    struct arrival **first = &a->all->waiting;
    a->waits = true;
    a->previous = NULL;
    a->next = *first;
    if (a->next)
        a->next->previous = a;
    *first = a;
}

static void cease_to_wait(struct arrival *a)
{
    *(a->previous ? &a->previous->next : &a->all->waiting) = a->next;
    if (a->next)
        a->next->previous = a->previous;
    a->waits = false;
}

/* At the end of the connection's thread. */
static void arrival_end(void *arg)
{
    struct arrival *a = arg;
    pthread_mutex_lock(&a->all->lock);
    if (a->waits)
        cease_to_wait(a);
    a->all->count--;
    pthread_mutex_unlock(&a->all->lock);
    free(a);
}

int arrivals_init(struct arrivals *all, size_t descriptors, struct err *e)
{
    all->most = descriptors / DESCRIPTORS_EACH;
    pthread_mutex_init(&all->lock, NULL);
    int r = pthread_key_create(&all->key, arrival_end);
    return r ? err_sys(e, r, "connections") : 0;
}

static size_t count_waiting(const struct arrivals *all, const struct peer *peer)
{
    size_t count = 0;
    for (const struct arrival *a = all->waiting; a; a = a->next)
        count += !a->peer.local && memcmp(&a->peer.address, &peer->address, sizeof peer->address) == 0;
    return count;
}

/* Whoever reaches the Unix socket is an admin. */
static int check_room(const struct arrivals *all, const struct peer *peer, struct err *e)
{
    if (all->count >= all->most)
        return err_set(e, ERR_STATE,
                       "there are %zu already, as many as the limit of open files is enough for", all->count);
    if (!peer->local && count_waiting(all, peer) >= ARRIVALS_OF_AN_ADDRESS)
        return err_set(e, ERR_STATE, "%s has %d already that have opened nothing", peer->text,
                       ARRIVALS_OF_AN_ADDRESS);
    return 0;
}

int arrival_begin(struct arrivals *all, const struct peer *peer, struct err *e)
{
    struct arrival *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(e, ERR_FAILED, "out of memory");
    *a = (struct arrival){.all = all, .peer = *peer};
    pthread_mutex_lock(&all->lock);
    int r = check_room(all, peer, e);
    if (r == 0 && pthread_setspecific(all->key, a) != 0)
        r = err_set(e, ERR_FAILED, "out of memory");
    if (r == 0) {
        all->count++;
        begin_to_wait(a);
    }
    pthread_mutex_unlock(&all->lock);
    if (r < 0)
        free(a);
    return r;
}

void arrival_note_open(struct arrivals *all, bool open)
{
    struct arrival *a = pthread_getspecific(all->key);
    if (!a)
        return;
    pthread_mutex_lock(&all->lock);
    if (open == a->waits)
        (open ? cease_to_wait : begin_to_wait)(a);
    pthread_mutex_unlock(&all->lock);
}
