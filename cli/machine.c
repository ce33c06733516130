/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <string.h>

static const struct option machine_add_options[] = {
    {"name", "NAME", "default: machine- and the MAC's digits", false},
    {"arch", "ARCH", "x86_64, Arm64 or unknown; default: x86_64", false},
    {"unmanaged", NULL, "never touch it: it boots from its own disk", false},
    {"mac", "MAC", "one more MAC of the machine", true},
    {"default-setup", "SETUP", "what it boots when its queue is empty", false},
    {NULL, NULL, NULL, false},
};

/* The words of --mac. */
static int more_macs(struct cli *c, struct mac ret[CLI_OPTIONS_MAX], size_t *ret_count, struct err *e)
{
    const char *text;
    *ret_count = 0;
    while ((text = cli_option_at(c, "mac", *ret_count))) {
        if (mac_parse(text, strlen(text), &ret[*ret_count], e) < 0)
            return -1;
        (*ret_count)++;
    }
    return 0;
}

static int run_machine_add(struct cli *c, struct err *e)
{
    static const char *const architectures[] = {"x86_64", "Arm64", "unknown", NULL};
    struct mac more[CLI_OPTIONS_MAX];
    struct machine_new m = {.more = more,
                            .name = cli_option(c, "name"),
                            .architecture = cli_option(c, "arch"),
                            .managed = !cli_option(c, "unmanaged")};
    const char *setup_text = cli_option(c, "default-setup");
    struct setup setup;
    char mac[MAC_TEXT_SIZE];
    if (mac_parse(c->words[0], strlen(c->words[0]), &m.mac, e) < 0 || more_macs(c, more, &m.nmore, e) < 0 ||
        (m.name && parse_host_name(m.name, e) < 0) ||
        (m.architecture && cli_check_word("--arch", m.architecture, architectures, e) < 0))
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

static int run_machine_list(struct cli *c, struct err *e)
{
    return print_query(c, QUERY_MACHINES, NULL, e);
}

static int run_machine_show(struct cli *c, struct err *e)
{
    struct machine m;
    char mac[MAC_TEXT_SIZE];
    if (machine_find(c->catalog, c->words[0], &m, e) < 0)
        return -1;
    return print_query(c, QUERY_MACHINE, mac_format(&m.mac, mac), e);
}

const struct command machine_commands[] = {
    {"machine", "add", run_machine_add, "MAC", 1, 1, NEEDS_CATALOG, RIGHT_ADMIN, "add a machine",
     machine_add_options},
    {"machine", "list", run_machine_list, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list all machines", NULL},
    {"machine", "show", run_machine_show, "MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show a machine", NULL},
    COMMANDS_END,
};
