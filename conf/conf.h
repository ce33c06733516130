/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CONF_H
#define LABBOOT_CONF_H

/* The configuration file, labboot.conf: INI, read with libinih through the one table in keys.c, which also
 * makes the commented example and `config show`, and which the page labboot.conf(5) is tested against. */

#include "lib/base/hwid.h"
#include "lib/base/parse.h"
#include "lib/base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONF_LIST_MAX 16
#define CONF_KEYS_MAX 64

enum conf_log_level { CONF_LOG_ERROR, CONF_LOG_WARNING, CONF_LOG_INFO, CONF_LOG_DEBUG };
enum conf_mode { CONF_MODE_DHCP, CONF_MODE_PROXY, CONF_MODE_NONE };
enum conf_default_action { CONF_ACTION_LOCAL, CONF_ACTION_RETRY };
enum conf_tls { CONF_TLS_OFF, CONF_TLS_REQUIRE };
enum conf_on_interrupt { CONF_INTERRUPT_KEEP, CONF_INTERRUPT_DISCARD };
enum conf_durability { CONF_DURABILITY_ALWAYS, CONF_DURABILITY_UPDATES };
enum conf_check { CONF_CHECK_LEASE, CONF_CHECK_ARP, CONF_CHECK_NONE };

/* What a section [user NAME], [setup NAME] or [machine NAME] declares, for `labboot apply` alone: nobody else looks at
 * them. In the order in which they can be made. */
enum conf_object_kind { CONF_USER, CONF_SETUP, CONF_MACHINE };
#define CONF_OBJECT_KEYS_MAX 16
struct conf_object {
    enum conf_object_kind kind;
    char *name;
    unsigned line; /* of its section */
    unsigned
        set[CONF_OBJECT_KEYS_MAX]; /* the line of each key of the table; 0: not given, its default holds */
    union {
        struct {
            char *email;
            char *full_name;
            int role; /* index in user, moderator, admin */
        } user;
        struct {
            char *owner;                 /* "": the only admin */
            char *images[CONF_LIST_MAX]; /* IMAGE[@VERSION|@latest][,update]; NULL-terminated unless full */
        } setup;
        struct {
            struct mac macs[CONF_LIST_MAX]; /* the first one is its key */
            size_t nmacs;
            int architecture;    /* index in x86_64, Arm64, unknown */
            int managed;         /* index in no, yes */
            char *default_setup; /* NAME, OWNER/NAME or a UUID; "": none */
            uint64_t disk_size;  /* bytes, of its machine image */
            int disk_filesystem; /* index in ext4, fat32, raw */
        } machine;
    };
};

struct conf {
    struct {
        char *state_dir;    /* absolute, as all paths here */
        char *images_dir;   /* default: STATE/images */
        char *overlays_dir; /* default: STATE/overlays */
        char *run_dir;
        char
            *listen[CONF_LIST_MAX]; /* addresses; NULL-terminated unless full; empty list: Unix socket only */
        uint64_t port;
        char *unix_socket;     /* default: RUN/nbd.sock */
        uint64_t threads;      /* nbdkit's, where requests of a connection run in parallel */
        uint64_t history_days; /* how long ended boots and events are kept; 0: for ever */
        int log_level;         /* enum conf_log_level, as the ints below are of their enums */
    } server;
    struct {
        char *interface;
        int mode;
        struct in6_addr range_first, range_last; /* v4-mapped; all zero: no range */
        struct in6_addr netmask, router, dns;    /* router, dns: all zero: not sent */
        uint64_t lease_time;                     /* seconds */
        struct in6_addr next_server;             /* all zero: the address of the interface */
        char *tftp_root;                         /* default: STATE/tftp */
    } network;
    struct {
        int default_action;
        char *kernel_arguments;  /* appended */
        char *console;           /* "ttyS0,115200"; "": none */
        char *loader_bios;       /* "undionly.kpxe" */
        char *loader_efi64;      /* "ipxe.efi" or "snponly.efi" */
        uint64_t lease;          /* seconds a leased boot may be without I/O before it is queued again */
        uint64_t grace, abandon; /* seconds: see boot-lifecycle */
        int on_interrupt;
    } boot;
    struct {
        uint64_t chunk_size;               /* bytes: 16K, 32K or 64K */
        uint64_t zstd_level;               /* 1 … 19 */
        uint64_t cache_memory;             /* bytes */
        uint64_t prefetch;                 /* bytes read ahead of a boot; 0: none */
        uint64_t reserve;                  /* bytes of free space never used */
        uint64_t flatten_depth;            /* versions that one may stand upon; 0: any number */
        uint64_t scrub_days;               /* after which a version is read again; 0: never */
        uint64_t scrub_rate;               /* bytes a second; 0: none */
        uint64_t keep_versions, keep_days; /* of each image; both 0: all versions stay */
        uint64_t
            temporal_days; /* how long what was written to temporal images is kept without use; 0: not at all */
    } store;
    struct {
        uint64_t quota; /* bytes a disk of a boot may take; 0: no limit */
        int durability;
    } overlay;
    struct {
        int check;
        struct ip_range admin[CONF_LIST_MAX];
        size_t nadmin;
        int tls;               /* whether who comes by TCP must use it */
        char *tls_credentials; /* a folder of certificates, or a file of pre-shared keys */
    } access;
    unsigned set[CONF_KEYS_MAX]; /* the line of each key of the table; 0: not given */
    struct conf_object *objects; /* in the order of the file, after conf_load */
    size_t nobjects;
};

/* What is wrong with the file, one mistake a call: "FILE:LINE: message". */
typedef void conf_mistake(void *ctx, const char *line);

/* All defaults. *c owns its strings: conf_release. */
int conf_defaults(struct conf *c, struct err *e) must_check;
/* Reads PATH over the defaults. Every mistake is given to `mistake` (may be NULL); with any, fails with the
 * first one as message (ERR_USAGE). A missing file: ERR_NOT_FOUND with "try: labboot init" or --config. */
int conf_load(const char *path, struct conf *ret, conf_mistake *mistake, void *ctx, struct err *e) must_check;
void conf_release(struct conf *c);
/* $LABBOOT_CONFIG, or SYSCONFDIR/labboot/labboot.conf. */
const char *conf_default_path(void);

/* The commented example: every key with its default and its help. */
void conf_example(struct strbuf *out);
/* The values in force, as an INI file or as one JSON object {"section": {"key": value}}. */
void conf_show(const struct conf *c, struct strbuf *out);
void conf_show_json(const struct conf *c, struct strbuf *out);

/* The line that gives a key outside of objects; 0: none. */
unsigned conf_line(const struct conf *c, const char *section, const char *key);
/* Whether the file gives this key of the object: "disk-size". */
bool conf_object_has(const struct conf_object *o, const char *key);

/* ---- the same file, read again ----------------------------------------------------------------------------- */
/* What must be started again for a change of a key to be in force; 0: nothing. */
enum { CONF_RESTART_SERVE = 1, CONF_RESTART_DHCP = 2 };
/* The keys in which a and b differ. `name` is "[boot] grace". */
void conf_compare(const struct conf *a, const struct conf *b,
                  void (*differs)(void *ctx, const char *name, unsigned restart), void *ctx);
/* What `restart` says of that key; 0 for an unknown one too. */
unsigned conf_restart_of(const char *name);
/* *ret is `now` with the values of `file` for all keys but those whose change needs a restart of `labboot serve`; without
 * objects. */
int conf_take_over(const struct conf *now, const struct conf *file, struct conf *ret,
                   struct err *e) must_check;

/* Paths that several parts use; malloc'ed. */
char *conf_catalog_path(const struct conf *c);                        /* STATE/catalog.db */
char *conf_temporal_dir(const struct conf *c, int64_t id);            /* OVERLAYS/temporal-<id> */
char *conf_overlay_dir(const struct conf *c, int64_t boot, size_t n); /* OVERLAYS/<boot>/<n> */

#endif
