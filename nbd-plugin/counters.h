/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_COUNTERS_H
#define LABBOOT_COUNTERS_H

/* What the server tells of its sessions while they run: RUN/counters, a line a boot, "BOOT READ WRITTEN OVERLAY" in
 * bytes. Written by the ticker, read by `labboot status`; nothing depends on it. */

#include "catalog/query.h"
#include "nbd-plugin/server.h"

/* Replaces the file when something changed. binding is held. */
void counters_write(struct server *s);
void counters_remove(const struct conf *conf);
/* *ret is malloc'ed; empty without a running server. */
int counters_read(const struct conf *conf, struct boot_counters **ret, size_t *ret_count,
                  struct err *e) must_check;

#endif
