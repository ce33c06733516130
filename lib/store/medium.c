/* SPDX-License-Identifier: BSD-3-Clause */
/* O_DIRECT would do as well, but not on every file system, and not for frames, which lie anywhere. */
#include "lib/store/medium.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE (UINT64_C(1) << 20)
#define PAGES_MAX (PIECE / 4096 + 1)

/* Whole pages of a file. */
struct span {
    int fd;
    uint64_t offset, page;
    size_t pages;
    unsigned char cached[PAGES_MAX]; /* bit 0, as mincore says */
};

void medium_prepare(int fd)
{
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
}

/* The mapping is never touched: what a failing disk then does to those who read a mapping cannot happen. Where nothing can
 * be told, all counts as cached, and stays. */
static void look(struct span *s)
{
    size_t length = s->pages * s->page;
    void *map = mmap(NULL, length, PROT_NONE, MAP_SHARED, s->fd, (off_t)s->offset);
    bool known = map != MAP_FAILED && mincore(map, length, s->cached) == 0;
    for (size_t i = 0; i < s->pages && !known; i++)
        s->cached[i] = 1;
    if (map != MAP_FAILED)
        munmap(map, length);
}

static void forget(const struct span *s, size_t first, size_t count)
{
    posix_fadvise(s->fd, (off_t)(s->offset + first * s->page), (off_t)(count * s->page), POSIX_FADV_DONTNEED);
}

static void forget_uncached(const struct span *s)
{
    for (size_t i = 0, end; i < s->pages; i = end + 1) {
        for (end = i; end < s->pages && !(s->cached[end] & 1);)
            end++;
        if (end > i)
            forget(s, i, end - i);
    }
}

static int read_piece(int fd, void *buf, size_t count, uint64_t offset, struct err *e)
{
    struct span s = {.fd = fd, .page = (uint64_t)sysconf(_SC_PAGESIZE)};
    s.offset = offset - offset % s.page;
    s.pages = (size_t)div_up(offset + count - s.offset, s.page);
    look(&s);
    forget(&s, 0, s.pages);
    int r = full_pread(fd, buf, count, offset, e);
    forget_uncached(&s);
    return r;
}

int medium_pread(int fd, void *buf, size_t count, uint64_t offset, struct err *e)
{
    for (size_t done = 0, n; done < count; done += n) {
        n = (size_t)min_u64(count - done, PIECE);
        if (read_piece(fd, (char *)buf + done, n, offset + done, e) < 0)
            return -1;
    }
    return 0;
}
