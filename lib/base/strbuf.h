/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_STRBUF_H
#define LABBOOT_STRBUF_H

#include "lib/base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

/* A growing, NUL-terminated string. Start with STRBUF_INIT; free with strbuf_release (or cleanup(strbuf)).
 * Out of memory is remembered in `failed`, so that only the end of a series of appends is checked. */
struct strbuf {
    char *s; /* NULL until the first append; use strbuf_text() for a string in any case */
    size_t len, size;
    bool failed;
};

#define STRBUF_INIT                                                                                          \
    {                                                                                                        \
        0                                                                                                    \
    }

void strbuf_release(struct strbuf *b);
void strbuf_append(struct strbuf *b, const char *text);
void strbuf_append_mem(struct strbuf *b, const void *mem, size_t len);
void strbuf_appendf(struct strbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends `len` bytes with everything but printable ASCII (and \ " ') as \xNN: for logs of hostile names. */
void strbuf_append_escaped(struct strbuf *b, const void *mem, size_t len);
const char *strbuf_text(const struct strbuf *b);

static inline void cleanup_strbuf(struct strbuf *b)
{
    strbuf_release(b);
}

#endif
