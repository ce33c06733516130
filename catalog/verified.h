/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_VERIFIED_H
#define LABBOOT_VERIFIED_H

/* Which versions were read and checked, what came of it, and which are to be read again. */

#include "catalog/catalog.h"
#include "lib/store/verify.h"

/* All of a version was read just now. `before` is its row as it was when the reading began: where it is another layer by
 * now, or gone, nothing is noted; and only what was marked damaged then is found whole again, for somebody else may have
 * marked it meanwhile. Events where the mark changes or the SHA-256 is new. *ret_news: the mark did. */
int version_verified(struct catalog *c, const char *actor, const struct uuid *image,
                     const struct version_row *before, const struct verify_result *r, bool *ret_news,
                     struct err *e) must_check;

struct scrub_version {
    struct version_row row;
    uint64_t to; /* what the server has read of its disk since it was verified last */
    bool due;
};
/* The next image, behind `after` (NULL: of all) and around, that has a version which nobody has read for `days` days; in an
 * image with a damaged version, for one day. *ret has all of its versions, the oldest first, malloc'ed. 1; 0: none; -1. */
int scrub_next(struct catalog *c, const struct uuid *after, uint64_t days, struct uuid *ret_image,
               struct scrub_version **ret, size_t *ret_count, struct err *e) must_check;
/* How far the server has read its disk. Nothing is noted of another layer, nor while the image has a damaged version: what
 * was taken for whole then may not be. */
int scrub_note(struct catalog *c, const struct uuid *image, const struct version_row *row, uint64_t to,
               struct err *e) must_check;

#endif
