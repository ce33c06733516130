/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_WORKERS_H
#define LABBOOT_WORKERS_H

/* Calls `main`(arg) in as many threads at once as were asked for (0: one a core), the caller's own being one, and
 * returns when all have. Fewer threads than wanted only take longer. */
void workers_run(unsigned asked, void *(*main)(void *arg), void *arg);

#endif
