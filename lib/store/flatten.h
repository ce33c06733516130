/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_FLATTEN_H
#define LABBOOT_FLATTEN_H

/* A version is written anew as a layer that needs no other: the same disk, with the same checksum. */

#include "lib/store/build.h"

struct flatten_options {
    struct compression compression;
    /* All is compressed again. Else frames of that codec, and such as did not compress at all, are copied. */
    bool recompress;
    unsigned threads; /* 0: one a core */
    uint64_t reserve; /* as of build_options */
    struct progress progress;
};

/* Whether the version needs no other layer, and would not be compressed in another way either. */
bool flatten_is_done(const struct view *v, const struct flatten_options *o);
/* The layer, for build_replace. Every chunk is verified on its way: damage is ERR_CORRUPT. Memory: as of build_layer. */
int flatten_build(struct store *s, struct view *v, const struct flatten_options *o, struct build **ret,
                  struct build_result *ret_result, struct err *e) must_check;

/* After a crash, where retired/<layer>.img is of the layer that the catalog takes for that version: 1: the version is
 * another layer with the same disk by now (*ret: its footer), and the catalog is to be told. 0: nothing of the kind; if it
 * is the version's file under a second name, that is removed. The caller holds the image's lock. */
int flatten_settle(struct store *s, const struct uuid *image, uint64_t version, const struct uuid *layer,
                   const uint8_t checksum[CHECKSUM_SIZE], struct footer *ret, struct err *e) must_check;

#endif
