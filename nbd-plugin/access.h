/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_ACCESS_H
#define LABBOOT_ACCESS_H

#include "conf/conf.h"
#include "nbd-plugin/guard.h"

#include <sys/socket.h>

/* Who is at the other end of a connection. */
struct peer {
    bool local;              /* the Unix socket */
    bool tls;                /* it is encrypted by now: it may become so until an export is opened */
    struct in6_addr address; /* otherwise; IPv4 as v4-mapped */
    char text[IP_TEXT_SIZE]; /* "10.0.0.5"; "" for local: as the catalog keeps it */
};

void peer_from_sockaddr(const struct sockaddr *sa, struct peer *ret);
/* For messages: the address, or "the Unix socket". */
const char *peer_name(const struct peer *p);
/* The Unix socket, or an address of [access] admin: may open everything, and ends nothing. */
bool peer_is_admin(const struct conf *conf, const struct peer *p);

/* Whether it comes in a way that [access] tls allows. Asked before all else, so that nothing depends on what there is.
 * ERR_DENIED. */
int access_check_tls(const struct conf *conf, const struct peer *p, struct err *e) must_check;
/* Whether the peer may open the machine's exports, by [access] check: its address is assigned or leased to
 * the machine, or the neighbour table has one of the machine's MACs for it. ERR_DENIED. */
int access_check(const struct conf *conf, struct guard *g, const struct peer *p, const struct machine *m,
                 struct err *e) must_check;
/* The machine that calls, for the export "": ERR_NOT_FOUND. */
int access_caller(const struct conf *conf, struct guard *g, const struct peer *p, struct machine *ret,
                  struct err *e) must_check;

#endif
