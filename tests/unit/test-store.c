/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/store: exports, and what stands in an image's folder. */
#include "lib/base/cleanup.h"
#include "lib/store/export.h"
#include "lib/store/store.h"
#include "tests/unit/craft.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

static struct err e;
static unsigned seed = 1;

/* --- export --- */

static bool count_reports(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *last = ctx;
    CHECK(done > *last && done <= total);
    *last = done;
    return true;
}

static bool interrupt(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    return false;
}

static int export_raw(struct view *v, int fd, const struct progress *progress)
{
    const struct export_options o = {.progress = progress ? *progress : (struct progress){0}};
    return export_disk(v, fd, &o, &e);
}

struct drain {
    pthread_t thread;
    int fd;
    uint8_t *bytes;
    size_t got;
};

static void *drain(void *arg)
{
    struct drain *p = arg;
    struct err err;
    CHECK(full_read(p->fd, p->bytes, 64 * MIB, &p->got, &err) == 0);
    return NULL;
}

static void export_to_pipe(struct view *v, const struct disk *d)
{
    int fds[2];
    struct drain p = {.bytes = malloc(64 * MIB)};
    uint64_t last = 0;
    struct progress progress = {.report = count_reports, .ctx = &last};
    CHECK(p.bytes && pipe(fds) == 0);
    p.fd = fds[0];
    CHECK(pthread_create(&p.thread, NULL, drain, &p) == 0);
    CHECK_OK(export_raw(v, fds[1], &progress));
    close(fds[1]);
    pthread_join(p.thread, NULL);
    close(fds[0]);
    CHECK(p.got == d->size && memcmp(p.bytes, d->bytes, d->size) == 0 && last == d->size);
    free(p.bytes);
}

static void export_to_file(struct view *v, const struct disk *d)
{
    cleanup(free) char *path = path_format("%s/exported", unit_dir()), *text = NULL;
    cleanup(close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint64_t last = 0;
    struct progress progress = {.report = count_reports, .ctx = &last};
    struct stat st;
    size_t len;
    CHECK(fd >= 0);
    CHECK_OK(export_raw(v, fd, &progress));
    CHECK_OK(read_file(path, d->size, &text, &len, &e));
    CHECK(len == d->size && memcmp(text, d->bytes, len) == 0 && last == d->size);
    CHECK(fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 < d->size - 7 * MIB);
    CHECK_FAILS(export_raw(v, fd, NULL), ERR_STATE);
    CHECK(ftruncate(fd, 0) == 0);
    progress.report = interrupt;
    CHECK_FAILS(export_raw(v, fd, &progress), ERR_FAILED);
}

static void exports(void)
{
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk d;
    struct craft c;
    struct view *v;
    disk_make(&d, 30 * MIB + 777, &seed);
    memset(d.bytes + 10 * MIB, 0, 9 * MIB + 5);
    craft_layer(&c, craft_images(), &spec, &d, NULL);
    struct store *s = craft_store(0);
    CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
    export_to_pipe(v, &d);
    export_to_file(v, &d);
    view_close(v);

    /* damage stops it, and so does what cannot be written */
    cleanup(free) char *path = craft_path(&c), *out = path_format("%s/damaged", unit_dir());
    cleanup(close) int fd = open(out, O_RDWR | O_CREAT | O_CLOEXEC, 0600),
                       full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && full >= 0);
    CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
    CHECK(export_raw(v, full, NULL) < 0 && e.sys == ENOSPC);
    /* a file that can be made longer, but not written */
    cleanup(close) int sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(sealed >= 0 && fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE) == 0);
    CHECK(export_raw(v, sealed, NULL) < 0 && e.sys == EPERM);
    view_close(v);
    store_close(s);
    s = craft_store(0);
    craft_flip(path, 5);
    CHECK_OK(view_open(s, &spec.image, 100, &v, &e));
    CHECK_FAILS(export_raw(v, fd, NULL), ERR_CORRUPT);
    view_close(v);
    store_close(s);
    craft_release(&c);
    disk_release(&d);
}

/* --- folders --- */

static void finding_versions(void)
{
    struct craft_spec spec = craft_image(CODEC_ZSTD, 16);
    struct disk d;
    struct craft c;
    struct uuid overlay, none = {{0}};
    uint64_t n;
    struct store *s = craft_store(0);
    uuid_make(&overlay);
    CHECK_OK(store_highest_version(s, &spec.image, &n, &e));
    CHECK(n == 0 && !store_has_version(s, &spec.image, 9));
    disk_make(&d, 100000, &seed);
    for (spec.version = 9; spec.version <= 11; spec.version++) {
        spec.overlay = spec.version == 10 ? overlay : none;
        craft_layer(&c, craft_images(), &spec, &d, NULL);
        craft_release(&c);
    }
    char image[UUID_TEXT_SIZE];
    static const char *const noise[] = {"012.img", "99.img.tmp", "img", ".img", "18446744073709551616.img",
                                        "-5.img",  "88"};
    for (size_t i = 0; i < ARRAY_SIZE(noise); i++) {
        cleanup(free) char *path =
            path_format("%s/%s/%s", craft_images(), uuid_to_text(&spec.image, image), noise[i]);
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    }
    CHECK_OK(store_highest_version(s, &spec.image, &n, &e));
    CHECK(n == 11 && store_has_version(s, &spec.image, 9) && !store_has_version(s, &spec.image, 12));
    CHECK_OK(store_find_by_overlay(s, &spec.image, &overlay, &n, &e));
    CHECK(n == 10);
    CHECK_FAILS(store_find_by_overlay(s, &spec.image, &none, &n, &e), ERR_NOT_FOUND);
    uuid_make(&overlay);
    CHECK_FAILS(store_find_by_overlay(s, &spec.image, &overlay, &n, &e), ERR_NOT_FOUND);
    CHECK_OK(store_remove_image(s, &spec.image, &e));
    CHECK_OK(store_remove_image(s, &spec.image, &e));
    CHECK(!store_has_version(s, &spec.image, 9));
    store_close(s);
    disk_release(&d);
}

static void what_killed_builds_left(void)
{
    struct uuid image;
    char text[UUID_TEXT_SIZE];
    int lock;
    struct store *s = craft_store(0);
    uuid_make(&image);
    CHECK_OK(store_make_image(s, &image, &e));
    CHECK_OK(store_make_image(s, &image, &e));
    CHECK_OK(store_lock_image(s, &image, &lock, &e));
    close(lock);
    cleanup(free) char *dead = path_format("%s/%s/tmp/dead", craft_images(), uuid_to_text(&image, text));
    cleanup(free) char *live = path_format("%s/%s/tmp/live", craft_images(), uuid_to_text(&image, text));
    cleanup(free) char *stray = path_format("%s/stray", craft_images());
    close(open(dead, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    close(open(stray, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    int fd = open(live, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    CHECK_OK(store_clean_tmp(s, &e));
    CHECK(!path_exists(dead) && path_exists(live) && path_exists(stray));
    close(fd);
    CHECK_OK(store_clean_tmp(s, &e));
    CHECK(!path_exists(live));
    store_close(s);
}

int main(void)
{
    UNIT(exports);
    UNIT(finding_versions);
    UNIT(what_killed_builds_left);
    return 0;
}
