/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/hook-event.h"

#include "lib/base/parse.h"

#include <string.h>

static bool is_one_of(const char *word, const char *const *set, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(word, set[i]) == 0)
            return true;
    return false;
}

static int parse_lease(char **words, const char *expires, int64_t or_else, struct hook_event *ret,
                       struct err *e)
{
    if (!words[1] || !words[2])
        return err_set(e, ERR_USAGE, "'%s' wants a MAC and an address", words[0]);
    struct hook_event event = {.kind = strcmp(words[0], "del") == 0 ? HOOK_REMOVE : HOOK_LEASE,
                               .expires = or_else};
    if (mac_parse(words[1], strlen(words[1]), &event.mac, e) < 0 || parse_ip(words[2], &event.address, e) < 0)
        return -1;
    uint64_t number;
    if (expires && *expires) {
        if (parse_number(expires, 0, INT64_MAX, &number, e) < 0)
            return err_wrap(e, "DNSMASQ_LEASE_EXPIRES");
        event.expires = (int64_t)number;
    }
    *ret = event;
    return 0;
}

/* The boot in "…/boot/wait-52-54-00-12-34-56-BOOT.ipxe"; 0 for any other path. */
static int64_t boot_of_path(const char *path)
{
    static const char before[] = "/boot/wait-", after[] = ".ipxe";
    const size_t mac_len = MAC_TEXT_SIZE - 1;
    const char *name = strrchr(path, '/');
    if (!name || (size_t)(name - path) < 5 || strncmp(name - 5, before, sizeof before - 1) != 0)
        return 0;
    const char *mac_text = name + sizeof before - 1 - 5;
    struct mac mac;
    struct err ignored;
    if (strlen(mac_text) < mac_len + 2 || mac_parse(mac_text, mac_len, &mac, &ignored) < 0 ||
        mac_text[mac_len] != '-')
        return 0;
    const char *digits = mac_text + mac_len + 1;
    size_t len = strspn(digits, "0123456789");
    char number[20];
    uint64_t boot;
    if (len >= sizeof number || strcmp(digits + len, after) != 0)
        return 0;
    memcpy(number, digits, len);
    number[len] = '\0';
    return parse_number(number, 1, INT64_MAX, &boot, &ignored) < 0 ? 0 : (int64_t)boot;
}

static int parse_tftp(char **words, struct hook_event *ret, struct err *e)
{
    if (!words[1] || !words[2] || !words[3])
        return err_set(e, ERR_USAGE, "'tftp' wants a size, an address and a path");
    struct hook_event event = {.boot = boot_of_path(words[3]), .path = words[3]};
    event.kind = event.boot ? HOOK_WAITING : HOOK_FETCH;
    if (parse_ip(words[2], &event.address, e) < 0)
        return -1;
    *ret = event;
    return 0;
}

int hook_parse(char **words, const char *expires, int64_t or_else, struct hook_event *ret, struct err *e)
{
    static const char *const leases[] = {"add", "old", "del", "arp-add"};
    if (!words[0])
        return err_set(e, ERR_USAGE, "no event");
    if (strcmp(words[0], "tftp") == 0)
        return parse_tftp(words, ret, e);
    if (is_one_of(words[0], leases, sizeof leases / sizeof leases[0]))
        return parse_lease(words, expires, or_else, ret, e);
    *ret = (struct hook_event){.kind = HOOK_NOTHING};
    return 0;
}
