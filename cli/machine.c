/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"
#include "lib/store/machine-image.h"
#include "lib/store/overlay.h"
#include "tftp-glue/kernel.h"

#include <inttypes.h>
#include <string.h>

static const char *const architectures[] = {"x86_64", "Arm64", "unknown", NULL};
static const char *const filesystems[] = {"ext4", "fat32", "raw", NULL};

static const struct option machine_add_options[] = {
    {"name", "NAME", "default: machine- and the MAC's digits", false},
    {"arch", "ARCH", "x86_64, Arm64 or unknown; default: x86_64", false},
    {"unmanaged", NULL, "never touch it: it boots from its own disk", false},
    {"mac", "MAC", "one more MAC of the machine", true},
    {"default-setup", "SETUP", "what it boots when its queue is empty", false},
    {"disk-size", "SIZE", "of its own disk; default: 128M", false},
    {"disk-filesystem", "FS", "of its own disk: ext4, fat32 or raw; default: ext4", false},
    {NULL, NULL, NULL, false},
};

static const struct option machine_set_options[] = {
    {"name", "NAME", "another name", false},
    {"arch", "ARCH", "x86_64, Arm64 or unknown", false},
    {"managed", NULL, "it boots from here", false},
    {"unmanaged", NULL, "never touch it: it boots from its own disk", false},
    {"mac", "MAC", "one more MAC of the machine", true},
    {"remove-mac", "MAC", "a MAC that it has no more", true},
    {"default-setup", "SETUP", "what it boots when its queue is empty", false},
    {"no-default-setup", NULL, "nothing, when its queue is empty", false},
    {"disk-size", "SIZE", "grow its own disk", false},
    {"disk-filesystem", "FS", "of its own disk, before its first use: ext4, fat32 or raw", false},
    {"drop-temporal", "IMAGE", "throw away what it keeps of this image", true},
    {NULL, NULL, NULL, false},
};

static const struct option machine_remove_options[] = {
    {"force", NULL, "also what its interrupted boots have written", false},
    {NULL, NULL, NULL, false},
};

/* The words of --mac, or of --remove-mac. */
static int macs_of(struct cli *c, const char *option, struct mac ret[CLI_OPTIONS_MAX], size_t *ret_count,
                   struct err *e)
{
    const char *text;
    *ret_count = 0;
    while ((text = cli_option_at(c, option, *ret_count))) {
        if (mac_parse(text, strlen(text), &ret[*ret_count], e) < 0)
            return -1;
        (*ret_count)++;
    }
    return 0;
}

/* NULL where the option was not given. */
static int word_of(struct cli *c, const char *option, const char *shown, const char *const *allowed,
                   const char **ret, struct err *e)
{
    *ret = cli_option(c, option);
    return *ret ? cli_check_word(shown, *ret, allowed, e) : 0;
}

/* 0 where it was not given. */
static int disk_size_of(struct cli *c, uint64_t *ret, struct err *e)
{
    const char *text = cli_option(c, "disk-size");
    *ret = 0;
    if (text && parse_size(text, MIB, VIRTUAL_SIZE_MAX, ret, e) < 0)
        return err_wrap(e, "--disk-size");
    return 0;
}

static int run_machine_add(struct cli *c, struct err *e)
{
    struct mac more[CLI_OPTIONS_MAX];
    struct machine_new m = {
        .more = more, .name = cli_option(c, "name"), .managed = !cli_option(c, "unmanaged")};
    const char *setup_text = cli_option(c, "default-setup");
    struct setup setup;
    char mac[MAC_TEXT_SIZE];
    if (mac_parse(c->words[0], strlen(c->words[0]), &m.mac, e) < 0 ||
        macs_of(c, "mac", more, &m.nmore, e) < 0 || (m.name && parse_host_name(m.name, e) < 0) ||
        word_of(c, "arch", "--arch", architectures, &m.architecture, e) < 0 ||
        word_of(c, "disk-filesystem", "--disk-filesystem", filesystems, &m.disk_filesystem, e) < 0 ||
        disk_size_of(c, &m.disk_size, e) < 0)
        return -1;
    if (setup_text) {
        if (setup_find(c->catalog, setup_text, c->user, &setup, e) < 0)
            return -1;
        m.default_setup = &setup.uuid;
    }
    if (machine_add(c->catalog, c->actor, &m, e) < 0)
        return -1;
    cli_render(c);
    mac_format(&m.mac, mac);
    return print_made(c, mac, QUERY_MACHINE, mac, e);
}

/* ---- set ------------------------------------------------------------------------------------------------------- */

static bool given_both(const struct cli *c, const char *one, const char *other)
{
    return cli_option(c, one) && cli_option(c, other);
}

static int check_contradictions(const struct cli *c, struct err *e)
{
    if (given_both(c, "managed", "unmanaged"))
        return err_set(e, ERR_USAGE, "--managed or --unmanaged, not both");
    if (given_both(c, "default-setup", "no-default-setup"))
        return err_set(e, ERR_USAGE, "--default-setup or --no-default-setup, not both");
    for (const struct option *o = c->command->options; o->name; o++)
        if (cli_option(c, o->name))
            return 0;
    return err_set(e, ERR_USAGE, "what shall change? try: --help");
}

int machine_disk_in_step(struct cli *c, const struct machine *m, const struct machine_change *n,
                         struct err *e)
{
    struct machine_disk disk;
    struct store *store;
    uint64_t size, allocated;
    char left[MACHINE_IMAGE_TEXT_SIZE];
    if (machine_disk_get(c->catalog, &m->mac, &disk, e) < 0)
        return -1;
    bool used = machine_image_size(c->conf.server.images_dir, &disk.image, &size, &allocated, e) == 0;
    if (!used)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    if (n->disk_filesystem && strcmp(n->disk_filesystem, disk.filesystem) != 0)
        return err_set(e, ERR_STATE, "machine '%s': its disk is in use with %s already", m->name,
                       disk.filesystem);
    if (n->disk_size <= disk.size)
        return 0;
    if (store_open(c->conf.server.images_dir, 0, &store, e) < 0)
        return -1;
    int r =
        machine_image_grow(store, &disk.image, n->disk_size, disk.filesystem, c->conf.store.reserve, left, e);
    store_close(store);
    if (r == 0 && *left)
        cli_warn(c, "the disk of %s grows, but not the file system on it: %s", m->name, left);
    return r;
}

/* All of it but the disk's file, and then not: whether it may be. */
static int try_change(struct cli *c, const struct machine *m, const struct machine_change *n, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    return tx_begin(c->catalog, &tx, e) < 0 ? -1 : machine_set(c->catalog, c->actor, &m->mac, n, e);
}

/* The words of the options, but for the setup. */
static int read_change(struct cli *c, struct machine_change *n, struct mac add[CLI_OPTIONS_MAX],
                       struct mac remove[CLI_OPTIONS_MAX], struct err *e)
{
    static const bool yes = true, no = false;
    *n = (struct machine_change){
        .name = cli_option(c, "name"),
        .managed = cli_option(c, "managed")     ? &yes
                   : cli_option(c, "unmanaged") ? &no
                                                : NULL,
        .add = add,
        .remove = remove,
        .change_default = cli_option(c, "default-setup") || cli_option(c, "no-default-setup"),
    };
    if (check_contradictions(c, e) < 0 || macs_of(c, "mac", add, &n->nadd, e) < 0 ||
        macs_of(c, "remove-mac", remove, &n->nremove, e) < 0 ||
        word_of(c, "arch", "--arch", architectures, &n->architecture, e) < 0 ||
        word_of(c, "disk-filesystem", "--disk-filesystem", filesystems, &n->disk_filesystem, e) < 0)
        return -1;
    return disk_size_of(c, &n->disk_size, e);
}

/* The words of --drop-temporal. */
static int temporals_of(struct cli *c, const struct machine *m, int64_t ret[CLI_OPTIONS_MAX],
                        size_t *ret_count, struct err *e)
{
    const char *text;
    struct image image;
    struct temporal t;
    *ret_count = 0;
    while ((text = cli_option_at(c, "drop-temporal", *ret_count))) {
        if (image_find(c->catalog, text, c->user, &image, e) < 0)
            return -1;
        if (temporal_find(c->catalog, &m->mac, &image.uuid, &t, e) < 0)
            return err_wrap(e, "%s", text);
        ret[(*ret_count)++] = t.id;
    }
    return 0;
}

/* Their rows are gone: what fails here is left over, and harms nobody. */
static void remove_temporals(struct cli *c, const int64_t *ids, size_t count)
{
    struct err e;
    for (size_t i = 0; i < count; i++) {
        cleanup(free) char *dir = conf_temporal_dir(&c->conf, ids[i]);
        if (overlay_remove(dir, &e) < 0)
            cli_warn(c, "left behind: %s", e.msg);
    }
}

static int run_machine_set(struct cli *c, struct err *e)
{
    int64_t drop[CLI_OPTIONS_MAX];
    struct mac add[CLI_OPTIONS_MAX], remove[CLI_OPTIONS_MAX];
    struct machine_change change;
    struct machine m;
    struct setup setup;
    const char *setup_text = cli_option(c, "default-setup");
    if (read_change(c, &change, add, remove, e) < 0 || machine_find(c->catalog, c->words[0], &m, e) < 0 ||
        (setup_text && setup_find(c->catalog, setup_text, c->user, &setup, e) < 0) ||
        temporals_of(c, &m, drop, &change.ndrop, e) < 0)
        return -1;
    change.drop = drop;
    if (setup_text)
        change.default_setup = &setup.uuid;
    bool disk = change.disk_size || change.disk_filesystem;
    if ((disk && (try_change(c, &m, &change, e) < 0 || machine_disk_in_step(c, &m, &change, e) < 0)) ||
        machine_set(c->catalog, c->actor, &m.mac, &change, e) < 0)
        return -1;
    remove_temporals(c, drop, change.ndrop);
    cli_render(c);
    char mac[MAC_TEXT_SIZE];
    return c->json ? print_query(c, QUERY_MACHINE, mac_format(&m.mac, mac), e) : 0;
}

/* ---- remove ---------------------------------------------------------------------------------------------------- */

void machine_remove_files(struct cli *c, const struct machine_remains *r)
{
    char uuid[UUID_TEXT_SIZE];
    struct err e;
    cleanup(free) char *disk = path_format("%s/%s", c->conf.server.images_dir, uuid_to_text(&r->image, uuid));
    if (remove_tree(disk, &e) < 0)
        cli_warn(c, "left behind: %s", e.msg);
    for (size_t i = 0; i < r->nboots; i++) {
        cleanup(free) char *overlays = path_format("%s/%" PRId64, c->conf.server.overlays_dir, r->boots[i]);
        if (remove_tree(overlays, &e) < 0 || kernel_remove_boot(&c->conf, r->boots[i], &e) < 0)
            cli_warn(c, "left behind: %s", e.msg);
    }
    remove_temporals(c, r->temporals, r->ntemporals);
}

static int run_machine_remove(struct cli *c, struct err *e)
{
    struct machine m;
    struct machine_remains remains;
    if (machine_find(c->catalog, c->words[0], &m, e) < 0 ||
        machine_remove(c->catalog, c->actor, &m.mac, cli_option(c, "force"), &remains, e) < 0)
        return -1;
    machine_remove_files(c, &remains);
    free(remains.boots);
    free(remains.temporals);
    cli_render(c);
    return c->json ? print_text("null\n", e) : 0;
}

/* ---- list and show --------------------------------------------------------------------------------------------- */

static uint64_t disk_bytes(void *ctx, const struct uuid *image)
{
    const struct cli *c = ctx;
    uint64_t size, allocated;
    struct err ignored;
    return machine_image_size(c->conf.server.images_dir, image, &size, &allocated, &ignored) == 0 ? allocated
                                                                                                  : 0;
}

static int run_machine_list(struct cli *c, struct err *e)
{
    query_set_disks(c->catalog, disk_bytes, c);
    return print_query(c, QUERY_MACHINES, NULL, e);
}

static int run_machine_show(struct cli *c, struct err *e)
{
    struct machine m;
    char mac[MAC_TEXT_SIZE];
    if (machine_find(c->catalog, c->words[0], &m, e) < 0)
        return -1;
    query_set_disks(c->catalog, disk_bytes, c);
    return print_query(c, QUERY_MACHINE, mac_format(&m.mac, mac), e);
}

const struct command machine_commands[] = {
    {"machine", "add", run_machine_add, "MAC", 1, 1, NEEDS_CATALOG, RIGHT_ADMIN, "add a machine",
     machine_add_options},
    {"machine", "set", run_machine_set, "MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_ADMIN, "change a machine",
     machine_set_options},
    {"machine", "remove", run_machine_remove, "MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_ADMIN,
     "remove a machine, with its own disk and its history", machine_remove_options},
    {"machine", "list", run_machine_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list all machines", NULL},
    {"machine", "show", run_machine_show, "MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show a machine", NULL},
    COMMANDS_END,
};
