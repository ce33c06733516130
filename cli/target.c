/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/target.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static int open_temporary(struct target *t, struct err *e)
{
    t->temporary = path_format("%s.XXXXXX", t->path);
    t->fd = mkostemp(t->temporary, O_CLOEXEC);
    if (t->fd >= 0)
        return 0;
    int r = err_sys(e, errno, "%s", t->path);
    free(steal(&t->temporary));
    return r;
}

/* Standard output may be a device too. */
static int open_stdout(struct target *t, struct err *e)
{
    struct stat st;
    if (fstat(STDOUT_FILENO, &st) < 0)
        return err_sys(e, errno, "standard output");
    t->fd = STDOUT_FILENO;
    t->device = S_ISBLK(st.st_mode);
    return 0;
}

int target_open(const char *path, bool force, struct target *ret, struct err *e)
{
    struct stat st;
    *ret = (struct target){.path = path, .fd = -1};
    if (strcmp(path, "-") == 0)
        return open_stdout(ret, e);
    if (stat(path, &st) < 0) {
        if (errno != ENOENT)
            return err_sys(e, errno, "%s", path);
        if (!path_exists(path)) /* else it is a link to nothing, and would be replaced */
            return open_temporary(ret, e);
    } else if (!S_ISREG(st.st_mode)) {
        ret->device = S_ISBLK(st.st_mode);
        ret->fd = open(path, O_WRONLY | O_CLOEXEC | (ret->device ? O_EXCL : 0));
        return ret->fd < 0 ? err_sys(e, errno, "%s", path) : 0;
    }
    if (!force)
        return err_set(e, ERR_STATE, "%s exists already; try: --force", path);
    return open_temporary(ret, e);
}

int target_check_size(const struct target *t, uint64_t size, struct err *e)
{
    uint64_t room;
    if (!t->device)
        return 0;
    if (ioctl(t->fd, BLKGETSIZE64, &room) < 0)
        return err_sys(e, errno, "%s: size", t->path);
    return room < size ? err_set(e, ERR_FAILED, "%s: smaller than the disk", t->path) : 0;
}

static int finish_file(struct target *t, struct err *e)
{
    mode_t mask = umask(0);
    umask(mask);
    if (fchmod(t->fd, 0666 & ~mask) < 0 || fsync(t->fd) < 0 || rename(t->temporary, t->path) < 0)
        return err_sys(e, errno, "%s", t->path);
    free(steal(&t->temporary));
    return 0;
}

int target_finish(struct target *t, struct err *e)
{
    if (t->temporary)
        return finish_file(t, e);
    if (t->device && fsync(t->fd) < 0)
        return err_sys(e, errno, "%s", t->path);
    return 0;
}

void target_close(struct target *t)
{
    if (t->temporary)
        unlink(t->temporary);
    free(t->temporary);
    if (t->fd > STDERR_FILENO)
        close(t->fd);
}
