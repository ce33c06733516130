/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

#include "lib/base/bytes.h"

#include <arpa/inet.h>

static void put_address(struct stmt *s, const struct in6_addr *a)
{
    put_blob(s, a, sizeof *a);
}

/* ---- assignment ---------------------------------------------------------------------------------------- */

static uint32_t v4_of(const struct in6_addr *a)
{
    uint32_t n;
    memcpy(&n, &a->s6_addr[12], sizeof n);
    return ntohl(n);
}

static struct in6_addr v4_mapped(uint32_t n)
{
    struct in6_addr a = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    n = htonl(n);
    memcpy(&a.s6_addr[12], &n, sizeof n);
    return a;
}

/* The next address of [*at, last] that is nobody's and leased to nobody else than `mac`. 64 bits: no wrap at
 * .255. */
static int next_free(struct catalog *c, const struct mac *mac, uint64_t *at, uint32_t last, struct err *e)
{
    for (; *at <= last; ++*at) {
        struct in6_addr a = v4_mapped((uint32_t)*at);
        cleanup(stmt) struct stmt *s = stmt_use(c, SQL_ADDRESS_TAKEN);
        put_address(s, &a);
        put_mac(s, mac);
        int taken = stmt_row(s, e);
        if (taken <= 0)
            return taken;
    }
    return err_set(e, ERR_STATE,
                   "the address range is too small for all machines; try: a larger [network] range");
}

static int assign(struct catalog *c, const struct mac *mac, const struct in6_addr *address, struct err *e)
{
    char object[OBJECT_SIZE], text[IP_TEXT_SIZE];
    machine_object(mac, object);
    struct event ev = {.actor = "server",
                       .what = "address-assigned",
                       .object = object,
                       .detail = format_ip(address, text),
                       .machine = mac};
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_ADDRESS_ADD);
    put_mac(s, mac);
    put_address(s, address);
    return stmt_run(s, e) < 0 || event_write(c, &ev, e) < 0 ? -1 : 0;
}

/* 1: *ret is a MAC of a managed machine without an address, the first behind row *at; 0: there is none. */
static int next_without(struct catalog *c, int64_t *at, struct mac *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_ADDRESS_MISSING);
    put_int(s, *at);
    int row = stmt_row(s, e);
    if (row > 0) {
        take_mac(s, ret);
        *at = take_int(s);
    }
    return row;
}

static int assign_missing(struct catalog *c, uint32_t first, uint32_t last, struct err *e)
{
    struct mac mac;
    int64_t row = 0;
    int found;
    /* Goes on from where the last one got its own: what is before is taken. */
    uint64_t at = first;
    while ((found = next_without(c, &row, &mac, e)) > 0) {
        if (next_free(c, &mac, &at, last, e) < 0)
            return -1;
        struct in6_addr address = v4_mapped((uint32_t)at);
        if (assign(c, &mac, &address, e) < 0)
            return -1;
    }
    return found;
}

int address_assign_all(struct catalog *c, const struct in6_addr *first, const struct in6_addr *last,
                       struct err *e)
{
    if (!IN6_IS_ADDR_V4MAPPED(first) || !IN6_IS_ADDR_V4MAPPED(last) || v4_of(first) > v4_of(last))
        return err_set(e, ERR_USAGE, "an address range goes from a lower IPv4 address to a higher one");
    struct mac mac;
    int64_t row = 0;
    /* Looked at before the transaction, which would wait for other writers: mostly there is nothing to do. */
    int found = next_without(c, &row, &mac, e);
    if (found <= 0)
        return found;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || assign_missing(c, v4_of(first), v4_of(last), e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int address_each(struct catalog *c,
                 int (*each)(void *ctx, const struct mac *mac, const struct in6_addr *address,
                             const char *machine_name, struct err *e),
                 void *ctx, struct err *e)
{
    struct mac mac;
    struct in6_addr address;
    char name[NAME_SIZE];
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_ADDRESSES);
    while ((row = stmt_row(s, e)) > 0) {
        take_mac(s, &mac);
        take_address(s, &address);
        take_text(s, name, sizeof name);
        if (each(ctx, &mac, &address, name, e) < 0)
            return -1;
    }
    return row;
}

int address_of_mac(struct catalog *c, const struct mac *mac, struct in6_addr *ret, struct err *e)
{
    char text[MAC_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_ADDRESS_OF_MAC);
    put_mac(s, mac);
    int row = stmt_row(s, e);
    if (row > 0)
        take_address(s, ret);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "the MAC %s has no address", mac_format(mac, text));
    return row < 0 ? -1 : 0;
}

int machine_by_address(struct catalog *c, const struct in6_addr *address, struct machine *ret, struct err *e)
{
    char text[IP_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MACHINE_BY_ADDRESS);
    put_address(s, address);
    int row = stmt_row(s, e);
    if (row > 0)
        machine_take(s, ret);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "the address %s is no machine's", format_ip(address, text));
    return row < 0 ? -1 : 0;
}

/* ---- leases -------------------------------------------------------------------------------------------- */

static int lease_event(struct catalog *c, const char *what, const struct mac *mac,
                       const struct in6_addr *address, struct err *e)
{
    char object[OBJECT_SIZE], text[IP_TEXT_SIZE];
    struct machine m;
    struct event ev = {.actor = "dhcp", .what = what, .object = object, .detail = format_ip(address, text)};
    machine_object(mac, object);
    if (machine_by_mac(c, mac, &m, e) == 0)
        ev.machine = &m.mac;
    else if (e->code != ERR_NOT_FOUND)
        return -1;
    return event_write(c, &ev, e);
}

/* 1: this MAC holds this address now. */
static int lease_is_live(struct catalog *c, const struct mac *mac, const struct in6_addr *address,
                         struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_LEASE_LIVE);
    put_mac(s, mac);
    put_address(s, address);
    return stmt_row(s, e);
}

int lease_record(struct catalog *c, const struct mac *mac, const struct in6_addr *address, int64_t expires,
                 struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    int known = lease_is_live(c, mac, address, e);
    if (known < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_LEASE_SET);
    put_mac(s, mac);
    put_address(s, address);
    put_int(s, expires);
    if (stmt_run(s, e) < 0 || (!known && lease_event(c, "lease-given", mac, address, e) < 0))
        return -1;
    return tx_commit(&tx, e);
}

int lease_remove(struct catalog *c, const struct mac *mac, const struct in6_addr *address, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_LEASE_REMOVE);
    put_mac(s, mac);
    put_address(s, address);
    if (stmt_run(s, e) < 0 || (db_changes(c) > 0 && lease_event(c, "lease-ended", mac, address, e) < 0))
        return -1;
    return tx_commit(&tx, e);
}
