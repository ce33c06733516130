/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>

static const struct option boot_queue_options[] = {
    {"update", NULL, "what the machine writes becomes the next version", false},
    {"comment", "TEXT", "why", false},
    {NULL, NULL, NULL, false},
};

#define ID_TEXT_SIZE 24

static const char *id_text(int64_t id, char buf[ID_TEXT_SIZE])
{
    snprintf(buf, ID_TEXT_SIZE, "%" PRId64, id);
    return buf;
}

static int run_boot_queue(struct cli *c, struct err *e)
{
    struct machine m;
    struct setup setup;
    bool update = cli_option(c, "update");
    char warning[TEXT_SIZE] = "", id[ID_TEXT_SIZE];
    int64_t boot;
    if (machine_find(c->catalog, c->words[0], &m, e) < 0 ||
        setup_find(c->catalog, c->words[1], c->user, &setup, e) < 0 ||
        rules_check_setup(c, RIGHT_SETUP_BOOT, &setup, e) < 0 ||
        (update && rules_check_update(c, &setup, e) < 0) ||
        boot_queue(c->catalog, c->actor, &m.mac, &setup.uuid, update, cli_option(c, "comment"), &boot,
                   warning, e) < 0)
        return -1;
    if (*warning)
        cli_warn(c, "%s", warning);
    cli_render(c);
    id_text(boot, id);
    return print_made(c, id, QUERY_BOOT, id, e);
}

static int run_boot_list(struct cli *c, struct err *e)
{
    struct machine m;
    char mac[MAC_TEXT_SIZE] = "";
    if (c->nwords == 1) {
        if (machine_find(c->catalog, c->words[0], &m, e) < 0)
            return -1;
        mac_format(&m.mac, mac);
    }
    return print_query(c, QUERY_BOOTS, mac, e);
}

static int run_boot_show(struct cli *c, struct err *e)
{
    struct boot b;
    char id[ID_TEXT_SIZE];
    if (cli_find_boot(c, c->words[0], &b, e) < 0)
        return -1;
    return print_query(c, QUERY_BOOT, id_text(b.id, id), e);
}

static int run_boot_next(struct cli *c, struct err *e)
{
    struct machine m;
    struct boot b;
    char id[ID_TEXT_SIZE];
    if (machine_find(c->catalog, c->words[0], &m, e) < 0 || boot_next(c->catalog, &m.mac, &b, e) < 0)
        return -1;
    return print_query(c, QUERY_BOOT, id_text(b.id, id), e);
}

static int run_boot_cancel(struct cli *c, struct err *e)
{
    uint64_t id;
    char text[ID_TEXT_SIZE];
    if (parse_number(c->words[0], 1, INT64_MAX, &id, e) < 0)
        return err_wrap(e, "a boot's id");
    if (boot_cancel(c->catalog, c->actor, (int64_t)id, e) < 0)
        return -1;
    cli_render(c);
    return c->json ? print_query(c, QUERY_BOOT, id_text((int64_t)id, text), e) : 0;
}

const struct command boot_commands[] = {
    {"boot", "queue", run_boot_queue, "MACHINE SETUP", 2, 2, NEEDS_CATALOG, RIGHT_LOOK,
     "add a boot to the end of a machine's queue", boot_queue_options},
    {"boot", "list", run_boot_list, "[MACHINE]", 0, 1, NEEDS_CATALOG, RIGHT_LOOK, "list the newest boots",
     NULL},
    {"boot", "show", run_boot_show, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show a boot", NULL},
    {"boot", "next", run_boot_next, "MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK,
     "show what a machine boots next", NULL},
    {"boot", "cancel", run_boot_cancel, "BOOT", 1, 1, NEEDS_CATALOG, RIGHT_BOOT_CHANGE,
     "take a boot out of its queue", NULL},
    {"boot", "end", run_boot_end, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_BOOT_CHANGE,
     "end a boot, and wait until what it keeps is a version", boot_end_options},
    COMMANDS_END,
};
