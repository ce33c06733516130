/* SPDX-License-Identifier: BSD-3-Clause */
/* gc: what nothing needs, in the store, in the TFTP tree and in the catalog. */
#include "cli/collect.h"

#include "lib/store/gc.h"
#include "nbd-plugin/flatten.h"
#include "nbd-plugin/retention.h"
#include "tftp-glue/rubbish.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* ---- what the catalog knows ------------------------------------------------------------------------------------- */

static int has_image(void *ctx, const struct uuid *image, struct err *e)
{
    struct image i;
    if (image_by_uuid(ctx, image, &i, e) == 0)
        return 1;
    return e->code == ERR_NOT_FOUND ? 0 : -1;
}

static int versions(void *ctx, const struct uuid *image, struct gc_version **ret, size_t *ret_count,
                    struct err *e)
{
    cleanup(free) struct version_file *files = NULL;
    size_t count;
    if (versions_of(ctx, image, &files, &count, e) < 0)
        return -1;
    struct gc_version *list = calloc(count + 1, sizeof *list);
    if (!list)
        return err_sys(e, ENOMEM, "versions");
    for (size_t i = 0; i < count; i++)
        list[i] = (struct gc_version){files[i].version, files[i].layer};
    *ret = list;
    *ret_count = count;
    return 0;
}

/* A boot that is younger than the catalog is one that a restored catalog has lost: its data may be the only copy. */
static int boot_is_over(void *ctx, int64_t boot, struct err *e)
{
    struct boot b;
    bool newer;
    int known = boot_is_known(ctx, boot, &newer, e);
    if (known <= 0)
        return known < 0 ? -1 : !newer;
    if (boot_get(ctx, boot, &b, e) < 0)
        return e->code == ERR_NOT_FOUND ? 1 : -1;
    return b.state == BOOT_COMMITTED || b.state == BOOT_BRANCHED || b.state == BOOT_DISCARDED ||
           b.state == BOOT_CANCELLED;
}

static int lock_image(void *ctx, const struct uuid *image, int *ret_fd, struct err *e)
{
    return store_lock_image(ctx, image, ret_fd, e);
}

/* Overlays first: what they are based on is needed only as long as they are. */
int collect_rubbish(struct cli *c, struct store *store, const struct rubbish_sink *sink, struct err *e)
{
    const char *overlays = c->conf.server.overlays_dir;
    const struct gc_catalog known = {
        .ctx = c->catalog, .has_image = has_image, .versions = versions, .boot_is_over = boot_is_over};
    if (gc_overlays(overlays, &known, sink, e) < 0 || gc_images(store, overlays, &known, sink, e) < 0 ||
        rubbish_kernels(c->catalog, &c->conf, lock_image, store, sink, e) < 0)
        return -1;
    return rubbish_scripts(c->catalog, &c->conf, sink, e);
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static const struct option gc_options[] = {
    {"dry-run", NULL, "only print what would be removed", false},
    {NULL, NULL, NULL, false},
};

struct collection {
    struct cli *c;
    bool dry_run;
    size_t count;
    uint64_t bytes;
    struct strbuf out;
};

static int found(void *ctx, const struct rubbish *r, struct err *e)
{
    (void)e;
    struct collection *g = ctx;
    char size[SIZE_TEXT_SIZE];
    if (g->c->json) {
        strbuf_appendf(&g->out, "%s{\"Code\": ", g->count ? ", " : "");
        print_json_string(&g->out, r->code);
        strbuf_append(&g->out, ", \"Object\": ");
        print_json_string(&g->out, r->object);
        strbuf_appendf(&g->out, ", \"Bytes\": %" PRIu64 ", \"Text\": ", r->bytes);
        print_json_string(&g->out, r->text);
        strbuf_append(&g->out, "}");
    } else {
        strbuf_appendf(&g->out, "%-13s  %8s  %s\n", r->code, format_size(r->bytes, size), r->object);
    }
    g->count++;
    g->bytes += r->bytes;
    return !g->dry_run;
}

static int note_collection(struct collection *g, struct err *e)
{
    char detail[80], size[SIZE_TEXT_SIZE];
    if (g->dry_run || g->count == 0)
        return 0;
    snprintf(detail, sizeof detail, "%zu objects, %s", g->count, format_size(g->bytes, size));
    return event_add(g->c->catalog, g->c->actor, "gc", "store", detail, e);
}

#define HISTORY_PART 500

/* Not of collect_rubbish: fsck has nothing against it. */
static int collect_history(struct cli *c, const struct rubbish_sink *sink, struct err *e)
{
    struct history h;
    char object[TEXT_SIZE];
    uint64_t days = c->conf.server.history_days;
    int64_t before = time(NULL) - (int64_t)(days * 86400);
    bool more = days > 0;
    if (!more || history_count(c->catalog, before, &h, e) < 0)
        return more ? -1 : 0;
    if (h.boots + h.requests + h.events == 0)
        return 0;
    snprintf(object, sizeof object, "%zu boots, %zu requests, %zu events", h.boots, h.requests, h.events);
    const struct rubbish r = {
        .code = "old-history", .object = object, .text = "it is older than [server] history-days"};
    int answer = sink->found(sink->ctx, &r, e);
    while (answer > 0 && more)
        answer = history_remove(c->catalog, c->actor, before, HISTORY_PART, &more, e) < 0 ? -1 : 1;
    return answer < 0 ? -1 : 0;
}

static int print_collection(struct collection *g, struct err *e)
{
    char size[SIZE_TEXT_SIZE];
    if (!g->c->json)
        strbuf_appendf(&g->out, "%-13s  %8s  %zu object%s\n", g->dry_run ? "would free" : "freed",
                       format_size(g->bytes, size), g->count, g->count == 1 ? "" : "s");
    if (g->out.failed)
        return err_sys(e, ENOMEM, "the list");
    if (!g->c->json)
        return print_text(strbuf_text(&g->out), e);
    return print_text("[", e) < 0 || print_text(strbuf_text(&g->out), e) < 0 ? -1 : print_text("]\n", e);
}

/* What has to be done before it is known what nothing needs. */
static int collect_versions(struct cli *c, struct store *store, bool dry_run, const struct rubbish_sink *sink,
                            struct err *e)
{
    struct guard guard = GUARD_INIT(c->catalog);
    struct publisher p = {.conf = &c->conf, .guard = &guard, .store = store, .hooks = cli_publish_hooks};
    if (!dry_run && (catalog_settle(c->catalog, e) < 0 || flatten_recover(&p, e) < 0))
        return -1;
    return retention_all(&p, c->actor, sink, e);
}

static int run_gc(struct cli *c, struct err *e)
{
    struct store *store;
    struct collection g = {.c = c, .dry_run = cli_option(c, "dry-run"), .out = STRBUF_INIT};
    const struct rubbish_sink sink = {.ctx = &g, .found = found};
    if (store_open(c->conf.server.images_dir, 0, &store, e) < 0)
        return -1;
    int r = collect_versions(c, store, g.dry_run, &sink, e);
    if (r == 0)
        r = collect_rubbish(c, store, &sink, e);
    store_close(store);
    if (r == 0)
        r = collect_history(c, &sink, e);
    /* What went before a failure is told all the same. */
    struct err second;
    if (print_collection(&g, &second) < 0 && r == 0) {
        *e = second;
        r = -1;
    }
    if (note_collection(&g, &second) < 0 && r == 0) {
        *e = second;
        r = -1;
    }
    strbuf_release(&g.out);
    return r;
}

const struct command gc_commands[] = {
    {"gc", NULL, run_gc, "", 0, 0, NEEDS_CATALOG, RIGHT_ADMIN, "remove what nothing needs any more",
     gc_options},
    COMMANDS_END,
};
