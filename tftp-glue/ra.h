/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_RA_H
#define LABBOOT_RA_H

#include "lib/base/err.h"

/* iPXE asks for an IPv6 router before it goes on, and waits 13 s when none answers. dnsmasq answers only where the
 * interface has a prefix to announce; here the answer is "no router, no prefix" (lifetime 0), which ends the wait and
 * changes nothing for any other host. */

/* A socket for the solicitations on `interface`, not blocking. Needs CAP_NET_RAW. */
int ra_open(const char *interface, int *ret_fd, struct err *e) must_check;
/* Answers what has come. */
void ra_answer(int fd);

#endif
