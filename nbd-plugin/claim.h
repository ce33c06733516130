/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CLAIM_H
#define LABBOOT_CLAIM_H

#include "nbd-plugin/handle.h"

/* All with the server's `binding` held. */

/* At opening: joins the boot that runs, or looks at the one that would be leased. Sets size, disk, read_only;
 * *ret: the boot, for the description. */
int claim_open(struct handle *h, struct boot *ret, struct err *e) must_check;
/* At the first request: leases, joins, or takes over. Sets session, disk, bound. */
int claim_bind(struct handle *h, struct err *e) must_check;
/* Leaves its session. */
void claim_close(struct handle *h);

#endif
