/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_STORE_INTERNAL_H
#define LABBOOT_STORE_INTERNAL_H

/* What the files of the store share among themselves. */

#include "lib/store/cache.h"
#include "lib/store/decompress.h"
#include "lib/store/layer.h"
#include "lib/store/store.h"

#include <pthread.h>

struct store {
    char *images_dir;
    struct cache *cache;
    struct scratch_pool *scratch;
    struct layers *layers;
    _Atomic uint64_t leaves; /* that views keep in memory */
    uint64_t leaves_max;
    /* Of `views` and of all views' refs. No other lock is taken under it, and no file touched. */
    pthread_mutex_t lock;
    struct view *views; /* open now */
};

/* "<images-dir>/<image uuid>", malloc'ed. */
char *store_image_dir(const struct store *s, const struct uuid *image) must_check;

/* "123.img", in the one spelling that is ever written. */
bool store_parse_version_name(const char *name, uint64_t *ret);

/* "<layer uuid>.img", the names in retired/. */
bool store_parse_layer_name(const char *name, struct uuid *ret);

/* Moves <dir>/<version>.img, which is that layer, to <dir>/retired/. */
int store_move_to_retired(const char *path, const char *dir, const struct uuid *layer,
                          struct err *e) must_check;

struct store *view_store(const struct view *v);

/* As view_open, of retired/<layer>.img: a version that was removed, or what it was before it was flattened. */
int view_open_retired(struct store *s, const struct uuid *image, const struct uuid *layer, struct view **ret,
                      struct err *e) must_check;

/* Reads the frame of an entry of v, past the cache, into scratch->chunk, and checks it. Not for CODEC_ZERO. */
int view_check_entry(struct view *v, uint64_t chunk, const struct leaf_entry *n, struct scratch *scratch,
                     struct err *e) must_check;

#endif
