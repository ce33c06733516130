/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_DHCP_H
#define LABBOOT_DHCP_H

#include "conf/conf.h"

/* `labboot dhcp`: renders everything, starts dnsmasq in the foreground with a generated configuration, keeps its file
 * of fixed addresses in step with the catalog, and returns when dnsmasq has ended: 0 when it ended well after SIGTERM or
 * SIGINT, which are passed on. `conf_path` is what the hook will read. `extra_args` (NULL-terminated, may be NULL) go
 * to dnsmasq. Called by root, it works as the owner of the state folder wherever root is not needed, so that no file
 * there becomes root's. The process has no threads. */
int dhcp_run(const struct conf *conf, const char *conf_path, char **extra_args, struct err *e) must_check;

/* malloc'ed; RUN/dhcp.lock, which it holds meanwhile: a second one is ERR_STATE. */
char *dhcp_lock_path(const struct conf *conf);

#endif
