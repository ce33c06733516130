/* SPDX-License-Identifier: BSD-3-Clause */
/* labboot-dhcp-hook: dnsmasq's dhcp-script. It writes what it is told into the catalog and is gone again: dnsmasq waits
 * for it. $LABBOOT_CONFIG names the configuration. */
#include "tftp-glue/hook-event.h"

#include "catalog/catalog.h"
#include "conf/conf.h"
#include "lib/base/cleanup.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

DEFINE_CLEANUP(catalog, struct catalog, catalog_close);

/* The path as the machine asked for it. */
static const char *below(const char *path, const char *root)
{
    size_t len = strlen(root);
    return strncmp(path, root, len) == 0 && path[len] == '/' ? path + len : path;
}

static int record(struct catalog *c, const struct conf *conf, const struct hook_event *event, struct err *e)
{
    switch (event->kind) {
    case HOOK_LEASE:
        return lease_record(c, &event->mac, &event->address, event->expires, e);
    case HOOK_REMOVE:
        return lease_remove(c, &event->mac, &event->address, e);
    case HOOK_WAITING:
        return script_waiting_fetched(c, event->boot, &event->address, e);
    case HOOK_FETCH:
        return tftp_record(c, &event->address, below(event->path, conf->network.tftp_root), e);
    case HOOK_NOTHING:
        break;
    }
    return 0;
}

static int run(char **words, const struct conf *conf, struct err *e)
{
    struct hook_event event;
    int64_t or_else = (int64_t)time(NULL) + (int64_t)conf->network.lease_time;
    if (hook_parse(words, getenv("DNSMASQ_LEASE_EXPIRES"), or_else, &event, e) < 0)
        return -1;
    if (event.kind == HOOK_NOTHING)
        return 0;
    cleanup(catalog) struct catalog *c = NULL;
    cleanup(free) char *path = conf_catalog_path(conf);
    if (catalog_open(path, CATALOG_NORMAL, &c, e) < 0)
        return -1;
    return record(c, conf, &event, e);
}

int main(int argc, char **argv)
{
    struct err e;
    struct conf conf;
    int rc = -1;
    if (argc < 2) {
        fprintf(stderr, "usage: labboot-dhcp-hook add|old|del MAC ADDRESS | arp-add MAC ADDRESS | "
                        "tftp SIZE ADDRESS PATH\n");
        return 1;
    }
    if (conf_load(conf_default_path(), &conf, NULL, NULL, &e) == 0) {
        rc = run(argv + 1, &conf, &e);
        conf_release(&conf);
    }
    if (rc == 0)
        return 0;
    fprintf(stderr, "labboot-dhcp-hook: %s\n", e.msg);
    return 1;
}
