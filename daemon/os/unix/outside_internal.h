/* Shared by outside.c (what /proc/locks says), outside_rows.c (reading it) and outside_bearer.c (who has the description of a lock that it names nobody for). */
#ifndef OUTSIDE_INTERNAL_H
#define OUTSIDE_INTERNAL_H

#include "outside.h"

/* A lock of which the system names a process that does not have it: us, or one that has ended. */
struct outside_gap {
        struct outside_holder *row;     /* pid and command are filled in when somebody is found */
        struct outside_holder lock;     /* as the system has it, pid included; gaps are sorted by it */
        int64_t pid;                    /* who has it, and by which descriptor; 0: not found */
        int fd;
};

/* "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF". False for rows that wait ("->") and for other kinds of locks. */
bool outside_parse(const char *line, struct outside_holder *h);
/* By file, process and mode, for qsort. */
int outside_compare(const void *a, const void *b);

struct outside_rows {
        struct outside_holder *rows;    /* the caller's to free */
        size_t count, cap;
};

/* The locks in a list that changes while it is read, sorted. `open_list`: a descriptor at its beginning, to be read and closed, or -1. */
void outside_read(struct outside_rows *r, int (*open_list)(void *arg), void *arg);

/* For a helper thread: bounded work, but some 10 ms of it. */
void outside_find_bearers(struct outside_gap *gaps, size_t count);

#endif
