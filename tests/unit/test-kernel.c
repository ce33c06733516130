/* SPDX-License-Identifier: BSD-3-Clause */
/* Kernels out of disks: what is found, and that no disk, however broken, hurts more than the child that reads it. */
#include "tests/unit/unit.h"
#include "tftp-glue/kernel-fs.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/spawn.h"

#include <fcntl.h>
#include <sys/stat.h>

#define DISK_SIZE (8 * MIB)

static const struct spawn_limits enough = {.seconds = 20, .file_bytes = GIB},
                                 short_time = {.seconds = 1, .file_bytes = GIB};

/* The program is its own child: `test-kernel DISK DIR` extracts. */
static const char *self;

static char *in_dir(const char *name)
{
    return path_format("%s/%s", unit_dir(), name);
}

static void shell(const char *format, const char *arg)
{
    cleanup(free) char *dir = path_format("cd '%s' && ", unit_dir());
    cleanup(free) char *command = path_format("%s%s", dir, format);
    setenv("ARG", arg, 1);
    CHECK(system(command) == 0);
}

/* A disk named `name` of the tree that `commands` make in an empty folder. */
static void make_disk(const char *name, const char *commands)
{
    shell("rm -rf tree && mkdir tree && cd tree && eval \"$ARG\"", commands);
    shell("rm -f \"$ARG\" && truncate -s 8M \"$ARG\" && mkfs.ext4 -q -F -d tree \"$ARG\"", name);
}

static int extract(const char *disk, struct err *e)
{
    cleanup(free) char *path = in_dir(disk);
    cleanup(free) char *out = in_dir("out");
    CHECK(remove_tree(out, e) == 0);
    CHECK(mkdir(out, 0700) == 0);
    const char *const argv[] = {self, path, out, NULL};
    return spawn_limited(argv, &enough, e);
}

static void check_file(const char *name, const char *wanted)
{
    struct err e;
    cleanup(free) char *path = path_format("%s/out/%s", unit_dir(), name);
    cleanup(free) char *text = NULL;
    size_t len;
    struct stat st;
    CHECK_OK(read_file(path, 4096, &text, &len, &e));
    CHECK_STR(text, wanted);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0644);
}

static void the_newest_whole_pair_is_taken(void)
{
    struct err e;
    make_disk("a", "mkdir boot && cd boot && for v in 6.1.0-9 6.1.0-37 5.10.0-99; do "
                   "printf k$v > vmlinuz-$v; printf i$v > initrd.img-$v; done; "
                   "printf x > vmlinuz-6.2.0-1; printf x > vmlinuz-7.0; : > initrd.img-7.0; "
                   "printf x > 'vmlinuz-8 ; reboot'; printf x > 'initrd.img-8 ; reboot'");
    CHECK_OK(extract("a", &e));
    check_file("vmlinuz", "k6.1.0-37");
    check_file("initrd.img", "i6.1.0-37");
    check_file("release", "6.1.0-37");
}

/* What others mount at /boot. */
static void the_top_may_be_boot(void)
{
    struct err e;
    make_disk("boot",
              "for v in 6.1.0-9 6.1.0-37; do printf k$v > vmlinuz-$v; printf i$v > initrd.img-$v; done; "
              "mkdir boot && printf x > boot/vmlinuz-7.0");
    CHECK_OK(extract("boot", &e));
    check_file("vmlinuz", "k6.1.0-37");
    check_file("initrd.img", "i6.1.0-37");
    check_file("release", "6.1.0-37");
}

static void links_are_followed_inside_the_disk(void)
{
    struct err e;
    make_disk("links",
              "mkdir -p boot usr/lib/kernel && printf k > usr/lib/kernel/v && printf i > usr/lib/kernel/i && "
              "ln -s /usr/lib/kernel/v boot/vmlinuz-6.1 && ln -s ../usr/lib/kernel/i boot/initrd.img-6.1");
    CHECK_OK(extract("links", &e));
    check_file("vmlinuz", "k");
    make_disk(
        "root",
        "mkdir -p k && printf k > k/vmlinuz-6.5-x && printf i > k/i && ln -s k/vmlinuz-6.5-x vmlinuz && "
        "ln -s /k/i initrd.img");
    CHECK_OK(extract("root", &e));
    check_file("release", "6.5-x");
    make_disk("plain", "printf k > vmlinuz && printf i > initrd.img");
    CHECK_OK(extract("plain", &e));
    check_file("release", "vmlinuz");
}

static void no_pair_is_said(void)
{
    struct err e;
    make_disk("loop",
              "mkdir boot && ln -s vmlinuz-1 boot/vmlinuz-1 && ln -s initrd.img-1 boot/initrd.img-1 && "
              "ln -s b a && ln -s a b && ln -s a vmlinuz && ln -s b initrd.img");
    CHECK_FAILS(extract("loop", &e), ERR_NOT_FOUND);
    make_disk("alone", "mkdir boot && printf k > boot/vmlinuz-6.1.0-37");
    CHECK_FAILS(extract("alone", &e), ERR_NOT_FOUND);
    CHECK(strstr(e.msg, "no kernel with its initrd"));
    make_disk("outside", "ln -s /../../../../../../etc/passwd vmlinuz && ln -s /../../etc/passwd initrd.img");
    CHECK_FAILS(extract("outside", &e), ERR_NOT_FOUND);
    make_disk("folder", "mkdir -p vmlinuz initrd.img");
    CHECK_FAILS(extract("folder", &e), ERR_NOT_FOUND);
    make_disk("fifo", "mkfifo vmlinuz initrd.img");
    CHECK_FAILS(extract("fifo", &e), ERR_NOT_FOUND);
}

static void other_disks_are_told(void)
{
    struct err e;
    shell("truncate -s 8M zero && head -c 8388608 /dev/urandom > noise && truncate -s 512 tiny", "");
    CHECK_FAILS(extract("zero", &e), ERR_NOT_FOUND);
    CHECK(strstr(e.msg, "no ext4 file system on the disk itself"));
    CHECK_FAILS(extract("noise", &e), ERR_NOT_FOUND);
    CHECK_FAILS(extract("tiny", &e), ERR_NOT_FOUND);
    /* The file system says 8 MiB, the disk has 4. */
    shell("cp a cut && truncate -s 4M cut", "");
    CHECK(extract("cut", &e) == 0 || e.code == ERR_CORRUPT || e.code == ERR_NOT_FOUND);
}

static void a_kernel_that_is_too_large_is_refused(void)
{
    struct err e;
    make_disk("large", "truncate -s 200M vmlinuz && printf i > initrd.img");
    CHECK_FAILS(extract("large", &e), ERR_CORRUPT);
    CHECK(strstr(e.msg, "vmlinuz: 209715200 bytes"));
}

/* A fixed sequence, so that a failure can be seen again. */
static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Flips some bytes of the file's metadata, which is most of what is not zero in a small disk. */
static void spoil(const char *disk, uint32_t seed)
{
    struct err e;
    cleanup(free) char *path = in_dir(disk);
    cleanup(close) int fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    for (unsigned flips = 0; flips < 60;) {
        unsigned char byte;
        uint64_t offset = next_random(&seed) % DISK_SIZE;
        CHECK_OK(full_pread(fd, &byte, 1, offset, &e));
        if (byte == 0 && next_random(&seed) % 400 != 0)
            continue;
        byte = (unsigned char)next_random(&seed);
        CHECK_OK(full_pwrite(fd, &byte, 1, offset, &e));
        flips++;
    }
}

static void damaged_disks_hurt_nobody(void)
{
    struct err e;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        shell("cp a spoilt", "");
        spoil("spoilt", seed);
        int rc = extract("spoilt", &e);
        CHECK(rc == 0 || e.code == ERR_CORRUPT || e.code == ERR_NOT_FOUND);
    }
}

static void a_child_that_hangs_is_killed(void)
{
    struct err e;
    const char *const hang[] = {"/bin/sleep", "100", NULL};
    CHECK_FAILS(spawn_limited(hang, &short_time, &e), ERR_CORRUPT);
    CHECK(strstr(e.msg, "killed after 1 s"));
    const char *const closed[] = {"/bin/sh", "-c", "exec 2>&-; kill -SEGV $$", NULL};
    CHECK_FAILS(spawn_limited(closed, &enough, &e), ERR_CORRUPT);
    const char *const missing[] = {"/no/such/program", NULL};
    CHECK_FAILS(spawn_limited(missing, &enough, &e), ERR_FAILED);
    const char *const rude[] = {"/bin/sh", "-c", "printf 'a\\033[2Jb\\nsecond' >&2; exit 3", NULL};
    CHECK_FAILS(spawn_limited(rude, &enough, &e), ERR_NOT_FOUND);
    CHECK_STR(e.msg, "a?[2Jb");
    const char *const full[] = {"/bin/sh", "-c", "echo full >&2; exit 28", NULL};
    CHECK_FAILS(spawn_limited(full, &enough, &e), ERR_FAILED);
    CHECK(e.sys == ENOSPC);
    CHECK_STR(e.msg, "full");
    const char *const loud[] = {"/bin/sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1", NULL};
    CHECK_FAILS(spawn_limited(loud, &enough, &e), ERR_FAILED);
}

static int read_disk(void *ctx, void *buf, size_t count, uint64_t offset, struct err *e)
{
    return full_pread(*(int *)ctx, buf, count, offset, e);
}

static int child(const char *disk, const char *out)
{
    struct err e;
    struct stat st;
    cleanup(close) int fd = open(disk, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    struct reader reader = {.ctx = &fd, .size = (uint64_t)st.st_size, .pread = read_disk};
    if (kernel_fs_copy(&reader, out, &e) == 0)
        return 0;
    fprintf(stderr, "%s\n", e.msg);
    return (int)e.code;
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return child(argv[1], argv[2]);
    self = realpath("/proc/self/exe", NULL);
    CHECK(self != NULL);
    if (system("PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -V >/dev/null 2>&1") != 0) {
        printf("skipped: no mkfs.ext4\n");
        return 77;
    }
    setenv("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", 1);
    UNIT(the_newest_whole_pair_is_taken);
    UNIT(the_top_may_be_boot);
    UNIT(links_are_followed_inside_the_disk);
    UNIT(no_pair_is_said);
    UNIT(other_disks_are_told);
    UNIT(a_kernel_that_is_too_large_is_refused);
    UNIT(damaged_disks_hurt_nobody);
    UNIT(a_child_that_hangs_is_killed);
    return 0;
}
