/* SPDX-License-Identifier: BSD-3-Clause */
/* What is wrong with the server and its host. */
#include "cli/doctor.h"
#include "cli/tls.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "tftp-glue/bootplan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>

#define CONF(d) (&(d)->cli->conf)

/* ---- folders ----------------------------------------------------------------------------------------------------- */

/* `most`: the bits of the mode that it may have, of which its owner's are needed. */
static void look_at_folder(struct doctor *d, const char *path, mode_t most, uid_t owner)
{
    struct stat st;
    cleanup(free) char *todo = NULL;
    if (stat(path, &st) < 0) {
        doctor_found(d, path, strerror(errno), "labboot init");
    } else if (!S_ISDIR(st.st_mode)) {
        doctor_found(d, path, "it is no folder", "move it away, then labboot init");
    } else if (st.st_uid != owner) {
        todo = path_format("chown -R %u %s", (unsigned)owner, path);
        doctor_found(d, path, "it does not belong to who owns state-dir, as whom the server works", todo);
    } else if ((st.st_mode & 0777 & ~most) || (most & 0755 & ~st.st_mode)) {
        cleanup(free) char *why =
            path_format("its mode is %04o, not %04o", (unsigned)st.st_mode & 07777, (unsigned)most);
        todo = path_format("chmod %04o %s", (unsigned)most, path);
        doctor_found(d, path, why, todo);
    }
}

static int folders(struct doctor *d, struct err *e)
{
    const struct conf *conf = CONF(d);
    struct stat st;
    uid_t owner = stat(conf->server.state_dir, &st) == 0 ? st.st_uid : geteuid();
    (void)e;
    for (size_t i = 0; i < INIT_FOLDERS; i++) {
        const struct init_folder f = init_folder(conf, i);
        look_at_folder(d, f.path, f.mode, owner);
    }
    return 0;
}

static void look_at_space(struct doctor *d, const char *path)
{
    struct statvfs fs;
    char free_text[SIZE_TEXT_SIZE], reserve[SIZE_TEXT_SIZE];
    if (statvfs(path, &fs) < 0)
        return; /* `folders` has told */
    uint64_t bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (bytes > CONF(d)->store.reserve)
        return;
    cleanup(free) char *why =
        path_format("%s are free, and [store] reserve keeps %s: machines cannot write",
                    format_size(bytes, free_text), format_size(CONF(d)->store.reserve, reserve));
    doctor_found(d, path, why, "labboot gc, or labboot image keep");
}

static int space(struct doctor *d, struct err *e)
{
    struct stat images, overlays;
    const struct conf *conf = CONF(d);
    (void)e;
    look_at_space(d, conf->server.images_dir);
    if (stat(conf->server.images_dir, &images) == 0 && stat(conf->server.overlays_dir, &overlays) == 0 &&
        images.st_dev != overlays.st_dev)
        look_at_space(d, conf->server.overlays_dir);
    return 0;
}

/* ---- the NBD server ------------------------------------------------------------------------------------------------ */
static int server(struct doctor *d, struct err *e)
{
    (void)e;
    if (!cli_server_runs(CONF(d)))
        doctor_found(d, "the NBD server", "it does not run: nobody holds server.lock in run-dir",
                     "systemctl start labboot.socket, or labboot serve");
    return 0;
}

#define ANSWER_MS 3000

/* NULL: an NBD server greets there; else why not. */
static const char *greeting(const struct sockaddr *sa, socklen_t len)
{
    char hello[8];
    size_t got = 0;
    cleanup(close) int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval limit = {.tv_sec = ANSWER_MS / 1000};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        connect(fd, sa, len) < 0)
        return strerror(errno);
    while (got < sizeof hello) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n = poll(&p, 1, ANSWER_MS) == 1 ? recv(fd, hello + got, sizeof hello - got, 0) : 0;
        if (n <= 0)
            return "nothing is said there, within three seconds";
        got += (size_t)n;
    }
    return memcmp(hello, "NBDMAGIC", sizeof hello) == 0 ? NULL : "no NBD server answers there";
}

static void look_at_socket(struct doctor *d, const char *name, const struct sockaddr *sa, socklen_t len)
{
    const char *why = greeting(sa, len);
    if (why)
        doctor_found(d, name, why, "the server's log; labboot config show, for the address that is meant");
}

/* Of all addresses the one of this host. */
static void look_at_address(struct doctor *d, const char *text)
{
    struct in6_addr a;
    struct err e;
    uint16_t port = htons((uint16_t)CONF(d)->server.port);
    cleanup(free) char *name = path_format("%s, port %" PRIu64, text, CONF(d)->server.port);
    if (parse_ip(text, &a, &e) < 0)
        return;
    if (!IN6_IS_ADDR_V4MAPPED(&a)) {
        struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = a};
        if (IN6_IS_ADDR_UNSPECIFIED(&a))
            sa.sin6_addr = in6addr_loopback;
        look_at_socket(d, name, (const struct sockaddr *)&sa, sizeof sa);
        return;
    }
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = port};
    memcpy(&sa.sin_addr, &a.s6_addr[12], sizeof sa.sin_addr);
    if (sa.sin_addr.s_addr == INADDR_ANY)
        sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    look_at_socket(d, name, (const struct sockaddr *)&sa, sizeof sa);
}

static int sockets(struct doctor *d, struct err *e)
{
    const struct conf *conf = CONF(d);
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    (void)e;
    if (!cli_server_runs(conf))
        return 0; /* `server` has told */
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", conf->server.unix_socket);
    look_at_socket(d, conf->server.unix_socket, (const struct sockaddr *)&sun, sizeof sun);
    for (size_t i = 0; i < CONF_LIST_MAX && conf->server.listen[i]; i++)
        look_at_address(d, conf->server.listen[i]);
    return 0;
}

/* ---- DHCP, TFTP and the network ------------------------------------------------------------------------------------ */
static int dhcp(struct doctor *d, struct err *e)
{
    (void)e;
    if (!cli_dhcp_runs(CONF(d)))
        doctor_found(d, "DHCP and TFTP", "no labboot dhcp runs: machines get neither address nor boot script",
                     "systemctl start labboot-dhcp, or labboot dhcp");
    return 0;
}

/* Whether any interface of this host has the address. */
static bool is_local(const struct in6_addr *address)
{
    struct ifaddrs *all;
    bool found = false;
    if (getifaddrs(&all) < 0)
        return true; /* nothing is known */
    for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        struct sockaddr_in in;
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        memcpy(&in, i->ifa_addr, sizeof in);
        found = memcmp(&in.sin_addr, &address->s6_addr[12], sizeof in.sin_addr) == 0;
    }
    freeifaddrs(all);
    return found;
}

static int interface(struct doctor *d, struct err *e)
{
    const char *name = CONF(d)->network.interface;
    struct in6_addr address;
    struct err why;
    char ip[IP_TEXT_SIZE];
    (void)e;
    if (!name || !*name)
        doctor_found(d, "[network] interface", "it is not set: no machine can boot from the network here",
                     "set it to the interface that the machines are on");
    else if (if_nametoindex(name) == 0)
        doctor_found(d, name, "there is no such network interface", "ip link; then [network] interface");
    else if (bootplan_server(CONF(d), &address, &why) < 0)
        doctor_found(d, name, why.msg, "ip address add, or [network] next-server");
    else if (!is_local(&address))
        doctor_found(d, format_ip(&address, ip),
                     "machines are sent to this address, which this host does not have",
                     "[network] next-server");
    return 0;
}

/* dnsmasq serves them as a user of its own. */
static void look_at_loader(struct doctor *d, const char *name)
{
    struct stat st;
    cleanup(free) char *path = path_format("%s/%s", CONF(d)->network.tftp_root, name);
    if (stat(path, &st) < 0)
        doctor_found(d, path, strerror(errno), "apt-get install ipxe, then labboot init");
    else if (st.st_size == 0 || !(st.st_mode & S_IROTH))
        doctor_found(d, path, st.st_size ? "dnsmasq may not read it" : "it is empty",
                     "labboot init, after its removal");
}

static int loaders(struct doctor *d, struct err *e)
{
    (void)e;
    look_at_loader(d, CONF(d)->boot.loader_bios);
    look_at_loader(d, CONF(d)->boot.loader_efi64);
    look_at_loader(d, "boot.ipxe");
    look_at_loader(d, "boot/default.ipxe");
    return 0;
}

/* By the rights of the user labboot, where that exists: the command has them by now. */
static int tls(struct doctor *d, struct err *e)
{
    struct err why;
    (void)e;
    if (tls_check(CONF(d), &why) < 0)
        doctor_found_error(d, "TLS", why.msg, "TLS in labboot.conf(5)");
    return 0;
}

#define SOON_DAYS 14

static int tls_expiry(struct doctor *d, struct err *e)
{
    struct err told;
    (void)e;
    if (tls_check(CONF(d), &told) < 0)
        return 0; /* `tls` has told */
    cleanup(free) char *path = tls_ending(CONF(d), SOON_DAYS);
    if (path)
        doctor_found(d, path, "it has ended, or will within two weeks: clients take it no more then",
                     "a new certificate, and a restart of labboot serve");
    return 0;
}

/* ---- the catalog --------------------------------------------------------------------------------------------------- */
static int scripts(struct doctor *d, struct err *e)
{
    return doctor_troubles(d, TROUBLE_SCRIPTS, e);
}

static int damaged(struct doctor *d, struct err *e)
{
    return doctor_troubles(d, TROUBLE_DAMAGED, e);
}

static int interrupted(struct doctor *d, struct err *e)
{
    return doctor_troubles(d, TROUBLE_INTERRUPTED, e);
}

static int strangers(struct doctor *d, struct err *e)
{
    return doctor_troubles(d, TROUBLE_STRANGERS, e);
}

static int requests(struct doctor *d, struct err *e)
{
    return doctor_troubles(d, TROUBLE_REQUESTS, e);
}

const struct check doctor_host_checks[] = {
    {"folder", SEVERITY_ERROR, false, folders},
    {"space", SEVERITY_ERROR, false, space},
    {"server-stopped", SEVERITY_ERROR, false, server},
    {"socket-silent", SEVERITY_ERROR, false, sockets},
    {"dhcp-stopped", SEVERITY_ERROR, false, dhcp},
    {"interface", SEVERITY_ERROR, false, interface},
    {"loader", SEVERITY_ERROR, false, loaders},
    {"tls", SEVERITY_ERROR, false, tls},
    {"tls-expiring", SEVERITY_WARNING, false, tls_expiry},
    {"script-stale", SEVERITY_WARNING, true, scripts},
    {"version-damaged", SEVERITY_ERROR, true, damaged},
    {"boot-interrupted", SEVERITY_WARNING, true, interrupted},
    {"stranger", SEVERITY_WARNING, true, strangers},
    {"request-waiting", SEVERITY_WARNING, true, requests},
    {NULL, SEVERITY_WARNING, false, NULL},
};
