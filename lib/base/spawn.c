/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/base/spawn.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define CHILD_FILES 64
/* Room for the tables of a 64 TiB disk and libext2fs's own. */
#define CHILD_MEMORY_MAX (2 * GIB)
/* No program that is run here exits with it; it says that exec failed. */
#define EXIT_EXEC 127
/* More than programs say; the rest is dropped. */
#define SAID_SIZE 4096

static bool limit(int what, uint64_t most)
{
    struct rlimit r = {.rlim_cur = most, .rlim_max = most};
    return setrlimit((__rlimit_resource_t)what, &r) == 0;
}

static bool set_limits(const struct spawn_limits *l)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* Sanitizers map terabytes. */
    if (!limit(RLIMIT_AS, CHILD_MEMORY_MAX))
        return false;
#endif
    return limit(RLIMIT_CPU, l->seconds) && limit(RLIMIT_FSIZE, l->file_bytes) &&
           limit(RLIMIT_NOFILE, CHILD_FILES) && limit(RLIMIT_CORE, 0);
}

struct child_files {
    int in, out, say; /* in, out: -1: nothing */
};

/* Between fork and exec in a process that may have threads: only calls that are async-signal-safe. */
static _Noreturn void become(const char *const *argv, const struct child_files *files, pid_t parent,
                             const struct spawn_limits *limits)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ready = null >= 0 && dup2(files->in < 0 ? null : files->in, 0) == 0 &&
                 dup2(files->out < 0 ? null : files->out, 1) == 1 && dup2(files->say, 2) == 2 &&
                 close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
                 prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && set_limits(limits) &&
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

/* The last line that says something: what comes before it is a banner, or leads there. */
static char *last_line(char *text)
{
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

/* -1 fills *e. */
static pid_t start(const char *const *argv, const struct child_files *files,
                   const struct spawn_limits *limits, struct err *e)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(argv, files, parent, limits);
    if (pid < 0)
        (void)!err_sys(e, errno, "fork");
    return pid;
}

/* Of a program that ended by itself. */
static int check_end(const char *name, int status, struct err *e)
{
    if (WIFSIGNALED(status))
        return err_set(e, ERR_CORRUPT, "%s died of signal %d (%s)", name, WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) == EXIT_EXEC)
        return err_set(e, ERR_FAILED, "%s cannot be run", name);
    return 0;
}

/* Runs the program to its end: *ret_status as of wait(2), *said what it wrote to stderr. */
static int run(const char *const *argv, const struct spawn_limits *limits, char said[SAID_SIZE],
               int *ret_status, struct err *e)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, errno, "pipe");
    cleanup(close) int hear = ends[0];
    cleanup(close) int say = ends[1];
    const struct child_files files = {.in = -1, .out = -1, .say = say};
    pid_t pid = start(argv, &files, limits, e);
    if (pid < 0)
        return -1;
    close(steal_fd(&say));
    bool in_time = listen_to(hear, said, SAID_SIZE, limits->seconds);
    /* Also after it closed the pipe: it must not hold us any longer. */
    if (!in_time)
        kill(pid, SIGKILL);
    if (wait_for(pid, ret_status, e) < 0)
        return -1;
    if (!in_time)
        return err_set(e, ERR_CORRUPT, "%s was killed after %u s", argv[0], limits->seconds);
    return check_end(argv[0], *ret_status, e);
}

int spawn_limited(const char *const *argv, const struct spawn_limits *limits, struct err *e)
{
    int status;
    char said[SAID_SIZE];
    if (run(argv, limits, said, &status, e) < 0)
        return -1;
    int code = WEXITSTATUS(status);
    if (code == 0)
        return 0;
    clean_line(said);
    return err_set_sys(e, code <= ERR_CORRUPT ? (enum errc)code : ERR_FAILED,
                       code == SPAWN_NO_SPACE ? ENOSPC : 0, "%s", *said ? said : "the child gave no reason");
}

/* Not by PATH: tools of administration are not in that of every user. */
static int find_tool(const char *name, const char *package, char **ret, struct err *e)
{
    static const char *const dirs[] = {"/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        cleanup(free) char *path = path_format("%s/%s", dirs[i], name);
        if (access(path, X_OK) == 0) {
            *ret = steal(&path);
            return 0;
        }
    }
    return err_set(e, ERR_FAILED, "there is no program %s here; try: apt-get install %s", name, package);
}

/* Its words, `argv` of SPAWN_ARGUMENTS_MAX + 2, zeroed before. *ret_path is the first. */
static int tool_words(const struct spawn_tool *tool, const char *const *arguments, const char **argv,
                      char **ret_path, struct err *e)
{
    if (find_tool(tool->name, tool->package, ret_path, e) < 0)
        return -1;
    argv[0] = *ret_path;
    for (size_t i = 0; i < SPAWN_ARGUMENTS_MAX && arguments[i]; i++)
        argv[i + 1] = arguments[i];
    return 0;
}

static int check_success(const struct spawn_tool *tool, int status, char *said, struct err *e)
{
    if (WEXITSTATUS(status) <= tool->success || WEXITSTATUS(status) == tool->also)
        return 0;
    char *line = last_line(said);
    clean_line(line);
    return err_set(e, ERR_FAILED, "%s: %s", tool->name, *line ? line : "it gave no reason");
}

int spawn_tool(const struct spawn_tool *tool, const char *const *arguments, const struct spawn_limits *limits,
               struct err *e)
{
    cleanup(free) char *path = NULL;
    const char *argv[SPAWN_ARGUMENTS_MAX + 2] = {NULL};
    char said[SAID_SIZE];
    int status;
    if (tool_words(tool, arguments, argv, &path, e) < 0 || run(argv, limits, said, &status, e) < 0)
        return -1;
    return check_success(tool, status, said, e);
}

/* ---- beside this program ------------------------------------------------------------------------------------------- */

#define ASK_NS 100000000L

/* A file for its stderr: a pipe that nobody reads could stop it. */
int spawn_tool_start(const struct spawn_tool *tool, const char *const *arguments, int in, int out,
                     const struct spawn_limits *limits, struct spawned *ret, struct err *e)
{
    cleanup(free) char *path = NULL;
    const char *argv[SPAWN_ARGUMENTS_MAX + 2] = {NULL};
    cleanup(close) int said = memfd_create("stderr", MFD_CLOEXEC);
    if (said < 0)
        return err_sys(e, errno, "memfd");
    const struct child_files files = {.in = in, .out = out, .say = said};
    if (tool_words(tool, arguments, argv, &path, e) < 0)
        return -1;
    pid_t pid = start(argv, &files, limits, e);
    if (pid < 0)
        return -1;
    *ret = (struct spawned){.tool = tool, .pid = pid, .said = steal_fd(&said)};
    return 0;
}

static void forget(struct spawned *s)
{
    close(s->said);
    *s = (struct spawned){.said = -1};
}

void spawn_tool_kill(struct spawned *s)
{
    int status;
    struct err ignored;
    if (s->pid <= 0)
        return;
    kill(s->pid, SIGKILL);
    (void)!wait_for(s->pid, &status, &ignored);
    forget(s);
}

static int wait_asking(struct spawned *s, int (*go_on)(void *ctx, struct err *e), void *ctx, int *ret_status,
                       struct err *e)
{
    pid_t ended;
    while ((ended = waitpid(s->pid, ret_status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
        if (go_on(ctx, e) < 0)
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = ASK_NS}, NULL);
    }
    return ended < 0 ? err_sys(e, errno, "wait for child") : 0;
}

int spawn_tool_end(struct spawned *s, int (*go_on)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    int status;
    char said[SAID_SIZE];
    if ((go_on ? wait_asking(s, go_on, ctx, &status, e) : wait_for(s->pid, &status, e)) < 0) {
        spawn_tool_kill(s);
        return -1;
    }
    ssize_t n = pread(s->said, said, sizeof said - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    const struct spawn_tool *tool = s->tool;
    forget(s);
    return check_end(tool->name, status, e) < 0 ? -1 : check_success(tool, status, said, e);
}
