/* SPDX-License-Identifier: BSD-3-Clause */
/* Why a machine did not boot: what it would boot, what is ready for it, how far it got, and how its last boot went. */
#include "cli/doctor.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SCRIPT_MAX 65536

/* The running boot of the machine, or the one that it would get next. False: neither, or not to be known. */
static bool find_running(struct doctor *d, struct boot *ret)
{
    struct err e;
    return boot_running(d->cli->catalog, &d->machine->mac, ret, &e) == 0;
}

static bool find_next(struct doctor *d, struct boot *ret)
{
    struct err e;
    return d->machine->managed && boot_next(d->cli->catalog, &d->machine->mac, ret, &e) == 0;
}

static int unmanaged(struct doctor *d, struct err *e)
{
    (void)e;
    if (d->machine->managed)
        return 0;
    cleanup(free) char *todo = path_format("labboot machine set %s --managed", d->machine->name);
    doctor_found(d, d->machine->name, "it is not managed: it boots from its own disk and gets none here",
                 todo);
    return 0;
}

static int nothing_queued(struct doctor *d, struct err *e)
{
    struct boot b;
    (void)e;
    if (!d->machine->managed || find_running(d, &b) || find_next(d, &b))
        return 0;
    cleanup(free) char *todo = path_format("labboot boot queue %s SETUP", d->machine->name);
    doctor_found(d, d->machine->name, "nothing is queued for it, and it has no default setup", todo);
    return 0;
}

/* ---- what is ready for it -------------------------------------------------------------------------------------------- */

/* The machine gets its local disk, silently, when its next boot has a version that is not there or damaged. */
static int version(struct doctor *d, struct err *e)
{
    struct boot b;
    struct err why;
    (void)e;
    if (!find_next(d, &b) || boot_check(d->cli->catalog, &b, &why) == 0)
        return 0;
    cleanup(free) char *what = path_format("boot %" PRId64 " of %s", b.id, d->machine->name);
    doctor_found_error(d, what, why.msg, "labboot setup show");
    return 0;
}

static int script_stale(struct doctor *d, struct err *e)
{
    return doctor_troubles(d, TROUBLE_SCRIPTS, e);
}

static int keep_detail(void *ctx, const struct trail_event *ev, struct err *e)
{
    struct strbuf *text = ctx;
    (void)e;
    strbuf_release(text);
    strbuf_append(text, ev->detail);
    return 0;
}

/* Why the machine's script could not be made, the last time that it could not. */
static int last_failure(struct doctor *d, struct strbuf *ret, struct err *e)
{
    const struct trail_filter f = {.machine = &d->machine->mac, .what = "script-failed", .limit = 1};
    return trail_read(d->cli->catalog, &f, keep_detail, ret, e);
}

static char *script_path(const struct doctor *d, const struct mac *mac)
{
    char dashes[MAC_TEXT_SIZE];
    return path_format("%s/boot/mac-%s.ipxe", d->cli->conf.network.tftp_root, mac_format_dashes(mac, dashes));
}

/* Calls look for the script of each of the machine's cards. */
static int each_script(struct doctor *d, int (*look)(struct doctor *d, const char *path, struct err *e),
                       struct err *e)
{
    cleanup(free) struct mac *macs = NULL;
    size_t count;
    if (machine_macs(d->cli->catalog, &d->machine->mac, &macs, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cleanup(free) char *path = script_path(d, &macs[i]);
        if (look(d, path, e) < 0)
            return -1;
    }
    return 0;
}

static int look_for_script(struct doctor *d, const char *path, struct err *e)
{
    cleanup(strbuf) struct strbuf why = STRBUF_INIT;
    if (path_exists(path))
        return 0;
    if (last_failure(d, &why, e) < 0)
        return -1;
    if (why.len)
        doctor_found_error(d, path, strbuf_text(&why), "another root image");
    else
        doctor_found(d, path, "the machine's boot script is not there", "labboot serve, which makes it");
    return 0;
}

static int script_missing(struct doctor *d, struct err *e)
{
    return each_script(d, look_for_script, e);
}

static void look_at_kernel(struct doctor *d, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        doctor_found(d, path, strerror(errno), "labboot serve, which makes it again");
    else if (st.st_size == 0 || !(st.st_mode & S_IROTH))
        doctor_found(d, path, st.st_size ? "dnsmasq may not read it" : "it is empty",
                     "its removal, then labboot serve");
}

/* The files that a script loads: the words of its lines "kernel" and "initrd" that are paths. */
static int look_into_script(struct doctor *d, const char *path, struct err *e)
{
    cleanup(free) char *text = NULL;
    size_t len;
    if (!path_exists(path))
        return 0; /* script_missing has told */
    if (read_file(path, SCRIPT_MAX, &text, &len, e) < 0)
        return -1;
    char *lines = NULL, *words = NULL;
    for (char *line = strtok_r(text, "\n", &lines); line; line = strtok_r(NULL, "\n", &lines)) {
        if (strncmp(line, "kernel ", 7) != 0 && strncmp(line, "initrd ", 7) != 0)
            continue;
        for (char *word = strtok_r(line, " ", &words); word; word = strtok_r(NULL, " ", &words)) {
            if (word[0] != '/')
                continue;
            cleanup(free) char *file = path_format("%s%s", d->cli->conf.network.tftp_root, word);
            look_at_kernel(d, file);
            break;
        }
    }
    return 0;
}

static int kernel_missing(struct doctor *d, struct err *e)
{
    return each_script(d, look_into_script, e);
}

/* ---- how far it got -------------------------------------------------------------------------------------------------- */
enum stage {
    STAGE_NOTHING,
    STAGE_ADDRESS,
    STAGE_LOADER,
    STAGE_ENTRY,
    STAGE_SCRIPT,
    STAGE_KERNEL,
    STAGE_INITRD,
    STAGE_DISK,
};

/* What was heard of it last, and what that tells. */
static const struct {
    const char *what, *begins, *ends; /* an event and its detail; NULL: any */
    const char *why, *todo;
} stages[] = {
    [STAGE_NOTHING] =
        {NULL, NULL, NULL, "nothing was ever heard of it: no DHCP request, no TFTP fetch",
         "its network cable, and the network first in its boot order; for its MAC, labboot doctor and "
         "labboot log --what lease-given"},
    [STAGE_ADDRESS] = {"lease-given", NULL, NULL, "it was given an address, and fetched nothing by TFTP",
                       "network boot in its firmware, and a firewall that lets UDP port 69 through"},
    [STAGE_LOADER] = {"tftp", "/", NULL, "it fetched its loader, which did not come back for boot.ipxe",
                      "another [boot] loader-bios or loader-efi64 (snponly.efi), and Secure Boot off"},
    [STAGE_ENTRY] = {"tftp", "/boot.ipxe", NULL, "it fetched boot.ipxe, and no boot script of its own",
                     "labboot machine set --mac with the MAC of the card that it boots from"},
    [STAGE_SCRIPT] = {"tftp", "/boot/mac-", NULL, "it fetched its boot script, and not the kernel",
                      "its console, which shows iPXE's message"},
    [STAGE_KERNEL] = {"tftp", "/kernels/", "/vmlinuz", "it fetched the kernel, and not the initrd",
                      "its console, which shows iPXE's message; more memory"},
    [STAGE_INITRD] =
        {"tftp", "/kernels/", "/initrd.img", "it loaded kernel and initrd, and attached no disk",
         "labboot client in the image's initrd, a firewall that lets the NBD port through, its console"},
    [STAGE_DISK] = {"boot-leased", NULL, NULL, NULL, NULL},
};

struct progress_seen {
    enum stage stage;
    int64_t id;            /* of that event */
    char time[32];         /* of that event */
    int64_t queued;        /* the event that queued the next boot; 0: unknown */
    char next[32];         /* "boot 12" */
    struct strbuf refused; /* the last refusal since the last lease */
};

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);
    return len >= n && strcmp(text + len - n, end) == 0;
}

static enum stage stage_of(const struct trail_event *ev)
{
    for (enum stage s = STAGE_DISK; s > STAGE_NOTHING; s--) {
        if (strcmp(stages[s].what, ev->what) == 0 &&
            (!stages[s].begins || strncmp(ev->detail, stages[s].begins, strlen(stages[s].begins)) == 0) &&
            (!stages[s].ends || ends_with(ev->detail, stages[s].ends)))
            return s;
    }
    return STAGE_NOTHING;
}

static int see_event(void *ctx, const struct trail_event *ev, struct err *e)
{
    struct progress_seen *p = ctx;
    enum stage s = stage_of(ev);
    (void)e;
    if (s != STAGE_NOTHING) {
        p->stage = s;
        p->id = ev->id;
        snprintf(p->time, sizeof p->time, "%s", ev->time);
    }
    if (s == STAGE_DISK)
        strbuf_release(&p->refused);
    if (strcmp(ev->what, "export-refused") == 0) {
        strbuf_release(&p->refused);
        strbuf_appendf(&p->refused, "%s was refused %s", ev->peer ? ev->peer : "the Unix socket", ev->detail);
    }
    if (strcmp(ev->object, p->next) == 0 && strcmp(ev->what, "boot-queued") == 0)
        p->queued = ev->id;
    return 0;
}

#define EVENTS 500 /* of the machine; older ones say nothing of its last attempt */

static int read_progress(struct doctor *d, const struct boot *next, struct progress_seen *ret, struct err *e)
{
    const struct trail_filter f = {.machine = &d->machine->mac, .limit = EVENTS};
    snprintf(ret->next, sizeof ret->next, "boot %" PRId64, next ? next->id : 0);
    return trail_read(d->cli->catalog, &f, see_event, ret, e);
}

static void cleanup_progress_seen(struct progress_seen *p)
{
    strbuf_release(&p->refused);
}

/* A boot that is queued again stands under its old id: it has been heard of. */
static int progress(struct doctor *d, struct err *e)
{
    struct boot running, next;
    cleanup(progress_seen) struct progress_seen p = {.stage = STAGE_NOTHING};
    if (find_running(d, &running) || !find_next(d, &next))
        return 0;
    if (read_progress(d, &next, &p, e) < 0)
        return -1;
    bool silent = p.stage == STAGE_DISK || (p.stage != STAGE_NOTHING && p.id < p.queued);
    cleanup(free) char *what = path_format("%s, with boot %" PRId64 " queued", d->machine->name, next.id);
    cleanup(free) char *since = path_format("nothing was heard of it since %s", p.time);
    cleanup(free) char *got = path_format("%s (%s)", stages[p.stage].why ? stages[p.stage].why : "", p.time);
    if (silent)
        doctor_found(d, what, since, "switch it on, or start it again");
    else
        doctor_found(d, what, p.stage == STAGE_NOTHING ? stages[p.stage].why : got, stages[p.stage].todo);
    return 0;
}

static int refused(struct doctor *d, struct err *e)
{
    cleanup(progress_seen) struct progress_seen p = {.stage = STAGE_NOTHING};
    if (read_progress(d, NULL, &p, e) < 0)
        return -1;
    if (p.refused.len)
        doctor_found_error(
            d, d->machine->name, p.refused.s,
            "its address in labboot machine show, [access] check, and labboot log --what export-refused");
    return 0;
}

/* ---- its boots ------------------------------------------------------------------------------------------------------- */
static int disconnected(struct doctor *d, struct err *e)
{
    struct boot b;
    (void)e;
    if (!find_running(d, &b) || !b.disconnected)
        return 0;
    cleanup(free) char *what = path_format("boot %" PRId64 " of %s", b.id, d->machine->name);
    cleanup(free) char *todo = path_format("switch the machine on; or labboot boot end %" PRId64, b.id);
    doctor_found(d, what, "it has lost its connections", todo);
    return 0;
}

static int attempts(struct doctor *d, struct err *e)
{
    struct boot b;
    (void)e;
    if (find_running(d, &b) || !find_next(d, &b) || b.attempts == 0)
        return 0;
    cleanup(free) char *what = path_format("boot %" PRId64 " of %s", b.id, d->machine->name);
    cleanup(free) char *why = path_format("it was begun %u time%s and never ran: %s", b.attempts,
                                          b.attempts == 1 ? "" : "s", b.result);
    doctor_found(d, what, why, "the machine's console: a kernel that found its disk could not use it");
    return 0;
}

static int interrupted(struct doctor *d, struct err *e)
{
    return doctor_troubles(d, TROUBLE_INTERRUPTED, e);
}

const struct check doctor_machine_checks[] = {
    {"unmanaged", SEVERITY_ERROR, true, unmanaged},
    {"nothing-queued", SEVERITY_ERROR, true, nothing_queued},
    {"version", SEVERITY_ERROR, true, version},
    {"script-stale", SEVERITY_WARNING, true, script_stale},
    {"script-missing", SEVERITY_ERROR, true, script_missing},
    {"kernel-missing", SEVERITY_ERROR, true, kernel_missing},
    {"refused", SEVERITY_ERROR, true, refused},
    {"progress", SEVERITY_WARNING, true, progress},
    {"disconnected", SEVERITY_WARNING, true, disconnected},
    {"attempts", SEVERITY_WARNING, true, attempts},
    {"boot-interrupted", SEVERITY_WARNING, true, interrupted},
    {NULL, SEVERITY_WARNING, false, NULL},
};
