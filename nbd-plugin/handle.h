/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_HANDLE_H
#define LABBOOT_HANDLE_H

/* One connection: which disk it asked for, and to which boot it belongs. Opening leases and ends nothing
 * (probes open and close); the first request that reads or writes binds: it leases, joins, or takes over, as
 * boot-lifecycle says. */

#include "nbd-plugin/server.h"

struct handle {
    struct server *server;
    struct export_name name;
    struct peer peer;
    bool admin;
    bool read_only;
    struct machine machine; /* of a boot's export */
    uint64_t size;          /* bytes: what the client was told */
    struct view *view;      /* EXPORT_IMAGE, and a boot's disk before it is bound */
    char description[200];

    struct session *session; /* joined; guarded by binding until `bound`, then constant */
    size_t disk;
    /* Without token, from the machine, to disks that were unmounted: its boot has ended. */
    bool after_shut_down;
    atomic_bool bound;
};

#define DONE_SIZE 4096u /* of the export MAC.TOKEN/done */

/* `export_name` as the client sent it. A refusal is logged here, with the name escaped; where there were too
 * many of late *e has no message either. */
int handle_open(struct server *s, const char *export_name, const struct peer *peer, struct handle **ret,
                struct err *e) must_check;
void handle_close(struct handle *h);

/* The requests, on any kind of export. */
int handle_pread(struct handle *h, void *buf, uint32_t count, uint64_t offset, struct err *e) must_check;
int handle_pwrite(struct handle *h, const void *buf, uint32_t count, uint64_t offset, bool fua,
                  struct err *e) must_check;
int handle_zero(struct handle *h, uint32_t count, uint64_t offset, bool fua, struct err *e) must_check;
int handle_flush(struct handle *h, struct err *e) must_check;
int handle_prefetch(struct handle *h, uint32_t count, uint64_t offset, struct err *e) must_check;
int handle_extent(struct handle *h, uint64_t count, uint64_t offset, uint64_t *ret_length, bool *ret_zero,
                  struct err *e) must_check;

/* Whether one more refusal gets a line: a client that tries again and again must not bury the log. */
bool handle_may_tell_refusal(struct server *s);

/* Calls `add` for each export that the peer may open. */
int exports_list(struct server *s, const struct peer *peer,
                 int (*add)(void *ctx, const char *name, const char *description), void *ctx,
                 struct err *e) must_check;

#endif
