/* SPDX-License-Identifier: BSD-3-Clause */
/* The state belongs to the user labboot: others' commands are done by a labboot that sudo runs as that user. It is given
 * the same words, but no file by name: those are opened here, with the caller's own rights, and are its standard input or
 * output. */
#include "cli/cli.h"
#include "cli/relay.h"
#include "cli/target.h"

#include "lib/base/fsutil.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* By the groups of this process, as sudo itself goes by. */
static bool in_group(const char *name)
{
    const struct group *g = getgrnam(name);
    return g && (group_member(g->gr_gid) || getegid() == g->gr_gid);
}

/* The same configuration by another way is the same. */
static bool other_conf(const struct cli *c)
{
    return cli_conf_given(c) && strcmp(c->conf_path, SYSCONFDIR "/labboot/labboot.conf") != 0;
}

static int check_caller(const struct cli *c, struct err *e)
{
    bool admin = in_group(ADMINS_GROUP);
    if (!admin && !in_group(USERS_GROUP))
        return err_set(e, ERR_DENIED,
                       "%s is not in the group " USERS_GROUP
                       "; try: ask an admin for: adduser %s " USERS_GROUP ", and log in again",
                       c->user, c->user);
    if (!admin && other_conf(c))
        return err_set(e, ERR_DENIED, "%s: another configuration is for members of the group " ADMINS_GROUP,
                       c->conf_path);
    return 0;
}

/* ---- its words --------------------------------------------------------------------------------------------------- */

#define FIXED_WORDS 16 /* of sudo, the global options, noun and verb, "--" and the end */

struct words {
    const char *list[FIXED_WORDS + CLI_WORDS_MAX + 2 * CLI_OPTIONS_MAX];
    size_t count;
};

static void add(struct words *w, const char *word)
{
    if (word)
        w->list[w->count++] = word;
}

/* "-" for the word that names a file. */
static void add_command(struct words *w, const struct cli *c)
{
    bool takes_file = c->command->needs & (READS_FILE | WRITES_FILE);
    add(w, c->command->noun);
    add(w, c->command->verb);
    for (size_t i = 0; i < c->noptions; i++) {
        if (strcmp(c->options[i].name, "config") == 0)
            continue;
        add(w, c->options[i].word);
        add(w, c->options[i].next);
    }
    for (int i = 0; i < c->nwords; i++)
        add(w, takes_file && i == 1 ? "-" : c->words[i]);
}

/* Malloc'ed, with what stands behind "--" and the NULL. */
static const char **make_argv(const struct cli *c, const char *program)
{
    static const char *const sudo[] = {"sudo", "-n", "-u", LABBOOT_USER, "--"};
    struct words w = {.count = 0};
    size_t nextra = 0, nsudo = sizeof sudo / sizeof *sudo;
    while (c->extra[nextra])
        nextra++;
    const char **argv = calloc(sizeof w.list / sizeof *w.list + nextra, sizeof *argv);
    if (!argv)
        return NULL;
    for (size_t i = 0; i < nsudo; i++)
        add(&w, sudo[i]);
    add(&w, program);
    add(&w, other_conf(c) ? "--config" : NULL);
    add(&w, other_conf(c) ? c->conf_path : NULL);
    add(&w, c->json ? "--json" : NULL);
    add(&w, c->quiet ? "--quiet" : NULL);
    add_command(&w, c);
    add(&w, nextra ? "--" : NULL);
    memcpy(argv, w.list, w.count * sizeof *argv);
    memcpy(argv + w.count, c->extra, nextra * sizeof *argv);
    return argv;
}

/* ---- running it ---------------------------------------------------------------------------------------------------- */

static int spawn(const char **argv, int in, int out, const sigset_t *mask, pid_t *ret)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, mask);
    int r = posix_spawnp(ret, argv[0], &files, &attributes, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return r;
}

static int run_relayed(struct relay *r, const char **argv, int in, int out, int *ret_status, struct err *e)
{
    pid_t child;
    int errnum = spawn(argv, in, out, &r->before, &child);
    if (errnum == ENOENT)
        return err_set(e, ERR_FAILED,
                       "there is no sudo here, which labboot needs; try: ask an admin to install it");
    if (errnum)
        return err_sys(e, errnum, "sudo");
    return relay_wait(r, child, ret_status, e);
}

/* 0: the command was done. Else c->status is what it came to; -1 is for what went wrong here. */
static int run(struct cli *c, int in, int out, struct err *e)
{
    struct relay relay;
    uid_t labboot = 0;
    int status = 0;
    cleanup(free) char *program = realpath("/proc/self/exe", NULL);
    if (!program)
        return err_sys(e, errno, "/proc/self/exe");
    cleanup(free) const char **argv = make_argv(c, program);
    if (!argv)
        return err_sys(e, ENOMEM, "sudo's words");
    (void)caller_find_labboot(&labboot);
    if (relay_begin(&relay, labboot, e) < 0)
        return -1;
    int r = run_relayed(&relay, argv, in, out, &status, e);
    relay_end(&relay);
    if (r < 0)
        return -1;
    if (WIFSIGNALED(status)) {
        c->signal = relay.signal ? relay.signal : WTERMSIG(status);
        return 0;
    }
    c->status = WEXITSTATUS(status);
    /* Its own failures come after it has called. */
    if (c->status == 1 && !relay.heard && relay.listener >= 0)
        return err_set(e, ERR_DENIED, "sudo did not run %s as " LABBOOT_USER "; try: see labboot-user(1)",
                       program);
    return 0;
}

static bool failed(const struct cli *c)
{
    return c->status || c->signal;
}

static int run_with_input(struct cli *c, struct err *e)
{
    cleanup(close) int fd = open(c->words[1], O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "%s", c->words[1]) : run(c, fd, STDOUT_FILENO, e);
}

/* An export prints the image with --json, when the disk is where it belongs. */
static int show_image(struct cli *c, struct err *e)
{
    static const struct command show = {.noun = "image", .verb = "show"};
    cleanup(free) char *name = strndup(c->words[0], strcspn(c->words[0], "@"));
    if (!name)
        return err_sys(e, ENOMEM, "image");
    c->command = &show;
    size_t kept = 0;
    for (size_t i = 0; i < c->noptions; i++)
        if (strcmp(c->options[i].name, "as") == 0)
            c->options[kept++] = c->options[i];
    c->noptions = kept;
    c->words[0] = name;
    c->nwords = 1;
    c->json = true;
    return run(c, STDIN_FILENO, STDOUT_FILENO, e);
}

static int run_with_output(struct cli *c, struct err *e)
{
    struct target t;
    bool json = c->json;
    if (target_open(c->words[1], cli_option(c, "force"), &t, e) < 0)
        return -1;
    c->json = false;
    int r = run(c, STDIN_FILENO, t.fd, e);
    if (r == 0 && !failed(c))
        r = target_finish(&t, e);
    target_close(&t);
    return r == 0 && !failed(c) && json ? show_image(c, e) : r;
}

int sudo_run(struct cli *c, struct err *e)
{
    if (check_caller(c, e) < 0)
        return -1;
    bool file = c->nwords > 1 && strcmp(c->words[1], "-") != 0;
    if (file && (c->command->needs & READS_FILE))
        return run_with_input(c, e);
    if (file && (c->command->needs & WRITES_FILE))
        return run_with_output(c, e);
    return run(c, STDIN_FILENO, STDOUT_FILENO, e);
}
