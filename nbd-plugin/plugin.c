/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit's callbacks: each turns its arguments into a call of handle.c or server.c, and its error into
 * nbdkit's. */
#define NBDKIT_API_VERSION 2
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL /* at most: see on_thread_model */
#include <nbdkit-plugin.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "nbd-plugin/arrivals.h"
#include "nbd-plugin/handle.h"
#include "tftp-glue/kernel.h"
#include "tftp-glue/render.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static char *conf_path;       /* config=FILE */
static struct server *server; /* from get_ready on */
static struct arrivals arrivals;

static void log_to_nbdkit(enum log_level level, const char *message)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if (level == LOG_LEVEL_ERROR)
        nbdkit_error("%s", message);
    else
        fprintf(stderr, "labboot: %s: %s\n", names[level], message);
}

/* The NBD protocol knows few errors: every other one would reach the client as EINVAL. */
static void set_errno(const struct err *e)
{
    switch (e->sys) {
    case EPERM:
    case EROFS:
    case ENOMEM:
    case ENOSPC:
    case ESHUTDOWN:
        nbdkit_set_error(e->sys);
        break;
    case EDQUOT:
    case EFBIG:
        nbdkit_set_error(ENOSPC);
        break;
    default:
        nbdkit_set_error(e->code == ERR_DENIED ? EPERM : EIO);
    }
}

/* From 1.42 on nbdkit tells the client its last message: what names files of the server goes to the log alone. */
static int fail(const struct err *e)
{
    set_errno(e);
    if (!*e->msg)
        return -1;
    if (e->code == ERR_FAILED || e->code == ERR_CORRUPT) {
        log_warning("%s", e->msg);
        nbdkit_error("failed: the server's log says why");
    } else {
        nbdkit_error("%s", e->msg);
    }
    return -1;
}

/* At the start there is no client. */
static int fail_to_start(const struct err *e)
{
    nbdkit_error("%s", e->msg);
    return -1;
}

static int on_config(const char *key, const char *value)
{
    if (strcmp(key, "config") != 0) {
        nbdkit_error("unknown parameter '%s': config=FILE is the only one", key);
        return -1;
    }
    free(conf_path);
    conf_path = nbdkit_absolute_path(value);
    return conf_path ? 0 : -1;
}

static int on_get_ready(void)
{
    static const struct server_hooks hooks = {.publish = {.kernel = kernel_extract,
                                                          .kernel_of_overlay = kernel_extract_overlay,
                                                          .remove_kernel = kernel_remove_boot,
                                                          .remove_version_kernel = kernel_remove},
                                              .render = render_scripts};
    struct err e;
    if (server_configure(conf_path ? conf_path : conf_default_path(), &hooks, &server, &e) < 0)
        return fail_to_start(&e);
    return 0;
}

static bool sleep_in_nbdkit(unsigned milliseconds)
{
    return nbdkit_nanosleep(milliseconds / 1000, milliseconds % 1000 * 1000000) == 0;
}

/* nbdkit gives each connection a buffer as large as its largest request, up to 64 MiB. Those shall go back to the system with
 * the connection: malloc would raise its threshold after the first, and keep the later ones. */
#define OWN_MAPPING (1024 * 1024)

static int on_after_fork(void)
{
    struct err e;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        files.rlim_cur = RLIM_INFINITY;
    mallopt(M_MMAP_THRESHOLD, OWN_MAPPING);
    log_set_sink(log_to_nbdkit, (enum log_level)server_conf(server)->server.log_level);
    if (arrivals_init(&arrivals, files.rlim_cur, &e) < 0 || server_start(server, sleep_in_nbdkit, &e) < 0)
        return fail_to_start(&e);
    return 0;
}

static void on_cleanup(void)
{
    if (server)
        server_stop(server);
}

static void on_unload(void)
{
    server_close(server);
    free(conf_path);
}

/* Before 1.34, which brought nbdkit_disconnect, nbdkit aborts when a client drops with replies pending,
 * unless each connection's requests come one at a time. */
static int on_thread_model(void)
{
    return dlsym(RTLD_DEFAULT, "nbdkit_disconnect") ? NBDKIT_THREAD_MODEL_PARALLEL
                                                    : NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS;
}

static void on_dump_plugin(void)
{
    printf("labboot_version=%s\n", PACKAGE_VERSION);
    printf("labboot_format=%u\n", FORMAT_VERSION);
}

static int get_peer(bool tls, struct peer *ret)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    if (nbdkit_peer_name((struct sockaddr *)&sa, &len) < 0)
        return -1;
    peer_from_sockaddr((const struct sockaddr *)&sa, ret);
    ret->tls = tls;
    return 0;
}

static int on_preconnect(int readonly)
{
    struct peer peer;
    struct err e;
    (void)readonly;
    if (get_peer(false, &peer) < 0)
        return -1;
    if (arrival_begin(&arrivals, &peer, &e) == 0)
        return 0;
    if (handle_may_tell_refusal(server))
        log_warning("refused a connection: %s", e.msg);
    return -1;
}

static int add_export(void *exports, const char *name, const char *description)
{
    return nbdkit_add_export(exports, name, description);
}

static int on_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    struct peer peer;
    struct err e;
    (void)readonly;
    if (get_peer(is_tls, &peer) < 0)
        return -1;
    return exports_list(server, &peer, add_export, exports, &e) < 0 ? fail(&e) : 0;
}

static void *on_open(int readonly)
{
    struct peer peer;
    struct handle *h;
    struct err e;
    if (get_peer(nbdkit_is_tls() > 0, &peer) < 0)
        return NULL;
    if (handle_open(server, nbdkit_export_name(), &peer, &h, &e) < 0) {
        fail(&e);
        return NULL;
    }
    h->read_only |= readonly != 0;
    arrival_note_open(&arrivals, true);
    return h;
}

static void on_close(void *handle)
{
    arrival_note_open(&arrivals, false);
    handle_close(handle);
}

static int64_t on_get_size(void *handle)
{
    const struct handle *h = handle;
    return (int64_t)h->size;
}

static const char *on_export_description(void *handle)
{
    const struct handle *h = handle;
    return nbdkit_strdup_intern(h->description);
}

static int on_can_write(void *handle)
{
    const struct handle *h = handle;
    return !h->read_only;
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int no(void *handle)
{
    (void)handle;
    return 0;
}

static int native_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int native_cache(void *handle)
{
    (void)handle;
    return NBDKIT_CACHE_NATIVE;
}

static int on_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = 1;
    *preferred = CHUNK_SIZE_MAX;
    *maximum = 32 * 1024 * 1024;
    return 0;
}

static int on_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct err e;
    (void)flags;
    return handle_pread(handle, buf, count, offset, &e) < 0 ? fail(&e) : 0;
}

static int on_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct err e;
    return handle_pwrite(handle, buf, count, offset, flags & NBDKIT_FLAG_FUA, &e) < 0 ? fail(&e) : 0;
}

/* Also for trim: a trimmed range reads as zero, so that overlays read the same every time. */
static int on_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct err e;
    return handle_zero(handle, count, offset, flags & NBDKIT_FLAG_FUA, &e) < 0 ? fail(&e) : 0;
}

static int on_flush(void *handle, uint32_t flags)
{
    struct err e;
    (void)flags;
    return handle_flush(handle, &e) < 0 ? fail(&e) : 0;
}

static int on_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct err e;
    (void)flags;
    return handle_prefetch(handle, count, offset, &e) < 0 ? fail(&e) : 0;
}

/* Every extent is cut to the range: nbdkit 1.32.5 aborts on a reply that reaches past it (CVE-2025-47711). */
static int on_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                      struct nbdkit_extents *extents)
{
    for (uint64_t left = count, length; left > 0; left -= length, offset += length) {
        bool zero;
        struct err e;
        if (handle_extent(handle, left, offset, &length, &zero, &e) < 0)
            return fail(&e);
        if (nbdkit_add_extent(extents, offset, length, zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0) <
            0)
            return -1;
        if (flags & NBDKIT_FLAG_REQ_ONE)
            break;
    }
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "labboot",
    .longname = "labboot boot server",
    .version = PACKAGE_VERSION,
    .description = "root disks of diskless lab machines, from an image store with versions",
    .magic_config_key = "config",
    .config_help = "config=FILE     labboot's configuration (default: " SYSCONFDIR "/labboot/labboot.conf)",
    .config = on_config,
    .get_ready = on_get_ready,
    .after_fork = on_after_fork,
    .cleanup = on_cleanup,
    .unload = on_unload,
    .dump_plugin = on_dump_plugin,
    .thread_model = on_thread_model,
    .preconnect = on_preconnect,
    .list_exports = on_list_exports,
    .open = on_open,
    .close = on_close,
    .get_size = on_get_size,
    .export_description = on_export_description,
    .can_write = on_can_write,
    .can_flush = yes,
    .can_trim = yes,
    .can_zero = yes,
    .can_fast_zero = yes,
    .can_extents = yes,
    .can_multi_conn = yes,
    .can_fua = native_fua,
    .can_cache = native_cache,
    .is_rotational = no,
    .block_size = on_block_size,
    .pread = on_pread,
    .pwrite = on_pwrite,
    .zero = on_zero,
    .trim = on_zero,
    .flush = on_flush,
    .cache = on_cache,
    .extents = on_extents,
    .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
