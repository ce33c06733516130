/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "cli/make-version.h"
#include "lib/base/bytes.h"

#include <string.h>

const struct option image_create_options[] = {
    {"size", "SIZE", "of the disk, in bytes or with K, M, G, T", false},
    {"filesystem", "TYPE", "ext4, fat32 or raw (none); default: ext4", false},
    {"owner", "USER", "default: who calls, or the only admin", false},
    {"kind", "KIND", "boot, system, user or temporal; default: user", false},
    {"compression", "HOW", "none, zstd or gzip; default: zstd", false},
    {"type", "TYPE", "what `export` writes: raw or qcow2; default: raw", false},
    {"comment", "TEXT", "of the first version", false},
    {NULL, NULL, NULL, false},
};

/* ext4 with a journal needs the least; FAT32 is what has more than 65,525 clusters, of a sector at least. */
#define SECTOR 512u
static const struct {
    const char *filesystem;
    uint64_t least;
} sizes[] = {{"raw", SECTOR}, {"ext4", 4 * MIB}, {"fat32", 33 * MIB}};

static int read_size(const struct cli *c, uint64_t *ret, struct err *e)
{
    const char *text = cli_option(c, "size");
    if (!text)
        return err_set(e, ERR_USAGE, "a disk needs a size; try: --size 512M");
    if (parse_size(text, 1, VIRTUAL_SIZE_MAX, ret, e) < 0)
        return err_wrap(e, "--size");
    if (*ret % SECTOR)
        return err_set(e, ERR_USAGE, "--size: %s is no whole number of sectors of %u bytes", text, SECTOR);
    return 0;
}

static int check_size(const char *filesystem, uint64_t size, struct err *e)
{
    char least[SIZE_TEXT_SIZE];
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        if (strcmp(sizes[i].filesystem, filesystem) == 0 && size < sizes[i].least)
            return err_set(e, ERR_USAGE, "--size: %s needs at least %s", filesystem,
                           format_size(sizes[i].least, least));
    return 0;
}

int run_image_create(struct cli *c, struct err *e)
{
    struct make m = {.c = c, .what = "creating", .kind = "user", .filesystem = "ext4", .must_be_new = true};
    import_source_open(&m.source, c->words[0], -1, true);
    if (make_check_options(c, e) < 0 || read_size(c, &m.blank_size, e) < 0 || make_plan(&m, e) < 0 ||
        check_size(m.image.filesystem, m.blank_size, e) < 0)
        return -1;
    int r = make_version(&m, e);
    import_source_close(&m.source);
    return r;
}
