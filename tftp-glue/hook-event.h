/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_HOOK_EVENT_H
#define LABBOOT_HOOK_EVENT_H

/* What dnsmasq tells its script: words that come from the network in part. */

#include "lib/base/hwid.h"

#include <netinet/in.h>

enum hook_kind {
    HOOK_NOTHING, /* not for us */
    HOOK_LEASE,   /* add, old, arp-add: the card has the address */
    HOOK_REMOVE,  /* del */
    HOOK_WAITING, /* tftp of a waiting script's second part */
    HOOK_FETCH,   /* tftp of anything else */
};

struct hook_event {
    enum hook_kind kind;
    struct mac mac; /* LEASE, REMOVE */
    struct in6_addr address;
    int64_t expires;  /* LEASE: seconds since 1970, 0: never */
    int64_t boot;     /* WAITING */
    const char *path; /* FETCH: the word itself */
};

/* `words` are the script's arguments, NULL-terminated: add|old|del MAC IP [NAME], arp-add MAC IP, tftp SIZE IP PATH;
 * anything else is HOOK_NOTHING. `expires` is $DNSMASQ_LEASE_EXPIRES or NULL: then `or_else` holds. ERR_USAGE. */
int hook_parse(char **words, const char *expires, int64_t or_else, struct hook_event *ret,
               struct err *e) must_check;

#endif
