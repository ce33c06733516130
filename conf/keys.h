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
};

/* Where a path lies when the file does not say: the folder that `def` is then relative to. */
enum conf_under { UNDER_NOTHING, UNDER_STATE, UNDER_RUN };

struct conf_key {
    const char *section, *name;
    enum conf_kind kind;
    size_t offset;     /* in struct conf */
    uint64_t min, max; /* of KIND_NUMBER, KIND_SIZE, KIND_DURATION */
    /* NULL-terminated: all that is allowed of KIND_WORD; of KIND_SIZE, when not NULL. */
    const char *const *words;
    enum conf_under under;
    const char *def;
    const char *help; /* lines of the example, without their '#' */
};

extern const struct conf_key conf_keys[];
extern const size_t conf_nkeys;

/* Sets the key's value in *c; the old one is released. ERR_USAGE says what is allowed. */
int key_parse(const struct conf_key *k, const char *text, struct conf *c, struct err *e) must_check;
/* As it would stand in the file. */
void key_format(const struct conf_key *k, const struct conf *c, struct strbuf *out);
void key_format_json(const struct conf_key *k, const struct conf *c, struct strbuf *out);
void key_release(const struct conf_key *k, struct conf *c);

#endif
