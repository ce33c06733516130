/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CATALOG_H
#define LABBOOT_CATALOG_H

/* The catalog: one SQLite database, <state-dir>/catalog.db, with every entity of the data model. schema.sql is its
 * manual. One `struct catalog` is one connection; it is not thread-safe: a thread at a time (the plugin guards its one
 * with a mutex). Every function that changes something is one IMMEDIATE transaction, with its events in it, and
 * happens whole or not at all; within tx_begin and tx_commit, a part of that one. Writers wait for each other, all
 * equally long; "database is locked" reaches a caller only after ten seconds (ERR_FAILED).
 *
 * Times are seconds since 1970, 0 for never. Texts in structures are NUL-terminated and were checked when they came
 * in. `actor` is who does it, for the event trail: "root", "alice", "server", "machine 52:54:…". */

#include "lib/base/cleanup.h"
#include "lib/base/hwid.h"
#include "lib/base/parse.h"
#include "lib/store/format.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct catalog;

#define NAME_SIZE (NAME_MAX_LEN + 1)
#define ACTOR_SIZE (2 * NAME_SIZE + 8) /* "root as alice" */
#define OBJECT_SIZE 160                /* "image OWNER/NAME@VERSION" */
#define TOKEN_LEN 16                   /* letters and digits, at least one letter */
#define TOKEN_SIZE (TOKEN_LEN + 1)
#define TEXT_SIZE 200 /* a boot's result, a kernel's release */

/* Makes the file with the newest schema (mode 0640), or migrates an older one forward after a backup
 * (catalog.db.before-N). Repeatable. A newer schema than this program's is refused. */
int catalog_create(const char *path, struct err *e) must_check;
enum catalog_durability { CATALOG_FULL, CATALOG_NORMAL }; /* synchronous= ; NORMAL is for the dhcp hook */
/* Opens an existing catalog of exactly this program's schema, WAL, foreign keys on. Missing: ERR_NOT_FOUND, with
 * "try: labboot init". */
int catalog_open(const char *path, enum catalog_durability durability, struct catalog **ret,
                 struct err *e) must_check;
void catalog_close(struct catalog *c); /* NULL is fine */
/* From here on what the catalog says is on the disk, and a change that failed before is not. Neither is certain: who is killed
 * between the write and the sync of a COMMIT leaves it to be seen by others, who then must not act upon it as if it could
 * not be lost; and a COMMIT whose sync failed has rolled back for those who have the catalog open now, but should all of
 * them be killed, who opens it next would find it. */
int catalog_settle(struct catalog *c, struct err *e) must_check;
/* Changes whenever another connection committed something: PRAGMA data_version. */
int catalog_data_version(struct catalog *c, uint64_t *ret, struct err *e) must_check;

/* ---- many changes as one -------------------------------------------------------------------------------------
 *     cleanup(tx) struct catalog *tx = NULL;
 *     if (tx_begin(c, &tx, e) < 0 || machine_add(c, ...) < 0 || setup_create(c, ...) < 0)
 *         return -1;
 *     return tx_commit(&tx, e);
 *
 * What is not committed is rolled back at the end of the scope. Transactions stand within each other: one that was
 * begun inside of another can fail alone, and what it did stays only if the outermost is committed. */
/* Sets *tx = c. The outermost is IMMEDIATE: it waits for other writers here. */
int tx_begin(struct catalog *c, struct catalog **tx, struct err *e) must_check;
int tx_commit(struct catalog **tx, struct err *e) must_check;
void tx_rollback(struct catalog *tx); /* NULL is fine */
DEFINE_CLEANUP(tx, struct catalog, tx_rollback);

/* ---- users ------------------------------------------------------------------------------------------------- */
enum role { ROLE_USER, ROLE_MODERATOR, ROLE_ADMIN }; /* each may what those before it may */
struct user {
    char username[NAME_SIZE];
    enum role role;
    char name[TEXT_SIZE], email[TEXT_SIZE]; /* cut where they are longer */
};
int user_get(struct catalog *c, const char *username, struct user *ret, struct err *e) must_check;
/* All users, by name; *ret is malloc'ed. */
int users_all(struct catalog *c, struct user **ret, size_t *ret_count, struct err *e) must_check;
int user_add(struct catalog *c, const char *actor, const char *username, const char *name, const char *email,
             const char *role, struct err *e) must_check;
/* What changes; NULL: it stays. */
struct user_change {
    const char *name, *email, *role;
};
/* One event with all that changed, none when nothing did. Another's email: ERR_STATE; so is taking the role of the last
 * admin, unless `force`. */
int user_change(struct catalog *c, const char *actor, const char *username, const struct user_change *change,
                bool force, struct err *e) must_check;
/* With all setups and images of the user, as setup_remove and image_remove do, or not at all: who holds one of them is
 * named (ERR_STATE), and so is the last admin, unless `force`. The caller holds the locks of the images, and removes their
 * files next. *ret_cancelled: queued boots. */
int user_remove(struct catalog *c, const char *actor, const char *username, bool force, size_t *ret_cancelled,
                struct err *e) must_check;
/* ERR_STATE, naming them, for one who owns images or setups. */
int user_check_owns_nothing(struct catalog *c, const char *username, struct err *e) must_check;
/* How many admins there are beside this user. */
int user_other_admins(struct catalog *c, const char *username, uint64_t *ret, struct err *e) must_check;

/* ---- machines ---------------------------------------------------------------------------------------------- */
struct machine {
    struct mac mac; /* the first one: the machine's key */
    char name[NAME_SIZE];
    char architecture[8]; /* "x86_64", "Arm64", "unknown" */
    bool managed;
};

struct machine_new {
    struct mac mac;
    const struct mac *more; /* further MACs */
    size_t nmore;
    const char *name;         /* NULL: "machine-" and the MAC's digits */
    const char *architecture; /* NULL: "x86_64" */
    bool managed;
    const struct uuid *default_setup; /* NULL: none */
    uint64_t disk_size;               /* of its own disk, bytes, whole MiB; 0: 128 MiB */
    const char *disk_filesystem;      /* "ext4", "fat32", "raw"; NULL: ext4 */
};
/* With the rows of its own disk. Existing name or MAC: ERR_STATE. Its script is wanted from then on. */
int machine_add(struct catalog *c, const char *actor, const struct machine_new *m, struct err *e) must_check;
/* By name or any of its MACs in any spelling. ERR_NOT_FOUND (also for a text that is neither: ERR_USAGE). */
int machine_find(struct catalog *c, const char *text, struct machine *ret, struct err *e) must_check;
int machine_by_mac(struct catalog *c, const struct mac *any, struct machine *ret, struct err *e) must_check;
/* "machine 52:54:…": what a machine is called in events, as their object and as their actor. */
void machine_object(const struct mac *m, char ret[OBJECT_SIZE]);
/* All machines, by name; *ret is malloc'ed. */
int machines_all(struct catalog *c, struct machine **ret, size_t *ret_count, struct err *e) must_check;
/* Its default setup; all zero: none. */
int machine_default(struct catalog *c, const struct mac *machine, struct uuid *ret, struct err *e) must_check;
/* All MACs of a machine, the first one first; *ret is malloc'ed. */
int machine_macs(struct catalog *c, const struct mac *machine, struct mac **ret, size_t *ret_count,
                 struct err *e) must_check;

/* What machine_set changes; all zero: nothing. */
struct machine_change {
    const char *name, *architecture; /* NULL: stays */
    const bool *managed;             /* NULL: stays */
    const struct mac *add, *remove;  /* MACs */
    size_t nadd, nremove;
    bool change_default;
    const struct uuid *default_setup; /* with change_default; NULL: none */
    uint64_t disk_size;               /* bytes, whole MiB; 0: stays */
    const char *disk_filesystem;      /* NULL: stays */
    const int64_t *drop;              /* of struct temporal: as temporal_drop */
    size_t ndrop;
};
/* Where the machine's key is among the MACs that go, the next one becomes its key. ERR_STATE: a name or MAC of another
 * machine, the last MAC, a smaller disk, and what a boot that runs does not allow: another key, another disk, to be left
 * alone. The disk's file is for the caller to bring in step before. */
int machine_set(struct catalog *c, const char *actor, const struct mac *machine,
                const struct machine_change *change, struct err *e) must_check;

/* What is left to be removed of a machine that is gone: its disk's folder, and its overlays. Both lists are malloc'ed. */
struct machine_remains {
    struct uuid image;
    int64_t *boots, *temporals;
    size_t nboots, ntemporals;
};
/* With its boots, addresses, leases and the rows of its disk. ERR_STATE while a boot is leased, running or committing, and
 * unless `force`, while one is interrupted. */
int machine_remove(struct catalog *c, const char *actor, const struct mac *machine, bool force,
                   struct machine_remains *ret, struct err *e) must_check;

/* The machine's own disk. */
struct machine_disk {
    struct uuid image;
    uint64_t size; /* bytes */
    char filesystem[8];
};
int machine_disk_get(struct catalog *c, const struct mac *machine, struct machine_disk *ret,
                     struct err *e) must_check;

/* ---- addresses --------------------------------------------------------------------------------------------- */
/* The stable address of every MAC of managed machines that has none gets one from [first, last] (IPv4, v4-mapped),
 * skipping those in use; the assignments stay for good. A range that is too small: ERR_STATE. */
int address_assign_all(struct catalog *c, const struct in6_addr *first, const struct in6_addr *last,
                       struct err *e) must_check;
/* For each MAC with an address, in the order of addresses. The callback may not use c. */
int address_each(struct catalog *c,
                 int (*each)(void *ctx, const struct mac *mac, const struct in6_addr *address,
                             const char *machine_name, struct err *e),
                 void *ctx, struct err *e) must_check;
int address_of_mac(struct catalog *c, const struct mac *mac, struct in6_addr *ret, struct err *e) must_check;
/* The machine that an address is assigned to, or that has a live lease on it. ERR_NOT_FOUND. */
int machine_by_address(struct catalog *c, const struct in6_addr *address, struct machine *ret,
                       struct err *e) must_check;
/* A lease from dnsmasq: `expires` 0 = infinite. The same lease again is no event (dnsmasq replays all at SIGHUP). A
 * MAC that no machine has is recorded too (an admin wants to see it), without effect on access. */
int lease_record(struct catalog *c, const struct mac *mac, const struct in6_addr *address, int64_t expires,
                 struct err *e) must_check;
int lease_remove(struct catalog *c, const struct mac *mac, const struct in6_addr *address,
                 struct err *e) must_check;

/* ---- images and versions ----------------------------------------------------------------------------------- */
struct image {
    struct uuid uuid;
    char name[NAME_SIZE], owner[NAME_SIZE];
    char type[12];         /* "boot", "system", "user", "temporal", "machine" */
    char compression[8];   /* "none", "zstd", "gzip" */
    char file_type[8];     /* "raw", "qcow2" */
    char filesystem[8];    /* "fat32", "ext4", "raw" */
    uint64_t head;         /* what `latest` means; 0: no version yet */
    uint64_t last_version; /* the highest ever */
};
/* NAME (of `owner` first, else unique among all, else ERR_STATE naming the owners), OWNER/NAME or a UUID.
 * `owner` may be NULL. */
int image_find(struct catalog *c, const char *text, const char *owner, struct image *ret,
               struct err *e) must_check;
int image_by_uuid(struct catalog *c, const struct uuid *uuid, struct image *ret, struct err *e) must_check;
/* All images, by owner and name; *ret is malloc'ed. */
int images_all(struct catalog *c, struct image **ret, size_t *ret_count, struct err *e) must_check;
/* Splits IMAGE[@VERSION|@latest] and finds both; without @ or with @latest the head. *ret_version is an existing
 * version, damaged or not. */
int image_version_find(struct catalog *c, const char *text, const char *owner, struct image *ret,
                       uint64_t *ret_version, struct err *e) must_check;

struct version_new {
    struct uuid image;
    uint64_t version;
    uint64_t parent; /* 0: none */
    struct uuid layer;
    uint64_t virtual_size, stored_size; /* bytes */
    uint8_t checksum[CHECKSUM_SIZE];
    const char *kernel;  /* release of the kernel inside ("6.1.0-37-cloud-amd64"); NULL: none that can boot */
    const char *comment; /* NULL: none */
};
/* Publishes an imported version: the image's row too when `create` is not NULL (its uuid, name, owner, type,
 * compression, file_type and filesystem are taken; an existing OWNER/NAME: ERR_STATE). It becomes the head. Scripts of
 * machines for which `latest` changed are wanted. The layer's file is there already. */
int version_publish(struct catalog *c, const char *actor, const struct image *create,
                    const struct version_new *v, struct err *e) must_check;
/* max(now, highest ever of this image + 1, at_least). */
int version_choose(struct catalog *c, const struct uuid *image, uint64_t at_least, uint64_t *ret,
                   struct err *e) must_check;
bool version_exists(struct catalog *c, const struct uuid *image, uint64_t version);
struct version_file {
    uint64_t version;
    struct uuid layer;
};
/* All versions of an image, the oldest first; *ret is malloc'ed. */
int versions_of(struct catalog *c, const struct uuid *image, struct version_file **ret, size_t *ret_count,
                struct err *e) must_check;
/* Marks it damaged (an event the first time): refused for new boots. */
int version_mark_damaged(struct catalog *c, const struct uuid *image, uint64_t version, const char *why,
                         struct err *e) must_check;

/* What changes; NULL: it stays. A comment of "" is none. */
struct image_change {
    const char *name, *owner, *type, *compression, *filesystem, *file_type, *comment;
};
/* One event with all that changed, none when nothing did. A name that the owner's images or another image of one of its
 * setups has, a machine's image: ERR_STATE. */
int image_change(struct catalog *c, const char *actor, const struct uuid *image,
                 const struct image_change *change, struct err *e) must_check;
int version_set_comment(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                        const char *comment, struct err *e) must_check;
/* Makes a version the head. ERR_STATE when it is damaged. */
int image_rollback(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                   struct err *e) must_check;

/* Removes rows, never files: the file of *ret is to go next (store_retire_layer), and its kernel. The caller holds the
 * image's lock. Refused (ERR_STATE) with all who need it: boots that have
 * not ended, and but for `force` setups, tokens of queued boots, that it is a branch. The head: refused. `force` lets the
 * setups that peg it follow latest. */
int version_remove(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                   bool force, struct version_file *ret, struct err *e) must_check;
/* The image and all its versions. `force` takes it out of setups; queued boots without any disk left are cancelled. */
int image_remove(struct catalog *c, const char *actor, const struct uuid *image, bool force,
                 struct err *e) must_check;
/* Removes those versions beyond the newest `last`, made `days` days ago or earlier, that nobody needs: not the head, and
 * nothing that version_remove refuses. *ret is malloc'ed, the oldest first. dry_run: only tells. */
int image_keep(struct catalog *c, const char *actor, const struct uuid *image, uint64_t last, uint64_t days,
               bool dry_run, struct version_file **ret, size_t *ret_count, struct err *e) must_check;

/* What the row of a version says of its file. */
struct version_row {
    uint64_t version, parent; /* parent 0: none */
    struct uuid layer;
    uint64_t virtual_size, stored_size; /* bytes */
    uint8_t checksum[CHECKSUM_SIZE];
    char kernel[TEXT_SIZE]; /* "": none */
    bool damaged;           /* marked so */
};
/* Of all versions of an image, the oldest first; *ret is malloc'ed. */
int version_rows(struct catalog *c, const struct uuid *image, struct version_row **ret, size_t *ret_count,
                 struct err *e) must_check;
/* The version is another layer now, with the same disk. The image's lock is held. ERR_NOT_FOUND: no such version. */
int version_flattened(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                      const struct uuid *layer, uint64_t stored_size, struct err *e) must_check;
/* The version that is that layer, as its row says: 1, 0 there is none, -1. */
int version_of_layer(struct catalog *c, const struct uuid *layer, struct uuid *ret_image,
                     uint64_t *ret_version, struct err *e) must_check;

/* ---- setups ------------------------------------------------------------------------------------------------ */
struct setup_image {
    struct uuid image;
    uint64_t version; /* 0: latest */
    bool update;
};
#define SETUP_IMAGES_MAX 16
/* The first image is the root disk. Two images of one name, one image twice, a peg of a damaged version: ERR_STATE. ret:
 * its UUID. */
int setup_create(struct catalog *c, const char *actor, const char *name, const char *owner,
                 const struct setup_image *images, size_t count, struct uuid *ret, struct err *e) must_check;
struct setup {
    struct uuid uuid;
    char name[NAME_SIZE], owner[NAME_SIZE];
};
/* By NAME (as image_find), OWNER/NAME or UUID. */
int setup_find(struct catalog *c, const char *text, const char *owner, struct setup *ret,
               struct err *e) must_check;
int setup_by_uuid(struct catalog *c, const struct uuid *uuid, struct setup *ret, struct err *e) must_check;
/* All setups, by owner and name; *ret is malloc'ed. */
int setups_all(struct catalog *c, struct setup **ret, size_t *ret_count, struct err *e) must_check;
/* Its images in their order. */
int setup_images(struct catalog *c, const struct uuid *setup, struct setup_image ret[SETUP_IMAGES_MAX],
                 size_t *ret_count, struct err *e) must_check;
/* What setup_set changes; all zero: nothing. */
struct setup_change {
    const char *name, *owner;         /* NULL: stays */
    const struct setup_image *images; /* all of them, in their order; NULL: they stay */
    size_t count;
};
/* Boots that are queued get what it means then, those that were leased keep what they have. Refused as setup_create does,
 * but pegs that stay are not looked at: a damaged version may be what the change is about. A change to what it is already
 * is none, and no event. */
int setup_set(struct catalog *c, const char *actor, const struct uuid *setup,
              const struct setup_change *change, struct err *e) must_check;
/* 1: an update of it is queued, which will keep what is written to whatever images it has by then. 0: none; -1: failed. */
int setup_update_queued(struct catalog *c, const struct uuid *setup, struct err *e) must_check;
/* Its queued boots are cancelled: *ret_cancelled of them. ERR_STATE, naming the machines, where it is a machine's default
 * setup or a boot of it has not ended; with `force` those machines lose their default, and those boots go on without it. */
int setup_remove(struct catalog *c, const char *actor, const struct uuid *setup, bool force,
                 size_t *ret_cancelled, struct err *e) must_check;

/* ---- boots (boot-lifecycle) ----------------------------------------------------------------------------------- */
enum boot_state {
    BOOT_QUEUED,
    BOOT_LEASED,
    BOOT_RUNNING,
    BOOT_COMMITTING,
    BOOT_COMMITTED,
    BOOT_BRANCHED,
    BOOT_DISCARDED,
    BOOT_INTERRUPTED,
    BOOT_CANCELLED,
};
const char *boot_state_name(enum boot_state s); /* "queued", … as in the catalog and in JSON */

struct boot_image {
    struct uuid image;
    char name[NAME_SIZE];
    char type[12], compression[8];
    uint64_t version; /* the base */
    /* Its overlay is to be committed: boot's Update, or frozen Update; or type user, unless another machine has that in
     * use, for whose time it is read-only. */
    bool keep;
    uint64_t result;  /* the version made of it, 0: none */
    int64_t temporal; /* of struct temporal, whose overlay it goes on with; 0: none */
    /* The boot, and the place there, whose overlay of this image went over to this one; 0: none. */
    int64_t follows;
    size_t follows_position;
};

/* How a boot is to end, of what is to be kept of it. */
enum boot_ending {
    ENDING_NONE,    /* nobody has said yet */
    ENDING_AUTO,    /* keep it if all of it is clean, else interrupted */
    ENDING_AWAY,    /* as AUTO, of a machine without connection: until its next lease it may come back */
    ENDING_DONE,    /* the machine's own word: as AUTO, but a disk that cannot be judged is taken as clean */
    ENDING_ABANDON, /* as AUTO, but what is not clean is thrown away */
    ENDING_COMMIT,  /* an admin's word: clean or not */
    ENDING_DISCARD, /* throw all away */
};

struct boot {
    int64_t id;
    struct mac machine;
    char machine_name[NAME_SIZE];
    enum boot_state state;
    bool update, keep; /* keep: any of the images is */
    bool from_default; /* made from the machine's default setup */
    /* Since it was interrupted, or took something over: its images are frozen, its overlays are there. */
    bool resumed;
    struct uuid setup;
    char setup_name[NAME_SIZE];
    char token[TOKEN_SIZE]; /* the one it was leased by or would be now; "" when it has none */
    unsigned attempts;
    int64_t queued, leased, started, disconnected, ended;
    char address[IP_TEXT_SIZE]; /* the peer that leased it, "" for a Unix socket */
    enum boot_ending ending;
    char result[TEXT_SIZE]; /* why it ended */
    size_t nimages;
    struct boot_image images[SETUP_IMAGES_MAX];
};

/* Unmanaged machine, a setup with a damaged version: ERR_STATE. *ret_warning (may be NULL, at least TEXT_SIZE bytes): ""
 * or one line: a root without kernel, an update of a pegged setup, a second update of the same image queued. */
int boot_queue(struct catalog *c, const char *actor, const struct mac *machine, const struct uuid *setup,
               bool update, const char *comment, int64_t *ret_id, char *ret_warning,
               struct err *e) must_check;
struct boot_new {
    struct uuid setup;
    bool update;
    const char *comment; /* NULL: none */
};
/* The same for several machines at once, all or none. ret_ids: `count`, in the order of the machines. The warning is one for
 * all of them. */
int boots_queue(struct catalog *c, const char *actor, const struct mac *machines, size_t count,
                const struct boot_new *new, int64_t *ret_ids, char *ret_warning, struct err *e) must_check;
/* The first of its queue that somebody queued. ERR_NOT_FOUND. */
int boot_head(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e) must_check;
/* Only queued ones (ERR_STATE: "…; try: labboot boot end B"). One that was resumed is interrupted again: nothing is lost. */
int boot_cancel(struct catalog *c, const char *actor, int64_t id, struct err *e) must_check;
int boot_get(struct catalog *c, int64_t id, struct boot *ret, struct err *e) must_check;
/* The machine's leased or running boot. ERR_NOT_FOUND. */
int boot_running(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e) must_check;
/* Its running boot, or else the one that ended last. ERR_NOT_FOUND. */
int boot_last(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e) must_check;
/* All its images have versions that are there and not damaged: else ERR_STATE. */
int boot_check(struct catalog *c, const struct boot *b, struct err *e) must_check;
/* The head of its queue, or what its default setup gives (a row is made for it when there is none yet), `latest`
 * resolved now. ERR_NOT_FOUND: none. */
int boot_next(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e) must_check;

/* What a machine has written to an image of type temporal, kept between its boots. A boot with such an image makes it,
 * or goes on with it, upon the version that it was begun with, whatever its setup means by now. */
struct temporal {
    int64_t id;
    struct mac machine;
    struct uuid image;
    char owner[NAME_SIZE], name[NAME_SIZE]; /* of the image */
    uint64_t version;
    int64_t used; /* when a boot began or ceased to use it last */
};
/* ERR_NOT_FOUND: the machine keeps nothing of it. */
int temporal_find(struct catalog *c, const struct mac *machine, const struct uuid *image,
                  struct temporal *ret, struct err *e) must_check;
/* Those that no leased, running or committing boot has; *ret is malloc'ed. */
int temporals_idle(struct catalog *c, struct temporal **ret, size_t *ret_count, struct err *e) must_check;
/* An event says why. The folder is removed afterwards. A boot has it: ERR_STATE, naming the boot. */
int temporal_drop(struct catalog *c, const char *actor, int64_t id, const char *why,
                  struct err *e) must_check;
/* Whether a folder of this id is of one that was dropped. */
bool temporal_is_gone(struct catalog *c, int64_t id);

enum token_state {
    TOKEN_NEXT,       /* its boot is queued, and this is the token of the script now */
    TOKEN_SUPERSEDED, /* its boot is queued, within the 10 minutes */
    TOKEN_ACTIVE,     /* its boot is leased or running by this token */
    TOKEN_AWAY,       /* its boot ended without its machine, which may come back to it: boot_return */
    TOKEN_ENDED,      /* everything else: see the boot's state and result */
};
/* For a queued boot the images are those that the token stands for, for TOKEN_AWAY what the machine would go on with. Unknown:
 * ERR_NOT_FOUND. */
int boot_by_token(struct catalog *c, const char *token, struct boot *ret, enum token_state *ret_state,
                  struct err *e) must_check;

/* Leases, in one IMMEDIATE transaction: the boot of `token`, or without (NULL) the machine's next one. The versions
 * are frozen here. ERR_STATE when the machine has a leased or running boot (end it first), when the token's boot is no
 * longer queued or the token too old, when a version is damaged; ERR_NOT_FOUND when there is nothing to boot. */
int boot_lease(struct catalog *c, const struct mac *machine, const char *token, const char *address,
               struct boot *ret, struct err *e) must_check;

/* A user's data is not to wait for an admin: what an interrupted boot has written to an image of type user goes on in the
 * next boot of its machine that has that image, upon the same version. That is decided by the lease; then the files move;
 * then boot_handed_over: in between, the interrupted boot can neither end nor go on. What it has to keep besides waits on. */
struct takeover {
    int64_t boot; /* the interrupted one */
    size_t position;
    struct uuid image;
    uint64_t version; /* the base */
};
/* As boot_lease, with what may be taken over; of which it takes what its images have a use for. */
int boot_lease_taking(struct catalog *c, const struct mac *machine, const char *token, const char *address,
                      const struct takeover *ready, size_t count, struct boot *ret, struct err *e) must_check;
/* The files that the n-th image of b follows have moved. `over`: nothing else that the other boot has written is to be kept:
 * it is DISCARDED. Repeats are no-ops. */
int boot_handed_over(struct catalog *c, const struct boot *b, size_t n, bool over, struct err *e) must_check;

/* leased -> running; other states are left. Its machine's script is wanted (the waiting one, when it keeps). */
int boot_start(struct catalog *c, int64_t id, struct err *e) must_check;
/* leased -> queued, at the head, attempts + 1. */
int boot_requeue(struct catalog *c, int64_t id, const char *why, struct err *e) must_check;
/* When the last connection went; 0: one is there again. An event when that is news. */
int boot_set_disconnected(struct catalog *c, int64_t id, int64_t when, struct err *e) must_check;
/* Begins its end: leased|running|interrupted -> COMMITTING, or DISCARDED when nothing is to be kept or `ending` says so; that a
 * committing one is to be discarded can be said too. Who finishes it, perhaps after the death of who said so, finds `ending` in
 * the boot. `why` is the boot's result and stands in the event. ERR_STATE for any other edge. */
int boot_begin_end(struct catalog *c, const char *actor, int64_t id, enum boot_ending ending, const char *why,
                   struct err *e) must_check;
/* leased|running|committing|interrupted -> DISCARDED or INTERRUPTED. `why` as above. ERR_STATE for any other edge. */
int boot_end(struct catalog *c, const char *actor, int64_t id, enum boot_state to, const char *why,
             struct err *e) must_check;
/* committing -> INTERRUPTED, because there was no space: the server ends it as it was to end, once `wanted` bytes are free. Any
 * other edge that it takes before makes that void. */
int boot_want_space(struct catalog *c, int64_t id, uint64_t wanted, const char *why,
                    struct err *e) must_check;
/* Those that want no more than is free, oldest first; *ret is malloc'ed. None while a boot is committing, which takes of the
 * same space. */
int boots_with_space(struct catalog *c, uint64_t free_bytes, struct boot **ret, size_t *ret_count,
                     struct err *e) must_check;
/* Whether an interrupted boot can go on: ERR_STATE when it is in another state, its machine is not managed, or a version that
 * it stands on is damaged. */
int boot_resumable(struct catalog *c, int64_t id, struct boot *ret, struct err *e) must_check;
/* interrupted -> queued, at the head, with what it had. Its overlays can be written to already. */
int boot_resume(struct catalog *c, const char *actor, int64_t id, struct err *e) must_check;
/* Whether the machine of a boot (as boot_by_token gives it for TOKEN_AWAY) finds its disks as it left them: ERR_STATE says which
 * one not. */
int boot_returnable(struct catalog *c, const struct boot *b, struct err *e) must_check;
/* The machine is back with the token of a boot that ended without it (TOKEN_AWAY), and it runs again. Interrupted: the same boot,
 * whose overlays can be written to already. Committed or branched: another one, upon the versions that were made of it, which
 * takes over the token. ERR_STATE as boot_lease and boot_returnable. */
int boot_return(struct catalog *c, const struct mac *machine, const char *token, const char *address,
                struct boot *ret, struct err *e) must_check;
/* Its machine cannot come back to it, although it was away when this ended: `why` is added to the boot's result. */
int boot_no_return(struct catalog *c, int64_t id, const char *why, struct err *e) must_check;
/* committing -> committed, or branched when for any version its image's head was not its parent: one transaction that
 * makes all rows, moves heads, and ends the boot. *ret: the state. */
int boot_publish(struct catalog *c, int64_t id, const struct version_new *versions, size_t count,
                 enum boot_state *ret, struct err *e) must_check;
/* All boots in this state, oldest first; *ret is malloc'ed. */
int boots_in_state(struct catalog *c, enum boot_state state, struct boot **ret, size_t *ret_count,
                   struct err *e) must_check;

/* ---- the scripts that machines fetch ---------------------------------------------------------------------------- */
enum script_kind {
    SCRIPT_LOCAL, /* unmanaged, or nothing to boot: local disk, or as [boot] default-action says */
    SCRIPT_BOOT,  /* the next boot, with its token */
    SCRIPT_WAIT,  /* a boot with something to keep is leased, running or committing */
};
struct script_job {
    struct machine machine;
    enum script_kind kind;
    struct boot
        boot; /* WAIT: the running one; BOOT: the next, its token and versions as they must be rendered */
    size_t kernel_image;    /* BOOT: which of the boot's images kernel and initrd come from */
    bool own_kernel;        /* BOOT: the renderer found that the boot has one of its own */
    char kernel[TEXT_SIZE]; /* BOOT: the release that this version's row names, "" when it has none */
    uint64_t generation;    /* script_wanted when it was read */
};
/* The first machine, by MAC and behind `after` (NULL: of all), whose script is not the one wanted. In its transaction: a new token is made when boot or versions
 * differ from the newest one's (which is then superseded). ERR_NOT_FOUND: all scripts are right. */
int script_next(struct catalog *c, const struct mac *after, struct script_job *ret, struct err *e) must_check;
int script_done(struct catalog *c, const struct script_job *job, struct err *e) must_check;
/* An event: why a machine has no boot script. Repeats within a minute are one. */
int script_failed(struct catalog *c, const struct mac *machine, const char *why, struct err *e) must_check;
/* A MAC of no machine any more, whose scripts are to be removed. ERR_NOT_FOUND: none. */
int script_gone_next(struct catalog *c, struct mac *ret, struct err *e) must_check;
int script_gone_done(struct catalog *c, const struct mac *mac, struct err *e) must_check;
/* Wants all scripts again (a change of the configuration). */
int script_want_all(struct catalog *c, struct err *e) must_check;
/* Records that a machine fetched the waiting script of boot `id` from the address leased to it: a request "reset" for
 * the server. Repeats while one is pending are no-ops. An address that is another machine's, or a boot that is not
 * leased or running: ERR_STATE. */
int script_waiting_fetched(struct catalog *c, int64_t id, const struct in6_addr *address,
                           struct err *e) must_check;

/* ---- requests to the running server ----------------------------------------------------------------------------- */
enum request_kind { REQUEST_END, REQUEST_COMMIT, REQUEST_DISCARD, REQUEST_RESET, REQUEST_RELOAD };
/* Of a boot that is asked to end: by the first three. */
enum boot_ending request_ending(enum request_kind k);
struct request {
    int64_t id;
    enum request_kind kind;
    int64_t boot; /* 0: none */
    char actor[ACTOR_SIZE];
    bool answered;
    enum errc code; /* 0: done */
    char answer
        [1200]; /* an error's text; of REQUEST_RELOAD: the server's file and the keys that changed, a line each */
};
int request_add(struct catalog *c, const char *actor, enum request_kind kind, int64_t boot, int64_t *ret,
                struct err *e) must_check;
/* That the configuration file was changed: raises its generation, wants all scripts again, and asks the running server
 * where `server` says that there is one (*ret: the request; else 0). */
int reload_ask(struct catalog *c, const char *actor, bool server, int64_t *ret, struct err *e) must_check;
/* How often that was said: whoever keeps values of the file reads it again when this changes. */
int reload_generation(struct catalog *c, int64_t *ret, struct err *e) must_check;
/* The oldest that is neither taken nor answered, which is taken thereby. ERR_NOT_FOUND. */
int request_take(struct catalog *c, struct request *ret, struct err *e) must_check;
/* The same of one boot, but for discards: what a server that died in the boot's commit had been asked. */
int request_take_of_boot(struct catalog *c, int64_t boot, struct request *ret, struct err *e) must_check;
/* code 0: done. */
int request_answer(struct catalog *c, int64_t id, int code, const char *answer, struct err *e) must_check;
int request_get(struct catalog *c, int64_t id, struct request *ret, struct err *e) must_check;
/* At the server's start: those that a dead server had taken are answered where their boot has ended, and else
 * are to be taken again. */
int request_untake_all(struct catalog *c, struct err *e) must_check;

/* ---- what an admin should look at: doctor ---------------------------------------------------------------------- */
enum trouble {
    TROUBLE_DAMAGED,     /* versions */
    TROUBLE_INTERRUPTED, /* boots, of `machine` or (NULL) of any */
    TROUBLE_STRANGERS,   /* MACs with a live lease that are no machine's */
    TROUBLE_REQUESTS,    /* to the server, unanswered for ten seconds */
    TROUBLE_SCRIPTS,     /* machines whose script is not the one wanted; likewise */
};
int trouble_each(struct catalog *c, enum trouble which, const struct mac *machine,
                 void (*each)(void *ctx, const char *what, const char *why, const char *todo), void *ctx,
                 struct err *e) must_check;

/* ---- names, for the completion of command lines ---------------------------------------------------------------- */
enum name_kind {
    NAMES_MACHINES,     /* with all their MACs */
    NAMES_UNKNOWN_MACS, /* that were given an address, and are no machine's */
    NAMES_USERS,
    NAMES_IMAGES,   /* argument "owner": as OWNER/NAME; else so only where two have one name */
    NAMES_VERSIONS, /* argument: the image's UUID */
    NAMES_SETUPS,   /* as NAMES_IMAGES */
    NAMES_BOOTS,    /* ids of the newest ones; argument: a JSON array of their states */
};
int names_each(struct catalog *c, enum name_kind kind, const char *argument,
               void (*each)(void *ctx, const char *name), void *ctx, struct err *e) must_check;

/* ---- for who holds the catalog against the files ----------------------------------------------------------------- */
/* 1: there is a row, 0: not. *ret_newer: no boot ever had an id as high. */
int boot_is_known(struct catalog *c, int64_t id, bool *ret_newer, struct err *e) must_check;
int mac_is_known(struct catalog *c, const struct mac *mac, struct err *e) must_check; /* 1, 0 */
/* Machines whose scripts are not the ones wanted, by name; *ret is malloc'ed. */
int scripts_stale(struct catalog *c, struct machine **ret, size_t *ret_count, struct err *e) must_check;
/* A fault that SQLite finds in its file, or a row that refers to another one which is not there. */
typedef int catalog_fault(void *ctx, const char *text, bool reference, struct err *e);
/* Reads all of it. `found` may not use c, and ends it by -1. */
int catalog_check(struct catalog *c, catalog_fault *found, void *ctx, struct err *e) must_check;

/* ---- the event trail --------------------------------------------------------------------------------------------- */
/* For what is no change of a row. object: "machine 52:54:…". */
int event_add(struct catalog *c, const char *actor, const char *what, const char *object, const char *detail,
              struct err *e) must_check;

/* Boots that have ended, requests that were answered and events from before a time. Boots that a version came from are not
 * counted. */
struct history {
    size_t boots, requests, events;
};
int history_count(struct catalog *c, int64_t before, struct history *ret, struct err *e) must_check;
/* Removes at most so many of each, the oldest. *ret_more: there may be more of them. */
int history_remove(struct catalog *c, const char *actor, int64_t before, size_t most, bool *ret_more,
                   struct err *e) must_check;

/* A file that dnsmasq sent by TFTP, as an event of the machine that has the address (or of the address). The same file
 * to the same machine within a minute is one event: loops of retries would else fill the trail. */
int tftp_record(struct catalog *c, const struct in6_addr *address, const char *path,
                struct err *e) must_check;
/* An export that was refused to `peer` ("": the Unix socket), as an event of the machine whose it would be (NULL: none
 * known). Repeats within a minute are one event, and there are not more than ten a minute. */
int refusal_record(struct catalog *c, const struct mac *machine, const char *peer, const char *export_name,
                   const char *why, struct err *e) must_check;

/* Which events; zero and NULL: any. */
struct trail_filter {
    const struct mac *machine;
    const char *actor,
        *object;         /* whole words of them: "boot", "boot 12", "image alice/lab" with all its versions */
    const char *what;    /* as sh matches file names: "boot-*" */
    int64_t boot, after; /* after: only events with a higher id */
    int64_t since, until;
    int64_t limit; /* the newest so many; -1: all */
};
struct trail_event {
    int64_t id;
    const char *time; /* local, for people */
    const char *actor, *what, *object, *detail;
    const char *peer, *machine, *machine_name; /* NULL: none; machine_name: its MAC when it is gone */
    const char *json;
};
/* Oldest first. The texts are valid during the call; the callback may not use c. */
int trail_read(struct catalog *c, const struct trail_filter *f,
               int (*each)(void *ctx, const struct trail_event *ev, struct err *e), void *ctx,
               struct err *e) must_check;

#endif
