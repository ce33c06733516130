/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/server-lock.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MS 50u
#define TRIES (SERVER_LOCK_SECONDS * 1000 / PAUSE_MS)

static char *path_of(const struct conf *conf)
{
    return path_format("%s/server.lock", conf->server.run_dir);
}

enum lock_holder server_lock_holder(const struct conf *conf)
{
    cleanup(free) char *path = path_of(conf);
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char who = 'S';
    if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return LOCK_NOBODY;
    return pread(fd, &who, 1, 0) == 1 && who == 'C' ? LOCK_COMMAND : LOCK_SERVER;
}

static int take(const struct conf *conf, char who, int *ret_fd, struct err *e)
{
    cleanup(free) char *path = path_of(conf);
    cleanup(close) int fd = -1;
    if (make_dirs(conf->server.run_dir, 0755, e) < 0 || lock_file(path, false, &fd, e) < 0 ||
        full_pwrite(fd, &who, 1, 0, e) < 0)
        return -1;
    *ret_fd = steal_fd(&fd);
    return 0;
}

int server_lock_for_command(const struct conf *conf, int *ret_fd, struct err *e)
{
    return take(conf, 'C', ret_fd, e);
}

int server_lock_for_server(const struct conf *conf, int *ret_fd, struct err *e)
{
    unsigned tries = 0;
    bool told = false;
    while (take(conf, 'S', ret_fd, e) < 0) {
        if (e->sys != EBUSY)
            return -1;
        bool command = server_lock_holder(conf) == LOCK_COMMAND;
        if (!command && ++tries > TRIES)
            return err_set(e, ERR_STATE, "%s/server.lock is held: another labboot server runs here",
                           conf->server.run_dir);
        if (command && !told)
            log_info("a command ends a boot: the server waits for it");
        told |= command;
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
    }
    return 0;
}
