/* SPDX-License-Identifier: BSD-3-Clause */
/* nbd-plugin/export-name: what the names mean, and that hostile ones are refused with an escaped message. */
#include "lib/base/bytes.h"
#include "nbd-plugin/access.h"
#include "nbd-plugin/export-name.h"
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static struct err e;

static void check(const char *name, enum export_kind kind, const char *token, const char *image)
{
    struct export_name x;
    char mac[MAC_TEXT_SIZE];
    CHECK_OK(export_name_parse(name, &x, &e));
    CHECK(x.kind == kind);
    CHECK_STR(x.token, token);
    CHECK_STR(x.image, image);
    if (kind == EXPORT_BOOT || kind == EXPORT_DONE)
        CHECK_STR(mac_format(&x.mac, mac), "52:54:00:12:34:56");
}

static void names_of_boots(void)
{
    check("", EXPORT_CALLER, "", "");
    check("52:54:00:12:34:56", EXPORT_BOOT, "", "");
    check("52-54-00-12-34-56/data", EXPORT_BOOT, "", "data");
    check("52-54-00-12-34-56.abc234", EXPORT_BOOT, "abc234", "");
    check("525400123456.abc/home-1", EXPORT_BOOT, "abc", "home-1");
    check("5254.0012.3456", EXPORT_BOOT, "", "");
    check("5254.0012.3456.abcdefghijklmnop/root", EXPORT_BOOT, "abcdefghijklmnop", "root");
    check("52:54:00:12:34:56.abc/done", EXPORT_DONE, "abc", "");
}

static void names_of_images(void)
{
    check("image/debian", EXPORT_IMAGE, "", "debian");
    check("image/alice/debian@1795460000", EXPORT_IMAGE, "", "alice/debian@1795460000");
}

static void hostile_names(void)
{
    char big[4097];
    memset(big, 'A', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    const char *const bad[] = {"../../etc/passwd",
                               "52:54:00:12:34:56/../x",
                               "52:54:00:12:34:56/",
                               "52:54:00:12:34:56.",
                               "image/",
                               "52:54:00:12:34:56.a.b",
                               "52:54:00:12:34:56.tok en",
                               "52:54:00:12:34:56 ",
                               "52:54:00:12:34:5",
                               "'; DROP TABLE boot; --",
                               "\"quoted\"",
                               "\xff\xfe\x80",
                               "image/\xc3\x28",
                               "image/a b",
                               "52:54:00:12:34:56.\n",
                               "52:54:00:12:34:56.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                               "52-54-00:12:34:56",
                               big};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct export_name x;
        CHECK_FAILS(export_name_parse(bad[i], &x, &e), ERR_USAGE);
        for (const char *p = e.msg; *p; p++)
            CHECK(*p >= 0x20 && *p < 0x7f);
        CHECK(strlen(e.msg) < 400);
    }
    struct export_name x;
    CHECK_FAILS(export_name_parse("\xff'", &x, &e), ERR_USAGE);
    CHECK(strstr(e.msg, "\\xff\\x27"));
}

static void peers(void)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr un = {.sa_family = AF_UNIX};
    struct peer p;
    CHECK(inet_pton(AF_INET, "10.9.8.7", &v4.sin_addr) == 1);
    peer_from_sockaddr((const struct sockaddr *)&v4, &p);
    CHECK_STR(p.text, "10.9.8.7");
    CHECK(!p.local);
    CHECK(inet_pton(AF_INET6, "::ffff:10.9.8.7", &v6.sin6_addr) == 1);
    peer_from_sockaddr((const struct sockaddr *)&v6, &p);
    CHECK_STR(p.text, "10.9.8.7");
    peer_from_sockaddr(&un, &p);
    CHECK(p.local);
    struct conf conf = {0};
    CHECK(peer_is_admin(&conf, &p));
    peer_from_sockaddr((const struct sockaddr *)&v4, &p);
    CHECK(!peer_is_admin(&conf, &p));
    CHECK_OK(parse_ip_range("10.9.8.0/24", &conf.access.admin[0], &e));
    conf.access.nadmin = 1;
    CHECK(peer_is_admin(&conf, &p));
}

int main(void)
{
    UNIT(names_of_boots);
    UNIT(names_of_images);
    UNIT(hostile_names);
    UNIT(peers);
    return 0;
}
