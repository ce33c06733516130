/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/hot.h"

#include "lib/base/cleanup.h"
#include "lib/base/fsutil.h"
#include "lib/base/log.h"
#include "lib/base/parse.h"
#include "lib/store/internal.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define MAGIC "LBHOT\0\0\1"
#define HEAD_SIZE 40u
#define NUMBER_SIZE 4u
#define FILE_MAX (HEAD_SIZE + HOT_CHUNKS_MAX * NUMBER_SIZE + HASH_SIZE)
static_assert(sizeof MAGIC - 1 == 8 && HEAD_SIZE == 8 + 16 + 8 + 4 + 4, "the header is as it is drawn");

static char *hot_path(const char *image_dir, uint64_t version)
{
    return path_format("%s/%" PRIu64 ".hot", image_dir, version);
}

bool hot_parse_name(const char *name, uint64_t *ret_version)
{
    char number[24];
    size_t len = strlen(name);
    struct err ignored;
    if (len <= 4 || len - 4 >= sizeof number || strcmp(name + len - 4, ".hot") != 0)
        return false;
    memcpy(number, name, len - 4);
    number[len - 4] = '\0';
    return number[0] != '0' && parse_number(number, 1, INT64_MAX, ret_version, &ignored) == 0;
}

void hot_remove(const char *image_dir, uint64_t version)
{
    cleanup(free) char *path = hot_path(image_dir, version);
    if (unlink(path) < 0 && errno != ENOENT)
        log_warning("%s: %s", path, strerror(errno));
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

static int check_head(const uint8_t *in, size_t len, const struct uuid *image, uint64_t version,
                      unsigned chunk_shift, struct err *e)
{
    struct hash h;
    if (len < HEAD_SIZE + HASH_SIZE || memcmp(in, MAGIC, 8) != 0)
        return err_set(e, ERR_CORRUPT, "no list of chunks");
    uint32_t count = get_le32(in + 36);
    if (count > HOT_CHUNKS_MAX || len != HEAD_SIZE + count * NUMBER_SIZE + HASH_SIZE)
        return err_set(e, ERR_CORRUPT, "cut off, or too long");
    hash_of(in, len - HASH_SIZE, &h);
    if (memcmp(h.b, in + len - HASH_SIZE, HASH_SIZE) != 0)
        return err_set(e, ERR_CORRUPT, "it does not match its hash");
    if (memcmp(in + 8, image->b, sizeof image->b) != 0 || get_le64(in + 24) != version ||
        get_le32(in + 32) != chunk_shift)
        return err_set(e, ERR_CORRUPT, "of another version");
    return 0;
}

/* Chunks that this disk does not have are left out. */
static int decode(const uint8_t *in, const struct view *v, struct hot_list *ret, struct err *e)
{
    const struct footer *f = view_footer(v);
    uint64_t chunks = chunks_of(f->virtual_size, f->chunk_shift);
    uint32_t count = get_le32(in + 36);
    struct hot_list list = {.chunks = calloc(count + 1, sizeof *list.chunks)};
    if (!list.chunks)
        return err_sys(e, ENOMEM, "list of chunks");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t chunk = get_le32(in + HEAD_SIZE + i * NUMBER_SIZE);
        if (chunk < chunks)
            list.chunks[list.count++] = chunk;
    }
    *ret = list;
    return 0;
}

/* The list of that version, for the disk of v. One that is no good is as good as none. */
static int load_of(const char *image_dir, const struct view *v, uint64_t version, struct hot_list *ret,
                   struct err *e)
{
    cleanup(free) char *path = hot_path(image_dir, version);
    cleanup(free) char *data = NULL;
    size_t len = 0;
    const struct footer *f = view_footer(v);
    if (read_file(path, FILE_MAX, &data, &len, e) < 0)
        return -1;
    if (check_head((uint8_t *)data, len, &f->image, version, f->chunk_shift, e) < 0) {
        log_info("%s: %s", path, e->msg);
        return -1;
    }
    return decode((uint8_t *)data, v, ret, e);
}

bool hot_exists(struct store *s, const struct view *v)
{
    struct err e;
    struct hot_list list;
    cleanup(free) char *dir = store_image_dir(s, &view_footer(v)->image);
    if (load_of(dir, v, view_footer(v)->version, &list, &e) < 0)
        return false;
    free(list.chunks);
    return true;
}

/* A flattened version has no ancestors in its table, but still a parent. */
int hot_load(struct store *s, const struct view *v, struct hot_list *ret, struct err *e)
{
    size_t length;
    const struct footer *f = view_footer(v);
    const uint8_t *table = view_table(v, &length);
    cleanup(free) char *dir = store_image_dir(s, &f->image);
    if (load_of(dir, v, f->version, ret, e) == 0)
        return 0;
    for (size_t at = length; at > 0; at -= TABLE_ENTRY_SIZE) {
        struct table_entry t;
        table_entry_decode(table + at - TABLE_ENTRY_SIZE, &t);
        if (load_of(dir, v, t.version, ret, e) == 0)
            return 0;
    }
    if (length == 0 && f->parent_version && load_of(dir, v, f->parent_version, ret, e) == 0)
        return 0;
    return err_set(e, ERR_NOT_FOUND, "no boot of version %" PRIu64 " was noted yet", f->version);
}

/* ---- recording ------------------------------------------------------------------------------------------------------ */

struct hot_recorder {
    unsigned chunk_shift;
    uint64_t chunks; /* of the disk */
    int64_t until;   /* by the monotonic clock, in seconds */
    atomic_bool saved;
    atomic_uint count;                      /* places given away; more than there are when it is full */
    _Atomic uint32_t order[HOT_CHUNKS_MAX]; /* number + 1; 0: not put there yet */
    _Atomic uint64_t seen[];                /* a bit a chunk */
};

static int64_t now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec;
}

int hot_recorder_new(const struct view *v, struct hot_recorder **ret, struct err *e)
{
    const struct footer *f = view_footer(v);
    uint64_t chunks = min_u64(chunks_of(f->virtual_size, f->chunk_shift), UINT32_MAX - 1);
    struct hot_recorder *r = calloc(1, sizeof *r + div_up(chunks, 64) * sizeof r->seen[0]);
    if (!r)
        return err_sys(e, ENOMEM, "list of chunks");
    r->chunk_shift = f->chunk_shift;
    r->chunks = chunks;
    r->until = now_seconds() + HOT_SECONDS;
    *ret = r;
    return 0;
}

void hot_recorder_free(struct hot_recorder *r)
{
    free(r);
}

static bool is_full(const struct hot_recorder *r)
{
    return atomic_load_explicit(&r->count, memory_order_relaxed) >= HOT_CHUNKS_MAX;
}

static void note(struct hot_recorder *r, uint64_t chunk)
{
    uint64_t bit = UINT64_C(1) << chunk % 64;
    if (atomic_load_explicit(&r->seen[chunk / 64], memory_order_relaxed) & bit)
        return;
    if (atomic_fetch_or_explicit(&r->seen[chunk / 64], bit, memory_order_relaxed) & bit)
        return;
    unsigned place = atomic_fetch_add_explicit(&r->count, 1, memory_order_relaxed);
    if (place < HOT_CHUNKS_MAX)
        atomic_store_explicit(&r->order[place], (uint32_t)chunk + 1, memory_order_relaxed);
}

void hot_record(struct hot_recorder *r, uint64_t offset, size_t count)
{
    if (count == 0 || is_full(r) || atomic_load_explicit(&r->saved, memory_order_relaxed))
        return;
    uint64_t last = (offset + count - 1) >> r->chunk_shift;
    for (uint64_t chunk = offset >> r->chunk_shift; chunk <= last && chunk < r->chunks; chunk++)
        note(r, chunk);
}

bool hot_recorder_is_due(const struct hot_recorder *r)
{
    return !r->saved && (is_full(r) || now_seconds() >= r->until);
}

static int write_list(const uint8_t *data, size_t len, struct store *s, const struct footer *f, struct err *e)
{
    cleanup(free) char *dir = store_image_dir(s, &f->image);
    cleanup(free) char *tmp = path_format("%s/tmp", dir);
    cleanup(free) char *path = hot_path(dir, f->version);
    return replace_unsynced(path, tmp, data, len, 0640, e);
}

int hot_recorder_save(struct hot_recorder *r, struct store *s, const struct view *v, struct err *e)
{
    const struct footer *f = view_footer(v);
    unsigned noted = (unsigned)min_u64(r->count, HOT_CHUNKS_MAX);
    uint32_t count = 0;
    struct hash h;
    if (atomic_exchange(&r->saved, true) || noted < HOT_CHUNKS_MIN)
        return 0;
    cleanup(free) uint8_t *out = calloc(1, FILE_MAX);
    if (!out)
        return err_sys(e, ENOMEM, "list of chunks");
    for (unsigned i = 0; i < noted; i++) {
        uint32_t number = r->order[i];
        if (number)
            put_le32(out + HEAD_SIZE + count++ * NUMBER_SIZE, number - 1);
    }
    memcpy(out, MAGIC, 8);
    memcpy(out + 8, f->image.b, sizeof f->image.b);
    put_le64(out + 24, f->version);
    put_le32(out + 32, f->chunk_shift);
    put_le32(out + 36, count);
    size_t len = HEAD_SIZE + count * NUMBER_SIZE;
    hash_of(out, len, &h);
    memcpy(out + len, h.b, HASH_SIZE);
    return write_list(out, len + HASH_SIZE, s, f, e);
}
