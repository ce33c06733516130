/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_PUNCH_H
#define LABBOOT_PUNCH_H

/* Retired layers that are needed in part: what nobody needs of them becomes a hole. */

#include "lib/base/rubbish.h"
#include "lib/store/store.h"

struct punch; /* the retired layers of one image, and which parts of them are needed */

int punch_new(struct punch **ret, struct err *e) must_check;
/* NULL is fine. */
void punch_free(struct punch *p);
/* retired/<layer>.img, at `path`. Before punch_keep. A file that cannot be read is left alone. */
int punch_add(struct punch *p, const char *path, struct err *e) must_check;
/* What v reads stays. ERR_CORRUPT: an index cannot be read, so that nobody knows; nothing may be punched then. */
int punch_keep(struct punch *p, struct view *v, struct err *e) must_check;
/* Offers each layer that has dead runs to the sink ("retired-part"), and makes them holes where it says so. A layer that
 * somebody has open by now is left for another time. The image's lock is held from before the first punch_keep on, whose
 * views were all that can be read. */
int punch_run(struct punch *p, const struct rubbish_sink *sink, struct err *e) must_check;

#endif
