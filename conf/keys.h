/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_KEYS_H
#define LABBOOT_KEYS_H

/* The table of keys: the only place that knows their names, defaults and limits. Used by conf/ alone. */

#include "conf/conf.h"

enum conf_kind {
    KIND_PATH,      /* char *: absolute */
    KIND_TEXT,      /* char *: printable, may be empty */
    KIND_FILE_NAME, /* char *: a plain name without folders */
    KIND_INTERFACE, /* char *: a network interface's name, may be empty */
    KIND_NUMBER,    /* uint64_t */
    KIND_SIZE,      /* uint64_t, bytes */
    KIND_DURATION,  /* uint64_t, seconds */
    KIND_WORD,      /* int: the index in `words` */
    KIND_IPV4,      /* struct in6_addr, v4-mapped; empty: all zero */
    KIND_RANGE,     /* two of them, first and last; empty: all zero */
    KIND_ADDRESSES, /* char *[CONF_LIST_MAX] */
    KIND_NETWORKS,  /* access.admin, with its count */
    KIND_EMAIL,     /* char * */
    KIND_FULL_NAME, /* char *: UTF-8, may be empty */
    KIND_REFERENCE, /* char *: NAME, OWNER/NAME or a UUID; may be empty */
    KIND_MACS,      /* machine.macs, with its count; each line adds to them */
    KIND_IMAGES,    /* char *[CONF_LIST_MAX]: IMAGE[@VERSION|@latest][,update]; each line adds to them */
};

/* Where a path lies when the file does not say: the folder that `def` is then relative to. */
enum conf_under { UNDER_NOTHING, UNDER_STATE, UNDER_RUN };

struct conf_key {
    const char *section, *name;
    enum conf_kind kind;
    size_t offset;     /* in struct conf, or in struct conf_object */
    uint64_t min, max; /* of KIND_NUMBER, KIND_SIZE, KIND_DURATION */
    /* NULL-terminated: all that is allowed of KIND_WORD; of KIND_SIZE, when not NULL. */
    const char *const *words;
    enum conf_under under;
    const char *def;
    const char *help;    /* lines of the example, without their '#' */
    unsigned restart;    /* CONF_RESTART_… */
    const char *example; /* of objects: the value in the example; NULL: the default */
    bool required;       /* of objects */
};

/* Of the sections without a name, in struct conf. */
extern const struct conf_key conf_keys[];
extern const size_t conf_nkeys;
/* Of the sections with one, in struct conf_object; at most CONF_OBJECT_KEYS_MAX. Their `section` is that of the type. */
extern const struct conf_key conf_object_keys[];
extern const size_t conf_nobject_keys;
extern const struct conf_object_type {
    const char *section; /* "user NAME" */
    const char *example; /* "alice" */
    const char *help;
} conf_object_types[CONF_MACHINE + 1];
/* All of both, one after the other; NULL behind the last one. */
const struct conf_key *key_at(size_t i);
bool key_is_of(const struct conf_key *k, enum conf_object_kind kind);

/* `base` is the struct conf or the struct conf_object that the key is of. */
/* Sets the key's value; the old one is released. ERR_USAGE says what is allowed. */
int key_parse(const struct conf_key *k, const char *text, void *base, struct err *e) must_check;
/* A key whose lines add up may stand more than once. */
bool key_adds_up(const struct conf_key *k);
/* As it would stand in the file. */
void key_format(const struct conf_key *k, const void *base, struct strbuf *out);
void key_format_json(const struct conf_key *k, const void *base, struct strbuf *out);
void key_release(const struct conf_key *k, void *base);

#endif
