/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_PARSE_H
#define LABBOOT_PARSE_H

/* Words of the command line, the configuration and export names, read strictly: nothing is skipped or guessed.
 * All errors are ERR_USAGE and quote the word, escaped. */

#include "lib/base/err.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* A whole decimal number in [min, max]. */
int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e) must_check;
/* Bytes, with an optional K, M, G or T (base 1024): "128M". In [min, max]. */
int parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e) must_check;
/* Seconds, with an optional s, m, h or d: "60", "24h". In [min, max]. */
int parse_duration(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e) must_check;
/* A point in time as people write it, in seconds since 1970: how long ago ("2h", "3d": s, m, h or d), a local date or
 * date and time ("2026-11-24", "2026-11-24 10:00", also with seconds, and with T for the space), or those seconds. */
int parse_time(const char *text, int64_t now, int64_t *ret, struct err *e) must_check;
/* true/false, yes/no, on/off, 1/0. */
int parse_bool(const char *text, bool *ret, struct err *e) must_check;

#define SIZE_TEXT_SIZE 24
/* "128M", "1.5G": three significant digits, for people. */
const char *format_size(uint64_t bytes, char buf[SIZE_TEXT_SIZE]);

#define NAME_MAX_LEN 63
/* A name of a user, an image or a setup: [a-z0-9._-], starts with a letter or digit, at most NAME_MAX_LEN
 * characters. `what` ("image", "user", …) is for the message. */
int parse_name(const char *what, const char *text, struct err *e) must_check;
/* A machine's name: a host name label: [a-z0-9-], starts and ends with a letter or digit, at most 63. */
int parse_host_name(const char *text, struct err *e) must_check;

/* An address range "10.0.0.0/24", "10.0.0.5", "fd00::/64": IPv4 is kept v4-mapped. */
struct ip_range {
    struct in6_addr address;
    unsigned prefix; /* of 128 */
};
int parse_ip_range(const char *text, struct ip_range *ret, struct err *e) must_check;
bool ip_range_contains(const struct ip_range *r, const struct in6_addr *a);
/* One address, IPv4 (v4-mapped in *ret) or IPv6. */
int parse_ip(const char *text, struct in6_addr *ret, struct err *e) must_check;
#define IP_TEXT_SIZE 46
/* "10.0.0.5" for a v4-mapped address. */
const char *format_ip(const struct in6_addr *a, char buf[IP_TEXT_SIZE]);

#endif
