/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_LAYER_H
#define LABBOOT_LAYER_H

/* Layer files opened for reading. All users of a layer share one descriptor, which holds a shared flock: so
 * gc knows what is in use. Thread-safe. */

#include "lib/store/format.h"

struct layers; /* those open now, by uuid */

struct layer {
    int fd;
    struct footer footer;
    struct hash footer_hash;
    struct layers *registry;
    unsigned refs; /* under the registry's lock */
    struct layer *next;
};

int layers_new(struct layers **ret, struct err *e) must_check;
/* Those that are opened from now on are read as medium.h says. */
void layers_read_medium(struct layers *r);
/* All layers are closed. NULL is fine. */
void layers_free(struct layers *r);

/* <image_dir>/<version>.img, whatever layer that is. ERR_NOT_FOUND when there is no such file. */
int layer_open_version(struct layers *r, const char *image_dir, uint64_t version, struct layer **ret,
                       struct err *e) must_check;
/* The very layer that a table names, in the file of its version or in retired/. Not there: ERR_CORRUPT. */
int layer_open_listed(struct layers *r, const char *image_dir, const struct table_entry *want,
                      struct layer **ret, struct err *e) must_check;
/* <image_dir>/retired/<uuid>.img. ERR_NOT_FOUND. */
int layer_open_retired(struct layers *r, const char *image_dir, const struct uuid *uuid, struct layer **ret,
                       struct err *e) must_check;
/* NULL is fine. */
void layer_close(struct layer *l);

/* Exactly `count` bytes; ERR_CORRUPT when they are not within what lies before the footer. */
int layer_pread(const struct layer *l, void *buf, size_t count, uint64_t offset, struct err *e) must_check;
/* As layer_pread, and they must have this hash. */
int layer_pread_verified(const struct layer *l, void *buf, size_t count, uint64_t offset,
                         const struct hash *want, struct err *e) must_check;

/* Reads and checks the footer of any layer file; `ret_hash` is what ends it. */
int layer_read_footer(int fd, struct footer *ret, struct hash *ret_hash, struct err *e) must_check;

#endif
