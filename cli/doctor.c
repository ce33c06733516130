/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor: what is wrong here, or why a machine did not boot, and what to do. */
#include "cli/doctor.h"

#include "lib/base/fsutil.h"

#include <string.h>

void doctor_found(struct doctor *d, const char *what, const char *why, const char *todo)
{
    const char *severity = d->check->severity == SEVERITY_ERROR ? "error" : "warning";
    const struct {
        const char *name, *text;
    } fields[] = {
        {"Severity", severity}, {"Code", d->check->code}, {"What", what}, {"Why", why}, {"Try", todo}};
    struct strbuf *out = &d->out;
    if (!d->cli->json) {
        strbuf_appendf(out, "%s: %s: %s: %s; try: %s\n", severity, d->check->code, what, why, todo);
    } else {
        strbuf_append(out, d->count ? ", {" : "{");
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
            strbuf_appendf(out, "%s\"%s\": ", i ? ", " : "", fields[i].name);
            print_json_string(out, fields[i].text);
        }
        strbuf_append(out, "}");
    }
    d->count++;
}

void doctor_found_error(struct doctor *d, const char *what, const char *why, const char *todo)
{
    static const char mark[] = "; try: ";
    const char *own = strstr(why, mark);
    cleanup(free) char *reason = path_format("%.*s", (int)(own ? own - why : (ptrdiff_t)strlen(why)), why);
    doctor_found(d, what, reason, own ? own + strlen(mark) : todo);
}

static void see_trouble(void *ctx, const char *what, const char *why, const char *todo)
{
    doctor_found(ctx, what, why, todo);
}

int doctor_troubles(struct doctor *d, enum trouble which, struct err *e)
{
    return trouble_each(d->cli->catalog, which, d->machine ? &d->machine->mac : NULL, see_trouble, d, e);
}

/* ---- the configuration and the catalog, without which there is no more to look at ---------------------------------- */
static const struct check no_configuration = {"configuration", SEVERITY_ERROR, false, NULL},
                          no_catalog = {"catalog", SEVERITY_ERROR, false, NULL};

static void see_mistake(void *ctx, const char *line)
{
    doctor_found(ctx, "the configuration", line, "labboot config check, after it was mended");
}

static void all_mistakes(struct doctor *d, const struct err *first)
{
    struct err e;
    struct conf conf;
    size_t before = d->count;
    d->check = &no_configuration;
    if (conf_load(d->cli->conf_path ? d->cli->conf_path : conf_default_path(), &conf, see_mistake, d, &e) ==
        0)
        conf_release(&conf);
    if (d->count == before)
        doctor_found_error(d, "the configuration", first->msg, "--config FILE");
}

/* Without it the other checks go on. */
static int open_catalog(struct doctor *d, struct err *e)
{
    if (cli_enter(d->cli, e) == 0)
        return 0;
    if (e->code == ERR_DENIED)
        return -1;
    catalog_close(steal(&d->cli->catalog));
    d->check = &no_catalog;
    doctor_found_error(d, "the catalog", e->msg, "labboot fsck");
    return 0;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */
static int run_checks(struct doctor *d, const struct check *checks, struct err *e)
{
    for (const struct check *k = checks; k->code; k++) {
        if (k->catalog && !d->cli->catalog)
            continue;
        d->check = k;
        if (k->run(d, e) < 0)
            return err_wrap(e, "%s", k->code);
    }
    return 0;
}

static int look_at_all(struct doctor *d, struct err *e)
{
    return open_catalog(d, e) < 0 ? -1 : run_checks(d, doctor_host_checks, e);
}

static int look_at_machine(struct doctor *d, struct err *e)
{
    struct machine m;
    if (cli_enter(d->cli, e) < 0 || machine_find(d->cli->catalog, d->cli->words[0], &m, e) < 0)
        return -1;
    d->machine = &m;
    return run_checks(d, doctor_machine_checks, e);
}

static int print_findings(const struct doctor *d, struct err *e)
{
    bool json = d->cli->json;
    if (d->out.failed)
        return err_sys(e, ENOMEM, "findings");
    if ((json && print_text("[", e) < 0) || print_text(strbuf_text(&d->out), e) < 0 ||
        (json && print_text("]\n", e) < 0))
        return -1;
    return d->count ? err_set(e, ERR_FAILED, "%zu finding%s", d->count, d->count == 1 ? "" : "s") : 0;
}

static int run_doctor(struct cli *c, struct err *e)
{
    struct doctor d = {.cli = c, .out = STRBUF_INIT};
    int r = 0;
    if (cli_load_conf(c, e) < 0) {
        all_mistakes(&d, e);
    } else {
        caller_settle(c);
        if (c->caller == CALLER_OUTSIDE)
            return sudo_run(c, e);
        r = c->nwords ? look_at_machine(&d, e) : look_at_all(&d, e);
    }
    if (r == 0)
        r = print_findings(&d, e);
    strbuf_release(&d.out);
    return r;
}

/* It loads the configuration itself: a mistake there is a finding. */
const struct command doctor_commands[] = {
    {"doctor", NULL, run_doctor, "[MACHINE]", 0, 1, 0, RIGHT_LOOK,
     "say what is wrong, or why a machine did not boot, and what to do", NULL},
    COMMANDS_END,
};
