/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_ERR_H
#define LABBOOT_ERR_H

/* One error value for all layers, without allocation.
 *
 * A function that can fail returns 0 or -1, takes `struct err *` last and leaves its ret_* arguments untouched
 * on failure. The error is filled where the fault is found (err_set, err_sys), gets context on the way up
 * (err_wrap) and is printed only at the edges: the CLI's main, plugin.c, the main functions of the helpers. */

/* The values are the exit statuses of `labboot`. */
enum errc {
    ERR_FAILED = 1,    /* anything without a status of its own */
    ERR_USAGE = 2,     /* the caller's words do not parse */
    ERR_NOT_FOUND = 3, /* no such object */
    ERR_STATE = 4,     /* refused by state: in use, pegged, already exists, conflict */
    ERR_DENIED = 5,    /* not permitted */
    ERR_CORRUPT = 6,   /* data on disk fails its check */
};

struct err {
    enum errc code;
    int sys; /* the errno behind it, or 0; what an NBD client is told (EIO where 0) */
    char msg[400];
};

/* The first three fill *e and return -1, so that `return err_set(...)` reads well. A text that does not fit is cut. */
int err_set(struct err *e, enum errc code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As err_set with ERR_FAILED, with ": strerror(errnum)" appended; sys = errnum. */
int err_sys(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As err_set, with the errno that an NBD client shall see. */
int err_set_sys(struct err *e, enum errc code, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts "context: " before the message; keeps code and sys; returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define must_check __attribute__((warn_unused_result))

#endif
