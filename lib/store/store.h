/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_STORE_H
#define LABBOOT_STORE_H

/* The image store: versions of images, opened for reading. One `struct store` a process; it owns the cache of
 * decompressed chunks and the registry of open layers, so that all sessions share both. Everything here is
 * thread-safe.
 *
 *     <images-dir>/<image uuid>/<version>.img          a version
 *     <images-dir>/<image uuid>/retired/<layer>.img    a layer without a version, still used by younger ones
 *     <images-dir>/<image uuid>/tmp/<layer>            being written
 *     <images-dir>/<image uuid>/lock                   flock: publish, delete, gc of this image */

#include "lib/base/hwid.h"
#include "lib/store/format.h"
#include "lib/store/reader.h"

struct store;
struct view; /* a version opened for reading, reference counted */

/* `images_dir` is absolute. `cache_memory`: bytes for decompressed chunks, and an eighth more for leaves of indexes; 0 for a
 * process that reads nothing twice (a minimum of a few of both is used). No thread is started. */
int store_open(const char *images_dir, uint64_t cache_memory, struct store **ret, struct err *e) must_check;
/* For a store that was just opened: what is read of it comes from the disk, past the page cache, which stays as it is
 * (medium.h). Only for who looks whether the disk still has it: it is slow. */
void store_read_medium(struct store *s);
/* All views must be closed. NULL is fine. */
void store_close(struct store *s);
const char *store_images_dir(const struct store *s);

struct cache_counters {
    uint64_t hits, misses, evictions;
};
void store_counters(struct store *s, struct cache_counters *ret);

/* Opens <image>/<version>.img: footer, root and table are read and verified here, older layers and leaves
 * when needed; each open layer is held with a shared flock. What is open already is shared, unless the version
 * was flattened since. Memory: the root and its double at most, and leaves within what the store has for all. Missing
 * file: ERR_NOT_FOUND; damaged: ERR_CORRUPT. *ret is closed with view_close. */
int view_open(struct store *s, const struct uuid *image, uint64_t version, struct view **ret,
              struct err *e) must_check;
struct view *view_ref(struct view *v);
void view_close(struct view *v);

const struct footer *view_footer(const struct view *v);
/* Length of the version's own file in bytes. */
uint64_t view_file_length(const struct view *v);

/* Fills buf from the disk; offset + count within the virtual size. Every chunk is verified by its hash; a
 * mismatch is ERR_CORRUPT with sys = EIO, and only this reader is hurt. `session` tells readers apart for the
 * cache's promotion (a boot id; any constant for a tool). */
int view_pread(struct view *v, uint64_t session, void *buf, size_t count, uint64_t offset,
               struct err *e) must_check;
/* A reader on v with session 0; valid as long as v. */
struct reader view_reader(struct view *v);
/* How long, from offset on (up to `max` bytes), the disk is all zero by its index (*ret_zero) or not. */
int view_extent(struct view *v, uint64_t offset, uint64_t max, uint64_t *ret_length, bool *ret_zero,
                struct err *e) must_check;
/* Brings what is compressed in the range into the cache, within a quarter of its budget, and the rest into the kernel's. */
int view_prefetch(struct view *v, uint64_t session, uint64_t offset, uint64_t count,
                  struct err *e) must_check;

/* The entry of one chunk, for commit and check. */
int view_entry(struct view *v, uint64_t chunk, struct leaf_entry *ret, struct err *e) must_check;

/* For the writer of a child. As in the version's file, and valid as long as v: the root (ROOT_ENTRY_SIZE bytes a leaf)
 * and the layer table. */
const uint8_t *view_root(const struct view *v);
const uint8_t *view_table(const struct view *v, size_t *ret_length);
/* One leaf as it lies on the disk, verified by the root's hash; zeroes for a ROOT_ZERO one. */
int view_leaf(struct view *v, uint64_t leaf, uint8_t ret[LEAF_SIZE], struct err *e) must_check;

/* Opens, for a moment, every layer that the table of v names, needed or not. ERR_CORRUPT: one is missing or another. */
int view_check_layers(struct view *v, struct err *e) must_check;

/* Whether <image>/<version>.img is there. */
bool store_has_version(struct store *s, const struct uuid *image, uint64_t version);
/* The highest version in the image's folder, 0 when there is none. */
int store_highest_version(struct store *s, const struct uuid *image, uint64_t *ret, struct err *e) must_check;
/* Finds the version that was committed from `overlay`: a publish whose catalog row is missing; who made it may have been
 * killed before it had synced the file's name: this does. ERR_NOT_FOUND. */
int store_find_by_overlay(struct store *s, const struct uuid *image, const struct uuid *overlay,
                          uint64_t *ret, struct err *e) must_check;
/* Removes what killed builds left in tmp/: each build holds an flock on its file, live ones are kept. */
int store_clean_tmp(struct store *s, struct err *e) must_check;
/* Makes the image's folders. Repeatable. */
int store_make_image(struct store *s, const struct uuid *image, struct err *e) must_check;
/* Removes the image's folder with everything in it: only once its catalog row is gone. */
int store_remove_image(struct store *s, const struct uuid *image, struct err *e) must_check;
/* The image's lock, held until *ret_fd is closed. Waits. Taken before any catalog transaction, never inside
 * one. No folder: ERR_NOT_FOUND. */
int store_lock_image(struct store *s, const struct uuid *image, int *ret_fd, struct err *e) must_check;

#endif
