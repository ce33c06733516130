/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_PREFETCH_H
#define LABBOOT_PREFETCH_H

/* What machines read when they boot, ahead of them: lib/store/hot.h has the lists. */

#include "nbd-plugin/server.h"

/* Lets a thread of its own bring what a boot of these disks will read into the cache, in that order, as far as [store]
 * prefetch goes. Machines that boot the same at once find it there already. The caller holds `binding`. */
void prefetch_boot(struct server *s, struct session *session);

#endif
