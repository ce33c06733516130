/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_ESCAPE_H
#define LABBOOT_ESCAPE_H

/* Text of others in files that programs interpret. iPXE has no quoting: it cuts a line at white space, takes
 * the words `||`, `&&`, `;` and words that start with # for itself, and expands ${…} in what is left, again
 * and again. */

#include "lib/base/err.h"
#include "lib/base/strbuf.h"

/* Appends `text` for an `echo` line: each character that could mean something to iPXE, or is not printable
 * ASCII, becomes `_`. */
void escape_ipxe_text(struct strbuf *out, const char *text);
/* Appends the words of a kernel command line, parted by one space. They must arrive as they are or not at
 * all: ERR_USAGE names the word that iPXE would not pass on. On failure `out` holds the words before it. */
int escape_ipxe_arguments(struct strbuf *out, const char *arguments, struct err *e) must_check;
/* A path, an interface or a user in a line of dnsmasq's configuration, which has no quoting that holds
 * everywhere: ERR_USAGE unless it consists of letters, digits and / . _ - + : @ % and is not empty. `what` is
 * for the message. */
int escape_check_dnsmasq(const char *what, const char *text, struct err *e) must_check;

#endif
