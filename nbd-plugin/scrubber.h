/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_SCRUBBER_H
#define LABBOOT_SCRUBBER_H

/* A thread that reads all versions of the store, again and again, and marks those that are damaged before a machine needs
 * them: each after [store] scrub-days, all together not faster than scrub-rate, behind everybody else who wants the disk or
 * the processor, and without taking anything out of a cache. Where it is stopped, it goes on at the next start. */

#include "nbd-plugin/server.h"

struct scrubber;

/* `sleep` as of server_start. */
int scrubber_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct scrubber **ret,
                   struct err *e) must_check;
/* Waits for the chunk that it reads just now. NULL is fine. */
void scrubber_stop(struct scrubber *s);

#endif
