/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TEMPORAL_H
#define LABBOOT_TEMPORAL_H

/* Overlays that outlive their boots: those of images of type temporal. A boot that has ended may still be read by a
 * machine that goes down while the next one writes, so sessions share what is open. It is never sealed: the fence of its
 * session keeps an ended boot from writing. */

#include "lib/store/overlay.h"

#include <pthread.h>
#include <stdint.h>

struct temporal_overlay;
struct temporals {
    pthread_mutex_t lock; /* of all here, also while one is made or opened; taken after a disk's `create` */
    struct temporal_overlay *first;
};

/* As overlay_open and overlay_create, of the one with this id; one that is open is shared. */
int temporal_open(struct temporals *t, int64_t id, const char *dir, const struct overlay_limits *limits,
                  struct overlay **ret, struct err *e) must_check;
int temporal_create(struct temporals *t, int64_t id, const char *dir, const struct overlay_meta *meta,
                    const struct overlay_limits *limits, struct overlay **ret, struct err *e) must_check;
/* Who opened it last closes it. NULL is fine. */
void temporal_close(struct temporals *t, struct overlay *o);

#endif
