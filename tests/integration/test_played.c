/* libportalock with a daemon that the test plays: what a real one does only in bad moments. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "restarts.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct played {
        char folder[64], path[96], second[96];
        portalock_session *s;
        struct seen seen;
        int listener, fd;               /* fd: the connection; -1: none */
        int result;                     /* of portalock_process() */
        unsigned turns;
        char in[65536];                 /* what the library has said and nobody has heard yet */
        size_t len;
};

/* ---- the play ---- */

static void take_connection(struct played *p)
{
        int fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0)
                return;
        if (p->fd >= 0)
                close(p->fd);
        p->fd = fd;
        p->len = 0;
}

/* One turn of the library's loop, and of ours. */
static void play(struct played *p)
{
        struct pollfd wait[] = {{.fd = portalock_fd(p->s), .events = POLLIN}, {.fd = p->listener, .events = POLLIN}, {.fd = p->fd, .events = POLLIN}};
        int64_t timeout = portalock_timeout(p->s);
        ssize_t n;

        (void)poll(wait, 3, timeout < 0 || timeout > 50 ? 50 : (int)timeout);
        p->turns++;
        p->result = portalock_process(p->s);
        take_connection(p);
        n = p->fd >= 0 ? recv(p->fd, p->in + p->len, sizeof p->in - 1 - p->len, 0) : -1; /* without room for descriptors: they are dropped */
        if (n > 0)
                p->len += (size_t)n;
        p->in[p->len] = '\0';
}

#define PLAY_UNTIL(p, condition)                                                                                                                               \
        do {                                                                                                                                                   \
                int64_t until_ms = now_ms() + PATIENCE_MS;                                                                                                     \
                                                                                                                                                               \
                while (!(condition)) {                                                                                                                         \
                        if (now_ms() > until_ms)                                                                                                               \
                                fail_msg("never came true: %s", #condition);                                                                                   \
                        play(p);                                                                                                                               \
                }                                                                                                                                              \
        } while (0)

/* The id of the next request, which must have `text` in it. */
static long long hear(struct played *p, const char *text)
{
        const char *id;
        long long number;
        char *end;

        PLAY_UNTIL(p, strchr(p->in, '\n') != NULL);
        end = strchr(p->in, '\n');
        *end = '\0';
        if (strstr(p->in, text) == NULL)
                fail_msg("not %s: %s", text, p->in);
        id = strstr(p->in, "\"id\":");
        assert_non_null(id);
        number = strtoll(id + 5, NULL, 10);
        p->len -= (size_t)(end + 1 - p->in);
        memmove(p->in, end + 1, p->len + 1);
        return number;
}

__attribute__((format(printf, 2, 3))) static void say(const struct played *p, const char *format, ...)
{
        char line[1024];
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(line, sizeof line - 1, format, args);
        va_end(args);
        line[n++] = '\n';
        assert_int_equal(send(p->fd, line, (size_t)n, MSG_NOSIGNAL), n);
}

static void welcome(struct played *p)
{
        say(p, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":{\"server\":\"portalockd\",\"version\":\"0.1.0\",\"protocol\":1,\"session\":7}}", hear(p, "\"hello\""));
}

static void grant(const struct played *p, long long id, int lock)
{
        say(p, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":{\"lock\":%d,\"token\":%d,\"mode\":\"LOCK_EX\"}}", id, lock, lock);
}

static void hang_up(struct played *p)
{
        close(p->fd);
        p->fd = -1;
        p->len = 0;
        p->in[0] = '\0';
}

static void on_connected(void *arg, portalock_session *s, int result)
{
        (void)s;
        assert_int_equal(result, 0);
        *(bool *)arg = true;
}

static int set_up_play(void **state)
{
        struct played *p = calloc(1, sizeof *p);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        bool connected = false;

        snprintf(p->folder, sizeof p->folder, "/tmp/portalock-played-XXXXXX");
        assert_non_null(mkdtemp(p->folder));
        snprintf(p->path, sizeof p->path, "%s/file", p->folder);
        snprintf(p->second, sizeof p->second, "%s/second", p->folder);
        snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", p->folder);
        setenv("PORTALOCK_SOCKET", address.sun_path, 1);
        p->fd = -1;
        p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(p->listener, (const struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(p->listener, 4), 0);
        assert_int_equal(portalock_connect_start("played for", PORTALOCK_CONNECT_NO_SPAWN, on_connected, &connected, &p->s), 0);
        welcome(p);
        PLAY_UNTIL(p, connected);
        look(p->s, &p->seen);
        *state = p;
        return 0;
}

static int tear_down_play(void **state)
{
        struct played *p = *state;
        char command[128];

        portalock_disconnect(p->s);
        if (p->fd >= 0)
                close(p->fd);
        close(p->listener);
        snprintf(command, sizeof command, "rm -rf %s", p->folder);
        assert_int_equal(system(command), 0);
        free(p);
        return 0;
}

static portalock_file *locked_file(struct played *p, const char *path, int lock)
{
        portalock_file *file = open_file(p->s, path);
        struct result r = {0};

        assert_int_equal(portalock_lock_start(file, PORTALOCK_EX, -1, on_done, &r), 0);
        grant(p, hear(p, "\"lock\""), lock);
        PLAY_UNTIL(p, r.count == 1);
        assert_int_equal(r.result, 0);
        return file;
}

/* ---- the tests ---- */

struct closing {
        portalock_file *other;
        int count, result;
};

static void close_other(void *arg, portalock_file *f, int result)
{
        struct closing *c = arg;

        (void)f;
        c->count++;
        c->result = result;
        portalock_close(c->other);
}

/* It stops before it has answered: the one request fails, and who is told of that closes the file of the other, the claim, which fails next. */
static void a_file_may_be_closed_when_all_fail_at_once(void **state)
{
        struct played *p = *state;
        portalock_file *held = locked_file(p, p->path, 11), *wanted = open_file(p->s, p->second);
        struct closing c = {.other = held};

        assert_int_equal(portalock_lock_start(wanted, PORTALOCK_EX, 300, close_other, &c), 0);
        (void)hear(p, "\"timeout_ms\"");
        hang_up(p);
        welcome(p);
        (void)hear(p, "\"reclaim\"");
        (void)hear(p, "\"reclaim\"");
        PLAY_UNTIL(p, c.count == 1);
        assert_int_equal(c.result, PORTALOCK_E_TIMED_OUT);
        welcome(p);
        PLAY_UNTIL(p, p->seen.back == 1);
        assert_string_equal(p->in, "");         /* nothing to claim any more */
        assert_int_equal(c.count, 1);
        assert_int_equal(p->seen.lost, 0);
        portalock_close(wanted);
}

static void what_has_ended_stays_so(void **state)
{
        struct played *p = *state;
        portalock_file *held = locked_file(p, p->path, 11);
        int i;

        hang_up(p);
        welcome(p);
        (void)hear(p, "\"reclaim\"");
        say(p, "HTTP/1.1 400 Bad Request");
        PLAY_UNTIL(p, p->result != 0);
        for (i = 0; i < 3; i++) {
                assert_int_equal(p->result, PORTALOCK_E_PROTOCOL);
                assert_int_equal(portalock_lock(held, PORTALOCK_EX, -1), PORTALOCK_E_PROTOCOL);
                assert_int_equal(portalock_mode(held), PORTALOCK_EX);
                play(p);
        }
        portalock_close(held);
}

static void a_claim_that_cannot_be_served_is_made_again(void **state)
{
        struct played *p = *state;
        portalock_file *held = locked_file(p, p->path, 11);
        int i;

        for (i = 0; i < 3; i++) {
                if (i == 0)
                        hang_up(p);
                welcome(p);
                say(p, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"error\":{\"code\":8,\"message\":\"too many descriptors\",\"data\":{}}}", hear(p, "\"reclaim\""));
        }
        welcome(p);
        grant(p, hear(p, "\"reclaim\""), 11);
        PLAY_UNTIL(p, p->seen.back == 1);
        assert_int_equal(portalock_token(held), 11);
        assert_int_equal(p->seen.lost, 0);
        assert_int_equal(p->seen.gone, 1);
        portalock_close(held);
}

static int open_descriptors(void)
{
        DIR *folder = opendir("/proc/self/fd");
        int n = 0;

        while (readdir(folder) != NULL)
                n++;
        closedir(folder);
        return n;
}

static void reconnects_leak_nothing(void **state)
{
        struct played *p = *state;
        portalock_file *held = locked_file(p, p->path, 11);
        int before = open_descriptors(), i, rounds = getenv("PORTALOCK_RECONNECTS") != NULL ? atoi(getenv("PORTALOCK_RECONNECTS")) : 40;

        for (i = 1; i <= rounds; i++) {
                hang_up(p);
                welcome(p);
                grant(p, hear(p, "\"reclaim\""), 11);
                PLAY_UNTIL(p, p->seen.back == i);
        }
        assert_int_equal(open_descriptors(), before);
        assert_int_equal(p->seen.lost, 0);
        portalock_close(held);
}

/* One that takes every connection, and ends before it has said anything. */
static void a_loop_does_not_spin_while_it_looks_for_a_daemon(void **state)
{
        struct played *p = *state;
        portalock_file *wanted = open_file(p->s, p->path);
        struct result r = {0};
        int64_t began = now_ms();

        hang_up(p);
        assert_int_equal(portalock_lock_start(wanted, PORTALOCK_EX, 1500, on_done, &r), 0);
        p->turns = 0;
        while (r.count == 0) {
                play(p);
                assert_int_equal(p->result, 0);
                if (p->fd >= 0)
                        hang_up(p);
                assert_true(now_ms() - began < PATIENCE_MS);
        }
        assert_int_equal(r.result, PORTALOCK_E_TIMED_OUT);
        assert_true(now_ms() - began >= 1500);
        assert_in_range(p->turns, 10, 200);
        portalock_close(wanted);
}

static void never_connected(void *arg, portalock_session *s, int result)
{
        (void)arg;
        (void)s;
        fail_msg("connected: %d", result);
}

/* It ends before it has answered the greeting: there will be another. Until then nobody is there, and nothing can be opened. */
static void a_daemon_that_ends_before_its_first_word_is_there_no_more(void **state)
{
        struct played *p = *state;
        struct pollfd wait = {.fd = p->listener, .events = POLLIN};
        portalock_session *s;
        portalock_file *file;
        int fd;

        assert_int_equal(portalock_connect_start("early", PORTALOCK_CONNECT_NO_SPAWN, never_connected, NULL, &s), 0);
        assert_int_equal(portalock_process(s), 0);
        assert_int_equal(portalock_daemon_pid(s), getpid());
        assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
        fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(portalock_process(s), 0);
        assert_int_equal(portalock_daemon_pid(s), 0);
        assert_int_equal(portalock_open(s, p->path, &file), PORTALOCK_E_ARGUMENT);
        portalock_disconnect(s);
}

#define PLAYED(test) cmocka_unit_test_setup_teardown(test, set_up_play, tear_down_play)

int main(void)
{
        const struct CMUnitTest tests[] = {
                PLAYED(a_daemon_that_ends_before_its_first_word_is_there_no_more),
                PLAYED(a_file_may_be_closed_when_all_fail_at_once),
                PLAYED(what_has_ended_stays_so),
                PLAYED(a_claim_that_cannot_be_served_is_made_again),
                PLAYED(reconnects_leak_nothing),
                PLAYED(a_loop_does_not_spin_while_it_looks_for_a_daemon),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
