/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TAKEOVER_H
#define LABBOOT_TAKEOVER_H

/* A user's data after an unclean end. The boot is interrupted, and its overlay of an image of type user goes on in the next
 * boot of the machine that has the image: the machine finds its disk as the power cut left it. Only upon the version that
 * the next boot gets anyway: where the image has gone on elsewhere since, or is written by another machine now, what was
 * written waits with the interrupted boot for an admin, as everything does that is not a user's.
 *
 * The order, which a server that died in between goes on with when it makes the session of the boot:
 *     1. the overlay is unsealed. It can still be committed, discarded or resumed.
 *     2. the lease says in the catalog whose overlay the boot follows (boot_lease_taking). From now on it cannot.
 *     3. its folder moves from overlays/<old>/<n> to overlays/<new>/<m>, by one rename.
 *     4. the old boot has it no more, and when it has nothing else to keep it is over (boot_handed_over).
 * Until 4 the old boot is interrupted, so nobody removes its folder; a boot that has taken something over is as good as a
 * resumed one, so that its own stays also when the machine does not come, or it is cancelled.
 *
 * A root of type user boots the kernel of the version that it stands on. Where an upgrade was cut off that has another one,
 * `boot resume` takes the kernel out of the overlay. */

#include "nbd-plugin/publish.h"

/* 1, for the boot that a lease by this token (NULL: by none) would give; nothing where it cannot be leased. An overlay that cannot be used stays where it is, and the log says so. The caller holds `binding`. */
int takeover_prepare(struct publisher *p, const struct mac *machine, const char *token,
                     struct takeover ret[SETUP_IMAGES_MAX], size_t *ret_count, struct err *e) must_check;
/* 3 and 4, of a boot that was leased; repeatable. */
int takeover_finish(struct publisher *p, const struct boot *b, struct err *e) must_check;

#endif
