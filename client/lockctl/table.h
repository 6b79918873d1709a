/* Rows of text in columns as wide as their widest cell. */
#ifndef LOCKCTL_TABLE_H
#define LOCKCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#define TABLE_COLUMNS_MAX 32

struct table_row {
        char *cells[TABLE_COLUMNS_MAX];
};

struct text_table {
        int columns;
        const char *headings[TABLE_COLUMNS_MAX];        /* not copied */
        bool right[TABLE_COLUMNS_MAX];  /* numbers */
        struct table_row *rows;
        size_t count, room;
        bool failed;                    /* out of memory */
};

/* `cells`: one text for each column; copied, made printable. */
void table_add(struct text_table *t, const char *const *cells);
/* With headings if wanted; without rows nothing. */
void table_print(const struct text_table *t, bool headings);
/* Frees the rows; columns and headings stay. */
void table_clear(struct text_table *t);

#endif
