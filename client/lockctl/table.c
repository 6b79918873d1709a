#include "table.h"

#include "lockctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void table_add(struct text_table *t, const char *const *cells)
{
        struct table_row *more;
        size_t room;
        int i;

        if (t->count == t->room) {
                room = t->room * 2 + 64;
                more = realloc(t->rows, room * sizeof *more);
                if (more == NULL) {
                        t->failed = true;
                        return;
                }
                t->rows = more;
                t->room = room;
        }
        for (i = 0; i < t->columns; i++) {
                t->rows[t->count].cells[i] = printable(cells[i]);
                t->failed = t->failed || t->rows[t->count].cells[i] == NULL;
        }
        t->count++;
}

static void print_row(const struct text_table *t, const char *const *cells, const int *width)
{
        int i, fill;

        for (i = 0; i < t->columns; i++) {
                fill = width[i] - text_columns(cells[i]);
                if (t->right[i])
                        printf("%*s%s", fill, "", cells[i]);
                else if (i + 1 < t->columns)
                        printf("%s%*s", cells[i], fill, "");
                else
                        fputs(cells[i], stdout);
                putchar(i + 1 < t->columns ? ' ' : '\n');
        }
}

static void widen(int *width, const char *text)
{
        int columns = text_columns(text);

        if (columns > *width)
                *width = columns;
}

void table_print(const struct text_table *t, bool headings)
{
        int width[TABLE_COLUMNS_MAX] = {0}, i;
        size_t r;

        if (t->count == 0)
                return;
        for (i = 0; i < t->columns; i++) {
                if (headings)
                        widen(&width[i], t->headings[i]);
                for (r = 0; r < t->count; r++)
                        widen(&width[i], t->rows[r].cells[i]);
        }
        if (headings)
                print_row(t, t->headings, width);
        for (r = 0; r < t->count; r++)
                print_row(t, (const char *const *)t->rows[r].cells, width);
}

void table_clear(struct text_table *t)
{
        size_t r;
        int i;

        for (r = 0; r < t->count; r++)
                for (i = 0; i < t->columns; i++)
                        free(t->rows[r].cells[i]);
        free(t->rows);
        t->rows = NULL;
        t->count = t->room = 0;
        t->failed = false;
}
