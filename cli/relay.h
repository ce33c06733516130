/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_RELAY_H
#define LABBOOT_RELAY_H

/* Signals through sudo. A caller may send none to sudo, which is root's, nor to the labboot that sudo runs, which is the
 * user labboot's. So the caller's labboot listens on an abstract Unix socket named after its pid; the one that sudo runs
 * looks for such a socket among its ancestors, connects, and has the kernel send it SIGTERM when that connection is closed:
 * which the caller's does at a signal, and the kernel when it dies. */

#include "lib/base/err.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* The caller's side. */
struct relay {
    int listener, connection, signals; /* -1: none; the listener, where another program has its name */
    uid_t helper;                      /* of the labboot that sudo runs */
    sigset_t before;                   /* the mask that the child is to have */
    bool heard;                        /* the child connected: sudo let it run */
    int signal;                        /* the one that came; 0: none */
};

/* From here to relay_end SIGINT, SIGTERM and SIGHUP are relayed. */
int relay_begin(struct relay *r, uid_t helper, struct err *e) must_check;
/* Waits for the child; its status as waitpid gives it. A second signal ends this process. */
int relay_wait(struct relay *r, pid_t child, int *ret_status, struct err *e) must_check;
void relay_end(struct relay *r);

/* The other side: the connection, to be kept open, or -1 where `caller` relays nothing. */
int relay_connect(uid_t caller);

#endif
