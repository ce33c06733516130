/* SPDX-License-Identifier: BSD-3-Clause */
/* log: the event trail. */
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct option log_options[] = {
    {"machine", "MACHINE", "events about this machine", false},
    {"since", "TIME", "not before: 2h, 3d, 2026-11-24, '2026-11-24 10:00'", false},
    {"until", "TIME", "not after", false},
    {"actor", "NAME", "who did it: a user, server, dhcp, dnsmasq, machine", false},
    {"object", "OBJECT", "to what: boot, 'boot 12', 'image alice/debian'", false},
    {"what", "GLOB", "what was done: 'boot-*', version-published", false},
    {"boot", "BOOT|MACHINE", "events of this boot", false},
    {"limit", "NUMBER", "print the newest so many; default: 100", false},
    {"follow", NULL, "print new events as they come, until interrupted", false},
    {NULL, NULL, NULL, false},
};

#define LIMIT_DEFAULT 100
#define LOOK_MS 200 /* between two looks at the catalog */

struct printer {
    bool json, lines; /* lines: one JSON value each, not an array */
    size_t count;
    int64_t last; /* the newest event printed */
    struct strbuf text;
};

/* ---- what was asked for ---------------------------------------------------------------------------------------- */
static int time_option(struct cli *c, const char *name, int64_t *ret, struct err *e)
{
    const char *text = cli_option(c, name);
    return text && parse_time(text, time(NULL), ret, e) < 0 ? err_wrap(e, "--%s", name) : 0;
}

/* Objects are recorded under a full name: the MAC of a machine, OWNER/NAME. What is gone is looked for as it was
 * given. */
static int object_option(struct cli *c, char ret[3 * NAME_SIZE], struct err *e)
{
    const char *text = cli_option(c, "object"), *space = text ? strchr(text, ' ') : NULL;
    struct machine m;
    struct image image;
    struct setup setup;
    struct err gone;
    char mac[MAC_TEXT_SIZE];
    if (!text)
        return 0;
    if (!*text || strlen(text) >= 3 * NAME_SIZE)
        return err_set(e, ERR_USAGE, "--object: no event has such an object; try: 'boot 12'");
    const char *name = space ? space + 1 : "";
    size_t noun = (size_t)(name - text);
    snprintf(ret, 3 * NAME_SIZE, "%s", text);
    if (strncmp(text, "machine ", noun) == 0 && machine_find(c->catalog, name, &m, &gone) == 0)
        snprintf(ret, 3 * NAME_SIZE, "machine %s", mac_format(&m.mac, mac));
    else if (strncmp(text, "image ", noun) == 0 && image_find(c->catalog, name, c->user, &image, &gone) == 0)
        snprintf(ret, 3 * NAME_SIZE, "image %s/%s", image.owner, image.name);
    else if (strncmp(text, "setup ", noun) == 0 && setup_find(c->catalog, name, c->user, &setup, &gone) == 0)
        snprintf(ret, 3 * NAME_SIZE, "setup %s/%s", setup.owner, setup.name);
    return 0;
}

/* The events of a boot outlive it. */
static int boot_option(struct cli *c, int64_t *ret, struct err *e)
{
    const char *text = cli_option(c, "boot");
    struct boot b;
    uint64_t id;
    if (!text)
        return 0;
    if (cli_find_boot(c, text, &b, e) == 0)
        id = (uint64_t)b.id;
    else if (e->code != ERR_NOT_FOUND || parse_number(text, 1, INT64_MAX, &id, &(struct err){0}) < 0)
        return -1;
    *ret = (int64_t)id;
    return 0;
}

struct asked {
    struct trail_filter filter;
    struct machine machine;
    char object[3 * NAME_SIZE];
    bool follow;
};

static int read_options(struct cli *c, struct asked *a, struct err *e)
{
    const char *machine = cli_option(c, "machine"), *limit = cli_option(c, "limit");
    struct trail_filter *f = &a->filter;
    uint64_t number = LIMIT_DEFAULT;
    a->follow = cli_option(c, "follow");
    if (a->follow && cli_option(c, "until"))
        return err_set(e, ERR_USAGE, "--follow or --until, not both");
    if ((limit && parse_number(limit, 0, INT32_MAX, &number, e) < 0))
        return err_wrap(e, "--limit");
    if ((machine && machine_find(c->catalog, machine, &a->machine, e) < 0) ||
        time_option(c, "since", &f->since, e) < 0 || time_option(c, "until", &f->until, e) < 0 ||
        object_option(c, a->object, e) < 0 || boot_option(c, &f->boot, e) < 0)
        return -1;
    f->machine = machine ? &a->machine.mac : NULL;
    f->actor = cli_option(c, "actor");
    f->object = *a->object ? a->object : NULL;
    f->what = cli_option(c, "what");
    f->limit = (int64_t)number;
    return 0;
}

/* ---- printing -------------------------------------------------------------------------------------------------- */
static void append_line(struct strbuf *out, const struct trail_event *ev)
{
    size_t start = out->len;
    strbuf_appendf(out, "%-19s  %-12s  %-18s  %-20s", ev->time, ev->actor, ev->what, ev->object);
    if (ev->machine_name)
        strbuf_appendf(out, "  of %s", ev->machine_name);
    if (ev->peer)
        strbuf_appendf(out, "  from %s", ev->peer);
    if (*ev->detail)
        strbuf_appendf(out, "  %s", ev->detail);
    for (size_t i = start; i < out->len; i++)
        if ((unsigned char)out->s[i] < 0x20 || out->s[i] == 0x7f) /* could take over a terminal */
            out->s[i] = '?';
    while (out->len > start && out->s[out->len - 1] == ' ')
        out->s[--out->len] = '\0';
    strbuf_append(out, "\n");
}

static int see_event(void *ctx, const struct trail_event *ev, struct err *e)
{
    struct printer *p = ctx;
    (void)e;
    if (!p->json)
        append_line(&p->text, ev);
    else
        strbuf_appendf(&p->text, "%s%s%s", p->count && !p->lines ? "," : "", ev->json, p->lines ? "\n" : "");
    p->count++;
    p->last = ev->id;
    return 0;
}

static int flush_printer(struct printer *p, struct err *e)
{
    if (p->text.failed)
        return err_sys(e, ENOMEM, "events");
    if (print_text(strbuf_text(&p->text), e) < 0)
        return -1;
    if (fflush(stdout) != 0)
        return err_sys(e, errno, "standard output");
    strbuf_release(&p->text);
    return 0;
}

static int print_events(struct cli *c, const struct trail_filter *f, struct printer *p, struct err *e)
{
    if (p->json && !p->lines)
        strbuf_append(&p->text, "[");
    if (trail_read(c->catalog, f, see_event, p, e) < 0)
        return -1;
    if (p->json && !p->lines)
        strbuf_append(&p->text, "]\n");
    return flush_printer(p, e);
}

/* ---- following ------------------------------------------------------------------------------------------------- */
static volatile sig_atomic_t interrupted;

static void interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

/* Blocked but while wait_a_moment waits, so that none is missed. A reader that goes away in the middle of a line is an end
 * like any other. */
static int catch_signals(sigset_t *ret_before, struct err *e)
{
    const struct sigaction act = {.sa_handler = interrupt}, ignore = {.sa_handler = SIG_IGN};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, ret_before) < 0 || sigaction(SIGINT, &act, NULL) < 0 ||
        sigaction(SIGTERM, &act, NULL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0)
        return err_sys(e, errno, "signals");
    sigdelset(ret_before, SIGINT);
    sigdelset(ret_before, SIGTERM);
    return 0;
}

/* False when it is time to end: on a signal, or when nobody reads any more. */
static bool wait_a_moment(const sigset_t *mask)
{
    const struct timespec moment = {.tv_nsec = LOOK_MS * 1000000L};
    struct pollfd out = {.fd = STDOUT_FILENO};
    ppoll(&out, 1, &moment, mask);
    return !interrupted && !(out.revents & (POLLERR | POLLHUP));
}

static int see_newest(void *ctx, const struct trail_event *ev, struct err *e)
{
    int64_t *newest = ctx;
    (void)e;
    *newest = ev->id;
    return 0;
}

/* What comes after it was looked up is printed in the next round. */
static int print_new(struct cli *c, struct trail_filter *f, struct printer *p, struct err *e)
{
    int64_t newest = f->after;
    const struct trail_filter any = {.limit = 1};
    if (trail_read(c->catalog, &any, see_newest, &newest, e) < 0 || print_events(c, f, p, e) < 0)
        return -1;
    f->after = p->last > newest ? p->last : newest;
    f->limit = -1;
    return 0;
}

/* The version is read before the events: so none is missed. */
static int print_until_end(struct cli *c, struct trail_filter *f, struct printer *p, const sigset_t *mask,
                           struct err *e)
{
    uint64_t seen, now;
    if (catalog_data_version(c->catalog, &seen, e) < 0 || print_new(c, f, p, e) < 0)
        return -1;
    while (wait_a_moment(mask)) {
        if (catalog_data_version(c->catalog, &now, e) < 0 || (now != seen && print_new(c, f, p, e) < 0))
            return -1;
        seen = now;
    }
    return 0;
}

static int follow(struct cli *c, struct trail_filter *f, struct printer *p, struct err *e)
{
    sigset_t mask;
    if (catch_signals(&mask, e) < 0)
        return -1;
    return print_until_end(c, f, p, &mask, e) < 0 && e->sys != EPIPE ? -1 : 0;
}

static int run_log(struct cli *c, struct err *e)
{
    struct asked a = {.follow = false};
    if (read_options(c, &a, e) < 0)
        return -1;
    struct printer p = {.json = c->json, .lines = a.follow, .text = STRBUF_INIT};
    int r = a.follow ? follow(c, &a.filter, &p, e) : print_events(c, &a.filter, &p, e);
    strbuf_release(&p.text);
    return r;
}

const struct command log_commands[] = {
    {"log", NULL, run_log, "", 0, 0, NEEDS_CATALOG, RIGHT_LOOK, "print who did what to what, when",
     log_options},
    COMMANDS_END,
};
