/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_BUILD_FILE_H
#define LABBOOT_BUILD_FILE_H

/* The file of a layer that is being written, for the parts of the writer alone. */

#include "lib/store/build.h"

struct build {
    char *image_dir;
    char *tmp_path;       /* <image_dir>/tmp/<layer uuid> */
    int fd;               /* its exclusive flock tells store_clean_tmp that the build lives */
    struct footer footer; /* all but the version */
    bool published;
    bool unsound; /* a sync failed: nobody knows what of it is on the disk */
};

/* Makes the file in the folder of `image`, empty and locked, with a layer uuid of its own in the footer. */
int build_create(struct store *s, const struct uuid *image, struct build **ret, struct err *e) must_check;

#endif
