/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_FLATTENER_H
#define LABBOOT_FLATTENER_H

/* A thread that writes the latest version of an image anew, so that it needs no other, when it has come to stand upon
 * [store] flatten-depth others: each of them is an open file of the server, and a file that must not be lost. What is made
 * from it then stands upon it alone. Nobody waits for it, and nobody notices. */

#include "nbd-plugin/server.h"

struct flattener;

/* `sleep` as of server_start. */
int flattener_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct flattener **ret,
                    struct err *e) must_check;
/* What was not done is given up. NULL is fine. */
void flattener_stop(struct flattener *f);

#endif
