/* SPDX-License-Identifier: BSD-3-Clause */
/* serve and dhcp: the two commands that stay. serve gives nbdkit its sockets as systemd would, because nbdkit by itself
 * listens on one socket only and sets no keepalive. */
#include "cli/cli.h"
#include "cli/sockets.h"
#include "cli/tls.h"

#include "lib/base/fsutil.h"
#include "nbd-plugin/server-lock.h"
#include "tftp-glue/dhcp.h"
#include "tftp-glue/render.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define LOCK_TRIES_A_SECOND 20
#define LOCK_TRIES (SERVER_LOCK_SECONDS * LOCK_TRIES_A_SECOND)

/* How many sockets systemd opened for this process, which stays it through exec; 0: none. Children are told nothing. */
static size_t activated(void)
{
    uint64_t pid, count = 0;
    struct err e;
    const char *pid_text = getenv("LISTEN_PID"), *count_text = getenv("LISTEN_FDS");
    bool ours = pid_text && count_text && parse_number(pid_text, 1, INT32_MAX, &pid, &e) == 0 &&
                parse_number(count_text, 1, 1024, &count, &e) == 0 && (pid_t)pid == getpid();
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return ours ? count : 0;
}

static int announce_sockets(size_t count, struct err *e)
{
    char pid[16], fds[16];
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    snprintf(fds, sizeof fds, "%zu", count);
    if (setenv("LISTEN_PID", pid, 1) < 0 || setenv("LISTEN_FDS", fds, 1) < 0)
        return err_sys(e, errno, "environment");
    return 0;
}

/* Each machine takes some descriptors; what the host allows at most is enough for a lab. */
static void raise_file_limit(const struct cli *c)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        cli_warn(c, "the limit of open files is not raised: %s", strerror(errno));
}

/* Boot scripts are left to the server's ticker: a kernel that is to be read for one would keep the machines waiting that
 * come back to their disks. */
static int catch_up(struct cli *c, struct err *e)
{
    if (cli_enter(c, e) < 0 || render_tree(&c->conf, e) < 0)
        return -1;
    catalog_close(c->catalog);
    c->catalog = NULL;
    return 0;
}

const char *cli_plugin(void)
{
    const char *plugin = getenv("LABBOOT_PLUGIN");
    return plugin && *plugin ? plugin : PLUGINDIR "/nbdkit-labboot-plugin.so";
}

static int become_nbdkit(struct cli *c, struct err *e)
{
    cleanup(free) char *config = path_format("config=%s", c->conf_path);
    cleanup(free) char *threads = path_format("%u", (unsigned)c->conf.server.threads);
    cleanup(free) char *credentials = tls_option(&c->conf);
    size_t nextra = 0, n = 0;
    while (c->extra[nextra])
        nextra++;
    const char **argv = calloc(nextra + 10, sizeof *argv);
    if (!argv)
        return err_sys(e, ENOMEM, "nbdkit's arguments");
    argv[n++] = "nbdkit";
    argv[n++] = "--foreground";
    argv[n++] = "--threads";
    argv[n++] = threads;
    if (c->conf.server.log_level == CONF_LOG_DEBUG)
        argv[n++] = "--verbose";
    /* Not "require", which the Unix socket would need too: the plugin refuses the others. */
    if (c->conf.access.tls != CONF_TLS_OFF) {
        argv[n++] = "--tls=on";
        argv[n++] = credentials;
    }
    for (size_t i = 0; i < nextra; i++)
        argv[n++] = c->extra[i];
    argv[n++] = cli_plugin();
    argv[n++] = config;
    if (c->relay >= 0)
        fcntl(c->relay, F_SETFD, 0); /* the caller's signals are for nbdkit now */
    execv(NBDKIT_PROGRAM, (char *const *)(uintptr_t)argv);
    int r = err_sys(e, errno, "%s", NBDKIT_PROGRAM);
    free(argv);
    return r;
}

static int run_serve(struct cli *c, struct err *e)
{
    int fds[SOCKETS_MAX];
    size_t count = activated();
    bool ready = count > 0;
    for (unsigned tries = LOCK_TRIES; cli_server_runs(&c->conf) && tries > 0; tries--)
        nanosleep(&(struct timespec){.tv_nsec = 1000000000L / LOCK_TRIES_A_SECOND}, NULL);
    if (cli_server_runs(&c->conf))
        return err_set(e, ERR_STATE, "a server is running already: it holds %s/server.lock",
                       c->conf.server.run_dir);
    if (!path_exists(c->conf.server.run_dir) &&
        (make_dirs(c->conf.server.run_dir, 0755, e) < 0 || rights_give(c->conf.server.run_dir, e) < 0))
        return -1;
    if (!ready && sockets_open(&c->conf, fds, &count, e) < 0)
        return -1;
    raise_file_limit(c);
    if (catch_up(c, e) < 0 || tls_check(&c->conf, e) < 0)
        return -1;
    if ((!ready && sockets_place(fds, count, e) < 0) || announce_sockets(count, e) < 0)
        return -1;
    return become_nbdkit(c, e);
}

static int run_dhcp(struct cli *c, struct err *e)
{
    return dhcp_run(&c->conf, c->conf_path, c->extra, e);
}

const struct command serve_commands[] = {
    {"serve", NULL, run_serve, "[-- NBDKIT OPTIONS]", 0, 0, NEEDS_CONF | TAKES_EXTRA, RIGHT_ADMIN,
     "become nbdkit with labboot's plugin", NULL},
    {"dhcp", NULL, run_dhcp, "[-- DNSMASQ OPTIONS]", 0, 0, NEEDS_CONF | TAKES_EXTRA, RIGHT_ADMIN,
     "run dnsmasq (DHCP and TFTP) with a generated configuration", NULL},
    COMMANDS_END,
};
