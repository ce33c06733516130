/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/gc.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/parse.h"
#include "lib/store/overlay.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

struct overlays_gc {
    const char *dir;
    const struct gc_catalog *catalog;
    const struct rubbish_sink *sink;
};

/* The disks of one boot, all of which are locked before any goes. */
#define DISKS_MAX 64
struct boot_gc {
    const char *dir;
    int locks[DISKS_MAX];
    size_t count;
};

static inline void cleanup_boot_gc(struct boot_gc *b)
{
    for (size_t i = 0; i < b->count; i++)
        close(b->locks[i]);
}

/* 1: somebody has it open. A folder without `meta` is no overlay. */
static int lock_disk(void *ctx, const char *name, struct err *e)
{
    (void)e;
    struct boot_gc *b = ctx;
    cleanup(free) char *meta = path_format("%s/%s/meta", b->dir, name);
    cleanup(close) int fd = open(meta, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno != ENOENT && errno != ENOTDIR;
    if (b->count == DISKS_MAX || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return 1;
    b->locks[b->count++] = steal_fd(&fd);
    return 0;
}

static int remove_disk(void *ctx, const char *name, struct err *e)
{
    const struct boot_gc *b = ctx;
    cleanup(free) char *dir = path_format("%s/%s", b->dir, name);
    return overlay_remove(dir, e);
}

/* A boot that is over never comes back: no disk of it is made meanwhile. */
static int gc_boot(void *ctx, const char *name, struct err *e)
{
    const struct overlays_gc *g = ctx;
    uint64_t id;
    struct err no_id;
    if (parse_number(name, 1, INT64_MAX, &id, &no_id) < 0)
        return 0;
    int over = g->catalog->boot_is_over(g->catalog->ctx, (int64_t)id, e);
    if (over <= 0)
        return over;
    cleanup(free) char *dir = path_format("%s/%s", g->dir, name);
    cleanup(boot_gc) struct boot_gc b = {.dir = dir};
    int busy = each_entry(dir, lock_disk, &b, e);
    if (busy != 0)
        return busy < 0 ? -1 : 0;
    const struct rubbish r = {
        .code = "dead-overlay", .object = dir, .bytes = tree_bytes(dir), .text = "its boot is over"};
    int answer = g->sink->found(g->sink->ctx, &r, e);
    if (answer <= 0)
        return answer;
    return each_entry(dir, remove_disk, &b, e) < 0 ? -1 : remove_tree(dir, e);
}

int gc_overlays(const char *overlays_dir, const struct gc_catalog *c, const struct rubbish_sink *sink,
                struct err *e)
{
    struct overlays_gc g = {.dir = overlays_dir, .catalog = c, .sink = sink};
    return each_entry(overlays_dir, gc_boot, &g, e);
}
