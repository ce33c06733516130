/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TICKER_H
#define LABBOOT_TICKER_H

#include "nbd-plugin/server.h"

/* The thread that watches: the catalog (requests, scripts that are wanted) by PRAGMA data_version, and time
 * (a lease without I/O, grace and abandon of boots without connection). */
int ticker_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct err *e) must_check;
void ticker_stop(struct server *s);

#endif
