/* SPDX-License-Identifier: BSD-3-Clause */
/* The clean check on file systems that mkfs made and debugfs, or a byte, made dirty. */
#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/clean.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err e;

static int file_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *err)
{
    return full_pread(*(int *)ctx, buf, count, offset, err);
}

static void run(const char *command, const char *a, const char *b)
{
    cleanup(free) char *path = path_format("%s:/usr/sbin:/sbin", getenv("PATH"));
    cleanup(free) char *line = path_format("%s %s %s >/dev/null 2>&1", command, a, b);
    setenv("PATH", path, 1);
    if (system(line) != 0) {
        fprintf(stderr, "%s failed\n", line);
        exit(1);
    }
}

/* A new file system; the path is the test's to free. */
static char *make(const char *type)
{
    static int n;
    char *path = path_format("%s/disk-%d", unit_dir(), n++);
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 16 * 1024 * 1024) == 0);
    run(type, "-q -F", path);
    return path;
}

static struct clean_report check_against(const char *path, const char *base)
{
    struct clean_report report;
    cleanup(close) int fd = open(path, O_RDONLY);
    cleanup(close) int base_fd = base ? open(base, O_RDONLY) : -1;
    struct stat st;
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    struct reader disk = {&fd, (uint64_t)st.st_size, file_pread};
    struct reader base_disk = {&base_fd, (uint64_t)st.st_size, file_pread};
    CHECK_OK(clean_check(&disk, base ? &base_disk : NULL, &report, &e));
    return report;
}

static void expect(const char *path, enum clean_state state, const char *why)
{
    struct clean_report report = check_against(path, NULL);
    CHECK_STR(report.why, why);
    CHECK(report.state == state && !report.mounted_since);
}

static void poke(const char *path, uint64_t offset, uint8_t flip)
{
    cleanup(close) int fd = open(path, O_RDWR);
    uint8_t b;
    CHECK(fd >= 0);
    CHECK_OK(full_pread(fd, &b, 1, offset, &e));
    b ^= flip;
    CHECK_OK(full_pwrite(fd, &b, 1, offset, &e));
}

static void debugfs(const char *path, const char *request)
{
    cleanup(free) char *quoted = path_format("-R '%s'", request);
    run("debugfs -w", quoted, path);
}

static void new_ones_are_clean(void)
{
    static const char *const types[][2] = {
        {"mkfs.ext4", "ext4: clean"},
        {"mkfs.ext4 -O orphan_file", "ext4: clean"},
        {"mkfs.ext4 -O ^metadata_csum", "ext4: clean"},
        {"mkfs.ext4 -O ^has_journal", "ext4: clean"},
        {"mkfs.ext3", "ext3: clean"},
        {"mkfs.ext2", "ext2: clean"},
        {"mkfs.ext2 -r 0", "ext2: clean"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        cleanup(free) char *path = make(types[i][0]);
        expect(path, CLEAN_YES, types[i][1]);
    }
}

static void dirty_ones_say_why(void)
{
    static const char *const states[][2] = {
        {"feature needs_recovery", "ext4: needs journal recovery"},
        {"ssv state 0", "ext4: was not unmounted"},
        {"ssv state 3", "ext4: has errors"},
        {"ssv state 5", "ext4: has orphaned files"},
        {"ssv last_orphan 12", "ext4: has orphaned files"},
        {"feature orphan_present", "ext4: has orphaned files"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        cleanup(free) char *path = make("mkfs.ext4");
        debugfs(path, states[i][0]);
        expect(path, CLEAN_NO, states[i][1]);
    }
}

static void a_mounted_ext2_is_dirty(void)
{
    cleanup(free) char *path = make("mkfs.ext2");
    debugfs(path, "ssv state 0");
    expect(path, CLEAN_NO, "ext2: was not unmounted");
}

static void a_torn_superblock_is_not_clean(void)
{
    cleanup(free) char *path = make("mkfs.ext4");
    static const unsigned bytes[] = {0, 0x35, 0x100, 0x175, 0x3fb, 0x3ff};
    for (size_t i = 0; i < ARRAY_SIZE(bytes); i++) {
        poke(path, 1024 + bytes[i], 0x40);
        expect(path, CLEAN_NO, "ext4: the superblock's checksum is wrong");
        poke(path, 1024 + bytes[i], 0x40);
    }
    expect(path, CLEAN_YES, "ext4: clean");
}

static void others_are_not_judged(void)
{
    const char *none = "no file system that can be judged: neither ext2, ext3, ext4 nor FAT";
    cleanup(free) char *path = path_format("%s/other", unit_dir());
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT, 0600);
    static const uint64_t sizes[] = {1, 1024, 2047, 2048, 1 << 20};
    expect(path, CLEAN_UNKNOWN, none);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        CHECK(ftruncate(fd, (off_t)sizes[i]) == 0);
        expect(path, CLEAN_UNKNOWN, none);
    }
    cleanup(free) char *journal = make("mkfs.ext4 -b 4096 -O journal_dev");
    expect(journal, CLEAN_UNKNOWN, "no file system that can be judged: a journal of another disk");
}

static void a_mount_since_the_base_shows(void)
{
    cleanup(free) char *base = make("mkfs.ext4");
    cleanup(free) char *disk = path_format("%s/copy", unit_dir());
    run("cp", base, disk);
    CHECK(!check_against(disk, base).mounted_since);
    debugfs(disk, "ssv mnt_count 1");
    CHECK(check_against(disk, base).mounted_since);
    run("cp", base, disk);
    debugfs(disk, "ssv mtime 20261123120000");
    CHECK(check_against(disk, base).mounted_since && check_against(disk, base).state == CLEAN_YES);
    run("cp", base, disk);
    cleanup(free) char *empty = path_format("%s/empty", unit_dir());
    run("truncate", "-s 16M", empty);
    CHECK(!check_against(disk, empty).mounted_since); /* made, but never mounted */
    debugfs(disk, "ssv mnt_count 1");
    CHECK(check_against(disk, empty).mounted_since);
}

/* --- FAT --- */

static const struct {
    const char *make, *name;
    unsigned state_at, flags_at; /* flags_at: the highest byte of the FAT's second entry; 0: none */
} fats[] = {
    {"mkfs.fat -F 32 -s 1 -R 32", "FAT32", 0x41, 32 * 512 + 7},
    {"mkfs.fat -F 16 -s 1 -R 4", "FAT16", 0x25, 4 * 512 + 3},
    {"mkfs.fat -F 12 -s 8 -R 2", "FAT12", 0x25, 0},
};

static char *make_fat(const char *command)
{
    static int n;
    char *path = path_format("%s/fat-%d", unit_dir(), n++);
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT, 0600);
    bool is_32 = strstr(command, "-F 32");
    CHECK(fd >= 0 && ftruncate(fd, (is_32 ? 48 : 12) * 1024 * 1024) == 0);
    run(command, "", path);
    return path;
}

/* Bit 0 of `state`: Linux has it mounted. Bits 3 and 2 of `flags`: the shut-down and no-error bits are flipped, to clear. */
static const char *fat_expected(size_t i, unsigned state, unsigned flags)
{
    if ((state & 1) || (fats[i].flags_at && (flags & 8)))
        return "was not unmounted";
    return fats[i].flags_at && (flags & 4) ? "has errors" : "clean";
}

static void fat_is_clean_by_both_signs(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(fats); i++) {
        cleanup(free) char *path = make_fat(fats[i].make);
        for (unsigned state = 0; state < 4; state++) {
            for (unsigned flags = 0; flags < 16; flags++) {
                const char *expected = fat_expected(i, state, flags);
                cleanup(free) char *why = path_format("%s: %s", fats[i].name, expected);
                uint8_t flip = (uint8_t)(strcmp(fats[i].name, "FAT16") == 0 ? flags << 4 : flags);
                poke(path, fats[i].state_at, (uint8_t)state);
                poke(path, fats[i].flags_at ? fats[i].flags_at : 4096, flip);
                expect(path, strcmp(expected, "clean") == 0 ? CLEAN_YES : CLEAN_NO, why);
                poke(path, fats[i].state_at, (uint8_t)state);
                poke(path, fats[i].flags_at ? fats[i].flags_at : 4096, flip);
            }
        }
    }
}

static void put(const char *path, uint64_t offset, const void *bytes, size_t count)
{
    cleanup(close) int fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    CHECK_OK(full_pwrite(fd, bytes, count, offset, &e));
}

static void a_hostile_boot_sector_is_no_fat(void)
{
    static const struct {
        unsigned at, count;
        uint8_t bytes[4];
    } bad[] = {
        {11, 2, {0, 0}},               /* bytes of a sector */
        {11, 2, {1, 2}},               /* no power of two */
        {11, 2, {0, 1}},               /* 256 */
        {11, 2, {0, 0x20}},            /* 8192 */
        {13, 1, {0}},                  /* sectors of a cluster */
        {13, 1, {3}},                  /* no power of two */
        {14, 2, {0, 0}},               /* reserved sectors */
        {16, 1, {0}},                  /* FATs */
        {21, 1, {0x10}},               /* the medium */
        {32, 4, {0, 0, 0, 0}},         /* sectors */
        {32, 4, {1, 0, 0, 0}},         /* fewer than the FATs have */
        {32, 4, {1, 0x80, 1, 0}},      /* one more than the disk has */
        {32, 4, {255, 255, 255, 255}}, /* all that there can be */
        {36, 4, {0, 0, 0, 0}},         /* sectors of a FAT */
        {36, 4, {255, 255, 255, 255}}, /* all that there can be */
        {510, 2, {0, 0}},              /* no boot sector */
    };
    cleanup(free) char *good = make_fat(fats[0].make);
    cleanup(free) char *path = path_format("%s/hostile", unit_dir());
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        run("cp", good, path);
        put(path, bad[i].at, bad[i].bytes, bad[i].count);
        expect(path, CLEAN_UNKNOWN, "no file system that can be judged: neither ext2, ext3, ext4 nor FAT");
    }
    run("cp", good, path);
    CHECK(truncate(path, 48 * 1024 * 1024 - 512) == 0);
    expect(path, CLEAN_UNKNOWN, "no file system that can be judged: neither ext2, ext3, ext4 nor FAT");
}

static void a_fat32_that_allocated_was_mounted(void)
{
    static const uint8_t free_clusters[4] = {7, 6, 0, 0}, serial[4] = {1, 2, 3, 4}, far[2] = {200, 0};
    cleanup(free) char *base = make_fat(fats[0].make);
    cleanup(free) char *disk = path_format("%s/fat-copy", unit_dir());
    run("cp", base, disk);
    CHECK(!check_against(disk, base).mounted_since);
    put(disk, 512 + 488, free_clusters, 4);
    CHECK(check_against(disk, base).mounted_since && check_against(disk, base).state == CLEAN_YES);
    poke(disk, 0x41, 1);
    CHECK(check_against(disk, base).state == CLEAN_NO);
    poke(disk, 0x41, 1);
    put(disk, 48, far, 2); /* the FSINFO sector beyond the reserved ones */
    CHECK(check_against(disk, base).mounted_since && check_against(disk, disk).state == CLEAN_YES);
    put(disk, 0x43, serial, 4);
    CHECK(!check_against(disk, base).mounted_since); /* made anew */
}

static int failing_pread(void *ctx, void *buf, size_t count, uint64_t offset, struct err *err)
{
    (void)ctx, (void)buf, (void)count, (void)offset;
    return err_set(err, ERR_CORRUPT, "bad chunk");
}

static void a_failing_read_is_an_error(void)
{
    struct reader disk = {NULL, 1 << 20, failing_pread};
    struct clean_report report;
    CHECK_FAILS(clean_check(&disk, NULL, &report, &e), ERR_CORRUPT);
    CHECK_STR(e.msg, "superblock: bad chunk");
}

int main(void)
{
    UNIT(new_ones_are_clean);
    UNIT(dirty_ones_say_why);
    UNIT(a_mounted_ext2_is_dirty);
    UNIT(a_torn_superblock_is_not_clean);
    UNIT(others_are_not_judged);
    UNIT(a_mount_since_the_base_shows);
    UNIT(fat_is_clean_by_both_signs);
    UNIT(a_hostile_boot_sector_is_no_fat);
    UNIT(a_fat32_that_allocated_was_mounted);
    UNIT(a_failing_read_is_an_error);
    return 0;
}
