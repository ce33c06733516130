/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_GC_H
#define LABBOOT_GC_H

/* What nobody needs any more in the folders of images and overlays. It may run beside the server, imports and commits:
 * an image's files are looked at under its lock, and who uses a file holds an flock on it. */

#include "lib/base/rubbish.h"
#include "lib/store/store.h"

struct gc_version {
    uint64_t version;
    struct uuid layer;
};
/* What the catalog knows. */
struct gc_catalog {
    void *ctx;
    /* 1 yes, 0 no, -1. */
    int (*has_image)(void *ctx, const struct uuid *image, struct err *e);
    /* All of its versions; *ret is malloc'ed. */
    int (*versions)(void *ctx, const struct uuid *image, struct gc_version **ret, size_t *ret_count,
                    struct err *e);
    /* Whether the boot has ended and needs no overlay, or is unknown: 1, 0, -1. */
    int (*boot_is_over)(void *ctx, int64_t boot, struct err *e);
};

/* dead-tmp: a file in an image's tmp/ that nobody writes any more.
 * retired-layer: a layer without a version that no table of a version, no overlay and nobody who reads needs.
 * stray-layer: a file <version>.img that the catalog has no version of, and that no overlay is there to finish; where
 *     other layers need it, it only goes to retired/ (0 bytes).
 * retired-part: what nobody needs of a retired layer that is needed otherwise; it becomes holes.
 * stray-hot: a list of what boots of a version read, without the version.
 * stray-image: a folder without an image, that nobody uses.
 * What is empty and not a minute old may be about to be used: it is left.
 * A version's file that is missing or cannot be read may need any layer, should it be restored: its image keeps all. */
int gc_images(struct store *s, const char *overlays_dir, const struct gc_catalog *c,
              const struct rubbish_sink *sink, struct err *e) must_check;
/* dead-overlay: of a boot that is over; not while somebody has one of its disks open. */
int gc_overlays(const char *overlays_dir, const struct gc_catalog *c, const struct rubbish_sink *sink,
                struct err *e) must_check;

#endif
