/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/clean-impl.h"

#include "lib/base/bytes.h"

#include <stdio.h>

int clean_check(const struct reader *disk, const struct reader *base, struct clean_report *ret, struct err *e)
{
    static int (*const judges[])(const struct reader *, const struct reader *, struct clean_report *,
                                 struct err *) = {judge_ext, judge_fat};
    struct clean_report report = {.state = CLEAN_UNKNOWN};
    for (size_t i = 0; i < ARRAY_SIZE(judges) && !report.why[0]; i++) {
        if (judges[i](disk, base, &report, e) < 0)
            return -1;
    }
    if (!report.why[0])
        snprintf(report.why, sizeof report.why, "%s: neither ext2, ext3, ext4 nor FAT", CLEAN_NO_JUDGE);
    *ret = report;
    return 0;
}
