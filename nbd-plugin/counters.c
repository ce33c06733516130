/* SPDX-License-Identifier: BSD-3-Clause */
#include "nbd-plugin/counters.h"

#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/fsutil.h"
#include "lib/base/strbuf.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_LEN 100

static char *counters_path(const struct conf *conf)
{
    return path_format("%s/counters", conf->server.run_dir);
}

static uint64_t overlay_bytes(struct session *session)
{
    uint64_t bytes = 0;
    for (size_t n = 0; n < session->ndisks; n++) {
        struct overlay *o = session->disks[n].overlay;
        if (o)
            bytes += overlay_stored_bytes(o);
    }
    return bytes;
}

/* No sync: after a crash of the host there is no server whose counters these were. */
static void replace(const char *path, const char *text, size_t len)
{
    struct err ignored;
    cleanup(free) char *tmp = path_format("%s.new", path);
    cleanup(close) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd >= 0 && full_write(fd, text, len, &ignored) == 0)
        (void)!rename(tmp, path);
}

void counters_write(struct server *s)
{
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    for (struct session *session = s->sessions; session; session = session->next)
        strbuf_appendf(&text, "%" PRId64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", session->boot.id,
                       (uint64_t)session->bytes_read, (uint64_t)session->bytes_written,
                       overlay_bytes(session));
    uint32_t sum = crc32c(0, strbuf_text(&text), text.len);
    if (text.failed || (s->counters_written && sum == s->counters_sum))
        return;
    cleanup(free) char *path = counters_path(server_conf(s));
    replace(path, strbuf_text(&text), text.len);
    s->counters_written = true;
    s->counters_sum = sum;
}

void counters_remove(const struct conf *conf)
{
    cleanup(free) char *path = counters_path(conf);
    unlink(path);
}

int counters_read(const struct conf *conf, struct boot_counters **ret, size_t *ret_count, struct err *e)
{
    cleanup(free) char *path = counters_path(conf);
    cleanup(fclose) FILE *f = fopen(path, "re");
    cleanup(free) struct boot_counters *list = NULL;
    size_t count = 0;
    char line[LINE_MAX_LEN];
    while (f && fgets(line, sizeof line, f)) {
        struct boot_counters n;
        if (sscanf(line, "%" SCNd64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &n.boot, &n.bytes_read,
                   &n.bytes_written, &n.overlay) != 4)
            continue;
        struct boot_counters *longer = realloc(list, (count + 1) * sizeof *longer);
        if (!longer)
            return err_sys(e, ENOMEM, "%s", path);
        list = longer;
        list[count++] = n;
    }
    *ret = steal(&list);
    *ret_count = count;
    return 0;
}
