/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_APPLY_H
#define LABBOOT_APPLY_H

/* `labboot apply`: apply.c makes and carries out the plan, apply-step.c knows the objects. */

#include "cli/cli.h"

/* One object of the file, or one of the catalog that the file does not name. */
struct step {
    enum conf_object_kind kind;
    const struct conf_object *object; /* NULL: it goes */
    char name[2 * NAME_SIZE];         /* as the catalog has it; "": it is new */
    struct mac mac;                   /* the key of a machine that the catalog has */
    struct uuid setup;                /* of a setup that goes */
    bool renamed;                     /* for a while, because its name and another's are exchanged */
    bool done;
};

/* What a step did: a line for people, and a JSON object. */
struct outcome {
    char sign; /* '+', '~' or '-'; 0: nothing was to be done */
    struct strbuf text, json;
    size_t fields;
};

struct plan {
    struct cli *c;
    char owner[NAME_SIZE]; /* of setups for which the file names none; "": there is not one admin */
    struct step *steps;    /* what is to be, in the order of the kinds, then what goes */
    size_t nsteps;
    const struct step *setups; /* those of the file, among them */
    size_t nsetups;
    struct machine_growth *growths; /* disks of machines whose files are to be brought in step before */
    size_t ngrowths;
    struct machine_remains *remains; /* of machines that went: files to be removed after */
    size_t nremains;
};
struct machine_growth {
    struct machine machine;
    struct machine_change change;
};

/* Does the step, as one transaction within that of the plan. *ret, which is empty, says what; the caller releases it. */
int step_run(struct plan *p, struct step *s, struct outcome *ret, struct err *e) must_check;
/* The setup that a machine's default-setup names: of the file, else of the catalog, if it is there already. */
int step_find_setup(struct plan *p, const char *text, struct setup *ret, struct err *e) must_check;
/* "desk", or "OWNER/desk" of another owner than the plan's; in buf. */
const char *step_setup_name(const struct plan *p, const struct setup *setup, char buf[2 * NAME_SIZE]);

#endif
