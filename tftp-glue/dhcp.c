/* SPDX-License-Identifier: BSD-3-Clause */
/* dnsmasq reads its file of fixed addresses again at SIGHUP only, which needs root: hence a small parent that stays. */
#include "tftp-glue/dhcp.h"
#include "tftp-glue/bootplan.h"
#include "tftp-glue/dnsmasq-conf.h"
#include "tftp-glue/ra.h"
#include "tftp-glue/render.h"
#include "tftp-glue/tree.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"

#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Milliseconds between two looks at the catalog. */
#define LOOK_MS 500

/* Who owns the state folder; `differs` when this process is root and that is somebody else. */
struct owner {
    uid_t uid;
    gid_t gid;
    bool differs;
    char name[64];
};

static int find_owner(const struct conf *conf, struct owner *ret, struct err *e)
{
    struct stat st;
    if (stat(conf->server.state_dir, &st) < 0)
        return err_sys(e, errno, "%s", conf->server.state_dir);
    struct owner o = {.uid = st.st_uid, .gid = st.st_gid, .differs = geteuid() == 0 && st.st_uid != 0};
    const struct passwd *pw = getpwuid(st.st_uid);
    if (o.differs && !pw)
        return err_set(e, ERR_FAILED, "%s belongs to user %u, who does not exist", conf->server.state_dir,
                       (unsigned)st.st_uid);
    if (pw)
        snprintf(o.name, sizeof o.name, "%s", pw->pw_name);
    *ret = o;
    return 0;
}

static int act_as_owner(const struct owner *o, struct err *e)
{
    if (o->differs && (setegid(o->gid) < 0 || seteuid(o->uid) < 0))
        return err_sys(e, errno, "become user %s", o->name);
    return 0;
}

static int act_as_root(const struct owner *o, struct err *e)
{
    if (o->differs && (seteuid(0) < 0 || setegid(0) < 0))
        return err_sys(e, errno, "become root again");
    return 0;
}

/* dnsmasq's user and the hook's read it. */
static int make_run_dir(const struct conf *conf, const struct owner *o, struct err *e)
{
    bool there = path_exists(conf->server.run_dir);
    if (make_dirs(conf->server.run_dir, 0755, e) < 0)
        return -1;
    if (!there && o->differs && chown(conf->server.run_dir, o->uid, o->gid) < 0)
        return err_sys(e, errno, "%s", conf->server.run_dir);
    return 0;
}

static int write_conf(const struct conf *conf, const struct owner *o, struct err *e)
{
    cleanup(free) char *hook = tree_program("labboot-dhcp-hook");
    cleanup(free) char *path = dnsmasq_conf_path(conf);
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    struct dnsmasq_setting s = {
        .hook = hook,
        .user = getpwnam("dnsmasq") ? "dnsmasq" : NULL,
        .script_user = o->differs ? o->name : NULL,
    };
    if (bootplan_server(conf, &s.server, e) < 0 || dnsmasq_conf(conf, &s, &text, e) < 0)
        return -1;
    return atomic_replace(path, NULL, text.s, text.len, 0644, e);
}

struct dhcp {
    const struct conf *conf;
    const char *conf_path;
    int64_t generation; /* of the file: see reload_ask */
    struct owner owner;
    struct catalog *catalog;
    struct strbuf hosts;   /* the fixed addresses that dnsmasq was told last */
    uint64_t data_version; /* of the catalog when they were read */
    int signals;           /* a signalfd of SIGTERM, SIGINT and SIGCHLD */
    int solicitors;        /* for ra_answer; -1: none */
    sigset_t mask_before;
    pid_t dnsmasq; /* 0: none, or waited for */
    bool asked;    /* to end */
};

static int add_host(void *ctx, const struct mac *mac, const struct in6_addr *address,
                    const char *machine_name, struct err *e)
{
    struct strbuf *out = ctx;
    dnsmasq_add_host(out, mac, address, machine_name);
    return out->failed ? err_sys(e, ENOMEM, "fixed addresses") : 0;
}

/* Writes the file when it would differ; *ret_changed tells. */
static int update_hosts(struct dhcp *d, bool *ret_changed, struct err *e)
{
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    cleanup(free) char *path = dnsmasq_hosts_path(d->conf);
    if (address_each(d->catalog, add_host, &text, e) < 0)
        return -1;
    *ret_changed = strcmp(strbuf_text(&text), strbuf_text(&d->hosts)) != 0;
    if (!*ret_changed)
        return 0;
    if (atomic_replace(path, NULL, strbuf_text(&text), text.len, 0644, e) < 0)
        return -1;
    strbuf_release(&d->hosts);
    d->hosts = text;
    text = (struct strbuf)STRBUF_INIT;
    return 0;
}

/* Everything on disk that machines and dnsmasq read. As the owner. */
static int prepare(struct dhcp *d, struct err *e)
{
    cleanup(free) char *hosts = dnsmasq_hosts_path(d->conf);
    bool changed;
    /* The address of the interface or the configuration may be others than at the last start; and after a crash of the host
     * a script may not be whole. */
    if (render_tree(d->conf, e) < 0 || script_want_all(d->catalog, e) < 0 ||
        render_scripts(d->catalog, d->conf, e) < 0)
        return -1;
    if (write_conf(d->conf, &d->owner, e) < 0 || atomic_replace(hosts, NULL, "", 0, 0644, e) < 0)
        return -1;
    if (catalog_data_version(d->catalog, &d->data_version, e) < 0 ||
        reload_generation(d->catalog, &d->generation, e) < 0)
        return -1;
    return update_hosts(d, &changed, e);
}

static char **make_argv(const struct conf *conf, char **extra)
{
    size_t n = 0;
    while (extra && extra[n])
        n++;
    char **argv = calloc(n + 4, sizeof *argv);
    if (!argv)
        return NULL;
    cleanup(free) char *path = dnsmasq_conf_path(conf);
    argv[0] = path_format("%s", DNSMASQ_PROGRAM);
    argv[1] = path_format("--conf-file=%s", path);
    argv[2] = path_format("--keep-in-foreground");
    for (size_t i = 0; i < n; i++)
        argv[3 + i] = extra[i];
    return argv;
}

static void free_argv(char **argv)
{
    for (size_t i = 0; argv && i < 3; i++)
        free(argv[i]);
    free(argv);
}
DEFINE_CLEANUP(argv, char *, free_argv);

/* As root. */
static int start_dnsmasq(struct dhcp *d, char **extra, struct err *e)
{
    cleanup(argv) char **argv = make_argv(d->conf, extra);
    if (!argv)
        return err_sys(e, ENOMEM, "start of dnsmasq");
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return err_sys(e, errno, "fork");
    if (pid > 0) {
        d->dnsmasq = pid;
        return 0;
    }
    if (sigprocmask(SIG_SETMASK, &d->mask_before, NULL) == 0 && prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 &&
        getppid() == parent)
        execv(argv[0], argv);
    dprintf(2, "labboot: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int send_signal(const struct dhcp *d, int signal, struct err *e)
{
    if (act_as_root(&d->owner, e) < 0)
        return -1;
    /* Not waited for yet, so the pid is still its own. */
    if (kill(d->dnsmasq, signal) < 0)
        return err_sys(e, errno, "signal to dnsmasq");
    return act_as_owner(&d->owner, e);
}

static void note_restart(void *ctx, const char *name, unsigned restart)
{
    struct strbuf *out = ctx;
    if (restart & CONF_RESTART_DHCP)
        strbuf_appendf(out, "%s%s", out->len ? ", " : "", name);
}

/* What dnsmasq was started with stays; the rest of the file is for the server, and whoever says that the file was changed
 * renders the scripts. */
static int say_restart(const struct dhcp *d, struct err *e)
{
    struct conf file;
    cleanup(strbuf) struct strbuf keys = STRBUF_INIT;
    if (conf_load(d->conf_path, &file, NULL, NULL, e) < 0)
        return -1;
    conf_compare(d->conf, &file, note_restart, &keys);
    conf_release(&file);
    if (keys.len)
        log_warning("labboot dhcp needs a restart for what changed in the configuration: %s",
                    strbuf_text(&keys));
    return 0;
}

/* When an admin said that the configuration was changed. */
static void look_at_conf(struct dhcp *d)
{
    struct err e;
    int64_t now;
    if (reload_generation(d->catalog, &now, &e) < 0) {
        log_warning("catalog: %s", e.msg);
        return;
    }
    bool same = now == d->generation;
    d->generation = now;
    if (!same && say_restart(d, &e) < 0)
        log_warning("configuration: %s", e.msg);
}

/* After a change of the catalog. An error there is no reason to stop giving addresses: said, and tried again. */
static int look(struct dhcp *d, struct err *e)
{
    uint64_t now;
    bool changed = false;
    struct err soft;
    if (catalog_data_version(d->catalog, &now, &soft) < 0) {
        log_warning("catalog: %s", soft.msg);
        return 0;
    }
    if (now == d->data_version)
        return 0;
    look_at_conf(d);
    if (update_hosts(d, &changed, &soft) < 0) {
        log_warning("fixed addresses: %s", soft.msg);
        return 0;
    }
    d->data_version = now;
    return changed ? send_signal(d, SIGHUP, e) : 0;
}

static int judge(int status, bool asked, struct err *e)
{
    if (WIFSIGNALED(status) && !(asked && (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGINT)))
        return err_set(e, ERR_FAILED, "dnsmasq died of signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        return err_set(e, ERR_FAILED, "dnsmasq ended with status %d", WEXITSTATUS(status));
    return asked ? 0 : err_set(e, ERR_FAILED, "dnsmasq ended by itself");
}

/* Whether a request to end came; several at once are one. */
static bool was_asked(struct dhcp *d)
{
    struct signalfd_siginfo info;
    bool asked = false;
    while (read(d->signals, &info, sizeof info) == (ssize_t)sizeof info)
        asked = asked || info.ssi_signo != SIGCHLD;
    d->asked = d->asked || asked;
    return asked;
}

/* Until dnsmasq has ended. */
static int watch(struct dhcp *d, struct err *e)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = d->signals, .events = POLLIN}, {.fd = d->solicitors, .events = POLLIN}};
        poll(p, 2, LOOK_MS);
        /* Before the look at dnsmasq, which a terminal's Ctrl-C may have ended too. */
        bool end = was_asked(d);
        int status;
        if (waitpid(d->dnsmasq, &status, WNOHANG) == d->dnsmasq) {
            d->dnsmasq = 0;
            return judge(status, d->asked, e);
        }
        if (p[1].revents)
            ra_answer(d->solicitors);
        if (end && send_signal(d, SIGTERM, e) < 0)
            return -1;
        if (!d->asked && look(d, e) < 0)
            return -1;
    }
}

/* When this process cannot go on. */
static void stop_dnsmasq(struct dhcp *d)
{
    struct err ignored;
    int status;
    if (d->dnsmasq != 0 && send_signal(d, SIGTERM, &ignored) == 0)
        while (waitpid(d->dnsmasq, &status, 0) < 0 && errno == EINTR)
            continue;
}

static int block_signals(struct dhcp *d, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, &d->mask_before) < 0)
        return err_sys(e, errno, "signal mask");
    d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return d->signals < 0 ? err_sys(e, errno, "signalfd") : 0;
}

/* Boots only get slower without. As root. */
static void open_solicitors(struct dhcp *d)
{
    struct err e;
    if (d->conf->network.mode != CONF_MODE_NONE &&
        ra_open(d->conf->network.interface, &d->solicitors, &e) < 0)
        log_warning("iPXE will wait for an IPv6 router: %s", e.msg);
}

/* The hook runs as dnsmasq's child, in its environment. */
static int tell_hook(const char *conf_path, struct err *e)
{
    char path[PATH_MAX];
    if (!realpath(conf_path, path))
        return err_sys(e, errno, "%s", conf_path);
    if (setenv("LABBOOT_CONFIG", path, 1) < 0)
        return err_sys(e, errno, "environment");
    return 0;
}

char *dhcp_lock_path(const struct conf *conf)
{
    return path_format("%s/dhcp.lock", conf->server.run_dir);
}

static int take_lock(const struct conf *conf, int *ret, struct err *e)
{
    cleanup(free) char *path = dhcp_lock_path(conf);
    if (lock_file(path, false, ret, e) == 0)
        return 0;
    return e->code == ERR_STATE
               ? err_set(e, ERR_STATE, "a labboot dhcp is running already: it holds %s", path)
               : -1;
}

static int run(struct dhcp *d, char **extra_args, struct err *e)
{
    cleanup(free) char *catalog_path = conf_catalog_path(d->conf);
    cleanup(close) int lock = -1;
    if (find_owner(d->conf, &d->owner, e) < 0 || make_run_dir(d->conf, &d->owner, e) < 0 ||
        act_as_owner(&d->owner, e) < 0 || take_lock(d->conf, &lock, e) < 0 ||
        catalog_open(catalog_path, CATALOG_FULL, &d->catalog, e) < 0 || prepare(d, e) < 0 ||
        act_as_root(&d->owner, e) < 0 || block_signals(d, e) < 0)
        return -1;
    open_solicitors(d);
    if (start_dnsmasq(d, extra_args, e) < 0 || act_as_owner(&d->owner, e) < 0)
        return -1;
    return watch(d, e);
}

int dhcp_run(const struct conf *conf, const char *conf_path, char **extra_args, struct err *e)
{
    struct dhcp d = {.conf = conf, .conf_path = conf_path, .signals = -1, .solicitors = -1};
    if (tell_hook(conf_path, e) < 0)
        return -1;
    int rc = run(&d, extra_args, e);
    stop_dnsmasq(&d);
    catalog_close(d.catalog);
    strbuf_release(&d.hosts);
    cleanup_close(&d.signals);
    cleanup_close(&d.solicitors);
    return rc;
}
