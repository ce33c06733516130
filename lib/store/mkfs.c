/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/mkfs.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/spawn.h"

#include <ctype.h>
#include <string.h>
#include <sys/stat.h>

/* A disk of terabytes takes some. */
#define SECONDS 600

static int run(const struct spawn_tool *tool, const char *path, const char *const *arguments, struct err *e)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_sys(e, errno, "%s", path);
    struct spawn_limits limits = {.seconds = SECONDS, .file_bytes = (uint64_t)st.st_size};
    return spawn_tool(tool, arguments, &limits, e);
}

/* The file reads as zero: nothing has to be written to say so, now or by a kernel later. */
static int make_ext4(const char *path, const char *label, struct err *e)
{
    static const struct spawn_tool tool = {.name = "mkfs.ext4", .package = "e2fsprogs"};
    const char *const arguments[] = {"-q", "-F", "-E", "assume_storage_prezeroed=1", "-L", label ? label : "",
                                     path, NULL};
    return run(&tool, path, arguments, e);
}

static int make_fat32(const char *path, const char *label, struct err *e)
{
    static const struct spawn_tool tool = {.name = "mkfs.fat", .package = "dosfstools"};
    char name[12] = "NO NAME";
    for (size_t i = 0; label && i + 1 < sizeof name; i++) {
        name[i] = (char)toupper((unsigned char)label[i]);
        name[i + 1] = '\0';
        if (!label[i])
            break;
    }
    const char *const arguments[] = {"-F", "32", "-n", name, path, NULL};
    return run(&tool, path, arguments, e);
}

static int make_nothing(const char *path, const char *label, struct err *e)
{
    (void)path, (void)label, (void)e;
    return 0;
}

int mkfs_make(const char *path, const char *filesystem, const char *label, struct err *e)
{
    static const struct {
        const char *name;
        int (*make)(const char *path, const char *label, struct err *e);
    } kinds[] = {{"ext4", make_ext4}, {"fat32", make_fat32}, {"raw", make_nothing}};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (strcmp(kinds[i].name, filesystem) == 0)
            return kinds[i].make(path, label, e);
    return err_set(e, ERR_USAGE, "'%s' is no file system that is made here", filesystem);
}

/* resize2fs wants a disk that was just checked. Neither of the two says so when its last write, of the superblock, failed. */
int mkfs_grow_ext4(const char *path, struct err *e)
{
    static const struct spawn_tool check = {.name = "e2fsck", .package = "e2fsprogs", .success = 1},
                                   grow = {.name = "resize2fs", .package = "e2fsprogs"},
                                   look = {.name = "e2fsck", .package = "e2fsprogs"};
    const char *const check_arguments[] = {"-f", "-p", path, NULL};
    const char *const grow_arguments[] = {path, NULL};
    const char *const look_arguments[] = {"-f", "-n", path, NULL};
    if (run(&check, path, check_arguments, e) < 0 || run(&grow, path, grow_arguments, e) < 0)
        return -1;
    if (run(&look, path, look_arguments, e) < 0)
        return err_set(e, ERR_FAILED, "resize2fs left a file system that is not whole");
    return 0;
}
