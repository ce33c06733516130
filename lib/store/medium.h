/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_MEDIUM_H
#define LABBOOT_MEDIUM_H

/* Reading what the disk holds, although the page cache may have something better: a scrub that read memory would find
 * nothing. The page cache is left as it was: what was in it is in it again, what was not is not. Where a file system does
 * not let its pages go (tmpfs), what it has is read. */

#include "lib/base/err.h"

#include <stddef.h>
#include <stdint.h>

/* For a descriptor of its own: without reading ahead, which would count as what others want. */
void medium_prepare(int fd);
/* As full_pread. */
int medium_pread(int fd, void *buf, size_t count, uint64_t offset, struct err *e) must_check;

#endif
