/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static const struct option boot_queue_options[] = {
    {"all", NULL, "for all managed machines; SETUP is the only word then", false},
    {"update", NULL, "what the machine writes becomes the next version", false},
    {"comment", "TEXT", "why", false},
    {NULL, NULL, NULL, false},
};
static const struct option boot_list_options[] = {
    {"state", "STATE", "only those in this state", false},
    {"setup", "SETUP", "only those of this setup", false},
    {"since", "TIME", "only those that had not ended then: 2h ago, 3d, 2026-11-24", false},
    {"limit", "NUMBER", "at most so many of the newest; default: 100", false},
    {NULL, NULL, NULL, false},
};

#define ID_TEXT_SIZE 24

static const char *id_text(int64_t id, char buf[ID_TEXT_SIZE])
{
    snprintf(buf, ID_TEXT_SIZE, "%" PRId64, id);
    return buf;
}

/* ---- queue ---------------------------------------------------------------------------------------------------- */

/* Whom boots are queued for. */
struct targets {
    struct mac *macs; /* malloc'ed */
    size_t count, skipped;
    bool several; /* may be: a list is printed, also of one */
};

static void cleanup_targets(struct targets *t)
{
    free(t->macs);
}

static int all_machines(struct cli *c, struct targets *ret, struct err *e)
{
    cleanup(free) struct machine *all = NULL;
    size_t count;
    if (machines_all(c->catalog, &all, &count, e) < 0)
        return -1;
    ret->macs = calloc(count + 1, sizeof *ret->macs);
    if (!ret->macs)
        return err_sys(e, ENOMEM, "machines");
    for (size_t i = 0; i < count; i++) {
        if (all[i].managed)
            ret->macs[ret->count++] = all[i].mac;
        else
            ret->skipped++;
    }
    return ret->count ? 0 : err_set(e, ERR_STATE, "there is no managed machine; try: labboot machine add");
}

static int named_machines(struct cli *c, struct targets *ret, struct err *e)
{
    struct machine m;
    ret->macs = calloc((size_t)c->nwords, sizeof *ret->macs);
    if (!ret->macs)
        return err_sys(e, ENOMEM, "machines");
    for (; ret->count < (size_t)c->nwords - 1; ret->count++) {
        if (machine_find(c->catalog, c->words[ret->count], &m, e) < 0)
            return -1;
        ret->macs[ret->count] = m.mac;
    }
    return 0;
}

static int find_targets(struct cli *c, struct targets *ret, struct err *e)
{
    bool all = cli_option(c, "all");
    if (all && c->nwords > 1)
        return err_set(e, ERR_USAGE, "--all takes SETUP alone, no machines");
    if (!all && c->nwords == 1)
        return err_set(e, ERR_USAGE, "it needs MACHINE... SETUP; try: --all, for all machines");
    ret->several = all || c->nwords > 2;
    return all ? all_machines(c, ret, e) : named_machines(c, ret, e);
}

/* Ids, one a line; as JSON the boot, or an array of them where several could have been meant. */
static int print_queued(struct cli *c, const struct targets *t, const int64_t *ids, struct err *e)
{
    cleanup(strbuf) struct strbuf lines = STRBUF_INIT, array = STRBUF_INIT;
    char id[ID_TEXT_SIZE];
    for (size_t i = 0; i < t->count; i++) {
        strbuf_appendf(&lines, "%s\n", id_text(ids[i], id));
        strbuf_appendf(&array, "%s%s", i ? "," : "[", id);
    }
    strbuf_append(&array, "]");
    if (lines.failed || array.failed)
        return err_sys(e, ENOMEM, "the list");
    if (!c->json)
        return print_text(strbuf_text(&lines), e);
    return t->several ? print_query(c, QUERY_BOOTS_OF, strbuf_text(&array), e)
                      : print_query(c, QUERY_BOOT, id, e);
}

static int run_boot_queue(struct cli *c, struct err *e)
{
    cleanup(targets) struct targets targets = {.count = 0};
    struct setup setup;
    struct boot_new new = {.update = cli_option(c, "update"), .comment = cli_option(c, "comment")};
    char warning[TEXT_SIZE] = "";
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c->catalog, &tx, e) < 0 || find_targets(c, &targets, e) < 0 ||
        setup_find(c->catalog, c->words[c->nwords - 1], c->user, &setup, e) < 0 ||
        rules_check_setup(c, RIGHT_SETUP_BOOT, &setup, e) < 0 ||
        (new.update &&rules_check_update(c, &setup, e) < 0))
        return -1;
    new.setup = setup.uuid;
    cleanup(free) int64_t *ids = calloc(targets.count, sizeof *ids);
    if (!ids)
        return err_sys(e, ENOMEM, "boots");
    if (boots_queue(c->catalog, c->actor, targets.macs, targets.count, &new, ids, warning, e) < 0 ||
        tx_commit(&tx, e) < 0)
        return -1;
    if (*warning)
        cli_warn(c, "%s", warning);
    if (targets.skipped)
        cli_warn(c, "%zu machine%s not managed: nothing is queued for %s", targets.skipped,
                 targets.skipped > 1 ? "s are" : " is", targets.skipped > 1 ? "them" : "it");
    cli_render(c);
    return print_queued(c, &targets, ids, e);
}

/* ---- lists ---------------------------------------------------------------------------------------------------- */

static int check_state(const char *state, struct err *e)
{
    const char *states[BOOT_CANCELLED + 2] = {NULL};
    for (enum boot_state s = BOOT_QUEUED; s <= BOOT_CANCELLED; s++)
        states[s] = boot_state_name(s);
    return state ? cli_check_word("--state", state, states, e) : 0;
}

static int run_boot_list(struct cli *c, struct err *e)
{
    struct machine m;
    struct setup setup;
    int64_t since;
    uint64_t limit;
    char mac[MAC_TEXT_SIZE] = "", uuid[UUID_TEXT_SIZE] = "", since_text[ID_TEXT_SIZE] = "";
    const char *state = cli_option(c, "state"), *of = cli_option(c, "setup");
    const char *when = cli_option(c, "since"), *most = cli_option(c, "limit");
    if (check_state(state, e) < 0)
        return -1;
    if (most && parse_number(most, 1, INT32_MAX, &limit, e) < 0)
        return err_wrap(e, "--limit");
    if (when && parse_time(when, time(NULL), &since, e) < 0)
        return err_wrap(e, "--since");
    if ((c->nwords == 1 && machine_find(c->catalog, c->words[0], &m, e) < 0) ||
        (of && setup_find(c->catalog, of, c->user, &setup, e) < 0))
        return -1;
    if (c->nwords == 1)
        mac_format(&m.mac, mac);
    if (of)
        uuid_to_text(&setup.uuid, uuid);
    if (when)
        id_text(since, since_text);
    const char *const words[QUERY_WORDS_MAX] = {mac, state, uuid, since_text, most};
    return print_query_of(c, QUERY_BOOTS, words, e);
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

/* An id, or a machine: the next boot that somebody queued for it. */
static int find_queued(struct cli *c, const char *text, struct boot *ret, struct err *e)
{
    uint64_t id;
    struct machine m;
    if (parse_number(text, 1, INT64_MAX, &id, e) == 0)
        return cli_find_boot(c, text, ret, e);
    if (machine_find(c->catalog, text, &m, e) < 0)
        return -1;
    if (boot_head(c->catalog, &m.mac, ret, e) == 0)
        return 0;
    return e->code == ERR_NOT_FOUND ? err_set(e, ERR_NOT_FOUND, "nothing is queued for machine '%s'", m.name)
                                    : -1;
}

static int run_boot_cancel(struct cli *c, struct err *e)
{
    cleanup(strbuf) struct strbuf array = STRBUF_INIT;
    struct boot b;
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(c->catalog, &tx, e) < 0)
        return -1;
    for (int i = 0; i < c->nwords; i++) {
        if (find_queued(c, c->words[i], &b, e) < 0 || rules_check_boot(c, &b, e) < 0 ||
            boot_cancel(c->catalog, c->actor, b.id, e) < 0)
            return -1;
        strbuf_appendf(&array, "%s%" PRId64, i ? "," : "[", b.id);
    }
    if (tx_commit(&tx, e) < 0)
        return -1;
    cli_render(c);
    strbuf_append(&array, "]");
    char id[ID_TEXT_SIZE];
    if (!c->json)
        return 0;
    return c->nwords > 1 ? print_query(c, QUERY_BOOTS_OF, strbuf_text(&array), e)
                         : print_query(c, QUERY_BOOT, id_text(b.id, id), e);
}

const struct command boot_commands[] = {
    {"boot", "queue", run_boot_queue, "MACHINE... SETUP | --all SETUP", 1, CLI_WORDS_MAX, NEEDS_CATALOG,
     RIGHT_LOOK, "add a boot to the end of machines' queues", boot_queue_options},
    {"boot", "list", run_boot_list, "[MACHINE]", 0, 1, NEEDS_CATALOG, RIGHT_LOOK, "list the newest boots",
     boot_list_options},
    {"boot", "show", run_boot_show, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK, "show a boot", NULL},
    {"boot", "next", run_boot_next, "MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_LOOK,
     "show what a machine boots next", NULL},
    {"boot", "cancel", run_boot_cancel, "BOOT|MACHINE...", 1, CLI_WORDS_MAX, NEEDS_CATALOG, RIGHT_LOOK,
     "take boots out of their queues", NULL},
    {"boot", "end", run_boot_end, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_BOOT_CHANGE,
     "end a boot, and wait until what it keeps is a version", boot_end_options},
    {"boot", "commit", run_boot_commit, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_BOOT_CHANGE,
     "end a boot, and keep what it wrote though its disks may not be clean", NULL},
    {"boot", "discard", run_boot_discard, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_BOOT_CHANGE,
     "end a boot, and throw away what it wrote", NULL},
    {"boot", "resume", run_boot_resume, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG, RIGHT_BOOT_CHANGE,
     "let an interrupted boot go on where it was", NULL},
    COMMANDS_END,
};
