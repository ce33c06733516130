/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading the file. libinih splits lines; it tells its handler no line numbers, cuts long lines in two, takes
 * an indented line for the value before, and reports only its first mistake. So the lines reach it through
 * next_line(), which counts them, hands out only what it can digest, and judges the one before by whether the
 * handler was called. */
#include "conf/load.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <arpa/inet.h>
#include <ini.h>
#include <stdarg.h>
#include <string.h>
#include <sys/un.h>

#define FILE_SIZE_MAX MIB
void load_report(struct load *l, unsigned line, const char *fmt, ...)
{
    char message[sizeof l->first.msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    cleanup(free) char *text = path_format("%s:%u: %s", l->path, line, message);
    if (l->mistakes++ == 0)
        err_set(&l->first, ERR_USAGE, "%s", text);
    if (l->mistake)
        l->mistake(l->mistake_ctx, text);
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein's edit distance, of at most SHOWN_MAX characters of a. */
static size_t distance(const char *a, const char *b)
{
    size_t row[SHOWN_MAX + 1], n = strnlen(a, SHOWN_MAX);
    for (size_t i = 0; i <= n; i++)
        row[i] = i;
    for (size_t j = 1; b[j - 1]; j++) {
        size_t diagonal = row[0];
        row[0] = j;
        for (size_t i = 1; i <= n; i++) {
            size_t above = row[i];
            row[i] = min3(above + 1, row[i - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

/* The nearest name of a key in `section`, or of a section when that is NULL. */
static const char *nearest(const char *section, const char *name)
{
    const struct conf_key *k;
    const char *best = "";
    size_t best_distance = SIZE_MAX;
    for (size_t i = 0; (k = key_at(i)); i++) {
        if (section && strcmp(section, k->section) != 0)
            continue;
        const char *known = section ? k->name : k->section;
        size_t d = distance(name, known);
        if (d < best_distance) {
            best = known;
            best_distance = d;
        }
    }
    return best;
}

/* The key of that name; `section` NULL: in any; `name` NULL: the first of its section. */
static const struct conf_key *find_key(const char *section, const char *name)
{
    const struct conf_key *k;
    for (size_t i = 0; (k = key_at(i)); i++)
        if ((!section || strcmp(section, k->section) == 0) && (!name || strcmp(name, k->name) == 0))
            return k;
    return NULL;
}

static void escape(struct strbuf *out, const char *text)
{
    strbuf_append_escaped(out, text, strnlen(text, SHOWN_MAX));
}

static void report_unknown_key(struct load *l, const char *section, const char *name)
{
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    escape(&shown, name);
    const struct conf_key *elsewhere = find_key(NULL, name);
    if (elsewhere)
        load_report(l, l->line, "unknown key '%s' in [%s]; try: it in [%s]", strbuf_text(&shown), section,
                    elsewhere->section);
    else
        load_report(l, l->line, "unknown key '%s' in [%s]; try: %s", strbuf_text(&shown), section,
                    nearest(section, name));
}

/* Where the line is kept that set the key. */
static unsigned *set_of(struct load *l, const struct conf_key *k)
{
    return l->object ? &l->object->set[k - conf_object_keys] : &l->conf->set[k - conf_keys];
}

/* libinih cuts the section's name: l->section is the one that counts. */
static int handle_key(void *user, const char *cut_section, const char *name, const char *value)
{
    struct load *l = user;
    (void)cut_section;
    l->wants_key = false;
    if (l->section_line == 0)
        load_report(l, l->line, "a key before the first [section]");
    if (!l->section)
        return 1;
    const struct conf_key *k = find_key(l->section, name);
    if (!k) {
        report_unknown_key(l, l->section, name);
        return 1;
    }
    unsigned *set = set_of(l, k);
    if (*set && !key_adds_up(k)) {
        load_report(l, l->line, "%s was set already on line %u", k->name, *set);
        return 1;
    }
    *set = *set ? *set : l->line;
    struct err e;
    void *base = l->object ? (void *)l->object : (void *)l->conf;
    if (key_parse(k, value, base, &e) < 0)
        load_report(l, l->line, "%s: %s", k->name, e.msg);
    return 1;
}

/* `text` starts behind the "[". */
static void begin_section(struct load *l, const char *text)
{
    l->section_line = l->line;
    l->section = NULL;
    l->object = NULL;
    const char *end = strchr(text, ']');
    if (!end) {
        load_report(l, l->line, "a section without its ']'");
        return;
    }
    const char *rest = end + 1 + strspn(end + 1, " \t\r");
    if (*rest && *rest != ';' && *rest != '#') {
        load_report(l, l->line, "text behind a section's ']'");
        return;
    }
    cleanup(free) char *name = path_format("%.*s", (int)(end - text), text);
    if (object_begin(l, name))
        return;
    const struct conf_key *first = find_key(name, NULL);
    l->section = first ? first->section : NULL;
    if (first)
        return;
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    escape(&shown, name);
    load_report(l, l->line, "unknown section [%s]; try: [%s]", strbuf_text(&shown), nearest(NULL, name));
}

static void finish_line(struct load *l)
{
    if (l->wants_key)
        load_report(l, l->line, "neither [section] nor KEY = VALUE");
    l->wants_key = false;
}

/* Judges one line, from its first character that is no blank; false: libinih shall not see it. */
static bool accept_line(struct load *l, const char *line, size_t len, size_t max)
{
    if (memchr(line, '\0', len)) {
        load_report(l, l->line, "a NUL character");
        return false;
    }
    if (len == 0 || strchr(";#\r", line[0]))
        return false;
    if (len > max) {
        load_report(l, l->line, "longer than %zu characters", max);
        return false;
    }
    return true;
}

/* libinih's reader, as fgets: the next line in buf. Lines that it shall not see become empty ones. */
static char *next_line(char *buf, int size, void *stream)
{
    struct load *l = stream;
    finish_line(l);
    if (l->text == l->end)
        return NULL;
    const char *line = l->text;
    const char *newline = memchr(line, '\n', (size_t)(l->end - line));
    const char *line_end = newline ? newline : l->end;
    l->text = newline ? newline + 1 : l->end;
    if (l->line++ == 0 && line_end - line >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0)
        line += 3;
    while (line < line_end && (*line == ' ' || *line == '\t'))
        line++;
    size_t len = (size_t)(line_end - line);
    if (!accept_line(l, line, len, (size_t)size - 3))
        len = 0;
    memcpy(buf, line, len);
    buf[len] = '\0';
    if (buf[0] == '[')
        begin_section(l, buf + 1);
    else
        l->wants_key = len > 0;
    return buf;
}

static uint32_t v4(const struct in6_addr *a)
{
    return ntohl(a->s6_addr32[3]);
}

static bool is_set(const struct in6_addr *a)
{
    return !IN6_IS_ADDR_UNSPECIFIED(a);
}

unsigned conf_line(const struct conf *c, const char *section, const char *name)
{
    const struct conf_key *k = find_key(section, name);
    return k ? c->set[k - conf_keys] : 0;
}

/* The line that set a key; where none did (the relation is with a default): the file's first. */
static unsigned line_of(const struct load *l, const char *section, const char *name)
{
    unsigned line = conf_line(l->conf, section, name);
    return line ? line : 1;
}

static void check_range(struct load *l, uint32_t mask)
{
    const struct conf *c = l->conf;
    unsigned line = line_of(l, "network", "range");
    uint32_t first = v4(&c->network.range_first), last = v4(&c->network.range_last);
    if (first > last)
        load_report(l, line, "range: its first address is above its last");
    else if ((first & mask) != (last & mask))
        load_report(l, line, "range: its ends are not in one network of this netmask");
    else if ((first & ~mask) == 0 || (last & ~mask) == ~mask)
        load_report(l, line, "range: it holds the network's own or its broadcast address");
}

/* An address that machines must reach directly and that none of them may get. */
static void check_outside_range(struct load *l, const char *name, const struct in6_addr *a, uint32_t mask,
                                bool same_net)
{
    const struct conf *c = l->conf;
    uint32_t first = v4(&c->network.range_first), last = v4(&c->network.range_last);
    if (!is_set(a) || !is_set(&c->network.range_first))
        return;
    if (v4(a) >= first && v4(a) <= last)
        load_report(l, line_of(l, "network", name), "%s: it lies in range", name);
    else if (same_net && (v4(a) & mask) != (first & mask))
        load_report(l, line_of(l, "network", name), "%s: it is not in the network of range", name);
}

static void check_network(struct load *l)
{
    const struct conf *c = l->conf;
    uint32_t mask = v4(&c->network.netmask);
    if (!is_set(&c->network.netmask) || mask == 0 || (~mask & (~mask + 1)) != 0) {
        load_report(l, line_of(l, "network", "netmask"),
                    "netmask: not ones followed by zeroes; try: 255.255.255.0");
        return;
    }
    if (is_set(&c->network.range_first))
        check_range(l, mask);
    check_outside_range(l, "router", &c->network.router, mask, true);
    check_outside_range(l, "next-server", &c->network.next_server, mask, false);
    check_outside_range(l, "dns", &c->network.dns, mask, false);
}

/* What no key alone can tell. */
static void check_relations(struct load *l)
{
    const struct conf *c = l->conf;
    check_network(l);
    if (c->boot.grace > c->boot.abandon)
        load_report(l, line_of(l, "boot", "grace"), "grace: longer than abandon");
    if (strlen(c->server.unix_socket) >= sizeof((struct sockaddr_un *)0)->sun_path)
        load_report(l, line_of(l, "server", "unix-socket"),
                    "unix-socket: longer than a socket's path may be (%zu)",
                    sizeof((struct sockaddr_un *)0)->sun_path - 1);
    if (strcmp(c->server.images_dir, c->server.overlays_dir) == 0)
        load_report(l, line_of(l, "server", "overlays-dir"), "overlays-dir: the same as images-dir");
}

/* Paths that were not given follow the folders that were. */
static int derive(struct conf *c, struct err *e)
{
    for (size_t i = 0; i < conf_nkeys; i++) {
        const struct conf_key *k = &conf_keys[i];
        char *now;
        if (k->under == UNDER_NOTHING)
            continue;
        memcpy(&now, (char *)c + k->offset, sizeof now);
        if (now)
            continue;
        const char *base = k->under == UNDER_STATE ? c->server.state_dir : c->server.run_dir;
        cleanup(free) char *path = path_format("%s/%s", strcmp(base, "/") == 0 ? "" : base, k->def);
        if (key_parse(k, path, c, e) < 0)
            return err_wrap(e, "%s", k->name);
    }
    return 0;
}

/* All defaults but those that derive() gives. */
static int set_defaults(struct conf *c, struct err *e)
{
    *c = (struct conf){.server.port = 0};
    for (size_t i = 0; i < conf_nkeys; i++)
        if (conf_keys[i].under == UNDER_NOTHING && key_parse(&conf_keys[i], conf_keys[i].def, c, e) < 0)
            return err_wrap(e, "the default of %s", conf_keys[i].name);
    return 0;
}

int conf_defaults(struct conf *c, struct err *e)
{
    if (set_defaults(c, e) == 0 && derive(c, e) == 0)
        return 0;
    conf_release(c);
    return -1;
}

/* Reads l->text into *l->conf. */
static int load_text(struct load *l, struct err *e)
{
    if (set_defaults(l->conf, e) < 0)
        return -1;
    if (ini_parse_stream(next_line, l, handle_key, l) == -2)
        return err_sys(e, ENOMEM, "%s", l->path);
    if (derive(l->conf, e) < 0)
        return -1;
    if (!conf_line(l->conf, "access", "check") && l->conf->network.mode != CONF_MODE_DHCP)
        l->conf->access.check = CONF_CHECK_ARP; /* there are no leases of ours to go by */
    objects_check(l);
    if (!l->mistakes)
        check_relations(l);
    if (l->mistakes)
        *e = l->first;
    return l->mistakes ? -1 : 0;
}

int conf_load(const char *path, struct conf *ret, conf_mistake *mistake, void *ctx, struct err *e)
{
    cleanup(free) char *text = NULL;
    size_t len;
    if (read_file(path, FILE_SIZE_MAX, &text, &len, e) < 0) {
        if (e->code == ERR_NOT_FOUND)
            return err_set_sys(e, ERR_NOT_FOUND, ENOENT, "%s: no such file; try: labboot config example >%s",
                               path, path);
        return -1;
    }
    struct conf conf;
    struct load l = {
        .path = path, .conf = &conf, .mistake = mistake, .mistake_ctx = ctx, .text = text, .end = text + len};
    if (load_text(&l, e) < 0) {
        conf_release(&conf);
        return -1;
    }
    *ret = conf;
    return 0;
}

void conf_release(struct conf *c)
{
    for (size_t i = 0; i < conf_nkeys; i++)
        key_release(&conf_keys[i], c);
    objects_release(c);
}

const char *conf_default_path(void)
{
    const char *path = getenv("LABBOOT_CONFIG");
    return path && *path ? path : SYSCONFDIR "/labboot/labboot.conf";
}

char *conf_catalog_path(const struct conf *c)
{
    return path_format("%s/catalog.db", c->server.state_dir);
}

char *conf_temporal_dir(const struct conf *c, int64_t id)
{
    return path_format("%s/temporal-%lld", c->server.overlays_dir, (long long)id);
}

char *conf_overlay_dir(const struct conf *c, int64_t boot, size_t n)
{
    return path_format("%s/%lld/%zu", c->server.overlays_dir, (long long)boot, n);
}
