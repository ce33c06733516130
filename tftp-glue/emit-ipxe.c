/* SPDX-License-Identifier: BSD-3-Clause */
#include "tftp-glue/emit-ipxe.h"
#include "tftp-glue/escape.h"

#include <inttypes.h>

#define CHAIN "chain --replace --autofree "
/* Seconds between two looks at the server. */
#define RETRY_SECONDS 5
#define IDLE_SECONDS 30
#define WAIT_SECONDS 2

/* The local disk: UEFI goes on to its next entry when iPXE ends; a BIOS may only start over, so iPXE boots
 * the disk itself there. */
static void add_local_disk(struct strbuf *out)
{
    strbuf_append(out, "iseq ${platform} efi && exit 0 ||\n"
                       "sanboot --no-describe --drive 0x80 || exit 0\n");
}

/* Sleeps and loads the entry again; Ctrl-C cuts the sleep short. */
static void add_look_again(struct strbuf *out, unsigned seconds)
{
    strbuf_appendf(out, "sleep %u ||\n" CHAIN "/boot.ipxe ||\ngoto again\n", seconds);
}

static void add_local(const struct bootplan *p, struct strbuf *out)
{
    if (p->retry) {
        strbuf_append(out, "echo labboot: nothing to boot now, waiting for something in the queue\n:again\n");
        add_look_again(out, IDLE_SECONDS);
        return;
    }
    strbuf_append(out, "echo labboot: local disk\n");
    add_local_disk(out);
}

static void add_wait(const struct bootplan *p, struct strbuf *out)
{
    char dashes[MAC_TEXT_SIZE];
    mac_format_dashes(&p->mac, dashes);
    strbuf_appendf(out, "echo labboot: waiting: boot %" PRId64 " (setup ", p->boot);
    escape_ipxe_text(out, p->setup);
    strbuf_appendf(out,
                   ") has changes to keep and is %s\n"
                   ":again\n" CHAIN "/boot/wait-%s-%" PRId64 ".ipxe ||\n"
                   "sleep %d ||\n" CHAIN "/boot/mac-%s.ipxe ||\n"
                   "goto again\n",
                   p->state == BOOT_COMMITTING ? "being committed" : "still running", dashes, p->boot,
                   WAIT_SECONDS, dashes);
}

static int add_boot(const struct bootplan *p, struct strbuf *out, struct err *e)
{
    char dashes[MAC_TEXT_SIZE];
    strbuf_appendf(out, "echo labboot: boot %" PRId64 ": setup ", p->boot);
    escape_ipxe_text(out, p->setup);
    strbuf_append(out, ", image ");
    escape_ipxe_text(out, p->image);
    strbuf_appendf(out, "@%" PRIu64 ", kernel ", p->version);
    escape_ipxe_text(out, *p->release ? p->release : "unknown");
    strbuf_append(out,
                  p->update ? ", changes become the next version\n" : ", changes are dropped at the end\n");
    strbuf_append(out, "imgfree\n");
    strbuf_appendf(out, "kernel %s initrd=initrd.img ", p->kernel);
    if (escape_ipxe_arguments(out, strbuf_text(&p->arguments), e) < 0)
        return -1;
    strbuf_appendf(out,
                   " || goto failed\n"
                   "initrd --name initrd.img %s || goto failed\n"
                   "boot || goto failed\n"
                   ":failed\n"
                   "echo labboot: that did not work, trying again in %d seconds\n"
                   "imgfree\n:again\nsleep %d ||\n" CHAIN "/boot/mac-%s.ipxe ||\n"
                   "goto again\n",
                   p->initrd, RETRY_SECONDS, RETRY_SECONDS, mac_format_dashes(&p->mac, dashes));
    return 0;
}

int emit_ipxe(const struct bootplan *p, struct strbuf *out, struct err *e)
{
    strbuf_append(out, "#!ipxe\necho labboot: machine ");
    escape_ipxe_text(out, p->machine);
    strbuf_append(out, "\n");
    switch (p->kind) {
    case SCRIPT_LOCAL:
        add_local(p, out);
        break;
    case SCRIPT_WAIT:
        add_wait(p, out);
        break;
    case SCRIPT_BOOT:
        if (add_boot(p, out, e) < 0)
            return -1;
        break;
    }
    return out->failed ? err_sys(e, ENOMEM, "script") : 0;
}

void emit_ipxe_wait(const struct mac *mac, struct strbuf *out)
{
    char dashes[MAC_TEXT_SIZE];
    strbuf_appendf(out,
                   "#!ipxe\n:again\nsleep %d ||\n" CHAIN "/boot/mac-%s.ipxe ||\n"
                   "goto again\n",
                   WAIT_SECONDS, mac_format_dashes(mac, dashes));
}

void emit_ipxe_entry(struct strbuf *out)
{
    /* netX is the card that was opened last: the one that DHCP answered on. */
    strbuf_append(out,
                  "#!ipxe\n" CHAIN "/boot/mac-${netX/mac:hexhyp}.ipxe ||\n" CHAIN "/boot/default.ipxe\n");
}

void emit_ipxe_default(bool retry, struct strbuf *out)
{
    strbuf_append(out, "#!ipxe\necho labboot: nothing is set up for ${netX/mac}; try: labboot machine add "
                       "${netX/mac}, or see the log of labboot\n");
    if (retry) {
        strbuf_append(out, ":again\n");
        add_look_again(out, IDLE_SECONDS);
        return;
    }
    strbuf_append(out, "echo labboot: local disk\n");
    add_local_disk(out);
}
