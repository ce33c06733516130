/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TREE_H
#define LABBOOT_TREE_H

/* The folders under the TFTP root, and the locks there:
 *
 *     boot/     scripts                    kernels/<image>/<version>/   what machines load
 *     tmp/      files being made           .render.lock, .kernel.lock
 *
 * Lock order: .render.lock, then .kernel.lock. */

#include "conf/conf.h"

/* The folders. Repeatable. */
int tree_make(const struct conf *conf, struct err *e) must_check;

enum tree_lock { TREE_LOCK_RENDER, TREE_LOCK_KERNELS };
/* Waits; held until *ret_fd is closed. */
int tree_lock(const struct conf *conf, enum tree_lock which, int *ret_fd, struct err *e) must_check;
/* Removes what killed processes left in tmp/. Takes both locks. */
int tree_clean_tmp(const struct conf *conf, struct err *e) must_check;

/* malloc'ed path of a program of ours in LIBEXECDIR, or in $LABBOOT_LIBEXECDIR for a tree that is not
 * installed. */
char *tree_program(const char *name);

#endif
