/* A session between a transport and a dispatch that play along: shares of the loop, replies that cannot be sent, the end. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* ---- the two of them ---- */

struct transport {
        const struct transport_events *events;
        void *arg;
        const char *unread;     /* what transport_drain() finds */
        bool reading, skipping, out_of_memory, destroyed;
        size_t sent;
};

static struct transport peer_side;
static struct client *const a_client = (struct client *)&peer_side;
static size_t lines, long_lines, closed;
static int shares_to_end;
static bool slow, replies;
static struct session *serving;

struct transport *transport_create(struct transport_group *g, int fd, const struct transport_events *events, void *arg)
{
        (void)g;
        (void)fd;
        peer_side = (struct transport){.events = events, .arg = arg, .reading = true};
        return &peer_side;
}

void transport_destroy(struct transport *t)
{
        t->destroyed = true;
}

void transport_refuse(int fd, const char *line)
{
        (void)fd;
        (void)line;
}

int transport_send(struct transport *t, const char *data, size_t len)
{
        (void)data;
        if (t->out_of_memory)
                return -ENOMEM;
        t->sent += len;
        return 0;
}

size_t transport_unsent(const struct transport *t)
{
        (void)t;
        return 0;
}

void transport_flush(struct transport *t)
{
        (void)t;
}

void transport_reading(struct transport *t, bool on)
{
        t->reading = on;
}

void transport_skip(struct transport *t, bool on)
{
        t->skipping = on;
}

static void receive(const char *text)
{
        char *room;
        size_t size = peer_side.events->room(peer_side.arg, &room);

        assert_true(size >= strlen(text));
        memcpy(room, text, strlen(text));
        peer_side.events->received(peer_side.arg, strlen(text), NULL, 0);
}

bool transport_drain(struct transport *t)
{
        const char *text = t->unread;

        t->unread = NULL;
        if (text != NULL)
                receive(text);
        return text != NULL;
}

struct client *dispatch_open(struct dispatch *d, struct session *s, const struct peer *peer, const char **text)
{
        (void)d;
        (void)peer;
        (void)text;
        serving = s;
        return a_client;
}

void dispatch_close(struct dispatch *d, struct client *c)
{
        (void)d;
        assert_ptr_equal(c, a_client);
        closed++;
}

bool dispatch_end(struct dispatch *d, struct client *c)
{
        (void)d;
        assert_ptr_equal(c, a_client);
        assert_int_equal(closed, 0);
        if (--shares_to_end > 0)
                return false;
        closed++;
        return true;
}

void dispatch_line(struct dispatch *d, struct client *c, const char *line, size_t len)
{
        uint64_t until = uv_hrtime() + 2000000;

        (void)d;
        (void)c;
        (void)line;
        (void)len;
        lines++;
        while (slow && uv_hrtime() < until)
                ;
        if (replies)
                session_send(serving, "reply\n", 6);
}

struct account *dispatch_account(const struct client *c)
{
        (void)c;
        return NULL;
}

void dispatch_long_line(struct dispatch *d, struct client *c)
{
        (void)d;
        (void)c;
        long_lines++;
}

bool dispatch_is_full(const struct client *c)
{
        (void)c;
        return false;
}

bool dispatch_has_room(const struct dispatch *d, const struct client *c)
{
        (void)d;
        (void)c;
        return true;
}

bool dispatch_descriptor(struct dispatch *d, struct client *c, int fd)
{
        (void)d;
        (void)c;
        (void)fd;
        return true;
}

void dispatch_go_on(struct dispatch *d, struct client *c)
{
        (void)d;
        (void)c;
}

void dispatch_gone(struct client *c)
{
        (void)c;
}

/* ---- */

struct fixture {
        uv_loop_t loop;
        struct session_group group;
        struct session *session;
        size_t over;
};

static void on_over(void *arg, struct session *s)
{
        struct fixture *f = arg;

        f->over++;
        f->session = NULL;
        session_destroy(s);
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);
        struct peer peer = {.pid = 1};
        const char *why;

        lines = long_lines = closed = 0;
        shares_to_end = 1;
        slow = replies = false;
        uv_loop_init(&f->loop);
        f->group.turns = turns_create(&f->loop);
        f->group.over = on_over;
        f->group.arg = f;
        f->session = session_create(&f->group, 0, &peer, &why);
        *state = f;
        return f->session == NULL;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        if (f->session != NULL)
                session_destroy(f->session);
        assert_int_equal(closed, 1);
        assert_true(peer_side.destroyed);
        session_group_clear(&f->group);
        turns_destroy(f->group.turns);
        uv_run(&f->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&f->loop), 0);
        free(f);
        return 0;
}

static void turn(struct fixture *f)
{
        uv_run(&f->loop, UV_RUN_NOWAIT);
}

/* Lines as one write would bring them. */
static void receive_lines(size_t count)
{
        char text[4096] = "";
        size_t i;

        for (i = 0; i < count; i++)
                strcat(text, "x\n");
        receive(text);
}

static void cheap_lines_of_one_write_are_carried_out_at_once(void **state)
{
        (void)state;
        receive_lines(16);
        assert_int_equal(lines, 16);
        assert_false(peer_side.skipping);
}

static void expensive_lines_are_spread_over_turns(void **state)
{
        struct fixture *f = *state;

        slow = true;
        receive_lines(3);
        assert_int_equal(lines, 1);
        assert_true(peer_side.skipping);
        turn(f);
        assert_int_equal(lines, 2);
        turn(f);
        assert_int_equal(lines, 3);
        turn(f);
        assert_false(peer_side.skipping);
}

static void many_cheap_lines_are_spread_over_turns_too(void **state)
{
        struct fixture *f = *state;
        size_t turns = 0, before;

        receive_lines(1000);
        for (; lines < 1000; turns++) {
                before = lines;
                turn(f);
                assert_true(lines > before);
        }
        assert_in_range(turns, 2, 1000);
}

static void a_reply_that_cannot_be_sent_ends_the_session(void **state)
{
        struct fixture *f = *state;

        replies = true;
        peer_side.out_of_memory = true;
        receive_lines(5);
        assert_int_equal(f->over, 0);   /* not under the feet of who sends */
        assert_int_equal(lines, 1);
        turn(f);
        assert_int_equal(f->over, 1);
}

static void what_was_sent_before_a_hang_up_is_carried_out_turn_by_turn(void **state)
{
        struct fixture *f = *state;

        slow = true;
        receive_lines(2);
        peer_side.unread = "x\nx\n";
        peer_side.events->gone(peer_side.arg);
        assert_int_equal(f->over, 0);
        while (f->over == 0)
                turn(f);
        assert_int_equal(lines, 4);
}

static void a_hang_up_with_nothing_left_ends_it_at_once(void **state)
{
        struct fixture *f = *state;

        receive_lines(1);
        peer_side.events->gone(peer_side.arg);
        assert_int_equal(f->over, 1);
}

static void an_end_that_takes_several_shares_goes_on_in_the_next_turns(void **state)
{
        struct fixture *f = *state;

        shares_to_end = 3;
        receive_lines(1);
        peer_side.events->gone(peer_side.arg);
        session_send(f->session, "too late", 8);
        turn(f);
        assert_int_equal(f->over, 0);
        turn(f);
        assert_int_equal(f->over, 1);
        assert_int_equal(peer_side.sent, 0);
        assert_false(peer_side.reading);
}

static void an_end_that_is_not_over_may_be_cut_short(void **state)
{
        shares_to_end = 3;
        peer_side.events->gone(peer_side.arg);
        turn(*state);
        assert_int_equal(closed, 0);
}

/* An idle one costs no more than it must; what has begun to come it remembers. */
static void only_half_a_line_is_kept(void **state)
{
        struct fixture *f = *state;
        char *room;

        assert_null(f->session->frame);
        receive_lines(2);
        assert_null(f->session->frame);
        receive("x");
        assert_non_null(f->session->frame);
        receive("\n");
        assert_null(f->session->frame);
        assert_int_equal(lines, 3);
        assert_true(peer_side.events->room(peer_side.arg, &room) > 0);
        peer_side.events->ended(peer_side.arg); /* that was all */
        assert_null(f->session->frame);
}

static void the_rest_of_a_line_that_is_too_long_is_no_line(void **state)
{
        static char part[16384];
        struct fixture *f = *state;
        size_t i;

        memset(part, 'x', sizeof part - 1);
        for (i = 0; i < 6; i++)
                receive(part);
        receive("x\nx\n");
        assert_int_equal(long_lines, 1);
        assert_int_equal(lines, 1);
        assert_null(f->session->frame);
}

#define IN_SESSION(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                IN_SESSION(cheap_lines_of_one_write_are_carried_out_at_once),
                IN_SESSION(expensive_lines_are_spread_over_turns),
                IN_SESSION(many_cheap_lines_are_spread_over_turns_too),
                IN_SESSION(a_reply_that_cannot_be_sent_ends_the_session),
                IN_SESSION(what_was_sent_before_a_hang_up_is_carried_out_turn_by_turn),
                IN_SESSION(a_hang_up_with_nothing_left_ends_it_at_once),
                IN_SESSION(an_end_that_takes_several_shares_goes_on_in_the_next_turns),
                IN_SESSION(an_end_that_is_not_over_may_be_cut_short),
                IN_SESSION(only_half_a_line_is_kept),
                IN_SESSION(the_rest_of_a_line_that_is_too_long_is_no_line),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
