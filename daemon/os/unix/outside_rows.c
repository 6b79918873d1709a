/*
 * Reading /proc/locks. The system writes the list page by page, and not as of one moment: between two read(2)s other locks come and go, rows move, and
 * one that was read already is read again, or one is left out. That is so for short lists too, for only a second read tells that the first one was all: when that brings
 * rows, they may be new or old ones. Equal rows may also be what they seem, two descriptions of one process that share a file.
 *
 * So what came in one read is believed; otherwise the list is read three times, and a row is there as often as on average.
 */
#include "outside_internal.h"

#include "again.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096         /* what the system writes at once; if it is asked for less it is less */
#define ROW_BYTES_MAX 512
#define TRUSTED_LINES 20000     /* longer lists cost too much to be read again */

static bool append(struct outside_rows *r, const struct outside_holder *h)
{
        size_t cap = r->cap == 0 ? 256 : r->cap * 2;
        struct outside_holder *grown;

        if (r->count == r->cap) {
                grown = realloc(r->rows, cap * sizeof *grown);
                if (grown == NULL)
                        return false;
                r->rows = grown;
                r->cap = cap;
        }
        r->rows[r->count++] = *h;
        return true;
}

/* The whole lines of `text`, whose length becomes that of the rest. False: out of memory. */
static bool take_lines(struct outside_rows *r, char *text, size_t *len, size_t *lines)
{
        struct outside_holder h;
        char *line = text, *end;
        bool room = true;

        text[*len] = '\0';
        for (; room && (end = strchr(line, '\n')) != NULL; line = end + 1) {
                *end = '\0';
                (*lines)++;
                if (outside_parse(line, &h))
                        room = append(r, &h);
        }
        *len = strlen(line);
        if (*len > ROW_BYTES_MAX)
                *len = 0;       /* no such row is known */
        memmove(text, line, *len);
        return room;
}

/* One reading, appended: how many read(2)s brought something, and how many lines came. What is known when memory is out is better than nothing. */
static unsigned read_once(struct outside_rows *r, int fd, size_t *lines)
{
        char text[ROW_BYTES_MAX + PAGE_BYTES + 1];
        unsigned reads = 0;
        size_t len = 0;
        ssize_t n;

        while ((n = read_again(fd, text + len, PAGE_BYTES)) > 0) {
                reads++;
                len += (size_t)n;
                if (!take_lines(r, text, &len, lines))
                        break;
        }
        return reads;
}

/* Sorted; of `readings` the average, rounded: what one of three has alone is not there, what one of them lacks is. */
static void settle(struct outside_rows *r, unsigned readings)
{
        size_t i, k, keep, n = 0;

        if (r->count > 0)
                qsort(r->rows, r->count, sizeof *r->rows, outside_compare);
        for (i = 0; i < r->count; i = k) {
                for (k = i; k < r->count && outside_compare(&r->rows[i], &r->rows[k]) == 0; k++)
                        ;
                for (keep = (k - i + readings / 2) / readings; keep > 0; keep--)
                        r->rows[n++] = r->rows[i];
        }
        r->count = n;
}

void outside_read(struct outside_rows *r, int (*open_list)(void *arg), void *arg)
{
        unsigned readings = 0, wanted = 1, reads;
        size_t lines = 0;
        int fd;

        *r = (struct outside_rows){0};
        while (readings < wanted && (fd = open_list(arg)) >= 0) {
                reads = read_once(r, fd, &lines);
                close(fd);
                if (readings++ == 0 && reads > 1 && lines < TRUSTED_LINES)
                        wanted = 3;
        }
        settle(r, readings > 0 ? readings : 1);
}
