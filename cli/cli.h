/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CLI_H
#define LABBOOT_CLI_H

/* What all commands share. A command is a row in the table of its noun and a function beside it; it finds its words and
 * options in struct cli, prints its result to stdout and returns -1 with an error, which main prints. */

#include "catalog/query.h"
#include "cli/rules.h"
#include "conf/conf.h"
#include "lib/store/progress.h"

/* ---- commands ------------------------------------------------------------------------------------------------ */
enum {
    NEEDS_CONF = 1,    /* the configuration is loaded */
    NEEDS_CATALOG = 2, /* and root's rights are dropped, and the catalog is open */
    TAKES_EXTRA = 4,   /* words behind "--" are for another program */
    /* The second word is a file to be opened with the caller's own rights, or "-". */
    READS_FILE = 8,
    WRITES_FILE = 16,
    HIDDEN = 32, /* for programs: neither in the overview nor completed */
};

struct option {
    const char *name;  /* without its dashes */
    const char *value; /* what it takes, for the help: "FILE"; NULL: nothing */
    const char *help;
    bool many; /* may be given more than once */
};

struct cli;
struct command {
    const char *noun, *verb; /* verb NULL: the noun alone; noun NULL: the end of the table */
    int (*run)(struct cli *c, struct err *e);
    const char *usage; /* its words, for the help */
    int min, max;      /* how many words it takes */
    unsigned needs;
    enum right right; /* checked before it runs, on the object that its first word names */
    const char *summary;
    const struct option *options; /* the last one's name is NULL; or NULL */
};
#define COMMANDS_END                                                                                         \
    {                                                                                                        \
        .noun = NULL                                                                                         \
    }

#define CLI_WORDS_MAX 1000 /* boot queue takes machines */
#define CLI_OPTIONS_MAX 64

struct given {
    const char *name, *value;
    const char *word, *next; /* as they were given; next: the value that was a word of its own, or NULL */
};

enum caller {
    CALLER_UNKNOWN,
    CALLER_ADMIN, /* by the host's own word: root, the user labboot, who owns the state, the group lab-admin */
    CALLER_USER,  /* may what the catalog's user of that name may */
    CALLER_OUTSIDE, /* may not touch the state, which is the user labboot's: sudo_run */
};

struct cli {
    const struct command *command;
    const char *words[CLI_WORDS_MAX]; /* behind noun and verb */
    int nwords;
    struct given options[CLI_OPTIONS_MAX];
    size_t noptions;
    char **extra; /* NULL-terminated, behind "--" */
    bool json, quiet, help, version;

    char *conf_path; /* absolute; /dev/null where the default file is missing */
    struct conf conf;
    bool conf_loaded;
    struct catalog *catalog;
    enum caller caller;
    int relay;          /* the connection to a caller behind sudo; -1: none */
    int status, signal; /* how the labboot that sudo ran has ended, for this one to end so too */
    /* Who acts: who called, or whom an admin named with --as. Set by cli_enter. */
    enum role role;
    char user[NAME_SIZE];   /* the name; a user of the catalog, but for admins of this host */
    char actor[ACTOR_SIZE]; /* the same for the event trail: "alice", "root as alice" */
};

/* The option's value, "" for one without, NULL when it was not given. */
const char *cli_option(const struct cli *c, const char *name);
/* The i-th value of an option that may be given more than once. */
const char *cli_option_at(const struct cli *c, const char *name, size_t i);

/* ---- help.c --------------------------------------------------------------------------------------------------- */
/* All commands; NULL behind the last one. */
const struct command *cli_command_at(size_t i);
extern const struct option cli_global_options[];
/* Of all commands, of a noun's, or of one. */
int help_print(const char *noun, const char *verb, struct err *e) must_check;
/* The next word in capitals of a usage, and its length; steps over it. NULL: no more. */
const char *help_next_word(const char **text, size_t *ret_len);

/* ---- context.c ------------------------------------------------------------------------------------------------ */
int cli_load_conf(struct cli *c, struct err *e) must_check;
/* Whether --config or LABBOOT_CONFIG names it. */
bool cli_conf_given(const struct cli *c);
/* Drops root's rights for good, opens the catalog, and checks the right of the command. */
int cli_enter(struct cli *c, struct err *e) must_check;
int cli_open_catalog(struct cli *c, struct err *e) must_check;
void cli_release(struct cli *c);
/* For a command of admins that opens no catalog: whether the caller is one. A host's admin needs no catalog for that. */
int cli_check_admin(struct cli *c, struct err *e) must_check;
/* As cli_enter, but rights are lowered only until rights_regain. */
int cli_enter_for_now(struct cli *c, struct err *e) must_check;
/* Who owns what is made: `given`, or where that is NULL the calling user if the catalog knows it, or the only admin. */
int cli_owner(struct cli *c, const char *given, char ret[NAME_SIZE], struct err *e) must_check;
/* Brings the machines' scripts up to date after a change; a failure is a warning. */
void cli_render(struct cli *c);
void cli_warn(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What nbdkit loads. (serve.c) */
const char *cli_plugin(void);
/* Whether a server holds RUN/server.lock. */
bool cli_server_runs(const struct conf *conf);
bool cli_dhcp_runs(const struct conf *conf); /* likewise, `labboot dhcp` */
/* A boot's id, or a machine: its running boot, or the one that ended last. */
int cli_find_boot(struct cli *c, const char *text, struct boot *ret, struct err *e) must_check;
/* IMAGE[@VERSION|@latest][,update], as a setup has it, looked for as image_find does. Checks the right to use the image, or
 * for an update to change it. (setup.c) */
int cli_setup_image(struct cli *c, const char *text, const char *owner, struct setup_image *ret,
                    struct err *e) must_check;
int cli_check_word(const char *what, const char *text, const char *const *allowed, struct err *e) must_check;
/* Of an image that is made or renamed: exports of some names mean something else. */
int cli_check_image_name(const char *name, struct err *e) must_check;

/* ---- caller.c ------------------------------------------------------------------------------------------------- */
/* Who asks through sudo. Before anything is read that a word or the environment names; ERR_DENIED for what may not be
 * asked so. */
int caller_begin(struct cli *c, struct err *e) must_check;
/* All other callers, by whose the state is. */
void caller_settle(struct cli *c);
/* Sets c->role. Needs the catalog, where the host does not say it all. */
int caller_role(struct cli *c, struct err *e) must_check;
bool caller_find_labboot(uid_t *ret);

/* ---- sudo.c ---------------------------------------------------------------------------------------------------- */
#define USERS_GROUP "lab"        /* who may use labboot */
#define ADMINS_GROUP "lab-admin" /* and needs no entry in the catalog for any of it */
/* Has the command done by the user labboot. c->status, c->signal: what it came to. */
int sudo_run(struct cli *c, struct err *e) must_check;

/* ---- rights.c -------------------------------------------------------------------------------------------- */
/* Root's labboot works as the system user labboot, where that exists: files of root would stop the server. */
#define LABBOOT_USER "labboot"
/* For good. Nothing happens for any other caller, or without that user. */
int rights_drop(struct err *e) must_check;
/* Until rights_regain. */
int rights_lower(struct err *e) must_check;
int rights_regain(struct err *e) must_check;
/* Gives a file that root made to that user. */
int rights_give(const char *path, struct err *e) must_check;

/* ---- init.c --------------------------------------------------------------------------------------------------- */
struct init_folder {
    const char *path;
    mode_t mode;
};
#define INIT_FOLDERS 5
/* The i-th folder of the state. */
struct init_folder init_folder(const struct conf *conf, size_t i);

/* The version of what --json prints, and of the schema that says what that is: cli/labboot-json-N.schema.json. */
#define JSON_SCHEMA "1"

/* ---- print.c -------------------------------------------------------------------------------------------------- */
/* A list as columns, one object as lines of NAME value, either as one JSON value with --json. */
int print_query(struct cli *c, enum query q, const char *argument, struct err *e) must_check;
int print_query_of(struct cli *c, enum query q, const char *const words[], struct err *e) must_check;
/* What was made: `id` alone, or the object that `q` shows with --json. */
int print_made(struct cli *c, const char *id, enum query q, const char *argument, struct err *e) must_check;
void print_json_string(struct strbuf *out, const char *text);
int print_text(const char *text, struct err *e) must_check;

/* ---- progress.c ----------------------------------------------------------------------------------------------- */
/* For the one long work of a command: a bar on a terminal, a JSON line a second with --progress json, else nothing.
 * The option is to be checked before anything is made. From progress_begin to progress_end SIGINT, SIGTERM and SIGHUP
 * stop the work, so that it can clean up. */
int progress_option(const struct cli *c, struct err *e) must_check;
struct progress progress_begin(const struct cli *c, const char *what);
void progress_end(void);
/* ERR_FAILED once one of those signals has come: for before the last step. */
int progress_check(struct err *e) must_check;

/* ---- the commands --------------------------------------------------------------------------------------------- */
extern const struct command init_commands[], config_commands[], apply_commands[], serve_commands[],
    status_commands[], user_commands[], machine_commands[], image_commands[], setup_commands[],
    boot_commands[], log_commands[], gc_commands[], fsck_commands[], complete_commands[], doctor_commands[];

/* Those that stand in another file than the table of their noun. */
int run_image_import(struct cli *c, struct err *e); /* import.c */
int run_image_create(struct cli *c, struct err *e); /* create.c */
int run_image_set(struct cli *c, struct err *e);    /* image-change.c */
int run_image_remove(struct cli *c, struct err *e);
/* Of an image whose rows are gone, and whose lock is held: what stays is rubbish, and a warning. */
struct store;
void cli_remove_image_files(struct cli *c, struct store *store, const struct image *image);
int run_image_rollback(struct cli *c, struct err *e);
int run_image_keep(struct cli *c, struct err *e);
extern const struct publish_hooks cli_publish_hooks; /* end.c */
int run_boot_end(struct cli *c, struct err *e);
int run_boot_commit(struct cli *c, struct err *e);
int run_boot_discard(struct cli *c, struct err *e);
int run_boot_resume(struct cli *c, struct err *e);
int run_image_verify(struct cli *c, struct err *e);  /* verify.c */
int run_image_flatten(struct cli *c, struct err *e); /* flatten.c */
extern const struct option image_import_options[], image_verify_options[], image_create_options[],
    image_set_options[], image_remove_options[], image_rollback_options[], image_keep_options[],
    image_flatten_options[], boot_end_options[];
/* Brings the file of a machine's disk in step with what `n` says of it, before its row: a crash between the two leaves a
 * disk that is larger than its row says. machine.c */
int machine_disk_in_step(struct cli *c, const struct machine *m, const struct machine_change *n,
                         struct err *e) must_check;
/* Of a machine whose rows are gone: what fails here is left over, harms nobody, and is a warning. machine.c */
void machine_remove_files(struct cli *c, const struct machine_remains *r);

#endif
