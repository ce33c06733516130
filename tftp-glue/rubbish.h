/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_TFTP_RUBBISH_H
#define LABBOOT_TFTP_RUBBISH_H

#include "catalog/catalog.h"
#include "conf/conf.h"
#include "lib/base/rubbish.h"

/* What nobody loads any more under the TFTP root:
 * stray-script: of a MAC that is no machine's. The renderer waits meanwhile.
 * stray-kernel: of a version that is gone. `lock_image` holds off who publishes versions of the image, until the
 *     descriptor that it gives is closed; ERR_NOT_FOUND: there is no such image. */
int rubbish_scripts(struct catalog *c, const struct conf *conf, const struct rubbish_sink *sink,
                    struct err *e) must_check;
int rubbish_kernels(struct catalog *c, const struct conf *conf,
                    int (*lock_image)(void *ctx, const struct uuid *image, int *ret_fd, struct err *e),
                    void *ctx, const struct rubbish_sink *sink, struct err *e) must_check;

#endif
