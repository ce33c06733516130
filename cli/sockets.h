/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_SOCKETS_H
#define LABBOOT_SOCKETS_H

#include "conf/conf.h"

#define SOCKETS_MAX (CONF_LIST_MAX + 1)

/* The sockets of [server], listening, close-on-exec; connections inherit the keepalive that finds a machine without
 * power after 15 s. The Unix socket, 0660, comes last. A file that nobody listens on any more is removed first. On
 * failure none is open. */
int sockets_open(const struct conf *conf, int ret[SOCKETS_MAX], size_t *ret_count, struct err *e) must_check;
/* Moves them to the descriptors 3, 4, …, where an executed program inherits them. */
int sockets_place(int *fds, size_t count, struct err *e) must_check;

#endif
