/* SPDX-License-Identifier: BSD-3-Clause */
/* What those need who hold the catalog against the files: verify, gc, fsck. */
#include "catalog/internal.h"

#include "lib/base/parse.h"

#include <inttypes.h>

/* ---- versions and their files ----------------------------------------------------------------------------------- */

void version_row_take(struct stmt *s, struct version_row *ret)
{
    ret->version = take_uint(s);
    ret->parent = take_uint(s);
    take_uuid(s, &ret->layer);
    ret->virtual_size = take_uint(s);
    ret->stored_size = take_uint(s);
    take_blob(s, ret->checksum, sizeof ret->checksum);
    take_text(s, ret->kernel, sizeof ret->kernel);
    ret->damaged = take_bool(s);
}

int version_rows(struct catalog *c, const struct uuid *image, struct version_row **ret, size_t *ret_count,
                 struct err *e)
{
    cleanup(free) void *list = NULL;
    size_t count = 0;
    struct version_row f;
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_ROWS_OF);
    put_uuid(s, image);
    while ((row = stmt_row(s, e)) > 0) {
        version_row_take(s, &f);
        if (list_append(&list, &count, &f, sizeof f, e) < 0)
            return -1;
    }
    if (row < 0)
        return -1;
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}

int version_flattened(struct catalog *c, const char *actor, const struct uuid *image, uint64_t version,
                      const struct uuid *layer, uint64_t stored_size, struct err *e)
{
    char detail[SIZE_TEXT_SIZE + 20], size[SIZE_TEXT_SIZE];
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c, &tx, e) < 0)
        return -1;
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_SET_LAYER);
    put_uuid(s, layer);
    put_int(s, (int64_t)stored_size);
    put_uuid(s, image);
    put_nonzero(s, version);
    if (stmt_run(s, e) < 0)
        return -1;
    if (db_changes(c) == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no version %" PRIu64, version);
    snprintf(detail, sizeof detail, "%s stored", format_size(stored_size, size));
    if (image_event(c, actor, "version-flattened", image, version, detail, e) < 0)
        return -1;
    return tx_commit(&tx, e);
}

int version_of_layer(struct catalog *c, const struct uuid *layer, struct uuid *ret_image,
                     uint64_t *ret_version, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_VERSION_OF_LAYER);
    put_uuid(s, layer);
    int row = stmt_row(s, e);
    if (row > 0) {
        take_uuid(s, ret_image);
        *ret_version = take_uint(s);
    }
    return row;
}

/* ---- boots and MACs, by what files are named after ---------------------------------------------------------------- */

int boot_is_known(struct catalog *c, int64_t id, bool *ret_newer, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_BOOT_KNOWN);
    put_int(s, id);
    if (stmt_row(s, e) < 0)
        return -1;
    bool known = take_bool(s);
    *ret_newer = id > take_int(s);
    return known;
}

int mac_is_known(struct catalog *c, const struct mac *mac, struct err *e)
{
    cleanup(stmt) struct stmt *s = stmt_use(c, SQL_MAC_KNOWN);
    put_mac(s, mac);
    return stmt_row(s, e);
}

int scripts_stale(struct catalog *c, struct machine **ret, size_t *ret_count, struct err *e)
{
    return machines_of(c, SQL_SCRIPTS_STALE, ret, ret_count, e);
}

/* ---- the database itself --------------------------------------------------------------------------------------------- */

static int report_rows(struct catalog *c, enum statement which, catalog_fault *found, void *ctx,
                       struct err *e)
{
    int row;
    cleanup(stmt) struct stmt *s = stmt_use(c, which);
    while ((row = stmt_row(s, e)) > 0) {
        const char *text = stmt_column_text(s, 0);
        if (found(ctx, text ? text : "", which == SQL_FOREIGN_KEY_CHECK, e) < 0)
            return -1;
    }
    return row;
}

int catalog_check(struct catalog *c, catalog_fault *found, void *ctx, struct err *e)
{
    if (report_rows(c, SQL_INTEGRITY_CHECK, found, ctx, e) < 0)
        return -1;
    return report_rows(c, SQL_FOREIGN_KEY_CHECK, found, ctx, e);
}
