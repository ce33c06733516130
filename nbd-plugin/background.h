/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_BACKGROUND_H
#define LABBOOT_BACKGROUND_H

/* A thread for the care of the store: behind everybody else who wants the processor or the disk. It has a store of its own,
 * for what the server has open was checked when it was opened, and is not looked at again; and reads what the disks have,
 * past the page cache. */

#include "nbd-plugin/server.h"

struct background {
    struct server *server;
    struct store *store;
    atomic_bool stopping;
    /* The owner's: */
    bool (*sleep)(unsigned milliseconds);
    void (*main)(void *arg);
    void *arg;
    pthread_t thread;
};

/* Runs main(arg) in the new thread, which is to return soon after b->stopping is set. `sleep` as of server_start. */
int background_start(struct background *b, struct server *s, bool (*sleep)(unsigned milliseconds),
                     void (*main)(void *arg), void *arg, struct err *e) must_check;
/* Sleeps; sets b->stopping when the server is to stop. For the thread itself. */
void background_rest(struct background *b, unsigned milliseconds);
/* Waits for the thread. Not for one that was not started. */
void background_stop(struct background *b);

#endif
