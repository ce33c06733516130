/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_OVERLAY_H
#define LABBOOT_OVERLAY_H

/* The copy-on-write overlay of one disk of one boot: <dir>/{meta,data,map}, as overlay.c describes.
 * Thread-safe. An acknowledged write survives a killed process at once, and a power cut once it was flushed.
 * Blocks are 4 KiB. */

#include "lib/base/hwid.h"
#include "lib/store/reader.h"

#include <stdatomic.h>
#include <stdbool.h>

#define OVERLAY_BLOCK 4096u

struct overlay;

struct overlay_meta {
    struct uuid overlay;    /* made by overlay_create */
    struct uuid image;      /* the base */
    uint64_t base_version;  /* the base */
    struct uuid base_layer; /* the base */
    uint64_t size;          /* virtual size in bytes, the base's */
    bool durable; /* flushes reach the disk; false: only the page cache (scratch boots, if configured) */
};

struct overlay_limits {
    uint64_t quota;   /* bytes that the overlay's files may take; 0: no limit */
    uint64_t reserve; /* bytes of the file system that are never used */
};

/* Makes <dir> and its files (parents must exist; `meta->overlay` is ignored and made anew), durable when it
 * returns. ERR_STATE when <dir> exists. The handle holds an exclusive flock until it is closed. */
int overlay_create(const char *dir, const struct overlay_meta *meta, const struct overlay_limits *limits,
                   struct overlay **ret, struct err *e) must_check;
/* Replays the map: up to the first record that is bad, which is cut off. Another handle holds it, in this
 * process or another: ERR_STATE. Not there: ERR_NOT_FOUND. Not durable and the host has been restarted since,
 * or a record that was flushed is damaged: ERR_CORRUPT. */
int overlay_open(const char *dir, const struct overlay_limits *limits, struct overlay **ret,
                 struct err *e) must_check;
/* Other limits, for what is written from now on. Any thread. */
void overlay_set_limits(struct overlay *o, struct overlay_limits limits);
/* Reads only the meta file; takes no lock. */
int overlay_read_meta(const char *dir, struct overlay_meta *ret, struct err *e) must_check;
/* Frees and unlocks. Syncs nothing: what was acknowledged is in the files already. NULL is fine. */
void overlay_close(struct overlay *o);
/* Removes <dir>. The caller has closed it. A missing one is fine. */
int overlay_remove(const char *dir, struct err *e) must_check;

const struct overlay_meta *overlay_meta(const struct overlay *o);

/* offset + count within the size. `base` is read where the overlay has no block. A block that fails its
 * checksum is ERR_CORRUPT with sys = EIO, for that block only. The two that write fail with sys = ENOSPC at
 * the quota or the reserve (this write only), ESHUTDOWN once sealed, EIO for good after a failed sync. */
int overlay_pread(struct overlay *o, const struct reader *base, void *buf, size_t count, uint64_t offset,
                  struct err *e) must_check;
int overlay_pwrite(struct overlay *o, const struct reader *base, const void *buf, size_t count,
                   uint64_t offset, struct err *e) must_check;
/* The range reads as zeroes afterwards: for zero and for trim. */
int overlay_zero(struct overlay *o, const struct reader *base, uint64_t count, uint64_t offset,
                 struct err *e) must_check;
/* Everything acknowledged before is on the disk when it returns. Concurrent flushes share one sync. */
int overlay_flush(struct overlay *o, struct err *e) must_check;
/* Flushes and writes SEAL: no write is accepted ever after, also when it is opened again. Where it fails,
 * this handle accepts no write all the same, and it may be tried again. */
int overlay_seal(struct overlay *o, struct err *e) must_check;
bool overlay_is_sealed(struct overlay *o);
/* Takes the SEAL away again, durably: writes are accepted. For a boot that goes on after it was interrupted; nothing else may
 * have been made of the overlay. A crash leaves it sealed or not. */
int overlay_unseal(struct overlay *o, struct err *e) must_check;

/* Whether so much of its files is superseded that overlay_compact is worth while: what is written over and over for hours
 * takes no more than twice what it holds and 1 GiB, or, with a quota, less. */
bool overlay_wants_compaction(struct overlay *o);
/* Moves what is needed out of parts of the files that are mostly superseded, and gives those back. Beside requests, which
 * notice no more than a sync. Ends soon when *stop gets true (NULL: never), or it is sealed. Where it fails, nothing is
 * lost. */
int overlay_compact(struct overlay *o, const atomic_bool *stop, struct err *e) must_check;

/* A disk of a boot: an overlay over its base. The reader lives as long as this. */
struct overlay_disk {
    struct overlay *overlay;
    struct reader base;
};
struct reader overlay_disk_reader(struct overlay_disk *d);

enum overlay_kind { OVERLAY_NONE, OVERLAY_DATA, OVERLAY_ZERO };
/* What stands at offset (a multiple of the block, or the size), and for how many bytes (up to max, the size)
 * the same kind goes on. */
void overlay_extent(struct overlay *o, uint64_t offset, uint64_t max, uint64_t *ret_length,
                    enum overlay_kind *ret_kind);
/* The first block at or after offset that the overlay has, as an offset; the size when there is none. Skips
 * empty parts at once: its cost is the number of dirty blocks, not the size. */
uint64_t overlay_next_dirty(struct overlay *o, uint64_t offset);
/* Bytes of the disk that the overlay holds as data, and bytes that its files take. */
uint64_t overlay_dirty_bytes(struct overlay *o);
uint64_t overlay_stored_bytes(struct overlay *o);

#endif
