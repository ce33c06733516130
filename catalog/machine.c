/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

#include "lib/base/strbuf.h"

void machine_take(struct stmt *s, struct machine *ret)
{
    take_mac(s, &ret->mac);
    take_text(s, ret->name, sizeof ret->name);
    take_text(s, ret->architecture, sizeof ret->architecture);
    ret->managed = take_bool(s);
}

void machine_object(const struct mac *m, char ret[OBJECT_SIZE])
{
    char mac[MAC_TEXT_SIZE];
    snprintf(ret, OBJECT_SIZE, "machine %s", mac_format(m, mac));
}

/* 1: found, 0: not. */
static int find_by_text(struct catalog *c, enum statement which, const char *text, struct machine *ret,
                        struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_text(s, text);
    int row = stmt_row(s, e);
    if (row > 0)
        machine_take(s, ret);
    return row;
}

int machine_by_mac(struct catalog *c, const struct mac *any, struct machine *ret, struct err *e)
{
    char mac[MAC_TEXT_SIZE];
    int row = find_by_text(c, SQL_MACHINE_BY_MAC, mac_format(any, mac), ret, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no machine with the MAC %s; try: labboot machine list",
                       mac);
    return row < 0 ? -1 : 0;
}

int machine_find(struct catalog *c, const char *text, struct machine *ret, struct err *e)
{
    struct mac mac;
    struct err not_mac;
    bool is_mac = mac_parse(text, strlen(text), &mac, &not_mac) == 0;
    if (is_mac && machine_by_mac(c, &mac, ret, e) == 0)
        return 0;
    /* Twelve hexadecimal digits are a name as well. */
    if (is_mac && e->code != ERR_NOT_FOUND)
        return -1;
    if (parse_host_name(text, &not_mac) < 0)
        return is_mac ? -1 : err_set(e, ERR_USAGE, "%s", not_mac.msg);
    int row = find_by_text(c, SQL_MACHINE_BY_NAME, text, ret, e);
    if (row == 0 && !is_mac)
        return err_set(e, ERR_NOT_FOUND, "there is no machine '%s'; try: labboot machine list", text);
    return row > 0 ? 0 : -1;
}

int machines_of(struct catalog *c, enum statement which, struct machine **ret, size_t *ret_count,
                struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    struct machine m;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    while ((row = stmt_row(s, e)) > 0) {
        machine_take(s, &m);
        if (list_append(&list, &count, &m, sizeof m, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

int machines_all(struct catalog *c, struct machine **ret, size_t *ret_count, struct err *e)
{
    return machines_of(c, SQL_MACHINES, ret, ret_count, e);
}

int machine_default(struct catalog *c, const struct mac *machine, struct uuid *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MACHINE_DEFAULT);
    put_mac(s, machine);
    int row = stmt_row(s, e);
    if (row < 0)
        return -1;
    *ret = (struct uuid){{0}};
    if (row > 0)
        take_uuid(s, ret);
    return 0;
}

int machine_macs(struct catalog *c, const struct mac *machine, struct mac **ret, size_t *ret_count,
                 struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    struct mac m;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MACHINE_MACS);
    put_mac(s, machine);
    while ((row = stmt_row(s, e)) > 0) {
        take_mac(s, &m);
        if (list_append(&list, &count, &m, sizeof m, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    if (count == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no such machine");
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

int machine_refuse_name(struct catalog *c, const char *name, struct err *e)
{
    struct machine other;
    char mac[MAC_TEXT_SIZE];
    int row = find_by_text(c, SQL_MACHINE_BY_NAME, name, &other, e);
    if (row > 0)
        return err_set(e, ERR_STATE, "a machine '%s' exists already: %s", name, mac_format(&other.mac, mac));
    return row;
}

int machine_refuse_mac(struct catalog *c, const struct mac *mac, struct err *e)
{
    struct machine other;
    char text[MAC_TEXT_SIZE];
    int row = find_by_text(c, SQL_MACHINE_BY_MAC, mac_format(mac, text), &other, e);
    if (row > 0)
        return err_set(e, ERR_STATE, "the MAC %s is machine '%s' already", text, other.name);
    return row;
}

static int refuse_existing(struct catalog *c, const char *name, const struct machine_new *m, struct err *e)
{
    int r = machine_refuse_name(c, name, e);
    for (size_t i = 0; r == 0 && i <= m->nmore; i++)
        r = machine_refuse_mac(c, i ? &m->more[i - 1] : &m->mac, e);
    return r;
}

int machine_insert_mac(struct catalog *c, const struct mac *mac, const struct mac *machine, int64_t position,
                       struct err *e)
{
    char text[MAC_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MACHINE_MAC_ADD);
    put_mac(s, mac);
    put_mac(s, machine);
    put_int(s, position);
    if (stmt_run(s, e) < 0)
        return err_wrap(e, "MAC %s", mac_format(mac, text));
    return 0;
}

static int insert(struct catalog *c, const struct machine_new *m, const char *name, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MACHINE_ADD);
    put_mac(s, &m->mac);
    put_text(s, name);
    put_text(s, m->architecture ? m->architecture : "x86_64");
    put_int(s, m->managed);
    put_uuid(s, m->default_setup);
    if (stmt_run(s, e) < 0)
        return -1;
    for (size_t i = 0; i <= m->nmore; i++) {
        if (machine_insert_mac(c, i ? &m->more[i - 1] : &m->mac, &m->mac, (int64_t)i, e) < 0)
            return -1;
    }
    return machine_disk_add(c, m, e);
}

static int check_setup(struct catalog *c, const struct uuid *setup, struct err *e)
{
    struct setup found;
    return setup ? setup_by_uuid(c, setup, &found, e) : 0;
}

int machine_add(struct catalog *c, const char *actor, const struct machine_new *m, struct err *e)
{
    char name[NAME_SIZE], object[OBJECT_SIZE];
    const uint8_t *b = m->mac.b;
    snprintf(name, sizeof name, "machine-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
    const char *chosen = m->name ? m->name : name;
    if (parse_host_name(chosen, e) < 0)
        return -1;
    machine_object(&m->mac, object);
    struct event ev = {
        .actor = actor, .what = "machine-added", .object = object, .detail = chosen, .machine = &m->mac};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || refuse_existing(c, chosen, m, e) < 0 ||
        check_setup(c, m->default_setup, e) < 0 || insert(c, m, chosen, e) < 0 || event_write(c, &ev, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}
