/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_LIVE_H
#define LABBOOT_LIVE_H

/* The configuration that is in force in this process: one reading of the file, which never changes. A reload puts another
 * in its place; who is at something goes on with the one that it began with, so the old ones stay until live_release: a
 * kilobyte for each reload that changed something. */

#include "conf/conf.h"

#include <stdatomic.h>

struct reading {
    struct conf conf;
    struct reading *before;
};

struct live {
    const char *path;              /* the file; the caller's */
    _Atomic(struct reading *) now; /* the newest; the older ones behind it */
};

/* Reads the file for the first time. */
int live_init(struct live *l, const char *path, struct err *e) must_check;
/* Nobody reads it any more. */
void live_release(struct live *l);
/* Any thread. */
const struct conf *live_conf(const struct live *l);
/* Reads the file again. One thread at a time. Where it has mistakes nothing changes, and the first one is the error. Keys
 * that a running server cannot change keep their values. *ret_changed: something did change. `out` gets a line for each
 * key in which file and server differed: "[boot] grace". */
int live_reload(struct live *l, struct strbuf *out, bool *ret_changed, struct err *e) must_check;

#endif
