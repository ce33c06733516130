/* SPDX-License-Identifier: BSD-3-Clause */
/* All commands, and what --help says of them. */
#include "cli/cli.h"

#include "lib/base/bytes.h"

#include <ctype.h>
#include <string.h>

/* One table a noun, in the order of the help. */
static const struct command *const tables[] = {
    init_commands, config_commands,  apply_commands, serve_commands,  status_commands,
    user_commands, machine_commands, image_commands, setup_commands,  boot_commands,
    log_commands,  gc_commands,      fsck_commands,  doctor_commands, complete_commands,
};

const struct command *cli_command_at(size_t i)
{
    for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
        for (const struct command *cmd = tables[t]; cmd->noun; cmd++)
            if (i-- == 0)
                return cmd;
    return NULL;
}

const struct option cli_global_options[] = {
    {"config", "FILE",
     "the configuration; default: $LABBOOT_CONFIG, then " SYSCONFDIR "/labboot/labboot.conf", false},
    {"json", NULL, "print one JSON value", false},
    {"quiet", NULL, "print no warnings and no progress", false},
    {"as", "USER", "with that user's rights; for admins", false},
    {"help", NULL, "print how a command is used", false},
    {"version", NULL, "print labboot's version", false},
    {NULL, NULL, NULL, false},
};

/* ---- words ----------------------------------------------------------------------------------------------------- */

/* What the words in capitals of a usage mean. */
static const struct {
    const char *word, *meaning;
} meanings[] = {
    {"MACHINE", "a machine: its name, or any of its MACs in any usual spelling"},
    {"MAC", "the address of a network card, in any usual spelling"},
    {"IMAGE", "an image: NAME, OWNER/NAME or its UUID"},
    {"VERSION", "the number of one of its versions; latest, or none: the latest (verify: all)"},
    {"SETUP", "a setup: NAME, OWNER/NAME or its UUID"},
    {"BOOT", "the id of a boot; a machine stands for its running or last one"},
    {"USER", "a user of the catalog"},
    {"NAME", "a name: letters, digits, and . _ - within"},
    {"FILE", "a file; -: standard input or output"},
    {"NBDKIT", "what stands behind -- is for nbdkit(1)"},
    {"DNSMASQ", "what stands behind -- is for dnsmasq(8)"},
    {"WORDS", "the command line so far, behind labboot; the last word is completed"},
};

const char *help_next_word(const char **text, size_t *ret_len)
{
    const char *p = *text;
    while (*p && !isupper((unsigned char)*p))
        p++;
    *ret_len = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    *text = p + *ret_len;
    return *ret_len ? p : NULL;
}

static void help_words(struct strbuf *out, const char *usage)
{
    const char *word, *at = usage;
    size_t len;
    bool any = false;
    while ((word = help_next_word(&at, &len))) {
        for (size_t i = 0; i < ARRAY_SIZE(meanings); i++) {
            if (strlen(meanings[i].word) != len || strncmp(meanings[i].word, word, len) != 0)
                continue;
            strbuf_appendf(out, "%s  %-10s  %s\n", any ? "" : "\nwords:\n", meanings[i].word,
                           meanings[i].meaning);
            any = true;
        }
    }
}

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
int help_print(const char *noun, const char *verb, struct err *e)
{
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    const struct command *cmd, *only = NULL;
    size_t count = 0;
    strbuf_append(&out, "usage: labboot [OPTIONS] COMMAND [WORDS] [OPTIONS]\n\n");
    for (size_t i = 0; (cmd = cli_command_at(i)); i++) {
        if (!noun && (cmd->needs & HIDDEN))
            continue;
        if ((noun && strcmp(noun, cmd->noun) != 0) || (verb && (!cmd->verb || strcmp(verb, cmd->verb) != 0)))
            continue;
        only = cmd;
        count++;
        help_command(&out, only);
    }
    if (count == 0)
        return err_set(e, ERR_USAGE, "'%s' is no command; try: labboot help", noun);
    if (count == 1)
        help_words(&out, only->usage);
    if (count == 1 && only->options)
        help_options(&out, "options", only->options);
    if (!noun)
        help_options(&out, "options of all commands", cli_global_options);
    return print_text(strbuf_text(&out), e);
}
