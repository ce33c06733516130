/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/access.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

void peer_from_sockaddr(const struct sockaddr *sa, struct peer *ret)
{
    struct peer p = {0};
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        p.address.s6_addr[10] = p.address.s6_addr[11] = 0xff;
        memcpy(p.address.s6_addr + 12, &in.sin_addr, 4);
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        p.address = in6.sin6_addr;
    } else {
        p.local = sa->sa_family == AF_UNIX;
    }
    if (!p.local)
        format_ip(&p.address, p.text);
    *ret = p;
}

const char *peer_name(const struct peer *p)
{
    return p->local ? "the Unix socket" : p->text;
}

bool peer_is_admin(const struct conf *conf, const struct peer *p)
{
    if (p->local)
        return true;
    for (size_t i = 0; i < conf->access.nadmin; i++)
        if (ip_range_contains(&conf->access.admin[i], &p->address))
            return true;
    return false;
}

int access_check_tls(const struct conf *conf, const struct peer *p, struct err *e)
{
    if (p->local || p->tls || conf->access.tls == CONF_TLS_OFF)
        return 0;
    return err_set(e, ERR_DENIED,
                   "%s came without TLS, which [access] tls requires; try: TLS in labboot.conf(5)", p->text);
}

/* Finds the MAC that `address` has in the file of dnsmasq's leases: lines "EXPIRY MAC IP NAME CLIENTID",
 * EXPIRY 0 for infinite. The hook records the same in the catalog; it may be a moment late, or have been
 * away. */
static bool mac_in_lease_file(const struct conf *conf, const char *address, struct mac *ret)
{
    cleanup(free) char *path = path_format("%s/dnsmasq.leases", conf->server.state_dir);
    cleanup(fclose) FILE *f = fopen(path, "re");
    char line[512];
    while (f && fgets(line, sizeof line, f)) {
        int64_t expires;
        char mac[32], ip[IP_TEXT_SIZE];
        struct err ignored;
        if (sscanf(line, "%" SCNd64 " %31s %45s", &expires, mac, ip) == 3 && strcmp(ip, address) == 0 &&
            (expires == 0 || expires > time(NULL)) && mac_parse(mac, strlen(mac), ret, &ignored) == 0)
            return true;
    }
    return false;
}

/* Finds the MAC in the kernel's neighbour table (IPv4): "IP HWTYPE FLAGS MAC MASK DEVICE", proc(5). */
static bool mac_in_neighbour_table(const char *address, struct mac *ret)
{
    cleanup(fclose) FILE *f = fopen("/proc/net/arp", "re");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        char ip[IP_TEXT_SIZE], mac[32];
        struct err ignored;
        if (sscanf(line, "%45s %*s %*s %31s", ip, mac) == 2 && strcmp(ip, address) == 0)
            return mac_parse(mac, strlen(mac), ret, &ignored) == 0;
    }
    return false;
}

int access_caller(const struct conf *conf, struct guard *g, const struct peer *p, struct machine *ret,
                  struct err *e)
{
    struct mac mac;
    if (p->local)
        return err_set(e, ERR_NOT_FOUND, "the Unix socket is no machine's address; try: the export MAC");
    if (conf->access.check != CONF_CHECK_ARP) {
        if (guarded(g, machine_by_address, &p->address, ret, e) == 0)
            return 0;
        if (e->code != ERR_NOT_FOUND)
            return -1;
        if (mac_in_lease_file(conf, p->text, &mac))
            return guarded(g, machine_by_mac, &mac, ret, e);
        return err_set(e, ERR_NOT_FOUND, "%s is leased to no machine", p->text);
    }
    if (!mac_in_neighbour_table(p->text, &mac))
        return err_set(e, ERR_NOT_FOUND, "%s is not in the neighbour table", p->text);
    return guarded(g, machine_by_mac, &mac, ret, e);
}

int access_check(const struct conf *conf, struct guard *g, const struct peer *p, const struct machine *m,
                 struct err *e)
{
    if (conf->access.check == CONF_CHECK_NONE || peer_is_admin(conf, p))
        return 0;
    struct machine caller;
    if (access_caller(conf, g, p, &caller, e) < 0) {
        if (e->code == ERR_NOT_FOUND)
            e->code = ERR_DENIED;
        return -1;
    }
    if (!mac_equal(&caller.mac, &m->mac))
        return err_set(e, ERR_DENIED, "%s is leased to machine %s, not to %s", p->text, caller.name, m->name);
    return 0;
}
