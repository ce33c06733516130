/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_SERVER_LOCK_H
#define LABBOOT_SERVER_LOCK_H

/* RUN/server.lock: who holds its flock has the overlays of all boots. The server does, as long as it runs, or a command that
 * ends a boot without one, for a moment. The file's first byte says which of them. */

#include "conf/conf.h"

enum lock_holder { LOCK_NOBODY, LOCK_COMMAND, LOCK_SERVER };

/* Who holds it now. A server that was killed while it started a program has left a copy of itself that holds it until
 * that program begins: whoever finds a server should look again within SERVER_LOCK_SECONDS. */
enum lock_holder server_lock_holder(const struct conf *conf);
#define SERVER_LOCK_SECONDS 2

/* Takes it for a command. Somebody else holds it: ERR_STATE. *ret_fd: until it is closed. */
int server_lock_for_command(const struct conf *conf, int *ret_fd, struct err *e) must_check;
/* For the server. Waits for commands; another server, after SERVER_LOCK_SECONDS: ERR_STATE. */
int server_lock_for_server(const struct conf *conf, int *ret_fd, struct err *e) must_check;

#endif
