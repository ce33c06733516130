/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_PUBLISH_H
#define LABBOOT_PUBLISH_H

/* The end of a boot: what is to be kept becomes versions, the rest is thrown away. The same code runs in the
 * server and in `labboot boot end` when no server runs; an overlay's flock decides who does it.
 *
 * Order (a crash at any point is finished or redone by publish_recover): the boot is COMMITTING -> overlays
 * sealed -> file systems checked -> layers written and renamed -> kernels extracted -> one catalog
 * transaction -> overlays removed. */

#include "conf/conf.h"
#include "lib/store/overlay.h"
#include "lib/store/store.h"
#include "nbd-plugin/guard.h"

#include <stdatomic.h>

/* What lies in another layer and is wired by the program. */
struct publish_hooks {
    /* As kernel_extract of tftp-glue. */
    int (*kernel)(const struct conf *conf, const struct uuid *image, uint64_t version, char *ret_release,
                  struct err *e);
    /* As kernel_extract_overlay and kernel_remove_boot. */
    int (*kernel_of_overlay)(const struct conf *conf, int64_t boot, const struct uuid *image,
                             uint64_t version, const char *overlay, struct err *e);
    int (*remove_kernel)(const struct conf *conf, int64_t boot, struct err *e);
    /* As kernel_remove. */
    int (*remove_version_kernel)(const struct conf *conf, const struct uuid *image, uint64_t version,
                                 struct err *e);
};
#define PUBLISH_RELEASE_SIZE 200

/* So much more has to be free than when a commit found no space, before it is tried again. */
#define PUBLISH_SPACE_GROWTH (64 * MIB)

struct publisher {
    const struct conf *conf;
    struct guard *guard;
    struct store *store;
    struct publish_hooks hooks;
    const atomic_bool
        *stopping; /* NULL: never. When set, a commit is given up, for publish_recover to redo */
};

/* Finishes a boot whose end was begun (boot_begin_end), as was said then. `overlays`: one a disk of the boot, open handles that the
 * caller keeps owning, NULL for those that are to be opened here (those without a folder were never written).
 * *ret: how it ended. On failure (no space, a damaged base, a killed kernel reader) the boot is interrupted
 * with the reason, the overlays stay, and the message says it; but while p->stopping it stays COMMITTING. For want of space:
 * the server tries it again by itself. */
int publish_finish(struct publisher *p, int64_t boot, struct overlay *const *overlays, struct boot *ret,
                   struct err *e) must_check;

/* Lets an interrupted boot go on: its overlays can be written to again, the kernel of its root disk as it is now is
 * extracted, and it stands at the head of its machine's queue. ERR_STATE also when a commit of it had got so far that only
 * that can be finished. (resume.c) */
int publish_resume(struct publisher *p, int64_t boot, const char *actor, struct err *e) must_check;
/* ERR_STATE when a commit had begun and has written a layer that names overlay o, of the boot's n-th image: what is written to
 * that from now on would be taken for part of it. (resume.c) */
int publish_check_not_begun(struct publisher *p, const struct boot *b, size_t n, struct overlay *o,
                            struct err *e) must_check;
/* overlays/<boot>, with all disks of the boot, and before them what was made of them. */
int publish_remove_overlays(struct publisher *p, int64_t boot, struct err *e) must_check;
/* The machine of *b, a boot as boot_by_token gives it for TOKEN_AWAY, is back: boot_return, after the overlays of an interrupted
 * one can be written to again. *b: the boot that runs. (resume.c) */
int publish_return(struct publisher *p, struct boot *b, const char *address, struct err *e) must_check;
/* Waits a moment where somebody else is about to close it. *ret stays NULL when there is none. */
int publish_open_overlay(const struct conf *conf, const char *dir, struct overlay **ret,
                         struct err *e) must_check;

/* At the start: finishes what is committing, and removes overlays of boots that ended without need of them.
 * Calls `finish` for each committing boot, so that the server can do it in its workers. */
int publish_recover(struct publisher *p, void (*finish)(void *ctx, int64_t boot), void *ctx,
                    struct err *e) must_check;

/* Whether all disks of the boot that hold a file system look shut down: none is dirty, and one was mounted
 * since its base. Reads few KiB of each disk. `overlays` as above, but none is opened here (NULL: nothing was
 * written to it). */
int publish_seen_shut_down(struct publisher *p, const struct boot *boot, struct overlay *const *overlays,
                           bool *ret, struct err *e) must_check;

#endif
