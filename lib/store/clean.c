/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/clean-impl.h"
#include "lib/store/partitions.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"

#include <stdio.h>

/* A part of a disk as a disk of its own. */
struct slice {
    const struct reader *disk;
    uint64_t start;
};

static int slice_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *e)
{
    const struct slice *s = ctx;
    return s->disk->pread(s->disk->ctx, buf, count, s->start + offset, e);
}

/* What `disk` has of it: nothing where it is shorter. */
static struct reader slice_reader(struct slice *s)
{
    uint64_t size = s->disk->size;
    return (struct reader){s, s->start < size ? size - s->start : 0, slice_pread};
}

/* ---- one file system ---- */

static int judge(const struct reader *disk, const struct reader *base, struct clean_report *ret,
                 struct err *e)
{
    static int (*const judges[])(const struct reader *, const struct reader *, struct clean_report *,
                                 struct err *) = {judge_ext, judge_fat};
    for (size_t i = 0; i < ARRAY_SIZE(judges) && !ret->why[0]; i++) {
        if (judges[i](disk, base, ret, e) < 0)
            return -1;
    }
    return 0;
}

/* Swap holds nothing that is missed, but for the memory of a system that sleeps there, which has another signature. */
static int is_swap(const struct reader *disk, bool *ret, struct err *e)
{
    static const char magic[] = "SWAPSPACE2";
    char found[sizeof magic - 1];
    uint64_t at = 4096 - sizeof found; /* the end of the first page */
    *ret = false;
    if (disk->size < 4096)
        return 0;
    if (disk->pread(disk->ctx, found, sizeof found, at, e) < 0)
        return err_wrap(e, "swap");
    *ret = memcmp(found, magic, sizeof found) == 0;
    return 0;
}

/* ---- a disk with partitions ---- */

/* What the disk's parts say together. The worst one gives the state and the reason: CLEAN_NO before CLEAN_UNKNOWN, for
 * the word of a machine, which makes up for what is unknown, does not make up for it. */
struct sum {
    unsigned parts; /* that hold something */
    struct clean_report report;
};

static void add(struct sum *sum, const struct clean_report *part, const char *name)
{
    static const unsigned badness[] = {[CLEAN_YES] = 0, [CLEAN_UNKNOWN] = 1, [CLEAN_NO] = 2};
    struct clean_report *all = &sum->report;
    all->mounted_since |= part->mounted_since;
    if (sum->parts++ == 0 || badness[part->state] > badness[all->state]) {
        all->state = part->state;
        snprintf(all->why, sizeof all->why, "%s%s", name, part->why[0] ? part->why : CLEAN_NO_JUDGE);
    }
}

static int add_partition(struct sum *sum, const struct partition *p, const struct reader *disk,
                         const struct reader *base, struct err *e)
{
    struct clean_report report = {.state = CLEAN_UNKNOWN};
    struct slice now = {disk, p->start}, before = {base, p->start};
    struct reader part = slice_reader(&now), base_part;
    bool swap = false;
    char name[32];
    snprintf(name, sizeof name, "partition %u: ", p->number);
    if (p->size > part.size) {
        snprintf(report.why, sizeof report.why, "reaches beyond the disk");
    } else {
        part.size = p->size;
        if (base)
            base_part = slice_reader(&before);
        if (judge(&part, base ? &base_part : NULL, &report, e) < 0 || is_swap(&part, &swap, e) < 0)
            return err_wrap(e, "partition %u", p->number);
    }
    if (report.why[0] || !(swap || p->bare))
        add(sum, &report, name);
    return 0;
}

/* Tables and the file systems of whole disks are both looked for: what of the two is left over from before, nobody knows. */
int clean_check(const struct reader *disk, const struct reader *base, struct clean_report *ret, struct err *e)
{
    struct clean_report whole = {.state = CLEAN_UNKNOWN};
    struct sum sum = {0};
    cleanup(free) struct partition *partitions = NULL;
    size_t count;
    if (judge(disk, base, &whole, e) < 0 || partitions_find(disk, &partitions, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (add_partition(&sum, &partitions[i], disk, base, e) < 0)
            return -1;
    }
    if (sum.parts > 0 && sum.report.state == CLEAN_YES)
        snprintf(sum.report.why, sizeof sum.report.why, "%u partition%s: clean", sum.parts,
                 sum.parts == 1 ? "" : "s");
    if (whole.why[0] || sum.parts == 0)
        add(&sum, &whole, "");
    *ret = sum.report;
    return 0;
}
