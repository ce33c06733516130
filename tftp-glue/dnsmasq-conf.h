/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_DNSMASQ_CONF_H
#define LABBOOT_DNSMASQ_CONF_H

/* dnsmasq's configuration, as text. */

#include "conf/conf.h"
#include "lib/base/hwid.h"
#include "lib/base/strbuf.h"

/* What labboot.conf does not say. */
struct dnsmasq_setting {
    struct in6_addr server;  /* v4-mapped */
    const char *hook;        /* path of labboot-dhcp-hook */
    const char *user;        /* NULL: dnsmasq's own choice */
    const char *script_user; /* NULL: root */
};

/* ERR_USAGE: no interface, no range where one is needed, or a path that dnsmasq's configuration cannot hold. */
int dnsmasq_conf(const struct conf *conf, const struct dnsmasq_setting *s, struct strbuf *out,
                 struct err *e) must_check;
/* A line of the file of fixed addresses. No line has a tag: dnsmasq 2.90 crashes after SIGHUP when one has. */
void dnsmasq_add_host(struct strbuf *out, const struct mac *mac, const struct in6_addr *address,
                      const char *name);

/* malloc'ed; RUN/dnsmasq.conf, RUN/dnsmasq.hosts, STATE/dnsmasq.leases. */
char *dnsmasq_conf_path(const struct conf *conf);
char *dnsmasq_hosts_path(const struct conf *conf);
char *dnsmasq_leases_path(const struct conf *conf);

#endif
