/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_PLUGIN_FLATTEN_H
#define LABBOOT_PLUGIN_FLATTEN_H

/* Versions that are written anew, so that they need no other layer: the file first, then the catalog. Those who read the
 * version meanwhile, and younger versions, still have the old layer: it lies in retired/ for as long as they need it. */

#include "lib/store/flatten.h"
#include "nbd-plugin/publish.h"

/* A version that is so already stays as it is. A damaged version: ERR_CORRUPT, and nothing has changed. */
int flatten_version(struct publisher *p, const char *actor, const struct uuid *image, uint64_t version,
                    const struct flatten_options *o, struct err *e) must_check;
/* What a crash has left between file and catalog. */
int flatten_recover(struct publisher *p, struct err *e) must_check;

#endif
