/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/internal.h"

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
    take_text(s, ret->username, sizeof ret->username);
    ret->role = (enum role)take_int(s);
    return 0;
}

static int refuse_existing(struct catalog *c, const char *username, const char *email, struct err *e)
{
    int user = row_exists(c, SQL_USER_EXISTS, username, e);
    if (user != 0)
        return user < 0 ? -1 : err_set(e, ERR_STATE, "user '%s' exists already", username);
    int used = row_exists(c, SQL_USER_EMAIL_EXISTS, email, e);
    if (used != 0)
        return used < 0 ? -1 : err_set(e, ERR_STATE, "the email address '%s' is another user's", email);
    return 0;
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
