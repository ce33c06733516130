/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_KERNEL_H
#define LABBOOT_KERNEL_H

/* The kernel and initrd of a version, read from its ext4 by a spawned, limited child (LIBEXECDIR/labboot-kernel:
 * disks written by guests are hostile) and kept by version:
 *     <tftp-root>/kernels/<image uuid>/<version>/{vmlinuz,initrd.img,release} */

#include "conf/conf.h"
#include "lib/base/hwid.h"

#define KERNEL_RELEASE_SIZE 200

/* Extracts unless it is there already. ret_release: "6.1.0-37-cloud-amd64", or the file's name where it tells none.
 * ERR_NOT_FOUND: no ext4, or no kernel with its initrd in it (the message says which); other errors: no space, a
 * damaged disk, a child that was killed. Nothing half is left. */
int kernel_extract(const struct conf *conf, const struct uuid *image, uint64_t version,
                   char ret_release[KERNEL_RELEASE_SIZE], struct err *e) must_check;
/* The same from a disk as a boot left it: an overlay (its folder, which nobody has open) over the version. Kept for the boot:
 *     <tftp-root>/kernels/boot-<id>/
 * Those of before are replaced. */
int kernel_extract_overlay(const struct conf *conf, int64_t boot, const struct uuid *image, uint64_t version,
                           const char *overlay, struct err *e) must_check;
/* Whether a boot has such files. */
bool kernel_of_boot(const struct conf *conf, int64_t boot, char ret_release[KERNEL_RELEASE_SIZE]);
int kernel_remove_boot(const struct conf *conf, int64_t boot, struct err *e) must_check;
/* Removes those of a version. */
int kernel_remove(const struct conf *conf, const struct uuid *image, uint64_t version,
                  struct err *e) must_check;
/* Removes those of all versions of an image. */
int kernel_remove_all(const struct conf *conf, const struct uuid *image, struct err *e) must_check;

#endif
