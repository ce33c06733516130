/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

/* The user that root becomes; NULL: nobody. */
static const struct passwd *target(void)
{
    return getuid() == 0 ? getpwnam(LABBOOT_USER) : NULL;
}

static int become(const struct passwd *to, uid_t saved_uid, gid_t saved_gid, struct err *e)
{
    if (initgroups(to->pw_name, to->pw_gid) < 0 || setresgid(to->pw_gid, to->pw_gid, saved_gid) < 0 ||
        setresuid(to->pw_uid, to->pw_uid, saved_uid) < 0)
        return err_sys(e, errno, "become the user %s", to->pw_name);
    return 0;
}

int rights_drop(struct err *e)
{
    const struct passwd *to = target();
    return to ? become(to, to->pw_uid, to->pw_gid, e) : 0;
}

int rights_lower(struct err *e)
{
    const struct passwd *to = target();
    return to ? become(to, 0, 0, e) : 0;
}

int rights_regain(struct err *e)
{
    uid_t real, effective, saved;
    if (getresuid(&real, &effective, &saved) < 0 || saved != 0 || real == 0)
        return 0; /* never lowered */
    if (setresuid(0, 0, 0) < 0 || setresgid(0, 0, 0) < 0)
        return err_sys(e, errno, "become root again");
    return 0;
}

int rights_give(const char *path, struct err *e)
{
    const struct passwd *to = target();
    if (to && lchown(path, to->pw_uid, to->pw_gid) < 0)
        return err_sys(e, errno, "%s", path);
    return 0;
}
