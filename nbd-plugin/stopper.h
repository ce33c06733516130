/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_STOPPER_H
#define LABBOOT_STOPPER_H

/* The thread that notices first that the server is to stop: nbdkit waits until every client has gone, which an idle one, or
 * one that does not read its replies, never does by itself. It sets s->stopping, and ends the connections. It ends
 * the process when something else takes long: a child that reads a kernel, a lock that another process has, a slow disk. */

#include "nbd-plugin/server.h"

/* `sleep` as of server_start. The thread lasts as long as the process. */
int stopper_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct err *e) must_check;

#endif
