/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_SPAWN_H
#define LABBOOT_SPAWN_H

/* Children that read or make what may be hostile or large: no more than they need of memory, time, files; no core
 * file, no new privileges, no descriptors but what they are to read and write, and a place for what they say; killed when the calling
 * thread ends or the time is over. May be called in a process with threads. */

#include "lib/base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct spawn_limits {
    unsigned seconds;    /* by the clock, and of CPU time */
    uint64_t file_bytes; /* no file may grow longer */
};

/* The exit status that says: sys = ENOSPC. */
#define SPAWN_NO_SPACE 28
/* Runs a program of ours, argv[0] its path. It tells an error as its exit status (enum errc, or that above) and one line on
 * stderr, which fill *e. */
int spawn_limited(const char *const *argv, const struct spawn_limits *limits, struct err *e) must_check;

struct spawn_tool {
    const char *name;    /* "mkfs.ext4": looked for where the system has its tools */
    const char *package; /* that has it, for the message when it is missing */
    int success;         /* the highest exit status that means success */
    int also;            /* another one; 0: there is none */
};
#define SPAWN_ARGUMENTS_MAX 14
/* Runs a tool of the system; `arguments` are NULL-terminated, without the program's name. Its last line on stderr is the
 * message (ERR_FAILED). */
int spawn_tool(const struct spawn_tool *tool, const char *const *arguments, const struct spawn_limits *limits,
               struct err *e) must_check;

/* A tool that runs beside this program, from `in` to `out` (-1: nothing; both stay the caller's). It is killed with the thread
 * that started it. */
struct spawned {
    const struct spawn_tool *tool;
    pid_t pid; /* 0: none */
    int said;  /* its stderr */
};
/* limits->seconds is of CPU time alone; file_bytes goes for `out` too, where that is a file. `tool` outlives it. */
int spawn_tool_start(const struct spawn_tool *tool, const char *const *arguments, int in, int out,
                     const struct spawn_limits *limits, struct spawned *ret, struct err *e) must_check;
/* Waits for its end; errors as of spawn_tool. `go_on` (may be NULL) is asked some times a second: when it fails, with its
 * reason, the tool is killed. */
int spawn_tool_end(struct spawned *s, int (*go_on)(void *ctx, struct err *e), void *ctx,
                   struct err *e) must_check;
/* Kills it, if it still runs. */
void spawn_tool_kill(struct spawned *s);

#endif
