/* SPDX-License-Identifier: BSD-3-Clause */
/* Who calls, by the host's own word. A program that runs as the user labboot believes sudo's SUDO_UID, since only sudo lets
 * others run it as that user; nobody else's is looked at. What reaches such a program from a user who is no admin is not to
 * be trusted: the words, the environment, the file descriptors 0 to 2, umask and limits. */
#include "cli/cli.h"
#include "cli/relay.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

bool caller_find_labboot(uid_t *ret)
{
    const struct passwd *pw = getpwnam(LABBOOT_USER);
    if (pw)
        *ret = pw->pw_uid;
    return pw;
}

static void note(struct cli *c, enum caller caller, uid_t uid, const char *name)
{
    const struct passwd *pw = name && *name ? NULL : getpwuid(uid);
    c->caller = caller;
    if (name && *name)
        snprintf(c->user, sizeof c->user, "%s", name);
    else if (pw)
        snprintf(c->user, sizeof c->user, "%s", pw->pw_name);
    else
        snprintf(c->user, sizeof c->user, "uid %u", (unsigned)uid);
}

/* By the host's data base: of another user than this process's. */
static int is_host_admin(const char *name, gid_t gid, bool *ret, struct err *e)
{
    const struct group *g = getgrnam(ADMINS_GROUP);
    gid_t admins = g ? g->gr_gid : 0;
    int count = 0;
    *ret = false;
    if (!g)
        return 0;
    getgrouplist(name, gid, NULL, &count);
    cleanup(free) gid_t *groups = calloc((size_t)count, sizeof *groups);
    if (!groups)
        return err_sys(e, ENOMEM, "groups");
    count = getgrouplist(name, gid, groups, &count);
    for (int i = 0; i < count; i++)
        *ret |= groups[i] == admins;
    return 0;
}

/* What the caller may have set up, or the configuration of sudo let through. */
static void leave_callers_world(void)
{
    unsetenv("LABBOOT_CONFIG");
    unsetenv("LABBOOT_PLUGIN");
    unsetenv("LABBOOT_LIBEXECDIR");
    umask(022); /* 0777 would make folders that labboot itself could not enter */
    signal(SIGCHLD, SIG_DFL);
}

/* Words that would have this process open what the caller may not. */
static int check_words(const struct cli *c, struct err *e)
{
    bool takes_file = c->command->needs & (READS_FILE | WRITES_FILE);
    if (takes_file && strcmp(c->words[1], "-") != 0)
        return err_set(e, ERR_DENIED, "%s: through sudo a file is standard input or output; try: -",
                       c->words[1]);
    if (c->caller != CALLER_ADMIN && cli_option(c, "config"))
        return err_set(e, ERR_DENIED, "--config is for members of the group " ADMINS_GROUP);
    return 0;
}

static int come_from_sudo(struct cli *c, uid_t uid, struct err *e)
{
    bool admin;
    const struct passwd *pw = getpwuid(uid);
    /* A name that is cut might be another's. */
    if (!pw || strlen(pw->pw_name) >= sizeof c->user)
        return err_set(e, ERR_DENIED, "uid %u has no name here that labboot could know", (unsigned)uid);
    snprintf(c->user, sizeof c->user, "%s", pw->pw_name);
    if (is_host_admin(c->user, pw->pw_gid, &admin, e) < 0)
        return -1;
    c->caller = admin ? CALLER_ADMIN : CALLER_USER;
    c->relay = relay_connect(uid);
    leave_callers_world();
    return check_words(c, e);
}

int caller_begin(struct cli *c, struct err *e)
{
    uid_t labboot;
    uint64_t uid;
    const char *sudo = getenv("SUDO_UID");
    if (!caller_find_labboot(&labboot) || getuid() != labboot)
        return 0;
    if (sudo && parse_number(sudo, 0, UINT32_MAX - 1, &uid, e) < 0)
        return err_set(e, ERR_DENIED, "SUDO_UID is no uid");
    if (sudo && uid != 0 && uid != labboot)
        return come_from_sudo(c, (uid_t)uid, e);
    /* Services, cron, and root itself. */
    note(c, CALLER_ADMIN, sudo ? (uid_t)uid : labboot, NULL);
    return 0;
}

void caller_settle(struct cli *c)
{
    struct stat st = {.st_uid = 0};
    uid_t labboot, uid = getuid();
    if (c->caller != CALLER_UNKNOWN)
        return;
    bool exists = stat(c->conf.server.state_dir, &st) == 0 || errno != ENOENT;
    if (uid == 0)
        note(c, CALLER_ADMIN, 0, getenv("SUDO_USER"));
    else if (!caller_find_labboot(&labboot) || !exists || st.st_uid == uid)
        note(c, CALLER_ADMIN, uid, NULL);
    else
        note(c, st.st_uid == labboot ? CALLER_OUTSIDE : CALLER_USER, uid, NULL);
}

int caller_role(struct cli *c, struct err *e)
{
    struct user user;
    c->role = ROLE_ADMIN;
    if (c->caller == CALLER_ADMIN)
        return 0;
    if (user_get(c->catalog, c->user, &user, e) == 0) {
        c->role = user.role;
        return 0;
    }
    if (e->code != ERR_NOT_FOUND && e->code != ERR_USAGE)
        return -1;
    return err_set(e, ERR_DENIED,
                   "%s is no user of labboot; try: ask an admin for: labboot user add %s --email ADDRESS",
                   c->user, c->user);
}
