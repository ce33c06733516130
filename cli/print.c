/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include "lib/base/cleanup.h"

#include <stdio.h>
#include <string.h>

/* The rows of a query, as a table of texts that it owns. */
struct table {
    int columns;
    size_t cells, size; /* the headings are the first row */
    char **cell;
};

static void cleanup_table(struct table *t)
{
    for (size_t i = 0; i < t->cells; i++)
        free(t->cell[i]);
    free(t->cell);
}

/* What is printed of a cell: control characters could take over a terminal, or break a line. */
static char *printable(const char *text)
{
    char *copy = strdup(text && *text ? text : "-");
    for (char *p = copy; p && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return copy;
}

static int add_cell(struct table *t, const char *text)
{
    if (t->cells == t->size) {
        size_t size = t->size ? 2 * t->size : 64;
        char **cell = reallocarray(t->cell, size, sizeof *cell);
        if (!cell)
            return -1;
        t->cell = cell;
        t->size = size;
    }
    char *copy = printable(text);
    if (!copy)
        return -1;
    t->cell[t->cells++] = copy;
    return 0;
}

static int add_row(void *ctx, int count, const char *const *columns, const char *const *cells, struct err *e)
{
    struct table *t = ctx;
    t->columns = count;
    for (int i = 0; i < count; i++)
        if (add_cell(t, cells ? cells[i] : columns[i]) < 0)
            return err_sys(e, ENOMEM, "the list");
    return 0;
}

/* Characters, not bytes, of UTF-8. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static int column_width(const struct table *t, int column)
{
    int widest = 0;
    for (size_t i = (size_t)column; i < t->cells; i += (size_t)t->columns)
        if (width_of(t->cell[i]) > widest)
            widest = width_of(t->cell[i]);
    return widest;
}

#define COLUMNS_MAX 32 /* no query has more */

static void append_spaces(struct strbuf *out, int count)
{
    static const char spaces[] = "                                ";
    for (int n; count > 0; count -= n) {
        n = count < (int)sizeof spaces - 1 ? count : (int)sizeof spaces - 1;
        strbuf_append_mem(out, spaces, (size_t)n);
    }
}

/* Thousands of cells: no formats. */
static void append_columns(const struct table *t, struct strbuf *out)
{
    int widths[COLUMNS_MAX] = {0};
    for (int i = 0; i < t->columns && i < COLUMNS_MAX - 1; i++)
        widths[i] = column_width(t, i);
    for (size_t i = 0; i < t->cells; i++) {
        int column = (int)(i % (size_t)t->columns);
        bool last = column == t->columns - 1;
        int pad = last || column >= COLUMNS_MAX ? 0 : widths[column] - width_of(t->cell[i]) + 2;
        strbuf_append(out, t->cell[i]);
        append_spaces(out, pad);
        if (last)
            strbuf_append(out, "\n");
    }
}

static void append_object(const struct table *t, struct strbuf *out)
{
    size_t columns = (size_t)t->columns;
    int widest = 0;
    for (size_t i = 0; i < columns; i++)
        if (width_of(t->cell[i]) > widest)
            widest = width_of(t->cell[i]);
    for (size_t i = columns; i < t->cells; i++) {
        const char *name = t->cell[i % columns];
        strbuf_appendf(out, "%s%s%*s%s\n", i % columns == 0 && i > columns ? "\n" : "", name,
                       widest - width_of(name) + 2, "", t->cell[i]);
    }
}

static bool shows_one(enum query q)
{
    return q == QUERY_USER || q == QUERY_MACHINE || q == QUERY_IMAGE || q == QUERY_SETUP ||
           q == QUERY_SETUP_IMAGE || q == QUERY_BOOT;
}

static int print_json(struct cli *c, enum query q, const char *const words[], struct err *e)
{
    cleanup(free) char *json = NULL;
    if (query_json_of(c->catalog, q, words, &json, e) < 0 || print_text(json, e) < 0)
        return -1;
    return print_text("\n", e);
}

int print_query_of(struct cli *c, enum query q, const char *const words[], struct err *e)
{
    if (c->json)
        return print_json(c, q, words, e);
    cleanup(table) struct table t = {.columns = 0};
    cleanup(strbuf) struct strbuf out = STRBUF_INIT;
    if (query_rows_of(c->catalog, q, words, add_row, &t, e) < 0)
        return -1;
    if (shows_one(q))
        append_object(&t, &out);
    else
        append_columns(&t, &out);
    return out.failed ? err_sys(e, ENOMEM, "the list") : print_text(strbuf_text(&out), e);
}

int print_query(struct cli *c, enum query q, const char *argument, struct err *e)
{
    const char *const words[QUERY_WORDS_MAX] = {argument};
    return print_query_of(c, q, words, e);
}

int print_made(struct cli *c, const char *id, enum query q, const char *argument, struct err *e)
{
    if (c->json)
        return print_query(c, q, argument, e);
    if (print_text(id, e) < 0)
        return -1;
    return print_text("\n", e);
}

void print_json_string(struct strbuf *out, const char *text)
{
    strbuf_append(out, "\"");
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            strbuf_appendf(out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            strbuf_appendf(out, "\\u%04x", *text);
        else
            strbuf_append_mem(out, text, 1);
    }
    strbuf_append(out, "\"");
}

int print_text(const char *text, struct err *e)
{
    return fputs(text, stdout) == EOF ? err_sys(e, errno, "standard output") : 0;
}
