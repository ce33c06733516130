/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_OVERLAY_IMPL_H
#define LABBOOT_OVERLAY_IMPL_H

/* What the files overlay*.c share. */

#include "lib/store/overlay-map.h"
#include "lib/store/overlay-radix.h"
#include "lib/store/overlay.h"

#include <pthread.h>

/* Lock order: append, then index. Nothing is taken under `sync`, and it is taken under none. */
struct overlay {
    struct overlay_meta meta;
    uint64_t blocks; /* of the disk; the last may be partial */
    uint32_t seed;
    int meta_fd; /* holds the flock */
    int data_fd, map_fd;

    pthread_mutex_t append; /* one record at a time; guards from here … */
    struct overlay_limits limits;
    uint64_t next_block;    /* physical blocks that are taken */
    uint64_t map_end;       /* where the next record goes */
    uint64_t map_allocated; /* size of the map with what is allocated ahead */
    uint64_t sequence;      /* of the last record */
    uint64_t last_change;   /* sequence of the last DATA or ZERO */
    uint64_t unsynced;      /* data blocks since the last SYNC */
    uint64_t space_check;   /* stored bytes at which the file system is asked again */
    bool fenced;            /* no more writes */
    bool sealed;            /* SEAL is written */
    bool failed;            /* a sync failed */
    /* … to here. */

    pthread_rwlock_t index; /* guards radix; written with `append` held too */
    struct radix radix;

    pthread_mutex_t sync; /* guards syncing, synced */
    pthread_cond_t synced_changed;
    bool syncing;    /* a thread is at it */
    uint64_t synced; /* all up to this sequence is on the disk */
};

/* The four below: `append` is held. */
/* ESHUTDOWN when fenced, EIO when a sync has failed. */
int overlay_check_writable(const struct overlay *o, struct err *e) must_check;
/* Whether `blocks` of data and a record of `record` bytes may be stored: else sys = ENOSPC. */
int overlay_check_space(struct overlay *o, uint64_t blocks, size_t record, struct err *e) must_check;
/* Gives `r` the next sequence and writes it from `buf`, where a DATA record's sums stand already. Where it
 * fails nothing has changed. */
int overlay_append(struct overlay *o, struct map_record *r, uint8_t *buf, struct err *e) must_check;
uint64_t overlay_stored(const struct overlay *o);

/* Makes all that was appended durable (in the page cache only where the overlay is not durable) and writes
 * SYNC. EIO when a sync has failed, now or before. Takes `sync` and `append`. */
int overlay_sync(struct overlay *o, struct err *e) must_check;
/* Fills a handle whose files are open from the map. */
int overlay_recover(struct overlay *o, struct err *e) must_check;

#endif
