/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf/keys.h"

#include "lib/base/bytes.h"
#include "lib/base/fsutil.h"

#include <assert.h>
#include <net/if.h>
#include <string.h>

static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const modes[] = {"dhcp", "proxy", "none", NULL};
static const char *const default_actions[] = {"local", "retry", NULL};
static const char *const on_interrupts[] = {"keep", "discard", NULL};
static const char *const chunk_sizes[] = {"16K", "32K", "64K", NULL};
static const char *const durabilities[] = {"always", "updates", NULL};
static const char *const checks[] = {"lease", "arp", "none", NULL};
static const char *const tls_modes[] = {"off", "require", NULL};
static const char *const roles[] = {"user", "moderator", "admin", NULL};
static const char *const architectures[] = {"x86_64", "Arm64", "unknown", NULL};
static const char *const no_yes[] = {"no", "yes", NULL};
static const char *const filesystems[] = {"ext4", "fat32", "raw", NULL};

#define AT(field) .offset = offsetof(struct conf, field)

#define SERVE CONF_RESTART_SERVE
#define DHCP CONF_RESTART_DHCP

const struct conf_key conf_keys[] = {
    {"server", "state-dir", KIND_PATH, AT(server.state_dir), .def = LOCALSTATEDIR "/lib/labboot",
     .restart = SERVE | DHCP, .help = "The catalog and everything else that must survive a restart."},
    {"server", "images-dir", KIND_PATH, AT(server.images_dir), .under = UNDER_STATE, .def = "images",
     .restart = SERVE, .help = "The versions of all images. Default: images in state-dir."},
    {"server", "overlays-dir", KIND_PATH, AT(server.overlays_dir), .under = UNDER_STATE, .def = "overlays",
     .restart = SERVE, .help = "What running machines have written. Default: overlays in state-dir."},
    {"server", "run-dir", KIND_PATH, AT(server.run_dir), .def = RUNSTATEDIR "/labboot",
     .restart = SERVE | DHCP, .help = "Sockets, locks and counters; may be lost at a restart of the host."},
    {"server", "listen", KIND_ADDRESSES, AT(server.listen), .def = "0.0.0.0", .restart = SERVE,
     .help = "The addresses that NBD is served on, separated by spaces or commas.\nEmpty: the Unix socket "
             "alone."},
    {"server", "port", KIND_NUMBER, AT(server.port), .min = 1, .max = 65535, .def = "10809", .restart = SERVE,
     .help = "The TCP port of those addresses."},
    {"server", "unix-socket", KIND_PATH, AT(server.unix_socket), .under = UNDER_RUN, .def = "nbd.sock",
     .restart = SERVE, .help = "NBD for the host's own tools. Default: nbd.sock in run-dir."},
    {"server", "threads", KIND_NUMBER, AT(server.threads), .min = 1, .max = 256, .def = "16",
     .restart = SERVE,
     .help = "How many requests of one connection run at once, where nbdkit can (1.34 and newer)."},
    {"server", "log-level", KIND_WORD, AT(server.log_level), .words = log_levels, .def = "info",
     .help = "The most that is logged: error, warning, info or debug."},
    {"server", "history-days", KIND_NUMBER, AT(server.history_days), .max = 36500, .def = "90",
     .help = "How many days boots that have ended and events are kept. 0: for ever."},

    {"network", "interface", KIND_INTERFACE, AT(network.interface), .def = "", .restart = DHCP,
     .help = "The interface that the machines are on, for `labboot dhcp`."},
    {"network", "mode", KIND_WORD, AT(network.mode), .words = modes, .def = "dhcp", .restart = DHCP,
     .help = "dhcp: labboot gives out addresses. proxy: another DHCP server does, labboot adds\n"
             "what a boot needs. none: TFTP alone."},
    {"network", "range", KIND_RANGE, AT(network.range_first), .def = "", .restart = DHCP,
     .help = "The addresses for machines, FIRST-LAST, for example 10.77.0.100-10.77.0.200."},
    {"network", "netmask", KIND_IPV4, AT(network.netmask), .def = "255.255.255.0", .restart = DHCP,
     .help = "The netmask of that network."},
    {"network", "router", KIND_IPV4, AT(network.router), .def = "", .restart = DHCP,
     .help = "The gateway that machines are told. Empty: none."},
    {"network", "dns", KIND_IPV4, AT(network.dns), .def = "", .restart = DHCP,
     .help = "The name server that machines are told. Empty: none."},
    {"network", "lease-time", KIND_DURATION, AT(network.lease_time), .min = 120, .max = 31536000,
     .def = "12h", .restart = DHCP, .help = "How long an address is leased: seconds, or with s, m, h or d."},
    {"network", "next-server", KIND_IPV4, AT(network.next_server), .def = "", .restart = DHCP,
     .help = "The address at which machines reach this server. Empty: that of interface."},
    {"network", "tftp-root", KIND_PATH, AT(network.tftp_root), .under = UNDER_STATE, .def = "tftp",
     .restart = SERVE | DHCP, .help = "Loaders, boot scripts and kernels. Default: tftp in state-dir."},

    {"boot", "default-action", KIND_WORD, AT(boot.default_action), .words = default_actions, .def = "local",
     .help = "What a machine with nothing to boot does. local: its own disk. retry: it asks again."},
    {"boot", "kernel-arguments", KIND_TEXT, AT(boot.kernel_arguments), .def = "",
     .help = "Added to the kernel's command line of every machine."},
    {"boot", "console", KIND_TEXT, AT(boot.console), .def = "",
     .help = "The kernel's console, for example ttyS0,115200. Empty: the kernel's choice."},
    {"boot", "loader-bios", KIND_FILE_NAME, AT(boot.loader_bios), .def = "undionly.kpxe", .restart = DHCP,
     .help = "The file in tftp-root for BIOS firmware."},
    {"boot", "loader-efi64", KIND_FILE_NAME, AT(boot.loader_efi64), .def = "ipxe.efi", .restart = DHCP,
     .help = "The file in tftp-root for x86-64 UEFI firmware: ipxe.efi, or snponly.efi, which uses the\n"
             "firmware's own network driver."},
    {"boot", "lease", KIND_DURATION, AT(boot.lease), .min = 5, .max = 86400, .def = "5m",
     .help = "A boot that was leased and has read nothing for so long is queued again."},
    {"boot", "grace", KIND_DURATION, AT(boot.grace), .min = 1, .max = 86400, .def = "60s",
     .help = "A machine that was shut down cleanly and is away for so long has ended its boot."},
    {"boot", "abandon", KIND_DURATION, AT(boot.abandon), .min = 1, .max = 31536000, .def = "24h",
     .help = "A machine that is away for so long has ended its boot, clean or not."},
    {"boot", "on-interrupt", KIND_WORD, AT(boot.on_interrupt), .words = on_interrupts, .def = "keep",
     .help = "What becomes of the writes of an update boot that did not end cleanly, after abandon.\n"
             "keep: they wait for an admin. discard: they are thrown away."},

    {"store", "chunk-size", KIND_SIZE, AT(store.chunk_size), .min = 16 * KIB, .max = 64 * KIB,
     .words = chunk_sizes, .def = "64K", .help = "The unit of compression of new images: 16K, 32K or 64K."},
    {"store", "zstd-level", KIND_NUMBER, AT(store.zstd_level), .min = 1, .max = 19, .def = "3",
     .help = "How hard new versions are compressed, 1 to 19."},
    {"store", "cache-memory", KIND_SIZE, AT(store.cache_memory), .min = MIB, .max = TIB, .def = "256M",
     .restart = SERVE,
     .help = "Memory for decompressed chunks, shared by all machines. An eighth more is used for indexes."},
    {"store", "prefetch", KIND_SIZE, AT(store.prefetch), .max = TIB, .def = "64M",
     .help = "How much is read ahead of a machine that boots, as the first boot of the version read it;\n"
             "at most half of cache-memory. 0: nothing, and boots are not noted."},
    {"store", "reserve", KIND_SIZE, AT(store.reserve), .max = 1024 * TIB, .def = "1G",
     .help = "Free space of the file system that is never used."},
    {"store", "keep-versions", KIND_NUMBER, AT(store.keep_versions), .max = 1000000, .def = "0",
     .help = "How many of the newest versions of an image stay; older ones that nothing needs are removed.\n"
             "0: keep-days alone says it, and where that is 0 too, all stay."},
    {"store", "keep-days", KIND_NUMBER, AT(store.keep_days), .max = 36500, .def = "0",
     .help = "Versions that are not older than so many days stay as well."},
    {"store", "flatten-depth", KIND_NUMBER, AT(store.flatten_depth), .max = 65535, .def = "250",
     .help = "When the latest version of an image stands upon so many others, the server writes it anew.\n"
             "0: never."},
    {"store", "scrub-days", KIND_NUMBER, AT(store.scrub_days), .max = 36500, .def = "30",
     .help =
         "After how many days the server reads a version again, to mark it where it is damaged. 0: never."},
    {"store", "scrub-rate", KIND_SIZE, AT(store.scrub_rate), .max = TIB, .def = "8M",
     .help = "How many bytes of the store it reads a second for that, at most. 0: none."},
    {"store", "temporal-days", KIND_NUMBER, AT(store.temporal_days), .max = 36500, .def = "7",
     .help = "How many days what a machine has written to an image of type temporal is kept without\n"
             "being used; 0: not beyond its boot."},

    {"overlay", "quota", KIND_SIZE, AT(overlay.quota), .max = 1024 * TIB, .def = "0",
     .help = "The most that what one boot has written to one disk may take. 0: no limit."},
    {"overlay", "durability", KIND_WORD, AT(overlay.durability), .words = durabilities, .def = "always",
     .help = "Whose flushes reach the server's disk. always: all. updates: only those of boots with\n"
             "something to keep; the others lose their writes in a power cut of the server."},

    {"access", "check", KIND_WORD, AT(access.check), .words = checks, .def = "lease",
     .help = "How a machine is known by its address. lease: by the address that it was given.\n"
             "arp: by the neighbour table, which is the default where mode is proxy or none.\n"
             "none: not at all: any address may open any machine's disk."},
    {"access", "admin", KIND_NETWORKS, AT(access.admin), .def = "",
     .help = "Addresses and networks (10.0.0.5, 10.1.0.0/16) that may open everything, separated by\n"
             "spaces or commas."},
    {"access", "tls", KIND_WORD, AT(access.tls), .words = tls_modes, .def = "off", .restart = SERVE,
     .help = "require: who does not come by the Unix socket must use TLS, machines too; see TLS in\n"
             "labboot.conf(5) for what that asks of their images."},
    {"access", "tls-credentials", KIND_PATH, AT(access.tls_credentials), .def = SYSCONFDIR "/labboot/tls",
     .restart = SERVE,
     .help = "A folder with ca-cert.pem, server-cert.pem, server-key.pem and perhaps ca-crl.pem, or a\n"
             "file of pre-shared keys (lines USER:KEY)."},
};
const size_t conf_nkeys = ARRAY_SIZE(conf_keys);
static_assert(ARRAY_SIZE(conf_keys) <= CONF_KEYS_MAX, "their lines are kept in an array");

const struct conf_object_type conf_object_types[] = {
    [CONF_USER] = {"user NAME", "alice", "A user, who owns images and setups."},
    [CONF_SETUP] = {"setup NAME", "desk", "The disks that a machine gets together."},
    [CONF_MACHINE] = {"machine NAME", "lab1", "A machine of the lab."},
};
#define USER .section = "user NAME"
#define SETUP .section = "setup NAME"
#define MACHINE .section = "machine NAME"
#define IN(field) .offset = offsetof(struct conf_object, field)

const struct conf_key conf_object_keys[] = {
    {USER, .name = "email", .kind = KIND_EMAIL, IN(user.email), .required = true,
     .example = "alice@example.org", .def = "",
     .help = "The address, which no other user has. Must be given."},
    {USER, .name = "name", .kind = KIND_FULL_NAME, IN(user.full_name), .example = "Alice Example", .def = "",
     .help = "The full name."},
    {USER, .name = "role", .kind = KIND_WORD, IN(user.role), .words = roles, .def = "user",
     .help = "user, moderator (changes system images too) or admin."},

    {SETUP, .name = "owner", .kind = KIND_REFERENCE, IN(setup.owner), .example = "alice", .def = "",
     .help = "The user whose setup it is. Default: the only admin."},
    {SETUP, .name = "images", .kind = KIND_IMAGES, IN(setup.images), .required = true,
     .example = "debian-lab@latest lab-data,update", .def = "",
     .help = "IMAGE[@VERSION|@latest][,update], separated by spaces; the first one is the root disk. May\n"
             "stand on several lines. Must be given."},

    {MACHINE, .name = "mac", .kind = KIND_MACS, IN(machine.macs), .required = true,
     .example = "52:54:00:12:34:56", .def = "",
     .help = "Its MACs, separated by spaces or commas; the first one is its key. Must be given."},
    {MACHINE, .name = "arch", .kind = KIND_WORD, IN(machine.architecture), .words = architectures,
     .def = "x86_64", .help = "x86_64, Arm64 or unknown."},
    {MACHINE, .name = "managed", .kind = KIND_WORD, IN(machine.managed), .words = no_yes, .def = "yes",
     .help = "no: it is never touched, and boots from its own disk."},
    {MACHINE, .name = "default-setup", .kind = KIND_REFERENCE, IN(machine.default_setup), .example = "desk",
     .def = "", .help = "What it boots when its queue is empty."},
    {MACHINE, .name = "disk-size", .kind = KIND_SIZE, IN(machine.disk_size), .min = MIB, .max = 1024 * TIB,
     .def = "128M", .help = "The size of its own disk, the machine image."},
    {MACHINE, .name = "disk-filesystem", .kind = KIND_WORD, IN(machine.disk_filesystem), .words = filesystems,
     .def = "ext4", .help = "How that disk is formatted: ext4, fat32 or raw."},
};
const size_t conf_nobject_keys = ARRAY_SIZE(conf_object_keys);
static_assert(ARRAY_SIZE(conf_object_keys) <= CONF_OBJECT_KEYS_MAX, "their lines are kept in an array");

const struct conf_key *key_at(size_t i)
{
    if (i < conf_nkeys)
        return &conf_keys[i];
    i -= conf_nkeys;
    return i < conf_nobject_keys ? &conf_object_keys[i] : NULL;
}

bool key_is_of(const struct conf_key *k, enum conf_object_kind kind)
{
    return strcmp(k->section, conf_object_types[kind].section) == 0;
}

bool key_adds_up(const struct conf_key *k)
{
    return k->kind == KIND_MACS || k->kind == KIND_IMAGES;
}

static bool printable(const char *text)
{
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e)
            return false;
    return true;
}

static bool only(const char *text, const char *more)
{
    for (; *text; text++)
        if (!(*text >= 'a' && *text <= 'z') && !(*text >= 'A' && *text <= 'Z') &&
            !(*text >= '0' && *text <= '9') && !strchr(more, *text))
            return false;
    return true;
}

static int refuse(struct err *e, const char *text, const char *why)
{
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    strbuf_append_escaped(&shown, text, strlen(text));
    return err_set(e, ERR_USAGE, "'%s' %s", strbuf_text(&shown), why);
}

/* Of one byte after a lead byte's: how many follow; -1: none may begin with it. Overlong forms and surrogates are left
 * to whoever shows it: here it matters that nothing takes over a terminal or breaks a line. */
static int utf8_more(unsigned char lead)
{
    if (lead < 0x80)
        return lead >= 0x20 && lead != 0x7f ? 0 : -1;
    if (lead >= 0xc2 && lead < 0xe0)
        return 1;
    if (lead >= 0xe0 && lead < 0xf0)
        return 2;
    return lead >= 0xf0 && lead < 0xf5 ? 3 : -1;
}

static bool is_utf8(const char *text)
{
    while (*text) {
        int more = utf8_more((unsigned char)*text++);
        if (more < 0)
            return false;
        for (; more > 0; more--)
            if (((unsigned char)*text++ & 0xc0) != 0x80)
                return false;
    }
    return true;
}

static bool is_email(const char *text)
{
    const char *at = strchr(text, '@');
    return printable(text) && !strpbrk(text, " \"'\\`,;<>") && at && at != text && at[1];
}

/* NULL when the text is a value of the kind, else why not. */
static const char *text_mistake(enum conf_kind kind, const char *text)
{
    switch (kind) {
    case KIND_PATH:
        return text[0] == '/' && printable(text) ? NULL : "is not an absolute path";
    case KIND_FILE_NAME:
        return *text && *text != '.' && only(text, "._-")
                   ? NULL
                   : "is not a plain file name; allowed: A-Z a-z 0-9 . _ -";
    case KIND_INTERFACE:
        return strlen(text) < IFNAMSIZ && only(text, "._-:@") ? NULL
                                                              : "is not the name of a network interface";
    case KIND_EMAIL:
        return is_email(text) ? NULL : "is not an email address; try: name@example.org";
    case KIND_FULL_NAME:
        return is_utf8(text) ? NULL : "is not UTF-8 text without control characters";
    case KIND_REFERENCE:
        return only(text, "._-/") ? NULL : "is no name; allowed: A-Z a-z 0-9 . _ - /";
    default:
        return printable(text) && !strpbrk(text, "\"'\\`#")
                   ? NULL
                   : "is not allowed; printable characters without quotes, backslash and # are";
    }
}

static int parse_text(const struct conf_key *k, const char *text, void *value, struct err *e)
{
    const char *why = text_mistake(k->kind, text);
    if (why)
        return refuse(e, text, why);
    char *copy = strdup(text);
    if (!copy)
        return err_sys(e, ENOMEM, "configuration");
    char **s = value;
    free(*s);
    *s = copy;
    return 0;
}

static int refuse_word(const struct conf_key *k, const char *text, struct err *e)
{
    cleanup(strbuf) struct strbuf why = STRBUF_INIT;
    strbuf_append(&why, "is not one of:");
    for (size_t i = 0; k->words[i]; i++)
        strbuf_appendf(&why, "%s %s", i ? "," : "", k->words[i]);
    return refuse(e, text, strbuf_text(&why));
}

static int parse_word(const struct conf_key *k, const char *text, void *value, struct err *e)
{
    for (int i = 0; k->words[i]; i++) {
        if (strcmp(text, k->words[i]) == 0) {
            *(int *)value = i;
            return 0;
        }
    }
    return refuse_word(k, text, e);
}

static int parse_key_size(const struct conf_key *k, const char *text, void *value, struct err *e)
{
    uint64_t n, allowed;
    if (!k->words)
        return parse_size(text, k->min, k->max, value, e);
    if (parse_size(text, 0, UINT64_MAX, &n, e) < 0)
        return -1;
    for (size_t i = 0; k->words[i]; i++) {
        if (parse_size(k->words[i], 0, UINT64_MAX, &allowed, e) < 0)
            return -1;
        if (n == allowed) {
            *(uint64_t *)value = n;
            return 0;
        }
    }
    return refuse_word(k, text, e);
}

static int parse_ipv4(const char *text, struct in6_addr *ret, struct err *e)
{
    struct in6_addr a = {0};
    if (*text && parse_ip(text, &a, e) < 0)
        return -1;
    if (*text && !IN6_IS_ADDR_V4MAPPED(&a))
        return refuse(e, text, "is not an IPv4 address");
    *ret = a;
    return 0;
}

static int parse_range(const char *text, struct in6_addr range[2], struct err *e)
{
    struct in6_addr first = {0}, last = {0};
    if (*text) {
        const char *dash = strchr(text, '-');
        if (!dash || dash == text || !dash[1])
            return refuse(e, text, "is not a range of addresses; try: 10.77.0.100-10.77.0.200");
        cleanup(free) char *first_text = path_format("%.*s", (int)(dash - text), text);
        first_text[strcspn(first_text, " \t")] = '\0';
        if (parse_ipv4(first_text, &first, e) < 0)
            return -1;
        if (parse_ipv4(dash + 1 + strspn(dash + 1, " \t"), &last, e) < 0)
            return -1;
    }
    range[0] = first;
    range[1] = last;
    return 0;
}

static void free_list(char **list)
{
    for (size_t i = 0; i < CONF_LIST_MAX; i++) {
        free(list[i]);
        list[i] = NULL;
    }
}

#define SPACES " \t"
#define SPACES_OR_COMMAS " \t,"

/* Calls `each` for every word of a list that has `n` items already. */
static int each_word(const char *text, const char *separators, size_t n,
                     int (*each)(void *ctx, size_t i, const char *word, struct err *e), void *ctx,
                     struct err *e)
{
    cleanup(free) char *copy = strdup(text);
    if (!copy)
        return err_sys(e, ENOMEM, "configuration");
    char *rest = NULL;
    for (char *w = strtok_r(copy, separators, &rest); w; w = strtok_r(NULL, separators, &rest)) {
        if (n == CONF_LIST_MAX)
            return err_set(e, ERR_USAGE, "more than %d values", CONF_LIST_MAX);
        if (each(ctx, n++, w, e) < 0)
            return -1;
    }
    return 0;
}

static int add_address(void *ctx, size_t i, const char *word, struct err *e)
{
    char **list = ctx;
    struct in6_addr a;
    char normal[IP_TEXT_SIZE];
    if (parse_ip(word, &a, e) < 0)
        return -1;
    list[i] = strdup(format_ip(&a, normal));
    return list[i] ? 0 : err_sys(e, ENOMEM, "configuration");
}

static int parse_addresses(const char *text, char **value, struct err *e)
{
    char *list[CONF_LIST_MAX] = {0};
    if (each_word(text, SPACES_OR_COMMAS, 0, add_address, list, e) < 0) {
        free_list(list);
        return -1;
    }
    free_list(value);
    memcpy(value, list, sizeof list);
    return 0;
}

struct networks {
    struct ip_range list[CONF_LIST_MAX];
    size_t count;
};
static int add_network(void *ctx, size_t i, const char *word, struct err *e)
{
    struct networks *n = ctx;
    n->count = i + 1;
    return parse_ip_range(word, &n->list[i], e);
}

static int parse_networks(const char *text, struct conf *c, struct err *e)
{
    struct networks n = {.count = 0};
    if (each_word(text, SPACES_OR_COMMAS, 0, add_network, &n, e) < 0)
        return -1;
    memcpy(c->access.admin, n.list, sizeof n.list);
    c->access.nadmin = n.count;
    return 0;
}

static int add_mac(void *ctx, size_t i, const char *word, struct err *e)
{
    struct conf_object *o = ctx;
    if (mac_parse(word, strlen(word), &o->machine.macs[i], e) < 0)
        return -1;
    o->machine.nmacs = i + 1;
    return 0;
}

/* IMAGE[@VERSION|@latest][,update]; NULL: it is one. */
static const char *image_mistake(const char *word)
{
    size_t name = strcspn(word, "@,"), version = 0;
    const char *at = word + name, *comma = at + strcspn(at, ",");
    if (*at == '@')
        version = (size_t)(comma - at) - 1;
    bool latest = version == strlen("latest") && strncmp(at + 1, "latest", version) == 0;
    if (name == 0 || strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789._-/") != name)
        return "does not begin with the name of an image";
    if (*at == '@' && !latest && (version == 0 || strspn(at + 1, "0123456789") != version))
        return "has no version behind its '@'; try: @latest";
    return *comma && strcmp(comma, ",update") != 0 ? "may be followed by ',update' alone" : NULL;
}

static int add_image(void *ctx, size_t i, const char *word, struct err *e)
{
    char **list = ctx;
    const char *why = image_mistake(word);
    if (why)
        return refuse(e, word, why);
    list[i] = strdup(word);
    return list[i] ? 0 : err_sys(e, ENOMEM, "configuration");
}

static size_t list_length(char *const *list)
{
    size_t n = 0;
    while (n < CONF_LIST_MAX && list[n])
        n++;
    return n;
}

int key_parse(const struct conf_key *k, const char *text, void *base, struct err *e)
{
    void *value = (char *)base + k->offset;
    switch (k->kind) {
    case KIND_PATH:
    case KIND_TEXT:
    case KIND_FILE_NAME:
    case KIND_INTERFACE:
    case KIND_EMAIL:
    case KIND_FULL_NAME:
    case KIND_REFERENCE:
        return parse_text(k, text, value, e);
    case KIND_NUMBER:
        return parse_number(text, k->min, k->max, value, e);
    case KIND_SIZE:
        return parse_key_size(k, text, value, e);
    case KIND_DURATION:
        return parse_duration(text, k->min, k->max, value, e);
    case KIND_WORD:
        return parse_word(k, text, value, e);
    case KIND_IPV4:
        return parse_ipv4(text, value, e);
    case KIND_RANGE:
        return parse_range(text, value, e);
    case KIND_ADDRESSES:
        return parse_addresses(text, value, e);
    case KIND_NETWORKS:
        return parse_networks(text, base, e);
    case KIND_MACS:
        return each_word(text, SPACES_OR_COMMAS, ((struct conf_object *)base)->machine.nmacs, add_mac, base,
                         e);
    case KIND_IMAGES:
        return each_word(text, SPACES, list_length(value), add_image, value, e);
    }
    return 0;
}

void key_release(const struct conf_key *k, void *base)
{
    char **value = (char **)(void *)((char *)base + k->offset);
    switch (k->kind) {
    case KIND_PATH:
    case KIND_TEXT:
    case KIND_FILE_NAME:
    case KIND_INTERFACE:
    case KIND_EMAIL:
    case KIND_FULL_NAME:
    case KIND_REFERENCE:
        free(*value);
        *value = NULL;
        break;
    case KIND_ADDRESSES:
    case KIND_IMAGES:
        free_list(value);
        break;
    default:
        break;
    }
}
