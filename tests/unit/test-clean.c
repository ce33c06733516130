/* SPDX-License-Identifier: BSD-3-Clause */
/* The clean check on file systems that mkfs made and debugfs, or a byte, made dirty. */
#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/store/clean.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <libdeflate.h>
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
    struct stat st, base_st = {0};
    CHECK(fd >= 0 && fstat(fd, &st) == 0 && (!base || fstat(base_fd, &base_st) == 0));
    struct reader disk = {&fd, (uint64_t)st.st_size, file_pread};
    struct reader base_disk = {&base_fd, (uint64_t)base_st.st_size, file_pread};
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
    const char *none = "no file system that can be judged";
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
        expect(path, CLEAN_UNKNOWN, "no file system that can be judged");
    }
    run("cp", good, path);
    CHECK(truncate(path, 48 * 1024 * 1024 - 512) == 0);
    expect(path, CLEAN_UNKNOWN, "no file system that can be judged");
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

/* --- partitions --- */

#define NO_JUDGE "no file system that can be judged"
#define DISK_MIB 64u
#define BIOS_BOOT "type=21686148-6449-6E6F-744E-656564454649"

/* `table` is sfdisk's language. The tests' partitions have 8 MiB each, the first one at 1 MiB. */
static char *make_table(const char *table)
{
    static int n;
    char *path = path_format("%s/table-%d", unit_dir(), n++);
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, DISK_MIB * 1024 * 1024) == 0);
    cleanup(free) char *script = path_format("printf '%s' | sfdisk --quiet", table);
    run(script, "", path);
    return path;
}

static const char gpt_table[] = "label:gpt\\nstart=1M,size=8M\\nstart=9M,size=8M\\nstart=17M,size=8M\\n"
                                "start=25M,size=8M," BIOS_BOOT "\\n";
static const char mbr_table[] = "label:dos\\nstart=1M,size=8M\\nstart=9M,size=50M,type=5\\n"
                                "start=10M,size=8M\\nstart=19M,size=8M\\n";

static void make_ext4_at(const char *path, unsigned mib)
{
    cleanup(free) char *command = path_format("mkfs.ext4 -q -F -E offset=%u", mib * 1024 * 1024);
    run(command, path, "8M");
}

static void make_fat_at(const char *path, unsigned mib)
{
    cleanup(free) char *command = path_format("mkfs.fat -F 16 -s 1 --offset %u", mib * 2048);
    run(command, path, "8192");
}

static void make_swap_at(const char *path, unsigned mib)
{
    put(path, mib * 1024 * 1024 + 4086, "SWAPSPACE2", 10);
}

static void debugfs_at(const char *path, unsigned mib, const char *request)
{
    cleanup(free) char *at = path_format("'%s?offset=%u'", path, mib * 1024 * 1024);
    debugfs(at, request);
}

static char *make_gpt(void)
{
    char *path = make_table(gpt_table);
    make_ext4_at(path, 1);
    make_fat_at(path, 9);
    make_swap_at(path, 17);
    return path;
}

static char *make_mbr(void)
{
    char *path = make_table(mbr_table);
    make_fat_at(path, 1);
    make_ext4_at(path, 10);
    make_ext4_at(path, 19);
    return path;
}

static void one_partition_speaks_for_the_disk(const char *path, unsigned fat, unsigned ext,
                                              unsigned number_ext)
{
    cleanup(free) char *dirty = path_format("partition %u: ext4: needs journal recovery", number_ext);
    debugfs_at(path, ext, "feature needs_recovery");
    expect(path, CLEAN_NO, dirty);
    debugfs_at(path, ext, "feature -needs_recovery");
    poke(path, fat * 1024 * 1024 + 0x25, 1);
    cleanup(free) char *fat_dirty = path_format("partition %u: FAT16: was not unmounted", fat == 1 ? 1 : 2);
    expect(path, CLEAN_NO, fat_dirty);
    poke(path, fat * 1024 * 1024 + 0x25, 1);
}

static void all_partitions_of_a_gpt_are_clean(void)
{
    cleanup(free) char *path = make_gpt();
    expect(path, CLEAN_YES, "2 partitions: clean");
    one_partition_speaks_for_the_disk(path, 9, 1, 1);
    poke(path, 512, 1); /* the backup stands in for a bad header */
    expect(path, CLEAN_YES, "2 partitions: clean");
}

static void all_partitions_of_an_mbr_are_clean(void)
{
    cleanup(free) char *path = make_mbr();
    expect(path, CLEAN_YES, "3 partitions: clean");
    one_partition_speaks_for_the_disk(path, 1, 10, 5);
    one_partition_speaks_for_the_disk(path, 1, 19, 6);
}

static void an_unknown_partition_leaves_the_disk_unknown(void)
{
    static const uint8_t other[10] = "XFSB";
    cleanup(free) char *path = make_gpt();
    put(path, 17 * 1024 * 1024 + 4086, other, sizeof other); /* it is no swap now */
    expect(path, CLEAN_UNKNOWN, "partition 3: " NO_JUDGE);
    put(path, 17 * 1024 * 1024 + 4086, "S1SUSPEND", 10); /* a system sleeps there */
    expect(path, CLEAN_UNKNOWN, "partition 3: " NO_JUDGE);
    debugfs_at(path, 1, "feature needs_recovery"); /* which nobody's word makes good */
    expect(path, CLEAN_NO, "partition 1: ext4: needs journal recovery");
    make_ext4_at(path, 25); /* a file system where none should be counts all the same */
    debugfs_at(path, 1, "feature -needs_recovery");
    make_swap_at(path, 17);
    expect(path, CLEAN_YES, "3 partitions: clean");
    debugfs_at(path, 25, "ssv state 0");
    expect(path, CLEAN_NO, "partition 4: ext4: was not unmounted");
}

static void a_disk_with_nothing_to_judge_is_unknown(void)
{
    static const char *const tables[] = {"label:gpt\\n", "label:dos\\n",
                                         "label:gpt\\nstart=1M,size=8M," BIOS_BOOT "\\n"};
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        cleanup(free) char *path = make_table(tables[i]);
        expect(path, CLEAN_UNKNOWN, NO_JUDGE);
    }
}

/* A leftover, or the disk's own: it counts. */
static void a_file_system_beside_a_table_counts(void)
{
    cleanup(free) char *path = make("mkfs.ext4");
    CHECK(truncate(path, DISK_MIB * 1024 * 1024) == 0);
    run("printf 'start=17M,size=8M' | sfdisk --quiet --wipe never --label dos", "", path);
    expect(path, CLEAN_UNKNOWN, "partition 1: " NO_JUDGE);
    make_ext4_at(path, 17);
    expect(path, CLEAN_YES, "1 partition: clean");
    debugfs(path, "feature needs_recovery");
    expect(path, CLEAN_NO, "ext4: needs journal recovery");
}

static void a_mount_of_one_partition_shows(void)
{
    cleanup(free) char *base = make_gpt(), *disk = path_format("%s/gpt-copy", unit_dir());
    cleanup(free) char *other = make_table(mbr_table);
    run("cp", base, disk);
    CHECK(!check_against(disk, base).mounted_since);
    debugfs_at(disk, 1, "ssv mnt_count 1");
    CHECK(check_against(disk, base).mounted_since && check_against(disk, base).state == CLEAN_YES);
    CHECK(check_against(disk, other).mounted_since);
    CHECK(truncate(other, 512 * 1024) == 0);
    CHECK(check_against(disk, other).mounted_since); /* what the base has not was never mounted there */
}

static void what_lies_beyond_the_disk_is_not_judged(void)
{
    cleanup(free) char *path = make_mbr();
    static const uint8_t far[4] = {0, 0, 0xff, 0xff};
    CHECK(truncate(path, 20 * 1024 * 1024) == 0);
    expect(path, CLEAN_UNKNOWN, "partition 6: reaches beyond the disk");
    put(path, 446 + 8, far, 4);
    expect(path, CLEAN_UNKNOWN, "partition 1: reaches beyond the disk");
    cleanup(free) char *gpt = make_gpt();
    CHECK(truncate(gpt, 20 * 1024 * 1024) == 0);
    expect(gpt, CLEAN_UNKNOWN, NO_JUDGE); /* as for libblkid and Linux, it has no table then */
}

static void a_chain_that_does_not_end_is_left(void)
{
    cleanup(free) char *path = make_mbr();
    static const uint8_t self[4] = {0, 0, 0, 0}, far[4] = {0xff, 0xff, 0xff, 0x7f};
    uint64_t second_link = 9 * 1024 * 1024 + 446 + 16;
    put(path, second_link + 8, self, 4);
    CHECK(check_against(path, NULL).state == CLEAN_YES);
    put(path, second_link + 8, far, 4);
    expect(path, CLEAN_YES, "2 partitions: clean");
}

static void overlapping_partitions_are_each_judged(void)
{
    cleanup(free) char *path = make_mbr();
    cleanup(close) int fd = open(path, O_RDWR);
    uint8_t entry[16];
    CHECK_OK(full_pread(fd, entry, sizeof entry, 446, &e));
    CHECK_OK(full_pwrite(fd, entry, sizeof entry, 446 + 32, &e)); /* the first one once more, as the third */
    expect(path, CLEAN_YES, "4 partitions: clean");
    poke(path, 1024 * 1024 + 0x25, 1);
    expect(path, CLEAN_NO, "partition 1: FAT16: was not unmounted");
}

static void put_gpt_header(const char *path, uint64_t at, unsigned field, uint32_t value)
{
    uint8_t header[92], bytes[4];
    cleanup(close) int fd = open(path, O_RDWR);
    CHECK_OK(full_pread(fd, header, sizeof header, at, &e));
    put_le32(header + field, value);
    memset(header + 16, 0, 4);
    put_le32(bytes, libdeflate_crc32(0, header, sizeof header));
    memcpy(header + 16, bytes, 4);
    CHECK_OK(full_pwrite(fd, header, sizeof header, at, &e));
}

/* With the headers' own checksums right. */
static void an_absurd_gpt_is_no_table(void)
{
    static const struct {
        unsigned field;
        uint32_t value;
    } absurd[] = {{80, 0},   {80, 257}, {80, 0x1ffffff},  {80, UINT32_MAX}, {84, 0},
                  {84, 127}, {84, 256}, {84, UINT32_MAX}, {72, UINT32_MAX}, {76, UINT32_MAX}};
    for (size_t i = 0; i < ARRAY_SIZE(absurd); i++) {
        cleanup(free) char *path = make_gpt();
        put_gpt_header(path, 512, absurd[i].field, absurd[i].value);
        CHECK(check_against(path, NULL).state == CLEAN_YES); /* by the backup */
        put_gpt_header(path, DISK_MIB * 1024 * 1024 - 512, absurd[i].field, absurd[i].value);
        expect(path, CLEAN_UNKNOWN, NO_JUDGE);
    }
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
    UNIT(all_partitions_of_a_gpt_are_clean);
    UNIT(all_partitions_of_an_mbr_are_clean);
    UNIT(an_unknown_partition_leaves_the_disk_unknown);
    UNIT(a_disk_with_nothing_to_judge_is_unknown);
    UNIT(a_file_system_beside_a_table_counts);
    UNIT(a_mount_of_one_partition_shows);
    UNIT(what_lies_beyond_the_disk_is_not_judged);
    UNIT(a_chain_that_does_not_end_is_left);
    UNIT(overlapping_partitions_are_each_judged);
    UNIT(an_absurd_gpt_is_no_table);
    UNIT(a_failing_read_is_an_error);
    return 0;
}
