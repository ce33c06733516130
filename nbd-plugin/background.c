/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/background.h"

#include "lib/base/log.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Both are of the thread alone. Where the disk's scheduler knows no classes, the second does nothing. */
static void step_back(void)
{
    pid_t self = (pid_t)syscall(SYS_gettid);
    if (setpriority(PRIO_PROCESS, (id_t)self, 19) < 0 ||
        syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, self, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)) < 0)
        log_warning("the priority of the care of the store cannot be lowered: %s", strerror(errno));
}

static void *thread_main(void *arg)
{
    struct background *b = arg;
    step_back();
    b->main(b->arg);
    return NULL;
}

int background_start(struct background *b, struct server *s, bool (*sleep)(unsigned milliseconds),
                     void (*main)(void *arg), void *arg, struct err *e)
{
    *b = (struct background){.server = s, .sleep = sleep, .main = main, .arg = arg};
    if (store_open(server_conf(s)->server.images_dir, 0, &b->store, e) < 0)
        return -1;
    store_read_medium(b->store);
    int r = pthread_create(&b->thread, NULL, thread_main, b);
    if (r != 0) {
        store_close(b->store);
        return err_sys(e, r, "start a thread");
    }
    return 0;
}

void background_rest(struct background *b, unsigned milliseconds)
{
    if (!b->sleep(milliseconds))
        b->stopping = true;
}

void background_stop(struct background *b)
{
    b->stopping = true;
    pthread_join(b->thread, NULL);
    store_close(b->store);
}
