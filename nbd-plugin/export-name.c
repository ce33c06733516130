/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/export-name.h"

#include "lib/base/strbuf.h"

#include <string.h>

#define SHOWN_MAX 80 /* bytes of a refused name in a message */

static int refuse(const char *name, const char *why, struct err *e)
{
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    size_t len = strlen(name);
    strbuf_append_escaped(&shown, name, len < SHOWN_MAX ? len : SHOWN_MAX);
    return err_set(e, ERR_USAGE, "export '%s'%s: %s", strbuf_text(&shown), len > SHOWN_MAX ? " ..." : "",
                   why);
}

static bool token_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Copies up to `end` when every character is one that `good` allows; false when it is empty or does not fit. */
static bool take(const char *from, size_t len, char *to, size_t size)
{
    if (len == 0 || len >= size)
        return false;
    memcpy(to, from, len);
    to[len] = '\0';
    return true;
}

/* The MAC at the start, in any spelling, followed by the end, a dot or a slash. Returns its length, 0: none. */
static size_t take_mac(const char *name, struct mac *ret)
{
    static const size_t lengths[] = {17, 14, 12};
    size_t len = strlen(name);
    struct err ignored;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        size_t n = lengths[i];
        if (len < n || (name[n] && name[n] != '.' && name[n] != '/'))
            continue;
        if (mac_parse(name, n, ret, &ignored) == 0)
            return n;
    }
    return 0;
}

static bool take_token(const char **name, char token[TOKEN_SIZE])
{
    size_t n = strcspn(*name, "/");
    for (size_t i = 0; i < n; i++)
        if (!token_character((*name)[i]))
            return false;
    if (!take(*name, n, token, TOKEN_SIZE))
        return false;
    *name += n;
    return true;
}

static int parse_boot(const char *name, struct export_name *x, struct err *e)
{
    x->kind = EXPORT_BOOT;
    size_t n = take_mac(name, &x->mac);
    if (n == 0)
        return refuse(name, "neither a machine's MAC nor image/NAME", e);
    const char *p = name + n;
    if (*p == '.') {
        p++;
        if (!take_token(&p, x->token))
            return refuse(name, "no token after the dot", e);
    }
    if (!*p)
        return 0;
    struct err why;
    if (!take(p + 1, strlen(p + 1), x->image, NAME_SIZE) || parse_name("image", x->image, &why) < 0)
        return refuse(name, "no image name after the slash", e);
    if (strcmp(x->image, "done") == 0) {
        x->kind = EXPORT_DONE;
        x->image[0] = '\0';
    }
    return 0;
}

static bool printable(const char *p)
{
    for (; *p; p++)
        if (*p < 0x21 || *p > 0x7e)
            return false;
    return true;
}

int export_name_parse(const char *name, struct export_name *ret, struct err *e)
{
    struct export_name x = {.kind = EXPORT_CALLER};
    static const char images[] = "image/";
    if (strncmp(name, images, sizeof images - 1) == 0) {
        const char *image = name + sizeof images - 1;
        x.kind = EXPORT_IMAGE;
        if (!printable(image) || !take(image, strlen(image), x.image, sizeof x.image))
            return refuse(name, "no image name after 'image/'", e);
    } else if (*name && parse_boot(name, &x, e) < 0) {
        return -1;
    }
    *ret = x;
    return 0;
}
