/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TLS_H
#define LABBOOT_TLS_H

#include "conf/conf.h"

/* Nothing to be done where [access] tls is off. Else whether tls-credentials has what nbdkit wants, readable by this process:
 * a folder with X.509 certificates and key (--tls-certificates), or a file of pre-shared keys (--tls-psk). */
int tls_check(const struct conf *conf, struct err *e) must_check;
/* nbdkit's two arguments for them, the second one malloc'ed; NULL where tls is off. After tls_check. */
void tls_arguments(const struct conf *conf, const char **ret_mode, char **ret_credentials);
/* Whether the server's certificate will be good for some time: ERR_FAILED says until when it is. Where nothing can tell
 * (pre-shared keys, no openssl here), it will. */
int tls_check_expiry(const struct conf *conf, struct err *e) must_check;

#endif
