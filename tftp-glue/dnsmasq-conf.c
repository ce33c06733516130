/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/dnsmasq-conf.h"
#include "tftp-glue/bootplan.h"
#include "tftp-glue/escape.h"

#include "lib/base/fsutil.h"

#include <inttypes.h>
#include <string.h>

/* Machines that load at the same time; dnsmasq's own limit is 50. */
#define TFTP_MAX 500

char *dnsmasq_conf_path(const struct conf *conf)
{
    return path_format("%s/dnsmasq.conf", conf->server.run_dir);
}

char *dnsmasq_hosts_path(const struct conf *conf)
{
    return path_format("%s/dnsmasq.hosts", conf->server.run_dir);
}

char *dnsmasq_leases_path(const struct conf *conf)
{
    return path_format("%s/dnsmasq.leases", conf->server.state_dir);
}

static int check_words(const struct conf *conf, const struct dnsmasq_setting *s, struct err *e)
{
    const struct {
        const char *what, *text;
    } words[] = {
        {"[network] interface", conf->network.interface},
        {"[network] tftp-root", conf->network.tftp_root},
        {"[server] run-dir", conf->server.run_dir},
        {"[server] state-dir", conf->server.state_dir},
        {"[boot] loader-bios", conf->boot.loader_bios},
        {"[boot] loader-efi64", conf->boot.loader_efi64},
        {"the hook", s->hook},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (escape_check_dnsmasq(words[i].what, words[i].text ? words[i].text : "", e) < 0)
            return -1;
    return 0;
}

static void add_core(const struct conf *conf, const struct dnsmasq_setting *s, struct strbuf *out)
{
    cleanup(free) char *hosts = dnsmasq_hosts_path(conf);
    cleanup(free) char *leases = dnsmasq_leases_path(conf);
    strbuf_append(out, "# Made by labboot dhcp: changes here are lost.\n"
                       "port=0\nno-resolv\nno-hosts\n");
    strbuf_appendf(out, "interface=%s\nexcept-interface=lo\nbind-interfaces\n", conf->network.interface);
    strbuf_append(out, "log-facility=-\nlog-dhcp\n");
    if (s->user)
        strbuf_appendf(out, "user=%s\n", s->user);
    if (conf->network.mode == CONF_MODE_DHCP)
        strbuf_appendf(out, "dhcp-leasefile=%s\ndhcp-hostsfile=%s\n", leases, hosts);
    strbuf_appendf(out, "enable-tftp\ntftp-root=%s\ntftp-max=%d\n", conf->network.tftp_root, TFTP_MAX);
}

static void add_script(const struct conf *conf, const struct dnsmasq_setting *s, struct strbuf *out)
{
    strbuf_appendf(out, "dhcp-script=%s\n", s->hook);
    if (s->script_user)
        strbuf_appendf(out, "dhcp-scriptuser=%s\n", s->script_user);
    /* Where another server gives the addresses, only ARP tells which card has which. */
    strbuf_append(out, conf->network.mode == CONF_MODE_DHCP ? "script-on-renewal\n" : "script-arp\n");
}

static void add_option(struct strbuf *out, const char *name, const struct in6_addr *address)
{
    char text[IP_TEXT_SIZE];
    if (ip_is_unset(address)) /* without a value dnsmasq does not send it; else it would name itself */
        strbuf_appendf(out, "dhcp-option=option:%s\n", name);
    else
        strbuf_appendf(out, "dhcp-option=option:%s,%s\n", name, format_ip(address, text));
}

static void add_matches(struct strbuf *out)
{
    strbuf_append(out, "dhcp-match=set:ipxe,175\ndhcp-userclass=set:ipxe,iPXE\n"
                       "dhcp-match=set:bios,option:client-arch,0\n"
                       "dhcp-match=set:efi64,option:client-arch,7\n"
                       "dhcp-match=set:efi64,option:client-arch,9\n");
}

static int add_dhcp(const struct conf *conf, const struct dnsmasq_setting *s, struct strbuf *out,
                    struct err *e)
{
    if (ip_is_unset(&conf->network.range_first))
        return err_set(e, ERR_USAGE, "[network] range is not set");
    char first[IP_TEXT_SIZE], last[IP_TEXT_SIZE], mask[IP_TEXT_SIZE], server[IP_TEXT_SIZE];
    format_ip(&s->server, server);
    strbuf_appendf(out, "dhcp-authoritative\ndhcp-range=%s,%s,%s,%" PRIu64 "\n",
                   format_ip(&conf->network.range_first, first), format_ip(&conf->network.range_last, last),
                   format_ip(&conf->network.netmask, mask), conf->network.lease_time);
    add_option(out, "router", &conf->network.router);
    add_option(out, "dns-server", &conf->network.dns);
    add_matches(out);
    /* The last line that matches wins. */
    strbuf_appendf(out, "dhcp-boot=tag:!ipxe,tag:bios,%s,,%s\n", conf->boot.loader_bios, server);
    strbuf_appendf(out, "dhcp-boot=tag:!ipxe,tag:efi64,%s,,%s\n", conf->boot.loader_efi64, server);
    strbuf_appendf(out, "dhcp-boot=tag:ipxe,boot.ipxe,,%s\n", server);
    return 0;
}

static void add_proxy(const struct conf *conf, const struct dnsmasq_setting *s, struct strbuf *out)
{
    char server[IP_TEXT_SIZE], mask[IP_TEXT_SIZE];
    format_ip(&s->server, server);
    strbuf_appendf(out, "dhcp-range=%s,proxy,%s\n", server, format_ip(&conf->network.netmask, mask));
    add_matches(out);
    strbuf_appendf(out, "pxe-service=tag:!ipxe,x86PC,labboot,%s,%s\n", conf->boot.loader_bios, server);
    strbuf_appendf(out, "pxe-service=tag:!ipxe,X86-64_EFI,labboot,%s,%s\n", conf->boot.loader_efi64, server);
    strbuf_appendf(out, "pxe-service=tag:!ipxe,BC_EFI,labboot,%s,%s\n", conf->boot.loader_efi64, server);
    strbuf_appendf(out, "dhcp-boot=tag:ipxe,boot.ipxe,,%s\n", server);
}

int dnsmasq_conf(const struct conf *conf, const struct dnsmasq_setting *s, struct strbuf *out, struct err *e)
{
    if (!conf->network.interface || !*conf->network.interface)
        return err_set(e, ERR_USAGE, "[network] interface is not set");
    if (check_words(conf, s, e) < 0)
        return -1;
    add_core(conf, s, out);
    add_script(conf, s, out);
    if (conf->network.mode == CONF_MODE_DHCP && add_dhcp(conf, s, out, e) < 0)
        return -1;
    if (conf->network.mode == CONF_MODE_PROXY)
        add_proxy(conf, s, out);
    return out->failed ? err_sys(e, ENOMEM, "dnsmasq's configuration") : 0;
}

void dnsmasq_add_host(struct strbuf *out, const struct mac *mac, const struct in6_addr *address,
                      const char *name)
{
    char hw[MAC_TEXT_SIZE], ip[IP_TEXT_SIZE];
    strbuf_appendf(out, "%s,%s,%s,infinite\n", mac_format(mac, hw), format_ip(address, ip), name);
}
