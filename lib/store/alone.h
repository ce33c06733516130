/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_ALONE_H
#define LABBOOT_ALONE_H

/* What the removal of one version would set free. */

#include "lib/store/store.h"

struct version_alone {
    uint64_t version;
    uint64_t bytes;
    bool known; /* false: its file, or that of a younger version, cannot be read */
};
/* `list` has all versions of the image, ascending; the rest of each is filled. Where no other version is built on it, a
 * version alone holds its whole file; else those frames of its file that none of them has at the same place, where alone
 * a shared frame can be. */
void store_alone(struct store *s, const struct uuid *image, struct version_alone *list, size_t count);

#endif
