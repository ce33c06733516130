/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of keys, the other way round: values as text, as JSON, as the example file, and compared. */
#include "conf/keys.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"

#include <inttypes.h>
#include <string.h>

static const void *value_of(const struct conf_key *k, const void *base)
{
    return (const char *)base + k->offset;
}

static uint64_t number_of(const struct conf_key *k, const void *base)
{
    uint64_t n;
    memcpy(&n, value_of(k, base), sizeof n);
    return n;
}

static const char *text_of(const struct conf_key *k, const void *base)
{
    const char *s;
    memcpy(&s, value_of(k, base), sizeof s);
    return s ? s : "";
}

static const char *word_of(const struct conf_key *k, const void *base)
{
    int i;
    memcpy(&i, value_of(k, base), sizeof i);
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
static size_t list_count(const struct conf_key *k, const void *base)
{
    if (k->kind == KIND_NETWORKS)
        return ((const struct conf *)base)->access.nadmin;
    if (k->kind == KIND_MACS)
        return ((const struct conf_object *)base)->machine.nmacs;
    char *const *list = value_of(k, base);
    size_t n = 0;
    while (n < CONF_LIST_MAX && list[n])
        n++;
    return n;
}

static void append_list_item(const struct conf_key *k, const void *base, size_t i, struct strbuf *out)
{
    char mac[MAC_TEXT_SIZE];
    if (k->kind == KIND_NETWORKS)
        append_network(out, &((const struct ip_range *)value_of(k, base))[i]);
    else if (k->kind == KIND_MACS)
        strbuf_append(out, mac_format(&((const struct mac *)value_of(k, base))[i], mac));
    else
        strbuf_append(out, ((char *const *)value_of(k, base))[i]);
}

void key_format(const struct conf_key *k, const void *base, struct strbuf *out)
{
    switch (k->kind) {
    case KIND_PATH:
    case KIND_TEXT:
    case KIND_FILE_NAME:
    case KIND_INTERFACE:
    case KIND_EMAIL:
    case KIND_FULL_NAME:
    case KIND_REFERENCE:
        strbuf_append(out, text_of(k, base));
        break;
    case KIND_NUMBER:
        strbuf_appendf(out, "%" PRIu64, number_of(k, base));
        break;
    case KIND_SIZE:
        append_size(out, number_of(k, base));
        break;
    case KIND_DURATION:
        append_duration(out, number_of(k, base));
        break;
    case KIND_WORD:
        strbuf_append(out, word_of(k, base));
        break;
    case KIND_IPV4:
        append_ip(out, value_of(k, base));
        break;
    case KIND_RANGE:
        append_range(out, value_of(k, base));
        break;
    case KIND_ADDRESSES:
    case KIND_NETWORKS:
    case KIND_MACS:
    case KIND_IMAGES:
        for (size_t i = 0; i < list_count(k, base); i++) {
            strbuf_append(out, !i ? "" : k->kind == KIND_IMAGES ? " " : ", ");
            append_list_item(k, base, i, out);
        }
        break;
    }
}

/* Values hold no control characters: only the quote and the backslash need escaping. */
static void append_json_string(struct strbuf *out, const char *text)
{
    strbuf_append(out, "\"");
    for (; *text; text++)
        strbuf_appendf(out, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
    strbuf_append(out, "\"");
}

void key_format_json(const struct conf_key *k, const void *base, struct strbuf *out)
{
    switch (k->kind) {
    case KIND_NUMBER:
    case KIND_SIZE:
    case KIND_DURATION:
        strbuf_appendf(out, "%" PRIu64, number_of(k, base));
        break;
    case KIND_ADDRESSES:
    case KIND_NETWORKS:
    case KIND_MACS:
    case KIND_IMAGES:
        strbuf_append(out, "[");
        for (size_t i = 0; i < list_count(k, base); i++) {
            cleanup(strbuf) struct strbuf item = STRBUF_INIT;
            append_list_item(k, base, i, &item);
            strbuf_append(out, i ? ", " : "");
            append_json_string(out, strbuf_text(&item));
        }
        strbuf_append(out, "]");
        break;
    default: {
        cleanup(strbuf) struct strbuf text = STRBUF_INIT;
        key_format(k, base, &text);
        append_json_string(out, strbuf_text(&text));
    }
    }
}

static bool starts_section(size_t i)
{
    return i == 0 || strcmp(conf_keys[i].section, conf_keys[i - 1].section) != 0;
}

static void append_assignment(const struct conf_key *k, const void *base, struct strbuf *out)
{
    cleanup(strbuf) struct strbuf value = STRBUF_INIT;
    key_format(k, base, &value);
    strbuf_appendf(out, "%s =%s%s\n", k->name, value.len ? " " : "", strbuf_text(&value));
}

/* A line for each value where lines add up: all of them on one might be longer than a line may be. */
static void append_values(const struct conf_key *k, const void *base, struct strbuf *out)
{
    if (!key_adds_up(k)) {
        append_assignment(k, base, out);
        return;
    }
    for (size_t i = 0; i < list_count(k, base); i++) {
        strbuf_appendf(out, "%s = ", k->name);
        append_list_item(k, base, i, out);
        strbuf_append(out, "\n");
    }
}

/* "[user alice]" */
static void append_heading(enum conf_object_kind kind, const char *name, struct strbuf *out)
{
    const char *section = conf_object_types[kind].section;
    strbuf_appendf(out, "[%.*s %s]\n", (int)strcspn(section, " "), section, name);
}

/* Of an object what the file gives. */
static void show_object(const struct conf_object *o, struct strbuf *out)
{
    strbuf_append(out, "\n");
    append_heading(o->kind, o->name, out);
    for (size_t i = 0; i < conf_nobject_keys; i++)
        if (o->set[i])
            append_values(&conf_object_keys[i], o, out);
}

void conf_show(const struct conf *c, struct strbuf *out)
{
    for (size_t i = 0; i < conf_nkeys; i++) {
        if (starts_section(i))
            strbuf_appendf(out, "%s[%s]\n", i ? "\n" : "", conf_keys[i].section);
        append_assignment(&conf_keys[i], c, out);
    }
    for (size_t i = 0; i < c->nobjects; i++)
        show_object(&c->objects[i], out);
}

static void append_json_key(const struct conf_key *k, const void *base, bool first, struct strbuf *out)
{
    strbuf_appendf(out, "%s\"%s\": ", first ? "" : ", ", k->name);
    key_format_json(k, base, out);
}

static void show_object_json(const struct conf_object *o, struct strbuf *out)
{
    bool first = true;
    strbuf_appendf(out, "\"%s\": {", o->name);
    for (size_t i = 0; i < conf_nobject_keys; i++) {
        if (!o->set[i])
            continue;
        append_json_key(&conf_object_keys[i], o, first, out);
        first = false;
    }
    strbuf_append(out, "}");
}

static void show_kind_json(const struct conf *c, enum conf_object_kind kind, struct strbuf *out)
{
    const char *section = conf_object_types[kind].section, *comma = "";
    strbuf_appendf(out, ", \"%.*s\": {", (int)strcspn(section, " "), section);
    for (size_t i = 0; i < c->nobjects; i++) {
        if (c->objects[i].kind != kind)
            continue;
        strbuf_append(out, comma);
        show_object_json(&c->objects[i], out);
        comma = ", ";
    }
    strbuf_append(out, "}");
}

void conf_show_json(const struct conf *c, struct strbuf *out)
{
    for (size_t i = 0; i < conf_nkeys; i++) {
        if (starts_section(i))
            strbuf_appendf(out, "%s\"%s\": {", i ? "}, " : "{", conf_keys[i].section);
        append_json_key(&conf_keys[i], c, starts_section(i), out);
    }
    strbuf_append(out, "}");
    for (int kind = CONF_USER; kind <= CONF_MACHINE; kind++)
        show_kind_json(c, (enum conf_object_kind)kind, out);
    strbuf_append(out, "}\n");
}

/* ---- the example --------------------------------------------------------------------------------------------- */

static void append_help(const char *help, struct strbuf *out)
{
    for (const char *line = help; *line;) {
        size_t len = strcspn(line, "\n");
        strbuf_appendf(out, "# %.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
}

static void example_object(enum conf_object_kind kind, struct strbuf *out)
{
    strbuf_append(out, "\n");
    append_help(conf_object_types[kind].help, out);
    strbuf_append(out, "#");
    append_heading(kind, conf_object_types[kind].example, out);
    for (size_t i = 0; i < conf_nobject_keys; i++) {
        const struct conf_key *k = &conf_object_keys[i];
        if (!key_is_of(k, kind))
            continue;
        append_help(k->help, out);
        strbuf_appendf(out, "#%s = %s\n", k->name, k->example ? k->example : k->def);
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
        append_help(conf_keys[i].help, out);
        strbuf_append(out, "#");
        append_assignment(&conf_keys[i], &c, out);
    }
    conf_release(&c);
    strbuf_append(
        out,
        "\n# Users, setups and machines can be declared below: `labboot apply` makes the catalog match.\n");
    for (int kind = CONF_USER; kind <= CONF_MACHINE; kind++)
        example_object((enum conf_object_kind)kind, out);
}

/* ---- two readings -------------------------------------------------------------------------------------------- */

static char *name_of(const struct conf_key *k)
{
    return path_format("[%s] %s", k->section, k->name);
}

static bool same_value(const struct conf_key *k, const struct conf *a, const struct conf *b)
{
    cleanup(strbuf) struct strbuf one = STRBUF_INIT, other = STRBUF_INIT;
    key_format(k, a, &one);
    key_format(k, b, &other);
    return strcmp(strbuf_text(&one), strbuf_text(&other)) == 0;
}

void conf_compare(const struct conf *a, const struct conf *b,
                  void (*differs)(void *ctx, const char *name, unsigned restart), void *ctx)
{
    for (size_t i = 0; i < conf_nkeys; i++) {
        cleanup(free) char *name = name_of(&conf_keys[i]);
        if (!same_value(&conf_keys[i], a, b))
            differs(ctx, name, conf_keys[i].restart);
    }
}

unsigned conf_restart_of(const char *name)
{
    for (size_t i = 0; i < conf_nkeys; i++) {
        cleanup(free) char *known = name_of(&conf_keys[i]);
        if (strcmp(name, known) == 0)
            return conf_keys[i].restart;
    }
    return 0;
}

int conf_take_over(const struct conf *now, const struct conf *file, struct conf *ret, struct err *e)
{
    struct conf made = {.nobjects = 0};
    for (size_t i = 0; i < conf_nkeys; i++) {
        const struct conf_key *k = &conf_keys[i];
        cleanup(strbuf) struct strbuf value = STRBUF_INIT;
        key_format(k, k->restart & CONF_RESTART_SERVE ? now : file, &value);
        if (key_parse(k, strbuf_text(&value), &made, e) < 0) {
            conf_release(&made);
            return -1;
        }
    }
    *ret = made;
    return 0;
}
