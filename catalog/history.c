/* SPDX-License-Identifier: BSD-3-Clause */
/* What nobody looks up any more: boots that ended long ago, with their tokens, requests and images; answered requests; old
 * events. A boot that a version came from stays as long as that. */
#include "catalog/internal.h"

static int remove_some(struct catalog *c, enum statement which, int64_t before, size_t most, size_t *ret,
                       struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    put_int(s, before);
    put_int(s, (int64_t)most);
    if (stmt_run(s, e) < 0)
        return -1;
    *ret = (size_t)db_changes(c);
    return 0;
}

int history_count(struct catalog *c, int64_t before, struct history *ret, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_HISTORY_COUNT);
    put_int(s, before);
    if (stmt_row(s, e) < 0)
        return -1;
    ret->boots = (size_t)take_int(s);
    ret->requests = (size_t)take_int(s);
    ret->events = (size_t)take_int(s);
    return 0;
}

int history_remove(struct catalog *c, const char *actor, int64_t before, size_t most, bool *ret_more,
                   struct err *e)
{
    struct history h;
    char detail[TEXT_SIZE];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0 || remove_some(c, SQL_HISTORY_BOOTS, before, most, &h.boots, e) < 0 ||
        remove_some(c, SQL_HISTORY_REQUESTS, before, most, &h.requests, e) < 0 ||
        remove_some(c, SQL_HISTORY_EVENTS, before, most, &h.events, e) < 0)
        return -1;
    bool more = h.boots == most || h.requests == most || h.events == most;
    snprintf(detail, sizeof detail, "%zu boots, %zu requests, %zu events", h.boots, h.requests, h.events);
    struct event ev = {.actor = actor, .what = "history-removed", .object = "catalog", .detail = detail};
    if (h.boots + h.requests + h.events > 0 && (event_write(c, &ev, e) < 0 || tx_commit(&tx, e) < 0))
        return -1;
    *ret_more = more;
    return 0;
}
