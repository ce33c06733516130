/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CLEANUP_H
#define LABBOOT_CLEANUP_H

/* Scoped cleanup: `cleanup(free) char *p = …;` frees p when it goes out of scope, keeping errno.
 * Ownership moves out with steal(): `*ret = steal(&p);`. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <dirent.h>

#define cleanup(name) __attribute__((cleanup(cleanup_##name)))

/* Defines cleanup_NAME for pointers to `type` that are released by `fn`, which must take NULL. */
#define DEFINE_CLEANUP(name, type, fn)                                                                       \
    static inline void cleanup_##name(type **p)                                                              \
    {                                                                                                        \
        int saved_errno = errno;                                                                             \
        fn(*p);                                                                                              \
        errno = saved_errno;                                                                                 \
    }                                                                                                        \
    struct cleanup_##name##_needs_a_semicolon

static inline void cleanup_free(void *p)
{
    int saved_errno = errno;
    free(*(void **)p);
    errno = saved_errno;
}

/* For `cleanup(close) int fd = -1;` */
static inline void cleanup_close(int *fd)
{
    int saved_errno = errno;
    if (*fd >= 0)
        close(*fd);
    errno = saved_errno;
}

static inline void cleanup_fclose(FILE **f)
{
    int saved_errno = errno;
    if (*f)
        fclose(*f);
    errno = saved_errno;
}

static inline void cleanup_closedir(DIR **d)
{
    int saved_errno = errno;
    if (*d)
        closedir(*d);
    errno = saved_errno;
}

/* Takes the pointer out of *pp, leaving NULL. */
#define steal(pp)                                                                                            \
    ({                                                                                                       \
        __typeof__(pp) steal_pp = (pp);                                                                      \
        __typeof__(*steal_pp) steal_p = *steal_pp;                                                           \
        *steal_pp = NULL;                                                                                    \
        steal_p;                                                                                             \
    })

static inline int steal_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

#endif
