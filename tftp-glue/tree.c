/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/tree.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <string.h>

int tree_make(const struct conf *conf, struct err *e)
{
    static const char *const dirs[] = {"boot", "kernels", "tmp"};
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        cleanup(free) char *path = path_format("%s/%s", conf->network.tftp_root, dirs[i]);
        if (make_dirs(path, 0755, e) < 0)
            return -1;
    }
    return 0;
}

int tree_lock(const struct conf *conf, enum tree_lock which, int *ret_fd, struct err *e)
{
    cleanup(free) char *path = path_format("%s/%s", conf->network.tftp_root,
                                           which == TREE_LOCK_RENDER ? ".render.lock" : ".kernel.lock");
    return lock_file(path, true, ret_fd, e);
}

int tree_clean_tmp(const struct conf *conf, struct err *e)
{
    cleanup(close) int render = -1;
    cleanup(close) int kernels = -1;
    if (tree_lock(conf, TREE_LOCK_RENDER, &render, e) < 0 ||
        tree_lock(conf, TREE_LOCK_KERNELS, &kernels, e) < 0)
        return -1;
    cleanup(free) char *tmp = path_format("%s/tmp", conf->network.tftp_root);
    if (remove_tree(tmp, e) < 0)
        return -1;
    return make_dirs(tmp, 0755, e);
}

char *tree_program(const char *name)
{
    const char *dir = getenv("LABBOOT_LIBEXECDIR");
    return path_format("%s/%s", dir && *dir ? dir : LIBEXECDIR, name);
}
