/* SPDX-License-Identifier: BSD-3-Clause */
/* Scripts of machines, against tests/golden/. LABBOOT_GOLDEN_WRITE=1 writes what is there now into the files. */
#include "tests/unit/unit.h"
#include "tftp-glue/emit-ipxe.h"
#include "tftp-glue/escape.h"

static char *golden_path(const char *name)
{
    const char *top = getenv("srcdir");
    return path_format("%s/tests/golden/%s", top ? top : ".", name);
}

static void check_golden(const char *name, const struct strbuf *text)
{
    struct err e;
    cleanup(free) char *path = golden_path(name);
    cleanup(free) char *wanted = NULL;
    size_t len;
    CHECK(!text->failed);
    if (getenv("LABBOOT_GOLDEN_WRITE"))
        CHECK_OK(atomic_replace(path, NULL, strbuf_text(text), text->len, 0644, &e));
    CHECK_OK(read_file(path, 1 << 20, &wanted, &len, &e));
    CHECK_STR(strbuf_text(text), wanted);
}

static struct in6_addr ip(const char *text)
{
    struct err e;
    struct in6_addr a;
    CHECK_OK(parse_ip(text, &a, &e));
    return a;
}

static struct mac mac(const char *text)
{
    struct err e;
    struct mac m;
    CHECK_OK(mac_parse(text, strlen(text), &m, &e));
    return m;
}

/* What an admin might have written; only the keys that scripts depend on. */
static struct conf a_conf(void)
{
    struct conf c = {0};
    static char tftp[] = "/var/lib/labboot/tftp", args[] = "quiet  splash", console[] = "ttyS0,115200";
    c.server.port = 10809;
    c.network.tftp_root = tftp;
    c.network.netmask = ip("255.255.255.0");
    c.network.router = ip("10.0.0.1");
    c.boot.kernel_arguments = args;
    c.boot.console = console;
    return c;
}

static struct script_job a_job(enum script_kind kind)
{
    struct err e;
    struct script_job job = {
        .kind = kind,
        .machine = {.mac = mac("52:54:00:12:34:56"), .name = "desk-07", .managed = true},
        .kernel = "6.1.0-37-cloud-amd64",
        .boot = {.id = 17,
                 .state = BOOT_RUNNING,
                 .setup_name = "lab",
                 .token = "k3v0q8w1e5r7t9y2",
                 .update = true,
                 .nimages = 1,
                 .images = {{.name = "debian-lab", .version = 1795460000}}},
    };
    CHECK_OK(uuid_from_text("74368cec-7903-4233-87b7-564195619dce", &job.boot.images[0].image, &e));
    return job;
}

static void emit(const struct conf *c, const struct script_job *job, const char *address, struct strbuf *out)
{
    struct err e;
    struct bootplan_network net = {.server = ip("10.0.0.254")};
    if (address)
        net.address = ip(address);
    cleanup(bootplan) struct bootplan plan = {0};
    CHECK_OK(bootplan_make(c, job, &job->machine.mac, &net, &plan, &e));
    CHECK_OK(emit_ipxe(&plan, out, &e));
}

static void boot_scripts_are_the_golden_ones(void)
{
    struct conf c = a_conf();
    struct script_job job = a_job(SCRIPT_BOOT);
    cleanup(strbuf) struct strbuf update = STRBUF_INIT, dhcp = STRBUF_INIT;
    emit(&c, &job, "10.0.0.57", &update);
    check_golden("boot-update.ipxe", &update);
    job.boot.update = false;
    emit(&c, &job, NULL, &dhcp);
    check_golden("boot-dhcp.ipxe", &dhcp);
}

static void the_kernel_comes_from_the_image_that_has_it(void)
{
    struct err e;
    struct conf c = a_conf();
    struct script_job job = a_job(SCRIPT_BOOT);
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    struct boot_image *kernels = &job.boot.images[1];
    *kernels = (struct boot_image){.name = "kernels", .type = "boot", .version = 1795450000};
    CHECK_OK(uuid_from_text("1b0d3f6e-2a54-4c60-9c57-0d6a7e0a2b11", &kernels->image, &e));
    job.boot.nimages = 2;
    job.kernel_image = 1;
    emit(&c, &job, "10.0.0.57", &text);
    check_golden("boot-kernels.ipxe", &text);
}

static void waiting_scripts_are_the_golden_ones(void)
{
    struct conf c = a_conf();
    struct script_job job = a_job(SCRIPT_WAIT);
    cleanup(strbuf) struct strbuf wait = STRBUF_INIT, pause = STRBUF_INIT;
    emit(&c, &job, NULL, &wait);
    check_golden("wait.ipxe", &wait);
    emit_ipxe_wait(&job.machine.mac, &pause);
    check_golden("wait-pause.ipxe", &pause);
}

static void local_scripts_are_the_golden_ones(void)
{
    struct conf c = a_conf();
    struct script_job job = a_job(SCRIPT_LOCAL);
    cleanup(strbuf) struct strbuf local = STRBUF_INIT, retry = STRBUF_INIT, unmanaged = STRBUF_INIT;
    emit(&c, &job, NULL, &local);
    check_golden("local.ipxe", &local);
    c.boot.default_action = CONF_ACTION_RETRY;
    emit(&c, &job, NULL, &retry);
    check_golden("retry.ipxe", &retry);
    job.machine.managed = false;
    emit(&c, &job, NULL, &unmanaged);
    check_golden("local.ipxe", &unmanaged);
}

static void static_scripts_are_the_golden_ones(void)
{
    cleanup(strbuf) struct strbuf entry = STRBUF_INIT, local = STRBUF_INIT, retry = STRBUF_INIT;
    emit_ipxe_entry(&entry);
    check_golden("entry.ipxe", &entry);
    emit_ipxe_default(false, &local);
    check_golden("default-local.ipxe", &local);
    emit_ipxe_default(true, &retry);
    check_golden("default-retry.ipxe", &retry);
}

static void hostile_names_do_nothing_in_a_script(void)
{
    struct conf c = a_conf();
    struct script_job job = a_job(SCRIPT_BOOT);
    static const char evil[] = "a${net0/mac} || sanboot http://x/ && # ;\n\\x\n\xff`";
    snprintf(job.boot.setup_name, sizeof job.boot.setup_name, "%s", evil);
    snprintf(job.boot.images[0].name, sizeof job.boot.images[0].name, "%s", evil);
    snprintf(job.kernel, sizeof job.kernel, "%s", evil);
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    emit(&c, &job, "10.0.0.57", &out);
    check_golden("hostile.ipxe", &out);
}

static void arguments_pass_whole_or_not_at_all(void)
{
    static const char *const refused[] = {"a ${b}", "x${",        "a || b", "a && b", "; reboot",
                                          "a #b",   "a\nchain x", "a\tb",   "a\\",    "\xc3\xa4"};
    static const char *const passed[] = {"", "a=b,c", "x=$y z={}", "a|b c&&d e;f g#h", "\"q r\""};
    struct err e;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        cleanup(strbuf) struct strbuf out = STRBUF_INIT;
        CHECK_FAILS(escape_ipxe_arguments(&out, refused[i], &e), ERR_USAGE);
    }
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
        cleanup(strbuf) struct strbuf out = STRBUF_INIT;
        CHECK_OK(escape_ipxe_arguments(&out, passed[i], &e));
        CHECK_STR(strbuf_text(&out), passed[i]);
    }
}

static void server_is_next_server_or_the_interface(void)
{
    struct err e;
    char text[IP_TEXT_SIZE];
    static char lo[] = "lo", none[] = "no-such-card";
    struct conf c = a_conf();
    struct in6_addr server;
    CHECK_FAILS(bootplan_server(&c, &server, &e), ERR_STATE);
    c.network.interface = none;
    CHECK_FAILS(bootplan_server(&c, &server, &e), ERR_STATE);
    c.network.interface = lo;
    if (bootplan_server(&c, &server, &e) == 0) /* a namespace of its own may have lo down */
        CHECK_STR(format_ip(&server, text), "127.0.0.1");
    c.network.next_server = ip("192.0.2.1");
    CHECK_OK(bootplan_server(&c, &server, &e));
    CHECK_STR(format_ip(&server, text), "192.0.2.1");
}

int main(void)
{
    UNIT(boot_scripts_are_the_golden_ones);
    UNIT(the_kernel_comes_from_the_image_that_has_it);
    UNIT(waiting_scripts_are_the_golden_ones);
    UNIT(local_scripts_are_the_golden_ones);
    UNIT(static_scripts_are_the_golden_ones);
    UNIT(hostile_names_do_nothing_in_a_script);
    UNIT(arguments_pass_whole_or_not_at_all);
    UNIT(server_is_next_server_or_the_interface);
    return 0;
}
