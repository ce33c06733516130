/* SPDX-License-Identifier: BSD-3-Clause */
/* `labboot apply`: makes the catalog match the [user], [setup] and [machine] sections of the configuration.
 *
 * The plan is not made beforehand and then followed: it is what happens, step by step, within one transaction, which
 * --dry-run does not commit. So the plan that is printed has passed all that the catalog checks, and what refuses one step
 * refuses all of them.
 *
 * A step may have to wait for another: a MAC, a name, an email address that passes from one object to another is still
 * taken, a setup's owner is not there yet. So a step that is refused is tried again after the others, and it fails when
 * none of those that are left can be done. The order changes from round to round, so that long chains take two of them. */
#include "cli/apply.h"

#include "lib/base/fsutil.h"

#include <string.h>

static const struct option apply_options[] = {
    {"dry-run", NULL, "print what would be done, and do nothing", false},
    {"prune", NULL, "remove users, setups and machines that the file does not name", false},
    {NULL, NULL, NULL, false},
};

/* What all steps did. */
struct printed {
    struct strbuf text, json;
    size_t count;
};

static inline void cleanup_printed(struct printed *out)
{
    strbuf_release(&out->text);
    strbuf_release(&out->json);
}

static inline void cleanup_outcome(struct outcome *out)
{
    strbuf_release(&out->text);
    strbuf_release(&out->json);
}

static void plan_release(struct plan *p)
{
    for (size_t i = 0; i < p->nremains; i++)
        free(p->remains[i].boots);
    free(p->remains);
    free(p->growths);
    free(p->steps);
}

static inline void cleanup_plan(struct plan *p)
{
    plan_release(p);
}

/* ---- what the file names --------------------------------------------------------------------------------------- */

struct names {
    char **list;
    size_t count;
};

static inline void cleanup_names(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->list[i]);
    free(n->list);
}

static int names_init(struct names *n, size_t most, struct err *e)
{
    *n = (struct names){.list = calloc(most + 1, sizeof *n->list)};
    return n->list ? 0 : err_sys(e, ENOMEM, "plan");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool names_has(const struct names *n, const char *name)
{
    return bsearch(&name, n->list, n->count, sizeof *n->list, by_name) != NULL;
}

/* A setup that is a machine's default is named by that, and so is its owner. */
static int add_setup(struct plan *p, const char *text, struct names *users, struct names *setups,
                     struct err *e)
{
    struct setup setup;
    if (!*text)
        return 0;
    if (step_find_setup(p, text, &setup, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1; /* its step will say it */
    users->list[users->count++] = path_format("%s", setup.owner);
    setups->list[setups->count++] = path_format("%s/%s", setup.owner, setup.name);
    return 0;
}

/* The users, and the setups as OWNER/NAME, that stand in the file. */
static int collect_names(struct plan *p, struct names *users, struct names *setups, struct err *e)
{
    const struct conf *conf = &p->c->conf;
    for (size_t i = 0; i < conf->nobjects; i++) {
        const struct conf_object *o = &conf->objects[i];
        const char *owner = o->kind == CONF_SETUP && *o->setup.owner ? o->setup.owner : p->owner;
        if (o->kind == CONF_MACHINE && add_setup(p, o->machine.default_setup, users, setups, e) < 0)
            return -1;
        if (o->kind == CONF_SETUP)
            setups->list[setups->count++] = path_format("%s/%s", owner, o->name);
        if (o->kind != CONF_MACHINE)
            users->list[users->count++] = path_format("%s", o->kind == CONF_USER ? o->name : owner);
    }
    qsort(users->list, users->count, sizeof *users->list, by_name);
    qsort(setups->list, setups->count, sizeof *setups->list, by_name);
    return 0;
}

/* The only admin that there will be, of file and catalog. */
static void find_owner(struct plan *p, const struct user *users, size_t count)
{
    const struct conf *conf = &p->c->conf;
    size_t admins = 0;
    for (size_t i = 0; i < count + conf->nobjects; i++) {
        const struct conf_object *o = i < count ? NULL : &conf->objects[i - count];
        bool admin = o ? o->kind == CONF_USER && o->user.role == ROLE_ADMIN : users[i].role == ROLE_ADMIN;
        const char *name = o ? o->name : users[i].username;
        if (!admin || strcmp(p->owner, name) == 0)
            continue;
        snprintf(p->owner, sizeof p->owner, "%s", name);
        admins++;
    }
    if (admins != 1)
        p->owner[0] = '\0';
}

/* ---- the steps ------------------------------------------------------------------------------------------------- */

/* The machines of the catalog, by their MACs; `taken`: which are one of the file. */
struct machines {
    struct machine *list;
    size_t count;
    bool *taken;
};

static inline void cleanup_machines(struct machines *m)
{
    free(m->list);
    free(m->taken);
}

static int by_mac(const void *a, const void *b)
{
    return memcmp(&((const struct machine *)a)->mac, &((const struct machine *)b)->mac, sizeof(struct mac));
}

/* Whether nothing else of the file is this machine yet; now it is taken. */
static bool take(struct machines *all, const struct machine *m)
{
    const struct machine *found = bsearch(m, all->list, all->count, sizeof *m, by_mac);
    if (!found || all->taken[found - all->list])
        return false;
    return all->taken[found - all->list] = true;
}

/* Which machine of the catalog this one of the file is: one with a MAC of it, the first one first, or else of its name. */
static int match_machine(struct catalog *c, struct machines *all, struct step *s, struct err *e)
{
    const struct conf_object *o = s->object;
    struct machine m;
    for (size_t i = 0; i <= o->machine.nmacs; i++) {
        bool last = i == o->machine.nmacs;
        int r = last ? machine_find(c, o->name, &m, e) : machine_by_mac(c, &o->machine.macs[i], &m, e);
        if (r < 0 && e->code != ERR_NOT_FOUND)
            return -1;
        if (r == 0 && take(all, &m)) {
            s->mac = m.mac;
            snprintf(s->name, sizeof s->name, "%s", m.name);
            return 0;
        }
    }
    return 0;
}

static int add_wanted(struct plan *p, struct machines *all, struct err *e)
{
    const struct conf *conf = &p->c->conf;
    for (int kind = CONF_USER; kind <= CONF_MACHINE; kind++) {
        if (kind == CONF_SETUP)
            p->setups = p->steps + p->nsteps;
        for (size_t i = 0; i < conf->nobjects; i++)
            if (conf->objects[i].kind == (enum conf_object_kind)kind)
                p->steps[p->nsteps++] =
                    (struct step){.kind = conf->objects[i].kind, .object = &conf->objects[i]};
        if (kind == CONF_SETUP)
            p->nsetups = (size_t)(p->steps + p->nsteps - p->setups);
    }
    for (size_t i = 0; i < p->nsteps; i++)
        if (p->steps[i].kind == CONF_MACHINE && match_machine(p->c->catalog, all, &p->steps[i], e) < 0)
            return -1;
    return 0;
}

static struct step *add_removal(struct plan *p, enum conf_object_kind kind, const char *name)
{
    struct step *s = &p->steps[p->nsteps++];
    *s = (struct step){.kind = kind};
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

/* --prune */
static int add_removals(struct plan *p, const struct machines *all, const struct user *users, size_t nusers,
                        const struct setup *setups, size_t nsetups, struct err *e)
{
    cleanup(names) struct names user_names = {NULL}, setup_names = {NULL};
    size_t most = 2 * p->c->conf.nobjects;
    char name[2 * NAME_SIZE];
    if (names_init(&user_names, most, e) < 0 || names_init(&setup_names, most, e) < 0 ||
        collect_names(p, &user_names, &setup_names, e) < 0)
        return -1;
    for (size_t i = 0; i < all->count; i++)
        if (!all->taken[i])
            add_removal(p, CONF_MACHINE, all->list[i].name)->mac = all->list[i].mac;
    for (size_t i = 0; i < nsetups; i++) {
        snprintf(name, sizeof name, "%s/%s", setups[i].owner, setups[i].name);
        if (!names_has(&setup_names, name))
            add_removal(p, CONF_SETUP, step_setup_name(p, &setups[i], name))->setup = setups[i].uuid;
    }
    for (size_t i = 0; i < nusers; i++)
        if (!names_has(&user_names, users[i].username))
            add_removal(p, CONF_USER, users[i].username);
    return 0;
}

static int read_machines(struct catalog *c, struct machines *ret, struct err *e)
{
    if (machines_all(c, &ret->list, &ret->count, e) < 0)
        return -1;
    ret->taken = calloc(ret->count + 1, sizeof *ret->taken);
    if (!ret->taken)
        return err_sys(e, ENOMEM, "plan");
    if (ret->count)
        qsort(ret->list, ret->count, sizeof *ret->list, by_mac);
    return 0;
}

static int plan_make(struct plan *p, bool prune, struct err *e)
{
    struct catalog *c = p->c->catalog;
    cleanup(machines) struct machines machines = {NULL};
    cleanup(free) struct user *users = NULL;
    cleanup(free) struct setup *setups = NULL;
    size_t nusers, nsetups;
    if (users_all(c, &users, &nusers, e) < 0 || setups_all(c, &setups, &nsetups, e) < 0 ||
        read_machines(c, &machines, e) < 0)
        return -1;
    p->steps = calloc(p->c->conf.nobjects + nusers + nsetups + machines.count + 1, sizeof *p->steps);
    if (!p->steps)
        return err_sys(e, ENOMEM, "plan");
    find_owner(p, users, nusers);
    if (add_wanted(p, &machines, e) < 0)
        return -1;
    return prune ? add_removals(p, &machines, users, nusers, setups, nsetups, e) : 0;
}

/* ---- carrying them out ----------------------------------------------------------------------------------------- */

/* "FILE:LINE: [machine lab1]: …" */
static int explain(const struct plan *p, const struct step *s, struct err *e)
{
    static const char *const kinds[] = {
        [CONF_USER] = "user", [CONF_SETUP] = "setup", [CONF_MACHINE] = "machine"};
    if (!s->object)
        return err_wrap(e, "--prune: %s %s", kinds[s->kind], s->name);
    return err_wrap(e, "%s:%u: [%s %s]", p->c->conf_path, s->object->line, kinds[s->kind], s->object->name);
}

static void print_outcome(struct printed *out, const struct outcome *o)
{
    if (!o->sign)
        return;
    strbuf_append(&out->text, strbuf_text(&o->text));
    strbuf_appendf(&out->json, "%s", out->count++ ? ", " : "");
    strbuf_append(&out->json, strbuf_text(&o->json));
}

static int try_step(struct plan *p, struct step *s, struct printed *out, struct err *e)
{
    cleanup(outcome) struct outcome o = {.sign = 0};
    if (step_run(p, s, &o, e) < 0)
        return explain(p, s, e);
    s->done = true;
    print_outcome(out, &o);
    return 0;
}

/* One round, forward or backward. *ret_left: how many steps are still to be done. */
static int try_all(struct plan *p, bool forward, struct printed *out, size_t *ret_left, struct err *e)
{
    size_t left = 0;
    for (size_t i = 0; i < p->nsteps; i++) {
        struct step *s = &p->steps[forward ? i : p->nsteps - 1 - i];
        if (s->done || try_step(p, s, out, e) == 0)
            continue;
        if (e->code != ERR_STATE && e->code != ERR_NOT_FOUND)
            return -1;
        left++;
    }
    *ret_left = left;
    return 0;
}

/* Machines that exchange their names: one of them takes another meanwhile. */
static int make_way(struct plan *p, bool *ret, struct err *e)
{
    for (size_t i = 0; i < p->nsteps; i++) {
        struct step *s = &p->steps[i];
        if (s->done || s->renamed || s->kind != CONF_MACHINE || !s->object || !*s->name ||
            strcmp(s->name, s->object->name) == 0)
            continue;
        char name[NAME_SIZE];
        const uint8_t *b = s->mac.b;
        snprintf(name, sizeof name, "renaming-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
        const struct machine_change change = {.name = name};
        s->renamed = *ret = true;
        return machine_set(p->c->catalog, p->c->actor, &s->mac, &change, e);
    }
    return 0;
}

/* Within the transaction of the caller. */
static int carry_out(struct plan *p, struct printed *out, struct err *e)
{
    size_t left = p->nsteps, before;
    for (bool forward = true; left > 0; forward = !forward) {
        bool moved = false;
        before = left;
        if (try_all(p, forward, out, &left, e) < 0)
            return -1;
        if (left == before && make_way(p, &moved, e) < 0)
            return -1;
        if (left == before && !moved)
            break;
    }
    for (size_t i = 0; left > 0 && i < p->nsteps; i++)
        if (!p->steps[i].done)
            return try_step(p, &p->steps[i], out, e); /* for its error: the first one's */
    return 0;
}

enum commit { COMMIT_NEVER, COMMIT_UNLESS_DISKS_GROW, COMMIT_ALWAYS };

static int run_plan(struct plan *p, bool prune, enum commit commit, struct printed *out, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(p->c->catalog, &tx, e) < 0 || plan_make(p, prune, e) < 0 || carry_out(p, out, e) < 0)
        return -1;
    bool wait = commit == COMMIT_UNLESS_DISKS_GROW && p->ngrowths > 0;
    return commit == COMMIT_NEVER || wait ? 0 : tx_commit(&tx, e);
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static int print_plan(const struct cli *c, const struct printed *out, struct err *e)
{
    cleanup(strbuf) struct strbuf json = STRBUF_INIT;
    if (out->text.failed || out->json.failed)
        return err_sys(e, ENOMEM, "plan");
    if (!c->json)
        return print_text(out->count ? strbuf_text(&out->text) : "no changes\n", e);
    strbuf_appendf(&json, "[%s]\n", strbuf_text(&out->json));
    return json.failed ? err_sys(e, ENOMEM, "plan") : print_text(strbuf_text(&json), e);
}

static int grow_disks(struct plan *p, struct err *e)
{
    for (size_t i = 0; i < p->ngrowths; i++)
        if (machine_disk_in_step(p->c, &p->growths[i].machine, &p->growths[i].change, e) < 0)
            return -1;
    return 0;
}

/* After the commit: what fails here is a warning. */
static int finish(struct cli *c, const struct plan *p, const struct printed *out, struct err *e)
{
    for (size_t i = 0; i < p->nremains; i++)
        machine_remove_files(c, &p->remains[i]);
    cli_render(c);
    return print_plan(c, out, e);
}

static int run_apply(struct cli *c, struct err *e)
{
    bool prune = cli_option(c, "prune"), dry_run = cli_option(c, "dry-run");
    cleanup(plan) struct plan p = {.c = c}, behind = {.c = c};
    cleanup(printed) struct printed out = {.count = 0}, out_behind = {.count = 0};
    if (prune && c->conf.nobjects == 0)
        return err_set(
            e, ERR_STATE,
            "%s names no user, setup or machine: --prune would remove all of them; try: labboot apply",
            c->conf_path);
    if (run_plan(&p, prune, dry_run ? COMMIT_NEVER : COMMIT_UNLESS_DISKS_GROW, &out, e) < 0)
        return -1;
    if (dry_run)
        return print_plan(c, &out, e);
    if (p.ngrowths == 0)
        return finish(c, &p, &out, e);
    /* The files of disks change before their rows, and not within a transaction, which others wait for: so all that was
     * done is undone, and done once more behind that. */
    if (grow_disks(&p, e) < 0 || run_plan(&behind, prune, COMMIT_ALWAYS, &out_behind, e) < 0)
        return -1;
    return finish(c, &behind, &out_behind, e);
}

const struct command apply_commands[] = {
    {"apply", NULL, run_apply, "", 0, 0, NEEDS_CATALOG, RIGHT_ADMIN,
     "make the catalog match the users, setups and machines of the configuration", apply_options},
    COMMANDS_END,
};
