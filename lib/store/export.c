/* SPDX-License-Identifier: BSD-3-Clause */
/* To a regular file, workers each take the next leaf and write where something is, in blocks of 4 KiB, at its
 * own place. A stream is written in order by the caller's thread. */
#include "lib/store/export.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#define SESSION 0
#define WORKERS_MAX 16
#define BLOCK 4096u /* the granularity of holes */
#define REPORT_EVERY_NS INT64_C(250000000)

struct export
{
    struct view *view;
    int fd;
    uint64_t size, step; /* bytes; a step is what a worker takes at a time */
    const struct progress *progress;
    pthread_mutex_t lock; /* of all below; the progress callback is called under it */
    uint64_t next, done;
    int64_t reported;
    int result;
    struct err err; /* the first one */
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Counts `bytes` as done. The lock is held, or there is but one thread. */
static int advance(struct export *x, uint64_t bytes, struct err *e)
{
    int64_t now = now_ns();
    x->done += bytes;
    if (!x->progress || !x->progress->report || (now - x->reported < REPORT_EVERY_NS && x->done < x->size))
        return 0;
    x->reported = now;
    if (!x->progress->report(x->progress->ctx, x->done, x->size))
        return err_set_sys(e, ERR_FAILED, EINTR, "interrupted");
    return 0;
}

/* --- a regular file --- */

/* Writes what is not zero of a chunk. */
static int write_sparse(int fd, const uint8_t *buf, size_t count, uint64_t offset, struct err *e)
{
    size_t start = 0;
    while (start < count) {
        size_t end = start, n;
        while (end < count && !all_zero(buf + end, n = min_u64(BLOCK, count - end)))
            end += n;
        if (end > start && full_pwrite(fd, buf + start, end - start, offset + start, e) < 0)
            return -1;
        start = end + BLOCK;
    }
    return 0;
}

static int export_range(struct export *x, uint8_t *buf, uint64_t offset, uint64_t end, struct err *e)
{
    while (offset < end) {
        uint64_t length;
        bool zero;
        if (view_extent(x->view, offset, end - offset, &length, &zero, e) < 0)
            return -1;
        size_t n = (size_t)min_u64(length, CHUNK_SIZE_MAX);
        if (!zero && (view_pread(x->view, SESSION, buf, n, offset, e) < 0 ||
                      write_sparse(x->fd, buf, n, offset, e) < 0))
            return -1;
        offset += zero ? length : n;
    }
    return 0;
}

/* Takes the next range; false when there is none, or another worker failed. */
static bool next_range(struct export *x, uint64_t *ret_offset, uint64_t *ret_end)
{
    pthread_mutex_lock(&x->lock);
    bool more = x->result == 0 && x->next < x->size;
    if (more) {
        *ret_offset = x->next;
        *ret_end = min_u64(x->next + x->step, x->size);
        x->next = *ret_end;
    }
    pthread_mutex_unlock(&x->lock);
    return more;
}

static void range_done(struct export *x, uint64_t bytes, int result, const struct err *e)
{
    pthread_mutex_lock(&x->lock);
    if (x->result == 0 && result < 0) {
        x->result = -1;
        x->err = *e;
    }
    if (x->result == 0)
        x->result = advance(x, bytes, &x->err);
    pthread_mutex_unlock(&x->lock);
}

static void *worker(void *arg)
{
    struct export *x = arg;
    uint8_t buf[CHUNK_SIZE_MAX];
    uint64_t offset, end;
    while (next_range(x, &offset, &end)) {
        struct err e;
        int result = export_range(x, buf, offset, end, &e);
        range_done(x, end - offset, result, &e);
    }
    return NULL;
}

/* The caller's thread works too: threads that cannot be made are only missed. */
static int export_file(struct export *x, struct err *e)
{
    pthread_t threads[WORKERS_MAX];
    size_t count = 0, wanted = (size_t)max_u64(1, (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    if (ftruncate(x->fd, (off_t)x->size) < 0)
        return err_sys(e, errno, "%" PRIu64 " bytes", x->size);
    while (count + 1 < wanted && count < WORKERS_MAX && pthread_create(&threads[count], NULL, worker, x) == 0)
        count++;
    worker(x);
    while (count > 0)
        pthread_join(threads[--count], NULL);
    if (x->result < 0)
        *e = x->err;
    return x->result;
}

/* --- a stream --- */

static int export_stream(struct export *x, struct err *e)
{
    static const uint8_t zeroes[CHUNK_SIZE_MAX];
    uint8_t buf[CHUNK_SIZE_MAX];
    for (uint64_t offset = 0; offset < x->size;) {
        uint64_t length;
        bool zero;
        if (view_extent(x->view, offset, sizeof buf, &length, &zero, e) < 0 ||
            (!zero && view_pread(x->view, SESSION, buf, length, offset, e) < 0) ||
            full_write(x->fd, zero ? zeroes : buf, length, e) < 0 || advance(x, length, e) < 0)
            return -1;
        offset += length;
    }
    return 0;
}

int export_raw(struct view *v, int fd, const struct progress *progress, struct err *e)
{
    const struct footer *f = view_footer(v);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "export");
    struct export x = {.view = v,
                       .fd = fd,
                       .size = f->virtual_size,
                       .step = (uint64_t)LEAF_CHUNKS << f->chunk_shift,
                       .progress = progress,
                       .lock = PTHREAD_MUTEX_INITIALIZER};
    if (!S_ISREG(st.st_mode))
        return export_stream(&x, e);
    if (st.st_size != 0)
        return err_set(e, ERR_STATE, "export: the file is not empty");
    return export_file(&x, e);
}
