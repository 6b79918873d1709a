/* Bytes arrive in any pieces; lines come out whole, in order, and bounded. What comes out is written down as text and compared. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "frame.h"
#include "starve.h"
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 16u       /* a maximum that fits a test's text */

struct bench {
        struct pl_frame frame;
        char log[8192]; /* "<line>" or "!" for one that is too long */
        size_t len;
        size_t last;    /* length of the last line */
};

static void note(struct bench *b, const char *data, size_t len)
{
        assert_true(b->len + len < sizeof b->log);
        memcpy(b->log + b->len, data, len);
        b->len += len;
        b->log[b->len] = '\0';
}

/* A line of more than 64 bytes is written down by its first only. */
static void take(struct bench *b)
{
        enum pl_frame_result r;
        char *line;
        size_t len;

        while ((r = pl_frame_next(&b->frame, &line, &len)) != PL_FRAME_NONE) {
                if (r == PL_FRAME_TOO_LONG) {
                        note(b, "!", 1);
                        continue;
                }
                assert_int_equal(line[len], '\0');
                b->last = len;
                note(b, "<", 1);
                note(b, line, len > 64 ? 1 : len);
                note(b, ">", 1);
        }
}

static void put(struct bench *b, const char *data, size_t len)
{
        char *room;
        size_t n;

        while (len > 0) {
                n = pl_frame_reserve(&b->frame, len, &room);
                assert_in_range(n, 1, len);
                memcpy(room, data, n);
                pl_frame_commit(&b->frame, n);
                data += n;
                len -= n;
        }
}

static void push(struct bench *b, const char *data, size_t len)
{
        put(b, data, len);
        take(b);
}

static void push_text(struct bench *b, const char *text)
{
        push(b, text, strlen(text));
}

static void expect(struct bench *b, const char *log)
{
        assert_string_equal(b->log, log);
        b->len = 0;
        b->log[0] = '\0';
}

/* `len` times `c`, pushed in pieces of `piece`. */
static void push_many(struct bench *b, char c, size_t len, size_t piece)
{
        char *data = malloc(piece);
        size_t n;

        assert_non_null(data);
        memset(data, c, piece);
        for (; len > 0; len -= n) {
                n = len < piece ? len : piece;
                push(b, data, n);
        }
        free(data);
}

static void begin_with(struct bench *b, size_t max)
{
        pl_frame_clear(&b->frame);
        pl_frame_init(&b->frame, max);
        expect(b, "");
}

static int set_up(void **state)
{
        struct bench *b = calloc(1, sizeof *b);

        if (b == NULL)
                return -1;
        pl_frame_init(&b->frame, SMALL);
        *state = b;
        return 0;
}

static int tear_down(void **state)
{
        struct bench *b = *state;

        pl_frame_clear(&b->frame);
        free(b);
        return 0;
}

static void an_empty_frame_has_no_line_and_no_memory(void **state)
{
        struct bench *b = *state;

        take(b);
        expect(b, "");
        assert_null(b->frame.data);
        pl_frame_clear(&b->frame);
        pl_frame_clear(&b->frame);
}

static void several_lines_in_one_push_come_out_in_order(void **state)
{
        struct bench *b = *state;

        push_text(b, "one\ntwo\n\nthree\r\n\n");
        expect(b, "<one><two><><three\r><>");
}

static void what_is_behind_the_last_lf_is_no_line_yet(void **state)
{
        struct bench *b = *state;

        push_text(b, "one\ntw");
        expect(b, "<one>");
        take(b);
        expect(b, "");
        push_text(b, "o");
        expect(b, "");
        push_text(b, "\n");
        expect(b, "<two>");
}

static void a_stream_cut_at_any_byte_gives_the_same_lines(void **state)
{
        static const char text[] = "one\n\n{\"id\":2}\r\nsixteen bytes !!\nseventeen bytes !\nlast\nrest";
        struct bench *b = *state;
        size_t cut;

        for (cut = 0; cut < sizeof text; cut++) {
                begin_with(b, SMALL);
                push(b, text, cut);
                push(b, text + cut, sizeof text - 1 - cut);
                expect(b, "<one><><{\"id\":2}\r><sixteen bytes !!>!<last>");
        }
        begin_with(b, SMALL);
        for (cut = 0; cut < sizeof text - 1; cut++)
                push(b, text + cut, 1);
        expect(b, "<one><><{\"id\":2}\r><sixteen bytes !!>!<last>");
}

static void lines_that_nobody_took_yet_survive_the_next_push(void **state)
{
        struct bench *b = *state;
        char *line;
        size_t len;

        push_text(b, "x");
        put(b, "a\nb\nhalf", 8);
        assert_int_equal(pl_frame_next(&b->frame, &line, &len), PL_FRAME_LINE);
        assert_string_equal(line, "xa");
        put(b, " way\nc\n", 7);
        take(b);
        expect(b, "<b><half way><c>");
}

static void a_nul_in_a_line_does_not_end_it(void **state)
{
        struct bench *b = *state;

        push(b, "a\0b\n", 4);
        assert_int_equal(b->last, 3);
        assert_memory_equal(b->log, "<a\0b>", 5);
        push_text(b, "c\n");
        assert_memory_equal(b->log, "<a\0b><c>", 8);
}

static void a_line_of_the_maximum_is_a_line(void **state)
{
        static const size_t pieces[] = {1000, 4096, PL_LINE_MAX - 1, PL_LINE_MAX, PL_LINE_MAX + 1};
        struct bench *b = *state;
        size_t i;

        for (i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
                begin_with(b, PL_LINE_MAX);
                push_many(b, 'm', PL_LINE_MAX, pieces[i]);
                expect(b, "");
                push_text(b, "\nnext\n");
                expect(b, "<m><next>");
        }
        begin_with(b, SMALL);
        push_text(b, "0123456789abcdef\n");
        assert_int_equal(b->last, SMALL);
        expect(b, "<0123456789abcdef>");
}

static void a_line_longer_than_the_maximum_is_reported_once_in_its_place(void **state)
{
        static const size_t lengths[] = {PL_LINE_MAX + 1, PL_LINE_MAX + 2, 2 * PL_LINE_MAX, 5 * PL_LINE_MAX + 3};
        static const size_t pieces[] = {999, 4096, PL_LINE_MAX, PL_LINE_MAX + 1, 6 * PL_LINE_MAX};
        struct bench *b = *state;
        size_t i, k;

        for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
                for (k = 0; k < sizeof pieces / sizeof pieces[0]; k++) {
                        begin_with(b, PL_LINE_MAX);
                        push_text(b, "before\n");
                        push_many(b, 'x', lengths[i], pieces[k]);
                        expect(b, "<before>");
                        push_text(b, "tail\nafter\n\nlast\n");
                        expect(b, "!<after><><last>");
                }
        }
}

static void a_long_line_and_its_neighbours_in_one_push(void **state)
{
        struct bench *b = *state;

        push_text(b, "before\n01234567890123456\nafter\n0123456789012345678901234567890\n01234567890123456\nlast\n");
        expect(b, "<before>!<after>!!<last>");
}

static void the_lf_of_a_long_line_alone_ends_it(void **state)
{
        struct bench *b = *state;

        push_text(b, "01234567890123456");
        push_text(b, "\n");
        push_text(b, "\n");
        expect(b, "!<>");
}

static void a_long_line_that_never_ends_takes_no_more_memory(void **state)
{
        struct bench *b = *state;

        begin_with(b, PL_LINE_MAX);
        push_many(b, 'x', 4u * 1024 * 1024, 4096);
        assert_true(b->frame.cap <= 2 * (PL_LINE_MAX + 4096));
        expect(b, "");
        push_text(b, "\nok\n");
        expect(b, "!<ok>");
}

static void no_more_room_is_given_than_was_asked_for(void **state)
{
        struct bench *b = *state;
        char *room;
        size_t want;

        for (want = 1; want <= 5000; want += 7) {
                assert_int_equal(pl_frame_reserve(&b->frame, want, &room), want);
                memset(room, 'x', want);        /* the sanitizer knows whether it is there */
        }
        /* What was reserved and not committed is not there. */
        take(b);
        push_text(b, "a\n");
        expect(b, "<a>");
}

static void a_cleared_frame_begins_anew_with_the_same_maximum(void **state)
{
        struct bench *b = *state;

        push_text(b, "0123456789012345678");
        pl_frame_clear(&b->frame);
        push_text(b, "new\n01234567890123456\n0123456789abcdef\n");
        expect(b, "<new>!<0123456789abcdef>");
}

/* Against the plainest way to find lines. */
static void any_stream_in_any_pieces(void **state)
{
        struct bench *b = *state;
        unsigned seed;

        for (seed = 1; seed <= 300; seed++) {
                char text[400], want[1024];
                size_t i, from, n, w = 0;

                srand(seed);
                for (i = 0; i < sizeof text; i++)
                        text[i] = rand() % 12 == 0 ? '\n' : (char)('a' + i % 26);
                for (i = from = 0; i < sizeof text; i++) {
                        if (text[i] != '\n')
                                continue;
                        w += (size_t)(i - from > SMALL ? snprintf(want + w, sizeof want - w, "!")
                                                       : snprintf(want + w, sizeof want - w, "<%.*s>", (int)(i - from), text + from));
                        from = i + 1;
                }
                want[w] = '\0';
                begin_with(b, SMALL);
                for (i = 0; i < sizeof text; i += n) {
                        n = (size_t)(rand() % 40) + 1;
                        n = n < sizeof text - i ? n : sizeof text - i;
                        if (rand() % 4 == 0)
                                put(b, text + i, n);
                        else
                                push(b, text + i, n);
                }
                take(b);
                if (strcmp(b->log, want) != 0)
                        fail_msg("seed %u:\n%s\n%s", seed, b->log, want);
                b->len = 0;
                b->log[0] = '\0';
        }
}

static void without_memory_there_is_no_room_and_nothing_is_lost(void **state)
{
        struct bench *b = *state;
        char *room = NULL;
        size_t n;

        starve_at(1, true);
        n = pl_frame_reserve(&b->frame, 10, &room);
        take(b);
        assert_true(starve_end());
        assert_int_equal(n, 0);
        expect(b, "");

        begin_with(b, PL_LINE_MAX);
        put(b, "one\ntwo\nthr", 11);
        starve_at(1, true);
        n = pl_frame_reserve(&b->frame, 100000, &room);
        assert_true(starve_end());
        assert_in_range(n, 2, 99999);   /* what it has left */
        memcpy(room, "ee", 2);
        pl_frame_commit(&b->frame, 2);
        push_text(b, "\n");
        expect(b, "<one><two><three>");

        /* Full to the last byte. */
        put(b, "x", 1);
        n = pl_frame_reserve(&b->frame, b->frame.cap - 1, &room);
        memset(room, 'x', n);
        pl_frame_commit(&b->frame, n);
        starve_at(1, true);
        n = pl_frame_reserve(&b->frame, 1, &room);
        assert_true(starve_end());
        assert_int_equal(n, 0);
        push_text(b, "\nthen\n");
        expect(b, "<x><then>");
}

#define FRAME(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                FRAME(an_empty_frame_has_no_line_and_no_memory),
                FRAME(several_lines_in_one_push_come_out_in_order),
                FRAME(what_is_behind_the_last_lf_is_no_line_yet),
                FRAME(a_stream_cut_at_any_byte_gives_the_same_lines),
                FRAME(lines_that_nobody_took_yet_survive_the_next_push),
                FRAME(a_nul_in_a_line_does_not_end_it),
                FRAME(a_line_of_the_maximum_is_a_line),
                FRAME(a_line_longer_than_the_maximum_is_reported_once_in_its_place),
                FRAME(a_long_line_and_its_neighbours_in_one_push),
                FRAME(the_lf_of_a_long_line_alone_ends_it),
                FRAME(a_long_line_that_never_ends_takes_no_more_memory),
                FRAME(no_more_room_is_given_than_was_asked_for),
                FRAME(a_cleared_frame_begins_anew_with_the_same_maximum),
                FRAME(any_stream_in_any_pieces),
                FRAME(without_memory_there_is_no_room_and_nothing_is_lost),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
