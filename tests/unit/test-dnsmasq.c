/* SPDX-License-Identifier: BSD-3-Clause */
/* dnsmasq's configuration, against tests/golden/ and dnsmasq --test; what its script reads. LABBOOT_GOLDEN_WRITE=1
 * writes what is there now into the files. */
#include "tests/unit/unit.h"
#include "tftp-glue/dnsmasq-conf.h"
#include "tftp-glue/hook-event.h"

#include "lib/base/cleanup.h"

#include <sys/wait.h>

static struct in6_addr ip(const char *text)
{
    struct err e;
    struct in6_addr a;
    CHECK_OK(parse_ip(text, &a, &e));
    return a;
}

static struct conf a_conf(enum conf_mode mode)
{
    static char interface[] = "eth1", state[] = "/var/lib/labboot", run[] = "/run/labboot",
                tftp[] = "/var/lib/labboot/tftp", bios[] = "undionly.kpxe", efi[] = "ipxe.efi";
    struct conf c = {0};
    c.network.mode = (int)mode;
    c.network.interface = interface;
    c.server.state_dir = state;
    c.server.run_dir = run;
    c.network.tftp_root = tftp;
    c.network.netmask = ip("255.255.255.0");
    c.network.lease_time = 3600;
    c.network.range_first = ip("10.0.0.10");
    c.network.range_last = ip("10.0.0.200");
    c.boot.loader_bios = bios;
    c.boot.loader_efi64 = efi;
    return c;
}

static struct dnsmasq_setting a_setting(void)
{
    return (struct dnsmasq_setting){
        .server = ip("10.0.0.1"),
        .hook = "/usr/libexec/labboot/labboot-dhcp-hook",
        .user = "dnsmasq",
        .script_user = "labboot",
    };
}

/* dnsmasq itself is the judge of the syntax; users that do not exist here are its only complaint that we avoid. */
static void check_with_dnsmasq(struct conf *c)
{
    struct err e;
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    cleanup(free) char *path = path_format("%s/dnsmasq.conf", unit_dir());
    cleanup(free) char *command =
        path_format("%s --test --conf-file=%s >/dev/null 2>%s/said", DNSMASQ_PROGRAM, path, unit_dir());
    struct dnsmasq_setting s = a_setting();
    s.user = s.script_user = "root";
    static char dir[4096];
    snprintf(dir, sizeof dir, "%s", unit_dir());
    c->network.tftp_root = c->server.run_dir = c->server.state_dir = dir;
    CHECK_OK(dnsmasq_conf(c, &s, &text, &e));
    CHECK_OK(atomic_replace(path, NULL, text.s, text.len, 0644, &e));
    int status = system(command);
    if (status != 0) {
        cleanup(free) char *said_path = path_format("%s/said", unit_dir());
        cleanup(free) char *said = NULL;
        size_t len;
        CHECK_OK(read_file(said_path, 65536, &said, &len, &e));
        fprintf(stderr, "%s", said);
    }
    CHECK(status == 0);
}

static void check_golden(const char *name, struct conf *c)
{
    struct err e;
    const char *top = getenv("srcdir");
    cleanup(free) char *path = path_format("%s/tests/golden/%s", top ? top : ".", name);
    cleanup(free) char *wanted = NULL;
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    struct dnsmasq_setting s = a_setting();
    size_t len;
    CHECK_OK(dnsmasq_conf(c, &s, &text, &e));
    if (getenv("LABBOOT_GOLDEN_WRITE"))
        CHECK_OK(atomic_replace(path, NULL, text.s, text.len, 0644, &e));
    CHECK_OK(read_file(path, 1 << 20, &wanted, &len, &e));
    CHECK_STR(strbuf_text(&text), wanted);
    if (access(DNSMASQ_PROGRAM, X_OK) == 0)
        check_with_dnsmasq(c);
}

static void configurations_are_the_golden_ones(void)
{
    struct conf dhcp = a_conf(CONF_MODE_DHCP), routed = a_conf(CONF_MODE_DHCP),
                proxy = a_conf(CONF_MODE_PROXY), none = a_conf(CONF_MODE_NONE);
    routed.network.router = ip("10.0.0.254");
    routed.network.dns = ip("9.9.9.9");
    check_golden("dnsmasq-dhcp.conf", &dhcp);
    check_golden("dnsmasq-routed.conf", &routed);
    check_golden("dnsmasq-proxy.conf", &proxy);
    check_golden("dnsmasq-none.conf", &none);
}

static void what_dnsmasq_cannot_hold_is_refused(void)
{
    static char bad[][16] = {"", "a b", "a,b", "a\nport=53", "a#b", "\"a\"", "\xff"};
    struct dnsmasq_setting s = a_setting();
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct conf c = a_conf(CONF_MODE_DHCP);
        cleanup(strbuf) struct strbuf out = STRBUF_INIT;
        c.network.interface = bad[i];
        CHECK_FAILS(dnsmasq_conf(&c, &s, &out, &e), ERR_USAGE);
        c = a_conf(CONF_MODE_DHCP);
        c.network.tftp_root = bad[i];
        CHECK_FAILS(dnsmasq_conf(&c, &s, &out, &e), ERR_USAGE);
    }
    struct conf c = a_conf(CONF_MODE_DHCP);
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    memset(&c.network.range_first, 0, sizeof c.network.range_first);
    CHECK_FAILS(dnsmasq_conf(&c, &s, &out, &e), ERR_USAGE);
}

static void fixed_addresses_have_no_tag(void)
{
    struct err e;
    struct mac mac;
    struct in6_addr address = ip("10.0.0.7");
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    CHECK_OK(mac_parse("52:54:00:12:34:56", 17, &mac, &e));
    dnsmasq_add_host(&out, &mac, &address, "desk-07");
    CHECK_STR(strbuf_text(&out), "52:54:00:12:34:56,10.0.0.7,desk-07,infinite\n");
}

static int parse(const char *a, const char *b, const char *c, const char *d, const char *expires,
                 struct hook_event *ret, struct err *e)
{
    const char *words[] = {a, b, c, d, NULL};
    return hook_parse((char **)(uintptr_t)words, expires, 99, ret, e);
}

static void leases_are_read(void)
{
    struct err e;
    struct hook_event event;
    char text[MAC_TEXT_SIZE], address[IP_TEXT_SIZE];
    CHECK_OK(parse("add", "52:54:00:12:34:56", "10.0.0.7", "desk", "1795460000", &event, &e));
    CHECK(event.kind == HOOK_LEASE && event.expires == 1795460000);
    CHECK_STR(mac_format(&event.mac, text), "52:54:00:12:34:56");
    CHECK_STR(format_ip(&event.address, address), "10.0.0.7");
    CHECK_OK(parse("old", "52:54:00:12:34:56", "10.0.0.7", NULL, "0", &event, &e));
    CHECK(event.kind == HOOK_LEASE && event.expires == 0);
    CHECK_OK(parse("arp-add", "52:54:00:12:34:56", "10.0.0.7", NULL, NULL, &event, &e));
    CHECK(event.kind == HOOK_LEASE && event.expires == 99);
    CHECK_OK(parse("del", "52:54:00:12:34:56", "10.0.0.7", NULL, NULL, &event, &e));
    CHECK(event.kind == HOOK_REMOVE);
    CHECK_OK(parse("arp-del", "x", NULL, NULL, NULL, &event, &e));
    CHECK(event.kind == HOOK_NOTHING);
    CHECK_FAILS(parse("add", "52:54:00:12:34:56", NULL, NULL, NULL, &event, &e), ERR_USAGE);
    CHECK_FAILS(parse("add", "06-52:54:00:12:34:56", "10.0.0.7", NULL, NULL, &event, &e), ERR_USAGE);
    CHECK_FAILS(parse("add", "52:54:00:12:34:56", "10.0.0.7;x", NULL, NULL, &event, &e), ERR_USAGE);
    CHECK_FAILS(parse("add", "52:54:00:12:34:56", "10.0.0.7", NULL, "-1", &event, &e), ERR_USAGE);
}

static int64_t boot_in(const char *path)
{
    struct err e;
    struct hook_event event;
    CHECK_OK(parse("tftp", "120", "10.0.0.7", path, NULL, &event, &e));
    CHECK((event.kind == HOOK_WAITING) == (event.boot != 0));
    return event.boot;
}

static void only_waiting_scripts_count(void)
{
    CHECK(boot_in("/srv/tftp/boot/wait-52-54-00-12-34-56-17.ipxe") == 17);
    CHECK(boot_in("/srv/tftp//boot/wait-52-54-00-12-34-56-9223372036854775807.ipxe") == INT64_MAX);
    static const char *const others[] = {
        "",
        "/",
        "/boot/",
        "wait-52-54-00-12-34-56-17.ipxe",
        "/boot/mac-52-54-00-12-34-56.ipxe",
        "/boot/wait-",
        "/boot/wait-52-54-00-12-34-56",
        "/boot/wait-52-54-00-12-34-56-",
        "/boot/wait-52-54-00-12-34-56-.ipxe",
        "/boot/wait-52-54-00-12-34-56-0.ipxe",
        "/boot/wait-52-54-00-12-34-56--1.ipxe",
        "/boot/wait-52-54-00-12-34-56-1x.ipxe",
        "/boot/wait-52-54-00-12-34-56-17.ipxe.tmp",
        "/boot/wait-52-54-00-12-34-56-99999999999999999999999.ipxe",
        "/boot/wait-52-54-00-12-34-56-9223372036854775808.ipxe",
        "/boot/wait-xx-54-00-12-34-56-17.ipxe",
        "/other/wait-52-54-00-12-34-56-17.ipxe",
        "/boot/x/wait-52-54-00-12-34-56-17.ipxe",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        CHECK(boot_in(others[i]) == 0);
    struct err e;
    struct hook_event event;
    CHECK_FAILS(
        parse("tftp", "120", "not an address", "/boot/wait-52-54-00-12-34-56-17.ipxe", NULL, &event, &e),
        ERR_USAGE);
    CHECK_FAILS(parse("tftp", "120", "10.0.0.7", NULL, NULL, &event, &e), ERR_USAGE);
}

int main(void)
{
    UNIT(configurations_are_the_golden_ones);
    UNIT(what_dnsmasq_cannot_hold_is_refused);
    UNIT(fixed_addresses_have_no_tag);
    UNIT(leases_are_read);
    UNIT(only_waiting_scripts_count);
    return 0;
}
