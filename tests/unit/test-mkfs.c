/* SPDX-License-Identifier: BSD-3-Clause */
/* File systems on disks that are files: made, clean, grown; and what a tool says when it cannot. */
#include "lib/store/mkfs.h"
#include "tests/unit/unit.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/spawn.h"
#include "lib/store/clean.h"

#include <fcntl.h>
#include <sys/stat.h>

static struct err e;

static char *disk(const char *name, uint64_t size)
{
    char *path = path_format("%s/%s", unit_dir(), name);
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return path;
}

static int read_disk(void *ctx, void *buf, size_t count, uint64_t offset, struct err *err)
{
    return full_pread(*(int *)ctx, buf, count, offset, err);
}

static struct clean_report judge(const char *path)
{
    struct clean_report report;
    struct stat st;
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    struct reader r = {.ctx = &fd, .size = (uint64_t)st.st_size, .pread = read_disk};
    CHECK_OK(clean_check(&r, &r, &report, &e));
    return report;
}

/* The command finds the disk as $DISK. */
static void shell(const char *command, const char *path)
{
    CHECK(setenv("DISK", path, 1) == 0);
    CHECK(system(command) == 0);
}

static void each_file_system_is_made(void)
{
    cleanup(free) char *ext4 = disk("ext4", 128 * MIB);
    CHECK_OK(mkfs_make(ext4, "ext4", "machine", &e));
    CHECK(judge(ext4).state == CLEAN_YES);
    shell("e2fsck -fn \"$DISK\" >/dev/null 2>&1", ext4);
    shell("test \"$(e2label $DISK)\" = machine", ext4);
    struct stat st;
    CHECK(stat(ext4, &st) == 0 && st.st_size == 128 * MIB && st.st_blocks < 2048);

    cleanup(free) char *fat = disk("fat", 64 * MIB);
    CHECK_OK(mkfs_make(fat, "fat32", "machine", &e));
    shell("fsck.fat -n \"$DISK\" >/dev/null", fat);

    cleanup(free) char *raw = disk("raw", MIB);
    CHECK_OK(mkfs_make(raw, "raw", NULL, &e));
    CHECK(stat(raw, &st) == 0 && st.st_blocks == 0);
    CHECK_FAILS(mkfs_make(raw, "xfs", NULL, &e), ERR_USAGE);
}

static void ext4_grows_with_its_file(void)
{
    cleanup(free) char *path = disk("grown", 8 * MIB);
    CHECK_OK(mkfs_make(path, "ext4", NULL, &e));
    CHECK(truncate(path, 64 * MIB) == 0);
    CHECK_OK(mkfs_grow_ext4(path, &e));
    CHECK(judge(path).state == CLEAN_YES);
    shell("dumpe2fs -h \"$DISK\" 2>/dev/null | grep -q '^Block count: *65536$'", path);
}

static void what_a_tool_says_last_is_the_reason(void)
{
    cleanup(free) char *none = disk("none", MIB);
    CHECK_FAILS(mkfs_grow_ext4(none, &e), ERR_FAILED);
    CHECK(strncmp(e.msg, "e2fsck: ", 8) == 0);
    const struct spawn_limits limits = {.seconds = 5, .file_bytes = MIB};
    const char *const no_arguments[] = {NULL};
    const struct spawn_tool missing = {.name = "mkfs.nothing", .package = "nothing"};
    CHECK_FAILS(spawn_tool(&missing, no_arguments, &limits, &e), ERR_FAILED);
    CHECK_STR(e.msg, "there is no program mkfs.nothing here; try: apt-get install nothing");
    const struct spawn_tool sh = {.name = "sh", .package = "dash", .success = 2};
    const char *const good[] = {"-c", "exit 2", NULL},
                      *const bad[] = {
                          "-c", "echo banner >&2; echo; printf 'the \\001reason\\n \\n' >&2; exit 3", NULL};
    CHECK_OK(spawn_tool(&sh, good, &limits, &e));
    CHECK_FAILS(spawn_tool(&sh, bad, &limits, &e), ERR_FAILED);
    CHECK_STR(e.msg, "sh: the ?reason");
}

int main(void)
{
    UNIT(each_file_system_is_made);
    UNIT(ext4_grows_with_its_file);
    UNIT(what_a_tool_says_last_is_the_reason);
    return 0;
}
