/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of keys, the other way round: values as text, as JSON, and as the example file. */
#include "conf/keys.h"

#include "lib/base/bytes.h"

#include <inttypes.h>
#include <string.h>

static const void *value_of(const struct conf_key *k, const struct conf *c)
{
    return (const char *)c + k->offset;
}

static uint64_t number_of(const struct conf_key *k, const struct conf *c)
{
    uint64_t n;
    memcpy(&n, value_of(k, c), sizeof n);
    return n;
}

static const char *text_of(const struct conf_key *k, const struct conf *c)
{
    const char *s;
    memcpy(&s, value_of(k, c), sizeof s);
    return s ? s : "";
}

static const char *word_of(const struct conf_key *k, const struct conf *c)
{
    int i;
    memcpy(&i, value_of(k, c), sizeof i);
    return k->words[i];
}

/* The largest unit that divides n: the value reads back exactly. */
static void append_scaled(struct strbuf *out, uint64_t n, const char *units, const uint64_t *factors,
                          size_t count)
{
    for (size_t i = count; i > 0; i--) {
        if (n && n % factors[i - 1] == 0) {
            strbuf_appendf(out, "%" PRIu64 "%c", n / factors[i - 1], units[i - 1]);
            return;
        }
    }
    strbuf_appendf(out, "%" PRIu64, n);
}

static void append_size(struct strbuf *out, uint64_t n)
{
    static const uint64_t factors[] = {KIB, MIB, GIB, TIB};
    append_scaled(out, n, "KMGT", factors, ARRAY_SIZE(factors));
}

static void append_duration(struct strbuf *out, uint64_t n)
{
    static const uint64_t factors[] = {1, 60, 3600, 86400};
    append_scaled(out, n, "smhd", factors, ARRAY_SIZE(factors));
}

static void append_ip(struct strbuf *out, const struct in6_addr *a)
{
    char text[IP_TEXT_SIZE];
    if (!IN6_IS_ADDR_UNSPECIFIED(a))
        strbuf_append(out, format_ip(a, text));
}

static void append_range(struct strbuf *out, const struct in6_addr range[2])
{
    if (IN6_IS_ADDR_UNSPECIFIED(&range[0]))
        return;
    append_ip(out, &range[0]);
    strbuf_append(out, "-");
    append_ip(out, &range[1]);
}

static void append_network(struct strbuf *out, const struct ip_range *r)
{
    char text[IP_TEXT_SIZE];
    bool v4 = IN6_IS_ADDR_V4MAPPED(&r->address) && r->prefix >= 96;
    strbuf_append(out, format_ip(&r->address, text));
    if (r->prefix < 128)
        strbuf_appendf(out, "/%u", r->prefix - (v4 ? 96 : 0));
}

/* How many values a list holds. */
static size_t list_count(const struct conf_key *k, const struct conf *c)
{
    if (k->kind == KIND_NETWORKS)
        return c->access.nadmin;
    char *const *list = value_of(k, c);
    size_t n = 0;
    while (n < CONF_LIST_MAX && list[n])
        n++;
    return n;
}

static void append_list_item(const struct conf_key *k, const struct conf *c, size_t i, struct strbuf *out)
{
    if (k->kind == KIND_NETWORKS)
        append_network(out, &((const struct ip_range *)value_of(k, c))[i]);
    else
        strbuf_append(out, ((char *const *)value_of(k, c))[i]);
}

void key_format(const struct conf_key *k, const struct conf *c, struct strbuf *out)
{
    switch (k->kind) {
    case KIND_PATH:
    case KIND_TEXT:
    case KIND_FILE_NAME:
    case KIND_INTERFACE:
        strbuf_append(out, text_of(k, c));
        break;
    case KIND_NUMBER:
        strbuf_appendf(out, "%" PRIu64, number_of(k, c));
        break;
    case KIND_SIZE:
        append_size(out, number_of(k, c));
        break;
    case KIND_DURATION:
        append_duration(out, number_of(k, c));
        break;
    case KIND_WORD:
        strbuf_append(out, word_of(k, c));
        break;
    case KIND_IPV4:
        append_ip(out, value_of(k, c));
        break;
    case KIND_RANGE:
        append_range(out, value_of(k, c));
        break;
    case KIND_ADDRESSES:
    case KIND_NETWORKS:
        for (size_t i = 0; i < list_count(k, c); i++) {
            strbuf_append(out, i ? ", " : "");
            append_list_item(k, c, i, out);
        }
        break;
    }
}

/* Values are printable ASCII: only the quote and the backslash need escaping. */
static void append_json_string(struct strbuf *out, const char *text)
{
    strbuf_append(out, "\"");
    for (; *text; text++)
        strbuf_appendf(out, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
    strbuf_append(out, "\"");
}

void key_format_json(const struct conf_key *k, const struct conf *c, struct strbuf *out)
{
    switch (k->kind) {
    case KIND_NUMBER:
    case KIND_SIZE:
    case KIND_DURATION:
        strbuf_appendf(out, "%" PRIu64, number_of(k, c));
        break;
    case KIND_ADDRESSES:
    case KIND_NETWORKS:
        strbuf_append(out, "[");
        for (size_t i = 0; i < list_count(k, c); i++) {
            cleanup(strbuf) struct strbuf item = STRBUF_INIT;
            append_list_item(k, c, i, &item);
            strbuf_append(out, i ? ", " : "");
            append_json_string(out, strbuf_text(&item));
        }
        strbuf_append(out, "]");
        break;
    default: {
        cleanup(strbuf) struct strbuf text = STRBUF_INIT;
        key_format(k, c, &text);
        append_json_string(out, strbuf_text(&text));
    }
    }
}

static bool starts_section(size_t i)
{
    return i == 0 || strcmp(conf_keys[i].section, conf_keys[i - 1].section) != 0;
}

static void append_assignment(const struct conf_key *k, const struct conf *c, struct strbuf *out)
{
    cleanup(strbuf) struct strbuf value = STRBUF_INIT;
    key_format(k, c, &value);
    strbuf_appendf(out, "%s =%s%s\n", k->name, value.len ? " " : "", strbuf_text(&value));
}

void conf_show(const struct conf *c, struct strbuf *out)
{
    for (size_t i = 0; i < conf_nkeys; i++) {
        if (starts_section(i))
            strbuf_appendf(out, "%s[%s]\n", i ? "\n" : "", conf_keys[i].section);
        append_assignment(&conf_keys[i], c, out);
    }
}

void conf_show_json(const struct conf *c, struct strbuf *out)
{
    for (size_t i = 0; i < conf_nkeys; i++) {
        if (starts_section(i))
            strbuf_appendf(out, "%s\"%s\": {", i ? "}, " : "{", conf_keys[i].section);
        strbuf_appendf(out, "%s\"%s\": ", starts_section(i) ? "" : ", ", conf_keys[i].name);
        key_format_json(&conf_keys[i], c, out);
    }
    strbuf_append(out, "}}\n");
}

static void append_help(const struct conf_key *k, struct strbuf *out)
{
    for (const char *line = k->help; *line;) {
        size_t len = strcspn(line, "\n");
        strbuf_appendf(out, "# %.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
}

void conf_example(struct strbuf *out)
{
    struct conf c;
    struct err e;
    if (conf_defaults(&c, &e) < 0) {
        out->failed = true;
        return;
    }
    strbuf_append(out,
                  "# The configuration of labboot: see labboot.conf(5). What follows are the defaults.\n");
    for (size_t i = 0; i < conf_nkeys; i++) {
        if (starts_section(i))
            strbuf_appendf(out, "\n[%s]\n", conf_keys[i].section);
        append_help(&conf_keys[i], out);
        strbuf_append(out, "#");
        append_assignment(&conf_keys[i], &c, out);
    }
    conf_release(&c);
}
