/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_FSCK_H
#define LABBOOT_FSCK_H

#include "cli/cli.h"
#include "lib/store/store.h"

struct finding {
    const char *code;   /* stable, for programs: the table in labboot(1) */
    const char *object; /* "image alice/debian@1795460000", a path, "boot 7" */
    const char *text;
    /* What --repair does about it; NULL: nothing is safe. */
    int (*repair)(void *ctx, struct err *e);
    void *ctx;
    /* The repair only keeps harm away: what is lost stays lost, and is found again. */
    bool lost;
};

struct fsck {
    struct cli *c;
    struct store *store;
    bool repair, data;
    size_t count, left; /* findings; those that are still there */
    struct strbuf out;
};

/* Repairs it if that is asked for and possible, and prints it. */
int fsck_report(struct fsck *f, const struct finding *x, struct err *e) must_check;

/* The parts of the check; -1 only when it cannot go on. */
int fsck_versions(struct fsck *f, struct err *e) must_check; /* fsck-store.c */
int fsck_overlays(struct fsck *f, struct err *e) must_check; /* fsck-store.c */

#endif
