/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

#include "lib/base/strbuf.h"

static int row_exists(struct catalog *c, enum statement which, const char *text, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_text(s, text);
    return stmt_row(s, e);
}

static int no_user(const char *username, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "there is no user '%s'; try: labboot user list", username);
}

int user_check(struct catalog *c, const char *username, struct err *e)
{
    int row = row_exists(c, SQL_USER_EXISTS, username, e);
    if (row == 0)
        return no_user(username, e);
    return row < 0 ? -1 : 0;
}

static void take_user(struct stmt *s, struct user *ret)
{
    take_text(s, ret->username, sizeof ret->username);
    ret->role = (enum role)take_int(s);
    take_text(s, ret->name, sizeof ret->name);
    take_text(s, ret->email, sizeof ret->email);
}

int user_get(struct catalog *c, const char *username, struct user *ret, struct err *e)
{
    if (parse_name("user", username, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_USER);
    put_text(s, username);
    int row = stmt_row(s, e);
    if (row == 0)
        return no_user(username, e);
    if (row < 0)
        return -1;
    take_user(s, ret);
    return 0;
}

int users_all(struct catalog *c, struct user **ret, size_t *ret_count, struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    struct user u;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_USERS);
    while ((row = stmt_row(s, e)) > 0) {
        take_user(s, &u);
        if (list_append(&list, &count, &u, sizeof u, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

static int refuse_email(struct catalog *c, const char *email, struct err *e)
{
    int used = row_exists(c, SQL_USER_EMAIL_EXISTS, email, e);
    if (used == 0)
        return 0;
    return used < 0 ? -1 : err_set(e, ERR_STATE, "the email address '%s' is another user's", email);
}

static int refuse_existing(struct catalog *c, const char *username, const char *email, struct err *e)
{
    int user = row_exists(c, SQL_USER_EXISTS, username, e);
    if (user != 0)
        return user < 0 ? -1 : err_set(e, ERR_STATE, "user '%s' exists already", username);
    return refuse_email(c, email, e);
}

static int insert(struct catalog *c, const char *username, const char *name, const char *email,
                  const char *role, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_USER_ADD);
    put_text(s, username);
    put_text(s, name ? name : "");
    put_text(s, email);
    put_text(s, role ? role : "user");
    return stmt_run(s, e);
}

int user_add(struct catalog *c, const char *actor, const char *username, const char *name, const char *email,
             const char *role, struct err *e)
{
    if (parse_name("user", username, e) < 0)
        return -1;
    if (!email)
        return err_set(e, ERR_USAGE, "user '%s' needs an email address; try: --email", username);
    char object[OBJECT_SIZE];
    snprintf(object, sizeof object, "user %s", username);
    struct event ev = {.actor = actor, .what = "user-added", .object = object, .detail = email};
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || refuse_existing(c, username, email, e) < 0 ||
        insert(c, username, name, email, role, e) < 0 || event_write(c, &ev, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* ---- change -------------------------------------------------------------------------------------------- */

int user_other_admins(struct catalog *c, const char *username, uint64_t *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_USER_OTHER_ADMINS);
    put_text(s, username);
    if (stmt_row(s, e) < 0)
        return -1;
    *ret = take_uint(s);
    return 0;
}

static int refuse_last_admin(struct catalog *c, const char *username, struct err *e)
{
    struct user user;
    uint64_t others;
    if (user_get(c, username, &user, e) < 0 || user_other_admins(c, username, &others, e) < 0)
        return -1;
    if (user.role != ROLE_ADMIN || others != 0)
        return 0;
    return err_set(e, ERR_STATE, "user %s is the last admin; try: --force", username);
}

/* What differs, for the event. */
static void compare(struct strbuf *detail, const char *what, const char *from, const char *to)
{
    if (to && strcmp(from, to) != 0)
        strbuf_appendf(detail, "%s%s: %s -> %s", detail->len ? ", " : "", what, from, to);
}

static int compare_all(struct catalog *c, const char *username, const struct user_change *change,
                       struct strbuf *detail, struct err *e)
{
    bool other_email;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_USER_FIELDS);
    put_text(s, username);
    int row = stmt_row(s, e);
    if (row <= 0)
        return row < 0 ? -1 : no_user(username, e);
    compare(detail, "name", stmt_column_text(s, 0), change->name);
    compare(detail, "email", stmt_column_text(s, 1), change->email);
    compare(detail, "role", stmt_column_text(s, 2), change->role);
    other_email = change->email && strcmp(stmt_column_text(s, 1), change->email) != 0;
    return other_email ? refuse_email(c, change->email, e) : 0;
}

static int update(struct catalog *c, const char *username, const struct user_change *change, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_USER_CHANGE);
    put_text(s, change->name);
    put_text(s, change->email);
    put_text(s, change->role);
    put_text(s, username);
    return stmt_run(s, e);
}

int user_change(struct catalog *c, const char *actor, const char *username, const struct user_change *change,
                bool force, struct err *e)
{
    char object[OBJECT_SIZE];
    cleanup(strbuf) struct strbuf detail = STRBUF_INIT;
    bool demotes = change->role && strcmp(change->role, "admin") != 0;
    snprintf(object, sizeof object, "user %s", username);
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || compare_all(c, username, change, &detail, e) < 0 ||
        (demotes && !force && refuse_last_admin(c, username, e) < 0) || update(c, username, change, e) < 0)
        return -1;
    struct event ev = {
        .actor = actor, .what = "user-changed", .object = object, .detail = strbuf_text(&detail)};
    if (detail.len && event_write(c, &ev, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

/* ---- remove -------------------------------------------------------------------------------------------- */

int user_check_owns_nothing(struct catalog *c, const char *username, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_USER_OWNS);
    put_text(s, username);
    if (stmt_row(s, e) < 0)
        return -1;
    const char *owned = stmt_column_text(s, 0);
    return owned ? err_set(e, ERR_STATE, "user %s still owns: %s", username, owned) : 0;
}

/* 1: there is one, 0: none. */
static int first_of(struct catalog *c, enum statement which, const char *username, struct uuid *ret,
                    struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_text(s, username);
    int row = stmt_row(s, e);
    if (row > 0)
        take_uuid(s, ret);
    return row;
}

/* Setups first: the user's own do not hold the user's images. */
static int remove_all(struct catalog *c, const char *actor, const char *username, bool force,
                      size_t *cancelled, struct err *e)
{
    struct uuid uuid;
    size_t boots;
    int row;
    *cancelled = 0;
    while ((row = first_of(c, SQL_USER_SETUP, username, &uuid, e)) > 0) {
        if (setup_remove(c, actor, &uuid, force, &boots, e) < 0)
            return -1;
        *cancelled += boots;
    }
    while (row == 0 && (row = first_of(c, SQL_USER_IMAGE, username, &uuid, e)) > 0) {
        if (image_remove(c, actor, &uuid, force, e) < 0)
            return -1;
        row = 0;
    }
    return row;
}

int user_remove(struct catalog *c, const char *actor, const char *username, bool force, size_t *ret_cancelled,
                struct err *e)
{
    char object[OBJECT_SIZE];
    size_t cancelled;
    snprintf(object, sizeof object, "user %s", username);
    struct event ev = {
        .actor = actor, .what = "user-removed", .object = object, .detail = force ? "by force" : NULL};
    cleanup(tx) struct catalog *tx = NULL;
    if (db_views(c, e) < 0 || tx_begin(c, &tx, e) < 0 || user_check(c, username, e) < 0 ||
        (!force && refuse_last_admin(c, username, e) < 0))
        return -1;
    if (remove_all(c, actor, username, force, &cancelled, e) < 0)
        return err_wrap(e, "user %s", username);
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_USER_REMOVE);
    put_text(s, username);
    if (stmt_run(s, e) < 0 || event_write(c, &ev, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    *ret_cancelled = cancelled;
    return 0;
}
