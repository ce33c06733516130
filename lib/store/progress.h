/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_PROGRESS_H
#define LABBOOT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Long work reports here, from any thread but one at a time, at most a few times a second. `total` is 0 when it is
 * not known (a stream). Returning false stops the work with ERR_FAILED "interrupted". */
struct progress {
    bool (*report)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

#endif
