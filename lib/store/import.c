/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/import.h"

#include "lib/base/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STALL_MS 200

/* What a file and a stream need between claims. Guarded by the engine's lock; `load` reads only what never
 * changes. */
struct import {
    int fd;
    const char *name;
    struct view *parent;
    size_t chunk_size;
    uint64_t leaf_bytes;
    uint64_t size;      /* a stream: what has been read so far */
    uint64_t position;  /* where the next leaf starts */
    uint64_t next_data; /* a file: no data from `position` to here */

    struct progress progress;  /* the caller's */
    pthread_mutex_t reporting; /* one call at a time; guards `reported` */
    uint64_t reported;
};

static void set_all(uint64_t set[2])
{
    set[0] = set[1] = UINT64_MAX;
}

/* Adds the chunks that lie in [from, to), offsets in the leaf. */
static void set_range(uint64_t set[2], size_t chunk_size, uint64_t from, uint64_t to)
{
    for (uint64_t i = div_up(from, chunk_size); (i + 1) * chunk_size <= to; i++)
        set[i / 64] |= UINT64_C(1) << (i % 64);
}

/* Files and block devices */

static int get_size(int fd, const struct stat *st, const char *name, uint64_t *ret, struct err *e)
{
    if (S_ISREG(st->st_mode)) {
        *ret = (uint64_t)st->st_size;
        return 0;
    }
    if (ioctl(fd, BLKGETSIZE64, ret) < 0)
        return err_sys(e, errno, "%s: size", name);
    return 0;
}

static bool has_shrunk(const struct import *m)
{
    struct stat st;
    struct err ignored;
    uint64_t now;
    return fstat(m->fd, &st) < 0 || get_size(m->fd, &st, m->name, &now, &ignored) < 0 || now < m->size;
}

static int truncated(const struct import *m, struct err *e)
{
    return err_set_sys(e, ERR_FAILED, EIO, "%s: truncated while being read", m->name);
}

/* The first data at or after `offset`, the size when only a hole follows. What cannot tell has data
 * everywhere. */
static uint64_t find_data(const struct import *m, uint64_t offset)
{
    off_t at = lseek(m->fd, (off_t)offset, SEEK_DATA);
    if (at >= 0)
        return min_u64((uint64_t)at, m->size);
    return errno == ENXIO ? m->size : offset;
}

/* The end of the data that starts at `offset`. */
static uint64_t find_hole(const struct import *m, uint64_t offset)
{
    off_t at = lseek(m->fd, (off_t)offset, SEEK_HOLE);
    return at >= 0 ? min_u64((uint64_t)at, m->size) : m->size;
}

static bool parent_has_data(const struct import *m, uint64_t position)
{
    if (!m->parent || position >= view_footer(m->parent)->virtual_size)
        return false;
    return (get_le16(view_root(m->parent) + position / m->leaf_bytes * ROOT_ENTRY_SIZE + 10) & ROOT_ZERO) ==
           0;
}

/* Moves to the next leaf in which the file has data, or the parent has: a hole over that is zeroes. */
static void skip_holes(struct import *m)
{
    while (m->position < m->size) {
        if (m->next_data < m->position)
            m->next_data = find_data(m, m->position);
        if (m->next_data < m->position + m->leaf_bytes || parent_has_data(m, m->position))
            return;
        if (m->parent)
            m->position += m->leaf_bytes;
        else
            m->position = round_down(m->next_data, m->leaf_bytes);
    }
}

/* Finds the chunks of the leaf [start, end) that are holes as a whole. */
static void mark_holes(const struct import *m, uint64_t start, uint64_t end, uint64_t zero[2])
{
    for (uint64_t hole = start, data = max_u64(m->next_data, start); hole < end; data = find_data(m, hole)) {
        data = min_u64(data, end);
        set_range(zero, m->chunk_size, hole - start, data - start);
        if (data == end)
            return;
        hole = find_hole(m, data);
    }
}

static int claim_from_file(void *ctx, struct leaf_work *w, struct err *e)
{
    struct import *m = ctx;
    uint64_t before = m->position;
    skip_holes(m);
    if (m->position >= m->size) /* a file that was cut ends in what looked like a hole */
        return has_shrunk(m) ? truncated(m, e) : 0;
    uint64_t end = min_u64(m->position + m->leaf_bytes, m->size);
    w->leaf = m->position / m->leaf_bytes;
    w->bytes = end - before;
    set_all(w->dirty);
    mark_holes(m, m->position, end, w->zero);
    m->position += m->leaf_bytes;
    return 1;
}

/* Reads runs of chunks that are not holes. */
static int load_from_file(void *ctx, struct leaf_work *w, struct err *e)
{
    const struct import *m = ctx;
    uint64_t start = w->leaf * m->leaf_bytes, end = min_u64(start + m->leaf_bytes, m->size);
    unsigned chunks = (unsigned)div_up(end - start, m->chunk_size);
    for (unsigned i = 0, next; i < chunks; i = next) {
        for (next = i; next < chunks && !(w->zero[next / 64] >> (next % 64) & 1); next++)
            ;
        uint64_t from = start + i * m->chunk_size, to = min_u64(start + next * m->chunk_size, end);
        if (next > i && full_pread(m->fd, w->data + (from - start), to - from, from, e) < 0)
            return has_shrunk(m) ? truncated(m, e) : err_wrap(e, "%s", m->name);
        if (next == i)
            next++;
    }
    return 0;
}

/* Streams */

/* The engine reports when a leaf is done. While a stream stalls that is never, so the wait reports too, or nobody could
 * interrupt it. */

static bool report_guarded(void *ctx, uint64_t done, uint64_t total)
{
    struct import *m = ctx;
    pthread_mutex_lock(&m->reporting);
    m->reported = done;
    bool go_on = m->progress.report(m->progress.ctx, done, total);
    pthread_mutex_unlock(&m->reporting);
    return go_on;
}

static bool report_stall(struct import *m)
{
    if (!m->progress.report)
        return true;
    pthread_mutex_lock(&m->reporting);
    bool go_on = m->progress.report(m->progress.ctx, m->reported, 0);
    pthread_mutex_unlock(&m->reporting);
    return go_on;
}

static int wait_for_input(struct import *m, struct err *e)
{
    for (;;) {
        struct pollfd p = {.fd = m->fd, .events = POLLIN};
        int r = poll(&p, 1, STALL_MS);
        if (r > 0)
            return 0;
        if (r < 0 && errno != EINTR)
            return err_sys(e, errno, "%s", m->name);
        if (!report_stall(m))
            return err_set(e, ERR_FAILED, "interrupted");
    }
}

static int read_stream(struct import *m, uint8_t *buf, size_t count, size_t *ret_got, struct err *e)
{
    size_t got = 0;
    while (got < count) {
        if (wait_for_input(m, e) < 0)
            return -1;
        ssize_t n = read(m->fd, buf + got, count - got);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return err_sys(e, errno, "%s", m->name);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    *ret_got = got;
    return 0;
}

static int claim_from_stream(void *ctx, struct leaf_work *w, struct err *e)
{
    struct import *m = ctx;
    size_t got = 0;
    if (read_stream(m, w->data, m->leaf_bytes, &got, e) < 0)
        return -1;
    if (got == 0)
        return 0;
    w->leaf = m->position / m->leaf_bytes;
    w->bytes = got;
    set_all(w->dirty);
    m->size += got;
    m->position += m->leaf_bytes;
    return 1;
}

int import_raw(struct store *s, int fd, const char *name, const struct build_options *o, struct build **ret,
               struct build_result *ret_result, struct err *e)
{
    struct stat st;
    struct import m = {.fd = fd,
                       .name = name,
                       .parent = o->parent,
                       .progress = o->progress,
                       .reporting = PTHREAD_MUTEX_INITIALIZER,
                       .chunk_size = (size_t)1 << o->chunk_shift,
                       .leaf_bytes = (UINT64_C(1) << o->chunk_shift) * LEAF_CHUNKS};
    struct build_options own = *o;
    own.size = &m.size;
    if (o->progress.report)
        own.progress = (struct progress){report_guarded, &m};
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "%s", name);
    struct build_source source = {.ctx = &m, .claim = claim_from_stream};
    if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
        if (get_size(fd, &st, name, &m.size, e) < 0)
            return -1;
        m.next_data = find_data(&m, 0);
        source = (struct build_source){
            .ctx = &m, .claim = claim_from_file, .load = load_from_file, .total = m.size};
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* twice the read-ahead */
    }
    return build_layer(s, &own, &source, ret, ret_result, e);
}
