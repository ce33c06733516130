/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/base/hwid.h"

#include "lib/base/bytes.h"
#include "lib/base/strbuf.h"

#include <stdio.h>
#include <string.h>
#include <uuid/uuid.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Digits between separators: 2 for colons and dashes, 4 for dots, 12 without any. 0: not a spelling of a MAC. */
static size_t digits_per_group(const char *text, size_t len)
{
    if (len == 17 && (text[2] == ':' || text[2] == '-'))
        return 2;
    if (len == 14 && text[4] == '.')
        return 4;
    return len == 12 ? 12 : 0;
}

static bool read_groups(const char *text, size_t len, size_t group, uint8_t out[6])
{
    size_t digits = 0;
    for (size_t i = 0; i < len; i++) {
        if (group < 12 && i % (group + 1) == group) {
            if (text[i] != text[group])
                return false;
            continue;
        }
        int digit = hex_digit(text[i]);
        if (digit < 0 || digits >= 12)
            return false;
        out[digits / 2] = (uint8_t)(out[digits / 2] << 4 | digit);
        digits++;
    }
    return digits == 12;
}

int mac_parse(const char *text, size_t len, struct mac *ret, struct err *e)
{
    struct mac m = {{0}};
    size_t group = digits_per_group(text, len);
    if (group == 0 || !read_groups(text, len, group, m.b)) {
        cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
        strbuf_append_escaped(&shown, text, min_u64(len, 40));
        return err_set(e, ERR_USAGE, "'%s' is not a MAC address; try: 52:54:00:12:34:56",
                       strbuf_text(&shown));
    }
    if ((m.b[0] & 1) || all_zero(m.b, sizeof m.b))
        return err_set(e, ERR_USAGE, "%.*s is a group or null address, not a machine's MAC", (int)len, text);
    *ret = m;
    return 0;
}

static const char *format(const struct mac *m, char separator, char *buf)
{
    const uint8_t *b = m->b;
    char s = separator;
    snprintf(buf, MAC_TEXT_SIZE, "%02x%c%02x%c%02x%c%02x%c%02x%c%02x", b[0], s, b[1], s, b[2], s, b[3], s,
             b[4], s, b[5]);
    return buf;
}

const char *mac_format(const struct mac *m, char buf[MAC_TEXT_SIZE])
{
    return format(m, ':', buf);
}

const char *mac_format_dashes(const struct mac *m, char buf[MAC_TEXT_SIZE])
{
    return format(m, '-', buf);
}

bool mac_equal(const struct mac *a, const struct mac *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

int uuid_from_text(const char *text, struct uuid *ret, struct err *e)
{
    uuid_t u;
    if (strlen(text) != UUID_TEXT_SIZE - 1 || uuid_parse(text, u) < 0) {
        cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
        strbuf_append_escaped(&shown, text, strnlen(text, 40));
        return err_set(e, ERR_USAGE, "'%s' is not a UUID", strbuf_text(&shown));
    }
    memcpy(ret->b, u, sizeof ret->b);
    return 0;
}

const char *uuid_to_text(const struct uuid *u, char buf[UUID_TEXT_SIZE])
{
    uuid_unparse_lower(u->b, buf);
    return buf;
}

void uuid_make(struct uuid *ret)
{
    uuid_generate_random(ret->b);
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool uuid_is_zero(const struct uuid *u)
{
    return all_zero(u->b, sizeof u->b);
}
