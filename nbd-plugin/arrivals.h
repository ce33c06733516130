/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_ARRIVALS_H
#define LABBOOT_ARRIVALS_H

/* Connections, counted from their arrival on. Until one opens an export, which its client may put off for as long as it
 * likes, it is nbdkit's alone: a thread and a descriptor each, without limit or timeout; and where descriptors run out nbdkit
 * spins. So one address may have so many of those, and all together so many connections that descriptors are left.
 *
 * nbdkit calls nobody when a connection ends that has opened nothing. But each has a thread of its own, and ends with it. */

#include "nbd-plugin/access.h"

#include <pthread.h>

#define ARRIVALS_OF_AN_ADDRESS 128 /* that have nothing open */

/* All zero at first. The threads of connections may end after the server: it lives as long as the process. */
struct arrivals {
    pthread_key_t key;    /* of a thread's arrival */
    pthread_mutex_t lock; /* of what follows; innermost */
    size_t most, count;
    struct arrival *waiting; /* those that have nothing open */
};

/* Once, before there are connections; `descriptors`: how many the process may have. */
int arrivals_init(struct arrivals *all, size_t descriptors, struct err *e) must_check;
/* The calling thread's connection, before it has said anything. Failed: it is to be ended. */
int arrival_begin(struct arrivals *all, const struct peer *peer, struct err *e) must_check;
/* It has opened an export, or closed it again. */
void arrival_note_open(struct arrivals *all, bool open);

#endif
