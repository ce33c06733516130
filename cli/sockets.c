/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/sockets.h"

#include "cli/cli.h"
#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 1024 /* a lab may be switched on at once */
#define FIRST_FD 3   /* of socket activation */

static int set_options(int fd, int family, struct err *e)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR, 1},  {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 5}, {IPPROTO_TCP, TCP_KEEPINTVL, 2},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},  {IPPROTO_TCP, TCP_USER_TIMEOUT, 15000},
        {IPPROTO_IPV6, IPV6_V6ONLY, 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        if (options[i].level == IPPROTO_IPV6 && family != AF_INET6)
            continue;
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) < 0)
            return err_sys(e, errno, "socket option");
    }
    return 0;
}

static socklen_t tcp_address(const struct in6_addr *a, uint16_t port, struct sockaddr_storage *ret)
{
    *ret = (struct sockaddr_storage){0};
    if (IN6_IS_ADDR_V4MAPPED(a)) {
        struct sockaddr_in *in = (struct sockaddr_in *)ret;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, a->s6_addr + 12, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    in6->sin6_addr = *a;
    return sizeof *in6;
}

static int bind_and_listen(int fd, const struct sockaddr *sa, socklen_t len, struct err *e)
{
    if (bind(fd, sa, len) == 0 && listen(fd, BACKLOG) == 0)
        return 0;
    if (errno == EADDRINUSE)
        return err_set_sys(e, ERR_STATE, EADDRINUSE, "in use by another program");
    return err_sys(e, errno, "listen");
}

static int open_tcp(const char *address, uint64_t port, int *ret, struct err *e)
{
    struct in6_addr a;
    struct sockaddr_storage sa;
    if (parse_ip(address, &a, e) < 0)
        return -1;
    socklen_t len = tcp_address(&a, (uint16_t)port, &sa);
    cleanup(close) int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(e, errno, "socket");
    if (set_options(fd, sa.ss_family, e) < 0 || bind_and_listen(fd, (struct sockaddr *)&sa, len, e) < 0)
        return -1;
    *ret = steal_fd(&fd);
    return 0;
}

/* Removes a socket that a dead server left; one that answers is somebody's. */
static int remove_stale(const struct sockaddr_un *sa, struct err *e)
{
    struct stat st;
    if (lstat(sa->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "socket");
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_STATE, "exists, and is no socket");
    cleanup(close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, errno, "socket");
    if (connect(fd, (const struct sockaddr *)sa, sizeof *sa) == 0 || errno == EAGAIN)
        return err_set(e, ERR_STATE, "in use by another program");
    if (errno != ECONNREFUSED)
        return err_sys(e, errno, "connect");
    if (unlink(sa->sun_path) < 0 && errno != ENOENT)
        return err_sys(e, errno, "remove");
    return 0;
}

static int open_unix(const char *path, int *ret, struct err *e)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path)
        return err_set(e, ERR_USAGE, "longer than a socket's path may be");
    memcpy(sa.sun_path, path, strlen(path) + 1);
    if (remove_stale(&sa, e) < 0)
        return -1;
    cleanup(close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(e, errno, "socket");
    mode_t mask = umask(0117);
    int r = bind_and_listen(fd, (struct sockaddr *)&sa, sizeof sa, e);
    umask(mask);
    if (r < 0 || rights_give(path, e) < 0)
        return -1;
    *ret = steal_fd(&fd);
    return 0;
}

int sockets_open(const struct conf *conf, int ret[SOCKETS_MAX], size_t *ret_count, struct err *e)
{
    int fds[SOCKETS_MAX], r = 0;
    size_t count = 0;
    for (size_t i = 0; r == 0 && i < CONF_LIST_MAX && conf->server.listen[i]; i++) {
        r = open_tcp(conf->server.listen[i], conf->server.port, &fds[count], e);
        if (r < 0)
            err_wrap(e, "%s port %u", conf->server.listen[i], (unsigned)conf->server.port);
        else
            count++;
    }
    if (r == 0 && (r = open_unix(conf->server.unix_socket, &fds[count], e)) < 0)
        err_wrap(e, "%s", conf->server.unix_socket);
    else if (r == 0)
        count++;
    if (r < 0) {
        while (count > 0)
            close(fds[--count]);
        return -1;
    }
    memcpy(ret, fds, count * sizeof *fds);
    *ret_count = count;
    return 0;
}

int sockets_place(int *fds, size_t count, struct err *e)
{
    /* Out of the way first, so that no dup2 closes one that is still to be moved. */
    for (size_t i = 0; i < count; i++) {
        int high = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_FD + SOCKETS_MAX);
        if (high < 0)
            return err_sys(e, errno, "socket");
        close(fds[i]);
        fds[i] = high;
    }
    for (size_t i = 0; i < count; i++) {
        int to = FIRST_FD + (int)i;
        if (dup2(fds[i], to) < 0)
            return err_sys(e, errno, "socket");
        close(fds[i]);
        fds[i] = to;
    }
    return 0;
}
