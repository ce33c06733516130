/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

#include "lib/base/strbuf.h"

int event_write(struct catalog *c, const struct event *ev, struct err *e)
{
    char mac[MAC_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_EVENT_ADD);
    put_text(s, ev->actor);
    put_text(s, ev->what);
    put_text(s, ev->object);
    put_text(s, ev->detail ? ev->detail : "");
    put_text(s, ev->machine ? mac_format(ev->machine, mac) : NULL);
    return stmt_run(s, e);
}

/* The machine that "machine 52:54:…" names. */
static bool machine_of(const char *object, struct mac *ret)
{
    struct err e;
    static const char prefix[] = "machine ";
    if (strncmp(object, prefix, strlen(prefix)) != 0)
        return false;
    const char *mac = object + strlen(prefix);
    return mac_parse(mac, strlen(mac), ret, &e) == 0;
}

int event_add(struct catalog *c, const char *actor, const char *what, const char *object, const char *detail,
              struct err *e)
{
    struct mac machine;
    struct event ev = {.actor = actor, .what = what, .object = object, .detail = detail};
    if (machine_of(object, &machine))
        ev.machine = &machine;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || event_write(c, &ev, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* 1: it is recorded already, 0: not. */
static int recorded_lately(struct catalog *c, const struct event *ev, struct err *e)
{
    char mac[MAC_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TFTP_RECENT);
    put_text(s, ev->machine ? mac_format(ev->machine, mac) : NULL);
    put_text(s, ev->object);
    put_text(s, ev->detail);
    return stmt_row(s, e);
}

int tftp_record(struct catalog *c, const struct in6_addr *address, const char *path, struct err *e)
{
    struct machine m;
    char object[OBJECT_SIZE], ip[IP_TEXT_SIZE];
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    strbuf_append_escaped(&shown, path, strnlen(path, TEXT_SIZE));
    struct event ev = {.actor = "dnsmasq", .what = "tftp", .object = object, .detail = strbuf_text(&shown)};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    if (machine_by_address(c, address, &m, e) == 0) {
        machine_object(&m.mac, object);
        ev.machine = &m.mac;
    } else if (e->code == ERR_NOT_FOUND) {
        snprintf(object, sizeof object, "address %s", format_ip(address, ip));
    } else {
        return -1;
    }
    int known = recorded_lately(c, &ev, e);
    if (known != 0)
        return known < 0 ? -1 : 0;
    return event_write(c, &ev, e) < 0 ? -1 : tx_commit(&tx, e);
}
