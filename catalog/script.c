/* SPDX-License-Identifier: BSD-3-Clause */
/* Which scripts have to be rendered, with which token. That they have to be is the work of the triggers in
 * schema.sql. */
#include "catalog/internal.h"

#include <sys/random.h>

/* ---- tokens -------------------------------------------------------------------------------------------- */

static int token_make(char ret[TOKEN_SIZE], struct err *e)
{
    static const char alphabet[33] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char random[TOKEN_LEN];
    bool letter = false;
    while (!letter) {
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
            return err_sys(e, errno, "random numbers for a token");
        for (size_t i = 0; i < TOKEN_LEN; i++) {
            ret[i] = alphabet[random[i] % 32];
            letter |= ret[i] >= 'a';
        }
    }
    ret[TOKEN_LEN] = '\0';
    return 0;
}

static int token_add(struct catalog *c, const struct boot *b, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TOKEN_ADD);
    put_text(s, b->token);
    put_int(s, b->id);
    if (stmt_run(s, e) < 0)
        return -1;
    for (size_t i = 0; i < b->nimages; i++) {
        cleanup(stmt) struct stmt *image = stmt_use(c, SQL_TOKEN_IMAGE_ADD);
        put_text(image, b->token);
        put_int(image, (int64_t)i);
        put_uuid(image, &b->images[i].image);
        put_nonzero(image, b->images[i].version);
        put_int(image, b->images[i].keep);
        if (stmt_run(image, e) < 0)
            return -1;
    }
    return 0;
}

/* All tokens of the machine but `current` ("": none) are superseded from now on. */
static int supersede(struct catalog *c, const struct mac *machine, const char *current, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TOKENS_SUPERSEDE);
    put_text(s, current);
    put_mac(s, machine);
    return stmt_run(s, e);
}

static bool same_images(const struct boot *a, const struct boot *b)
{
    bool same = a->nimages == b->nimages;
    for (size_t i = 0; same && i < a->nimages; i++) {
        const struct boot_image *x = &a->images[i], *y = &b->images[i];
        same = uuid_equal(&x->image, &y->image) && x->version == y->version && x->keep == y->keep;
    }
    return same;
}

/* b->token becomes one that stands for exactly b's images: the newest one of the boot, or a new one. */
static int token_for(struct catalog *c, struct boot *b, struct err *e)
{
    struct boot now = *b;
    if (b->token[0] && boot_resolve_token(c, b->token, &now, e) < 0)
        return -1;
    if (b->token[0] && same_images(&now, b))
        return 0;
    return token_make(b->token, e) < 0 || token_add(c, b, e) < 0 ? -1 : 0;
}

/* ---- jobs ---------------------------------------------------------------------------------------------- */

/* 1: *ret is a machine whose script is not the one wanted. */
static int next_machine(struct catalog *c, const struct mac *after, struct machine *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRIPT_NEXT);
    if (after)
        put_mac(s, after);
    else
        put_text(s, "");
    int row = stmt_row(s, e);
    if (row > 0)
        machine_take(s, ret);
    return row;
}

/* 1: *ret is a boot that the machine's next one has to wait for. */
static int waits_for(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_WAIT);
    put_mac(s, machine);
    return boot_take(c, s, ret, e);
}

/* What cannot be booted (a damaged version, an image without one) is no reason to stop: local disk; the trail and doctor
 * tell. */
static int refuse(struct catalog *c, const struct script_job *job, struct err *e)
{
    const struct err why = *e;
    return why.code == ERR_STATE ? script_failed(c, &job->machine.mac, why.msg, e) : -1;
}

static int decide(struct catalog *c, struct script_job *job, struct err *e)
{
    job->kind = SCRIPT_LOCAL;
    if (!job->machine.managed)
        return 0;
    int row = waits_for(c, &job->machine.mac, &job->boot, e);
    if (row != 0) {
        job->kind = SCRIPT_WAIT;
        return row < 0 ? -1 : 0;
    }
    if (boot_next_row(c, &job->machine.mac, &job->boot, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    if (boot_check(c, &job->boot, e) < 0)
        return refuse(c, job, e);
    job->kind = SCRIPT_BOOT;
    return boot_kernel(c, &job->boot, &job->kernel_image, job->kernel, e) < 0 ? -1
                                                                              : token_for(c, &job->boot, e);
}

/* Read last: making the row of a default boot wants the script once more. */
static int read_generation(struct catalog *c, struct script_job *job, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRIPT_GENERATION);
    put_mac(s, &job->machine.mac);
    if (stmt_row(s, e) < 0)
        return -1;
    job->generation = take_uint(s);
    return 0;
}

int script_next(struct catalog *c, const struct mac *after, struct script_job *ret, struct err *e)
{
    struct script_job job = {.kind = SCRIPT_LOCAL};
    /* Looked at before the transaction, which would wait for other writers: mostly there is nothing to do. */
    int row = next_machine(c, after, &job.machine, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "all scripts are as they are wanted");
    cleanup(tx) struct catalog *tx = NULL;
    if (row < 0 || tx_begin(c, &tx, e) < 0 || machine_by_mac(c, &job.machine.mac, &job.machine, e) < 0 ||
        decide(c, &job, e) < 0)
        return -1;
    const char *current = job.kind == SCRIPT_BOOT ? job.boot.token : "";
    if (supersede(c, &job.machine.mac, current, e) < 0 || read_generation(c, &job, e) < 0 ||
        tx_commit(&tx, e) < 0)
        return -1;
    *ret = job;
    return 0;
}

int script_done(struct catalog *c, const struct script_job *job, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRIPT_DONE);
    put_int(s, (int64_t)job->generation);
    put_mac(s, &job->machine.mac);
    if (stmt_run(s, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int script_gone_next(struct catalog *c, struct mac *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRIPT_GONE);
    int row = stmt_row(s, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "no scripts are left of machines that are gone");
    if (row < 0)
        return -1;
    take_mac(s, ret);
    return 0;
}

int script_gone_done(struct catalog *c, const struct mac *mac, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRIPT_GONE_DONE);
    put_mac(s, mac);
    return stmt_run(s, e) < 0 ? -1 : tx_commit(&tx, e);
}

int script_want_all(struct catalog *c, struct err *e)
{
    struct event ev = {.actor = "server", .what = "scripts-wanted", .object = "all machines"};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SCRIPT_WANT_ALL);
    if (stmt_run(s, e) < 0 || event_write(c, &ev, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}
