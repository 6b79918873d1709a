/* Reading /proc/locks, which changes while it is read: each message of a socket plays what one read(2) of it brings. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "outside_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READINGS_MAX 4
#define READS_MAX 4

#define A "1: FLOCK  ADVISORY  WRITE 100 fe:00:5001 0 EOF\n"
#define A_LATER "2: FLOCK  ADVISORY  WRITE 100 fe:00:5001 0 EOF\n"
#define B "2: FLOCK  ADVISORY  READ 200 fe:00:5002 0 EOF\n"
#define WAITS "2: -> FLOCK  ADVISORY  WRITE 300 fe:00:5001 0 EOF\n"
#define POSIX "3: POSIX  ADVISORY  WRITE 400 fe:00:5003 128 128\n"

struct list {
        const char *reads[READINGS_MAX][READS_MAX];
        int opened;
};

static int open_list(void *arg)
{
        struct list *l = arg;
        int ends[2], i;

        assert_true(l->opened < READINGS_MAX);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        for (i = 0; i < READS_MAX && l->reads[l->opened][i] != NULL; i++) {
                const char *text = l->reads[l->opened][i];

                assert_int_equal(send(ends[0], text, strlen(text), 0), strlen(text));
        }
        l->opened++;
        close(ends[0]);
        return ends[1];
}

/* "PID mode INODE" of each row. */
static void expect(struct list l, int readings, const char *expected)
{
        struct outside_rows r;
        char text[512] = "";
        size_t i;

        outside_read(&r, open_list, &l);
        for (i = 0; i < r.count; i++)
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s%lld %s %llu", i > 0 ? ", " : "", (long long)r.rows[i].pid,
                         r.rows[i].exclusive ? "EX" : "SH", (unsigned long long)r.rows[i].inode);
        free(r.rows);
        assert_string_equal(text, expected);
        assert_int_equal(l.opened, readings);
}

static void what_came_at_once_is_believed(void **state)
{
        (void)state;
        expect((struct list){.reads = {{B A POSIX WAITS}}}, 1, "100 EX 5001, 200 SH 5002");
        expect((struct list){.reads = {{B B}}}, 1, "200 SH 5002, 200 SH 5002");         /* two descriptions of one process */
        expect((struct list){.reads = {{NULL}}}, 1, "");
}

/* Another lock has come between the first read and the one that tells that there is no more: everything has moved by one. */
static void a_row_that_was_read_twice_counts_once(void **state)
{
        (void)state;
        expect((struct list){.reads = {{A, A_LATER}, {B A}, {B A}}}, 3, "100 EX 5001, 200 SH 5002");
        expect((struct list){.reads = {{A}}}, 1, "100 EX 5001");
}

static void a_row_that_was_left_out_once_is_there(void **state)
{
        (void)state;
        expect((struct list){.reads = {{B, POSIX}, {A B, POSIX}, {A B, POSIX}}}, 3, "100 EX 5001, 200 SH 5002");
        expect((struct list){.reads = {{A B, POSIX}, {B, POSIX}, {B, POSIX}}}, 3, "200 SH 5002");       /* it has gone */
}

static void a_row_may_come_in_two_parts(void **state)
{
        (void)state;
        expect((struct list){.reads = {{A "2: FLO", "CK  ADVISORY  READ 200 fe:00:5002 0 EOF\n"}, {A B}, {A B}}}, 3, "100 EX 5001, 200 SH 5002");
}

static void a_line_without_end_is_no_row(void **state)
{
        char endless[3000];

        (void)state;
        memset(endless, 'x', sizeof endless);
        endless[sizeof endless - 1] = '\0';
        expect((struct list){.reads = {{endless, endless, "\n" A}, {A}, {A}}}, 3, "100 EX 5001");
}

/* Between readings all descriptors may have been taken. */
static int open_once(void *arg)
{
        struct list *l = arg;

        return l->opened == 0 ? open_list(arg) : -1;
}

static void a_list_that_cannot_be_opened_again_is_taken_as_it_is(void **state)
{
        struct list l = {.reads = {{A, B}}};
        struct outside_rows r;

        (void)state;
        outside_read(&r, open_once, &l);
        assert_int_equal(r.count, 2);
        free(r.rows);
        outside_read(&r, open_once, &l);
        assert_int_equal(r.count, 0);
        free(r.rows);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_came_at_once_is_believed),
                cmocka_unit_test(a_row_that_was_read_twice_counts_once),
                cmocka_unit_test(a_row_that_was_left_out_once_is_there),
                cmocka_unit_test(a_row_may_come_in_two_parts),
                cmocka_unit_test(a_line_without_end_is_no_row),
                cmocka_unit_test(a_list_that_cannot_be_opened_again_is_taken_as_it_is),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
