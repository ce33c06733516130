/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/ra.h"

#include "lib/base/cleanup.h"
#include "lib/base/log.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* A host drops what has passed a router. */
#define HOPS 255
/* A flood must not keep the caller from its other work. */
#define AT_ONCE 64

static int set(int fd, int level, int option, const void *value, size_t size, struct err *e)
{
    if (setsockopt(fd, level, option, value, (socklen_t)size) < 0)
        return err_sys(e, errno, "socket for router solicitations");
    return 0;
}

int ra_open(const char *interface, int *ret_fd, struct err *e)
{
    struct icmp6_filter filter;
    ICMP6_FILTER_SETBLOCKALL(&filter);
    ICMP6_FILTER_SETPASS(ND_ROUTER_SOLICIT, &filter);
    struct ipv6_mreq all_routers = {.ipv6mr_interface = if_nametoindex(interface)};
    inet_pton(AF_INET6, "ff02::2", &all_routers.ipv6mr_multiaddr);
    const int hops = HOPS;
    cleanup(close) int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6);
    if (fd < 0)
        return err_sys(e, errno, "socket for router solicitations");
    if (set(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter, e) < 0 ||
        set(fd, SOL_SOCKET, SO_BINDTODEVICE, interface, strlen(interface) + 1, e) < 0 ||
        set(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &all_routers, sizeof all_routers, e) < 0 ||
        set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof hops, e) < 0)
        return -1;
    *ret_fd = steal_fd(&fd);
    return 0;
}

void ra_answer(int fd)
{
    /* No flags, no lifetime, no options; the kernel adds the checksum. */
    const struct nd_router_advert answer = {.nd_ra_type = ND_ROUTER_ADVERT};
    for (int i = 0; i < AT_ONCE; i++) {
        struct nd_router_solicit question;
        struct sockaddr_in6 from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, &question, sizeof question, 0, (struct sockaddr *)&from, &len);
        if (n < 0)
            return;
        /* A host that has no address yet asks again when it has one. */
        if ((size_t)n < sizeof question || !IN6_IS_ADDR_LINKLOCAL(&from.sin6_addr))
            continue;
        if (sendto(fd, &answer, sizeof answer, 0, (const struct sockaddr *)&from, len) < 0)
            log_debug("router advertisement: %s", strerror(errno));
    }
}
