/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TLS_H
#define LABBOOT_TLS_H

/* What [access] tls-credentials names: a folder of X.509 files, as nbdkit --tls-certificates takes it, or a file of
 * pre-shared keys, as nbdkit --tls-psk does (nbdkit-tls(1)). Looked at before nbdkit is: where TLS is not required of all,
 * and the Unix socket needs none, it only warns of files that are missing, and goes on without TLS.
 *
 * Nothing is wrong where [access] tls is off. */

#include "conf/conf.h"

/* Whether the files are there and may be read by who calls. A missing one: ERR_NOT_FOUND; one that may not be read:
 * ERR_DENIED. */
int tls_find(const struct conf *conf, struct err *e) must_check;
/* Also whether nbdkit takes them, and the server's certificate has not expired; with the rights of who will serve. */
int tls_check(const struct conf *conf, struct err *e) must_check;
/* The certificate that ends within so many days, its path malloc'ed; NULL: none is known to. After tls_check. */
char *tls_ending(const struct conf *conf, unsigned days);
/* nbdkit's option for them; malloc'ed. */
char *tls_option(const struct conf *conf);

#endif
