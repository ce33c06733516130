/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_HOT_H
#define LABBOOT_HOT_H

/* What a machine reads when it boots a version: <image>/<version>.hot has the numbers of the chunks in the order in which the
 * first boot of the version wanted them, so that they can be read ahead for the next. It is advice: one that is missing,
 * damaged or of another version costs nothing but time. A boot reads about a thousand chunks of 64 KiB until a desktop is
 * there, some five thousand with what is then started.
 *
 *   OFFSET SIZE MEANING
 *        0    8 magic "LBHOT\0\0\1"
 *        8   16 image uuid
 *       24    8 version
 *       32    4 chunk shift
 *       36    4 count, at most HOT_CHUNKS_MAX
 *       40  4 n chunk numbers
 *  40 + 4n   16 XXH3-128 of all before
 * All integers are little-endian. */

#include "lib/store/store.h"

#define HOT_CHUNKS_MAX 16384u /* 1 GiB of 64 KiB each */
#define HOT_CHUNKS_MIN 32u    /* of fewer nothing is kept: somebody only looked */
#define HOT_SECONDS 300       /* from the beginning of a boot */

struct hot_list {
    uint32_t *chunks; /* malloc'ed */
    size_t count;
};

/* Whether the version has a good list of its own. */
bool hot_exists(struct store *s, const struct view *v);
/* That, or the youngest of its ancestors': the disk of a version is mostly its parent's. ERR_NOT_FOUND: there is none. */
int hot_load(struct store *s, const struct view *v, struct hot_list *ret, struct err *e) must_check;
/* Of a version that is gone. Not there is fine. */
void hot_remove(const char *image_dir, uint64_t version);
/* "123.hot". */
bool hot_parse_name(const char *name, uint64_t *ret_version);

/* Notes what is read, until it is full or HOT_SECONDS have gone. Thread-safe, without locks. */
struct hot_recorder;
int hot_recorder_new(const struct view *v, struct hot_recorder **ret, struct err *e) must_check;
/* NULL is fine. */
void hot_recorder_free(struct hot_recorder *r);
void hot_record(struct hot_recorder *r, uint64_t offset, size_t count);
/* Nothing more will be noted, and it was not saved yet. */
bool hot_recorder_is_due(const struct hot_recorder *r);
/* Writes the list, if it is long enough to be one; once. */
int hot_recorder_save(struct hot_recorder *r, struct store *s, const struct view *v,
                      struct err *e) must_check;

#endif
