/*
 * Histories of the lock table as text. Sessions are letters; everything is about one file, x,
 * unless it is said which. What the table answers and asks of the
 * system is written down line by line and compared with trace_expect(). References (keep, drop) and FX_MOVED are counted, not written.
 */
#ifndef TRACE_H
#define TRACE_H

#include "table.h"

#include <stdbool.h>

#define TRACE_PATH_BEARER 1

struct trace {
        struct table *table;
        int64_t now;
        char log[16384];
        size_t len;
        table_id locks[26];             /* the latest lock of each session */
        table_id dropped;               /* by the latest grant */
        table_id requests[26];          /* the latest request that was said to wait */
        uint64_t cookies, tokens[26];
        enum table_mode outside;        /* what an outsider holds: tries meet it. NONE: they succeed */
        bool slow;                      /* tries are not answered by themselves: trace_answer() */
        uint64_t op;                    /* the last one that was asked and not answered */
        uint64_t fresh;                 /* bearer of the last wait on a new description */
        int references;
        int64_t handle;                 /* of requests by path */
        bool cycles;                    /* deadlocks are written with theirs */
        int moved;                      /* how often it was said that holders or places have changed */
};

int trace_set_up(void **state);
int trace_tear_down(void **state);      /* and: all sessions ended, nothing may be left */

/* By path, handle 0. timeout_ms -1: for ever, 0: LOCK_NB. */
void trace_lock(struct trace *t, char who, enum table_mode mode, int64_t timeout_ms);
/* On one of the files x, y and z, which is then named in what is written. */
void trace_lock_file(struct trace *t, char who, char file, enum table_mode mode, int64_t timeout_ms);
/* The same, for ever, with an arrival in the past. */
void trace_lock_file_again(struct trace *t, char who, char file, enum table_mode mode, int64_t since_ms);
/* Give up the lock with handle 0. */
void trace_unlock_file(struct trace *t, char who, char file);
void trace_use_handle(struct trace *t, int64_t handle);
/* `parent`: a session, or 0. */
void trace_introduce(struct trace *t, char who, char parent, bool concurrent);
/* By a passed description. `bears`: what the kernel says it bears. */
void trace_pass(struct trace *t, char who, uint64_t bearer, enum table_mode mode, int64_t timeout_ms, enum table_mode bears);
/* A lock from before is claimed, in that mode and with that token. */
void trace_claim(struct trace *t, char who, uint64_t bearer, enum table_mode mode, uint64_t token, enum table_mode bears);
/* By path, of one that has waited for `waited_ms` already; of that group. */
void trace_wait_again(struct trace *t, char who, enum table_mode mode, int64_t waited_ms, uint64_t group);
void trace_submit(struct trace *t, struct table_event ev);
void trace_unlock(struct trace *t, char who, bool close_only);
void trace_break(struct trace *t, table_id lock);
void trace_cancel(struct trace *t, char who);
void trace_end(struct trace *t, char who);
void trace_advance(struct trace *t, int64_t ms);
/* The answer to the operation that is under way. */
void trace_answer(struct trace *t, enum table_os_result result);
/* The lines since the last call are exactly these. */
void trace_expect(struct trace *t, const char *lines);
void trace_forget(struct trace *t);

#endif
