/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_RENDER_H
#define LABBOOT_RENDER_H

/* Brings the scripts under <tftp-root>/boot/ in step with the catalog:
 *     boot/mac-52-54-00-12-34-56.ipxe        one a MAC: what the machine loads
 *     boot/wait-52-54-00-12-34-56-BOOT.ipxe  what a waiting script loads at once: its fetch tells that the machine was
 *                                            reset while boot BOOT runs (sleeps, and loads the former again)
 *     boot/default.ipxe, boot.ipxe           for MACs that no machine has; the entry that DHCP names */

#include "catalog/catalog.h"
#include "conf/conf.h"

/* Renders all scripts that are wanted, under an flock (another process that renders is waited for). A script that
 * cannot be rendered is unlinked, never left stale; that is logged, and the others go on. Fails only when the catalog
 * or the folder does. */
int render_scripts(struct catalog *c, const struct conf *conf, struct err *e) must_check;
/* The folders, the loaders (copied from Debian's ipxe package where they are missing or older) and the static scripts.
 * Repeatable. */
int render_tree(const struct conf *conf, struct err *e) must_check;

#endif
