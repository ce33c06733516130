/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_COLLECT_H
#define LABBOOT_COLLECT_H

#include "cli/cli.h"
#include "lib/base/rubbish.h"
#include "lib/store/store.h"

/* Gives everything that nothing needs to the sink: layers, temporary files, overlays, folders of images, kernels,
 * scripts. May run beside the server, imports and commits. */
int collect_rubbish(struct cli *c, struct store *store, const struct rubbish_sink *sink,
                    struct err *e) must_check;

#endif
