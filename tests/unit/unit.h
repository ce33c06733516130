/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_UNIT_H
#define LABBOOT_UNIT_H

/* Unit tests: a program a module, a function a story, run by UNIT(name) from main; exit status 0 when all held.
 * A failed check prints file, line and the text, and ends the program. */

#include "lib/base/err.h"
#include "lib/base/fsutil.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                          \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* For calls that take `&e` of an `struct err e` in scope. */
#define CHECK_OK(call)                                                                                       \
    do {                                                                                                     \
        if ((call) < 0) {                                                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, e.msg);                            \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_FAILS(call, wanted_code)                                                                       \
    do {                                                                                                     \
        if ((call) >= 0 || e.code != (wanted_code)) {                                                        \
            fprintf(stderr, "%s:%d: %s: wanted the error %d\n", __FILE__, __LINE__, #call, wanted_code);     \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_STR(a, b)                                                                                      \
    do {                                                                                                     \
        const char *check_a = (a), *check_b = (b);                                                           \
        if (strcmp(check_a, check_b) != 0) {                                                                 \
            fprintf(stderr, "%s:%d: '%s' is not '%s'\n", __FILE__, __LINE__, check_a, check_b);              \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define UNIT(story)                                                                                          \
    do {                                                                                                     \
        story();                                                                                             \
        printf("ok - %s\n", #story);                                                                         \
        fflush(stdout);                                                                                      \
    } while (0)

/* A temporary folder of this program, removed at its normal end. */
static inline void unit_remove_dir(int status, void *dir)
{
    (void)status;
    struct err e;
    if (remove_tree(dir, &e) < 0)
        fprintf(stderr, "%s\n", e.msg);
    free(dir);
}

static inline const char *unit_dir(void)
{
    static char *dir;
    if (!dir) {
        const char *base = getenv("TMPDIR");
        dir = path_format("%s/labboot-unit-XXXXXX", base ? base : "/tmp");
        if (!mkdtemp(dir)) {
            perror(dir);
            exit(1);
        }
        on_exit(unit_remove_dir, dir);
    }
    return dir;
}

#endif
