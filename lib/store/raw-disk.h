/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_RAW_DISK_H
#define LABBOOT_RAW_DISK_H

/* A disk that is one sparse file, written in place. Thread-safe. An acknowledged write survives a killed process at once,
 * and a power cut once it was flushed. */

#include "lib/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raw_disk;

/* Takes a shared flock, waiting for who has it alone. `reserve`: bytes of the file system that are never used. Missing:
 * ERR_NOT_FOUND. */
int raw_disk_open(const char *path, uint64_t reserve, struct raw_disk **ret, struct err *e) must_check;
/* Syncs nothing. NULL is fine. */
void raw_disk_close(struct raw_disk *d);
/* For what is written from now on. */
void raw_disk_set_reserve(struct raw_disk *d, uint64_t reserve);
uint64_t raw_disk_size(const struct raw_disk *d);

/* offset + count within the size. What would take space that is not there, or is reserved, fails with sys = ENOSPC;
 * after a failed sync all changes fail with EIO for good. */
int raw_disk_pread(struct raw_disk *d, void *buf, size_t count, uint64_t offset, struct err *e) must_check;
int raw_disk_pwrite(struct raw_disk *d, const void *buf, size_t count, uint64_t offset,
                    struct err *e) must_check;
/* The range reads as zeroes afterwards, and takes no space where the file system can: for zero and for trim. */
int raw_disk_zero(struct raw_disk *d, uint64_t count, uint64_t offset, struct err *e) must_check;
/* Everything acknowledged before is on the disk when it returns. */
int raw_disk_flush(struct raw_disk *d, struct err *e) must_check;
/* One stretch from offset on, at most `count` long: a hole, or data. */
int raw_disk_extent(struct raw_disk *d, uint64_t count, uint64_t offset, uint64_t *ret_length, bool *ret_hole,
                    struct err *e) must_check;

#endif
