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
    put_text(s, ev->peer && *ev->peer ? ev->peer : NULL);
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

/* How often there were such events within the last minute: with this detail, and in all. */
static int count_lately(struct catalog *c, const struct event *ev, uint64_t *ret_same, uint64_t *ret_all,
                        struct err *e)
{
    char mac[MAC_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_EVENTS_RECENT);
    put_text(s, ev->machine ? mac_format(ev->machine, mac) : NULL);
    put_text(s, ev->what);
    put_text(s, ev->object);
    put_text(s, ev->detail);
    if (stmt_row(s, e) < 0)
        return -1;
    *ret_same = take_uint(s);
    *ret_all = take_uint(s);
    return 0;
}

/* Machines repeat what fails, without end: the same within a minute is one event, and of others there are at most
 * `most` a minute. */
static int write_unless_repeated(struct catalog *c, const struct event *ev, uint64_t most, struct err *e)
{
    uint64_t same = 0, all = 0;
    if (count_lately(c, ev, &same, &all, e) < 0)
        return -1;
    return same > 0 || all >= most ? 0 : event_write(c, ev, e);
}

int tftp_record(struct catalog *c, const struct in6_addr *address, const char *path, struct err *e)
{
    struct machine m;
    char object[OBJECT_SIZE], ip[IP_TEXT_SIZE];
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    strbuf_append_escaped(&shown, path, strnlen(path, TEXT_SIZE));
    struct event ev = {.actor = "dnsmasq",
                       .what = "tftp",
                       .object = object,
                       .detail = strbuf_text(&shown),
                       .peer = format_ip(address, ip)};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    if (machine_by_address(c, address, &m, e) == 0) {
        machine_object(&m.mac, object);
        ev.machine = &m.mac;
    } else if (e->code == ERR_NOT_FOUND) {
        snprintf(object, sizeof object, "address %s", ip);
    } else {
        return -1;
    }
    return write_unless_repeated(c, &ev, UINT64_MAX, e) < 0 ? -1 : tx_commit(&tx, e);
}

int script_failed(struct catalog *c, const struct mac *machine, const char *why, struct err *e)
{
    char object[OBJECT_SIZE];
    machine_object(machine, object);
    struct event ev = {
        .actor = "server", .what = "script-failed", .object = object, .detail = why, .machine = machine};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || write_unless_repeated(c, &ev, UINT64_MAX, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

#define REFUSALS_A_MINUTE 10

int refusal_record(struct catalog *c, const struct mac *machine, const char *peer, const char *export_name,
                   const char *why, struct err *e)
{
    char object[OBJECT_SIZE];
    cleanup(strbuf) struct strbuf detail = STRBUF_INIT;
    strbuf_append(&detail, "'");
    strbuf_append_escaped(&detail, export_name, strnlen(export_name, 80));
    strbuf_appendf(&detail, "': %s", why);
    struct event ev = {.actor = "server",
                       .what = "export-refused",
                       .object = object,
                       .detail = strbuf_text(&detail),
                       .peer = peer,
                       .machine = machine};
    if (machine)
        machine_object(machine, object);
    else
        snprintf(object, sizeof object, "%s%s", *peer ? "address " : "server", peer);
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || write_unless_repeated(c, &ev, REFUSALS_A_MINUTE, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}
