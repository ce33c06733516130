/* SPDX-License-Identifier: BSD-3-Clause */
/* The main function of a fuzz target where there is no fuzzer: the target's seeds, what once went wrong
 * (tests/bad/fuzz/NAME-*.hex under $srcdir), and some thousand changed seeds, always the same ones.
 *
 * usage: fuzz-NAME               all of that
 *        fuzz-NAME FILE…         these inputs; what ends in .hex is written in hexadecimal digits
 *        fuzz-NAME --seeds DIR   writes the seeds as files
 *
 * An input that ends the program is in ./fuzz-NAME.input then. */
#include "lib/base/cleanup.h"
#include "tests/fuzz/fuzz.h"

#include <ctype.h>
#include <glob.h>
#include <inttypes.h>

#define INPUT_MAX (4 * MIB)
#define ROUNDS 300 /* changes of each seed */

static struct err e;
static unsigned seed_count;
static uint64_t random_state = 88172645463325252;

/* --- one input --- */

static const uint8_t *running;
static size_t running_size;

static void keep_input(int status, void *unused)
{
    (void)unused;
    cleanup(free) char *path = path_format("fuzz-%s.input", fuzz_name);
    if (status == 0 || !running)
        return;
    if (atomic_replace(path, NULL, running, running_size, 0644, &e) < 0)
        fprintf(stderr, "%s\n", e.msg);
    else
        fprintf(stderr, "the input is in %s\n", path);
}

/* Of exactly its size on the heap, so that sanitizers see what is read past its end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    CHECK(copy);
    if (size > 0)
        memcpy(copy, data, size);
    running = copy;
    running_size = size;
    CHECK(LLVMFuzzerTestOneInput(copy, size) == 0);
    running = NULL;
    free(copy);
}

/* --- files --- */

static size_t from_hex(char *text)
{
    size_t digits = 0;
    for (const char *p = text; *p; p++) {
        if (isspace((unsigned char)*p))
            continue;
        CHECK(isxdigit((unsigned char)*p));
        unsigned v = isdigit((unsigned char)*p) ? (unsigned)(*p - '0') : (unsigned)((*p | 32) - 'a' + 10);
        char *out = &text[digits / 2];
        *out = (char)(digits % 2 ? ((unsigned char)*out | v) : v << 4);
        digits++;
    }
    CHECK(digits % 2 == 0);
    return digits / 2;
}

static void run_file(const char *path)
{
    cleanup(free) char *text = NULL;
    size_t size, len = strlen(path);
    CHECK_OK(read_file(path, INPUT_MAX, &text, &size, &e));
    if (len > 4 && strcmp(path + len - 4, ".hex") == 0)
        size = from_hex(text);
    run((const uint8_t *)text, size);
}

static unsigned run_bad_files(void)
{
    const char *source = getenv("srcdir");
    cleanup(free) char *pattern = path_format("%s/tests/bad/fuzz/%s-*.hex", source ? source : ".", fuzz_name);
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0)
        return 0;
    unsigned count = (unsigned)found.gl_pathc;
    for (unsigned i = 0; i < count; i++)
        run_file(found.gl_pathv[i]);
    globfree(&found);
    return count;
}

/* --- changed seeds --- */

static uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

/* Numbers that readers stumble over. */
static uint64_t odd_number(void)
{
    static const uint64_t numbers[] = {0,          1,         0x7f,       0xff, 0xffff,
                                       0x7fffffff, INT64_MAX, UINT64_MAX, 4096, 65536};
    return numbers[draw(ARRAY_SIZE(numbers))] + draw(3) - 1;
}

static void change(uint8_t *data, size_t *size)
{
    if (*size == 0)
        return;
    size_t at = draw(*size), len = min_u64(1 + draw(16), *size - at);
    uint64_t number = odd_number();
    switch (draw(6)) {
    case 0:
        data[at] ^= (uint8_t)(1 << draw(8));
        break;
    case 1:
        data[at] = (uint8_t)draw(256);
        break;
    case 2:
        memcpy(data + at, &number, min_u64(len, sizeof number));
        break;
    case 3:
        memmove(data + draw(*size - len + 1), data + at, len);
        break;
    case 4:
        memset(data + at, 0, len);
        break;
    default:
        *size -= draw(8) == 0 ? draw(*size) : 0;
    }
}

static void run_changed(const uint8_t *data, size_t size)
{
    seed_count++;
    run(data, size);
    cleanup(free) uint8_t *copy = malloc(size + 1);
    CHECK(copy);
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t changed = size;
        memcpy(copy, data, size);
        for (uint64_t times = 1 + draw(4); times > 0; times--)
            change(copy, &changed);
        run(copy, changed);
    }
}

/* --- all --- */

static const char *seeds_dir;

static void write_seed(const uint8_t *data, size_t size)
{
    cleanup(free) char *path = path_format("%s/seed-%u", seeds_dir, seed_count++);
    CHECK_OK(replace_unsynced(path, NULL, data, size, 0644, &e));
}

int main(int argc, char **argv)
{
    on_exit(keep_input, NULL);
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        seeds_dir = argv[2];
        fuzz_seeds(write_seed);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        run_file(argv[i]);
    if (argc > 1)
        return 0;
    unsigned bad = run_bad_files();
    fuzz_seeds(run_changed);
    CHECK(seed_count > 0);
    printf("ok - %s: %u seeds, %u changes of each, %u bad ones\n", fuzz_name, seed_count, ROUNDS, bad);
    return 0;
}
