/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/workers.h"

#include "lib/base/bytes.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define THREADS_MAX 64u

static unsigned wanted_threads(unsigned asked)
{
    cpu_set_t cpus;
    if (asked == 0)
        asked = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
    return (unsigned)min_u64(asked, THREADS_MAX);
}

/* The new threads block all signals: they are the program's own threads' business. */
void workers_run(unsigned asked, void *(*main)(void *arg), void *arg)
{
    pthread_t threads[THREADS_MAX];
    unsigned wanted = wanted_threads(asked), started = 0;
    sigset_t all, saved;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, main, arg) == 0)
        started++;
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    main(arg);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}
