/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/base/strbuf.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

void strbuf_release(struct strbuf *b)
{
    int saved_errno = errno;
    free(b->s);
    *b = (struct strbuf)STRBUF_INIT;
    errno = saved_errno;
}

/* Makes room for `more` bytes and the NUL. */
static bool grow(struct strbuf *b, size_t more)
{
    if (b->failed)
        return false;
    if (b->size - b->len > more)
        return true;
    size_t size = b->size ? b->size : 64;
    while (size - b->len <= more) {
        if (size > SIZE_MAX / 2) {
            b->failed = true;
            return false;
        }
        size *= 2;
    }
    char *s = realloc(b->s, size);
    if (!s) {
        b->failed = true;
        return false;
    }
    b->s = s;
    b->size = size;
    return true;
}

void strbuf_append_mem(struct strbuf *b, const void *mem, size_t len)
{
    if (!grow(b, len))
        return;
    memcpy(b->s + b->len, mem, len);
    b->len += len;
    b->s[b->len] = '\0';
}

void strbuf_append(struct strbuf *b, const char *text)
{
    strbuf_append_mem(b, text, strlen(text));
}

void strbuf_appendf(struct strbuf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !grow(b, (size_t)n)) {
        b->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(b->s + b->len, b->size - b->len, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void strbuf_append_escaped(struct strbuf *b, const void *mem, size_t len)
{
    const unsigned char *p = mem;
    for (size_t i = 0; i < len; i++) {
        if (p[i] >= 0x20 && p[i] < 0x7f && !strchr("\\\"'", p[i]))
            strbuf_append_mem(b, p + i, 1);
        else
            strbuf_appendf(b, "\\x%02x", p[i]);
    }
}

const char *strbuf_text(const struct strbuf *b)
{
    return b->s ? b->s : "";
}
