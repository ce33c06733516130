/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CLEAN_IMPL_H
#define LABBOOT_CLEAN_IMPL_H

#include "lib/store/clean.h"

#define CLEAN_NO_JUDGE "no file system that can be judged"

/* One judge for each family of file systems. They look at what begins with the disk's first byte. One that finds nothing of its own leaves *ret, which holds
 * CLEAN_UNKNOWN and an empty `why`, as it is; one that finds something fills `why`. They fail only when a read fails. */
int judge_ext(const struct reader *disk, const struct reader *base, struct clean_report *ret,
              struct err *e) must_check;
int judge_fat(const struct reader *disk, const struct reader *base, struct clean_report *ret,
              struct err *e) must_check;

#endif
