/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/stopper.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#define SLEEP_MILLISECONDS 3600000 /* any: it is cut short when the server is to stop */
#define AGAIN_NANOSECONDS 20000000L
#define STOP_SECONDS 1.2

struct stopper {
    struct server *server;
    bool (*sleep)(unsigned milliseconds);
};

static bool is_connection(int fd)
{
    int type, listening;
    socklen_t len = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
        return false;
    len = sizeof listening;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && !listening;
}

static void shut_connections_down(void)
{
    cleanup(closedir) DIR *d = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (d && (entry = readdir(d))) {
        int fd = atoi(entry->d_name);
        if (fd > STDERR_FILENO && is_connection(fd))
            shutdown(fd, SHUT_RDWR);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What has been acknowledged is in the files, as a killed server would leave it. */
static _Noreturn void break_off(void)
{
    log_info("stopped in the middle of what takes long: the next server does it again");
    _exit(EXIT_SUCCESS);
}

/* Again and again: one that was just being accepted may not be a connection at the first time. The server may be
 * closed by then, so only its `stopping` is touched. */
static void *stopper_main(void *arg)
{
    struct stopper t = *(struct stopper *)arg;
    free(arg);
    while (t.sleep(SLEEP_MILLISECONDS))
        continue;
    t.server->stopping = true;
    for (double until = now() + STOP_SECONDS; now() < until;) {
        shut_connections_down();
        nanosleep(&(struct timespec){.tv_nsec = AGAIN_NANOSECONDS}, NULL);
    }
    break_off();
}

int stopper_start(struct server *s, bool (*sleep)(unsigned milliseconds), struct err *e)
{
    struct stopper *t = malloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_FAILED, "out of memory");
    *t = (struct stopper){.server = s, .sleep = sleep};
    pthread_t thread;
    int r = pthread_create(&thread, NULL, stopper_main, t);
    if (r) {
        free(t);
        return err_sys(e, r, "start a thread");
    }
    pthread_detach(thread);
    return 0;
}
