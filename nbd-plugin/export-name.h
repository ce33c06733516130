/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_EXPORT_NAME_H
#define LABBOOT_EXPORT_NAME_H

#include "catalog/catalog.h"

/* What an export name asks for. The name is the client's: up to 4096 bytes of anything. */
enum export_kind {
    EXPORT_CALLER, /* "": the boot of the machine that calls */
    EXPORT_BOOT,   /* MAC[.TOKEN][/IMAGE] */
    EXPORT_DONE,   /* MAC.TOKEN/done: reading it says that the machine has shut down */
    EXPORT_IMAGE,  /* image/NAME[@VERSION] */
};

struct export_name {
    enum export_kind kind;
    struct mac mac;                 /* BOOT, DONE */
    char token[TOKEN_SIZE];         /* BOOT, DONE; "": none */
    char image[NAME_SIZE * 2 + 24]; /* BOOT: "" for the root disk; IMAGE: NAME[@V], for image_version_find */
};

/* The message quotes the name escaped and cut. ERR_USAGE. */
int export_name_parse(const char *name, struct export_name *ret, struct err *e) must_check;

#endif
