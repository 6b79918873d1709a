/* What is sent in one turn leaves at its end, in one write for each connection, and in the order in which they were first written to. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <uv.h>

#include "transport.h"

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT 4

struct end {
        struct transport *transport;
        int peer;
        size_t nth;             /* to be drained, from 1 on; 0: not yet */
};

static uv_loop_t loop;
static struct transport_group *group;
static struct end ends[COUNT];
static size_t drained;

static enum transport_take on_take(void *arg)
{
        (void)arg;
        return TRANSPORT_TAKE;
}

static size_t on_room(void *arg, char **out)
{
        static char room[256];

        (void)arg;
        *out = room;
        return sizeof room;
}

static void on_received(void *arg, size_t len, const int *fds, size_t count)
{
        (void)arg;
        (void)len;
        (void)fds;
        (void)count;
}

static void on_event(void *arg)
{
        (void)arg;
}

static void on_drained(void *arg)
{
        ((struct end *)arg)->nth = ++drained;
}

static const struct transport_events events = {
        .take = on_take, .held_back = on_event, .room = on_room, .received = on_received, .ended = on_event, .gone = on_event, .drained = on_drained};

static int begin(void **state)
{
        int pair[2];
        size_t i;

        (void)state;
        drained = 0;
        assert_int_equal(uv_loop_init(&loop), 0);
        group = transport_group_create(&loop);
        assert_non_null(group);
        for (i = 0; i < COUNT; i++) {
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
                ends[i] = (struct end){.peer = pair[1], .transport = transport_create(group, pair[0], &events, &ends[i])};
                assert_non_null(ends[i].transport);
        }
        return 0;
}

static int end(void **state)
{
        size_t i;

        (void)state;
        for (i = 0; i < COUNT; i++) {
                transport_destroy(ends[i].transport);
                close(ends[i].peer);
        }
        transport_group_destroy(group);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&loop), 0);
        return 0;
}

static void send_text(size_t i, const char *text)
{
        assert_int_equal(transport_send(ends[i].transport, text, strlen(text)), 0);
}

/* All that the peer can read now. */
static const char *got(size_t i)
{
        static char text[256];
        ssize_t n = recv(ends[i].peer, text, sizeof text - 1, MSG_DONTWAIT);

        text[n < 0 ? 0 : n] = '\0';
        return text;
}

static void who_was_written_to_first_hears_first(void **state)
{
        static const size_t order[COUNT] = {2, 0, 3, 1};
        size_t i;

        (void)state;
        for (i = 0; i < COUNT; i++)
                send_text(order[i], "grant\n");
        send_text(2, "once more\n");            /* does not lose its place */
        assert_string_equal(got(2), "");        /* the turn is not over */
        uv_run(&loop, UV_RUN_NOWAIT);
        for (i = 0; i < COUNT; i++)
                assert_int_equal(ends[order[i]].nth, i + 1);
        assert_string_equal(got(2), "grant\nonce more\n");
        assert_string_equal(got(1), "grant\n");
}

static void one_that_goes_is_not_written_to_and_the_others_are(void **state)
{
        size_t i;

        (void)state;
        for (i = 0; i < COUNT; i++)
                send_text(i, "reply\n");
        transport_destroy(ends[1].transport);
        ends[1].transport = NULL;
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(drained, COUNT - 1);
        assert_int_equal(ends[1].nth, 0);
        assert_string_equal(got(1), "");
        assert_string_equal(got(3), "reply\n");
}

static void what_is_held_leaves_in_the_same_order(void **state)
{
        (void)state;
        transport_group_hold(group, true);
        send_text(3, "a\n");
        send_text(1, "b\n");
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_string_equal(got(3), "");
        send_text(0, "c\n");
        transport_group_hold(group, false);
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(ends[3].nth, 1);
        assert_int_equal(ends[1].nth, 2);
        assert_int_equal(ends[0].nth, 3);
        assert_string_equal(got(0), "c\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(who_was_written_to_first_hears_first, begin, end),
                cmocka_unit_test_setup_teardown(one_that_goes_is_not_written_to_and_the_others_are, begin, end),
                cmocka_unit_test_setup_teardown(what_is_held_leaves_in_the_same_order, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
