/* SPDX-License-Identifier: BSD-3-Clause */
/* complete: what may stand at the end of a command line, for the shells, whose own scripts so stay small. It knows nouns,
 * verbs and options from their tables, and names of objects from the catalog. Whatever goes wrong, there is just nothing
 * to propose. */
#include "cli/cli.h"

#include "lib/base/bytes.h"

#include <string.h>

/* For the shell: its own completion of files. No candidate looks like it. */
#define FILES ":files"

/* Values of options that are one of a few words; keyed by the option, as the same word in capitals means other things
 * elsewhere. */
static const struct {
    const char *option, *words;
} choices[] = {
    {"arch", "x86_64 Arm64 unknown"},
    {"compression", "none zstd gzip"},
    {"disk-filesystem", "ext4 fat32 raw"},
    {"filesystem", "ext4 fat32 raw"},
    {"format", "raw qcow2 raw.zst raw.gz"},
    {"kind", "boot system user temporal"},
    {"progress", "json"},
    {"role", "user moderator admin"},
    {"state", "queued leased running committing committed branched discarded interrupted cancelled"},
    {"type", "raw qcow2"},
    {"update", "yes no"},
};

/* Which boots a command is for. */
static const struct {
    const char *verb, *states;
} boots[] = {
    {"cancel", "[\"queued\"]"},       {"end", "[\"leased\",\"running\",\"interrupted\"]"},
    {"resume", "[\"interrupted\"]"},  {"commit", "[\"interrupted\"]"},
    {"discard", "[\"interrupted\"]"},
};
#define ALL_BOOTS                                                                                            \
    "[\"queued\",\"leased\",\"running\",\"committing\",\"committed\",\"branched\",\"discarded\","            \
    "\"interrupted\",\"cancelled\"]"

/* The command line up to its last word. */
struct line {
    struct cli *c;
    const struct command *command;
    const char *noun;
    const struct option *option; /* whose value the last word is; NULL: it is none */
    const char *image;           /* the word that stands for IMAGE in the command */
    int nwords;
    bool lost; /* there is no such command */
    bool opened, elsewhere;
    bool ended; /* by --: what follows is for another program */
    const char *last;
    const char *prefix; /* of what is printed, before what is looked for: "--owner=" */
    size_t prefix_len;
    struct strbuf out;
};

static void propose(void *ctx, const char *text)
{
    struct line *l = ctx;
    if (strncmp(text, l->last, strlen(l->last)) == 0)
        strbuf_appendf(&l->out, "%.*s%s\n", (int)l->prefix_len, l->prefix, text);
}

static void propose_words(struct line *l, const char *words)
{
    for (size_t len; *words; words += len + (words[len] != '\0')) {
        len = strcspn(words, " ");
        cleanup(free) char *word = strndup(words, len);
        if (word)
            propose(l, word);
    }
}

/* ---- the words before ------------------------------------------------------------------------------------------ */
static const struct option *find_option(const struct option *list, const char *name, size_t len)
{
    for (const struct option *o = list; o && o->name; o++)
        if (strlen(o->name) == len && strncmp(o->name, name, len) == 0)
            return o;
    return NULL;
}

/* NULL when the word names no option of the command. */
static const struct option *option_of(const struct line *l, const char *word)
{
    const char *name = word + 2;
    size_t len = strcspn(name, "=");
    const struct option *o = find_option(cli_global_options, name, len);
    return o || !l->command ? o : find_option(l->command->options, name, len);
}

/* --config and --as count for the completion too. Behind sudo --config is refused as to any other command. */
static void keep_option(struct cli *c, const struct option *o, const char *value)
{
    bool config = strcmp(o->name, "config") == 0 && c->caller != CALLER_USER;
    if ((config || strcmp(o->name, "as") == 0) && c->noptions < CLI_OPTIONS_MAX)
        c->options[c->noptions++] = (struct given){.name = o->name, .value = value};
}

static void see_word(struct line *l, const char *word)
{
    const struct command *cmd;
    if (!l->noun && strcmp(word, "help") == 0)
        return;
    if (l->command) {
        l->image = l->image ? l->image : word;
        l->nwords++;
        return;
    }
    for (size_t i = 0; !l->command && (cmd = cli_command_at(i)); i++) {
        const char *name = l->noun ? cmd->verb : cmd->noun;
        bool fits = (!l->noun || strcmp(l->noun, cmd->noun) == 0) && name && strcmp(name, word) == 0;
        if (fits && (l->noun || !cmd->verb))
            l->command = cmd;
    }
    l->lost = l->noun && !l->command;
    if (!l->noun)
        l->noun = word;
}

static void see_words(struct line *l, char **words, size_t count)
{
    for (size_t i = 0; i < count && !l->ended; i++) {
        const struct option *o = strncmp(words[i], "--", 2) == 0 ? option_of(l, words[i]) : NULL;
        const char *equals = strchr(words[i], '=');
        l->ended = strcmp(words[i], "--") == 0;
        if (strncmp(words[i], "--", 2) != 0)
            see_word(l, words[i]);
        else if (o && o->value && equals)
            keep_option(l->c, o, equals + 1);
        else if (o && o->value && i + 1 == count)
            l->option = o;
        else if (o && o->value)
            keep_option(l->c, o, words[++i]);
    }
}

/* ---- the catalog ------------------------------------------------------------------------------------------------- */

/* Who may not open it has all of it done by a labboot behind sudo, which prints it. */
static void open_catalog(struct line *l)
{
    struct err e;
    l->opened = true;
    if (cli_load_conf(l->c, &e) < 0)
        return;
    caller_settle(l->c);
    if (l->c->caller != CALLER_OUTSIDE) {
        if (cli_enter(l->c, &e) < 0)
            catalog_close(steal(&l->c->catalog));
        return;
    }
    l->elsewhere = sudo_run(l->c, &e) == 0 && l->c->status == 0 && l->c->signal == 0;
    l->c->status = l->c->signal = 0;
}

/* Opened when the first name is asked for. */
static bool have_catalog(struct line *l)
{
    if (!l->opened)
        open_catalog(l);
    return l->c->catalog;
}

/* ---- names ----------------------------------------------------------------------------------------------------- */
static void propose_version(void *ctx, const char *number)
{
    struct line *l = ctx;
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    strbuf_appendf(&text, "%.*s%s", (int)(strcspn(l->last, "@") + 1), l->last, number);
    propose(l, strbuf_text(&text));
}

/* Numbers alone, or IMAGE@NUMBER where the last word has an @. */
static void propose_versions(struct line *l, const char *image_text)
{
    struct image image;
    struct err e;
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *name = strndup(image_text, strcspn(image_text, "@"));
    void (*each)(void *, const char *) = strchr(l->last, '@') ? propose_version : propose;
    if (!name || image_find(l->c->catalog, name, l->c->user, &image, &e) < 0)
        return;
    each(l, "latest");
    if (names_each(l->c->catalog, NAMES_VERSIONS, uuid_to_text(&image.uuid, uuid), each, l, &e) < 0)
        return;
}

static const char *boot_states(const struct line *l)
{
    for (size_t i = 0; l->command->verb && i < ARRAY_SIZE(boots); i++)
        if (strcmp(boots[i].verb, l->command->verb) == 0)
            return boots[i].states;
    return ALL_BOOTS;
}

static void propose_names(struct line *l, enum name_kind kind)
{
    struct err e;
    const char *argument = kind == NAMES_BOOTS ? boot_states(l) : strchr(l->last, '/') ? "owner" : "";
    if (!have_catalog(l))
        return;
    if (kind == NAMES_VERSIONS)
        propose_versions(l, l->image ? l->image : "");
    else if (kind == NAMES_IMAGES && strchr(l->last, '@'))
        propose_versions(l, l->last);
    else if (names_each(l->c->catalog, kind, argument, propose, l, &e) < 0)
        return;
}

static const struct {
    const char *word;
    enum name_kind kind;
} named[] = {
    {"MACHINE", NAMES_MACHINES}, {"MAC", NAMES_UNKNOWN_MACS}, {"USER", NAMES_USERS},
    {"IMAGE", NAMES_IMAGES},     {"SETUP", NAMES_SETUPS},     {"BOOT", NAMES_BOOTS},
    {"VERSION", NAMES_VERSIONS},
};

/* Of "BOOT|MACHINE", "IMAGE[@VERSION]": what may stand at its beginning. */
static void propose_for(struct line *l, const char *what)
{
    const char *word, *at = what;
    size_t len;
    while ((word = help_next_word(&at, &len))) {
        if (word > what && word[-1] == '@') /* proposed with its image */
            continue;
        if (len == 4 && strncmp(word, "FILE", len) == 0)
            strbuf_append(&l->out, FILES "\n");
        for (size_t i = 0; i < ARRAY_SIZE(named); i++)
            if (strlen(named[i].word) == len && strncmp(named[i].word, word, len) == 0)
                propose_names(l, named[i].kind);
    }
}

/* For the n-th word of a usage. Of "MACHINE... SETUP" each word behind the first may be either. */
static void propose_word(struct line *l, const char *usage, int n)
{
    bool many = false;
    for (size_t len; *usage; usage += len + (usage[len] != '\0'), n--) {
        len = strcspn(usage, " ");
        cleanup(free) char *word = strndup(usage, len);
        bool before = many;
        if (!word || word[0] == '|' || strncmp(word, "--", 2) == 0 || strncmp(word, "[--", 3) == 0)
            return;
        many = strstr(word, "...");
        if (n == 0 || many || before)
            propose_for(l, word);
        if (n == 0 || before)
            return;
    }
}

/* ---- the last word ----------------------------------------------------------------------------------------------- */
static void propose_options(struct line *l, const struct option *list)
{
    for (const struct option *o = list; o && o->name; o++) {
        cleanup(strbuf) struct strbuf text = STRBUF_INIT;
        strbuf_appendf(&text, "--%s", o->name);
        propose(l, strbuf_text(&text));
    }
}

static void propose_commands(struct line *l)
{
    const struct command *cmd;
    const char *before = "";
    for (size_t i = 0; (cmd = cli_command_at(i)); i++) {
        const char *name = l->noun ? cmd->verb : cmd->noun;
        if ((cmd->needs & HIDDEN) || !name || strcmp(before, name) == 0 ||
            (l->noun && strcmp(l->noun, cmd->noun) != 0))
            continue;
        propose(l, name);
        before = name;
    }
    if (!l->noun)
        propose(l, "help");
}

static void propose_value(struct line *l)
{
    for (size_t i = 0; i < ARRAY_SIZE(choices); i++)
        if (strcmp(choices[i].option, l->option->name) == 0)
            propose_words(l, choices[i].words);
    propose_for(l, l->option->value);
}

static void propose_all(struct line *l)
{
    const char *equals = strchr(l->last, '=');
    if (l->ended || l->lost)
        return;
    if (!l->option && strncmp(l->last, "--", 2) == 0 && equals) {
        l->option = option_of(l, l->last);
        l->prefix = l->last;
        l->prefix_len = (size_t)(equals + 1 - l->last);
        l->last = equals + 1;
        if (!l->option)
            return;
    }
    if (l->option) {
        if (l->option->value)
            propose_value(l);
    } else if (l->last[0] == '-') {
        propose_options(l, l->command ? l->command->options : NULL);
        propose_options(l, cli_global_options);
    } else if (!l->command) {
        propose_commands(l);
    } else {
        propose_word(l, l->command->usage, l->nwords);
    }
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static int run_complete(struct cli *c, struct err *e)
{
    size_t count = 0;
    while (c->extra[count])
        count++;
    struct line l = {.c = c, .last = count ? c->extra[count - 1] : "", .prefix = "", .out = STRBUF_INIT};
    see_words(&l, c->extra, count ? count - 1 : 0);
    propose_all(&l);
    int r = l.elsewhere    ? 0
            : l.out.failed ? err_sys(e, ENOMEM, "completion")
                           : print_text(strbuf_text(&l.out), e);
    strbuf_release(&l.out);
    return r;
}

const struct command complete_commands[] = {
    {"complete", NULL, run_complete, "-- WORDS", 0, 0, TAKES_EXTRA | HIDDEN, RIGHT_NONE,
     "print what the last of the words may be, for shells", NULL},
    COMMANDS_END,
};
