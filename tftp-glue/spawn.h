/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_SPAWN_H
#define LABBOOT_SPAWN_H

#include "lib/base/err.h"

/* Runs a program that reads hostile data: no more than it needs of memory, time, files; no core file, no new
 * privileges, no descriptors but stdin from /dev/null and a pipe for what it says; killed when the calling
 * thread ends or `seconds` are over. It tells an error as its exit status (enum errc) and one line on stderr,
 * which fill *e. May be called in a process with threads. argv[0] is the program's path. */
int spawn_limited(const char *const *argv, unsigned seconds, struct err *e) must_check;

#endif
