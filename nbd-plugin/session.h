/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_SESSION_H
#define LABBOOT_SESSION_H

/* A leased or running boot in this process: its disks, each a version under an overlay that is made by the
 * first write, and the machine's own disk. All connections of the boot share it. */

#include "lib/store/hot.h"
#include "lib/store/overlay.h"
#include "lib/store/raw-disk.h"
#include "lib/store/store.h"
#include "nbd-plugin/guard.h"
#include "nbd-plugin/live.h"
#include "nbd-plugin/temporal.h"

#include <pthread.h>
#include <stdatomic.h>

enum fence {
    FENCE_NONE,
    FENCE_WRITES, /* the machine said `done`: it still reads its programs while it goes down */
    FENCE_ALL,
};

/* What a session tells the server. Both may be called by any thread in the middle of a request, and return at
 * once. */
struct session_events {
    void (*started)(void *ctx, int64_t boot); /* leased -> running */
    void (*damaged)(void *ctx, const struct uuid *image, uint64_t version, const char *why); /* once a disk */
    void *ctx;
};

struct disk {
    struct session *session;
    size_t n; /* its place in the boot */
    struct view *base;
    char *dir;                         /* overlays/<boot>/<n>, or overlays/temporal-<id> */
    pthread_mutex_t create;            /* held while the overlay is made */
    _Atomic(struct overlay *) overlay; /* NULL until the first write */
    atomic_bool damage_told;
    struct hot_recorder *recorder; /* NULL: what is read is not noted */
};

/* The place of the machine's own disk in a boot: behind all others. */
#define OWN_DISK SETUP_IMAGES_MAX

struct session {
    struct boot boot; /* as it was leased; `state` of it is not kept up: see `running` */
    const struct live *live;
    struct store *store;
    struct temporals *temporals; /* the server's */
    struct session_events events;
    size_t ndisks;
    struct disk disks[SETUP_IMAGES_MAX];
    struct machine_disk own;        /* the row of the machine's own disk */
    pthread_mutex_t own_open;       /* held while its file is made and opened */
    _Atomic(struct raw_disk *) raw; /* NULL until its first use */

    pthread_rwlock_t fence; /* requests hold it shared while they run; the fence is raised holding it alone */
    enum fence fenced;      /* guarded by `fence` */
    atomic_bool hurry; /* what runs for long is to end: somebody waits for the fence, or the server stops */
    atomic_bool compacting; /* a job to do that waits or runs */
    atomic_bool running;    /* written to, or read for more than a probe */
    atomic_uint_fast64_t bytes_read, bytes_written;

    /* Guarded by the server's `binding`. */
    struct session *next;
    size_t refs;                       /* handles, jobs and the table */
    size_t connections;                /* all that opened it */
    atomic_size_t machine_connections; /* of those, the machine's own; read without the lock by requests */
    struct in6_addr address;           /* theirs */
    bool crowded;                      /* too many of them; that was told */
    int64_t disconnected;              /* since when there is no connection; 0: there is one */
    int64_t recorded;                  /* what the catalog knows of `disconnected` */
    bool loaded;                       /* overlays of before a restart are open */
    bool looked; /* since it is disconnected: whether it was shut down has been looked at */
};

/* Opens the bases; overlays come with session_load. `own`: the machine's own disk. One reference. */
int session_new(struct store *store, struct temporals *temporals, const struct live *live,
                const struct boot *boot, const struct machine_disk *own, const struct session_events *events,
                struct session **ret, struct err *e) must_check;
/* Only when refs is 0. */
void session_free(struct session *s);
/* Opens overlays that an earlier process left (their maps are replayed). The caller holds `binding`.
 * Repeatable. */
int session_load(struct session *s, struct err *e) must_check;
/* After another configuration came into force: quota and reserve for what is written from now on. The caller holds
 * `binding`. */
void session_renew_limits(struct session *s);
/* The disk of this image's name, "" for the root, "machine" for OWN_DISK. ERR_NOT_FOUND. */
int session_find_disk(const struct boot *b, const char *image, size_t *ret, struct err *e) must_check;

/* Writes down what was read, where that is due; cheap otherwise. The caller holds `binding`. */
void session_save_hot(struct session *s);
/* Waits for the requests that run, then refuses new ones (sys = ESHUTDOWN). A fence is never lowered. */
void session_fence(struct session *s, enum fence level);
/* Closes the overlays of a session that is fenced whole, so that others can open them. */
void session_close_overlays(struct session *s);
/* Makes durable what was acknowledged. Failures are logged. */
void session_sync(struct session *s);
/* Whether an overlay takes much more than what it holds, and session_compact is worth while. */
bool session_wants_compaction(struct session *s);
/* Like a request, but takes long; ends soon once `hurry` is set. Failures are logged. */
void session_compact(struct session *s);
/* For publish: one entry a disk. */
void session_overlays(struct session *s, struct overlay *ret[SETUP_IMAGES_MAX]);

/* Requests. offset + count within the disk; any thread. */
int session_pread(struct session *s, size_t disk, void *buf, size_t count, uint64_t offset,
                  struct err *e) must_check;
int session_pwrite(struct session *s, size_t disk, const void *buf, size_t count, uint64_t offset, bool fua,
                   struct err *e) must_check;
int session_zero(struct session *s, size_t disk, uint64_t count, uint64_t offset, bool fua,
                 struct err *e) must_check;
int session_flush(struct session *s, size_t disk, struct err *e) must_check;
int session_prefetch(struct session *s, size_t disk, uint64_t count, uint64_t offset,
                     struct err *e) must_check;
/* One stretch from offset on, at most `count` long: reads as zero (a hole), or is data. */
int session_extent(struct session *s, size_t disk, uint64_t count, uint64_t offset, uint64_t *ret_length,
                   bool *ret_zero, struct err *e) must_check;

#endif
