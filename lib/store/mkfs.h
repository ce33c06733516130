/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_MKFS_H
#define LABBOOT_MKFS_H

/* File systems on disks that are files, by the system's own tools in limited children: a large disk takes no more of the
 * server's memory, and a disk that a guest has written is read by none of its code. */

#include "lib/base/err.h"

/* Makes `filesystem` ("ext4", "fat32", or "raw": nothing) on the whole of the file, which reads as zero and has its size.
 * `label`: NULL for none; FAT gets it in capitals. */
int mkfs_make(const char *path, const char *filesystem, const char *label, struct err *e) must_check;
/* Grows the ext4 on the file, unmounted, to the whole of the file, after a check that repairs what is safe. */
int mkfs_grow_ext4(const char *path, struct err *e) must_check;

#endif
