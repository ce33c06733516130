/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/tls.h"

#include "cli/cli.h"
#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPENSSL "/usr/bin/openssl"
#define KEYS_FILE_MAX MIB

static const struct spawn_limits limits = {.seconds = 20, .file_bytes = MIB};

/* Of a folder: what nbdkit's load_certificates (server/crypto.c) wants there; ca-crl.pem is read where it is. */
static const struct {
    const char *name;
    bool certificate;
} files[] = {{"server-cert.pem", true}, {"server-key.pem", false}, {"ca-cert.pem", true}};

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static char *file_at(const struct conf *conf, size_t i)
{
    return path_format("%s/%s", conf->access.tls_credentials, files[i].name);
}

static int may_read(const char *path, struct err *e)
{
    cleanup(close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0)
        return 0;
    int why = errno;
    if (why == ENOENT || why == ENOTDIR)
        return err_set_sys(e, ERR_NOT_FOUND, why,
                           "%s: no such file, and [access] tls needs it; try: TLS in labboot.conf(5)", path);
    if (why == EACCES)
        return err_set_sys(e, ERR_DENIED, why,
                           "%s: the server's user may not read it; try: chgrp " LABBOOT_USER
                           ", and chmod g+r (g+x for folders)",
                           path);
    return err_sys(e, why, "%s", path);
}

int tls_find(const struct conf *conf, struct err *e)
{
    const char *path = conf->access.tls_credentials;
    if (conf->access.tls == CONF_TLS_OFF)
        return 0;
    if (may_read(path, e) < 0)
        return -1;
    if (is_file(path))
        return 0;
    if (!is_folder(path))
        return err_set(e, ERR_FAILED, "%s: it is neither a folder nor a file; try: TLS in labboot.conf(5)",
                       path);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        cleanup(free) char *file = file_at(conf, i);
        if (may_read(file, e) < 0)
            return -1;
    }
    return 0;
}

static bool is_key(const char *line)
{
    const char *colon = strchr(line, ':');
    return colon && colon != line && colon[1] &&
           colon[1 + strspn(colon + 1, "0123456789abcdefABCDEF")] == '\0';
}

/* GnuTLS looks at it when a client comes, and says nothing of what it cannot read. */
static int check_keys(const char *path, struct err *e)
{
    cleanup(free) char *text = NULL;
    char *rest = NULL;
    size_t len;
    if (read_file(path, KEYS_FILE_MAX, &text, &len, e) < 0)
        return -1;
    for (char *line = strtok_r(text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest))
        if (is_key(line))
            return 0;
    return err_set(e, ERR_FAILED,
                   "%s: it has no line USER:KEY, the key in hexadecimal; try: psktool -u lab -p %s", path,
                   path);
}

/* nbdkit reads its credentials before all else; of the plugin it then only prints what it is. */
static int check_with_nbdkit(const struct conf *conf, struct err *e)
{
    cleanup(free) char *option = tls_option(conf);
    const char *const argv[] = {NBDKIT_PROGRAM, "--tls=require", option, "--dump-plugin", cli_plugin(), NULL};
    struct err said;
    if (spawn_limited(argv, &limits, &said) == 0)
        return 0;
    return err_set(e, said.code, "[access] tls-credentials: %s; try: TLS in labboot.conf(5)", said.msg);
}

/* The file is good otherwise. Where there is no openssl, nothing is known, and the clients say it. */
static bool ends_within(const char *path, unsigned days)
{
    struct err e;
    cleanup(free) char *seconds = path_format("%u", days * 86400);
    const char *const argv[] = {OPENSSL, "x509", "-noout", "-checkend", seconds, "-in", path, NULL};
    return access(OPENSSL, X_OK) == 0 && spawn_limited(argv, &limits, &e) < 0 && e.code == ERR_FAILED;
}

int tls_check(const struct conf *conf, struct err *e)
{
    if (conf->access.tls == CONF_TLS_OFF)
        return 0;
    bool folder = is_folder(conf->access.tls_credentials);
    if (tls_find(conf, e) < 0 || (!folder && check_keys(conf->access.tls_credentials, e) < 0) ||
        check_with_nbdkit(conf, e) < 0)
        return -1;
    cleanup(free) char *certificate = file_at(conf, 0);
    if (folder && ends_within(certificate, 0))
        return err_set(e, ERR_FAILED, "%s: it has expired: no client would take it; try: a new certificate",
                       certificate);
    return 0;
}

char *tls_ending(const struct conf *conf, unsigned days)
{
    if (conf->access.tls == CONF_TLS_OFF || !is_folder(conf->access.tls_credentials))
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        cleanup(free) char *file = file_at(conf, i);
        if (files[i].certificate && ends_within(file, days))
            return steal(&file);
    }
    return NULL;
}

char *tls_option(const struct conf *conf)
{
    const char *path = conf->access.tls_credentials;
    return path_format("--tls-%s=%s", is_folder(path) ? "certificates" : "psk", path);
}
