/* SPDX-License-Identifier: BSD-3-Clause */
/* One object of `labboot apply`: what the file says beside what the catalog has, the difference as words, and the calls
 * that remove it. */
#include "cli/apply.h"

#include "lib/base/bytes.h"

#include <inttypes.h>
#include <string.h>

static const char *const roles[] = {"user", "moderator", "admin"};
static const char *const architectures[] = {"x86_64", "Arm64", "unknown"};
static const char *const no_yes[] = {"no", "yes"};
static const char *const filesystems[] = {"ext4", "fat32", "raw"};

/* ---- the outcome ----------------------------------------------------------------------------------------------- */

static void begin(struct outcome *out, char sign, const char *kind, const char *name)
{
    const char *action = sign == '+' ? "add" : sign == '~' ? "change" : "remove";
    out->sign = sign;
    strbuf_appendf(&out->text, "%c %s %s", sign, kind, name);
    strbuf_appendf(&out->json, "{\"Action\": \"%s\", \"Kind\": \"%s\", \"Name\": \"%s\", \"Changes\": [",
                   action, kind, name);
}

static void end(struct outcome *out)
{
    if (out->sign == '~' && out->fields == 0)
        out->sign = 0;
    for (char *p = out->text.s; p && *p; p++) /* what a terminal would obey */
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    strbuf_append(&out->text, "\n");
    strbuf_append(&out->json, "]}");
}

/* Of an object that is made, `from` is the default, and the value alone tells which key it is where `plain`. Returns whether
 * the two differ. */
static bool field(struct outcome *out, const char *key, bool plain, const char *from, const char *to)
{
    if (strcmp(from, to) == 0)
        return false;
    bool change = out->sign == '~';
    strbuf_appendf(&out->json, "%s{\"Field\": \"%s\", ", out->fields ? ", " : "", key);
    if (change) {
        strbuf_appendf(&out->text, "%s %s: %s -> %s", out->fields ? "," : "", key, *from ? from : "none",
                       *to ? to : "none");
        strbuf_append(&out->json, "\"From\": ");
        print_json_string(&out->json, from);
        strbuf_append(&out->json, ", ");
    } else if (plain) {
        strbuf_appendf(&out->text, " %s", to);
    } else {
        strbuf_appendf(&out->text, " %s %s", key, to);
    }
    strbuf_append(&out->json, "\"To\": ");
    print_json_string(&out->json, to);
    strbuf_append(&out->json, "}");
    out->fields++;
    return true;
}

/* ---- users ----------------------------------------------------------------------------------------------------- */

static int set_user(struct plan *p, const struct conf_object *o, struct outcome *out, struct err *e)
{
    struct cli *c = p->c;
    struct user now = {.role = ROLE_USER};
    const char *email = o->user.email, *name = o->user.full_name, *role = roles[o->user.role];
    bool there = user_get(c->catalog, o->name, &now, e) == 0;
    if (!there && e->code != ERR_NOT_FOUND)
        return -1;
    begin(out, there ? '~' : '+', "user", o->name);
    field(out, "email", true, now.email, email);
    field(out, "name", false, now.name, name);
    field(out, "role", false, roles[now.role], role);
    end(out);
    if (!there)
        return user_add(c->catalog, c->actor, o->name, name, email, role, e);
    const struct user_change change = {.name = name, .email = email, .role = role};
    return user_change(c->catalog, c->actor, o->name, &change, false, e);
}

/* ---- setups ---------------------------------------------------------------------------------------------------- */

const char *step_setup_name(const struct plan *p, const struct setup *setup, char buf[2 * NAME_SIZE])
{
    bool plain = strcmp(setup->owner, p->owner) == 0;
    snprintf(buf, 2 * NAME_SIZE, "%s%s%s", plain ? "" : setup->owner, plain ? "" : "/", setup->name);
    return buf;
}

static int owner_of(const struct plan *p, const struct conf_object *o, const char **ret, struct err *e)
{
    *ret = *o->setup.owner ? o->setup.owner : p->owner;
    return **ret ? 0 : err_set(e, ERR_USAGE, "whose shall it be? There is not one admin; try: owner = USER");
}

/* "lab@latest bob/data@12,update" */
static int append_images(struct catalog *c, const char *owner, const struct setup_image *images, size_t count,
                         struct strbuf *out, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        struct image image;
        if (image_by_uuid(c, &images[i].image, &image, e) < 0)
            return -1;
        bool own = strcmp(image.owner, owner) == 0;
        strbuf_appendf(out, "%s%s%s%s@", i ? " " : "", own ? "" : image.owner, own ? "" : "/", image.name);
        if (images[i].version)
            strbuf_appendf(out, "%" PRIu64, images[i].version);
        else
            strbuf_append(out, "latest");
        strbuf_append(out, images[i].update ? ",update" : "");
    }
    return out->failed ? err_sys(e, ENOMEM, "images") : 0;
}

/* What the file says, found in the catalog. */
static int wanted_images(struct plan *p, const struct conf_object *o, const char *owner,
                         struct setup_image ret[SETUP_IMAGES_MAX], size_t *ret_count, struct err *e)
{
    size_t n = 0;
    for (; n < ARRAY_SIZE(o->setup.images) && o->setup.images[n]; n++)
        if (cli_setup_image(p->c, o->setup.images[n], owner, &ret[n], e) < 0)
            return err_wrap(e, "images");
    *ret_count = n;
    return 0;
}

/* 1: the catalog has it, 0: not. */
static int find_setup(struct plan *p, const char *owner, const char *name, struct setup *ret, struct err *e)
{
    char text[2 * NAME_SIZE];
    snprintf(text, sizeof text, "%s/%s", owner, name);
    if (setup_find(p->c->catalog, text, NULL, ret, e) == 0)
        return 1;
    return e->code == ERR_NOT_FOUND ? 0 : -1;
}

static int set_setup(struct plan *p, const struct conf_object *o, struct outcome *out, struct err *e)
{
    struct cli *c = p->c;
    struct setup setup = {.name = ""};
    struct setup_image now[SETUP_IMAGES_MAX], wanted[SETUP_IMAGES_MAX];
    size_t nnow = 0, count = 0;
    char shown[2 * NAME_SIZE];
    const char *owner;
    struct uuid made;
    cleanup(strbuf) struct strbuf from = STRBUF_INIT, to = STRBUF_INIT;
    if (owner_of(p, o, &owner, e) < 0)
        return -1;
    int there = find_setup(p, owner, o->name, &setup, e);
    if (there < 0 || wanted_images(p, o, owner, wanted, &count, e) < 0 ||
        (there && setup_images(c->catalog, &setup.uuid, now, &nnow, e) < 0) ||
        append_images(c->catalog, owner, now, nnow, &from, e) < 0 ||
        append_images(c->catalog, owner, wanted, count, &to, e) < 0)
        return -1;
    snprintf(setup.name, sizeof setup.name, "%s", o->name);
    snprintf(setup.owner, sizeof setup.owner, "%s", owner);
    begin(out, there ? '~' : '+', "setup", step_setup_name(p, &setup, shown));
    bool differs = field(out, "images", false, strbuf_text(&from), strbuf_text(&to));
    end(out);
    if (!there)
        return setup_create(c->catalog, c->actor, o->name, owner, wanted, count, &made, e);
    const struct setup_change change = {.images = wanted, .count = count};
    return differs ? setup_set(c->catalog, c->actor, &setup.uuid, &change, e) : 0;
}

/* ---- machines -------------------------------------------------------------------------------------------------- */

/* What a machine is, or shall be. */
struct state {
    const char *name;
    struct mac
        macs[CONF_LIST_MAX * 4]; /* more than the file may give: those that it has from the command line */
    size_t nmacs;
    const char *architecture, *managed, *filesystem;
    struct uuid setup; /* all zero: none */
    char setup_name[2 * NAME_SIZE];
    uint64_t disk_size;
};

static bool has_mac(const struct state *s, const struct mac *m)
{
    for (size_t i = 0; i < s->nmacs; i++)
        if (mac_equal(&s->macs[i], m))
            return true;
    return false;
}

/* Those of `a` that b lacks. */
static size_t macs_without(const struct state *a, const struct state *b, struct mac *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < a->nmacs; i++)
        if (!has_mac(b, &a->macs[i]))
            ret[n++] = a->macs[i];
    return n;
}

static const char *macs_text(const struct state *s, struct strbuf *out)
{
    char text[MAC_TEXT_SIZE];
    for (size_t i = 0; i < s->nmacs; i++)
        strbuf_appendf(out, "%s%s", i ? "," : "", mac_format(&s->macs[i], text));
    return strbuf_text(out);
}

static const char *word_of(const char *const *words, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(words[i], text) == 0)
            return words[i];
    return "";
}

static int name_setup(struct plan *p, struct state *s, struct err *e)
{
    static const struct uuid none;
    struct setup setup;
    if (uuid_equal(&s->setup, &none))
        return 0;
    if (setup_by_uuid(p->c->catalog, &s->setup, &setup, e) < 0)
        return -1;
    step_setup_name(p, &setup, s->setup_name);
    return 0;
}

static int machine_now(struct plan *p, const struct machine *m, const char *name, struct state *ret,
                       struct err *e)
{
    struct machine_disk disk;
    cleanup(free) struct mac *macs = NULL;
    struct catalog *c = p->c->catalog;
    *ret = (struct state){.name = name,
                          .managed = no_yes[m->managed],
                          .architecture = word_of(architectures, ARRAY_SIZE(architectures), m->architecture)};
    if (machine_macs(c, &m->mac, &macs, &ret->nmacs, e) < 0 || machine_disk_get(c, &m->mac, &disk, e) < 0 ||
        machine_default(c, &m->mac, &ret->setup, e) < 0)
        return -1;
    if (ret->nmacs > ARRAY_SIZE(ret->macs))
        return err_set(e, ERR_STATE, "it has more than %zu MACs", ARRAY_SIZE(ret->macs));
    memcpy(ret->macs, macs, ret->nmacs * sizeof *macs);
    ret->disk_size = disk.size;
    ret->filesystem = word_of(filesystems, ARRAY_SIZE(filesystems), disk.filesystem);
    return name_setup(p, ret, e);
}

int step_find_setup(struct plan *p, const char *text, struct setup *ret, struct err *e)
{
    char full[2 * NAME_SIZE];
    const char *owner = NULL;
    for (const struct step *s = p->setups; s < p->setups + p->nsetups && !owner; s++)
        if (strcmp(s->object->name, text) == 0 && owner_of(p, s->object, &owner, e) < 0)
            return -1;
    snprintf(full, sizeof full, "%s%s%s", owner ? owner : "", owner ? "/" : "", text);
    return setup_find(p->c->catalog, full, p->owner, ret, e);
}

static int wanted_setup(struct plan *p, const char *text, struct uuid *ret, struct err *e)
{
    struct setup setup;
    if (!*text)
        return 0;
    if (step_find_setup(p, text, &setup, e) < 0)
        return err_wrap(e, "default-setup");
    *ret = setup.uuid;
    return 0;
}

/* A disk stays as it is where the file says nothing of it. */
static int machine_wanted(struct plan *p, const struct conf_object *o, const struct state *now,
                          struct state *ret, struct err *e)
{
    bool size = !*now->name || conf_object_has(o, "disk-size");
    bool filesystem = !*now->name || conf_object_has(o, "disk-filesystem");
    *ret = (struct state){
        .name = o->name,
        .nmacs = o->machine.nmacs,
        .architecture = architectures[o->machine.architecture],
        .managed = no_yes[o->machine.managed],
        .disk_size = size ? o->machine.disk_size : now->disk_size,
        .filesystem = filesystem ? filesystems[o->machine.disk_filesystem] : now->filesystem,
    };
    memcpy(ret->macs, o->machine.macs, sizeof o->machine.macs);
    if (wanted_setup(p, o->machine.default_setup, &ret->setup, e) < 0)
        return -1;
    return name_setup(p, ret, e);
}

#define EXACT_SIZE 24
/* "1G", "1500M": as the file may say it, where two sizes that differ never look the same. */
static const char *exact_size(uint64_t bytes, char buf[EXACT_SIZE])
{
    uint64_t unit = bytes % GIB == 0 ? GIB : bytes % MIB == 0 ? MIB : 1;
    snprintf(buf, EXACT_SIZE, "%" PRIu64 "%s", bytes / unit, unit == GIB ? "G" : unit == MIB ? "M" : "");
    return buf;
}

/* The words, and the change for machine_set; `add` and `remove` have room for the MACs of both. */
static void compare_machine(struct outcome *out, const struct state *now, const struct state *wanted,
                            struct mac *add, struct mac *remove, struct machine_change *ret)
{
    static const bool managed[] = {false, true};
    cleanup(strbuf) struct strbuf from = STRBUF_INIT, to = STRBUF_INIT;
    char old_size[EXACT_SIZE], new_size[EXACT_SIZE];
    *ret = (struct machine_change){.add = add, .remove = remove, .default_setup = &wanted->setup};
    static const struct uuid none;
    if (uuid_equal(&wanted->setup, &none))
        ret->default_setup = NULL;
    ret->nadd = macs_without(wanted, now, add);
    ret->nremove = macs_without(now, wanted, remove);
    if (ret->nadd || ret->nremove)
        field(out, "mac", true, macs_text(now, &from), macs_text(wanted, &to));
    if (*now->name && field(out, "name", false, now->name, wanted->name))
        ret->name = wanted->name;
    if (field(out, "arch", false, now->architecture, wanted->architecture))
        ret->architecture = wanted->architecture;
    if (field(out, "managed", false, now->managed, wanted->managed))
        ret->managed = &managed[strcmp(wanted->managed, "yes") == 0];
    ret->change_default = field(out, "default-setup", false, now->setup_name, wanted->setup_name);
    if (field(out, "disk-size", false, exact_size(now->disk_size, old_size),
              exact_size(wanted->disk_size, new_size)))
        ret->disk_size = wanted->disk_size;
    if (field(out, "disk-filesystem", false, now->filesystem, wanted->filesystem))
        ret->disk_filesystem = wanted->filesystem;
}

static int add_machine(struct plan *p, const struct conf_object *o, struct outcome *out, struct err *e)
{
    static const struct uuid none;
    const struct state nothing = {.name = "",
                                  .architecture = architectures[0],
                                  .managed = no_yes[1],
                                  .disk_size = conf_object_has(o, "disk-size") ? 0 : o->machine.disk_size,
                                  .filesystem = filesystems[0]};
    struct state wanted;
    struct machine_change change;
    struct mac add[ARRAY_SIZE(wanted.macs)];
    if (machine_wanted(p, o, &nothing, &wanted, e) < 0)
        return -1;
    begin(out, '+', "machine", o->name);
    compare_machine(out, &nothing, &wanted, add, add, &change);
    end(out);
    const struct machine_new m = {.mac = wanted.macs[0],
                                  .more = wanted.macs + 1,
                                  .nmore = wanted.nmacs - 1,
                                  .name = o->name,
                                  .architecture = wanted.architecture,
                                  .managed = o->machine.managed,
                                  .default_setup = uuid_equal(&wanted.setup, &none) ? NULL : &wanted.setup,
                                  .disk_size = wanted.disk_size,
                                  .disk_filesystem = wanted.filesystem};
    return machine_add(p->c->catalog, p->c->actor, &m, e);
}

/* The disk's file is brought in step before the row, and outside of the transaction. */
static int note_growth(struct plan *p, const struct machine *m, const struct machine_change *change,
                       struct err *e)
{
    struct machine_growth *longer = reallocarray(p->growths, p->ngrowths + 1, sizeof *longer);
    if (!longer)
        return err_sys(e, ENOMEM, "plan");
    p->growths = longer;
    longer[p->ngrowths++] = (struct machine_growth){
        .machine = *m,
        .change = {.disk_size = change->disk_size, .disk_filesystem = change->disk_filesystem}};
    return 0;
}

static int set_machine(struct plan *p, const struct step *s, struct outcome *out, struct err *e)
{
    const struct conf_object *o = s->object;
    struct machine m;
    struct state now, wanted;
    struct machine_change change;
    struct mac add[ARRAY_SIZE(now.macs)], remove[ARRAY_SIZE(now.macs)];
    if (!*s->name)
        return add_machine(p, o, out, e);
    if (machine_by_mac(p->c->catalog, &s->mac, &m, e) < 0 || machine_now(p, &m, s->name, &now, e) < 0 ||
        machine_wanted(p, o, &now, &wanted, e) < 0)
        return -1;
    begin(out, '~', "machine", o->name);
    compare_machine(out, &now, &wanted, add, remove, &change);
    end(out);
    if (!out->sign)
        return 0;
    if (machine_set(p->c->catalog, p->c->actor, &m.mac, &change, e) < 0)
        return -1;
    return change.disk_size || change.disk_filesystem ? note_growth(p, &m, &change, e) : 0;
}

/* ---- what goes ------------------------------------------------------------------------------------------------- */

static int remove_machine(struct plan *p, const struct step *s, struct err *e)
{
    struct machine_remains *longer = reallocarray(p->remains, p->nremains + 1, sizeof *longer);
    if (!longer)
        return err_sys(e, ENOMEM, "plan");
    p->remains = longer;
    if (machine_remove(p->c->catalog, p->c->actor, &s->mac, false, &longer[p->nremains], e) < 0)
        return -1;
    p->nremains++;
    return 0;
}

static int remove_object(struct plan *p, const struct step *s, struct outcome *out, struct err *e)
{
    static const char *const kinds[] = {
        [CONF_USER] = "user", [CONF_SETUP] = "setup", [CONF_MACHINE] = "machine"};
    struct cli *c = p->c;
    size_t cancelled;
    begin(out, '-', kinds[s->kind], s->name);
    end(out);
    if (s->kind == CONF_MACHINE)
        return remove_machine(p, s, e);
    if (s->kind == CONF_SETUP)
        return setup_remove(c->catalog, c->actor, &s->setup, false, &cancelled, e);
    /* Images are never removed by this, and setups have steps of their own. */
    if (user_check_owns_nothing(c->catalog, s->name, e) < 0)
        return -1;
    return user_remove(c->catalog, c->actor, s->name, false, &cancelled, e);
}

int step_run(struct plan *p, struct step *s, struct outcome *ret, struct err *e)
{
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(p->c->catalog, &tx, e) < 0)
        return -1;
    int r = !s->object              ? remove_object(p, s, ret, e)
            : s->kind == CONF_USER  ? set_user(p, s->object, ret, e)
            : s->kind == CONF_SETUP ? set_setup(p, s->object, ret, e)
                                    : set_machine(p, s, ret, e);
    return r < 0 ? -1 : tx_commit(&tx, e);
}
