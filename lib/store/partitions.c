/* SPDX-License-Identifier: BSD-3-Clause */

/* libblkid reads from a file, and trusts a table's size: a GPT of 2^32 bytes would have it allocate as much. So it is given
 * a sparse file in memory as large as the disk, with only those sectors that a table of sane size has:
 *
 *     sector 0                MBR
 *     a chain of sectors      one for each logical partition, from the start of the extended one (at most EBRS_MAX)
 *     sector 1, the last one  GPT headers
 *     where those say         their entries (at most PARTITIONS_GPT_MAX)
 */

#include "lib/store/partitions.h"

#include "lib/base/bytes.h"
#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"

#include <blkid.h>
#include <string.h>
#include <sys/mman.h>

#define SECTOR 512u
#define EBRS_MAX 128u /* libblkid and kernels stop at 100 */

enum {
    MBR_ENTRIES = 446,
    MBR_ENTRY_SIZE = 16,
    MBR_ENTRY_COUNT = 4,
    MBR_TYPE = 4,
    MBR_START = 8,
    MBR_COUNT = 12
};
enum { GPT_ENTRIES_LBA = 72, GPT_ENTRY_COUNT = 80, GPT_ENTRY_SIZE = 84 };
#define GPT_MAGIC "EFI PART"
#define GPT_ENTRY_BYTES 128u

DEFINE_CLEANUP(blkid_probe, struct blkid_struct_probe, blkid_free_probe);

/* The file that libblkid reads, and the disk that it is filled from. */
struct copy {
    const struct reader *disk;
    int fd;
};

/* False: it lies beyond the disk. */
static bool on_disk(const struct copy *c, uint64_t sector, uint64_t bytes)
{
    return sector < c->disk->size / SECTOR && bytes <= c->disk->size - sector * SECTOR;
}

static int read_sectors(const struct copy *c, uint64_t sector, void *buf, size_t bytes, struct err *e)
{
    if (c->disk->pread(c->disk->ctx, buf, bytes, sector * SECTOR, e) < 0)
        return err_wrap(e, "partition table");
    return 0;
}

static int write_sectors(const struct copy *c, uint64_t sector, const void *buf, size_t bytes, struct err *e)
{
    return full_pwrite(c->fd, buf, bytes, sector * SECTOR, e);
}

/* ---- MBR ---- */

/* The first one that is from `entry` on; NULL: there is none. */
static const uint8_t *find_extended(const uint8_t *sector, unsigned entry)
{
    for (; entry < MBR_ENTRY_COUNT; entry++) {
        const uint8_t *p = sector + MBR_ENTRIES + entry * MBR_ENTRY_SIZE;
        bool extended = p[MBR_TYPE] == 0x05 || p[MBR_TYPE] == 0x0f || p[MBR_TYPE] == 0x85;
        if (extended && get_le32(p + MBR_COUNT) != 0)
            return p;
    }
    return NULL;
}

/* The links count from the start of the first. A loop ends at EBRS_MAX. */
static int copy_chain(const struct copy *c, uint64_t first, struct err *e)
{
    uint64_t at = first;
    for (unsigned i = 0; i < EBRS_MAX && on_disk(c, at, SECTOR); i++) {
        uint8_t sector[SECTOR];
        if (read_sectors(c, at, sector, SECTOR, e) < 0 || write_sectors(c, at, sector, SECTOR, e) < 0)
            return -1;
        const uint8_t *next = find_extended(sector, 0);
        if (!next)
            break;
        at = first + get_le32(next + MBR_START);
    }
    return 0;
}

static int copy_mbr(const struct copy *c, struct err *e)
{
    uint8_t sector[SECTOR];
    if (read_sectors(c, 0, sector, SECTOR, e) < 0 || write_sectors(c, 0, sector, SECTOR, e) < 0)
        return -1;
    for (unsigned i = 0; i < MBR_ENTRY_COUNT; i++) {
        const uint8_t *extended = find_extended(sector, i);
        if (extended && copy_chain(c, get_le32(extended + MBR_START), e) < 0)
            return -1;
    }
    return 0;
}

/* ---- GPT ---- */

static int copy_gpt(const struct copy *c, uint64_t header_at, struct err *e)
{
    uint8_t header[SECTOR], entries[PARTITIONS_GPT_MAX * GPT_ENTRY_BYTES];
    if (read_sectors(c, header_at, header, SECTOR, e) < 0)
        return -1;
    uint64_t at = get_le64(header + GPT_ENTRIES_LBA);
    size_t count = get_le32(header + GPT_ENTRY_COUNT), bytes = count * GPT_ENTRY_BYTES;
    if (memcmp(header, GPT_MAGIC, sizeof GPT_MAGIC - 1) != 0 || count > PARTITIONS_GPT_MAX ||
        get_le32(header + GPT_ENTRY_SIZE) != GPT_ENTRY_BYTES || !on_disk(c, at, bytes))
        return 0;
    if (read_sectors(c, at, entries, bytes, e) < 0 || write_sectors(c, header_at, header, SECTOR, e) < 0)
        return -1;
    return write_sectors(c, at, entries, bytes, e);
}

/* ---- libblkid ---- */

static bool is_bare(blkid_partition p)
{
    static const char *const types[] = {
        "21686148-6449-6e6f-744e-656564454649", /* BIOS boot: GRUB's core */
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b", /* PowerPC PReP boot: the same */
        "e3c9e316-0b5c-4db8-817d-f92df00215ae", /* Microsoft reserved: nothing */
    };
    const char *type = blkid_partition_get_type_string(p);
    for (size_t i = 0; type && i < ARRAY_SIZE(types); i++) {
        if (strcasecmp(type, types[i]) == 0)
            return true;
    }
    return false;
}

static int list(blkid_partlist found, struct partition **ret, size_t *ret_count, struct err *e)
{
    int n = blkid_partlist_numof_partitions(found);
    if (n < 0 || (unsigned)n > PARTITIONS_MAX)
        n = 0;
    struct partition *all = calloc((size_t)n + 1, sizeof *all);
    if (!all)
        return err_sys(e, ENOMEM, "partition table");
    size_t count = 0;
    for (int i = 0; i < n; i++) {
        blkid_partition p = blkid_partlist_get_partition(found, i);
        if (blkid_partition_is_extended(p))
            continue;
        all[count++] = (struct partition){
            .number = (unsigned)blkid_partition_get_partno(p),
            .bare = is_bare(p),
            .start = (uint64_t)blkid_partition_get_start(p) * SECTOR,
            .size = (uint64_t)blkid_partition_get_size(p) * SECTOR,
        };
    }
    *ret = all;
    *ret_count = count;
    return 0;
}

static int probe(const struct copy *c, struct partition **ret, size_t *ret_count, struct err *e)
{
    char gpt[] = "gpt", dos[] = "dos", *tables[] = {gpt, dos, NULL};
    cleanup(blkid_probe) blkid_probe pr = blkid_new_probe();
    if (!pr)
        return err_sys(e, ENOMEM, "partition table");
    if (blkid_probe_set_device(pr, c->fd, 0, (blkid_loff_t)c->disk->size) < 0 ||
        blkid_probe_enable_partitions(pr, 1) < 0 ||
        blkid_probe_filter_partitions_type(pr, BLKID_FLTR_ONLYIN, tables) < 0)
        return err_sys(e, errno, "partition table: libblkid");
    blkid_partlist found = blkid_probe_get_partitions(pr);
    return found ? list(found, ret, ret_count, e) : 0;
}

static int copy_table(const struct copy *c, struct err *e)
{
    if (ftruncate(c->fd, (off_t)c->disk->size) < 0)
        return err_sys(e, errno, "partition table: a file in memory");
    return copy_mbr(c, e) < 0 || copy_gpt(c, 1, e) < 0 || copy_gpt(c, c->disk->size / SECTOR - 1, e) < 0 ? -1
                                                                                                         : 0;
}

int partitions_find(const struct reader *disk, struct partition **ret, size_t *ret_count, struct err *e)
{
    struct partition *found = NULL;
    size_t count = 0;
    if (disk->size >= 2 * SECTOR) {
        cleanup(close) int fd = memfd_create("labboot-partitions", MFD_CLOEXEC);
        struct copy c = {disk, fd};
        if (fd < 0)
            return err_sys(e, errno, "partition table: a file in memory");
        if (copy_table(&c, e) < 0 || probe(&c, &found, &count, e) < 0)
            return -1;
    }
    *ret = found;
    *ret_count = count;
    return 0;
}
