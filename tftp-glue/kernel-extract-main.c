/* SPDX-License-Identifier: BSD-3-Clause */
/* labboot-kernel IMAGES_DIR IMAGE_UUID VERSION DIR [OVERLAY]: copies kernel and initrd of a version, or of the disk that an
 * overlay makes of it, into the empty folder DIR. Run by kernel_extract, which sets this process's limits. */
#include "tftp-glue/kernel-fs.h"

#include "lib/base/cleanup.h"
#include "lib/base/parse.h"
#include "lib/base/spawn.h"
#include "lib/store/overlay.h"
#include "lib/store/store.h"

#include <errno.h>
#include <stdio.h>

DEFINE_CLEANUP(store, struct store, store_close);
DEFINE_CLEANUP(view, struct view, view_close);
DEFINE_CLEANUP(overlay, struct overlay, overlay_close);

static int extract(char **argv, struct err *e)
{
    struct uuid image;
    uint64_t version;
    cleanup(store) struct store *store = NULL;
    cleanup(view) struct view *view = NULL;
    if (uuid_from_text(argv[2], &image, e) < 0 || parse_number(argv[3], 1, UINT64_MAX, &version, e) < 0 ||
        store_open(argv[1], 16 << 20, &store, e) < 0 || view_open(store, &image, version, &view, e) < 0)
        return -1;
    struct overlay_disk disk = {.base = view_reader(view)};
    if (!argv[5])
        return kernel_fs_copy(&disk.base, argv[4], e);
    const struct overlay_limits limits = {.quota = 0};
    cleanup(overlay) struct overlay *overlay = NULL;
    if (overlay_open(argv[5], &limits, &overlay, e) < 0)
        return -1;
    if (overlay_meta(overlay)->size != disk.base.size)
        return err_set(e, ERR_CORRUPT, "%s: it belongs to another version", argv[5]);
    disk.overlay = overlay;
    struct reader reader = overlay_disk_reader(&disk);
    return kernel_fs_copy(&reader, argv[4], e);
}

int main(int argc, char **argv)
{
    struct err e;
    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: labboot-kernel IMAGES_DIR IMAGE_UUID VERSION DIR [OVERLAY]\n");
        return ERR_USAGE;
    }
    if (extract(argv, &e) == 0)
        return 0;
    fprintf(stderr, "%s\n", e.msg);
    return e.sys == ENOSPC || e.sys == EDQUOT ? SPAWN_NO_SPACE : (int)e.code;
}
