/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/escape.h"

#include <stdbool.h>
#include <string.h>

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_in(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

void escape_ipxe_text(struct strbuf *out, const char *text)
{
    for (; *text; text++) {
        bool plain = is_alnum(*text) || is_in(*text, " .,:@/_+-()=");
        strbuf_append_mem(out, plain ? text : "_", 1);
    }
}

/* Whether iPXE passes the word on unchanged. */
static bool word_passes(const char *word, size_t len)
{
    if (word[0] == '#')
        return false;
    if ((len == 1 && word[0] == ';') || (len == 2 && (!memcmp(word, "||", 2) || !memcmp(word, "&&", 2))))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (word[i] <= ' ' || word[i] > '~' || word[i] == '\\')
            return false;
        if (word[i] == '$' && i + 1 < len && word[i + 1] == '{')
            return false;
    }
    return true;
}

int escape_ipxe_arguments(struct strbuf *out, const char *arguments, struct err *e)
{
    bool first = true;
    for (;;) {
        arguments += strspn(arguments, " ");
        size_t len = strcspn(arguments, " ");
        if (len == 0)
            return 0;
        if (!word_passes(arguments, len)) {
            cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
            strbuf_append_escaped(&shown, arguments, len < 80 ? len : 80);
            return err_set(e, ERR_USAGE, "kernel argument '%s': iPXE cannot pass it on", strbuf_text(&shown));
        }
        if (!first)
            strbuf_append(out, " ");
        strbuf_append_mem(out, arguments, len);
        first = false;
        arguments += len;
    }
}

int escape_check_dnsmasq(const char *what, const char *text, struct err *e)
{
    bool fine = *text != '\0';
    for (const char *p = text; *p && fine; p++)
        fine = is_alnum(*p) || is_in(*p, "/._-+:@%");
    if (fine)
        return 0;
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    strbuf_append_escaped(&shown, text, strnlen(text, 200));
    return err_set(e, ERR_USAGE, "%s '%s': dnsmasq needs one of letters, digits and / . _ - + : @ %%", what,
                   strbuf_text(&shown));
}
