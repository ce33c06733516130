/* SPDX-License-Identifier: BSD-3-Clause */
/* fsck: the catalog against itself and against what lies on disk. A stream of findings; what each --repair does is safe
 * beside a running server, and never touches the only copy of anything. */
#include "cli/fsck.h"

#include "cli/collect.h"
#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "tftp-glue/render.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const struct option fsck_options[] = {
    {"repair", NULL, "repair what can be repaired safely", false},
    {"data", NULL, "read and check all data too", false},
    {NULL, NULL, NULL, false},
};

/* ---- printing ------------------------------------------------------------------------------------------------------ */

static void append_finding(struct fsck *f, const struct finding *x, bool done, const char *text)
{
    if (!f->c->json) {
        strbuf_appendf(&f->out, "%s  %s: %s%s\n", x->code, x->object, text,
                       !done     ? ""
                       : x->lost ? " (kept from use)"
                                 : " (repaired)");
        return;
    }
    strbuf_append(&f->out, f->count ? ", {\"Code\": " : "{\"Code\": ");
    print_json_string(&f->out, x->code);
    strbuf_append(&f->out, ", \"Object\": ");
    print_json_string(&f->out, x->object);
    strbuf_appendf(&f->out, ", \"Repairable\": %s, \"Text\": ", x->repair ? "true" : "false");
    print_json_string(&f->out, text);
    strbuf_appendf(&f->out, ", \"Repaired\": %s}", done ? "true" : "false");
}

/* As they are found: it may take hours. */
static int flush_findings(struct fsck *f, struct err *e)
{
    int r = f->out.failed ? err_sys(e, ENOMEM, "the list") : print_text(strbuf_text(&f->out), e);
    strbuf_release(&f->out);
    f->out = (struct strbuf)STRBUF_INIT;
    return r;
}

int fsck_report(struct fsck *f, const struct finding *x, struct err *e)
{
    struct err failed;
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    strbuf_append(&text, x->text);
    bool done = f->repair && x->repair && x->repair(x->ctx, &failed) == 0;
    if (f->repair && x->repair && !done)
        strbuf_appendf(&text, "; not repaired: %s", failed.msg);
    append_finding(f, x, done, strbuf_text(&text));
    f->count++;
    f->left += !done || x->lost;
    return flush_findings(f, e);
}

/* ---- the catalog itself ---------------------------------------------------------------------------------------------- */

struct faults {
    struct fsck *fsck;
    char *path;
};

static int see_fault(void *ctx, const char *text, bool reference, struct err *e)
{
    const struct faults *f = ctx;
    const struct finding x = {
        .code = reference ? "catalog-reference" : "catalog-damaged", .object = f->path, .text = text};
    return fsck_report(f->fsck, &x, e);
}

static int check_catalog(struct fsck *f, struct err *e)
{
    cleanup(free) char *path = conf_catalog_path(&f->c->conf);
    struct faults faults = {.fsck = f, .path = path};
    return catalog_check(f->c->catalog, see_fault, &faults, e);
}

/* ---- modes and owners -------------------------------------------------------------------------------------------------- */

struct mode_repair {
    const char *path;
    mode_t mode;
};

static int set_mode(void *ctx, struct err *e)
{
    const struct mode_repair *m = ctx;
    return chmod(m->path, m->mode) < 0 ? err_sys(e, errno, "%s", m->path) : 0;
}

static int check_mode(struct fsck *f, const char *path, mode_t wanted, mode_t is, struct err *e)
{
    char text[80];
    struct mode_repair repair = {path, wanted};
    if ((is & 07777) == wanted)
        return 0;
    snprintf(text, sizeof text, "its mode is %04o, not %04o", (unsigned)is & 07777, (unsigned)wanted);
    const struct finding x = {
        .code = "wrong-mode", .object = path, .text = text, .repair = set_mode, .ctx = &repair};
    return fsck_report(f, &x, e);
}

static int check_owner(struct fsck *f, const char *path, uid_t owner, struct err *e)
{
    char text[160];
    if (owner == geteuid())
        return 0;
    snprintf(text, sizeof text, "it is the user %u's, not %u's; try, as root: chown %u", (unsigned)owner,
             (unsigned)geteuid(), (unsigned)geteuid());
    const struct finding x = {.code = "wrong-owner", .object = path, .text = text};
    return fsck_report(f, &x, e);
}

/* The files that SQLite keeps beside its own come and go. */
static int check_place(struct fsck *f, const char *path, mode_t mode, bool optional, struct err *e)
{
    struct stat st;
    if (lstat(path, &st) < 0) {
        const struct finding x = {
            .code = "missing", .object = path, .text = "it is not there; try: labboot init"};
        return optional && errno == ENOENT ? 0 : fsck_report(f, &x, e);
    }
    return check_owner(f, path, st.st_uid, e) < 0 ? -1 : check_mode(f, path, mode, st.st_mode, e);
}

static int see_place(void *ctx, const char *name, struct err *e)
{
    struct fsck *f = ctx;
    struct stat st;
    cleanup(free) char *path = path_format("%s/%s", f->c->conf.server.images_dir, name);
    return lstat(path, &st) < 0 ? 0 : check_owner(f, path, st.st_uid, e);
}

static int check_places(struct fsck *f, struct err *e)
{
    const struct conf *conf = &f->c->conf;
    cleanup(free) char *catalog = conf_catalog_path(conf);
    cleanup(free) char *wal = path_format("%s-wal", catalog), *shm = path_format("%s-shm", catalog);
    const struct {
        const char *path;
        mode_t mode;
        bool optional;
    } places[] = {
        {conf->server.state_dir, 0711, false},
        {conf->server.images_dir, 0700, false},
        {conf->server.overlays_dir, 0700, false},
        {conf->network.tftp_root, 0755, false},
        {catalog, 0640, false},
        {wal, 0640, true},
        {shm, 0640, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (check_place(f, places[i].path, places[i].mode, places[i].optional, e) < 0)
            return -1;
    return each_entry(conf->server.images_dir, see_place, f, e);
}

/* ---- rubbish ------------------------------------------------------------------------------------------------------------ */

/* Data is left to gc: an admin who calls that has decided. */
static const char *const harmless[] = {"dead-tmp",  "dead-overlay", "retired-layer",
                                       "stray-hot", "stray-kernel", "stray-script"};

static bool is_harmless(const char *code)
{
    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
        if (strcmp(harmless[i], code) == 0)
            return true;
    return false;
}

/* Who found it removes it. */
static int leave_to_finder(void *ctx, struct err *e)
{
    (void)ctx, (void)e;
    return 0;
}

static int see_rubbish(void *ctx, const struct rubbish *r, struct err *e)
{
    struct fsck *f = ctx;
    if (strcmp(r->code, "retired-part") == 0)
        return 0; /* so it is whenever a version was removed */
    bool mine = is_harmless(r->code);
    cleanup(free) char *text = path_format("%s%s", r->text, mine ? "" : "; try: labboot gc --dry-run");
    const struct finding x = {
        .code = r->code, .object = r->object, .text = text, .repair = mine ? leave_to_finder : NULL};
    return fsck_report(f, &x, e) < 0 ? -1 : f->repair && mine;
}

/* ---- scripts ------------------------------------------------------------------------------------------------------------ */

static int render(void *ctx, struct err *e)
{
    const struct fsck *f = ctx;
    return render_scripts(f->c->catalog, &f->c->conf, e);
}

static int render_again(void *ctx, struct err *e)
{
    const struct fsck *f = ctx;
    return script_want_all(f->c->catalog, e) < 0 ? -1 : render(ctx, e);
}

#define LOOKS 30
#define LOOK_NS 100000000L

/* A running server renders at once: only what stays so for three seconds is stale. */
static int list_stale(struct fsck *f, struct machine **ret, size_t *ret_count, struct err *e)
{
    for (unsigned i = 0;; i++) {
        cleanup(free) struct machine *list = NULL;
        size_t count;
        if (scripts_stale(f->c->catalog, &list, &count, e) < 0)
            return -1;
        if (count == 0 || i == LOOKS || !cli_server_runs(&f->c->conf)) {
            *ret = steal(&list);
            *ret_count = count;
            return 0;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
}

static int check_stale(struct fsck *f, struct err *e)
{
    cleanup(free) struct machine *machines = NULL;
    size_t count;
    if (list_stale(f, &machines, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cleanup(free) char *object = path_format("machine %s", machines[i].name);
        const struct finding x = {.code = "script-stale",
                                  .object = object,
                                  .text = "its boot script is not the one that the catalog wants",
                                  .repair = render,
                                  .ctx = f};
        if (fsck_report(f, &x, e) < 0)
            return -1;
    }
    return 0;
}

struct script_repair {
    struct fsck *fsck;
    const char *path;
};

static int render_missing(void *ctx, struct err *e)
{
    const struct script_repair *r = ctx;
    if (render_again(r->fsck, e) < 0)
        return -1;
    return path_exists(r->path) ? 0 : err_set(e, ERR_STATE, "the machine cannot boot what comes next");
}

static int check_script(struct fsck *f, const struct machine *m, const struct mac *mac, struct err *e)
{
    char dashes[MAC_TEXT_SIZE];
    cleanup(free) char *path =
        path_format("%s/boot/mac-%s.ipxe", f->c->conf.network.tftp_root, mac_format_dashes(mac, dashes));
    cleanup(free) char *object = path_format("machine %s", m->name);
    struct script_repair repair = {f, path};
    const struct finding x = {.code = "script-missing",
                              .object = object,
                              .text = "it has no boot script",
                              .repair = render_missing,
                              .ctx = &repair};
    return path_exists(path) ? 0 : fsck_report(f, &x, e);
}

static int check_scripts(struct fsck *f, struct err *e)
{
    cleanup(free) struct machine *machines = NULL;
    size_t count, nmacs;
    if (check_stale(f, e) < 0 || machines_all(f->c->catalog, &machines, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cleanup(free) struct mac *macs = NULL;
        if (machine_macs(f->c->catalog, &machines[i].mac, &macs, &nmacs, e) < 0)
            return -1;
        for (size_t k = 0; k < nmacs; k++)
            if (check_script(f, &machines[i], &macs[k], e) < 0)
                return -1;
    }
    return 0;
}

/* ---- all ------------------------------------------------------------------------------------------------------------------ */

/* A catalog that is damaged itself tells nothing of the files. */
static int check_all(struct fsck *f, struct err *e)
{
    const struct rubbish_sink sink = {.ctx = f, .found = see_rubbish};
    if (check_catalog(f, e) < 0)
        return -1;
    if (f->count > 0)
        return 0;
    if (check_places(f, e) < 0 || fsck_versions(f, e) < 0 || fsck_overlays(f, e) < 0 ||
        collect_rubbish(f->c, f->store, &sink, e) < 0)
        return -1;
    return check_scripts(f, e);
}

static int run_fsck(struct cli *c, struct err *e)
{
    struct fsck f = {
        .c = c, .repair = cli_option(c, "repair"), .data = cli_option(c, "data"), .out = STRBUF_INIT};
    if (store_open(c->conf.server.images_dir, 0, &f.store, e) < 0)
        return -1;
    int r = c->json ? print_text("[", e) : 0;
    if (r == 0 && f.repair)
        r = catalog_settle(c->catalog, e);
    if (r == 0)
        r = check_all(&f, e);
    if (f.repair && f.count > f.left)
        cli_render(c);
    strbuf_release(&f.out);
    store_close(f.store);
    struct err second;
    if (c->json && print_text("]\n", &second) < 0 && r == 0) {
        *e = second;
        r = -1;
    }
    if (r == 0 && f.left > 0)
        return err_set(e, ERR_CORRUPT, "%zu finding%s%s", f.left, f.left == 1 ? "" : "s",
                       f.repair ? " left" : "; try: labboot fsck --repair");
    return r;
}

const struct command fsck_commands[] = {
    {"fsck", NULL, run_fsck, "", 0, 0, NEEDS_CATALOG, RIGHT_ADMIN,
     "check the catalog and all files against each other", fsck_options},
    COMMANDS_END,
};
