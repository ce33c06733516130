/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/jobs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct job {
    void (*fn)(void *arg);
    void *arg;
    struct job *next;
};

struct jobs {
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    struct job *first, **last;
    bool stopping;
    unsigned count;
    pthread_t threads[];
};

static struct job *wait_for_job(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    while (!j->first && !j->stopping)
        pthread_cond_wait(&j->changed, &j->lock);
    struct job *job = j->stopping ? NULL : j->first;
    if (job) {
        j->first = job->next;
        if (!j->first)
            j->last = &j->first;
    }
    pthread_mutex_unlock(&j->lock);
    return job;
}

static void *worker(void *arg)
{
    struct job *job;
    while ((job = wait_for_job(arg))) {
        job->fn(job->arg);
        free(job);
    }
    return NULL;
}

int jobs_start(unsigned threads, struct jobs **ret, struct err *e)
{
    struct jobs *j = calloc(1, sizeof *j + threads * sizeof j->threads[0]);
    if (!j)
        return err_set(e, ERR_FAILED, "out of memory");
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->changed, NULL);
    j->last = &j->first;
    for (; j->count < threads; j->count++) {
        int r = pthread_create(&j->threads[j->count], NULL, worker, j);
        if (r) {
            jobs_stop(j);
            jobs_free(j);
            return err_sys(e, r, "start a thread");
        }
    }
    *ret = j;
    return 0;
}

void jobs_add(struct jobs *j, void (*fn)(void *arg), void *arg)
{
    struct job *job = malloc(sizeof *job);
    if (!job) {
        fn(arg);
        return;
    }
    *job = (struct job){.fn = fn, .arg = arg};
    pthread_mutex_lock(&j->lock);
    *j->last = job;
    j->last = &job->next;
    pthread_cond_signal(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

void jobs_stop(struct jobs *j)
{
    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->stopping = true;
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
    for (unsigned i = 0; i < j->count; i++)
        pthread_join(j->threads[i], NULL);
    j->count = 0;
}

void jobs_free(struct jobs *j)
{
    if (!j)
        return;
    while (j->first) {
        struct job *job = j->first;
        j->first = job->next;
        free(job);
    }
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    free(j);
}
