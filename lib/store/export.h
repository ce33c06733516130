/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_EXPORT_H
#define LABBOOT_EXPORT_H

#include "lib/store/progress.h"
#include "lib/store/store.h"

/* Writes the disk to `fd`: sparse to a regular file (which must be empty), every byte to a pipe. All is verified. */
int export_raw(struct view *v, int fd, const struct progress *progress, struct err *e) must_check;

#endif
