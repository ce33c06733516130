/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

#include "lib/base/strbuf.h"

static const char *const kind_names[] = {
    [REQUEST_END] = "end",     [REQUEST_COMMIT] = "commit", [REQUEST_DISCARD] = "discard",
    [REQUEST_RESET] = "reset", [REQUEST_RELOAD] = "reload",
};

static enum request_kind kind_of(const char *name)
{
    enum request_kind k = REQUEST_END;
    while (k < REQUEST_RELOAD && strcmp(kind_names[k], name) != 0)
        k++;
    return k;
}

enum boot_ending request_ending(enum request_kind k)
{
    if (k == REQUEST_COMMIT)
        return ENDING_COMMIT;
    return k == REQUEST_DISCARD ? ENDING_DISCARD : ENDING_AUTO;
}

static void request_row(struct stmt *s, struct request *ret)
{
    char kind[16];
    *ret = (struct request){.id = take_int(s)};
    take_text(s, kind, sizeof kind);
    ret->kind = kind_of(kind);
    ret->boot = take_int(s);
    take_text(s, ret->actor, sizeof ret->actor);
    ret->answered = take_bool(s);
    ret->code = (enum errc)take_int(s);
    take_text(s, ret->answer, sizeof ret->answer);
}

static void request_object(int64_t boot, char ret[OBJECT_SIZE])
{
    snprintf(ret, OBJECT_SIZE, boot ? "boot %lld" : "server", (long long)boot);
}

/* machine, peer NULL: of no boot, from this host. */
static int insert(struct catalog *c, const char *actor, enum request_kind kind, int64_t boot,
                  const struct mac *machine, const char *peer, int64_t *ret, struct err *e)
{
    char object[OBJECT_SIZE], what[32];
    request_object(boot, object);
    snprintf(what, sizeof what, "request-%s", kind_names[kind]);
    struct event ev = {.actor = actor, .what = what, .object = object, .peer = peer, .machine = machine};
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_REQUEST_ADD);
    put_text(s, kind_names[kind]);
    put_nonzero(s, (uint64_t)boot);
    put_text(s, actor);
    if (stmt_run(s, e) < 0)
        return -1;
    *ret = db_last_id(c);
    return event_write(c, &ev, e);
}

int request_add(struct catalog *c, const char *actor, enum request_kind kind, int64_t boot, int64_t *ret,
                struct err *e)
{
    struct boot b;
    int64_t id;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || (boot && boot_get(c, boot, &b, e) < 0) ||
        insert(c, actor, kind, boot, boot ? &b.machine : NULL, NULL, &id, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = id;
    return 0;
}

static int read_one(struct stmt *s, struct request *ret, const char *none, struct err *e)
{
    int row = stmt_row(s, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "%s", none);
    if (row < 0)
        return -1;
    request_row(s, ret);
    return 0;
}

int request_get(struct catalog *c, int64_t id, struct request *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_REQUEST);
    put_int(s, id);
    return read_one(s, ret, "there is no such request", e);
}

/* Taking one is no event: its answer is. boot 0: of any. */
static int take(struct catalog *c, int64_t boot, struct request *ret, struct err *e)
{
    struct request r;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, boot ? SQL_REQUEST_OF_BOOT : SQL_REQUEST_OLDEST);
    if (boot)
        put_int(s, boot);
    if (read_one(s, &r, "there is no request", e) < 0)
        return -1;
    cleanup(stmt) struct stmt *taken = stmt_use(c, SQL_REQUEST_TAKE);
    put_int(taken, r.id);
    if (stmt_run(taken, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = r;
    return 0;
}

int request_take(struct catalog *c, struct request *ret, struct err *e)
{
    return take(c, 0, ret, e);
}

int request_take_of_boot(struct catalog *c, int64_t boot, struct request *ret, struct err *e)
{
    return take(c, boot, ret, e);
}

/* The event of an answer stands at the request's boot. */
static int answer_event(struct catalog *c, const struct request *r, int code, const char *answer,
                        struct err *e)
{
    struct boot b;
    char object[OBJECT_SIZE];
    cleanup(strbuf) struct strbuf detail = STRBUF_INIT;
    request_object(r->boot, object);
    strbuf_appendf(&detail, "%s%s%s", kind_names[r->kind], *answer ? ": " : "", answer);
    if (r->boot && boot_get(c, r->boot, &b, e) < 0)
        return -1;
    struct event ev = {.actor = "server",
                       .what = code ? "request-refused" : "request-done",
                       .object = object,
                       .detail = strbuf_text(&detail),
                       .machine = r->boot ? &b.machine : NULL};
    return event_write(c, &ev, e);
}

int request_answer(struct catalog *c, int64_t id, int code, const char *answer, struct err *e)
{
    struct request r;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_REQUEST_ANSWER);
    put_int(s, code);
    put_text(s, answer);
    put_int(s, id);
    if (stmt_run(s, e) < 0)
        return -1;
    if (db_changes(c) == 0)
        return err_set(e, ERR_STATE, "request %lld is answered already, or there is none", (long long)id);
    if (request_get(c, id, &r, e) < 0 || answer_event(c, &r, code, answer, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int request_untake_all(struct catalog *c, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *events = stmt_use(c, SQL_REQUESTS_FULFILLED_EVENTS);
    if (stmt_run(events, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *fulfilled = stmt_use(c, SQL_REQUESTS_FULFILLED);
    if (stmt_run(fulfilled, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_REQUESTS_UNTAKE);
    if (stmt_run(s, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int reload_ask(struct catalog *c, const char *actor, bool server, int64_t *ret, struct err *e)
{
    int64_t id = 0;
    struct event ev = {.actor = actor, .what = "configuration-changed", .object = "configuration"};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_GENERATION_RAISE);
    if (stmt_run(s, e) < 0 || script_want_all(c, e) < 0 || event_write(c, &ev, e) < 0 ||
        (server && request_add(c, actor, REQUEST_RELOAD, 0, &id, e) < 0) || tx_commit(&tx, e) < 0)
        return -1;
    *ret = id;
    return 0;
}

int reload_generation(struct catalog *c, int64_t *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_GENERATION);
    if (stmt_row(s, e) < 0)
        return -1;
    *ret = take_int(s);
    return 0;
}

/* 1: one is pending already. */
static int reset_pending(struct catalog *c, int64_t boot, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_REQUEST_RESET_PENDING);
    put_int(s, boot);
    return stmt_row(s, e);
}

static int check_address(struct catalog *c, const struct boot *b, const struct in6_addr *address,
                         struct err *e)
{
    struct machine m;
    char text[IP_TEXT_SIZE];
    if (machine_by_address(c, address, &m, e) < 0) {
        e->code = e->code == ERR_NOT_FOUND ? ERR_STATE : e->code;
        return -1;
    }
    if (!mac_equal(&m.mac, &b->machine))
        return err_set(e, ERR_STATE, "the address %s is machine '%s's, boot %lld is '%s's",
                       format_ip(address, text), m.name, (long long)b->id, b->machine_name);
    return 0;
}

int script_waiting_fetched(struct catalog *c, int64_t id, const struct in6_addr *address, struct err *e)
{
    struct boot b;
    int64_t request;
    char actor[OBJECT_SIZE], peer[IP_TEXT_SIZE];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, id, &b, e) < 0)
        return -1;
    if (b.state == BOOT_COMMITTING) /* the machine goes on asking until that is done */
        return 0;
    if (b.state != BOOT_LEASED && b.state != BOOT_RUNNING)
        return err_set(e, ERR_STATE, "boot %lld is %s, not running", (long long)id, boot_state_name(b.state));
    if (check_address(c, &b, address, e) < 0)
        return -1;
    int pending = reset_pending(c, id, e);
    if (pending != 0)
        return pending < 0 ? -1 : 0;
    machine_object(&b.machine, actor);
    format_ip(address, peer);
    if (insert(c, actor, REQUEST_RESET, id, &b.machine, peer, &request, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}
