/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_QUERY_H
#define LABBOOT_QUERY_H

/* What list and show commands print. Each query has two statements: rows for people, and one JSON value made by
 * SQLite's json functions with the field names of the data model. */

#include "catalog/catalog.h"

enum query {
    QUERY_USERS,        /* all users */
    QUERY_USER,         /* one: argument its name */
    QUERY_MACHINES,     /* all machines */
    QUERY_MACHINE,      /* one: argument its (first) MAC as mac_format gives it */
    QUERY_IMAGES,       /* images; words: owner, kind */
    QUERY_IMAGE,        /* one: argument its UUID */
    QUERY_VERSIONS,     /* versions of one image, newest first: argument its UUID */
    QUERY_VERSION_TREE, /* the same, for people: each below the one that it was made from */
    QUERY_SETUPS,       /* setups; words: owner, name of an image that they have */
    QUERY_SETUP,        /* one: argument its UUID */
    QUERY_SETUP_IMAGE,  /* one image of it; words: the setup's UUID, the image's name */
    /* The newest boots; words: MAC, state, UUID of the setup, a time that they had not ended before, at most how many (100) */
    QUERY_BOOTS,
    QUERY_BOOTS_OF, /* those with the ids of a JSON array */
    QUERY_BOOT,     /* one: argument its id */
    QUERY_VERIFIED, /* the versions that query_set_verified named, with the setups and boots that have them */
    QUERY_STATUS,   /* machines with state, boot, versions, address */
};

/* `columns` are the headings (in capitals, for people), `cells` texts, NULL for none. Called once with cells == NULL
 * before the first row. */
typedef int query_row(void *ctx, int count, const char *const *columns, const char *const *cells,
                      struct err *e);

#define QUERY_WORDS_MAX 6
/* The words of a query are texts, NULL for "": not given, in a list all. A show query without a row: ERR_NOT_FOUND. */
int query_rows_of(struct catalog *c, enum query q, const char *const words[], query_row *row, void *ctx,
                  struct err *e) must_check;
/* As query_rows_of, with one word, or none at all. */
int query_rows(struct catalog *c, enum query q, const char *argument, query_row *row, void *ctx,
               struct err *e) must_check;
/* What the running server knows of a boot and the catalog does not: in bytes. */
struct boot_counters {
    int64_t boot;
    uint64_t bytes_read, bytes_written; /* since the server has it */
    uint64_t overlay;                   /* that its overlays take on the server */
};
/* For QUERY_STATUS of this connection; they replace those given before. */
int query_set_counters(struct catalog *c, const struct boot_counters *list, size_t count,
                       struct err *e) must_check;
/* For QUERY_MACHINE and QUERY_MACHINES of this connection: `bytes` is asked what the file of a machine's disk takes. */
void query_set_disks(struct catalog *c, uint64_t (*bytes)(void *ctx, const struct uuid *image), void *ctx);
struct version_bytes {
    uint64_t version, bytes;
};
/* What each version alone holds, for QUERY_VERSIONS of this connection. */
int query_set_alone(struct catalog *c, const struct uuid *image, const struct version_bytes *list,
                    size_t count, struct err *e) must_check;
struct verified_version {
    uint64_t version, damaged_chunks;
};
/* For QUERY_VERIFIED of this connection; they replace those given before. */
int query_set_verified(struct catalog *c, const struct uuid *image, const struct verified_version *list,
                       size_t count, struct err *e) must_check;
/* One JSON value: an array for lists, an object for one. *ret is malloc'ed. */
int query_json_of(struct catalog *c, enum query q, const char *const words[], char **ret,
                  struct err *e) must_check;
int query_json(struct catalog *c, enum query q, const char *argument, char **ret, struct err *e) must_check;

#endif
