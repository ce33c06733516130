/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/render.h"
#include "tftp-glue/bootplan.h"
#include "tftp-glue/emit-ipxe.h"
#include "tftp-glue/kernel.h"
#include "tftp-glue/tree.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* Where Debian's ipxe package puts the loaders. */
#define LOADER_DIR "/usr/lib/ipxe"
#define LOADER_MAX (16u << 20)

static char *script_path(const struct conf *conf, const struct mac *mac)
{
    char dashes[MAC_TEXT_SIZE];
    return path_format("%s/boot/mac-%s.ipxe", conf->network.tftp_root, mac_format_dashes(mac, dashes));
}

static char *wait_path(const struct conf *conf, const struct mac *mac, int64_t boot)
{
    char dashes[MAC_TEXT_SIZE];
    return path_format("%s/boot/wait-%s-%" PRId64 ".ipxe", conf->network.tftp_root,
                       mac_format_dashes(mac, dashes), boot);
}

/* The temporary file stands outside boot/, so that no machine ever loads half a script. Nothing is synced: after a crash of
 * the host no script is served before `labboot dhcp` has rendered all of them again. */
static int write_file(const struct conf *conf, const char *path, const struct strbuf *text, struct err *e)
{
    if (text->failed)
        return err_sys(e, ENOMEM, "%s", path);
    cleanup(free) char *tmp = path_format("%s/tmp", conf->network.tftp_root);
    return replace_unsynced(path, tmp, strbuf_text(text), text->len, 0644, e);
}

static int unlink_if_there(const char *path, struct err *e)
{
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(e, errno, "%s", path);
    return 0;
}

/* The wait files in boot/, by name: read once for all machines. */
struct waits {
    struct dirent **entries;
    int count;
};

static void cleanup_waits(struct waits *w)
{
    for (int i = 0; i < w->count; i++)
        free(w->entries[i]);
    free(w->entries);
}

static int is_wait(const struct dirent *entry)
{
    return strncmp(entry->d_name, "wait-", 5) == 0;
}

static int list_waits(const struct conf *conf, struct waits *ret, struct err *e)
{
    cleanup(free) char *dir = path_format("%s/boot", conf->network.tftp_root);
    struct waits w;
    w.count = scandir(dir, &w.entries, is_wait, NULL);
    if (w.count < 0)
        return err_sys(e, errno, "%s", dir);
    *ret = w;
    return 0;
}

/* Removes those of this card, but for that of `boot` (0: all). */
static int remove_waits(const struct conf *conf, const struct waits *waits, const struct mac *mac,
                        int64_t boot, struct err *e)
{
    cleanup(free) char *kept = wait_path(conf, mac, boot);
    char prefix[MAC_TEXT_SIZE + 8], dashes[MAC_TEXT_SIZE];
    int len = snprintf(prefix, sizeof prefix, "wait-%s-", mac_format_dashes(mac, dashes));
    for (int i = 0; i < waits->count; i++) {
        const char *name = waits->entries[i]->d_name;
        if (strncmp(name, prefix, (size_t)len) != 0)
            continue;
        cleanup(free) char *path = path_format("%s/boot/%s", conf->network.tftp_root, name);
        if (strcmp(path, kept) != 0 && unlink_if_there(path, e) < 0)
            return -1;
    }
    return 0;
}

/* The address of a card; all zero where it has none, or the addresses are not ours to give. */
static int card_address(struct catalog *c, const struct conf *conf, const struct mac *mac,
                        struct in6_addr *ret, struct err *e)
{
    memset(ret, 0, sizeof *ret);
    if (conf->network.mode != CONF_MODE_DHCP || ip_is_unset(&conf->network.range_first))
        return 0;
    struct in6_addr address;
    if (address_of_mac(c, mac, &address, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    *ret = address;
    return 0;
}

static int render_card(struct catalog *c, const struct conf *conf, const struct waits *waits,
                       const struct script_job *job, const struct mac *mac, struct bootplan_network *net,
                       struct err *e)
{
    cleanup(bootplan) struct bootplan plan = {0};
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    cleanup(free) char *path = script_path(conf, mac);
    bool wait = job->kind == SCRIPT_WAIT;
    if (card_address(c, conf, mac, &net->address, e) < 0 ||
        bootplan_make(conf, job, mac, net, &plan, e) < 0 || emit_ipxe(&plan, &text, e) < 0)
        return -1;
    /* Before the script that leads there. */
    if (wait) {
        cleanup(strbuf) struct strbuf pause = STRBUF_INIT;
        cleanup(free) char *pause_path = wait_path(conf, mac, job->boot.id);
        emit_ipxe_wait(mac, &pause);
        if (write_file(conf, pause_path, &pause, e) < 0)
            return -1;
    }
    if (write_file(conf, path, &text, e) < 0)
        return -1;
    return remove_waits(conf, waits, mac, wait ? job->boot.id : 0, e);
}

/* What a boot script needs besides the catalog: the kernel on disk, and where the machine finds the server.
 */
static int prepare(const struct conf *conf, struct script_job *job, struct bootplan_network *net,
                   struct err *e)
{
    if (job->kind != SCRIPT_BOOT)
        return 0;
    if (job->boot.nimages == 0)
        return err_set(e, ERR_STATE, "the setup %s has no image", job->boot.setup_name);
    char release[KERNEL_RELEASE_SIZE];
    const struct boot_image *from = &job->boot.images[job->kernel_image];
    job->own_kernel = job->boot.resumed && kernel_of_boot(conf, job->boot.id, release);
    if (!job->own_kernel && kernel_extract(conf, &from->image, from->version, release, e) < 0)
        return err_wrap(e, "image %s@%" PRIu64, from->name, from->version);
    snprintf(job->kernel, sizeof job->kernel, "%s", release);
    return bootplan_server(conf, &net->server, e);
}

/* No script is better than a wrong one: the machine then loads boot/default.ipxe. */
static int unlink_scripts(const struct conf *conf, const struct waits *waits, const struct mac *macs,
                          size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        cleanup(free) char *path = script_path(conf, &macs[i]);
        if (unlink_if_there(path, e) < 0 || remove_waits(conf, waits, &macs[i], 0, e) < 0)
            return -1;
    }
    return 0;
}

/* What is wrong with the machine's boot is logged and an event, and its scripts go; an error of catalog or folder fails.
 */
static int render_machine(struct catalog *c, const struct conf *conf, const struct waits *waits,
                          struct script_job *job, struct err *e)
{
    cleanup(free) struct mac *macs = NULL;
    size_t count;
    if (machine_macs(c, &job->machine.mac, &macs, &count, e) < 0)
        return -1;
    struct bootplan_network net = {0};
    struct err why;
    bool fit = prepare(conf, job, &net, &why) == 0, broken = false;
    for (size_t i = 0; i < count && fit; i++) {
        fit = render_card(c, conf, waits, job, &macs[i], &net, &why) == 0;
        broken = !fit && why.code == ERR_FAILED;
    }
    if (fit)
        return 0;
    log_warning("machine %s has no boot script: %s", job->machine.name, why.msg);
    if (unlink_scripts(conf, waits, macs, count, e) < 0 ||
        script_failed(c, &job->machine.mac, why.msg, e) < 0)
        return -1;
    if (broken)
        *e = why;
    return broken ? -1 : 0;
}

/* Machines of one round: their tokens are one transaction, that their scripts are done another one. A thousand machines
 * would else wait for some thousand syncs. */
#define JOBS_MAX 64

/* Returns how many. */
static int take_jobs(struct catalog *c, struct script_job jobs[JOBS_MAX], struct err *e)
{
    int count = 0;
    cleanup(tx) struct catalog *tx = NULL;
    /* The first one alone: mostly there is none, and nobody is kept waiting by an empty transaction. */
    int r = script_next(c, NULL, &jobs[0], e);
    if (r == 0 && tx_begin(c, &tx, e) < 0)
        return -1;
    while (r == 0 && ++count < JOBS_MAX)
        r = script_next(c, &jobs[count - 1].machine.mac, &jobs[count], e);
    if (r < 0 && e->code != ERR_NOT_FOUND)
        return -1;
    return count > 0 && tx_commit(&tx, e) < 0 ? -1 : count;
}

static int render_jobs(struct catalog *c, const struct conf *conf, const struct waits *waits,
                       struct script_job *jobs, int count, struct err *e)
{
    for (int i = 0; i < count; i++)
        if (render_machine(c, conf, waits, &jobs[i], e) < 0)
            return err_wrap(e, "boot script of %s", jobs[i].machine.name);
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    for (int i = 0; i < count; i++)
        if (script_done(c, &jobs[i], e) < 0)
            return err_wrap(e, "boot script of %s", jobs[i].machine.name);
    return tx_commit(&tx, e);
}

static int assign_addresses(struct catalog *c, const struct conf *conf, struct err *e)
{
    if (conf->network.mode != CONF_MODE_DHCP || ip_is_unset(&conf->network.range_first))
        return 0;
    if (address_assign_all(c, &conf->network.range_first, &conf->network.range_last, e) == 0)
        return 0;
    if (e->code != ERR_STATE)
        return -1;
    /* Machines without an address of their own still boot: they ask DHCP. */
    log_warning("addresses of machines: %s", e->msg);
    return 0;
}

/* Those of machines and cards that the catalog has no more. */
static int remove_gone(struct catalog *c, const struct conf *conf, const struct waits *waits, struct err *e)
{
    struct mac mac;
    while (script_gone_next(c, &mac, e) == 0)
        if (unlink_scripts(conf, waits, &mac, 1, e) < 0 || script_gone_done(c, &mac, e) < 0)
            return -1;
    return e->code == ERR_NOT_FOUND ? 0 : -1;
}

int render_scripts(struct catalog *c, const struct conf *conf, struct err *e)
{
    cleanup(close) int lock = -1;
    if (tree_make(conf, e) < 0 || tree_lock(conf, TREE_LOCK_RENDER, &lock, e) < 0 ||
        assign_addresses(c, conf, e) < 0)
        return -1;
    cleanup(waits) struct waits waits = {0};
    cleanup(free) struct script_job *jobs = calloc(JOBS_MAX, sizeof *jobs);
    if (!jobs)
        return err_sys(e, ENOMEM, "boot scripts");
    if (list_waits(conf, &waits, e) < 0 || remove_gone(c, conf, &waits, e) < 0)
        return -1;
    int count;
    while ((count = take_jobs(c, jobs, e)) > 0)
        if (render_jobs(c, conf, &waits, jobs, count, e) < 0)
            return -1;
    return count < 0 ? err_wrap(e, "boot scripts") : 0;
}

static bool same_mtime(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_size == b->st_size;
}

/* Copies a loader that is missing or not the package's any more; its time of change tells. A name that the
 * package does not have is the admin's own file, put into the TFTP root by hand. */
static int install_loader(const struct conf *conf, const char *name, struct err *e)
{
    if (!name || !*name || strchr(name, '/'))
        return 0;
    cleanup(free) char *from = path_format("%s/%s", LOADER_DIR, name);
    cleanup(free) char *to = path_format("%s/%s", conf->network.tftp_root, name);
    struct stat source, target;
    bool there = stat(to, &target) == 0;
    if (stat(from, &source) < 0) {
        if (!there)
            log_warning("the loader %s is neither in %s nor in the TFTP root; try: apt-get install ipxe",
                        name, LOADER_DIR);
        return 0;
    }
    if (there && same_mtime(&source, &target))
        return 0;
    cleanup(free) char *bytes = NULL;
    cleanup(free) char *tmp = path_format("%s/tmp", conf->network.tftp_root);
    size_t len;
    if (read_file(from, LOADER_MAX, &bytes, &len, e) < 0 || atomic_replace(to, tmp, bytes, len, 0644, e) < 0)
        return err_wrap(e, "loader %s", name);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, source.st_mtim};
    return utimensat(AT_FDCWD, to, times, 0) < 0 ? err_sys(e, errno, "%s", to) : 0;
}

int render_tree(const struct conf *conf, struct err *e)
{
    cleanup(close) int lock = -1; /* nobody else cleans tmp/ meanwhile */
    if (tree_make(conf, e) < 0 || tree_clean_tmp(conf, e) < 0 ||
        tree_lock(conf, TREE_LOCK_RENDER, &lock, e) < 0 ||
        install_loader(conf, conf->boot.loader_bios, e) < 0 ||
        install_loader(conf, conf->boot.loader_efi64, e) < 0)
        return -1;
    cleanup(strbuf) struct strbuf entry = STRBUF_INIT;
    cleanup(strbuf) struct strbuf none = STRBUF_INIT;
    cleanup(free) char *entry_path = path_format("%s/boot.ipxe", conf->network.tftp_root);
    cleanup(free) char *none_path = path_format("%s/boot/default.ipxe", conf->network.tftp_root);
    emit_ipxe_entry(&entry);
    emit_ipxe_default(conf->boot.default_action == CONF_ACTION_RETRY, &none);
    if (write_file(conf, entry_path, &entry, e) < 0)
        return -1;
    return write_file(conf, none_path, &none, e);
}
