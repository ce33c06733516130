/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/relay.h"

#include "lib/base/cleanup.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define BACKLOG 4
/* Shell, labboot, sudo, its monitor where it uses a pseudo-terminal, labboot. */
#define ANCESTORS_MAX 4
/* Above what `serve` passes on to nbdkit. */
#define CONNECTION_MIN 100

static socklen_t address_of(pid_t pid, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path + 1, sizeof ret->sun_path - 1, "labboot-caller-%ld", (long)pid);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static bool peer_is(int fd, uid_t uid)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == uid;
}

/* ---- the caller's side ----------------------------------------------------------------------------------------- */

/* Somebody may have taken the name: then signals are not relayed, and nothing else is lost. */
static int listen_as(pid_t pid)
{
    struct sockaddr_un address;
    socklen_t len = address_of(pid, &address);
    cleanup(close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return steal_fd(&fd);
}

int relay_begin(struct relay *r, uid_t helper, struct err *e)
{
    sigset_t set;
    *r = (struct relay){.listener = -1, .connection = -1, .signals = -1, .helper = helper};
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would leave nothing to wait for */
    if (sigprocmask(SIG_BLOCK, &set, &r->before) < 0)
        return err_sys(e, errno, "signal mask");
    r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r->signals < 0) {
        int saved_errno = errno;
        sigprocmask(SIG_SETMASK, &r->before, NULL);
        return err_sys(e, saved_errno, "signalfd");
    }
    r->listener = listen_as(getpid());
    return 0;
}

static void take_signal(struct relay *r)
{
    struct signalfd_siginfo info;
    if (read(r->signals, &info, sizeof info) != sizeof info || info.ssi_signo == SIGCHLD)
        return;
    if (r->signal) {
        signal((int)info.ssi_signo, SIG_DFL);
        sigprocmask(SIG_SETMASK, &r->before, NULL);
        raise((int)info.ssi_signo);
    }
    r->signal = (int)info.ssi_signo;
    cleanup_close(&r->connection);
    r->connection = -1;
}

/* The child's call; anybody may connect, and is not heard. One that comes after the signal is hung up on at once. */
static void take_call(struct relay *r)
{
    cleanup(close) int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || r->heard || !peer_is(fd, r->helper))
        return;
    r->heard = true;
    if (!r->signal)
        r->connection = steal_fd(&fd);
}

int relay_wait(struct relay *r, pid_t child, int *ret_status, struct err *e)
{
    pid_t ended;
    while ((ended = waitpid(child, ret_status, WNOHANG)) == 0) {
        struct pollfd p[] = {{.fd = r->signals, .events = POLLIN}, {.fd = r->listener, .events = POLLIN}};
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[1].revents)
            take_call(r);
        if (p[0].revents)
            take_signal(r);
    }
    if (ended < 0)
        return err_sys(e, errno, "wait for sudo");
    if (r->listener >= 0)
        take_call(r); /* it may have come and gone meanwhile */
    return 0;
}

void relay_end(struct relay *r)
{
    cleanup_close(&r->listener);
    cleanup_close(&r->connection);
    cleanup_close(&r->signals);
    sigprocmask(SIG_SETMASK, &r->before, NULL);
}

/* ---- the side that sudo runs ------------------------------------------------------------------------------------ */

/* 0: unknown. The name of the program, in parentheses, may hold anything. */
static pid_t parent_of(pid_t pid)
{
    char path[40], text[400];
    long parent = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    cleanup(fclose) FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end && sscanf(name_end, ") %*c %ld", &parent) == 1 ? (pid_t)parent : 0;
}

static int call(pid_t pid, uid_t caller)
{
    struct sockaddr_un address;
    socklen_t len = address_of(pid, &address);
    cleanup(close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, len) < 0 || !peer_is(fd, caller))
        return -1;
    return fcntl(fd, F_DUPFD_CLOEXEC, CONNECTION_MIN);
}

/* SIGTERM when the other end is closed, also when it was already. */
static void obey(int fd)
{
    char byte;
    if (fcntl(fd, F_SETSIG, SIGTERM) < 0 || fcntl(fd, F_SETOWN, getpid()) < 0 ||
        fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
        return;
    if (recv(fd, &byte, 1, MSG_PEEK) == 0)
        raise(SIGTERM);
}

int relay_connect(uid_t caller)
{
    pid_t pid = getppid();
    for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++, pid = parent_of(pid)) {
        int fd = call(pid, caller);
        if (fd >= 0) {
            obey(fd);
            return fd;
        }
    }
    return -1;
}
