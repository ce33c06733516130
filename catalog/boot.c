/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

static const char *const state_names[] = {
    [BOOT_QUEUED] = "queued",         [BOOT_LEASED] = "leased",           [BOOT_RUNNING] = "running",
    [BOOT_COMMITTING] = "committing", [BOOT_COMMITTED] = "committed",     [BOOT_BRANCHED] = "branched",
    [BOOT_DISCARDED] = "discarded",   [BOOT_INTERRUPTED] = "interrupted", [BOOT_CANCELLED] = "cancelled",
};

/* Queued to interrupted: one that had been resumed. Interrupted to interrupted: another reason (a commit that was tried again and failed again).
 * Queued and interrupted to running: a machine came back to a boot that had ended without it. */
const bool boot_edges[BOOT_CANCELLED + 1][BOOT_CANCELLED + 1] = {
    [BOOT_QUEUED] =
        {[BOOT_LEASED] = true, [BOOT_RUNNING] = true, [BOOT_CANCELLED] = true, [BOOT_INTERRUPTED] = true},
    [BOOT_LEASED] = {[BOOT_QUEUED] = true,
                     [BOOT_RUNNING] = true,
                     [BOOT_COMMITTING] = true,
                     [BOOT_DISCARDED] = true,
                     [BOOT_INTERRUPTED] = true},
    [BOOT_RUNNING] = {[BOOT_COMMITTING] = true, [BOOT_DISCARDED] = true, [BOOT_INTERRUPTED] = true},
    [BOOT_COMMITTING] =
        {[BOOT_COMMITTED] = true, [BOOT_BRANCHED] = true, [BOOT_DISCARDED] = true, [BOOT_INTERRUPTED] = true},
    [BOOT_INTERRUPTED] = {[BOOT_QUEUED] = true,
                          [BOOT_RUNNING] = true,
                          [BOOT_COMMITTING] = true,
                          [BOOT_DISCARDED] = true,
                          [BOOT_INTERRUPTED] = true},
};

const char *boot_state_name(enum boot_state s)
{
    return state_names[s];
}

static const char *const ending_names[] = {
    [ENDING_NONE] = NULL,         [ENDING_AUTO] = "auto",       [ENDING_AWAY] = "away",
    [ENDING_DONE] = "done",       [ENDING_ABANDON] = "abandon", [ENDING_COMMIT] = "commit",
    [ENDING_DISCARD] = "discard",
};

const char *boot_ending_name(enum boot_ending ending)
{
    return ending_names[ending];
}

static enum boot_ending ending_of(const char *name)
{
    enum boot_ending ending = ENDING_DISCARD;
    while (ending > ENDING_NONE && strcmp(ending_names[ending], name) != 0)
        ending--;
    return ending;
}

static enum boot_state state_of(const char *name)
{
    enum boot_state s = BOOT_QUEUED;
    while (s < BOOT_CANCELLED && strcmp(state_names[s], name) != 0)
        s++;
    return s;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static void row_take(struct stmt *s, struct boot *b)
{
    char state[16], ending[16];
    *b = (struct boot){.id = take_int(s)};
    take_mac(s, &b->machine);
    take_text(s, b->machine_name, sizeof b->machine_name);
    take_text(s, state, sizeof state);
    b->state = state_of(state);
    b->update = take_bool(s);
    b->from_default = take_bool(s);
    take_uuid(s, &b->setup);
    take_text(s, b->setup_name, sizeof b->setup_name);
    take_text(s, b->token, sizeof b->token);
    b->attempts = (unsigned)take_int(s);
    b->resumed = take_bool(s);
    b->queued = take_int(s);
    b->leased = take_int(s);
    b->started = take_int(s);
    b->disconnected = take_int(s);
    b->ended = take_int(s);
    take_text(s, b->address, sizeof b->address);
    take_text(s, ending, sizeof ending);
    b->ending = ending_of(ending);
    take_text(s, b->result, sizeof b->result);
}

static int images_take(struct stmt *s, struct boot *b, struct err *e)
{
    int row;
    b->nimages = 0;
    b->keep = false;
    while ((row = stmt_row(s, e)) > 0) {
        if (b->nimages == SETUP_IMAGES_MAX)
            return err_set(e, ERR_CORRUPT, "boot %lld has more than %d images", (long long)b->id,
                           SETUP_IMAGES_MAX);
        struct boot_image *i = &b->images[b->nimages++];
        take_uuid(s, &i->image);
        take_text(s, i->name, sizeof i->name);
        take_text(s, i->type, sizeof i->type);
        take_text(s, i->compression, sizeof i->compression);
        i->version = take_uint(s);
        i->keep = take_bool(s);
        i->result = take_uint(s);
        i->temporal = take_int(s);
        i->follows = take_int(s);
        i->follows_position = (size_t)take_int(s);
        b->keep |= i->keep;
    }
    return row;
}

int boot_resolve(struct catalog *c, struct boot *b, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_SETUP_IMAGES);
    put_int(s, b->update);
    put_uuid(s, &b->setup);
    put_mac(s, &b->machine);
    return images_take(s, b, e);
}

int boot_resolve_token(struct catalog *c, const char *token, struct boot *b, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TOKEN_IMAGES);
    put_text(s, token);
    return images_take(s, b, e);
}

static int frozen_images(struct catalog *c, struct boot *b, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_IMAGES);
    put_int(s, b->id);
    return images_take(s, b, e);
}

int boot_take(struct catalog *c, struct stmt *s, struct boot *ret, struct err *e)
{
    int row = stmt_row(s, e);
    if (row <= 0)
        return row;
    row_take(s, ret);
    bool frozen = ret->resumed || (ret->state != BOOT_QUEUED && ret->state != BOOT_CANCELLED);
    return (frozen ? frozen_images(c, ret, e) : boot_resolve(c, ret, e)) < 0 ? -1 : 1;
}

int boot_get(struct catalog *c, int64_t id, struct boot *ret, struct err *e)
{
    struct boot b;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT);
    put_int(s, id);
    int row = boot_take(c, s, &b, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no boot %lld; try: labboot boot list", (long long)id);
    if (row < 0)
        return -1;
    *ret = b;
    return 0;
}

static int boot_of_machine(struct catalog *c, enum statement which, const struct mac *machine,
                           const char *what, struct boot *ret, struct err *e)
{
    struct boot b;
    char mac[MAC_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_mac(s, machine);
    int row = boot_take(c, s, &b, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "machine %s has no %s boot", mac_format(machine, mac), what);
    if (row < 0)
        return -1;
    *ret = b;
    return 0;
}

int boot_running(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e)
{
    return boot_of_machine(c, SQL_BOOT_ACTIVE, machine, "running", ret, e);
}

int boot_last(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e)
{
    return boot_of_machine(c, SQL_BOOT_LAST, machine, "running or ended", ret, e);
}

int boot_head(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e)
{
    return boot_of_machine(c, SQL_BOOT_QUEUED, machine, "queued", ret, e);
}

int boot_unended(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_UNENDED);
    put_mac(s, machine);
    return boot_take(c, s, ret, e);
}

static int boots_take(struct catalog *c, struct stmt *s, struct boot **ret, size_t *ret_count, struct err *e)
{
    cleanup(free) void *list = NULL;
    struct boot b;
    size_t count = 0;
    int row;
    while ((row = boot_take(c, s, &b, e)) > 0) {
        if (list_append(&list, &count, &b, sizeof b, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

int boots_in_state(struct catalog *c, enum boot_state state, struct boot **ret, size_t *ret_count,
                   struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOTS_IN_STATE);
    put_text(s, boot_state_name(state));
    return boots_take(c, s, ret, ret_count, e);
}

int boots_with_space(struct catalog *c, uint64_t free_bytes, struct boot **ret, size_t *ret_count,
                     struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOTS_WITH_SPACE);
    put_int(s, (int64_t)free_bytes);
    return boots_take(c, s, ret, ret_count, e);
}

int boot_check(struct catalog *c, const struct boot *b, struct err *e)
{
    if (b->nimages == 0)
        return err_set(e, ERR_STATE, "setup '%s' has no images", b->setup_name);
    for (size_t i = 0; i < b->nimages; i++) {
        if (version_check_good(c, &b->images[i].image, b->images[i].version, e) < 0) {
            e->code = e->code == ERR_NOT_FOUND ? ERR_STATE : e->code;
            return err_wrap(e, "setup '%s'", b->setup_name);
        }
    }
    return 0;
}

/* What it had of images of type temporal is not in use any more. */
static int cease(struct catalog *c, int64_t boot, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_TEMPORAL_CEASE);
    put_int(s, boot);
    return stmt_run(s, e);
}

/* ---- the edges ----------------------------------------------------------------------------------------- */

static int move_event(struct catalog *c, const char *actor, const struct boot *b, enum boot_state to,
                      const char *why, struct err *e)
{
    char what[32], object[OBJECT_SIZE], itself[OBJECT_SIZE];
    bool again = to == BOOT_QUEUED && b->state == BOOT_LEASED;
    bool resumed = to == BOOT_QUEUED && b->state == BOOT_INTERRUPTED;
    bool reopened = to == BOOT_RUNNING && b->state != BOOT_LEASED;
    snprintf(what, sizeof what, "boot-%s",
             again      ? "requeued"
             : resumed  ? "resumed"
             : reopened ? "reopened"
                        : boot_state_name(to));
    snprintf(object, sizeof object, "boot %lld", (long long)b->id);
    machine_object(&b->machine, itself);
    bool remote = strcmp(actor, itself) == 0; /* what the machine does itself */
    struct event ev = {.actor = actor,
                       .what = what,
                       .object = object,
                       .detail = why,
                       .peer = remote ? b->address : NULL,
                       .machine = &b->machine};
    return event_write(c, &ev, e);
}

int boot_move(struct catalog *c, const char *actor, struct boot *b, enum boot_state to, const char *why,
              struct err *e)
{
    if (!boot_edges[b->state][to])
        return err_set(e, ERR_STATE, "boot %lld is %s%s%s, so it cannot become %s", (long long)b->id,
                       boot_state_name(b->state), b->result[0] ? ": " : "", b->result, boot_state_name(to));
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_MOVE);
    put_text(s, boot_state_name(to));
    put_text(s, why);
    put_int(s, b->id);
    if (stmt_run(s, e) < 0 || move_event(c, actor, b, to, why, e) < 0 || cease(c, b->id, e) < 0)
        return -1;
    b->state = to;
    return 0;
}

/* ---- the queue ----------------------------------------------------------------------------------------- */

/* setup_name is read from the setup's row. */
static int insert(struct catalog *c, const struct mac *machine, const struct uuid *setup, bool from_default,
                  bool update, const char *comment, int64_t *ret_id, struct err *e)
{
    char uuid[UUID_TEXT_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_ADD);
    put_mac(s, machine);
    put_text(s, from_default ? "default" : "queue");
    put_int(s, update);
    put_text(s, comment);
    put_uuid(s, setup);
    if (stmt_run(s, e) < 0)
        return -1;
    if (db_changes(c) == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no setup %s; try: labboot setup list",
                       uuid_to_text(setup, uuid));
    *ret_id = db_last_id(c);
    return 0;
}

int boot_kernel(struct catalog *c, const struct boot *b, size_t *ret_image, char ret[TEXT_SIZE],
                struct err *e)
{
    size_t from = 0;
    if (version_kernel(c, &b->images[0].image, b->images[0].version, ret, e) < 0)
        return -1;
    for (size_t i = 1; i < b->nimages && from == 0 && !ret[0]; i++)
        if (strcmp(b->images[i].type, "boot") == 0)
            from = i;
    if (from && version_kernel(c, &b->images[from].image, b->images[from].version, ret, e) < 0)
        return -1;
    *ret_image = ret[0] ? from : 0;
    return 0;
}

/* Who tests with nbd-client boots no kernel. */
static int warn_of_kernel(struct catalog *c, const struct boot *b, char ret[TEXT_SIZE], struct err *e)
{
    char kernel[TEXT_SIZE];
    size_t from;
    if (boot_kernel(c, b, &from, kernel, e) < 0)
        return -1;
    if (!kernel[0])
        snprintf(
            ret, TEXT_SIZE,
            "%s@%llu has no kernel and initrd, and no image of kind boot beside it has: a machine cannot "
            "boot it, only attach it",
            b->images[0].name, (unsigned long long)b->images[0].version);
    return 0;
}

static int warn_of_peg(struct catalog *c, const struct boot *b, char ret[TEXT_SIZE], struct err *e)
{
    char name[NAME_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_WARN_PEGGED);
    put_int(s, b->update);
    put_uuid(s, &b->setup);
    int row = stmt_row(s, e);
    if (row <= 0)
        return row;
    take_text(s, name, sizeof name);
    snprintf(ret, TEXT_SIZE, "setup '%s' pegs %s@%llu: it goes on booting that, not what this update makes",
             b->setup_name, name, (unsigned long long)take_uint(s));
    return 0;
}

static int warn_of_second_update(struct catalog *c, const struct boot *b, char ret[TEXT_SIZE], struct err *e)
{
    char name[NAME_SIZE];
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_WARN_SECOND);
    put_int(s, b->id);
    int row = stmt_row(s, e);
    if (row <= 0)
        return row;
    int64_t other = take_int(s);
    take_text(s, name, sizeof name);
    snprintf(ret, TEXT_SIZE, "boot %lld updates image %s too: the one that ends later may become a branch",
             (long long)other, name);
    return 0;
}

/* Images of users are kept by every boot, of whatever machine: no second update. */
static const struct boot_image *updated_image(const struct boot *b)
{
    for (size_t i = 0; i < b->nimages; i++)
        if (b->images[i].keep && strcmp(b->images[i].type, "user") != 0)
            return &b->images[i];
    return NULL;
}

/* What is allowed, but perhaps not meant: the most important one. `count` boots like b were queued with it. ret: "" when
 * there is nothing to say. */
static int warning_of(struct catalog *c, const struct boot *b, size_t count, char ret[TEXT_SIZE],
                      struct err *e)
{
    static int (*const warnings[])(struct catalog *, const struct boot *, char *,
                                   struct err *) = {warn_of_kernel, warn_of_peg, warn_of_second_update};
    const struct boot_image *updated = updated_image(b);
    ret[0] = '\0';
    if (count > 1 && updated) {
        snprintf(ret, TEXT_SIZE,
                 "%zu boots update image %s: the one that ends first becomes its latest, the others branches",
                 count, updated->name);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(warnings) && !ret[0]; i++)
        if (warnings[i](c, b, ret, e) < 0)
            return -1;
    return 0;
}

static int queue_one(struct catalog *c, const char *actor, const struct mac *machine,
                     const struct boot_new *new, struct boot *ret, struct err *e)
{
    struct machine m;
    int64_t id;
    if (machine_by_mac(c, machine, &m, e) < 0)
        return -1;
    if (!m.managed)
        return err_set(e, ERR_STATE, "machine '%s' is not managed: it boots from its own disk", m.name);
    if (insert(c, &m.mac, &new->setup, false, new->update, new->comment, &id, e) < 0 ||
        boot_get(c, id, ret, e) < 0 || boot_check(c, ret, e) < 0)
        return -1;
    return move_event(c, actor, ret, BOOT_QUEUED, ret->setup_name, e);
}

int boots_queue(struct catalog *c, const char *actor, const struct mac *machines, size_t count,
                const struct boot_new *new, int64_t *ret_ids, char *ret_warning, struct err *e)
{
    struct boot b;
    cleanup(free) int64_t *ids = calloc(count + 1, sizeof *ids);
    char warning[TEXT_SIZE] = "";
    cleanup(tx) struct catalog *tx = NULL;
    if (!ids)
        return err_sys(e, ENOMEM, "boots");
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (queue_one(c, actor, &machines[i], new, &b, e) < 0)
            return -1;
        ids[i] = b.id;
    }
    if ((count > 0 && warning_of(c, &b, count, warning, e) < 0) || tx_commit(&tx, e) < 0)
        return -1;
    memcpy(ret_ids, ids, count * sizeof *ids);
    if (ret_warning)
        memcpy(ret_warning, warning, sizeof warning);
    return 0;
}

int boot_queue(struct catalog *c, const char *actor, const struct mac *machine, const struct uuid *setup,
               bool update, const char *comment, int64_t *ret_id, char *ret_warning, struct err *e)
{
    const struct boot_new new = {.setup = *setup, .update = update, .comment = comment};
    return boots_queue(c, actor, machine, 1, &new, ret_id, ret_warning, e);
}

int boot_cancel(struct catalog *c, const char *actor, int64_t id, struct err *e)
{
    struct boot b;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_get(c, id, &b, e) < 0)
        return -1;
    if (b.state == BOOT_LEASED || b.state == BOOT_RUNNING || b.state == BOOT_INTERRUPTED)
        return err_set(e, ERR_STATE, "boot %lld is %s, not queued; try: labboot boot end %lld%s",
                       (long long)id, boot_state_name(b.state), (long long)id,
                       b.state == BOOT_INTERRUPTED ? " --discard" : "");
    enum boot_state to = b.resumed ? BOOT_INTERRUPTED : BOOT_CANCELLED;
    if (boot_move(c, actor, &b, to, b.resumed ? "resumed, and cancelled before it ran" : "cancelled", e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* ---- the next one -------------------------------------------------------------------------------------- */

/* A row for what the machine's default setup gives; 0: it has none. */
static int make_default(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e)
{
    struct uuid setup;
    int64_t id;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MACHINE_DEFAULT);
    put_mac(s, machine);
    int row = stmt_row(s, e);
    if (row <= 0)
        return row;
    take_uuid(s, &setup);
    if (insert(c, machine, &setup, true, false, NULL, &id, e) < 0 || boot_get(c, id, ret, e) < 0 ||
        move_event(c, "server", ret, BOOT_QUEUED, "by default", e) < 0)
        return -1;
    return 1;
}

int boot_next_row(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e)
{
    struct machine m;
    if (machine_by_mac(c, machine, &m, e) < 0)
        return -1;
    if (!m.managed)
        return err_set(e, ERR_NOT_FOUND, "machine '%s' is not managed: it boots from its own disk", m.name);
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_HEAD);
    put_mac(s, &m.mac);
    int row = boot_take(c, s, ret, e);
    if (row == 0)
        row = make_default(c, &m.mac, ret, e);
    if (row == 0)
        return err_set(e, ERR_NOT_FOUND, "machine '%s' has nothing to boot; try: labboot boot queue %s SETUP",
                       m.name, m.name);
    return row < 0 ? -1 : 0;
}

int boot_next(struct catalog *c, const struct mac *machine, struct boot *ret, struct err *e)
{
    struct boot b;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || boot_next_row(c, machine, &b, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret = b;
    return 0;
}
