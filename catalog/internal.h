/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CATALOG_INTERNAL_H
#define LABBOOT_CATALOG_INTERNAL_H

/* What the files of catalog/ share beside the wrapper. All of it runs inside the caller's transaction. */

#include "catalog/db.h"

#define TOKEN_GRACE 600 /* seconds that a superseded token stays good */

/* ---- event.c */
struct event {
    const char *actor, *what, *object, *detail; /* detail NULL: none */
    const char *peer;                           /* the address that it came from; NULL or "": this host */
    const struct mac *machine;                  /* the machine that it is about; NULL: none */
};
int event_write(struct catalog *c, const struct event *ev, struct err *e) must_check;

/* ---- user.c */
int user_check(struct catalog *c, const char *username, struct err *e) must_check; /* ERR_NOT_FOUND */

/* ---- image.c: NAME (of `owner` first, else unique), OWNER/NAME or UUID of images and setups */
struct named {
    const char *what;                          /* "image", "setup" */
    enum statement by_uuid, by_owner, by_name; /* columns: uuid, name, owner */
};
struct found {
    struct uuid uuid;
    char name[NAME_SIZE], owner[NAME_SIZE];
};
int named_find(struct catalog *c, const struct named *n, const char *text, const char *owner,
               struct found *ret, struct err *e) must_check;
/* "debian-lab, version 1795460000, is damaged": ERR_STATE; no such version: ERR_NOT_FOUND. */
int version_check_good(struct catalog *c, const struct uuid *image, uint64_t version,
                       struct err *e) must_check;
/* "" when the version has none. */
int version_kernel(struct catalog *c, const struct uuid *image, uint64_t version, char ret[TEXT_SIZE],
                   struct err *e) must_check;
/* In the caller's transaction: marks it damaged, with an event. *ret_news: it was not before. ERR_NOT_FOUND. */
int version_damage(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                   const char *why, bool *ret_news, struct err *e) must_check;
/* Makes the row of a version and raises last_version; the head stays. `boot` 0: imported. */
int version_insert(struct catalog *c, const struct version_new *v, int64_t boot, struct err *e) must_check;
/* Of "image OWNER/NAME@VERSION"; version 0: of the image itself. */
int image_event(struct catalog *c, const char *actor, const char *what, const struct uuid *image,
                uint64_t version, const char *detail, struct err *e) must_check;
int image_head_set(struct catalog *c, const struct uuid *image, uint64_t version, struct err *e) must_check;
/* ERR_STATE when the owner has another image of that name. */
int image_name_free(struct catalog *c, const char *owner, const char *name, struct err *e) must_check;

/* ---- care.c: the columns of SQL_VERSION_ROWS_OF */
void version_row_take(struct stmt *s, struct version_row *ret);

/* ---- temporal.c */
/* In the lease: makes or finds what the boot's temporal images go on with, and sets their versions accordingly. */
int temporal_attach(struct catalog *c, struct boot *b, struct err *e) must_check;

/* ---- takeover.c */
/* In the lease, of what is `ready`: sets what the boot's images follow. *ret_any: something. */
int takeover_attach(struct catalog *c, struct boot *b, const struct takeover *ready, size_t count,
                    bool *ret_any, struct err *e) must_check;
/* After b was leased: with an event for each. */
int takeover_note(struct catalog *c, const struct boot *b, struct err *e) must_check;
/* ERR_STATE, naming it, when a boot is about to take over what this one has written. */
int takeover_check_none(struct catalog *c, int64_t boot, struct err *e) must_check;

/* ---- boot.c */
/* "auto", … as in the catalog; NULL of ENDING_NONE. */
const char *boot_ending_name(enum boot_ending ending);
extern const bool boot_edges[BOOT_CANCELLED + 1][BOOT_CANCELLED + 1]; /* [from][to] */
/* The one place where a boot's state changes, with its event; `why` NULL: the result stays. ERR_STATE when
 * there is no such edge. b was read in this transaction. */
int boot_move(struct catalog *c, const char *actor, struct boot *b, enum boot_state to, const char *why,
              struct err *e) must_check;
/* The next boot, with its images, of a statement with the columns of SQL_BOOT; 1: there is one, 0: none. The
 * statement stays open meanwhile, so that all is read from one state of the catalog. */
int boot_take(struct catalog *c, struct stmt *s, struct boot *ret, struct err *e) must_check;
/* Images of a queued boot as its setup has them now, `latest` resolved; version 0 where there is none. */
int boot_resolve(struct catalog *c, struct boot *b, struct err *e) must_check;
/* Images of a queued boot as a token has them. */
int boot_resolve_token(struct catalog *c, const char *token, struct boot *b, struct err *e) must_check;
/* 1: *ret is a boot of the machine that has not ended, the one that stands most in the way; 0: none. */
int boot_unended(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e) must_check;
/* Where its kernel and initrd come from: the root, or where that has none the first image of type boot. ret: its release,
 * "" when that has none either (then *ret_image is the root). */
int boot_kernel(struct catalog *c, const struct boot *b, size_t *ret_image, char ret[TEXT_SIZE],
                struct err *e) must_check;
/* The machine has another boot, or another disk: it cannot come back to one that ended without it. */
int boot_leave_behind(struct catalog *c, const struct mac *machine, struct err *e) must_check;
/* boot_next without a transaction of its own. */
int boot_next_row(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e) must_check;

/* ---- machine.c: the columns mac, name, architecture, managed */
void machine_take(struct stmt *s, struct machine *ret);
/* All rows of a statement without parameters that selects machines; *ret is malloc'ed. */
int machines_of(struct catalog *c, enum statement which, struct machine **ret, size_t *ret_count,
                struct err *e) must_check;
/* ERR_STATE, naming who has it, when a machine has the name or the MAC. */
int machine_refuse_name(struct catalog *c, const char *name, struct err *e) must_check;
int machine_refuse_mac(struct catalog *c, const struct mac *mac, struct err *e) must_check;
int machine_insert_mac(struct catalog *c, const struct mac *mac, const struct mac *machine, int64_t position,
                       struct err *e) must_check;

/* ---- machine-change.c: the image and its row of a new machine's own disk. */
int machine_disk_add(struct catalog *c, const struct machine_new *m, struct err *e) must_check;

#endif
