/* SPDX-License-Identifier: BSD-3-Clause */
/* What turns words into a call of a command. */
#include "cli/cli.h"

#include "lib/base/log.h"

#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

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
    const struct option *o = find_option(cli_global_options, name, len);
    bool global = o;
    if (!o && c->command)
        o = find_option(c->command->options, name, len);
    if (!o)
        return option_error(e, word, "is no option here; try: --help");
    const char *value = equals ? equals + 1 : "", *next = NULL;
    if (!o->value && equals)
        return option_error(e, word, "takes no value");
    if (o->value && !equals) {
        if (!argv[*at + 1])
            return option_error(e, word, "needs a value");
        value = next = argv[++*at];
    }
    if (global && !o->value) {
        set_global(c, o->name);
        return 0;
    }
    if (!o->many && cli_option(c, o->name))
        return option_error(e, word, "was given already");
    if (c->noptions == CLI_OPTIONS_MAX)
        return option_error(e, word, "is one option too many");
    c->options[c->noptions++] = (struct given){o->name, value, word, next};
    return 0;
}

static bool noun_exists(const char *noun)
{
    const struct command *cmd;
    for (size_t i = 0; (cmd = cli_command_at(i)); i++)
        if (strcmp(noun, cmd->noun) == 0)
            return true;
    return false;
}

/* The command of noun and verb; the verb's word is not looked at where the noun has none. */
static const struct command *find_command(const char *noun, const char *verb)
{
    const struct command *cmd;
    for (size_t i = 0; (cmd = cli_command_at(i)); i++)
        if (strcmp(noun, cmd->noun) == 0 && (!cmd->verb || (verb && strcmp(verb, cmd->verb) == 0)))
            return cmd;
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
        return print_text(c->json ? "{\"Version\": \"" PACKAGE_VERSION "\", \"JSONSchema\": " JSON_SCHEMA
                                    "}\n"
                                  : "labboot " PACKAGE_VERSION "\n",
                          e);
    if (c->help)
        return help_print(w.noun, w.verb, e);
    if (check_words(c, &w, e) < 0)
        return -1;
    log_set_sink(log_to_stderr, c->quiet ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING);
    if (caller_begin(c, e) < 0)
        return -1;
    if (!(c->command->needs & (NEEDS_CONF | NEEDS_CATALOG)))
        return c->command->run(c, e);
    if (cli_load_conf(c, e) < 0)
        return -1;
    caller_settle(c);
    if (c->caller == CALLER_OUTSIDE && c->command->right != RIGHT_NONE)
        return sudo_run(c, e);
    if ((c->command->needs & NEEDS_CATALOG) && cli_enter(c, e) < 0)
        return -1;
    if (!(c->command->needs & NEEDS_CATALOG) && c->command->right == RIGHT_ADMIN && cli_check_admin(c, e) < 0)
        return -1;
    return c->command->run(c, e);
}

int main(int argc, char **argv)
{
    static char *no_extra[] = {NULL};
    struct cli c = {.extra = no_extra, .relay = -1};
    struct err e;
    (void)argc;
    setlocale(LC_CTYPE, "");
    int r = run(&c, argv, &e);
    if (r == 0 && fflush(stdout) != 0)
        r = err_sys(&e, errno, "standard output");
    if (r < 0)
        fprintf(stderr, "labboot: %s\n", e.msg);
    cli_release(&c);
    if (r == 0 && c.signal)
        raise(c.signal);
    return r < 0 ? (int)e.code : c.signal ? 128 + c.signal : c.status;
}
