/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_MACHINE_IMAGE_H
#define LABBOOT_MACHINE_IMAGE_H

/* The file of a machine's own disk: <images-dir>/<image uuid>/machine.raw, which is there from its first use on. It is
 * made and formatted, or grown, under the image's lock as a file in tmp/ that gets its name when it is whole: a kill
 * leaves the old one or the new one. */

#include "lib/store/raw-disk.h"
#include "lib/store/store.h"

/* Opens it; where it is missing, makes it with `size` bytes and `filesystem` first. */
int machine_image_open(struct store *s, const struct uuid *image, uint64_t size, const char *filesystem,
                       uint64_t reserve, struct raw_disk **ret, struct err *e) must_check;
/* Its size and what it takes on the server, in bytes. ERR_NOT_FOUND: it was not used yet. */
int machine_image_size(const char *images_dir, const struct uuid *image, uint64_t *ret_size,
                       uint64_t *ret_allocated, struct err *e) must_check;
/* Grows it, and the ext4 in it. Not made yet, or large enough: nothing. *ret_left: "", or why the file system in it keeps
 * its size. Somebody has it open: ERR_STATE. */
#define MACHINE_IMAGE_TEXT_SIZE 400
int machine_image_grow(struct store *s, const struct uuid *image, uint64_t size, const char *filesystem,
                       uint64_t reserve, char ret_left[MACHINE_IMAGE_TEXT_SIZE], struct err *e) must_check;

#endif
