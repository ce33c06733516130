/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/bootplan.h"

#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static const struct in6_addr unset;

bool ip_is_unset(const struct in6_addr *a)
{
    return memcmp(a, &unset, sizeof *a) == 0;
}

static void map_ipv4(const struct sockaddr *sa, struct in6_addr *ret)
{
    struct sockaddr_in in;
    memcpy(&in, sa, sizeof in);
    *ret = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(ret->s6_addr + 12, &in.sin_addr, 4);
}

int bootplan_server(const struct conf *conf, struct in6_addr *ret, struct err *e)
{
    if (!ip_is_unset(&conf->network.next_server)) {
        *ret = conf->network.next_server;
        return 0;
    }
    const char *name = conf->network.interface;
    if (!name || !*name)
        return err_set(e, ERR_STATE, "neither [network] interface nor next-server is set");
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0)
        return err_sys(e, errno, "list of interfaces");
    bool found = false;
    for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && strcmp(i->ifa_name, name) == 0) {
            map_ipv4(i->ifa_addr, ret);
            found = true;
        }
    }
    freeifaddrs(all);
    return found ? 0 : err_set(e, ERR_STATE, "interface %s has no IPv4 address", name);
}

static const char *ip_or_empty(const struct in6_addr *a, char buf[IP_TEXT_SIZE])
{
    if (ip_is_unset(a))
        buf[0] = '\0';
    else
        format_ip(a, buf);
    return buf;
}

/* A static address saves the machine 10 s against asking DHCP again. */
static void add_address(struct strbuf *out, const struct conf *conf, const struct bootplan *p,
                        const struct in6_addr *address)
{
    if (ip_is_unset(address)) {
        strbuf_append(out, " ip=dhcp");
        return;
    }
    char ip[IP_TEXT_SIZE], router[IP_TEXT_SIZE], mask[IP_TEXT_SIZE];
    strbuf_appendf(out, " ip=%s::%s:%s:%s:eth0:off", format_ip(address, ip),
                   ip_or_empty(&conf->network.router, router), ip_or_empty(&conf->network.netmask, mask),
                   p->machine);
}

static void add_arguments(struct bootplan *p, const struct conf *conf, const char *token,
                          const struct bootplan_network *net)
{
    char dashes[MAC_TEXT_SIZE], server[IP_TEXT_SIZE];
    struct strbuf *out = &p->arguments;
    mac_format_dashes(&p->mac, dashes);
    /* NBD names the boot by the machine's export: any card's MAC names the machine. */
    strbuf_appendf(out, "root=/dev/nbd0 nbdroot=%s:%" PRIu64 "/%s.%s BOOTIF=01-%s",
                   format_ip(&net->server, server), conf->server.port, dashes, token, dashes);
    add_address(out, conf, p, &net->address);
    strbuf_append(out, " rw net.ifnames=0");
    if (conf->boot.console && *conf->boot.console)
        strbuf_appendf(out, " console=%s", conf->boot.console);
    if (conf->boot.kernel_arguments && *conf->boot.kernel_arguments)
        strbuf_appendf(out, " %s", conf->boot.kernel_arguments);
}

/* A copy that is cut when it does not fit: names were checked when they came in. */
#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static int fill_boot(struct bootplan *p, const struct conf *conf, const struct script_job *job,
                     const struct bootplan_network *net, struct err *e)
{
    if (job->boot.nimages == 0)
        return err_set(e, ERR_STATE, "the setup %s has no image", job->boot.setup_name);
    const struct boot_image *root = &job->boot.images[0], *boot = &job->boot.images[job->kernel_image];
    char uuid[UUID_TEXT_SIZE];
    uuid_to_text(&boot->image, uuid);
    COPY(p->image, root->name);
    p->version = root->version;
    p->update = job->boot.update;
    COPY(p->release, job->kernel);
    char dir[UUID_TEXT_SIZE + 24];
    if (job->own_kernel)
        snprintf(dir, sizeof dir, "boot-%" PRId64, job->boot.id);
    else
        snprintf(dir, sizeof dir, "%s/%" PRIu64, uuid, boot->version);
    snprintf(p->kernel, sizeof p->kernel, "/kernels/%s/vmlinuz", dir);
    snprintf(p->initrd, sizeof p->initrd, "/kernels/%s/initrd.img", dir);
    add_arguments(p, conf, job->boot.token, net);
    return p->arguments.failed ? err_sys(e, ENOMEM, "kernel arguments") : 0;
}

int bootplan_make(const struct conf *conf, const struct script_job *job, const struct mac *mac,
                  const struct bootplan_network *net, struct bootplan *ret, struct err *e)
{
    cleanup(bootplan) struct bootplan p = {
        .kind = job->kind,
        .mac = *mac,
        .boot = job->boot.id,
        .state = job->boot.state,
        /* A machine that is not managed is left alone, whatever the default is. */
        .retry = job->machine.managed && conf->boot.default_action == CONF_ACTION_RETRY,
    };
    COPY(p.machine, job->machine.name);
    COPY(p.setup, job->boot.setup_name);
    if (p.kind == SCRIPT_BOOT && fill_boot(&p, conf, job, net, e) < 0)
        return -1;
    *ret = p;
    p.arguments = (struct strbuf)STRBUF_INIT;
    return 0;
}

void bootplan_release(struct bootplan *p)
{
    strbuf_release(&p->arguments);
}
