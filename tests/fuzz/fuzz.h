/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_FUZZ_H
#define LABBOOT_FUZZ_H

/* A fuzz target, fuzz-NAME.c, feeds one reader of what is on disk. Where checksums would turn away nearly all that a
 * fuzzer makes, it mends them first. It ends the program (CHECK) when an answer is wrong, not only when memory is. */

#include "tests/unit/unit.h"

#include "lib/base/bytes.h"

extern const char fuzz_name[];

/* Always 0. libFuzzer calls it, or replay.c. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Gives inputs to begin with to `emit`: made here, so that the tree need not hold them. */
void fuzz_seeds(void (*emit)(const uint8_t *data, size_t size));

#endif
