/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_IMPORT_H
#define LABBOOT_IMPORT_H

#include "lib/store/build.h"

/* Builds a layer with all of the disk that `fd` reads: a file or a block device is read in parallel and its holes are
 * skipped; anything else is a stream until its end. `name` is for messages. A file that shrinks while it is read is an
 * error. Chunks that o->parent has at the same place are shared with it. o->size is ignored. */
int import_raw(struct store *s, int fd, const char *name, const struct build_options *o, struct build **ret,
               struct build_result *ret_result, struct err *e) must_check;

#endif
