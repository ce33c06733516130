/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_HWID_H
#define LABBOOT_HWID_H

/* MAC addresses and UUIDs. */

#include "lib/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mac {
    uint8_t b[6];
};

#define MAC_TEXT_SIZE 18 /* with the NUL */

/* Reads exactly `len` characters in any usual spelling: 52:54:00:12:34:56, 52-54-00-12-34-56, 5254.0012.3456,
 * 525400123456, upper or lower case. Refuses multicast and all-zero addresses: no machine has one. ERR_USAGE. */
int mac_parse(const char *text, size_t len, struct mac *ret, struct err *e) must_check;
/* "52:54:00:12:34:56": the form of the catalog and of JSON. */
const char *mac_format(const struct mac *m, char buf[MAC_TEXT_SIZE]);
/* "52-54-00-12-34-56": the form of export names and file names. */
const char *mac_format_dashes(const struct mac *m, char buf[MAC_TEXT_SIZE]);
bool mac_equal(const struct mac *a, const struct mac *b);

struct uuid {
    uint8_t b[16];
};

#define UUID_TEXT_SIZE 37 /* with the NUL */

/* The 36-character form, upper or lower case. ERR_USAGE. */
int uuid_from_text(const char *text, struct uuid *ret, struct err *e) must_check;
/* Lower case. */
const char *uuid_to_text(const struct uuid *u, char buf[UUID_TEXT_SIZE]);
/* A random one (version 4). */
void uuid_make(struct uuid *ret);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_zero(const struct uuid *u);

#endif
