/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_COMMIT_H
#define LABBOOT_COMMIT_H

#include "lib/store/build.h"
#include "lib/store/overlay.h"

/* Builds the layer of a sealed overlay over `base`: its dirty chunks, partial ones filled from the base, each block
 * verified by the checksum in the overlay's map. Cost: the changed chunks, and 32 bytes per leaf of the disk. */
int commit_overlay(struct store *s, struct overlay *o, struct view *base, struct compression how,
                   const struct progress *progress, struct build **ret, struct build_result *ret_result,
                   struct err *e) must_check;

#endif
