/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_RUBBISH_H
#define LABBOOT_RUBBISH_H

#include "lib/base/err.h"

#include <stdint.h>

/* What the collectors of rubbish find, one at a time. */
struct rubbish {
    const char *code;   /* "retired-layer": stable, for programs */
    const char *object; /* the path */
    uint64_t bytes;     /* that its removal gives back */
    const char *text;   /* why nobody needs it */
};

struct rubbish_sink {
    void *ctx;
    /* 1: it is to be removed now, 0: it stays; -1 ends the collection. Called with the locks held that keep it rubbish. */
    int (*found)(void *ctx, const struct rubbish *r, struct err *e);
};

#endif
