/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_EMIT_IPXE_H
#define LABBOOT_EMIT_IPXE_H

#include "tftp-glue/bootplan.h"

/* The script of one card. Paths are absolute: iPXE takes relative ones from the folder of the script. Every
 * jump is `chain --replace`, so that a machine may wait for days without a growing stack of scripts.
 * ERR_USAGE: arguments that iPXE cannot pass on. */
int emit_ipxe(const struct bootplan *p, struct strbuf *out, struct err *e) must_check;
/* What the waiting script of `mac` loads at once: sleeps, then loads that one again. */
void emit_ipxe_wait(const struct mac *mac, struct strbuf *out);
/* boot.ipxe, which DHCP names: goes on to the script of the card that booted. */
void emit_ipxe_entry(struct strbuf *out);
/* boot/default.ipxe: for cards that no machine has, and for scripts that could not be made. */
void emit_ipxe_default(bool retry, struct strbuf *out);

#endif
