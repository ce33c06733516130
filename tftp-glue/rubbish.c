/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/rubbish.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "tftp-glue/tree.h"

#include <string.h>

struct walk {
    struct catalog *catalog;
    const struct rubbish_sink *sink;
    const char *dir;
};

static int offer(const struct walk *w, const char *code, const char *path, const char *text, struct err *e)
{
    const struct rubbish r = {.code = code, .object = path, .bytes = tree_bytes(path), .text = text};
    int answer = w->sink->found(w->sink->ctx, &r, e);
    return answer > 0 ? remove_tree(path, e) : answer;
}

/* ---- scripts --------------------------------------------------------------------------------------------------- */

/* "mac-52-54-00-12-34-56.ipxe", "wait-52-54-00-12-34-56-7.ipxe". */
static bool mac_of_script(const char *name, struct mac *ret)
{
    static const char *const prefixes[] = {"mac-", "wait-"};
    struct err e;
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
        size_t len = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], len) == 0 && strlen(name + len) >= MAC_TEXT_SIZE - 1 &&
            mac_parse(name + len, MAC_TEXT_SIZE - 1, ret, &e) == 0)
            return true;
    }
    return false;
}

static int see_script(void *ctx, const char *name, struct err *e)
{
    const struct walk *w = ctx;
    struct mac mac;
    if (!mac_of_script(name, &mac))
        return 0;
    int known = mac_is_known(w->catalog, &mac, e);
    if (known != 0)
        return known < 0 ? -1 : 0;
    cleanup(free) char *path = path_format("%s/%s", w->dir, name);
    return offer(w, "stray-script", path, "no machine has this MAC", e);
}

int rubbish_scripts(struct catalog *c, const struct conf *conf, const struct rubbish_sink *sink,
                    struct err *e)
{
    cleanup(close) int lock = -1;
    cleanup(free) char *dir = path_format("%s/boot", conf->network.tftp_root);
    if (!path_exists(dir))
        return 0;
    if (tree_lock(conf, TREE_LOCK_RENDER, &lock, e) < 0)
        return -1;
    struct walk w = {.catalog = c, .sink = sink, .dir = dir};
    return each_entry(dir, see_script, &w, e);
}

/* ---- kernels --------------------------------------------------------------------------------------------------- */

struct kernel_walk {
    struct walk w;
    struct uuid image;
    int (*lock_image)(void *ctx, const struct uuid *image, int *ret_fd, struct err *e);
    void *ctx;
};

static int see_kernel(void *ctx, const char *name, struct err *e)
{
    const struct kernel_walk *k = ctx;
    uint64_t version;
    struct err no_version;
    if (parse_number(name, 1, INT64_MAX, &version, &no_version) < 0 ||
        version_exists(k->w.catalog, &k->image, version))
        return 0;
    cleanup(free) char *path = path_format("%s/%s", k->w.dir, name);
    if (offer(&k->w, "stray-kernel", path, "the catalog has no such version", e) < 0)
        return -1;
    (void)rmdir(k->w.dir); /* gone with its last version */
    return 0;
}

/* "boot-7": the kernel of a boot that goes on where it was interrupted. */
static int see_boot(const struct walk *w, const char *name, struct err *e)
{
    uint64_t id;
    struct boot b;
    struct err no_boot;
    if (strncmp(name, "boot-", 5) != 0 || parse_number(name + 5, 1, INT64_MAX, &id, &no_boot) < 0)
        return 0;
    bool known = boot_get(w->catalog, (int64_t)id, &b, e) == 0;
    if (!known && e->code != ERR_NOT_FOUND)
        return -1;
    if (known && b.state != BOOT_COMMITTED && b.state != BOOT_BRANCHED && b.state != BOOT_DISCARDED)
        return 0;
    cleanup(free) char *path = path_format("%s/%s", w->dir, name);
    return offer(w, "stray-kernel", path, "its boot is over", e);
}

static int see_image(void *ctx, const char *name, struct err *e)
{
    struct kernel_walk *all = ctx;
    struct err no_image;
    struct kernel_walk k = *all;
    cleanup(close) int lock = -1;
    cleanup(free) char *dir = path_format("%s/%s", all->w.dir, name);
    if (uuid_from_text(name, &k.image, &no_image) < 0)
        return see_boot(&all->w, name, e);
    if (k.lock_image(k.ctx, &k.image, &lock, e) < 0 && e->code != ERR_NOT_FOUND)
        return -1;
    k.w.dir = dir;
    return each_entry(dir, see_kernel, &k, e);
}

int rubbish_kernels(struct catalog *c, const struct conf *conf,
                    int (*lock_image)(void *ctx, const struct uuid *image, int *ret_fd, struct err *e),
                    void *ctx, const struct rubbish_sink *sink, struct err *e)
{
    cleanup(free) char *dir = path_format("%s/kernels", conf->network.tftp_root);
    struct kernel_walk k = {
        .w = {.catalog = c, .sink = sink, .dir = dir}, .lock_image = lock_image, .ctx = ctx};
    return each_entry(dir, see_image, &k, e);
}
