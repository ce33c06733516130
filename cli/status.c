/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "nbd-plugin/counters.h"

#include <errno.h>
#include <stdio.h>

static const struct option status_options[] = {
    {"watch", NULL, "print it again every two seconds, until interrupted", false},
    {NULL, NULL, NULL, false},
};

#define WATCH_SECONDS 2

static int print_status(struct cli *c, struct err *e)
{
    cleanup(free) struct boot_counters *counters = NULL;
    size_t count = 0;
    if (cli_server_runs(&c->conf) && counters_read(&c->conf, &counters, &count, e) < 0)
        return -1;
    if (query_set_counters(c->catalog, counters, count, e) < 0)
        return -1;
    return print_query(c, QUERY_STATUS, NULL, e);
}

static int run_status(struct cli *c, struct err *e)
{
    bool terminal = isatty(STDOUT_FILENO) && !c->json;
    if (!cli_option(c, "watch"))
        return print_status(c, e);
    for (;; sleep(WATCH_SECONDS)) {
        if ((terminal && print_text("\033[H\033[2J", e) < 0) || print_status(c, e) < 0)
            return -1;
        if (fflush(stdout) != 0)
            return err_sys(e, errno, "standard output");
    }
}

const struct command status_commands[] = {
    {"status", NULL, run_status, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "list machines with what they run",
     status_options},
    COMMANDS_END,
};
