/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/base: parsers and checksums against known answers and bad words. */
#include "lib/base/bytes.h"
#include "lib/base/crc32c.h"
#include "lib/base/hwid.h"
#include "lib/base/parse.h"
#include "lib/base/strbuf.h"
#include "tests/unit/unit.h"

static struct err e;

static void crc_of_rfc_3720(void)
{
    unsigned char buf[32];
    CHECK(crc32c(0, "123456789", 9) == 0xe3069283);
    memset(buf, 0, sizeof buf);
    CHECK(crc32c(0, buf, 32) == 0x8a9136aa);
    memset(buf, 0xff, sizeof buf);
    CHECK(crc32c(0, buf, 32) == 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        buf[i] = (unsigned char)i;
    CHECK(crc32c(0, buf, 32) == 0x46dd794e);
    CHECK(crc32c(crc32c(0, buf, 5), buf + 5, 27) == 0x46dd794e);
}

static void macs_in_all_spellings(void)
{
    static const char *const good[] = {"52:54:00:d9:71:9A", "52-54-00-D9-71-9a", "5254.00d9.719a",
                                       "525400d9719a"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct mac m;
        char text[MAC_TEXT_SIZE];
        CHECK_OK(mac_parse(good[i], strlen(good[i]), &m, &e));
        CHECK_STR(mac_format(&m, text), "52:54:00:d9:71:9a");
        CHECK_STR(mac_format_dashes(&m, text), "52-54-00-d9-71-9a");
    }
    static const char *const bad[] = {"",
                                      "52:54:00:d9:71",
                                      "52:54-00:d9:71:9a",
                                      "52:54:00:d9:71:9g",
                                      "5254:00d9:719a",
                                      "52:54:00:d9:71:9a:",
                                      "00:00:00:00:00:00",
                                      "01:00:5e:00:00:01",
                                      "ff:ff:ff:ff:ff:ff",
                                      "52:54:00:d9:71:9\n",
                                      "5254.00d9-719a",
                                      "::::::::::::"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct mac m;
        CHECK_FAILS(mac_parse(bad[i], strlen(bad[i]), &m, &e), ERR_USAGE);
    }
}

static void uuids(void)
{
    struct uuid u, v;
    char text[UUID_TEXT_SIZE];
    CHECK_OK(uuid_from_text("74368CEC-7903-4233-87b7-564195619dce", &u, &e));
    CHECK_STR(uuid_to_text(&u, text), "74368cec-7903-4233-87b7-564195619dce");
    uuid_make(&v);
    CHECK(!uuid_equal(&u, &v) && !uuid_is_zero(&v));
    CHECK_FAILS(uuid_from_text("74368cec-7903-4233-87b7-564195619dc", &u, &e), ERR_USAGE);
    CHECK_FAILS(uuid_from_text("../../etc", &u, &e), ERR_USAGE);
}

static void numbers_sizes_times(void)
{
    uint64_t n;
    CHECK_OK(parse_number("10809", 1, 65535, &n, &e));
    CHECK(n == 10809);
    CHECK_FAILS(parse_number("0", 1, 65535, &n, &e), ERR_USAGE);
    CHECK_FAILS(parse_number("65536", 1, 65535, &n, &e), ERR_USAGE);
    CHECK_FAILS(parse_number("12x", 0, 65535, &n, &e), ERR_USAGE);
    CHECK_FAILS(parse_number("-1", 0, 65535, &n, &e), ERR_USAGE);
    CHECK_FAILS(parse_number("", 0, 65535, &n, &e), ERR_USAGE);
    CHECK_FAILS(parse_number("99999999999999999999", 0, UINT64_MAX, &n, &e), ERR_USAGE);
    CHECK_OK(parse_size("128M", 0, UINT64_MAX, &n, &e));
    CHECK(n == 128 * MIB);
    CHECK_OK(parse_size("3t", 0, UINT64_MAX, &n, &e));
    CHECK(n == 3 * TIB);
    CHECK_FAILS(parse_size("16777216T", 0, UINT64_MAX, &n, &e), ERR_USAGE);
    CHECK_FAILS(parse_size("1MB", 0, UINT64_MAX, &n, &e), ERR_USAGE);
    CHECK_FAILS(parse_size("M", 0, UINT64_MAX, &n, &e), ERR_USAGE);
    CHECK_OK(parse_duration("24h", 0, UINT64_MAX, &n, &e));
    CHECK(n == 86400);
    CHECK_OK(parse_duration("60", 0, UINT64_MAX, &n, &e));
    CHECK(n == 60);
    CHECK_FAILS(parse_duration("60 s", 0, UINT64_MAX, &n, &e), ERR_USAGE);
    bool b = false;
    CHECK_OK(parse_bool("yes", &b, &e));
    CHECK(b);
    CHECK_FAILS(parse_bool("maybe", &b, &e), ERR_USAGE);
    char text[SIZE_TEXT_SIZE];
    CHECK_STR(format_size(0, text), "0");
    CHECK_STR(format_size(1023, text), "1023");
    CHECK_STR(format_size(1536, text), "1.5K");
    CHECK_STR(format_size(128 * MIB, text), "128M");
}

static void times_as_people_write_them(void)
{
    const int64_t now = 1795524000;
    int64_t t;
    setenv("TZ", "Europe/Amsterdam", 1);
    CHECK_OK(parse_time("2h", now, &t, &e));
    CHECK(t == now - 7200);
    CHECK_OK(parse_time("3d", now, &t, &e));
    CHECK(t == now - 259200);
    CHECK_OK(parse_time("900000d", now, &t, &e)); /* before 1970 there was nothing */
    CHECK(t == 0);
    CHECK_OK(parse_time("1795460000", now, &t, &e));
    CHECK(t == 1795460000);
    CHECK_OK(parse_time("2026-11-24", now, &t, &e));
    CHECK(t == 1795474800);
    CHECK_OK(parse_time("2026-11-24 10:00", now, &t, &e));
    CHECK(t == 1795510800);
    CHECK_OK(parse_time("2026-07-24T10:00:30", now, &t, &e)); /* summer time */
    CHECK(t == 1784880030);
    CHECK_OK(parse_time("2028-02-29", now, &t, &e));
    static const char *const bad[] = {"",
                                      "yesterday",
                                      "h",
                                      "-2h",
                                      "2 h",
                                      "2026-02-30",
                                      "2026-13-01",
                                      "2026-11-24 10",
                                      "2026-11-24 25:00",
                                      "2026-11-24 10:00 x",
                                      " 2026-11-24",
                                      "1960-01-01",
                                      "99999999999h",
                                      "999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t = 7;
        CHECK_FAILS(parse_time(bad[i], now, &t, &e), ERR_USAGE);
        CHECK(t == 7);
    }
}

static void names(void)
{
    CHECK_OK(parse_name("image", "debian-12.lab_1", &e));
    CHECK_FAILS(parse_name("image", "", &e), ERR_USAGE);
    CHECK_FAILS(parse_name("image", "Debian", &e), ERR_USAGE);
    CHECK_FAILS(parse_name("image", "../x", &e), ERR_USAGE);
    CHECK_FAILS(parse_name("image", ".x", &e), ERR_USAGE);
    CHECK_FAILS(parse_name("image", "a\"b", &e), ERR_USAGE);
    CHECK(strstr(e.msg, "\\x22") && strstr(e.msg, "an image"));
    char long_name[NAME_MAX_LEN + 2];
    memset(long_name, 'a', sizeof long_name);
    long_name[NAME_MAX_LEN] = '\0';
    CHECK_OK(parse_name("user", long_name, &e));
    long_name[NAME_MAX_LEN] = 'a';
    long_name[NAME_MAX_LEN + 1] = '\0';
    CHECK_FAILS(parse_name("user", long_name, &e), ERR_USAGE);
    CHECK_OK(parse_host_name("lab-07", &e));
    CHECK_FAILS(parse_host_name("lab-", &e), ERR_USAGE);
    CHECK_FAILS(parse_host_name("lab.7", &e), ERR_USAGE);
}

static bool in_range(const char *range, const char *address)
{
    struct ip_range r;
    struct in6_addr a;
    CHECK_OK(parse_ip_range(range, &r, &e));
    CHECK_OK(parse_ip(address, &a, &e));
    return ip_range_contains(&r, &a);
}

static void addresses(void)
{
    CHECK(in_range("10.1.2.0/24", "10.1.2.255") && !in_range("10.1.2.0/24", "10.1.3.0"));
    CHECK(in_range("10.1.2.3", "10.1.2.3") && !in_range("10.1.2.3", "10.1.2.2"));
    CHECK(in_range("0.0.0.0/0", "1.2.3.4") && !in_range("0.0.0.0/0", "fd00::1"));
    CHECK(in_range("10.0.0.0/9", "10.127.0.1") && !in_range("10.0.0.0/9", "10.128.0.1"));
    CHECK(in_range("fd00::/64", "fd00::1:2:3:4") && !in_range("fd00::/64", "fd00:0:0:1::1"));
    struct ip_range r;
    CHECK_FAILS(parse_ip_range("10.0.0.0/33", &r, &e), ERR_USAGE);
    CHECK_FAILS(parse_ip_range("10.0.0/8", &r, &e), ERR_USAGE);
    CHECK_FAILS(parse_ip_range("lab.example", &r, &e), ERR_USAGE);
    struct in6_addr a;
    char text[IP_TEXT_SIZE];
    CHECK_OK(parse_ip("10.0.0.1", &a, &e));
    CHECK_STR(format_ip(&a, text), "10.0.0.1");
}

static void errors_carry_context(void)
{
    struct err x;
    CHECK(err_sys(&x, 28, "image %s", "a") == -1 && x.sys == 28 && x.code == ERR_FAILED);
    CHECK(err_wrap(&x, "boot %d", 7) == -1);
    CHECK_STR(x.msg, "boot 7: image a: No space left on device");
    char big[1000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    err_set(&x, ERR_STATE, "%s", big);
    err_wrap(&x, "%s", big);
    CHECK(strlen(x.msg) == sizeof x.msg - 1 && x.code == ERR_STATE);
}

static void files_are_replaced_whole(void)
{
    cleanup(free) char *path = path_format("%s/deep/er/file", unit_dir());
    cleanup(free) char *dir = path_format("%s/deep/er", unit_dir());
    cleanup(free) char *text = NULL;
    CHECK_OK(make_dirs(dir, 0750, &e));
    CHECK_OK(atomic_replace(path, NULL, "one", 3, 0640, &e));
    CHECK_OK(atomic_replace(path, unit_dir(), "two", 3, 0640, &e));
    CHECK_OK(read_file(path, 10, &text, NULL, &e));
    CHECK_STR(text, "two");
    CHECK_FAILS(read_file(path, 2, &text, NULL, &e), ERR_FAILED);
    int a, b;
    cleanup(free) char *lock = path_format("%s/lock", unit_dir());
    CHECK_OK(lock_file(lock, false, &a, &e));
    CHECK_FAILS(lock_file(lock, false, &b, &e), ERR_STATE);
    close(a);
    CHECK_OK(lock_file(lock, false, &b, &e));
    close(b);
    CHECK_OK(remove_tree(dir, &e));
    CHECK_OK(remove_tree(dir, &e));
    CHECK_FAILS(read_file(path, 10, &text, NULL, &e), ERR_NOT_FOUND);
}

int main(void)
{
    UNIT(crc_of_rfc_3720);
    UNIT(macs_in_all_spellings);
    UNIT(uuids);
    UNIT(numbers_sizes_times);
    UNIT(times_as_people_write_them);
    UNIT(names);
    UNIT(addresses);
    UNIT(errors_carry_context);
    UNIT(files_are_replaced_whole);
    return 0;
}
