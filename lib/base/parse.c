/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/base/parse.h"

#include "lib/base/bytes.h"
#include "lib/base/strbuf.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define SHOWN_MAX 60 /* of a refused word, before escaping */

static int refuse(struct err *e, const char *text, const char *why)
{
    cleanup(strbuf) struct strbuf shown = STRBUF_INIT;
    strbuf_append_escaped(&shown, text, strnlen(text, SHOWN_MAX));
    return err_set(e, ERR_USAGE, "'%s' %s", strbuf_text(&shown), why);
}

/* Digits, then at most one of `units`, whose factors stand in `factors`. */
static int parse_with_unit(const char *text, const char *units, const uint64_t *factors, const char *why,
                           uint64_t *ret, struct err *e)
{
    uint64_t n = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (mul_overflows(n, (uint64_t)10, &n) || add_overflows(n, (uint64_t)(*p - '0'), &n))
            return refuse(e, text, "is too large a number");
    if (p == text)
        return refuse(e, text, why);
    if (*p) {
        const char *unit = strchr(units, *p);
        if (!unit || p[1])
            return refuse(e, text, why);
        if (mul_overflows(n, factors[unit - units], &n))
            return refuse(e, text, "is too large a number");
    }
    *ret = n;
    return 0;
}

int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e)
{
    uint64_t n;
    if (parse_with_unit(text, "", NULL, "is not a whole number", &n, e) < 0)
        return -1;
    if (n < min || n > max)
        return err_set(e, ERR_USAGE, "'%s' is not between %" PRIu64 " and %" PRIu64, text, min, max);
    *ret = n;
    return 0;
}

int parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e)
{
    static const uint64_t factors[] = {KIB, MIB, GIB, TIB, KIB, MIB, GIB, TIB};
    uint64_t n;
    if (parse_with_unit(text, "KMGTkmgt", factors, "is not a size; try: 512M (K, M, G and T are allowed)", &n,
                        e) < 0)
        return -1;
    if (n < min || n > max) {
        char low[SIZE_TEXT_SIZE], high[SIZE_TEXT_SIZE];
        return err_set(e, ERR_USAGE, "'%s' is not between %s and %s", text, format_size(min, low),
                       format_size(max, high));
    }
    *ret = n;
    return 0;
}

int parse_duration(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e)
{
    static const uint64_t factors[] = {1, 60, 3600, 86400};
    uint64_t n;
    if (parse_with_unit(text, "smhd", factors, "is not a time; try: 60s (s, m, h and d are allowed)", &n, e) <
        0)
        return -1;
    if (n < min || n > max)
        return err_set(e, ERR_USAGE, "'%s' is not between %" PRIu64 " and %" PRIu64 " seconds", text, min,
                       max);
    *ret = n;
    return 0;
}

#define TIME_MAX 253402300799 /* the last second of 9999 */

/* A local date and time in one of the formats, and nothing else behind it; false: it is in none of them, or there is no
 * such day. */
static bool parse_date(const char *text, int64_t *ret)
{
    static const char *const formats[] = {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                                          "%Y-%m-%dT%H:%M:%S"};
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct tm day = {.tm_isdst = -1};
        const char *end = strptime(text, formats[i], &day);
        if (!end || *end)
            continue;
        int mday = day.tm_mday;
        *ret = mktime(&day);
        return *ret >= 0 && day.tm_mday == mday; /* mktime makes 30 February a day of March */
    }
    return false;
}

int parse_time(const char *text, int64_t now, int64_t *ret, struct err *e)
{
    static const char *const why =
        "is not a time; try: 2h, 3d, 2026-11-24, '2026-11-24 10:00', or seconds since 1970";
    uint64_t n;
    int64_t date;
    size_t digits = strspn(text, "0123456789");
    if (digits > 0 && !text[digits]) {
        if (parse_number(text, 0, TIME_MAX, &n, e) < 0)
            return -1;
        *ret = (int64_t)n;
    } else if (strchr(text, '-')) {
        if (text[0] < '0' || text[0] > '9' || !parse_date(text, &date))
            return refuse(e, text, why);
        *ret = date;
    } else {
        if (parse_duration(text, 0, TIME_MAX, &n, e) < 0)
            return refuse(e, text, why);
        *ret = (int64_t)n < now ? now - (int64_t)n : 0;
    }
    return 0;
}

int parse_bool(const char *text, bool *ret, struct err *e)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret = i % 2;
            return 0;
        }
    }
    return refuse(e, text, "is neither true nor false");
}

const char *format_size(uint64_t bytes, char buf[SIZE_TEXT_SIZE])
{
    static const char units[] = "BKMGTPE";
    size_t u = 0;
    double v = (double)bytes;
    for (; v >= 1024 && u < sizeof units - 2; u++)
        v /= 1024;
    if (u == 0)
        snprintf(buf, SIZE_TEXT_SIZE, "%" PRIu64, bytes);
    else
        snprintf(buf, SIZE_TEXT_SIZE, "%.*f%c", v < 100 && v - (double)(uint64_t)v > 0.005 ? 1 : 0, v,
                 units[u]);
    return buf;
}

static bool lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

int parse_name(const char *what, const char *text, struct err *e)
{
    size_t len = strlen(text);
    bool good = len > 0 && len <= NAME_MAX_LEN && lower_or_digit(text[0]);
    for (size_t i = 0; good && i < len; i++)
        good = lower_or_digit(text[i]) || strchr("._-", text[i]);
    if (good)
        return 0;
    cleanup(strbuf) struct strbuf why = STRBUF_INIT;
    strbuf_appendf(&why,
                   "is not a name for a%s %s; allowed: 1 to %d of a-z 0-9 . _ -, a letter or digit first",
                   strchr("aeio", what[0]) ? "n" : "", what, NAME_MAX_LEN);
    return refuse(e, text, strbuf_text(&why));
}

int parse_host_name(const char *text, struct err *e)
{
    size_t len = strlen(text);
    bool good = len > 0 && len <= NAME_MAX_LEN && lower_or_digit(text[0]) && lower_or_digit(text[len - 1]);
    for (size_t i = 0; good && i < len; i++)
        good = lower_or_digit(text[i]) || text[i] == '-';
    return good ? 0
                : refuse(e, text,
                         "is not a name for a machine; allowed: 1 to 63 of a-z 0-9 -, no - at the ends");
}

int parse_ip(const char *text, struct in6_addr *ret, struct err *e)
{
    struct in6_addr a = {0};
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        a.s6_addr[10] = a.s6_addr[11] = 0xff;
        memcpy(a.s6_addr + 12, &v4, 4);
    } else if (inet_pton(AF_INET6, text, &a) != 1) {
        return refuse(e, text, "is not an IP address");
    }
    *ret = a;
    return 0;
}

int parse_ip_range(const char *text, struct ip_range *ret, struct err *e)
{
    char address[IP_TEXT_SIZE];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    if (len >= sizeof address)
        return refuse(e, text, "is not an IP address");
    memcpy(address, text, len);
    address[len] = '\0';
    struct ip_range r = {.prefix = 128};
    if (parse_ip(address, &r.address, e) < 0)
        return -1;
    if (slash) {
        bool v4 = IN6_IS_ADDR_V4MAPPED(&r.address);
        uint64_t prefix;
        if (parse_number(slash + 1, 0, v4 ? 32 : 128, &prefix, e) < 0)
            return -1;
        r.prefix = (unsigned)prefix + (v4 ? 96 : 0);
    }
    *ret = r;
    return 0;
}

bool ip_range_contains(const struct ip_range *r, const struct in6_addr *a)
{
    unsigned whole = r->prefix / 8, bits = r->prefix % 8;
    if (memcmp(r->address.s6_addr, a->s6_addr, whole) != 0)
        return false;
    return bits == 0 || ((r->address.s6_addr[whole] ^ a->s6_addr[whole]) >> (8 - bits)) == 0;
}

const char *format_ip(const struct in6_addr *a, char buf[IP_TEXT_SIZE])
{
    if (IN6_IS_ADDR_V4MAPPED(a))
        inet_ntop(AF_INET, a->s6_addr + 12, buf, IP_TEXT_SIZE);
    else
        inet_ntop(AF_INET6, a, buf, IP_TEXT_SIZE);
    return buf;
}
