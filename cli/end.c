/* SPDX-License-Identifier: BSD-3-Clause */
/* boot end: a request to the running server, whose sessions hold the overlays; without a server the same code runs here,
 * under the lock that a server would take. */
#include "cli/cli.h"

#include "lib/base/fsutil.h"
#include "nbd-plugin/publish.h"
#include "nbd-plugin/server-lock.h"
#include "tftp-glue/kernel.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

const struct option boot_end_options[] = {
    {"commit", NULL, "keep what is to be kept, though its file systems may not be clean", false},
    {"discard", NULL, "throw away all that was written", false},
    {NULL, NULL, NULL, false},
};

#define POLL_MS 50
#define RESTART_POLLS 60 /* three seconds */
#define WHY "ended by an admin"

const struct publish_hooks cli_publish_hooks = {.kernel = kernel_extract,
                                                .kernel_of_overlay = kernel_extract_overlay,
                                                .remove_kernel = kernel_remove_boot,
                                                .remove_version_kernel = kernel_remove};

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

/* A server that is being started again does it itself: machines wait for their disks. */
static void wait_for_restart(const struct conf *conf)
{
    for (unsigned i = 0; i < RESTART_POLLS && !cli_server_runs(conf); i++)
        pause_ms(POLL_MS);
}

/* A server that died while it committed has left the boot committing, which an admin's word stands above. */
static int begin_offline(struct cli *c, const struct boot *b, enum boot_ending ending, struct err *e)
{
    if (b->state == BOOT_COMMITTING && (ending == ENDING_AUTO || ending == b->ending))
        return 0;
    if (b->state == BOOT_COMMITTING && boot_end(c->catalog, "server", b->id, BOOT_INTERRUPTED,
                                                "the server went while it was committed", e) < 0)
        return -1;
    return boot_begin_end(c->catalog, c->actor, b->id, ending, WHY, e);
}

/* `asked`: the server was asked to, and may have got anywhere with it before it died. */
static int finish_offline(struct cli *c, int64_t boot, bool asked, enum boot_ending ending, struct boot *ret,
                          struct err *e)
{
    struct boot b;
    if (boot_get(c->catalog, boot, &b, e) < 0)
        return -1;
    bool over = b.state == BOOT_COMMITTED || b.state == BOOT_BRANCHED || b.state == BOOT_DISCARDED;
    if (asked && over) {
        *ret = b;
        return 0;
    }
    struct guard guard = GUARD_INIT(c->catalog);
    struct publisher p = {.conf = &c->conf, .guard = &guard, .hooks = cli_publish_hooks};
    if (store_open(c->conf.server.images_dir, 0, &p.store, e) < 0)
        return -1;
    int r = begin_offline(c, &b, ending, e);
    if (r == 0)
        r = publish_finish(&p, boot, NULL, ret, e);
    store_close(p.store);
    return r;
}

/* The request that a server died over shall not be served by the next one. */
static void close_request(struct cli *c, int64_t request, int result, const struct err *why)
{
    struct err e;
    int code = result < 0 ? (int)why->code : 0;
    if (request && request_answer(c->catalog, request, code, result < 0 ? why->msg : "", &e) < 0)
        cli_warn(c, "%s", e.msg);
}

/* 1: answered, 0: not yet. */
static int answered(struct cli *c, int64_t request, struct err *e)
{
    struct request q;
    if (request_get(c->catalog, request, &q, e) < 0)
        return -1;
    if (q.answered && q.code)
        return err_set(e, q.code, "%s", q.answer);
    return q.answered;
}

static int end_boot(struct cli *c, const struct boot *b, enum request_kind kind, struct boot *ret,
                    struct err *e)
{
    int64_t request = 0;
    bool waited = false;
    for (;;) {
        cleanup(close) int lock = -1;
        if (server_lock_for_command(&c->conf, &lock, e) == 0) {
            int r = request ? answered(c, request, e) : 0; /* its last deed */
            if (r != 0)
                return r < 0 ? -1 : boot_get(c->catalog, b->id, ret, e);
            if (request && !waited) {
                waited = true;
                close(steal_fd(&lock));
                wait_for_restart(&c->conf);
                continue;
            }
            r = finish_offline(c, b->id, request != 0, request_ending(kind), ret, e);
            close_request(c, request, r, e);
            return r;
        }
        if (!request && request_add(c->catalog, c->actor, kind, b->id, &request, e) < 0)
            return -1;
        pause_ms(POLL_MS);
        int r = answered(c, request, e);
        if (r != 0)
            return r < 0 ? -1 : boot_get(c->catalog, b->id, ret, e);
    }
}

static int print_versions(struct cli *c, const struct boot *b, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    char id[24];
    snprintf(id, sizeof id, "%" PRId64, b->id);
    if (c->json)
        return print_query(c, QUERY_BOOT, id, e);
    for (size_t i = 0; i < b->nimages; i++)
        if (b->images[i].result)
            strbuf_appendf(&out, "%s@%" PRIu64 "\n", b->images[i].name, b->images[i].result);
    return print_text(strbuf_text(&out), e);
}

static int end_and_print(struct cli *c, enum request_kind kind, struct err *e)
{
    struct boot b, ended;
    if (cli_find_boot(c, c->words[0], &b, e) < 0)
        return -1;
    if (b.state == BOOT_QUEUED)
        return err_set(e, ERR_STATE, "boot %" PRId64 " is still queued; try: labboot boot cancel %" PRId64,
                       b.id, b.id);
    int r = end_boot(c, &b, kind, &ended, e);
    cli_render(c); /* a boot that is interrupted has ended too */
    if (r < 0)
        return -1;
    if (ended.state == BOOT_BRANCHED)
        cli_warn(c, "another version was published meanwhile: this one is a branch, and not the latest");
    return print_versions(c, &ended, e);
}

int run_boot_end(struct cli *c, struct err *e)
{
    bool keep = cli_option(c, "commit"), drop = cli_option(c, "discard");
    if (keep && drop)
        return err_set(e, ERR_USAGE, "--commit or --discard, not both");
    return end_and_print(c, keep ? REQUEST_COMMIT : drop ? REQUEST_DISCARD : REQUEST_END, e);
}

int run_boot_commit(struct cli *c, struct err *e)
{
    return end_and_print(c, REQUEST_COMMIT, e);
}

int run_boot_discard(struct cli *c, struct err *e)
{
    return end_and_print(c, REQUEST_DISCARD, e);
}

/* The server has nothing of an interrupted boot: it is done here, whether one runs or not. */
int run_boot_resume(struct cli *c, struct err *e)
{
    struct boot b;
    struct guard guard = GUARD_INIT(c->catalog);
    struct publisher p = {.conf = &c->conf, .guard = &guard, .hooks = cli_publish_hooks};
    char id[24];
    if (cli_find_boot(c, c->words[0], &b, e) < 0 || store_open(c->conf.server.images_dir, 0, &p.store, e) < 0)
        return -1;
    int r = publish_resume(&p, b.id, c->actor, e);
    store_close(p.store);
    if (r < 0)
        return -1;
    cli_render(c);
    snprintf(id, sizeof id, "%" PRId64, b.id);
    return c->json ? print_query(c, QUERY_BOOT, id, e) : 0;
}
