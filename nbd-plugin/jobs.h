/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_JOBS_H
#define LABBOOT_JOBS_H

#include "lib/base/err.h"

/* A pool of threads for what must not be done in a client's request: commits, rendering, marking a damaged
 * version. */
struct jobs;

int jobs_start(unsigned threads, struct jobs **ret, struct err *e) must_check;
/* Runs fn(arg) in one of the threads, in the order of arrival. Out of memory: it is run here and now.
 * After jobs_stop it is not run at all: like what jobs_stop drops, it must be found again at the next start. */
void jobs_add(struct jobs *j, void (*fn)(void *arg), void *arg);
/* Lets what runs come to its end, drops what waits, joins the threads. NULL is fine. */
void jobs_stop(struct jobs *j);
void jobs_free(struct jobs *j); /* a stopped one; NULL is fine */

#endif
