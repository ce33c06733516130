/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_RETENTION_H
#define LABBOOT_RETENTION_H

/* Old versions that nothing needs: the rows first, then the files. */

#include "lib/base/rubbish.h"
#include "nbd-plugin/publish.h"

/* Of one image, as image_keep. The image's lock is taken. Files that cannot be removed are left to gc, with a warning.
 * *ret is malloc'ed: what went, the oldest first. */
int retention_image(struct publisher *p, const char *actor, const struct uuid *image, uint64_t last,
                    uint64_t days, bool dry_run, struct version_file **ret, size_t *ret_count,
                    struct err *e) must_check;
/* Of all images, as [store] keep-versions and keep-days say; where both are 0, nothing. With a sink (NULL: without) each is
 * offered to it as "old-version" before, with what it alone holds, and only looked at where that answers 0. */
int retention_all(struct publisher *p, const char *actor, const struct rubbish_sink *sink,
                  struct err *e) must_check;

#endif
