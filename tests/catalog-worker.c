/* SPDX-License-Identifier: BSD-3-Clause */
/* One of many processes that change a catalog at once, or the one that is killed or timed at it:
 *
 *     catalog-worker CATALOG WORK COUNT SEED [WORD]
 *
 * does WORK COUNT times, each a function of the catalog, with machines, images and setups that it chooses by SEED among
 * those there are. On stdout a line for each: what was made. At the end on stderr: the median and the slowest, in ms. */
#include "catalog/catalog.h"
#include "lib/base/bytes.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

DEFINE_CLEANUP(catalog, struct catalog, catalog_close);

struct worker {
    struct catalog *c;
    unsigned seed, n; /* n: of this time */
    const char *word;
    struct machine *machines;
    size_t nmachines;
};

static const struct mac *any_machine(struct worker *w)
{
    return &w->machines[(size_t)rand_r(&w->seed) % w->nmachines].mac;
}

/* ---- works */

static int work_user(struct worker *w, struct err *e)
{
    char name[NAME_SIZE], email[100];
    snprintf(name, sizeof name, "%s-%u", w->word, w->n);
    snprintf(email, sizeof email, "%s@lab.example", name);
    if (user_add(w->c, "worker", name, "", email, NULL, e) < 0)
        return -1;
    puts(name);
    return 0;
}

static int work_queue(struct worker *w, struct err *e)
{
    int64_t id;
    struct setup setup;
    if (setup_find(w->c, w->word, NULL, &setup, e) < 0 ||
        boot_queue(w->c, "worker", any_machine(w), &setup.uuid, false, NULL, &id, NULL, e) < 0)
        return -1;
    printf("%" PRId64 "\n", id);
    return 0;
}

/* Choosing its number and making it are one transaction. */
static int work_publish(struct worker *w, struct err *e)
{
    struct image image;
    struct version_new v = {.virtual_size = 1 << 20, .stored_size = 1 << 10, .kernel = "6.1"};
    uuid_make(&v.layer);
    cleanup(tx) struct catalog *tx = NULL;
    if (tx_begin(w->c, &tx, e) < 0 || image_find(w->c, w->word, NULL, &image, e) < 0 ||
        version_choose(w->c, &image.uuid, 0, &v.version, e) < 0)
        return -1;
    v.image = image.uuid;
    v.parent = image.head;
    if (version_publish(w->c, "worker", NULL, &v, e) < 0 || tx_commit(&tx, e) < 0)
        return -1;
    printf("%" PRIu64 "\n", v.version);
    return 0;
}

static int work_lease(struct worker *w, struct err *e)
{
    struct in6_addr a;
    char text[IP_TEXT_SIZE];
    snprintf(text, sizeof text, "10.9.0.%u", 1 + (unsigned)rand_r(&w->seed) % 250);
    if (parse_ip(text, &a, e) < 0 ||
        lease_record(w->c, any_machine(w), &a, (int64_t)time(NULL) + 600 + w->n, e) < 0)
        return -1;
    puts(text);
    return 0;
}

static int work_next(struct worker *w, struct err *e)
{
    struct boot b = {.id = 0};
    if (boot_next(w->c, any_machine(w), &b, e) < 0 && e->code != ERR_NOT_FOUND)
        return -1;
    printf("%" PRId64 "\n", b.id);
    return 0;
}

/* The life of a boot: leased, started, discarded. */
static int work_boot(struct worker *w, struct err *e)
{
    struct machine m;
    struct boot b;
    if (machine_find(w->c, w->word, &m, e) < 0 || boot_lease(w->c, &m.mac, NULL, "10.9.0.1", &b, e) < 0 ||
        boot_start(w->c, b.id, e) < 0 || boot_end(w->c, "worker", b.id, BOOT_DISCARDED, "done", e) < 0)
        return -1;
    printf("%" PRId64 "\n", b.id);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(struct worker *w, struct err *e);
} works[] = {
    {"user", work_user},       /* WORD: how the names begin */
    {"queue", work_queue},     /* WORD: a setup */
    {"publish", work_publish}, /* WORD: an image */
    {"lease", work_lease},     /* of an address, by DHCP */
    {"next", work_next},       /* what a machine boots next; 0: nothing */
    {"boot", work_boot},       /* WORD: a machine with something to boot */
};

/* ---- the program */

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int work(struct worker *w, const char *name, unsigned count, struct err *e)
{
    cleanup(free) double *times = calloc(count + 1, sizeof *times);
    size_t i = 0;
    while (i < ARRAY_SIZE(works) && strcmp(works[i].name, name) != 0)
        i++;
    if (!times || i == ARRAY_SIZE(works))
        return err_set(e, ERR_USAGE, "no such work: %s", name);
    if (machines_all(w->c, &w->machines, &w->nmachines, e) < 0)
        return -1;
    for (w->n = 0; w->n < count; w->n++) {
        double began = now_ms();
        if (works[i].run(w, e) < 0)
            return -1;
        times[w->n] = now_ms() - began;
    }
    qsort(times, count, sizeof *times, by_value);
    fprintf(stderr, "%.3f %.3f\n", times[count / 2], count ? times[count - 1] : 0);
    return 0;
}

int main(int argc, char **argv)
{
    struct err e;
    if (argc < 5 || argc > 6) {
        fputs("usage: catalog-worker CATALOG WORK COUNT SEED [WORD]\n", stderr);
        return 2;
    }
    cleanup(catalog) struct catalog *c = NULL;
    struct worker w = {.seed = (unsigned)atoi(argv[4]), .word = argc > 5 ? argv[5] : ""};
    int r = catalog_open(argv[1], CATALOG_FULL, &c, &e);
    if (r == 0) {
        w.c = c;
        r = work(&w, argv[2], (unsigned)atoi(argv[3]), &e);
    }
    free(w.machines);
    if (r < 0)
        fprintf(stderr, "catalog-worker: %s\n", e.msg);
    return r < 0 ? (int)e.code : 0;
}
