/* SPDX-License-Identifier: BSD-3-Clause */
/* labboot-kernel IMAGES_DIR IMAGE_UUID VERSION DIR: copies kernel and initrd of a version into the empty
 * folder DIR. Run by kernel_extract, which sets this process's limits. */
#include "tftp-glue/kernel-fs.h"

#include "lib/base/cleanup.h"
#include "lib/base/parse.h"
#include "lib/store/store.h"

#include <stdio.h>

DEFINE_CLEANUP(store, struct store, store_close);
DEFINE_CLEANUP(view, struct view, view_close);

static int extract(char **argv, struct err *e)
{
    struct uuid image;
    uint64_t version;
    cleanup(store) struct store *store = NULL;
    cleanup(view) struct view *view = NULL;
    if (uuid_from_text(argv[2], &image, e) < 0 || parse_number(argv[3], 1, UINT64_MAX, &version, e) < 0 ||
        store_open(argv[1], 16 << 20, &store, e) < 0 || view_open(store, &image, version, &view, e) < 0)
        return -1;
    struct reader reader = view_reader(view);
    return kernel_fs_copy(&reader, argv[4], e);
}

int main(int argc, char **argv)
{
    struct err e;
    if (argc != 5) {
        fprintf(stderr, "usage: labboot-kernel IMAGES_DIR IMAGE_UUID VERSION DIR\n");
        return ERR_USAGE;
    }
    if (extract(argv, &e) == 0)
        return 0;
    fprintf(stderr, "%s\n", e.msg);
    return (int)e.code;
}
