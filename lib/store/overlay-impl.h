/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_OVERLAY_IMPL_H
#define LABBOOT_OVERLAY_IMPL_H

/* What the files overlay*.c share. */

#include "lib/store/overlay-map.h"
#include "lib/store/overlay-radix.h"
#include "lib/store/overlay-space.h"
#include "lib/store/overlay.h"

#include <pthread.h>

/* Lock order: compaction, append, index. Nothing is taken under `sync`, and it is taken under `compaction` alone. */
struct overlay {
    struct overlay_meta meta;
    uint64_t blocks; /* of the disk; the last may be partial */
    uint32_t seed;
    int meta_fd; /* holds the flock */
    int data_fd, dir_fd;
    int map_fd; /* another one after a compaction: changed by who is `syncing`, with `append` held */

    pthread_mutex_t compaction; /* one at a time */

    pthread_mutex_t append; /* one record at a time; guards from here … */
    struct overlay_limits limits;
    struct space space;     /* of `data` */
    uint64_t map_end;       /* where the next record goes */
    uint64_t map_allocated; /* size of the map with what is allocated ahead */
    uint64_t sequence;      /* of the last record */
    uint64_t last_change;   /* sequence of the last DATA or ZERO */
    uint64_t unsynced;      /* data blocks since the last SYNC */
    uint64_t vouched; /* what the last SYNC vouches for; the record itself may be lost until the next sync */
    uint64_t map_floor;   /* length of the map when it was last written anew */
    uint64_t map_slack;   /* by so much it may be longer than twice that; tests make it less */
    uint64_t space_check; /* stored bytes at which the file system is asked again */
    bool fenced;          /* no more writes */
    bool sealed;          /* SEAL is written */
    bool failed;          /* a sync failed */
    /* … to here. */

    pthread_rwlock_t index; /* guards radix; written with `append` held too */
    struct radix radix;

    pthread_mutex_t sync; /* guards syncing, synced */
    pthread_cond_t synced_changed;
    bool syncing;    /* a thread is at it */
    uint64_t synced; /* all up to this sequence is on the disk */
};

/* The six below: `append` is held. */
/* ESHUTDOWN when fenced, EIO when a sync has failed. */
int overlay_check_writable(const struct overlay *o, struct err *e) must_check;
/* Whether `blocks` of data and a record of `record` bytes may be stored: else sys = ENOSPC. */
int overlay_check_space(struct overlay *o, uint64_t blocks, size_t record, struct err *e) must_check;
/* Takes that much of `data`, whatever the limits say. */
int overlay_take(struct overlay *o, uint64_t blocks, uint64_t *ret_physical, struct err *e) must_check;
/* The record, and then the index, have the blocks; those that stood there are superseded. */
int overlay_commit_record(struct overlay *o, struct map_record *r, uint8_t *buf, struct err *e) must_check;
/* Gives `r` the next sequence and writes it from `buf`, where a DATA record's sums stand already. Where it
 * fails nothing has changed. */
int overlay_append(struct overlay *o, struct map_record *r, uint8_t *buf, struct err *e) must_check;
uint64_t overlay_stored(const struct overlay *o);

/* Makes all that was appended durable (in the page cache only where the overlay is not durable) and writes
 * SYNC. EIO when a sync has failed, now or before. Takes `sync` and `append`. */
int overlay_sync(struct overlay *o, struct err *e) must_check;
/* So that nobody syncs: waits for who does, and makes them wait; until overlay_sync_end, when all up to `synced` is on the
 * disk. Takes `sync`. */
void overlay_sync_begin(struct overlay *o);
void overlay_sync_end(struct overlay *o, uint64_t synced);
/* By who is syncing. One sync of all that was appended before it began (*ret_upto), also where that is nothing new: then
 * it makes the last SYNC durable, and gives back what nobody needs since. EIO when a sync has failed. Takes `append`. */
int overlay_sync_once(struct overlay *o, uint64_t *ret_upto, struct err *e) must_check;
/* The slots of n blocks. Takes `index`. */
void overlay_load_slots(struct overlay *o, uint64_t block, size_t n, uint64_t *slots);
/* Whole blocks that stand next to each other in `data`, by their slots as they were a moment ago, into dst; each is held
 * against its checksum: a mismatch is ERR_CORRUPT with sys = EIO. */
int overlay_read_whole(struct overlay *o, uint64_t block, const uint64_t *slots, size_t n, uint8_t *dst,
                       struct err *e) must_check;
/* When a limit is reached: whether there was something to give back, and was. */
bool overlay_make_room(struct overlay *o);
/* Fills a handle whose files are open from the map. */
int overlay_recover(struct overlay *o, struct err *e) must_check;

#endif
