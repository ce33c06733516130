/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/tls.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/spawn.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define SERVER_CERTIFICATE "server-cert.pem"
#define SOON "1209600" /* two weeks, in seconds */

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int check_readable(const char *path, struct err *e)
{
    if (access(path, R_OK) == 0)
        return 0;
    return err_sys(e, errno, "[access] tls-credentials: %s", path);
}

int tls_check(const struct conf *conf, struct err *e)
{
    static const char *const files[] = {"ca-cert.pem", SERVER_CERTIFICATE, "server-key.pem"};
    const char *credentials = conf->access.tls_credentials;
    if (conf->access.tls == CONF_TLS_OFF)
        return 0;
    if (!is_folder(credentials))
        return check_readable(credentials, e);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        cleanup(free) char *path = path_format("%s/%s", credentials, files[i]);
        if (check_readable(path, e) < 0)
            return -1;
    }
    return 0;
}

/* Not --tls=require: the Unix socket needs none, and who comes without by TCP is refused by the plugin. */
void tls_arguments(const struct conf *conf, const char **ret_mode, char **ret_credentials)
{
    const char *credentials = conf->access.tls_credentials;
    *ret_mode = NULL;
    *ret_credentials = NULL;
    if (conf->access.tls == CONF_TLS_OFF)
        return;
    *ret_mode = "--tls=on";
    *ret_credentials =
        path_format("%s=%s", is_folder(credentials) ? "--tls-certificates" : "--tls-psk", credentials);
}

int tls_check_expiry(const struct conf *conf, struct err *e)
{
    static const struct spawn_tool openssl = {.name = "openssl", .package = "openssl"};
    static const struct spawn_limits limits = {.seconds = 10, .file_bytes = MIB};
    if (conf->access.tls == CONF_TLS_OFF || !is_folder(conf->access.tls_credentials) ||
        !path_exists("/usr/bin/openssl"))
        return 0;
    cleanup(free) char *path = path_format("%s/" SERVER_CERTIFICATE, conf->access.tls_credentials);
    const char *const arguments[] = {"x509", "-noout", "-in", path, "-checkend", SOON, NULL};
    struct err ignored;
    if (spawn_tool(&openssl, arguments, &limits, &ignored) == 0)
        return 0;
    return err_set(e, ERR_FAILED, "%s: expires within two weeks, or cannot be read", path);
}
