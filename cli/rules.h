/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_RULES_H
#define LABBOOT_RULES_H

/* Who may do what: the one table of rights. A command's row names the right that it needs; before the command runs, that
 * is checked on the object which its first word names. What a command does to further objects (the images of a setup, the
 * setup of a boot) it checks itself. */

#include "catalog/catalog.h"

struct cli;

enum right {
    RIGHT_NONE,        /* it needs no user of the catalog: help, the configuration, the start of a daemon */
    RIGHT_LOOK,        /* lists and shows; all that a command checks itself */
    RIGHT_ADMIN,       /* machines, users, the catalog as a whole */
    RIGHT_USER_CHANGE, /* the first word names a user */
    RIGHT_USER_ROLE,   /* as before, and what only admins may change of it */
    RIGHT_IMAGE_MAKE,  /* checked by the command, on the image to be */
    RIGHT_IMAGE_USE, /* its content: export, verify, have it in a setup. The first word names an image, also with
                           @VERSION */
    RIGHT_IMAGE_CHANGE, /* as before */
    RIGHT_IMAGE_GIVE,   /* to another owner; checked by the command */
    RIGHT_SETUP_MAKE,   /* checked by the command */
    RIGHT_SETUP_CHANGE, /* the first word names a setup */
    RIGHT_SETUP_BOOT,   /* checked by the command */
    RIGHT_BOOT_CHANGE,  /* the first word names a boot, or a machine for its running or last one */
    RIGHT_COUNT,
};

/* Checks the right of the command on its first word. RIGHT_NONE, and the rights that commands check themselves, pass. */
int rules_check_command(struct cli *c, struct err *e) must_check;
/* Of one object. ERR_DENIED names the role that would do. */
int rules_check_image(struct cli *c, enum right right, const struct image *image, struct err *e) must_check;
int rules_check_user(struct cli *c, enum right right, const char *name, struct err *e) must_check;
int rules_check_setup(struct cli *c, enum right right, const struct setup *setup, struct err *e) must_check;
/* The right RIGHT_BOOT_CHANGE. */
int rules_check_boot(struct cli *c, const struct boot *boot, struct err *e) must_check;
/* An update of a setup writes into its images: RIGHT_IMAGE_CHANGE for each that such a boot would keep. */
int rules_check_update(struct cli *c, const struct setup *setup, struct err *e) must_check;

#endif
