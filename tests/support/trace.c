#include "trace.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_INODE 42
#define FILES 3
#define TRIES 8                 /* one for each file that an event touches, and one */
#define NAMED (26ull << 32)     /* cookies of requests that say which file they mean */

static const struct table_key the_file = {.device = 8, .inode = FIRST_INODE};

static struct table_key key_of(char file)
{
        return (struct table_key){.device = 8, .inode = FIRST_INODE + (uint64_t)(file - 'x')};
}

static void note(struct trace *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note(struct trace *t, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        t->len += (size_t)vsnprintf(t->log + t->len, sizeof t->log - t->len, format, args);
        va_end(args);
        assert_true(t->len < sizeof t->log);
}

static const char *mode_name(enum table_mode mode)
{
        return mode == TABLE_EX ? "EX" : mode == TABLE_SH ? "SH" : "none";
}

/* " of y", or nothing. */
static const char *which(char out[16], const char *word, const struct table_effect *fx)
{
        snprintf(out, 16, " %s %c", word, (char)('x' + fx->key.inode - FIRST_INODE));
        if (fx->cookie < NAMED)
                out[0] = '\0';
        return out;
}

/* A cookie carries its session. */
static char who_asked(uint64_t cookie)
{
        return (char)('A' + cookie % 26);
}

static char who_waits(const struct trace *t, uint64_t op)
{
        struct table_waiter w;
        char file;
        size_t i;

        for (file = 'x'; file < 'x' + FILES; file++)
                for (i = 0; table_waiter_at(t->table, key_of(file), i, &w); i++)
                        if (w.request == op)
                                return who_asked(w.cookie);
        return '?';     /* its request has been answered already */
}

/* Who waits for which file, or for whom. */
static void note_cycle(struct trace *t, size_t at)
{
        struct table_cycle_step step, next;
        size_t i;

        assert_true(table_cycle(t->table, at, 0, &step));
        for (i = 0; table_cycle(t->table, at, i, &step); i++) {
                if (!table_cycle(t->table, at, i + 1, &next))
                        assert_true(table_cycle(t->table, at, 0, &next));
                note(t, "%s %c waits for %c", i == 0 ? ":" : ",", (char)('A' + step.session - 1),
                     step.mode == TABLE_NONE ? (char)('A' + next.session - 1) : (char)('x' + step.key.inode - FIRST_INODE));
        }
}

static void note_reply(struct trace *t, const struct table_effect *fx)
{
        static const char *const words[] = {[OUT_REFUSED] = "refused", [OUT_TIMED_OUT] = "timed out", [OUT_DEADLOCK] = "deadlock",
                                            [OUT_CANCELLED] = "cancelled", [OUT_LOST] = "lost it", [OUT_FAILED] = "failed",
                                            [OUT_DUPLICATE] = "asked twice", [OUT_LIMIT] = "over a limit"};
        char who = who_asked(fx->cookie);

        char file[16];

        if (fx->outcome != OUT_GRANTED) {
                note(t, "%c %s%s", who, words[fx->outcome], fx->broken ? ": it was broken" : "");
                if (fx->outcome == OUT_DEADLOCK && t->cycles)
                        note_cycle(t, fx->cycle);
                note(t, "\n");
                return;
        }
        note(t, "%c %s %s%s\n", who, fx->relock ? "still has" : "has", mode_name(fx->mode), which(file, "of", fx));
        t->locks[who - 'A'] = fx->lock;
        t->tokens[who - 'A'] = fx->token;
        t->dropped = fx->dropped;
}

static bool outsider_bars(const struct trace *t, const struct table_effect *fx)
{
        return t->outside == TABLE_EX || (t->outside == TABLE_SH && fx->mode == TABLE_EX);
}

/* True: *result is the answer to a try, due at once. */
static bool note_os_lock(struct trace *t, const struct table_effect *fx, enum table_os_result *result)
{
        char who = who_waits(t, fx->op);

        if (fx->wait)
                note(t, "kernel: wait %s for %c%s\n", mode_name(fx->mode), who, fx->fresh ? " on a new description" : "");
        else if (fx->convert)
                note(t, "kernel: upgrade for %c\n", who);
        else if (t->slow)
                note(t, "kernel: try %s for %c\n", mode_name(fx->mode), who);
        t->op = fx->op;
        t->fresh = fx->fresh ? 1000 + fx->op : 0;
        *result = outsider_bars(t, fx) ? OS_BUSY : OS_TAKEN;
        return !t->slow && !fx->wait;
}

static bool note_effect(struct trace *t, const struct table_effect *fx, enum table_os_result *result)
{
        char file[16];

        switch (fx->kind) {
        case FX_REPLY:
                note_reply(t, fx);
                break;
        case FX_WAITING:
                note(t, "%c waits%s\n", who_asked(fx->cookie), which(file, "for", fx));
                t->requests[who_asked(fx->cookie) - 'A'] = fx->request;
                break;
        case FX_OS_LOCK:
                return note_os_lock(t, fx, result);
        case FX_OS_CANCEL:
                note(t, "kernel: end the wait\n");
                break;
        case FX_OS_UNLOCK:
                note(t, "kernel: unlock\n");
                break;
        case FX_OS_DOWNGRADE:
                note(t, "kernel: downgrade\n");
                break;
        case FX_LOST:
                note(t, "%c is told of its loss%s\n", (char)('A' + fx->session - 1), fx->broken ? ": it was broken" : "");
                break;
        case FX_MOVED:
                t->moved++;
                break;
        case FX_OS_KEEP:
                t->references++;
                break;
        case FX_OS_DROP:
                t->references--;
                break;
        }
        return false;
}

void trace_submit(struct trace *t, struct table_event ev)
{
        struct table_effects fx = {0};
        enum table_os_result results[TRIES];
        uint64_t tries[TRIES];
        const char *wrong;
        size_t i, count = 0;

        ev.now_ms = t->now;
        t->references += ev.kind == EV_LOCK;
        table_step(t->table, &ev, &fx);
        for (i = 0; i < fx.count; i++)
                if (note_effect(t, &fx.items[i], &results[count])) {
                        assert_true(count < TRIES - 1);
                        tries[count++] = fx.items[i].op;
                }
        for (i = 0; i < fx.count; i++)
                if (fx.items[i].kind == FX_MOVED && !t->cycles)
                        assert_int_equal(i, fx.count - 1);      /* once, and last: it is all about one file */
        free(fx.items);
        wrong = table_check(t->table);
        if (wrong != NULL)
                fail_msg("%s, after:\n%s", wrong, t->log);
        for (i = 0; i < count; i++) {
                t->op = tries[i];
                trace_answer(t, results[i]);
        }
}

/* ev.since_ms: before or after now. */
static void ask(struct trace *t, char who, struct table_event ev, int64_t timeout_ms)
{
        ev.kind = EV_LOCK;
        ev.session = (uint64_t)(who - 'A') + 1;
        ev.cookie += ++t->cookies * 26 + (uint64_t)(who - 'A');
        if (ev.cookie < NAMED)
                ev.key = the_file;
        ev.handle = t->handle;
        ev.nonblock = timeout_ms == 0;
        ev.since_ms += t->now;
        ev.deadline_ms = timeout_ms > 0 ? t->now + timeout_ms : TABLE_NEVER;
        trace_submit(t, ev);
}

static struct table_event about(char file, enum table_mode mode)
{
        return (struct table_event){.key = key_of(file), .bearer = file == 'x' ? TRACE_PATH_BEARER : (uint64_t)(100 + file), .shared = true, .mode = mode, .cookie = NAMED};
}

void trace_lock_file(struct trace *t, char who, char file, enum table_mode mode, int64_t timeout_ms)
{
        t->cycles = true;
        ask(t, who, about(file, mode), timeout_ms);
}

void trace_lock_file_again(struct trace *t, char who, char file, enum table_mode mode, int64_t since_ms)
{
        struct table_event ev = about(file, mode);

        t->cycles = true;
        ev.since_ms = since_ms - t->now;
        ask(t, who, ev, -1);
}

void trace_unlock_file(struct trace *t, char who, char file)
{
        uint64_t session = (uint64_t)(who - 'A') + 1;

        trace_submit(t, (struct table_event){.kind = EV_UNLOCK, .session = session, .lock = table_lock_of(t->table, key_of(file), session, 0)});
}

void trace_use_handle(struct trace *t, int64_t handle)
{
        t->handle = handle;
}

void trace_introduce(struct trace *t, char who, char parent, bool concurrent)
{
        trace_submit(t, (struct table_event){.kind = EV_SESSION, .session = (uint64_t)(who - 'A') + 1, .parent = parent != 0 ? (uint64_t)(parent - 'A') + 1 : 0, .concurrent = concurrent});
        t->cycles = true;
}

void trace_lock(struct trace *t, char who, enum table_mode mode, int64_t timeout_ms)
{
        ask(t, who, (struct table_event){.bearer = TRACE_PATH_BEARER, .shared = true, .mode = mode}, timeout_ms);
}

void trace_pass(struct trace *t, char who, uint64_t bearer, enum table_mode mode, int64_t timeout_ms, enum table_mode bears)
{
        ask(t, who, (struct table_event){.bearer = bearer, .mode = mode, .bears = bears}, timeout_ms);
}

void trace_claim(struct trace *t, char who, uint64_t bearer, enum table_mode mode, uint64_t token, enum table_mode bears)
{
        ask(t, who, (struct table_event){.bearer = bearer, .mode = mode, .bears = bears, .claims = mode, .claimed_token = token}, -1);
}

void trace_wait_again(struct trace *t, char who, enum table_mode mode, int64_t waited_ms, uint64_t group)
{
        ask(t, who, (struct table_event){.bearer = TRACE_PATH_BEARER, .shared = true, .mode = mode, .since_ms = -waited_ms, .group = group}, -1);
}

void trace_unlock(struct trace *t, char who, bool close_only)
{
        trace_submit(t, (struct table_event){.kind = EV_UNLOCK, .session = (uint64_t)(who - 'A') + 1, .lock = t->locks[who - 'A'], .close_only = close_only});
}

void trace_break(struct trace *t, table_id lock)
{
        trace_submit(t, (struct table_event){.kind = EV_BREAK, .lock = lock});
}

void trace_cancel(struct trace *t, char who)
{
        trace_submit(t, (struct table_event){.kind = EV_CANCEL, .session = (uint64_t)(who - 'A') + 1, .request = t->requests[who - 'A']});
}

void trace_end(struct trace *t, char who)
{
        trace_submit(t, (struct table_event){.kind = EV_SESSION_END, .session = (uint64_t)(who - 'A') + 1});
}

void trace_advance(struct trace *t, int64_t ms)
{
        t->now += ms;
        trace_submit(t, (struct table_event){.kind = EV_TIMER});
}

void trace_answer(struct trace *t, enum table_os_result result)
{
        struct table_event ev = {.kind = EV_OS_DONE, .op = t->op, .result = result, .error = 5};

        if (result == OS_TAKEN && t->fresh != 0) {
                ev.new_bearer = t->fresh;
                t->references++;
        }
        t->fresh = 0;
        t->op = 0;
        trace_submit(t, ev);
}

void trace_expect(struct trace *t, const char *lines)
{
        assert_string_equal(t->log, lines);
        trace_forget(t);
}

void trace_forget(struct trace *t)
{
        t->len = 0;
        t->log[0] = '\0';
}

int trace_set_up(void **state)
{
        struct trace *t = calloc(1, sizeof *t);

        t->table = table_create();
        t->now = 1000;
        *state = t;
        return 0;
}

int trace_tear_down(void **state)
{
        struct trace *t = *state;
        struct table_counts n;
        int round;
        char who;

        for (round = 0; round < 2; round++) {
                for (who = 'A'; who <= 'Z'; who++)
                        trace_end(t, who);
                if (t->op != 0)
                        trace_answer(t, OS_CANCELLED);
        }
        table_count(t->table, &n);
        assert_int_equal(n.resources + n.locks + n.waiting + n.os_ops, 0);
        assert_int_equal(t->references, 0);
        table_destroy(t->table);
        free(t);
        return 0;
}
