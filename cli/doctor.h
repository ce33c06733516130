/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_DOCTOR_H
#define LABBOOT_DOCTOR_H

/* labboot doctor: tables of checks. A check looks at one thing and tells what it found, if anything; a failure of its own
 * (the catalog cannot be read) is an error. */

#include "cli/cli.h"

struct doctor;

enum severity { SEVERITY_WARNING, SEVERITY_ERROR };

struct check {
    const char *code; /* stable: scripts and the page labboot-doctor(1) know it */
    enum severity severity;
    bool catalog; /* it reads the catalog */
    int (*run)(struct doctor *d, struct err *e);
};

struct doctor {
    struct cli *cli;
    const struct check *check; /* that runs now */
    size_t count;              /* of findings */
    struct strbuf out;
    struct machine *machine; /* the one that is looked at; NULL: all is */
};

/* `todo`: what stands behind "try: ". */
void doctor_found(struct doctor *d, const char *what, const char *why, const char *todo);
/* `why` is an error's message: what it says to try comes before `todo`. */
void doctor_found_error(struct doctor *d, const char *what, const char *why, const char *todo);
/* Of what stands in the catalog; only those of the machine, where one is looked at. */
int doctor_troubles(struct doctor *d, enum trouble which, struct err *e) must_check;

extern const struct check doctor_host_checks[], doctor_machine_checks[]; /* the last one's code is NULL */

#endif
