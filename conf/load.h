/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CONF_LOAD_H
#define LABBOOT_CONF_LOAD_H

/* One reading of the configuration file: what conf.c and objects.c share. */

#include "conf/keys.h"

#define SHOWN_MAX 60 /* characters of a strange name in a message */

struct load {
    const char *path;
    struct conf *conf;
    conf_mistake *mistake;
    void *mistake_ctx;
    unsigned mistakes;
    struct err first; /* the first mistake */

    const char *text, *end;     /* the file: from the next line on */
    unsigned line;              /* the number of the line in work */
    bool wants_key;             /* it must be KEY = VALUE, and the handler has not seen it yet */
    unsigned section_line;      /* of the last [section], 0: none yet */
    const char *section;        /* as in the tables; NULL: an unknown one, whose keys are skipped */
    struct conf_object *object; /* that the section declares; NULL: none */
};

/* One mistake in that line of the file. */
void load_report(struct load *l, unsigned line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- objects.c */
/* Begins the object of a section "KIND NAME"; false: `section` is of none of the kinds. Mistakes are reported. */
bool object_begin(struct load *l, const char *section);
/* What is missing, and what stands twice in the file. */
void objects_check(struct load *l);
void objects_release(struct conf *c);

#endif
