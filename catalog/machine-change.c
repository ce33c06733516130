/* SPDX-License-Identifier: BSD-3-Clause */
/* Machines that change or go, and the rows of a machine's own disk. */
#include "catalog/internal.h"

#include "lib/base/bytes.h"
#include "lib/base/strbuf.h"

#define DISK_MIB_DEFAULT 128

/* ---- its own disk -------------------------------------------------------------------------------------- */

static int check_size(uint64_t size, struct err *e)
{
    if (size % MIB == 0 && size <= VIRTUAL_SIZE_MAX)
        return 0;
    return err_set(e, ERR_USAGE, "a machine's disk is of whole MiB, at most %llu T",
                   (unsigned long long)(VIRTUAL_SIZE_MAX / TIB));
}

/* Named after the machine's first key: a machine may be named as no image may. */
int machine_disk_add(struct catalog *c, const struct machine_new *m, struct err *e)
{
    struct uuid image;
    char name[NAME_SIZE];
    const uint8_t *b = m->mac.b;
    uint64_t mib = m->disk_size ? m->disk_size / MIB : DISK_MIB_DEFAULT;
    snprintf(name, sizeof name, "machine-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
    uuid_make(&image);
    if (check_size(m->disk_size, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MACHINE_DISK_IMAGE_ADD);
    put_uuid(s, &image);
    put_text(s, name);
    put_text(s, m->disk_filesystem ? m->disk_filesystem : "ext4");
    if (stmt_run(s, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *disk = stmt_use(c, SQL_MACHINE_DISK_ADD);
    put_mac(disk, &m->mac);
    put_uuid(disk, &image);
    put_int(disk, (int64_t)mib);
    return stmt_run(disk, e);
}

int machine_disk_get(struct catalog *c, const struct mac *machine, struct machine_disk *ret, struct err *e)
{
    char mac[MAC_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MACHINE_DISK);
    put_mac(s, machine);
    int row = stmt_row(s, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no machine with the MAC %s; try: labboot machine list",
                       mac_format(machine, mac));
    if (row < 0)
        return -1;
    take_uuid(s, &ret->image);
    ret->size = take_uint(s) * MIB;
    take_text(s, ret->filesystem, sizeof ret->filesystem);
    return 0;
}

/* ---- set ----------------------------------------------------------------------------------------------- */

/* A machine that changes, in its transaction. */
struct changing {
    struct catalog *c;
    struct machine m;      /* its key as it is now */
    struct strbuf changes; /* for the event */
};

static inline void cleanup_changing(struct changing *x)
{
    strbuf_release(&x->changes);
}

static void note(struct changing *x, const char *what, const char *value)
{
    strbuf_appendf(&x->changes, "%s%s%s", x->changes.len ? ", " : "", what, value);
}

/* The parameters of the statement; second NULL: it has one. */
static int run_with_macs(struct catalog *c, enum statement which, const struct mac *first,
                         const struct mac *second, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_mac(s, first);
    if (second)
        put_mac(s, second);
    return stmt_run(s, e);
}

static int set_text(struct changing *x, enum statement which, const char *what, const char *value,
                    struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(x->c, which);
    put_text(s, value);
    put_mac(s, &x->m.mac);
    note(x, what, value);
    return stmt_run(s, e);
}

/* What its boot has, or is being published from, stays as it is. */
static int refuse_active(struct changing *x, const char *what, struct err *e)
{
    struct boot b;
    int row = boot_unended(x->c, &x->m.mac, &b, e);
    if (row <= 0 || b.state == BOOT_INTERRUPTED || b.state == BOOT_QUEUED)
        return row < 0 ? -1 : 0;
    return err_set(e, ERR_STATE, "machine '%s': %s while its boot %lld is %s; try: labboot boot end %lld",
                   x->m.name, what, (long long)b.id, boot_state_name(b.state), (long long)b.id);
}

static int change_name(struct changing *x, const struct machine_change *n, struct err *e)
{
    if (!n->name || strcmp(n->name, x->m.name) == 0)
        return 0;
    if (parse_host_name(n->name, e) < 0 || machine_refuse_name(x->c, n->name, e) < 0)
        return -1;
    return set_text(x, SQL_MACHINE_SET_NAME, "name ", n->name, e);
}

static int change_architecture(struct changing *x, const struct machine_change *n, struct err *e)
{
    if (!n->architecture || strcmp(n->architecture, x->m.architecture) == 0)
        return 0;
    return set_text(x, SQL_MACHINE_SET_ARCHITECTURE, "architecture ", n->architecture, e);
}

static int change_managed(struct changing *x, const struct machine_change *n, struct err *e)
{
    if (!n->managed || *n->managed == x->m.managed)
        return 0;
    if (!*n->managed && refuse_active(x, "it cannot be left alone", e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(x->c, SQL_MACHINE_SET_MANAGED);
    put_int(s, *n->managed);
    put_mac(s, &x->m.mac);
    note(x, *n->managed ? "managed" : "unmanaged", "");
    return stmt_run(s, e);
}

static int change_default(struct changing *x, const struct machine_change *n, struct err *e)
{
    struct setup setup = {.name = "none"};
    if (!n->change_default)
        return 0;
    if (n->default_setup && setup_by_uuid(x->c, n->default_setup, &setup, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(x->c, SQL_MACHINE_SET_DEFAULT);
    put_uuid(s, n->default_setup);
    put_mac(s, &x->m.mac);
    if (stmt_run(s, e) < 0)
        return -1;
    if (db_changes(x->c) > 0)
        note(x, "default setup ", setup.name);
    return 0;
}

static int add_macs(struct changing *x, const struct machine_change *n, struct err *e)
{
    char text[MAC_TEXT_SIZE];
    for (size_t i = 0; i < n->nadd; i++) {
        cleanup(stmt) struct stmt *s = stmt_use(x->c, SQL_MACHINE_MAC_LAST);
        put_mac(s, &x->m.mac);
        if (machine_refuse_mac(x->c, &n->add[i], e) < 0 || stmt_row(s, e) < 0 ||
            machine_insert_mac(x->c, &n->add[i], &x->m.mac, take_int(s) + 1, e) < 0)
            return -1;
        note(x, "with ", mac_format(&n->add[i], text));
    }
    return 0;
}

/* The next MAC becomes the machine's key; all rows that name the machine follow. */
static int change_key(struct changing *x, struct err *e)
{
    struct mac old = x->m.mac;
    cleanup(stmt) struct stmt *s = stmt_use(x->c, SQL_MACHINE_MAC_NEXT);
    put_mac(s, &old);
    int row = stmt_row(s, e);
    if (row == 0)
        return err_set(e, ERR_STATE, "machine '%s': it needs a MAC; try: --mac MAC beside --remove-mac",
                       x->m.name);
    if (row < 0 || refuse_active(x, "its first MAC cannot go", e) < 0)
        return -1;
    take_mac(s, &x->m.mac);
    stmt_done(steal(&s));
    return run_with_macs(x->c, SQL_MACHINE_SET_KEY, &x->m.mac, &old, e);
}

static int remove_mac(struct changing *x, const struct mac *mac, struct err *e)
{
    char text[MAC_TEXT_SIZE];
    bool key = mac_equal(mac, &x->m.mac);
    if ((key && change_key(x, e) < 0) || run_with_macs(x->c, SQL_MACHINE_MAC_REMOVE, &x->m.mac, mac, e) < 0)
        return -1;
    if (db_changes(x->c) == 0)
        return err_set(e, ERR_NOT_FOUND, "machine '%s' has no MAC %s", x->m.name, mac_format(mac, text));
    note(x, "without ", mac_format(mac, text));
    return key ? run_with_macs(x->c, SQL_MACHINE_MAC_FIRST, &x->m.mac, NULL, e) : 0;
}

static int change_macs(struct changing *x, const struct machine_change *n, struct err *e)
{
    if (add_macs(x, n, e) < 0)
        return -1;
    for (size_t i = 0; i < n->nremove; i++)
        if (remove_mac(x, &n->remove[i], e) < 0)
            return -1;
    return 0;
}

static int grow_disk(struct changing *x, uint64_t size, struct err *e)
{
    char text[SIZE_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(x->c, SQL_MACHINE_DISK_SIZE);
    put_int(s, (int64_t)(size / MIB));
    put_mac(s, &x->m.mac);
    note(x, "disk of ", format_size(size, text));
    return stmt_run(s, e);
}

static int change_disk(struct changing *x, const struct machine_change *n, struct err *e)
{
    struct machine_disk disk;
    char text[SIZE_TEXT_SIZE];
    if (machine_disk_get(x->c, &x->m.mac, &disk, e) < 0)
        return -1;
    bool grows = n->disk_size && n->disk_size != disk.size;
    bool other = n->disk_filesystem && strcmp(n->disk_filesystem, disk.filesystem) != 0;
    if (!grows && !other)
        return 0;
    if (check_size(n->disk_size, e) < 0 || refuse_active(x, "its disk cannot change", e) < 0)
        return -1;
    if (grows && n->disk_size < disk.size)
        return err_set(e, ERR_STATE, "machine '%s': its disk has %s, and can only grow", x->m.name,
                       format_size(disk.size, text));
    /* One that is away may have it mounted. */
    if (boot_leave_behind(x->c, &x->m.mac, e) < 0 || (grows && grow_disk(x, n->disk_size, e) < 0))
        return -1;
    return other ? set_text(x, SQL_MACHINE_DISK_FILESYSTEM, "disk with ", n->disk_filesystem, e) : 0;
}

static int drop_temporals(struct changing *x, const char *actor, const struct machine_change *n,
                          struct err *e)
{
    for (size_t i = 0; i < n->ndrop; i++)
        if (temporal_drop(x->c, actor, n->drop[i], "asked for", e) < 0)
            return -1;
    return 0;
}

static int write_changes(struct changing *x, const char *actor, struct err *e)
{
    char object[OBJECT_SIZE];
    machine_object(&x->m.mac, object);
    struct event ev = {.actor = actor,
                       .what = "machine-changed",
                       .object = object,
                       .detail = strbuf_text(&x->changes),
                       .machine = &x->m.mac};
    if (x->changes.failed)
        return err_sys(e, ENOMEM, "event");
    return event_write(x->c, &ev, e);
}

int machine_set(struct catalog *c, const char *actor, const struct mac *machine,
                const struct machine_change *change, struct err *e)
{
    static int (*const steps[])(struct changing *, const struct machine_change *, struct err *) = {
        change_name, change_architecture, change_managed, change_default, change_disk, change_macs};
    cleanup(changing) struct changing x = {.c = c, .changes = STRBUF_INIT};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || machine_by_mac(c, machine, &x.m, e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        if (steps[i](&x, change, e) < 0)
            return -1;
    if (drop_temporals(&x, actor, change, e) < 0 || (x.changes.len > 0 && write_changes(&x, actor, e) < 0))
        return -1;
    return tx_commit(&tx, e);
}

/* ---- remove -------------------------------------------------------------------------------------------- */

/* All boots must have ended: interrupted ones are given up when `force` says so. */
static int end_interrupted(struct catalog *c, const char *actor, const struct machine *m, bool force,
                           struct err *e)
{
    struct boot b;
    int row;
    while ((row = boot_unended(c, &m->mac, &b, e)) > 0) {
        long long id = b.id;
        if (b.state != BOOT_INTERRUPTED)
            return err_set(e, ERR_STATE, "boot %lld of machine '%s' is %s; try: labboot boot %s %lld", id,
                           m->name, boot_state_name(b.state), b.state == BOOT_QUEUED ? "cancel" : "end", id);
        if (!force)
            return err_set(
                e, ERR_STATE,
                "boot %lld of machine '%s' is interrupted, and its disks kept: %s; try: labboot boot "
                "end %lld --commit, or --force",
                id, m->name, b.result, id);
        if (boot_move(c, actor, &b, BOOT_DISCARDED, "its machine was removed", e) < 0)
            return -1;
    }
    return row;
}

/* *ret is malloc'ed. */
static int list_ids(struct catalog *c, enum statement which, const struct mac *machine, int64_t **ret,
                    size_t *ret_count, struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_mac(s, machine);
    while ((row = stmt_row(s, e)) > 0) {
        int64_t id = take_int(s);
        if (list_append(&list, &count, &id, sizeof id, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

static int remove_rows(struct catalog *c, const char *actor, const struct machine *m, struct err *e)
{
    char object[OBJECT_SIZE];
    machine_object(&m->mac, object);
    struct event ev = {
        .actor = actor, .what = "machine-removed", .object = object, .detail = m->name, .machine = &m->mac};
    if (run_with_macs(c, SQL_MACHINE_LEASES_REMOVE, &m->mac, NULL, e) < 0 ||
        run_with_macs(c, SQL_MACHINE_REMOVE, &m->mac, NULL, e) < 0)
        return -1;
    return event_write(c, &ev, e);
}

int machine_remove(struct catalog *c, const char *actor, const struct mac *machine, bool force,
                   struct machine_remains *ret, struct err *e)
{
    struct machine m;
    struct machine_disk disk;
    cleanup(free) int64_t *boots = NULL, *temporals = NULL;
    size_t nboots, ntemporals;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || machine_by_mac(c, machine, &m, e) < 0 ||
        machine_disk_get(c, &m.mac, &disk, e) < 0 || end_interrupted(c, actor, &m, force, e) < 0 ||
        list_ids(c, SQL_MACHINE_BOOTS, &m.mac, &boots, &nboots, e) < 0 ||
        list_ids(c, SQL_MACHINE_TEMPORALS, &m.mac, &temporals, &ntemporals, e) < 0 ||
        remove_rows(c, actor, &m, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = (struct machine_remains){.image = disk.image,
                                    .boots = steal(&boots),
                                    .temporals = steal(&temporals),
                                    .nboots = nboots,
                                    .ntemporals = ntemporals};
    return 0;
}
