/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_GUARD_H
#define LABBOOT_GUARD_H

#include "catalog/catalog.h"

#include <pthread.h>

/* The process's one connection to the catalog, and the mutex that lets one thread at a time use it. Innermost
 * of all locks: nothing else is taken while it is held, and no file is read or written. */
struct guard {
    struct catalog *catalog;
    pthread_mutex_t lock;
};

#define GUARD_INIT(c)                                                                                        \
    {                                                                                                        \
        .catalog = (c), .lock = PTHREAD_MUTEX_INITIALIZER                                                    \
    }

static inline struct catalog *guard_enter(struct guard *g)
{
    pthread_mutex_lock(&g->lock);
    return g->catalog;
}

static inline void guard_leave(struct guard *g)
{
    pthread_mutex_unlock(&g->lock);
}

/* result = function(catalog, ...) under the guard: `guarded(g, boot_get, id, &boot, &e)`. */
#define guarded(g, function, ...)                                                                            \
    ({                                                                                                       \
        struct guard *guarded_g = (g);                                                                       \
        __typeof__(function(guarded_g->catalog, __VA_ARGS__)) guarded_r =                                    \
            function(guard_enter(guarded_g), __VA_ARGS__);                                                   \
        guard_leave(guarded_g);                                                                              \
        guarded_r;                                                                                           \
    })

#endif
