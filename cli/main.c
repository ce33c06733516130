/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of commands, and what turns words into a call: every word of labboot's usage stands here or in the options
 * beside a command. */
#include "cli/cli.h"

#include "lib/base/bytes.h"
#include "lib/base/log.h"

#include <locale.h>
#include <stdarg.h>
#include <string.h>

static const struct command commands[] = {
    {"init", NULL, run_init, "", 0, 0, NEEDS_CONF, "make the folders and the catalog; safe to repeat", NULL},
    {"config", "check", run_config_check, "", 0, 0, 0, "report every mistake in the configuration", NULL},
    {"config", "show", run_config_show, "", 0, 0, NEEDS_CONF, "print the values in force", NULL},
    {"config", "example", run_config_example, "", 0, 0, 0,
     "print a commented configuration with all defaults", NULL},
    {"serve", NULL, run_serve, "[-- NBDKIT OPTIONS]", 0, 0, NEEDS_CONF | TAKES_EXTRA,
     "become nbdkit with labboot's plugin", NULL},
    {"dhcp", NULL, run_dhcp, "[-- DNSMASQ OPTIONS]", 0, 0, NEEDS_CONF | TAKES_EXTRA,
     "run dnsmasq (DHCP and TFTP) with a generated configuration", NULL},
    {"status", NULL, run_status, "", 0, 0, NEEDS_CATALOG, "list machines with what they run", status_options},

    {"user", "add", run_user_add, "NAME", 1, 1, NEEDS_CATALOG, "add a user", user_add_options},
    {"user", "list", run_user_list, "", 0, 0, NEEDS_CATALOG, "list all users", NULL},

    {"machine", "add", run_machine_add, "MAC", 1, 1, NEEDS_CATALOG, "add a machine", machine_add_options},
    {"machine", "list", run_machine_list, "", 0, 0, NEEDS_CATALOG, "list all machines", NULL},
    {"machine", "show", run_machine_show, "MACHINE", 1, 1, NEEDS_CATALOG, "show a machine", NULL},

    {"image", "import", run_image_import, "NAME FILE|-", 2, 2, NEEDS_CONF,
     "make the first or the next version of an image", image_import_options},
    {"image", "export", run_image_export, "IMAGE[@VERSION] FILE|-", 2, 2, NEEDS_CONF,
     "write a version as a raw disk", image_export_options},
    {"image", "list", run_image_list, "", 0, 0, NEEDS_CATALOG, "list all images", NULL},
    {"image", "show", run_image_show, "IMAGE", 1, 1, NEEDS_CATALOG, "show an image", NULL},
    {"image", "versions", run_image_versions, "IMAGE", 1, 1, NEEDS_CATALOG, "list the versions of an image",
     NULL},

    {"setup", "create", run_setup_create, "NAME", 1, 1, NEEDS_CATALOG,
     "name the disks that a machine gets together", setup_create_options},
    {"setup", "list", run_setup_list, "", 0, 0, NEEDS_CATALOG, "list all setups", NULL},
    {"setup", "show", run_setup_show, "SETUP", 1, 1, NEEDS_CATALOG, "show a setup", NULL},

    {"boot", "queue", run_boot_queue, "MACHINE SETUP", 2, 2, NEEDS_CATALOG,
     "add a boot to the end of a machine's queue", boot_queue_options},
    {"boot", "list", run_boot_list, "[MACHINE]", 0, 1, NEEDS_CATALOG, "list the newest boots", NULL},
    {"boot", "show", run_boot_show, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG, "show a boot", NULL},
    {"boot", "next", run_boot_next, "MACHINE", 1, 1, NEEDS_CATALOG, "show what a machine boots next", NULL},
    {"boot", "cancel", run_boot_cancel, "BOOT", 1, 1, NEEDS_CATALOG, "take a boot out of its queue", NULL},
    {"boot", "end", run_boot_end, "BOOT|MACHINE", 1, 1, NEEDS_CATALOG,
     "end a boot, and wait until what it keeps is a version", boot_end_options},
};

static const struct option global_options[] = {
    {"config", "FILE",
     "the configuration; default: $LABBOOT_CONFIG, then " SYSCONFDIR "/labboot/labboot.conf", false},
    {"json", NULL, "print one JSON value", false},
    {"quiet", NULL, "print no warnings and no progress", false},
    {"help", NULL, "print how a command is used", false},
    {"version", NULL, "print labboot's version", false},
    {NULL, NULL, NULL, false},
};

/* ---- help ------------------------------------------------------------------------------------------------------ */
static void help_command(struct strbuf *out, const struct command *cmd)
{
    cleanup(strbuf) struct strbuf line = STRBUF_INIT;
    strbuf_appendf(&line, "labboot %s%s%s%s%s", cmd->noun, cmd->verb ? " " : "", cmd->verb ? cmd->verb : "",
                   *cmd->usage ? " " : "", cmd->usage);
    strbuf_appendf(out, "  %-42s  %s\n", strbuf_text(&line), cmd->summary);
}

static void help_options(struct strbuf *out, const char *title, const struct option *options)
{
    strbuf_appendf(out, "\n%s:\n", title);
    for (const struct option *o = options; o->name; o++) {
        cleanup(strbuf) struct strbuf line = STRBUF_INIT;
        strbuf_appendf(&line, "--%s%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "",
                       o->many ? " ..." : "");
        strbuf_appendf(out, "  %-26s  %s\n", strbuf_text(&line), o->help);
    }
}

/* Of all commands, of a noun's, or of one. */
static int print_help(const char *noun, const char *verb, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    const struct command *only = NULL;
    size_t count = 0;
    strbuf_append(&out, "usage: labboot [OPTIONS] COMMAND [WORDS] [OPTIONS]\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if ((noun && strcmp(noun, commands[i].noun) != 0) ||
            (verb && (!commands[i].verb || strcmp(verb, commands[i].verb) != 0)))
            continue;
        only = &commands[i];
        count++;
        help_command(&out, only);
    }
    if (count == 0)
        return err_set(e, ERR_USAGE, "'%s' is no command; try: labboot help", noun);
    if (count == 1 && only->options)
        help_options(&out, "options", only->options);
    if (!noun)
        help_options(&out, "options of all commands", global_options);
    return print_text(strbuf_text(&out), e);
}

/* ---- words ----------------------------------------------------------------------------------------------------- */
const char *cli_option_at(const struct cli *c, const char *name, size_t i)
{
    for (size_t k = 0; k < c->noptions; k++)
        if (strcmp(c->options[k].name, name) == 0 && i-- == 0)
            return c->options[k].value;
    return NULL;
}

const char *cli_option(const struct cli *c, const char *name)
{
    return cli_option_at(c, name, 0);
}

static const struct option *find_option(const struct option *options, const char *name, size_t len)
{
    for (const struct option *o = options; o && o->name; o++)
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    return NULL;
}

static int option_error(struct err *e, const char *word, const char *why)
{
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    strbuf_append_escaped(&shown, word, strnlen(word, 60));
    return err_set(e, ERR_USAGE, "'%s' %s", strbuf_text(&shown), why);
}

static void set_global(struct cli *c, const char *name)
{
    c->json |= strcmp(name, "json") == 0;
    c->quiet |= strcmp(name, "quiet") == 0;
    c->help |= strcmp(name, "help") == 0;
    c->version |= strcmp(name, "version") == 0;
}

/* argv[*at] is an option; steps over its value. */
static int take_option(struct cli *c, char **argv, int *at, struct err *e)
{
    const char *word = argv[*at], *name = word + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *o = find_option(global_options, name, len);
    bool global = o;
    if (!o && c->command)
        o = find_option(c->command->options, name, len);
    if (!o)
        return option_error(e, word, "is no option here; try: --help");
    const char *value = equals ? equals + 1 : "";
    if (!o->value && equals)
        return option_error(e, word, "takes no value");
    if (o->value && !equals) {
        if (!argv[*at + 1])
            return option_error(e, word, "needs a value");
        value = argv[++*at];
    }
    if (global && !o->value) {
        set_global(c, o->name);
        return 0;
    }
    if (!o->many && cli_option(c, o->name))
        return option_error(e, word, "was given already");
    if (c->noptions == CLI_OPTIONS_MAX)
        return option_error(e, word, "is one option too many");
    c->options[c->noptions++] = (struct given){o->name, value};
    return 0;
}

static bool noun_exists(const char *noun)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (strcmp(noun, commands[i].noun) == 0)
            return true;
    return false;
}

/* The command of noun and verb; the verb's word is not looked at where the noun has none. */
static const struct command *find_command(const char *noun, const char *verb)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (strcmp(noun, commands[i].noun) == 0 &&
            (!commands[i].verb || (verb && strcmp(verb, commands[i].verb) == 0)))
            return &commands[i];
    return NULL;
}

struct words {
    const char *noun, *verb;
    bool asked_help; /* labboot help … */
};

static int take_word(struct cli *c, struct words *w, const char *word, struct err *e)
{
    if (!w->noun && !w->asked_help && strcmp(word, "help") == 0) {
        w->asked_help = c->help = true;
        return 0;
    }
    if (!w->noun) {
        if (!noun_exists(word))
            return option_error(e, word, "is no command; try: labboot help");
        w->noun = word;
        c->command = find_command(word, NULL);
        return 0;
    }
    if (!c->command) {
        w->verb = word;
        c->command = find_command(w->noun, word);
        return c->command ? 0 : option_error(e, word, "is no command here; try: --help");
    }
    if (c->nwords == CLI_WORDS_MAX || c->nwords == c->command->max)
        return option_error(e, word, "is one word too many; try: --help");
    c->words[c->nwords++] = word;
    return 0;
}

static int parse_words(struct cli *c, struct words *w, char **argv, struct err *e)
{
    for (int i = 1; argv[i]; i++) {
        bool extra = c->command && (c->command->needs & TAKES_EXTRA);
        if (strcmp(argv[i], "--") == 0 && extra) {
            c->extra = argv + i + 1;
            return 0;
        }
        int r = strncmp(argv[i], "--", 2) == 0    ? take_option(c, argv, &i, e)
                : argv[i][0] == '-' && argv[i][1] ? option_error(e, argv[i], "is no option; try: --help")
                                                  : take_word(c, w, argv[i], e);
        if (r < 0)
            return -1;
    }
    return 0;
}

/* Everything that can be known without touching anything. */
static int check_words(const struct cli *c, const struct words *w, struct err *e)
{
    if (!w->noun)
        return err_set(e, ERR_USAGE, "which command? try: labboot help");
    if (!c->command)
        return err_set(e, ERR_USAGE, "%s: which of its commands? try: labboot %s --help", w->noun, w->noun);
    if (c->nwords < c->command->min)
        return err_set(e, ERR_USAGE, "it needs %s; try: --help", c->command->usage);
    return 0;
}

/* ---- running --------------------------------------------------------------------------------------------------- */
static void log_to_stderr(enum log_level level, const char *message)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    fprintf(stderr, "labboot: %s: %s\n", names[level], message);
}

static int run(struct cli *c, char **argv, struct err *e)
{
    struct words w = {.noun = NULL};
    if (parse_words(c, &w, argv, e) < 0)
        return -1;
    if (c->version)
        return print_text("labboot " PACKAGE_VERSION "\n", e);
    if (c->help)
        return print_help(w.noun, w.verb, e);
    if (check_words(c, &w, e) < 0)
        return -1;
    log_set_sink(log_to_stderr, c->quiet ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING);
    if ((c->command->needs & (NEEDS_CONF | NEEDS_CATALOG)) && cli_load_conf(c, e) < 0)
        return -1;
    if ((c->command->needs & NEEDS_CATALOG) && cli_enter(c, e) < 0)
        return -1;
    return c->command->run(c, e);
}

int main(int argc, char **argv)
{
    static char *no_extra[] = {NULL};
    struct cli c = {.extra = no_extra};
    struct err e;
    (void)argc;
    setlocale(LC_CTYPE, "");
    int r = run(&c, argv, &e);
    if (r == 0 && fflush(stdout) != 0)
        r = err_sys(&e, errno, "standard output");
    if (r < 0)
        fprintf(stderr, "labboot: %s\n", e.msg);
    cli_release(&c);
    return r < 0 ? (int)e.code : 0;
}
