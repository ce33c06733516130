/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_BOOTPLAN_H
#define LABBOOT_BOOTPLAN_H

/* What one network card of a machine shall load: plain data, the same for every loader that a script is made
 * for. */

#include "catalog/catalog.h"
#include "conf/conf.h"
#include "lib/base/strbuf.h"

struct bootplan {
    enum script_kind kind;
    struct mac mac; /* of the card */
    char machine[NAME_SIZE];
    bool retry; /* LOCAL: look again after a while, do not start the local disk */

    /* WAIT and BOOT */
    int64_t boot;
    char setup[NAME_SIZE];
    enum boot_state state;

    /* BOOT */
    char image[NAME_SIZE];
    uint64_t version;
    bool update;
    char release[TEXT_SIZE]; /* of the kernel */
    /* Below the TFTP root, with a leading slash. */
    char kernel[2 * UUID_TEXT_SIZE + 40], initrd[2 * UUID_TEXT_SIZE + 40];
    struct strbuf arguments; /* of the kernel, as the kernel is to see them */
};

/* Where the machine finds the server, and what address its card gets. */
struct bootplan_network {
    struct in6_addr server;  /* v4-mapped */
    struct in6_addr address; /* all zero: the machine asks DHCP once more */
};

/* Fills *ret for one card; bootplan_release frees it. `net` is used for SCRIPT_BOOT only. */
int bootplan_make(const struct conf *conf, const struct script_job *job, const struct mac *mac,
                  const struct bootplan_network *net, struct bootplan *ret, struct err *e) must_check;
void bootplan_release(struct bootplan *p);

static inline void cleanup_bootplan(struct bootplan *p)
{
    bootplan_release(p);
}

/* The address that machines reach this server by: [network] next-server, else the interface's IPv4 address.
 */
int bootplan_server(const struct conf *conf, struct in6_addr *ret, struct err *e) must_check;
bool ip_is_unset(const struct in6_addr *a);

#endif
