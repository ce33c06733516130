/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_CRAFT_H
#define LABBOOT_CRAFT_H

/* Layers made by hand, for tests of what reads them: the shortest writer there can be, which shares no code
 * with the real one but the encoders, and which can be told to write what the real one never would. */

#include "lib/store/store.h"

struct disk {
    uint8_t *bytes;
    uint64_t size;
};

struct craft {
    const char *images_dir;
    struct footer footer;
    uint8_t *root, *table, *leaves; /* of the whole disk, as encoded; freed by craft_release */
    uint64_t chunks;
};

struct craft_spec {
    struct uuid image;
    uint64_t version;
    unsigned chunk_shift;
    enum codec codec;
    struct uuid overlay;
    /* Called for every entry that was made for this layer, to spoil it; may be NULL. */
    void (*spoil)(uint64_t chunk, struct leaf_entry *n);
    /* The same for every leaf. */
    void (*spoil_leaf)(uint64_t leaf, uint8_t raw[LEAF_SIZE]);
};

/* Writes <images_dir>/<image>/<version>.img over `parent` (NULL: none) with the image's folders. Failures end
 * the program. */
void craft_layer(struct craft *c, const char *images_dir, const struct craft_spec *spec, const struct disk *d,
                 const struct craft *parent);
void craft_release(struct craft *c);
/* malloc'ed path of the layer's file. */
char *craft_path(const struct craft *c);

/* The folder of all images of this program, and a store on it. */
const char *craft_images(void);
struct store *craft_store(uint64_t cache_memory);
/* Version 100 of an image that is not there yet. */
struct craft_spec craft_image(enum codec codec, unsigned chunk_shift);
/* Damages one byte of a file; a second time, it is whole again. */
void craft_flip(const char *path, uint64_t offset);

/* A disk of zero, compressible and incompressible pieces of all lengths. */
void disk_make(struct disk *d, uint64_t size, unsigned *seed);
/* As many random changes of it. */
void disk_change(struct disk *d, unsigned changes, unsigned *seed);
void disk_copy(struct disk *to, const struct disk *from);
void disk_release(struct disk *d);

#endif
