/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/flatten.h"

#include "cli/cli.h"

#include "lib/base/parse.h"

#include <inttypes.h>

const struct option image_flatten_options[] = {
    {"level", "N", "compress all of it again: zstd 1 to 19, gzip 1 to 12", false},
    {"progress", "json", "print one JSON line a second to stderr", false},
    {NULL, NULL, NULL, false},
};

#define ZSTD_LEVEL_MAX 19
#define GZIP_LEVEL_MAX 12

static int read_level(const struct cli *c, struct flatten_options *o, struct err *e)
{
    const char *text = cli_option(c, "level");
    uint64_t level;
    if (!text)
        return 0;
    if (o->compression.codec == CODEC_RAW)
        return err_set(e, ERR_USAGE,
                       "--level: the image is not compressed; try: labboot image set %s --compression zstd",
                       c->words[0]);
    uint64_t most = o->compression.codec == CODEC_ZSTD ? ZSTD_LEVEL_MAX : GZIP_LEVEL_MAX;
    if (parse_number(text, 1, most, &level, e) < 0)
        return err_wrap(e, "--level");
    o->compression.level = (int)level;
    o->recompress = true;
    return 0;
}

static int flatten(struct cli *c, const struct image *image, uint64_t version, struct flatten_options *o,
                   struct err *e)
{
    struct guard guard = GUARD_INIT(c->catalog);
    struct publisher p = {.conf = &c->conf, .guard = &guard};
    if (store_open(c->conf.server.images_dir, 0, &p.store, e) < 0)
        return -1;
    o->progress = progress_begin(c, "flattening");
    int r = flatten_version(&p, c->actor, &image->uuid, version, o, e);
    progress_end();
    store_close(p.store);
    return r < 0 ? err_wrap(e, "image %s, version %" PRIu64, image->name, version) : 0;
}

int run_image_flatten(struct cli *c, struct err *e)
{
    struct image image;
    uint64_t version;
    char uuid[UUID_TEXT_SIZE];
    if (progress_option(c, e) < 0 ||
        image_version_find(c->catalog, c->words[0], c->user, &image, &version, e) < 0)
        return -1;
    struct flatten_options o = {.compression = compression_of(image.compression, c->conf.store.zstd_level),
                                .reserve = c->conf.store.reserve};
    if (read_level(c, &o, e) < 0 || flatten(c, &image, version, &o, e) < 0)
        return -1;
    return c->json ? print_query(c, QUERY_IMAGE, uuid_to_text(&image.uuid, uuid), e) : 0;
}
