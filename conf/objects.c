/* SPDX-License-Identifier: BSD-3-Clause */
/* The sections [user NAME], [setup NAME] and [machine NAME]. */
#include "conf/load.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"

#include <string.h>

/* How many characters of `section` are the word of that kind: "user", "setup", "machine". */
static size_t word_length(enum conf_object_kind kind)
{
    return strcspn(conf_object_types[kind].section, " ");
}

/* The one of that kind; -1: none. */
static int kind_of(const char *section)
{
    for (int kind = CONF_USER; kind <= CONF_MACHINE; kind++) {
        size_t len = word_length((enum conf_object_kind)kind);
        if (strcspn(section, " \t") == len && strncmp(section, conf_object_types[kind].section, len) == 0)
            return kind;
    }
    return -1;
}

static int check_name(enum conf_object_kind kind, const char *name, struct err *e)
{
    if (!*name)
        return err_set(e, ERR_USAGE, "it needs a name; try: [%.*s %s]", (int)word_length(kind),
                       conf_object_types[kind].section, conf_object_types[kind].example);
    if (kind == CONF_MACHINE)
        return parse_host_name(name, e);
    return parse_name(kind == CONF_USER ? "user" : "setup", name, e);
}

static int set_defaults(struct conf_object *o, struct err *e)
{
    for (size_t i = 0; i < conf_nobject_keys; i++) {
        const struct conf_key *k = &conf_object_keys[i];
        if (key_is_of(k, o->kind) && !key_adds_up(k) && !k->required && key_parse(k, k->def, o, e) < 0)
            return -1;
    }
    return 0;
}

/* The array doubles: it is full whenever its length is a power of two. */
static struct conf_object *add_object(struct conf *c, struct err *e)
{
    size_t n = c->nobjects;
    if ((n & (n - 1)) == 0) {
        struct conf_object *longer = reallocarray(c->objects, n ? 2 * n : 1, sizeof *longer);
        if (!longer) {
            err_sys(e, ENOMEM, "configuration");
            return NULL;
        }
        c->objects = longer;
    }
    c->objects[n] = (struct conf_object){.line = 0};
    return &c->objects[c->nobjects++];
}

bool object_begin(struct load *l, const char *section)
{
    struct err e;
    int kind = kind_of(section);
    if (kind < 0)
        return false;
    const char *name = section + word_length((enum conf_object_kind)kind);
    name += strspn(name, " \t");
    cleanup(free) char *trimmed = path_format("%s", name);
    for (size_t len = strlen(trimmed); len > 0 && strchr(" \t", trimmed[len - 1]); len--)
        trimmed[len - 1] = '\0';
    struct conf_object *o = NULL;
    if (check_name((enum conf_object_kind)kind, trimmed, &e) < 0 || !(o = add_object(l->conf, &e))) {
        load_report(l, l->line, "[%.*s]: %s", (int)word_length((enum conf_object_kind)kind), section, e.msg);
        return true;
    }
    *o = (struct conf_object){.kind = (enum conf_object_kind)kind, .name = steal(&trimmed), .line = l->line};
    if (set_defaults(o, &e) < 0)
        load_report(l, l->line, "%s", e.msg);
    l->object = o;
    l->section = conf_object_types[kind].section;
    return true;
}

/* ---- the whole file ------------------------------------------------------------------------------------------ */

static void check_missing(struct load *l, const struct conf_object *o)
{
    for (size_t i = 0; i < conf_nobject_keys; i++) {
        const struct conf_key *k = &conf_object_keys[i];
        if (k->required && key_is_of(k, o->kind) && !o->set[i])
            load_report(l, o->line, "[%.*s %s]: %s is missing", (int)word_length(o->kind), k->section,
                        o->name, k->name);
    }
}

/* Something of which the file may have but one. */
struct only {
    char *what;
    unsigned line;
};

struct onlies {
    struct only *list;
    size_t count;
};

static unsigned line_of(const struct conf_object *o, const char *key)
{
    for (size_t i = 0; i < conf_nobject_keys; i++)
        if (key_is_of(&conf_object_keys[i], o->kind) && strcmp(conf_object_keys[i].name, key) == 0)
            return o->set[i];
    return 0;
}

static void collect(const struct conf_object *o, struct onlies *out)
{
    char mac[MAC_TEXT_SIZE];
    const char *section = conf_object_types[o->kind].section;
    out->list[out->count++] =
        (struct only){path_format("[%.*s %s]", (int)word_length(o->kind), section, o->name), o->line};
    if (o->kind == CONF_USER && o->user.email)
        out->list[out->count++] =
            (struct only){path_format("the email address %s", o->user.email), line_of(o, "email")};
    for (size_t i = 0; o->kind == CONF_MACHINE && i < o->machine.nmacs; i++)
        out->list[out->count++] =
            (struct only){path_format("the MAC %s", mac_format(&o->machine.macs[i], mac)), line_of(o, "mac")};
}

static int by_what(const void *a, const void *b)
{
    const struct only *one = a, *other = b;
    int order = strcmp(one->what, other->what);
    return order ? order : (one->line > other->line) - (one->line < other->line);
}

static void report_twins(struct load *l, struct onlies *all)
{
    qsort(all->list, all->count, sizeof *all->list, by_what);
    for (size_t i = 1; i < all->count; i++) {
        const struct only *before = &all->list[i - 1], *one = &all->list[i];
        if (strcmp(one->what, before->what) == 0)
            load_report(l, one->line, "%s stands on line %u already", one->what, before->line);
    }
}

void objects_check(struct load *l)
{
    const struct conf *c = l->conf;
    struct onlies all = {.list = calloc(c->nobjects * (1 + CONF_LIST_MAX) + 1, sizeof *all.list)};
    if (!all.list) {
        load_report(l, 1, "out of memory");
        return;
    }
    for (size_t i = 0; i < c->nobjects; i++) {
        check_missing(l, &c->objects[i]);
        collect(&c->objects[i], &all);
    }
    report_twins(l, &all);
    for (size_t i = 0; i < all.count; i++)
        free(all.list[i].what);
    free(all.list);
}

bool conf_object_has(const struct conf_object *o, const char *key)
{
    return line_of(o, key) != 0;
}

void objects_release(struct conf *c)
{
    for (size_t i = 0; i < c->nobjects; i++) {
        struct conf_object *o = &c->objects[i];
        for (size_t k = 0; k < conf_nobject_keys; k++)
            if (key_is_of(&conf_object_keys[k], o->kind))
                key_release(&conf_object_keys[k], o);
        free(o->name);
    }
    free(c->objects);
    c->objects = NULL;
    c->nobjects = 0;
}
