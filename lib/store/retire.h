/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_RETIRE_H
#define LABBOOT_RETIRE_H

/* What becomes of the files of versions that are gone from the catalog: their rows go first, so that a crash between
 * leaves a file that is no version, never a version without its file. */

#include "lib/store/store.h"

/* Takes <image>/<version>.img away, which is or was `layer` (what its footer says comes first: it may have been flattened).
 * While another layer file of the image names that layer in
 * its table, or somebody has the file open (who may be about to name it), it becomes retired/<layer>.img, where those
 * find it; else it is unlinked. A file that is not there is fine. The caller holds the image's lock. */
int store_retire_layer(struct store *s, const struct uuid *image, uint64_t version, const struct uuid *layer,
                       struct err *e) must_check;
/* Removes retired/<layer>.img, unless it is still needed, as above. Not there is fine. The caller holds the image's lock. */
int store_drop_retired(struct store *s, const struct uuid *image, const struct uuid *layer,
                       struct err *e) must_check;
/* All that is in retired/ of all images, until `each` returns non-zero, which is returned. */
int store_each_retired(struct store *s,
                       int (*each)(void *ctx, const struct uuid *image, const struct uuid *layer,
                                   struct err *e),
                       void *ctx, struct err *e) must_check;
/* Removes the image's folder with everything in it, unless somebody has one of its layers open: then all stays as it is
 * for gc (*ret_in_use), for readers open older layers when they first need them. The caller holds the image's lock. */
int store_retire_image(struct store *s, const struct uuid *image, bool *ret_in_use, struct err *e) must_check;

#endif
