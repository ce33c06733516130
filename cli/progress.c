/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t stopped; /* by a signal */

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
#define STOP_SIGNALS (sizeof stop_signals / sizeof *stop_signals)

/* Of the one long work of this process; reports come one at a time. */
static struct {
    enum { SHOW_NOTHING, SHOW_BAR, SHOW_JSON } show;
    const char *what;
    double begun, shown; /* seconds */
    struct sigaction before[STOP_SIGNALS];
} bar;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_signal(int signal)
{
    (void)signal;
    stopped = 1;
}

static void show_json(uint64_t done, uint64_t total, double rate)
{
    fprintf(stderr, "{\"done\": %" PRIu64 ", \"total\": ", done);
    if (total)
        fprintf(stderr, "%" PRIu64 ", \"rate\": %.0f, \"left\": %.0f}\n", total, rate,
                rate > 0 && total > done ? (double)(total - done) / rate : 0);
    else
        fprintf(stderr, "null, \"rate\": %.0f, \"left\": null}\n", rate);
}

#define BAR_WIDTH 30

static void show_bar(uint64_t done, uint64_t total, double rate)
{
    char size[SIZE_TEXT_SIZE], speed[SIZE_TEXT_SIZE];
    format_size(done, size);
    format_size((uint64_t)rate, speed);
    if (!total) {
        fprintf(stderr, "\r\033[K%s  %s  %s/s", bar.what, size, speed);
        return;
    }
    double part = done < total ? (double)done / (double)total : 1;
    int filled = (int)(part * BAR_WIDTH);
    int left = rate > 0 && total > done ? (int)((double)(total - done) / rate) : 0;
    fprintf(stderr, "\r\033[K%s  [%-*.*s] %3.0f%%  %s  %s/s  %d:%02d left", bar.what, BAR_WIDTH, filled,
            "##############################", part * 100, size, speed, left / 60, left % 60);
}

static bool report(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    double t = now();
    if (bar.show != SHOW_NOTHING && t - bar.shown >= (bar.show == SHOW_JSON ? 1 : 0.2)) {
        double rate = t > bar.begun ? (double)done / (t - bar.begun) : 0;
        bar.shown = t;
        if (bar.show == SHOW_JSON)
            show_json(done, total, rate);
        else
            show_bar(done, total, rate);
    }
    return !stopped;
}

int progress_option(const struct cli *c, struct err *e)
{
    static const char *const allowed[] = {"json", NULL};
    const char *how = cli_option(c, "progress");
    return how ? cli_check_word("--progress", how, allowed, e) : 0;
}

struct progress progress_begin(const struct cli *c, const char *what)
{
    bar.what = what;
    bar.begun = bar.shown = now();
    if (cli_option(c, "progress"))
        bar.show = SHOW_JSON;
    else
        bar.show = !c->quiet && isatty(STDERR_FILENO) ? SHOW_BAR : SHOW_NOTHING;
    /* A second signal ends the program at once: should the first not get through. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    for (size_t i = 0; i < STOP_SIGNALS; i++)
        sigaction(stop_signals[i], &action, &bar.before[i]);
    return (struct progress){.report = report};
}

void progress_end(void)
{
    if (bar.show == SHOW_BAR)
        fputs("\r\033[K", stderr);
    for (size_t i = 0; i < STOP_SIGNALS; i++)
        sigaction(stop_signals[i], &bar.before[i], NULL);
}

int progress_check(struct err *e)
{
    return stopped ? err_set(e, ERR_FAILED, "interrupted") : 0;
}
