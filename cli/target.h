/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TARGET_H
#define LABBOOT_TARGET_H

/* Where an export goes: a stream or a device, which is written as it is, or a file, which appears whole or not at all. */

#include "lib/base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct target {
    const char *path;
    int fd;
    char *temporary; /* of a file: beside it; NULL otherwise */
    bool device;
};

/* With the rights of this process; "-" is standard output. An existing file: ERR_STATE, unless `force`. */
int target_open(const char *path, bool force, struct target *ret, struct err *e) must_check;
/* Whether a device has room for so many bytes; other targets grow. */
int target_check_size(const struct target *t, uint64_t size, struct err *e) must_check;
/* The file gets its name. */
int target_finish(struct target *t, struct err *e) must_check;
/* Also removes what was not finished. */
void target_close(struct target *t);

#endif
