/* SPDX-License-Identifier: BSD-3-Clause */
/* conf: the table, its example and its page agree; each mistake is found with its line and a way out. */
#include "conf/keys.h"

#include "lib/base/bytes.h"
#include "tests/unit/unit.h"

#include <glob.h>
#include <sys/stat.h>

static struct err e;

static const char *source_dir(void)
{
    const char *dir = getenv("srcdir");
    return dir ? dir : ".";
}

static char *file_of(const char *text, size_t len)
{
    char *path = path_format("%s/labboot.conf", unit_dir());
    CHECK_OK(atomic_replace(path, NULL, text, len, 0644, &e));
    return path;
}

static void collect(void *ctx, const char *line)
{
    strbuf_appendf(ctx, "%s\n", line + strlen(unit_dir()) + 1);
}

static void load_fails(const char *text, size_t len, const char *mistakes)
{
    cleanup(free) char *path = file_of(text, len);
    cleanup(strbuf) struct strbuf got = STRBUF_INIT;
    struct conf c;
    CHECK_FAILS(conf_load(path, &c, collect, &got, &e), ERR_USAGE);
    CHECK_STR(strbuf_text(&got), mistakes);
}

static void load_text(const char *text, struct conf *c)
{
    cleanup(free) char *path = file_of(text, strlen(text));
    CHECK_OK(conf_load(path, c, NULL, NULL, &e));
}

static void same_as(const struct conf *a, const struct conf *b)
{
    cleanup(strbuf) struct strbuf text_a = STRBUF_INIT, text_b = STRBUF_INIT;
    conf_show(a, &text_a);
    conf_show(b, &text_b);
    CHECK_STR(strbuf_text(&text_a), strbuf_text(&text_b));
}

static void example_equals_the_defaults(void)
{
    struct conf defaults, loaded;
    CHECK_OK(conf_defaults(&defaults, &e));
    cleanup(strbuf) struct strbuf example = STRBUF_INIT;
    conf_example(&example);
    load_text(strbuf_text(&example), &loaded);
    same_as(&defaults, &loaded);
    conf_release(&loaded);

    /* Uncommented too: "#key = value" and "#[user alice]" stand without a blank behind the #. */
    for (char *p = example.s; *p; p++)
        if (*p == '#' && ((p[1] >= 'a' && p[1] <= 'z') || p[1] == '['))
            *p = ' ';
    load_text(strbuf_text(&example), &loaded);
    CHECK(loaded.nobjects == 3 && loaded.objects[2].kind == CONF_MACHINE);
    *strstr(example.s, "[user alice]") = '\0';
    conf_release(&loaded);
    load_text(strbuf_text(&example), &loaded);
    same_as(&defaults, &loaded);
    conf_release(&loaded);
    conf_release(&defaults);
}

/* 50 characters are the most that libinih hands on of a section. */
#define LONG_NAME "a-very-long-name-of-a-machine-in-the-lab-on-the-second-floor"

static void objects_are_declared(void)
{
    struct conf c, again;
    load_text(
        "[machine " LONG_NAME "]\nmac = 52-54-00-00-00-01, 5254.0000.0002\nmac = 525400000003\n"
        "managed = no\ndisk-size = 1G\n[user  zoe ]\nemail = zoe@example.org\nname = Zo\xc3\xab \"Z\" \\ X\n"
        "[setup desk]\nimages = a@latest,update b@12\nimages = zoe/c\n[store]\nzstd-level = 9\n",
        &c);
    CHECK(c.nobjects == 3 && c.store.zstd_level == 9);
    const struct conf_object *m = &c.objects[0], *u = &c.objects[1], *s = &c.objects[2];
    CHECK(m->kind == CONF_MACHINE && m->line == 1 && m->machine.nmacs == 3 && !m->machine.managed);
    CHECK_STR(m->name, LONG_NAME);
    CHECK(m->machine.macs[1].b[5] == 2 && m->machine.disk_size == GIB && m->machine.architecture == 0);
    CHECK(conf_object_has(m, "disk-size") && !conf_object_has(m, "disk-filesystem"));
    CHECK(u->kind == CONF_USER && u->user.role == 0 && s->kind == CONF_SETUP && !*s->setup.owner);
    CHECK_STR(u->name, "zoe");
    CHECK_STR(s->setup.images[2], "zoe/c");
    CHECK(!s->setup.images[3]);

    cleanup(strbuf) struct strbuf shown = STRBUF_INIT, json = STRBUF_INIT;
    conf_show(&c, &shown);
    conf_show_json(&c, &json);
    CHECK(strstr(strbuf_text(&json),
                 "}, \"user\": {\"zoe\": {\"email\": \"zoe@example.org\", "
                 "\"name\": \"Zo\xc3\xab \\\"Z\\\" \\\\ X\"}}, \"setup\": {\"desk\": "
                 "{\"images\": [\"a@latest,update\", \"b@12\", \"zoe/c\"]}}, \"machine\": {"));
    load_text(strbuf_text(&shown), &again);
    same_as(&c, &again);
    CHECK(again.nobjects == 3);
    conf_release(&again);
    conf_release(&c);
}

static void see_difference(void *ctx, const char *name, unsigned restart)
{
    strbuf_appendf(ctx, "%s %u\n", name, restart);
    CHECK(conf_restart_of(name) == restart);
}

static void another_reading_is_taken_over(void)
{
    struct conf old, file, now;
    cleanup(strbuf) struct strbuf before = STRBUF_INIT, after = STRBUF_INIT;
    load_text("[server]\nport = 1\n[boot]\ngrace = 5s\n[access]\nadmin = ::1\n[user al]\nemail = a@b\n",
              &old);
    load_text("[server]\nport = 2\n[network]\nrange = 10.0.0.2-10.0.0.3\n[boot]\ngrace = 6s\n", &file);
    conf_compare(&old, &file, see_difference, &before);
    CHECK_STR(strbuf_text(&before), "[server] port 1\n[network] range 2\n[boot] grace 0\n[access] admin 0\n");
    CHECK_OK(conf_take_over(&old, &file, &now, &e));
    CHECK(now.server.port == 1 && now.boot.grace == 6 && now.access.nadmin == 0 && now.nobjects == 0);
    conf_compare(&now, &file, see_difference, &after);
    CHECK_STR(strbuf_text(&after), "[server] port 1\n");
    conf_release(&now);
    conf_release(&old);
    conf_release(&file);
}

static void shown_values_read_back(void)
{
    struct conf c, again;
    load_text("[server]\nstate-dir=/srv/lab\nlisten = 10.77.0.1, ::1 fd00::1\nport=10810\nlog-level = debug\n"
              "[network]\nrange = 10.77.0.100 - 10.77.0.200\nrouter=10.77.0.1\nmode=proxy\n"
              "[boot]\ngrace = 90s\nkernel-arguments = quiet systemd.mask=x ; a comment\n"
              "[store]\nchunk-size=16k\nreserve=1536M\n[overlay]\nquota=3000\n[access]\nadmin=10.1.0.0/"
              "16,fd00::/64 ::1\n",
              &c);
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    conf_show(&c, &shown);
    CHECK(strstr(strbuf_text(&shown), "\ngrace = 90s\n"));
    CHECK(strstr(strbuf_text(&shown), "\nkernel-arguments = quiet systemd.mask=x\n"));
    CHECK(strstr(strbuf_text(&shown), "\nadmin = 10.1.0.0/16, fd00::/64, ::1\n"));
    CHECK(strstr(strbuf_text(&shown), "\nlisten = 10.77.0.1, ::1, fd00::1\n"));
    CHECK(strstr(strbuf_text(&shown), "\nreserve = 1536M\n"));
    load_text(strbuf_text(&shown), &again);
    same_as(&c, &again);
    CHECK(again.overlay.quota == 3000 && again.store.chunk_size == 16 * KIB && again.access.nadmin == 3);
    conf_release(&again);
    conf_release(&c);
}

static void paths_follow_their_folders(void)
{
    struct conf c;
    load_text("[server]\nstate-dir = /srv/lab\nrun-dir = /run/x\noverlays-dir = /fast\n", &c);
    CHECK_STR(c.server.images_dir, "/srv/lab/images");
    CHECK_STR(c.server.overlays_dir, "/fast");
    CHECK_STR(c.network.tftp_root, "/srv/lab/tftp");
    CHECK_STR(c.server.unix_socket, "/run/x/nbd.sock");
    cleanup(free) char *catalog = conf_catalog_path(&c), *overlay = conf_overlay_dir(&c, 7, 1);
    CHECK_STR(catalog, "/srv/lab/catalog.db");
    CHECK_STR(overlay, "/fast/7/1");
    conf_release(&c);
}

static void access_follows_the_mode(void)
{
    struct conf c;
    load_text("[network]\nmode = proxy\n", &c);
    CHECK(c.access.check == CONF_CHECK_ARP);
    conf_release(&c);
    load_text("[network]\nmode = none\n[access]\ncheck = lease\n", &c);
    CHECK(c.access.check == CONF_CHECK_LEASE);
    conf_release(&c);
}

static void lines_are_known(void)
{
    struct conf c;
    load_text("[server]\nport = 99\n[access]\n\ntls = require\n", &c);
    CHECK(c.access.tls == CONF_TLS_REQUIRE && c.access.tls_credentials[0] == '/');
    CHECK(conf_line(&c, "access", "tls") == 5 && conf_line(&c, "server", "port") == 2);
    CHECK(conf_line(&c, "access", "tls-credentials") == 0 && conf_line(&c, "access", "port") == 0);
    conf_release(&c);
}

static void spellings(void)
{
    struct conf c;
    load_text("\xef\xbb\xbf[server]\r\n  port : 99\r\n\r\n\tthreads=2\r\n[access] ; who\nadmin "
              "=\n[server]\nlisten=",
              &c);
    CHECK(c.server.port == 99 && c.server.threads == 2 && c.access.nadmin == 0 && !c.server.listen[0]);
    conf_release(&c);
    load_text("", &c);
    conf_release(&c);
}

/* Each tests/bad/conf/NAME.conf holds, in lines "#! LINE: message", all that is reported of it, in order. */
static void bad_file(const char *path)
{
    cleanup(free) char *text = NULL;
    cleanup(strbuf) struct strbuf wanted = STRBUF_INIT;
    size_t len;
    CHECK_OK(read_file(path, MIB, &text, &len, &e));
    for (const char *p = strstr(text, "#! "); p; p = strstr(p, "#! ")) {
        p += 3;
        strbuf_appendf(&wanted, "labboot.conf:%.*s\n", (int)strcspn(p, "\n"), p);
    }
    fprintf(stderr, "%s\n", path);
    CHECK(wanted.len > 0);
    load_fails(text, len, strbuf_text(&wanted));
}

static void bad_files(void)
{
    cleanup(free) char *pattern = path_format("%s/tests/bad/conf/*.conf", source_dir());
    glob_t found;
    CHECK(glob(pattern, 0, NULL, &found) == 0);
    for (size_t i = 0; i < found.gl_pathc; i++)
        bad_file(found.gl_pathv[i]);
    globfree(&found);
}

static void hostile_bytes(void)
{
    load_fails("[server]\nport\0=1\n", 17, "labboot.conf:2: a NUL character\n");
    char line[5000];
    memset(line, 'a', sizeof line);
    load_fails(line, sizeof line, "labboot.conf:1: longer than 197 characters\n");
    line[0] = '[';
    line[100] = ']';
    load_fails(line, 101,
               "labboot.conf:1: unknown section "
               "[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]; try: "
               "[overlay]\n");
    static const char control[] = "[server]\n\x1b[31m\xff = 1\n";
    load_fails(control, sizeof control - 1,
               "labboot.conf:2: unknown key '\\x1b[31m\\xff' in [server]; try: listen\n");
}

static void unreadable_files(void)
{
    struct conf c;
    cleanup(free) char *missing = path_format("%s/missing.conf", unit_dir());
    CHECK_FAILS(conf_load(missing, &c, NULL, NULL, &e), ERR_NOT_FOUND);
    CHECK(strstr(e.msg, "no such file; try: labboot config example"));
    CHECK_FAILS(conf_load(unit_dir(), &c, NULL, NULL, &e), ERR_FAILED);
    cleanup(free) char *large = path_format("%s/large.conf", unit_dir());
    CHECK_OK(atomic_replace(large, NULL, "", 0, 0600, &e));
    CHECK(truncate(large, MIB + 1) == 0);
    CHECK_FAILS(conf_load(large, &c, NULL, NULL, &e), ERR_FAILED);
}

/* Default and restart, in the paragraph of the key, which begins at `at`. */
static void page_says(const struct conf_key *k, const char *at)
{
    static const char *const restarts[] = {NULL, "labboot serve", "labboot dhcp",
                                           "labboot serve and labboot dhcp"};
    const char *next = strstr(at, "\n.TP\n"), *def = strstr(at, "\nDefault: ");
    const char *restart = strstr(at, "\nA change needs a restart of ");
    CHECK(def && (!next || def < next));
    cleanup(free) char *wanted = path_format("\nDefault: %s.\n", *k->def ? k->def : "none");
    if (k->kind != KIND_PATH && k->kind != KIND_IPV4 && strncmp(def, wanted, strlen(wanted)) != 0) {
        fprintf(stderr, "%s: the page says%.40s\n", k->name, def);
        exit(1);
    }
    bool said = restart && (!next || restart < next);
    if (said != (k->restart != 0))
        fprintf(stderr, "%s: the page is wrong about restarts\n", k->name);
    CHECK(said == (k->restart != 0));
    if (said) {
        cleanup(free) char *sentence =
            path_format("\nA change needs a restart of %s.\n", restarts[k->restart]);
        CHECK(strncmp(restart, sentence, strlen(sentence)) == 0);
    }
}

/* The page names every key once, under its section, in the table's order, with its default, and no other key. */
static void page_agrees_with_the_table(void)
{
    cleanup(free) char *path = path_format("%s/conf/labboot.conf.5", source_dir()), *page = NULL;
    CHECK_OK(read_file(path, MIB, &page, NULL, &e));
    char *to = page;
    for (char *from = page; *from; from++) /* troff's hyphens */
        if (from[0] != '\\' || from[1] != '-')
            *to++ = *from;
    *to = '\0';
    const struct conf_key *k;
    const char *at = page, *section = "";
    size_t keys = 0, count = 0;
    for (; (k = key_at(count)); count++) {
        cleanup(free) char *heading = path_format("\n.SS [%s]\n", k->section);
        if (strcmp(section, k->section) != 0)
            CHECK(at = strstr(at, heading));
        section = k->section;
        cleanup(free) char *name = path_format("\n.TP\n.B %s\n", k->name);
        const char *found = strstr(at, name);
        if (!found)
            fprintf(stderr, "the page lacks %s, or has it elsewhere\n", k->name);
        CHECK(found);
        at = found + strlen(name) - 1;
        page_says(k, at);
    }
    for (const char *p = strstr(page, "\n.TP\n"); p; p = strstr(p + 1, "\n.TP\n"))
        keys++;
    CHECK(keys == count);
}

static void json_is_whole(void)
{
    struct conf c;
    cleanup(strbuf) struct strbuf json = STRBUF_INIT;
    load_text("[server]\nstate-dir = /srv/a\"b\\c\nlisten=::1 10.0.0.1\n", &c);
    conf_show_json(&c, &json);
    CHECK(strstr(strbuf_text(&json), "{\"server\": {\"state-dir\": \"/srv/a\\\"b\\\\c\", "));
    CHECK(strstr(strbuf_text(&json), "\"listen\": [\"::1\", \"10.0.0.1\"], \"port\": 10809, "));
    CHECK(strstr(strbuf_text(&json), "\"admin\": [], \"tls\": \"off\", "));
    CHECK(strstr(strbuf_text(&json), "/labboot/tls\"}, \"user\": {}, \"setup\": {}, \"machine\": {}}\n"));
    conf_release(&c);
}

int main(void)
{
    UNIT(example_equals_the_defaults);
    UNIT(shown_values_read_back);
    UNIT(objects_are_declared);
    UNIT(another_reading_is_taken_over);
    UNIT(paths_follow_their_folders);
    UNIT(access_follows_the_mode);
    UNIT(lines_are_known);
    UNIT(spellings);
    UNIT(bad_files);
    UNIT(hostile_bytes);
    UNIT(unreadable_files);
    UNIT(page_agrees_with_the_table);
    UNIT(json_is_whole);
    return 0;
}
