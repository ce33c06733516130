/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/spawn.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define CHILD_FILE_MAX (512 * MIB)
#define CHILD_FILES 64
/* Room for the tables of a 64 TiB disk and libext2fs's own. */
#define CHILD_MEMORY_MAX (2 * GIB)
/* No program of ours exits with it; it says that exec failed. */
#define EXIT_EXEC 127

static bool limit(int what, uint64_t most)
{
    struct rlimit r = {.rlim_cur = most, .rlim_max = most};
    return setrlimit((__rlimit_resource_t)what, &r) == 0;
}

static bool set_limits(unsigned seconds)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* Sanitizers map terabytes. */
    if (!limit(RLIMIT_AS, CHILD_MEMORY_MAX))
        return false;
#endif
    return limit(RLIMIT_CPU, seconds) && limit(RLIMIT_FSIZE, CHILD_FILE_MAX) &&
           limit(RLIMIT_NOFILE, CHILD_FILES) && limit(RLIMIT_CORE, 0);
}

/* Between fork and exec in a process that may have threads: only calls that are async-signal-safe. */
static _Noreturn void become(const char *const *argv, int say, pid_t parent, unsigned seconds)
{
    sigset_t none;
    sigemptyset(&none);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ready = null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 && dup2(say, 2) == 2 &&
                 close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
                 prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && set_limits(seconds) &&
                 sigprocmask(SIG_SETMASK, &none, NULL) == 0;
    /* The parent may have gone before PDEATHSIG was set. */
    if (ready && getppid() == parent)
        execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(EXIT_EXEC);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Collects what the child says until it closes its end. False: the time is over. What does not fit is
 * dropped. */
static bool listen_to(int fd, char *text, size_t size, unsigned seconds)
{
    int64_t deadline = now_ms() + (int64_t)seconds * 1000;
    size_t len = 0;
    text[0] = '\0';
    for (;;) {
        int64_t left = deadline - now_ms();
        if (left <= 0)
            return false;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)left) <= 0)
            continue;
        char buf[256];
        ssize_t n = read(fd, buf, sizeof buf);
        if (n == 0 || (n < 0 && errno != EINTR))
            return true;
        for (ssize_t i = 0; i < n && len + 1 < size; i++)
            text[len++] = buf[i];
        text[len] = '\0';
    }
}

static int wait_for(pid_t pid, int *ret_status, struct err *e)
{
    while (waitpid(pid, ret_status, 0) < 0)
        if (errno != EINTR)
            return err_sys(e, errno, "wait for child");
    return 0;
}

/* The first line, with what is not printable replaced: it may quote the disk. */
static void clean_line(char *text)
{
    text[strcspn(text, "\n")] = '\0';
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

static int judge(const char *program, int status, char *said, struct err *e)
{
    clean_line(said);
    if (WIFSIGNALED(status))
        return err_set(e, ERR_CORRUPT, "%s died of signal %d (%s)", program, WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    int code = WEXITSTATUS(status);
    if (code == 0)
        return 0;
    if (code == EXIT_EXEC)
        return err_set(e, ERR_FAILED, "%s cannot be run%s%s", program, *said ? ": " : "", said);
    return err_set(e, code <= ERR_CORRUPT ? (enum errc)code : ERR_FAILED, "%s",
                   *said ? said : "the child gave no reason");
}

int spawn_limited(const char *const *argv, unsigned seconds, struct err *e)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, errno, "pipe");
    cleanup(close) int hear = ends[0];
    cleanup(close) int say = ends[1];
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return err_sys(e, errno, "fork");
    if (pid == 0)
        become(argv, say, parent, seconds);
    close(steal_fd(&say));
    char said[sizeof e->msg];
    bool in_time = listen_to(hear, said, sizeof said, seconds);
    /* Also after it closed the pipe: it must not hold us any longer. */
    if (!in_time)
        kill(pid, SIGKILL);
    int status;
    if (wait_for(pid, &status, e) < 0)
        return -1;
    if (!in_time)
        return err_set(e, ERR_CORRUPT, "%s was killed after %u s", argv[0], seconds);
    return judge(argv[0], status, said, e);
}
