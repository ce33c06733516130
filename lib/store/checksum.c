/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/store/checksum.h"

static_assert(SHA256_DIGEST_SIZE == CHECKSUM_SIZE, "a checksum is a SHA-256");

void checksum_start(struct checksum *c, uint64_t virtual_size, unsigned chunk_shift)
{
    uint8_t head[24];
    sha256_init(&c->sha);
    memcpy(head, "labboot1", 8);
    put_le64(head + 8, virtual_size);
    put_le64(head + 16, UINT64_C(1) << chunk_shift);
    sha256_update(&c->sha, sizeof head, head);
}

void checksum_leaf(struct checksum *c, uint64_t leaf, const uint8_t data[LEAF_SIZE])
{
    uint8_t records[LEAF_CHUNKS * (8 + HASH_SIZE)];
    size_t len = 0;
    for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
        const uint8_t *entry = data + i * ENTRY_SIZE;
        if (all_zero(entry, ENTRY_SIZE))
            continue;
        put_le64(records + len, leaf * LEAF_CHUNKS + i);
        memcpy(records + len + 8, entry + ENTRY_SIZE - HASH_SIZE, HASH_SIZE);
        len += 8 + HASH_SIZE;
    }
    sha256_update(&c->sha, len, records);
}

void checksum_end(struct checksum *c, uint8_t ret[CHECKSUM_SIZE])
{
    sha256_digest(&c->sha, CHECKSUM_SIZE, ret);
}
