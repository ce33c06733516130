/* SPDX-License-Identifier: BSD-3-Clause */
/* image verify: what was found goes into the catalog at once, and then out of it to the reader. */
#include "cli/cli.h"

#include "catalog/verified.h"
#include "lib/store/verify.h"

#include <inttypes.h>
#include <string.h>

const struct option image_verify_options[] = {
    {"sha256", NULL, "also the SHA-256 of each whole disk", false},
    {"progress", "json", "print one JSON line a second to stderr", false},
    {NULL, NULL, NULL, false},
};

struct verification {
    struct cli *c;
    struct image image;
    struct version_row *rows; /* as they were before */
    struct verify_result *results;
    size_t count; /* of both */
};

/* The one that is named, or all. */
static int choose_versions(struct verification *v, struct err *e)
{
    struct cli *c = v->c;
    uint64_t one = 0;
    if (strchr(c->words[0], '@')
            ? image_version_find(c->catalog, c->words[0], c->user, &v->image, &one, e) < 0
            : image_find(c->catalog, c->words[0], c->user, &v->image, e) < 0)
        return -1;
    size_t count;
    if (version_rows(c->catalog, &v->image.uuid, &v->rows, &count, e) < 0)
        return -1;
    v->results = calloc(count + 1, sizeof *v->results);
    if (!v->results)
        return err_sys(e, ENOMEM, "verify");
    for (size_t i = 0; i < count; i++) {
        if (one != 0 && v->rows[i].version != one)
            continue;
        v->rows[v->count] = v->rows[i];
        v->results[v->count++].version = v->rows[i].version;
    }
    return 0;
}

static int read_versions(struct verification *v, struct err *e)
{
    struct cli *c = v->c;
    struct store *store;
    if (store_open(c->conf.server.images_dir, 0, &store, e) < 0)
        return -1;
    struct verify_options o = {.sha256 = cli_option(c, "sha256"), .progress = progress_begin(c, "verifying")};
    int r = store_verify(store, &v->image.uuid, &o, v->results, v->count, e);
    progress_end();
    store_close(store);
    return r;
}

/* Those that were removed while they were read drop out. */
static int note_versions(struct verification *v, struct err *e)
{
    struct cli *c = v->c;
    size_t kept = 0;
    bool news;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c->catalog, &tx, e) < 0)
        return -1;
    for (size_t i = 0; i < v->count; i++) {
        if (!version_exists(c->catalog, &v->image.uuid, v->results[i].version))
            continue;
        if (version_verified(c->catalog, c->actor, &v->image.uuid, &v->rows[i], &v->results[i], &news, e) < 0)
            return -1;
        v->results[kept++] = v->results[i];
    }
    v->count = kept;
    return tx_commit(&tx, e);
}

static int print_verified(struct verification *v, size_t *ret_damaged, struct err *e)
{
    struct cli *c = v->c;
    cleanup(free) struct verified_version *list = calloc(v->count + 1, sizeof *list);
    if (!list)
        return err_sys(e, ENOMEM, "verify");
    *ret_damaged = 0;
    for (size_t i = 0; i < v->count; i++) {
        list[i] = (struct verified_version){v->results[i].version, v->results[i].damaged_chunks};
        *ret_damaged += v->results[i].damaged;
    }
    if (query_set_verified(c->catalog, &v->image.uuid, list, v->count, e) < 0)
        return -1;
    return print_query(c, QUERY_VERIFIED, NULL, e);
}

static int verify(struct verification *v, struct err *e)
{
    size_t damaged = 0;
    if (choose_versions(v, e) < 0)
        return -1;
    if (read_versions(v, e) < 0)
        return err_wrap(e, "image %s", v->image.name);
    if (note_versions(v, e) < 0)
        return -1;
    cli_render(v->c);
    if (print_verified(v, &damaged, e) < 0)
        return -1;
    if (damaged > 0)
        return err_set(e, ERR_CORRUPT,
                       "image %s: %zu of %zu versions are damaged; try: labboot doctor, for what to do",
                       v->image.name, damaged, v->count);
    return 0;
}

int run_image_verify(struct cli *c, struct err *e)
{
    struct verification v = {.c = c};
    if (progress_option(c, e) < 0)
        return -1;
    int r = verify(&v, e);
    free(v.results);
    free(v.rows);
    return r;
}
