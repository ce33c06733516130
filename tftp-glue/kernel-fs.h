/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_KERNEL_FS_H
#define LABBOOT_KERNEL_FS_H

/* The kernel and initrd of an ext4 on a disk. The disk is hostile: call it in a limited child only (spawn.h).
 */

#include "lib/base/err.h"
#include "lib/store/reader.h"

#define KERNEL_SIZE_MAX (UINT64_C(128) << 20)
#define INITRD_SIZE_MAX (UINT64_C(511) << 20) /* below the child's limit for a file */

/* Copies to <dir>/vmlinuz and <dir>/initrd.img, and writes <dir>/release. Taken are the newest
 * /boot/vmlinuz-X that has a /boot/initrd.img-X, else /vmlinuz and /initrd.img; symbolic links are followed
 * inside the disk. One call at a time. ERR_NOT_FOUND: no ext4 on the disk itself, or no such pair;
 * ERR_CORRUPT: a damaged file system. */
int kernel_fs_copy(const struct reader *disk, const char *dir, struct err *e) must_check;

#endif
