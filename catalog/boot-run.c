/* SPDX-License-Identifier: BSD-3-Clause */
/* From the lease of a boot to its end. */
#include "catalog/internal.h"

/* ---- tokens -------------------------------------------------------------------------------------------- */

struct token_row {
    int64_t boot;
    bool superseded, too_old;
};

static int token_get(struct stmt *s, const char *token, struct token_row *ret, struct err *e)
{
    put_int(s, TOKEN_GRACE);
    put_text(s, token);
    int row = stmt_row(s, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no boot with the token '%.*s'", TOKEN_LEN, token);
    if (row < 0)
        return -1;
    ret->boot = take_int(s);
    ret->superseded = take_bool(s);
    ret->too_old = take_bool(s);
    return 0;
}

/* One that was discarded is gone, whoever comes. */
static bool is_away(const struct boot *b)
{
    return b->ending == ENDING_AWAY &&
           (b->state == BOOT_COMMITTED || b->state == BOOT_BRANCHED || b->state == BOOT_INTERRUPTED);
}

static enum token_state token_state(const struct token_row *t, const struct boot *b, const char *token)
{
    bool leased_by = strcmp(b->token, token) == 0;
    if (b->state == BOOT_LEASED || b->state == BOOT_RUNNING)
        return leased_by ? TOKEN_ACTIVE : TOKEN_ENDED;
    if (is_away(b) && leased_by)
        return TOKEN_AWAY;
    if (b->state != BOOT_QUEUED || t->too_old)
        return TOKEN_ENDED;
    return t->superseded ? TOKEN_SUPERSEDED : TOKEN_NEXT;
}

int boot_by_token(struct catalog *c, const char *token, struct boot *ret, enum token_state *ret_state,
                  struct err *e)
{
    struct token_row t = {0};
    struct boot b;
    /* Open to the end: all is read from one state of the catalog. */
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TOKEN);
    if (token_get(s, token, &t, e) < 0 || boot_get(c, t.boot, &b, e) < 0)
        return -1;
    enum token_state state = token_state(&t, &b, token);
    if (state == TOKEN_NEXT || state == TOKEN_SUPERSEDED) {
        if (!b.resumed && boot_resolve_token(c, token, &b, e) < 0)
            return -1;
        snprintf(b.token, sizeof b.token, "%s", token);
    }
    for (size_t i = 0; i < b.nimages && state == TOKEN_AWAY; i++)
        if (b.images[i].result)
            b.images[i].version = b.images[i].result;
    *ret = b;
    *ret_state = state;
    return 0;
}

/* ---- lease --------------------------------------------------------------------------------------------- */

static int boot_of_token(struct catalog *c, const struct machine *m, const char *token, struct boot *ret,
                         struct err *e)
{
    enum token_state state;
    if (boot_by_token(c, token, ret, &state, e) < 0)
        return -1;
    long long id = ret->id;
    if (!mac_equal(&ret->machine, &m->mac))
        return err_set(e, ERR_STATE, "boot %lld is machine '%s's, not '%s's", id, ret->machine_name, m->name);
    if (ret->state != BOOT_QUEUED)
        return err_set(e, ERR_STATE, "boot %lld is %s%s%s", id, boot_state_name(ret->state),
                       ret->result[0] ? ": " : "", ret->result);
    if (state == TOKEN_ENDED)
        return err_set(e, ERR_STATE, "the token of boot %lld was superseded more than %d minutes ago", id,
                       TOKEN_GRACE / 60);
    return 0;
}

static int run_with_id(struct catalog *c, enum statement which, int64_t id, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_int(s, id);
    return stmt_run(s, e);
}

/* A resumed boot has its images already; only what its machine keeps of temporal ones may be another now. */
static int freeze(struct catalog *c, const struct boot *b, struct err *e)
{
    if (run_with_id(c, SQL_BOOT_IMAGES_REMOVE, b->id, e) < 0)
        return -1;
    for (size_t i = 0; i < b->nimages; i++) {
        cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_IMAGE_ADD);
        put_int(s, b->id);
        put_int(s, (int64_t)i);
        put_uuid(s, &b->images[i].image);
        put_text(s, b->images[i].name);
        put_nonzero(s, b->images[i].version);
        put_int(s, b->images[i].keep);
        put_nonzero(s, (uint64_t)b->images[i].temporal);
        put_nonzero(s, (uint64_t)b->images[i].follows);
        put_int(s, (int64_t)b->images[i].follows_position);
        if (stmt_run(s, e) < 0)
            return -1;
    }
    return 0;
}

static int set_lease(struct catalog *c, int64_t id, const char *token, const char *address, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_LEASE);
    put_text(s, token);
    put_text(s, address && address[0] ? address : NULL);
    put_int(s, id);
    return stmt_run(s, e);
}

static int check_free(struct catalog *c, const struct machine *m, struct err *e)
{
    struct boot b;
    if (boot_running(c, &m->mac, &b, e) == 0)
        return err_set(e, ERR_STATE, "boot %lld of machine '%s' is %s; try: labboot boot end %lld",
                       (long long)b.id, m->name, boot_state_name(b.state), (long long)b.id);
    return e->code == ERR_NOT_FOUND ? 0 : -1;
}

int boot_leave_behind(struct catalog *c, const struct mac *machine, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_LEAVE_BEHIND);
    put_mac(s, machine);
    return stmt_run(s, e);
}

int boot_lease(struct catalog *c, const struct mac *machine, const char *token, const char *address,
               struct boot *ret, struct err *e)
{
    return boot_lease_taking(c, machine, token, address, NULL, 0, ret, e);
}

int boot_lease_taking(struct catalog *c, const struct mac *machine, const char *token, const char *address,
                      const struct takeover *ready, size_t count, struct boot *ret, struct err *e)
{
    struct machine m;
    struct boot b;
    bool takes;
    char actor[OBJECT_SIZE];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || machine_by_mac(c, machine, &m, e) < 0)
        return -1;
    if (!m.managed)
        return err_set(e, ERR_STATE, "machine '%s' is not managed: it has no disks here", m.name);
    if (check_free(c, &m, e) < 0 ||
        (token ? boot_of_token(c, &m, token, &b, e) : boot_next_row(c, &m.mac, &b, e)) < 0 ||
        temporal_attach(c, &b, e) < 0 || takeover_attach(c, &b, ready, count, &takes, e) < 0 ||
        boot_check(c, &b, e) < 0)
        return -1;
    machine_object(&m.mac, actor);
    snprintf(b.address, sizeof b.address, "%s", address ? address : "");
    if (boot_leave_behind(c, &m.mac, e) < 0 || freeze(c, &b, e) < 0 ||
        set_lease(c, b.id, token, address, e) < 0 || boot_move(c, actor, &b, BOOT_LEASED, NULL, e) < 0 ||
        (takes && takeover_note(c, &b, e) < 0) || boot_get(c, b.id, &b, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = b;
    return 0;
}

/* ---- running ------------------------------------------------------------------------------------------- */

int boot_start(struct catalog *c, int64_t id, struct err *e)
{
    struct boot b;
    char actor[OBJECT_SIZE];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, id, &b, e) < 0)
        return -1;
    if (b.state != BOOT_LEASED)
        return 0;
    machine_object(&b.machine, actor);
    if (boot_move(c, actor, &b, BOOT_RUNNING, NULL, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int boot_requeue(struct catalog *c, int64_t id, const char *why, struct err *e)
{
    struct boot b;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, id, &b, e) < 0 ||
        boot_move(c, "server", &b, BOOT_QUEUED, why, e) < 0 || run_with_id(c, SQL_BOOT_UNLEASE, id, e) < 0 ||
        (!b.resumed && run_with_id(c, SQL_BOOT_IMAGES_REMOVE, id, e) < 0))
        return -1;
    return tx_commit(&tx, e);
}

int boot_set_disconnected(struct catalog *c, int64_t id, int64_t when, struct err *e)
{
    struct boot b;
    char object[OBJECT_SIZE];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, id, &b, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_DISCONNECTED);
    put_int(s, when);
    put_int(s, id);
    if (stmt_run(s, e) < 0)
        return -1;
    snprintf(object, sizeof object, "boot %lld", (long long)id);
    struct event ev = {.actor = "server",
                       .what = when ? "boot-disconnected" : "boot-reconnected",
                       .object = object,
                       .peer = b.address,
                       .machine = &b.machine};
    if (!when != !b.disconnected && event_write(c, &ev, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static int leave_running(struct catalog *c, const char *actor, struct boot *b, enum boot_state to,
                         const char *why, struct err *e)
{
    if (b->state == BOOT_QUEUED)
        return err_set(e, ERR_STATE, "boot %lld is queued, so it cannot become %s", (long long)b->id,
                       boot_state_name(to));
    return boot_move(c, actor, b, to, why, e);
}

static int set_ending(struct catalog *c, int64_t id, enum boot_ending ending, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_ENDING);
    put_text(s, boot_ending_name(ending));
    put_int(s, id);
    return stmt_run(s, e);
}

int boot_begin_end(struct catalog *c, const char *actor, int64_t id, enum boot_ending ending, const char *why,
                   struct err *e)
{
    struct boot b;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, id, &b, e) < 0)
        return -1;
    enum boot_state to = b.keep && ending != ENDING_DISCARD ? BOOT_COMMITTING : BOOT_DISCARDED;
    if (takeover_check_none(c, id, e) < 0 || set_ending(c, id, ending, e) < 0 ||
        leave_running(c, actor, &b, to, why, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int boot_end(struct catalog *c, const char *actor, int64_t id, enum boot_state to, const char *why,
             struct err *e)
{
    struct boot b;
    if (to != BOOT_DISCARDED && to != BOOT_INTERRUPTED)
        return err_set(e, ERR_STATE, "a boot does not end as %s", boot_state_name(to));
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, id, &b, e) < 0 || leave_running(c, actor, &b, to, why, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int boot_want_space(struct catalog *c, int64_t id, uint64_t wanted, const char *why, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_end(c, "server", id, BOOT_INTERRUPTED, why, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_SPACE_WANTED);
    put_int(s, (int64_t)wanted);
    put_int(s, id);
    return stmt_run(s, e) < 0 ? -1 : tx_commit(&tx, e);
}

/* ---- on again ------------------------------------------------------------------------------------------ */

int boot_resumable(struct catalog *c, int64_t id, struct boot *ret, struct err *e)
{
    struct boot b;
    struct machine m;
    if (boot_get(c, id, &b, e) < 0 || machine_by_mac(c, &b.machine, &m, e) < 0)
        return -1;
    if (b.state != BOOT_INTERRUPTED)
        return err_set(e, ERR_STATE,
                       "boot %lld is %s, not interrupted; try: labboot boot list %s --state interrupted",
                       (long long)id, boot_state_name(b.state), m.name);
    if (!m.managed)
        return err_set(e, ERR_STATE, "machine '%s' is not managed: it boots from its own disk", m.name);
    if (takeover_check_none(c, id, e) < 0 || boot_check(c, &b, e) < 0)
        return -1;
    *ret = b;
    return 0;
}

int boot_resume(struct catalog *c, const char *actor, int64_t id, struct err *e)
{
    struct boot b;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_resumable(c, id, &b, e) < 0 ||
        boot_move(c, actor, &b, BOOT_QUEUED, "resumed", e) < 0 || run_with_id(c, SQL_BOOT_RESUME, id, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* ---- the machine is back ------------------------------------------------------------------------------- */

int boot_no_return(struct catalog *c, int64_t id, const char *why, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_NO_RETURN);
    put_text(s, why);
    put_int(s, id);
    return stmt_run(s, e) < 0 ? -1 : tx_commit(&tx, e);
}

/* A user's image has one machine that writes to it. */
static int check_not_elsewhere(struct catalog *c, const struct boot *b, struct err *e)
{
    char name[NAME_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_ELSEWHERE);
    put_int(s, b->id);
    int row = stmt_row(s, e);
    if (row <= 0)
        return row;
    take_text(s, name, sizeof name);
    return err_set(e, ERR_STATE, "image %s is in use by another machine", name);
}

static int check_disks(struct catalog *c, const struct boot *b, struct err *e)
{
    for (size_t i = 0; i < b->nimages; i++)
        if (strcmp(b->images[i].type, "temporal") == 0 && !b->images[i].temporal)
            return err_set(e, ERR_STATE, "what the machine kept of image %s was dropped", b->images[i].name);
    return check_not_elsewhere(c, b, e) < 0 ? -1 : boot_check(c, b, e);
}

int boot_returnable(struct catalog *c, const struct boot *b, struct err *e)
{
    if (check_disks(c, b, e) == 0)
        return 0;
    return err_wrap(e, "boot %lld of %s is %s", (long long)b->id, b->machine_name, boot_state_name(b->state));
}

/* b becomes another boot, which has the token from now on. */
static int begin_again(struct catalog *c, struct boot *b, const char *token, struct err *e)
{
    cleanup(stmt) struct stmt *row = stmt_use(c, SQL_BOOT_AGAIN);
    put_int(row, b->id);
    if (stmt_run(row, e) < 0)
        return -1;
    b->id = db_last_id(c);
    b->state = BOOT_QUEUED;
    for (size_t i = 0; i < b->nimages; i++)
        b->images[i].follows = 0; /* what was taken over is in the version */
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TOKEN_HAND_ON);
    put_int(s, b->id);
    put_text(s, token);
    return stmt_run(s, e) < 0 ? -1 : freeze(c, b, e);
}

static int away_boot(struct catalog *c, const struct machine *m, const char *token, struct boot *ret,
                     struct err *e)
{
    enum token_state state;
    if (boot_by_token(c, token, ret, &state, e) < 0)
        return -1;
    if (state != TOKEN_AWAY || !mac_equal(&ret->machine, &m->mac))
        return err_set(e, ERR_STATE, "machine '%s' cannot come back to boot %lld, which is %s", m->name,
                       (long long)ret->id, boot_state_name(ret->state));
    return boot_returnable(c, ret, e);
}

int boot_return(struct catalog *c, const struct mac *machine, const char *token, const char *address,
                struct boot *ret, struct err *e)
{
    struct machine m;
    struct boot b;
    char actor[OBJECT_SIZE], why[60];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || machine_by_mac(c, machine, &m, e) < 0 || check_free(c, &m, e) < 0 ||
        away_boot(c, &m, token, &b, e) < 0)
        return -1;
    bool same = b.state == BOOT_INTERRUPTED;
    machine_object(&m.mac, actor);
    snprintf(why, sizeof why, "its machine came back to boot %lld", (long long)b.id);
    snprintf(b.address, sizeof b.address, "%s", address);
    if (set_ending(c, b.id, same ? ENDING_NONE : ENDING_AUTO, e) < 0 ||
        (!same && begin_again(c, &b, token, e) < 0) || set_lease(c, b.id, token, address, e) < 0 ||
        boot_move(c, actor, &b, BOOT_RUNNING, same ? "its machine came back" : why, e) < 0 ||
        boot_get(c, b.id, &b, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = b;
    return 0;
}

/* ---- what becomes of it -------------------------------------------------------------------------------- */

static int set_result(struct catalog *c, const struct boot *b, const struct version_new *v, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_IMAGE_RESULT);
    put_nonzero(s, v->version);
    put_int(s, b->id);
    put_uuid(s, &v->image);
    if (stmt_run(s, e) < 0)
        return -1;
    if (db_changes(c) == 0)
        return err_set(e, ERR_STATE, "image %s is none of boot %lld", uuid_to_text(&v->image, uuid),
                       (long long)b->id);
    return 0;
}

/* Sets *branched when the head moved on since; only else it becomes the head. */
static int publish_one(struct catalog *c, const struct boot *b, const struct version_new *v, bool *branched,
                       struct err *e)
{
    struct image image;
    char object[OBJECT_SIZE];
    if (image_by_uuid(c, &v->image, &image, e) < 0 || set_result(c, b, v, e) < 0)
        return -1;
    snprintf(object, sizeof object, "boot %lld", (long long)b->id);
    if (version_insert(c, v, b->id, e) < 0)
        return err_wrap(e, "image '%s/%s'", image.owner, image.name);
    if (image_event(c, "server", "version-published", &v->image, v->version, object, e) < 0)
        return -1;
    if (image.head == v->parent)
        return image_head_set(c, &v->image, v->version, e);
    *branched = true;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_BRANCH);
    put_uuid(s, &v->image);
    put_nonzero(s, v->version);
    return stmt_run(s, e);
}

int boot_publish(struct catalog *c, int64_t id, const struct version_new *versions, size_t count,
                 enum boot_state *ret, struct err *e)
{
    struct boot b;
    bool branched = false;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, id, &b, e) < 0)
        return -1;
    if (b.state != BOOT_COMMITTING)
        return err_set(e, ERR_STATE, "boot %lld is %s, not committing", (long long)id,
                       boot_state_name(b.state));
    for (size_t i = 0; i < count; i++) {
        if (publish_one(c, &b, &versions[i], &branched, e) < 0)
            return -1;
    }
    enum boot_state to = branched ? BOOT_BRANCHED : BOOT_COMMITTED;
    if (boot_move(c, "server", &b, to, NULL, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = to;
    return 0;
}
