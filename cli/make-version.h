/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_MAKE_VERSION_H
#define LABBOOT_MAKE_VERSION_H

/* What image import and image create share: a disk that a descriptor reads becomes the first or the next version of the
 * image that the command's first word names. */

#include "cli/cli.h"
#include "lib/store/build.h"
#include "lib/store/import-source.h"
#include "tftp-glue/kernel.h"

struct make {
    struct cli *c;
    const char *what;            /* for the progress: "importing" */
    const char *kind;            /* of a new image, without --kind */
    const char *filesystem;      /* the same; NULL: what is found on it */
    struct import_source source; /* the caller closes it */
    bool copy_source;            /* as of import_source_options */
    const char *follow;
    /* Instead of what `source` has: an empty disk of that many bytes is made, with the image's file system. */
    uint64_t blank_size;
    bool must_be_new;

    /* From here on for make_plan and make_version. */
    struct image image;
    bool is_new;
    bool detect; /* the file system is still to be looked for */
    struct store *store;
    struct progress progress;
    struct view *parent;
    struct build *build;
    struct build_result result;
    uint64_t version; /* 0: its file is not there */
    int lock;
    char release[KERNEL_RELEASE_SIZE];
    bool has_kernel;
};

/* The words of --kind, --compression, --filesystem and --type, and --progress: what can be known before anything is
 * opened. */
int make_check_options(const struct cli *c, struct err *e) must_check;
/* Finds the image, or plans a new one after the options; checks the right to it. */
int make_plan(struct make *m, struct err *e) must_check;
/* Makes the version, renders, and prints it. On failure nothing is left. */
int make_version(struct make *m, struct err *e) must_check;

#endif
