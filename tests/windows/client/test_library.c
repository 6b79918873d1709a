/* libportalock on Windows against the real daemon, which it starts by itself. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "portalock.h"
#include "process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTE_LOW 0xfffffffeu    /* where the daemon locks */
#define BYTE_HIGH 0x7fffffffu

struct fixture {
        char folder[MAX_PATH], path[MAX_PATH + 16], socket[64];
        portalock_session *a, *b;
};

static int set_up(void **state)
{
        static int count;
        struct fixture *f = calloc(1, sizeof *f);
        char temporary[MAX_PATH];

        assert_true(GetTempPathA(MAX_PATH, temporary) > 0);
        snprintf(f->socket, sizeof f->socket, "portalock-library-%lu-%d", GetCurrentProcessId(), ++count);
        snprintf(f->folder, sizeof f->folder, "%.150s%.60s", temporary, f->socket);
        snprintf(f->path, sizeof f->path, "%s\\file", f->folder);
        assert_true(CreateDirectoryA(f->folder, NULL));
        SetEnvironmentVariableA("PORTALOCK_SOCKET", f->socket);
        _putenv_s("PORTALOCK_SOCKET", f->socket);
        assert_int_equal(portalock_connect("first", 0, &f->a), 0);      /* starts the daemon */
        assert_int_equal(portalock_connect("second", 0, &f->b), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;
        portalock_session *s;
        char *json;

        portalock_disconnect(f->a);
        portalock_disconnect(f->b);
        if (portalock_connect(NULL, PORTALOCK_CONNECT_NO_SPAWN, &s) == 0 && portalock_call_wait(s, "stop", "{\"force\":true}", 10000, &json) == 0)
                free(json);
        portalock_disconnect(s);
        DeleteFileA(f->path);
        RemoveDirectoryA(f->folder);
        free(f);
        return 0;
}

static portalock_file *open_file(portalock_session *s, const char *path)
{
        portalock_file *file;

        assert_int_equal(portalock_open(s, path, &file), 0);
        return file;
}

/* Can the system's lock be had now? */
static bool is_free(const char *path)
{
        HANDLE h = CreateFileA(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
        OVERLAPPED at = {.Offset = BYTE_LOW, .OffsetHigh = BYTE_HIGH};
        BOOL got = LockFileEx(h, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at);

        CloseHandle(h);
        return got != 0;
}

/* ---- the lock ---- */

static void a_lock_is_real_and_ends_with_unlock(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        assert_true(portalock_token(file) > 0);
        assert_false(is_free(f->path));
        assert_int_equal(portalock_unlock(file), 0);
        assert_true(is_free(f->path));
        assert_int_equal(portalock_unlock(file), 0);    /* of the unlocked: no error */
        assert_int_equal(portalock_lock(file, PORTALOCK_SH, 1000), 0);
        portalock_close(file);
        assert_true(is_free(f->path));
}

/* The recipe left this unsolved: on Windows its second lock() never returns. */
static void locking_twice_does_not_block(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);
        int64_t token;

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        token = portalock_token(file);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX | PORTALOCK_NB, -1), 0);
        assert_int_equal(portalock_token(file), token);
        assert_int_equal(portalock_lock(file, PORTALOCK_SH, -1), 0);    /* down */
        assert_int_equal(portalock_mode(file), PORTALOCK_SH);
        assert_int_equal(portalock_lock(file, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);    /* and up */
        assert_int_equal(portalock_unlock(file), 0);                    /* one is enough */
        assert_true(is_free(f->path));
        portalock_close(file);
}

static void two_opens_of_one_session_exclude_each_other(void **state)
{
        struct fixture *f = *state;
        portalock_file *one = open_file(f->a, f->path), *two = open_file(f->a, f->path);

        assert_int_equal(portalock_lock(one, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock(two, PORTALOCK_EX | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);
        assert_int_equal(portalock_error(f->a)->holder_count, 1);
        assert_int_equal(portalock_error(f->a)->holders[0].pid, GetCurrentProcessId());
        assert_string_equal(portalock_error(f->a)->holders[0].client, "first");
        assert_int_equal(portalock_unlock(one), 0);
        assert_int_equal(portalock_lock(two, PORTALOCK_EX | PORTALOCK_NB, -1), 0);
        portalock_close(one);
        portalock_close(two);
}

static void a_refused_upgrade_keeps_its_share(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours = open_file(f->a, f->path), *theirs = open_file(f->b, f->path);

        assert_int_equal(portalock_lock(ours, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock(theirs, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, 50), PORTALOCK_E_TIMED_OUT);
        assert_int_equal(portalock_mode(ours), PORTALOCK_SH);
        portalock_close(theirs);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX | PORTALOCK_NB, -1), 0);
        portalock_close(ours);
}

static void what_is_about_descriptors_is_refused(void **state)
{
        struct fixture *f = *state;
        portalock_file *file;

        assert_int_equal(portalock_attach(f->a, 0, &file), PORTALOCK_E_ARGUMENT);
        assert_null(file);
        assert_non_null(strstr(portalock_error(f->a)->text, "not on Windows"));
        assert_int_equal(portalock_lock_fd(0, PORTALOCK_EX), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_unlock_fd(0), PORTALOCK_E_ARGUMENT);
        file = open_file(f->a, f->path);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX | PORTALOCK_DETACH, -1), PORTALOCK_E_ARGUMENT);
        assert_int_equal(portalock_file_fd(file), -1);
        assert_int_equal(portalock_fd(f->a), -1);
        portalock_close(file);
}

static void errors_of_files_come_when_they_are_opened(void **state)
{
        struct fixture *f = *state;
        portalock_file *file;
        char path[2 * MAX_PATH];

        snprintf(path, sizeof path, "%s\\missing\\file", f->folder);
        assert_int_equal(portalock_open(f->a, path, &file), PORTALOCK_E_OS);
        assert_string_equal(portalock_error(f->a)->syscall, "open");
        assert_int_equal(portalock_error(f->a)->os_errno, ENOENT);
        snprintf(path, sizeof path, "%s:stream", f->path);
        assert_int_equal(portalock_open(f->a, path, &file), PORTALOCK_E_OS);
        assert_int_equal(portalock_open(f->a, "NUL", &file), PORTALOCK_E_OS);
        assert_int_equal(portalock_open(f->a, "\xff\xfe", &file), PORTALOCK_E_OS);
        assert_int_equal(portalock_error(f->a)->os_errno, EILSEQ);
        assert_int_equal(GetFileAttributesA(f->path), INVALID_FILE_ATTRIBUTES); /* nothing was made */
        file = open_file(f->a, f->path);
        assert_int_not_equal(GetFileAttributesA(f->path), INVALID_FILE_ATTRIBUTES);
        portalock_close(file);
}

/* Nobody keeps the file open for the lock's sake but the daemon, and that one forbids nothing. */
static void a_locked_file_can_be_written_renamed_and_deleted(void **state)
{
        struct fixture *f = *state;
        portalock_file *file = open_file(f->a, f->path);
        char other[2 * MAX_PATH];

        assert_int_equal(portalock_lock(file, PORTALOCK_EX, -1), 0);
        snprintf(other, sizeof other, "%s.other", f->path);
        assert_true(MoveFileA(f->path, other));
        assert_true(DeleteFileA(other));
        portalock_close(file);
}

/* ---- event loops ---- */

struct outcome {
        int calls, result;
};

static void on_done(void *arg, portalock_file *file, int result)
{
        struct outcome *o = arg;

        (void)file;
        o->calls++;
        o->result = result;
}

static DWORD sooner(DWORD ms, int64_t timeout_ms)
{
        return timeout_ms >= 0 && timeout_ms < ms ? (DWORD)timeout_ms : ms;
}

/* As a loop does: both sessions in one wait, until *calls is not 0. How often a session had something to do. */
static int loop_until(struct fixture *f, const int *calls, DWORD patience_ms)
{
        HANDLE handles[2] = {portalock_handle(f->a), portalock_handle(f->b)};
        ULONGLONG now = GetTickCount64(), until = now + patience_ms;
        int turns = 0;
        DWORD r;

        for (; *calls == 0 && now < until; now = GetTickCount64()) {
                r = WaitForMultipleObjects(2, handles, FALSE, sooner(sooner((DWORD)(until - now), portalock_timeout(f->a)), portalock_timeout(f->b)));
                if (r == WAIT_OBJECT_0 || portalock_timeout(f->a) == 0)
                        (void)portalock_process(f->a);
                if (r == WAIT_OBJECT_0 + 1 || portalock_timeout(f->b) == 0)
                        (void)portalock_process(f->b);
                turns += r != WAIT_TIMEOUT;
        }
        return turns;
}

static void a_loop_waits_for_the_handle(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours = open_file(f->a, f->path), *theirs = open_file(f->b, f->path);
        struct outcome got = {0};
        int never = 0;

        assert_non_null(portalock_handle(f->a));
        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, -1, on_done, &got), 0);
        assert_true(loop_until(f, &never, 200) <= 4);           /* while nothing happens nothing is to be done */
        assert_int_equal(got.calls, 0);
        assert_int_equal(portalock_unlock(theirs), 0);
        (void)loop_until(f, &got.calls, 10000);
        assert_int_equal(got.calls, 1);
        assert_int_equal(got.result, 0);
        portalock_close(ours);
        portalock_close(theirs);
}

static void a_cancelled_request_is_answered(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours = open_file(f->a, f->path), *theirs = open_file(f->b, f->path);
        struct outcome got = {0};

        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, -1, on_done, &got), 0);
        assert_int_equal(portalock_lock_cancel(ours), 0);
        (void)loop_until(f, &got.calls, 10000);
        assert_int_equal(got.result, PORTALOCK_E_CANCELLED);
        portalock_close(ours);
        portalock_close(theirs);
}

static void count_answer(void *arg, int result, const char *json)
{
        int *n = arg;

        assert_int_equal(result, 0);
        assert_non_null(json);
        ++*n;
}

/* More than the pipe's buffers hold in both directions: writes that are not done at once, answers longer than one read. */
static void thousands_of_requests_at_once_are_all_answered(void **state)
{
        enum { COUNT = 5000 };
        struct fixture *f = *state;
        int answered = 0, i;

        for (i = 0; i < COUNT; i++)
                assert_int_equal(portalock_call(f->a, "stats", NULL, count_answer, &answered), 0);
        while (answered < COUNT) {
                assert_int_equal(WaitForSingleObject(portalock_handle(f->a), 20000), WAIT_OBJECT_0);
                assert_int_equal(portalock_process(f->a), 0);
        }
}

static void count_row(void *arg, const struct portalock_row *r)
{
        (void)r;
        ++*(int *)arg;
}

static void a_long_list_arrives(void **state)
{
        enum { COUNT = 600 };      /* twice what one read brings */
        struct fixture *f = *state;
        portalock_file *files[COUNT];
        int rows = 0, i;

        for (i = 0; i < COUNT; i++) {
                files[i] = open_file(f->a, f->path);
                assert_int_equal(portalock_lock(files[i], PORTALOCK_SH, -1), 0);
        }
        assert_int_equal(portalock_list(f->b, NULL, 0, count_row, &rows), 0);
        assert_int_equal(rows, COUNT);
        for (i = 0; i < COUNT; i++)
                portalock_close(files[i]);
}

/* A session may go from thread to thread; what one thread has begun to read ends with that thread. */
static DWORD WINAPI connect_in_thread(void *arg)
{
        return portalock_connect("thread", 0, arg) == 0 ? 0 : 1;
}

static void a_session_outlives_the_thread_that_made_it(void **state)
{
        struct fixture *f = *state;
        portalock_session *s = NULL;
        portalock_file *file;
        DWORD code = 1;
        HANDLE thread;

        _putenv_s("PORTALOCK_RECONNECT_MS", "0");       /* a new connection would hide it */
        thread = CreateThread(NULL, 0, connect_in_thread, &s, 0, NULL);
        assert_int_equal(WaitForSingleObject(thread, 20000), WAIT_OBJECT_0);
        assert_true(GetExitCodeThread(thread, &code));
        assert_int_equal(code, 0);
        CloseHandle(thread);
        _putenv_s("PORTALOCK_RECONNECT_MS", "");
        file = open_file(s, f->path);
        assert_int_equal(portalock_lock(file, PORTALOCK_EX, 5000), 0);
        portalock_close(file);
        portalock_disconnect(s);
}

struct flood {
        portalock_session *session;
        int wanted, answered;
};

/* Nobody reads the answers, so the daemon soon reads no more requests, and the last write is under way when the thread ends. */
static DWORD WINAPI flood_in_thread(void *arg)
{
        struct flood *f = arg;
        int i;

        if (portalock_connect("flood", 0, &f->session) != 0)
                return 1;
        for (i = 0; i < f->wanted; i++)
                if (portalock_call(f->session, "stats", NULL, count_answer, &f->answered) != 0)
                        return 2;
        return 0;
}

static void what_a_thread_has_begun_to_send_does_not_end_with_it(void **state)
{
        struct flood f = {.wanted = 5000};
        DWORD code = 3;
        HANDLE thread;

        (void)state;
        _putenv_s("PORTALOCK_RECONNECT_MS", "0");
        thread = CreateThread(NULL, 0, flood_in_thread, &f, 0, NULL);
        assert_int_equal(WaitForSingleObject(thread, 20000), WAIT_OBJECT_0);
        assert_true(GetExitCodeThread(thread, &code));
        assert_int_equal(code, 0);
        CloseHandle(thread);
        _putenv_s("PORTALOCK_RECONNECT_MS", "");
        assert_true(f.answered < f.wanted);
        while (f.answered < f.wanted) {
                assert_int_equal(WaitForSingleObject(portalock_handle(f.session), 20000), WAIT_OBJECT_0);
                assert_int_equal(portalock_process(f.session), 0);
        }
        portalock_disconnect(f.session);
}

/* ---- processes that end ---- */

static void a_killed_holder_lets_the_next_one_in(void **state)
{
        struct fixture *f = *state;
        struct process holder = process_start("hold", f->path), waiter;
        portalock_file *ours = open_file(f->a, f->path);
        struct outcome got = {0};
        char line[64];

        process_line(&holder, line, sizeof line);
        assert_string_equal(line, "locked");
        assert_int_equal(portalock_lock_start(ours, PORTALOCK_EX, -1, on_done, &got), 0);
        waiter = process_start("hold", f->path);
        process_kill(&holder);
        (void)loop_until(f, &got.calls, 10000);
        assert_int_equal(got.result, 0);
        assert_int_equal(portalock_unlock(ours), 0);
        process_line(&waiter, line, sizeof line);
        assert_string_equal(line, "locked");
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX | PORTALOCK_NB, -1), PORTALOCK_E_LOCK_FAILED);
        assert_int_equal(process_end(&waiter), 0);
        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, 5000), 0);
        portalock_close(ours);
}

static void a_killed_waiter_is_forgotten(void **state)
{
        struct fixture *f = *state;
        portalock_file *ours = open_file(f->a, f->path), *theirs = open_file(f->b, f->path);
        struct process waiter;
        int rows = 0;

        assert_int_equal(portalock_lock(ours, PORTALOCK_EX, -1), 0);
        waiter = process_start("hold", f->path);
        while (rows != 2) {
                rows = 0;
                assert_int_equal(portalock_list(f->b, NULL, 0, count_row, &rows), 0);
        }
        process_kill(&waiter);
        assert_int_equal(portalock_unlock(ours), 0);
        assert_int_equal(portalock_lock(theirs, PORTALOCK_EX, 5000), 0);
        portalock_close(ours);
        portalock_close(theirs);
}

struct loss {
        int calls;
        portalock_file *file;
        char by[64];
};

static void on_lost(void *arg, portalock_file *file, const char *by)
{
        struct loss *l = arg;

        l->calls++;
        l->file = file;
        snprintf(l->by, sizeof l->by, "%s", by);
}

static void a_killed_daemon_takes_the_locks_along_and_says_so_at_once(void **state)
{
        struct fixture *f = *state;
        struct portalock_callbacks callbacks = {.lost = on_lost};
        portalock_file *held = open_file(f->a, f->path), *upgrading = open_file(f->b, f->path), *shared = open_file(f->a, f->path);
        struct outcome upgrade = {0};
        struct loss loss = {0};

        portalock_set_callbacks(f->a, &callbacks, &loss);
        assert_int_equal(portalock_lock(held, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock(shared, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock(upgrading, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock_start(upgrading, PORTALOCK_EX, -1, on_done, &upgrade), 0);
        kill_pid(portalock_daemon_pid(f->a));
        assert_int_equal(WaitForSingleObject(portalock_handle(f->a), 1000), WAIT_OBJECT_0);
        (void)portalock_process(f->a);
        assert_int_equal(loss.calls, 2);                        /* both files */
        assert_string_equal(loss.by, "the end of the connection");
        assert_int_equal(portalock_mode(held), 0);
        assert_int_equal(portalock_mode(shared), 0);
        assert_int_equal(portalock_token(held), 0);
        assert_true(is_free(f->path));
        (void)loop_until(f, &upgrade.calls, 1000);
        assert_int_equal(upgrade.result, PORTALOCK_E_LOST);     /* what was held, it too */
        portalock_close(held);
        portalock_close(shared);
        portalock_close(upgrading);
}

static void what_waited_when_the_daemon_was_killed_asks_the_next_one(void **state)
{
        struct fixture *f = *state;
        portalock_file *held = open_file(f->a, f->path), *waiting = open_file(f->b, f->path);
        int64_t killed = portalock_daemon_pid(f->a);
        struct outcome got = {0};

        assert_int_equal(portalock_lock(held, PORTALOCK_EX, -1), 0);
        assert_int_equal(portalock_lock_start(waiting, PORTALOCK_EX, -1, on_done, &got), 0);
        kill_pid(killed);
        (void)loop_until(f, &got.calls, 20000);
        assert_int_equal(got.calls, 1);
        assert_int_equal(got.result, 0);
        assert_true(portalock_daemon_pid(f->b) != killed);
        assert_false(is_free(f->path));
        assert_int_equal(portalock_mode(held), 0);              /* and is not locked again by itself */
        portalock_close(waiting);
        assert_int_equal(portalock_lock(held, PORTALOCK_EX, 10000), 0);
        portalock_close(held);
}

static void without_reconnecting_all_ends_with_the_daemon(void **state)
{
        struct portalock_callbacks callbacks = {.lost = on_lost};
        struct outcome upgrade = {0}, waited = {0};
        struct fixture *f = *state;
        portalock_file *held, *shared, *waiting;
        struct loss loss = {0};

        portalock_disconnect(f->a);
        _putenv_s("PORTALOCK_RECONNECT_MS", "0");
        assert_int_equal(portalock_connect("first", 0, &f->a), 0);
        _putenv_s("PORTALOCK_RECONNECT_MS", "");
        portalock_set_callbacks(f->a, &callbacks, &loss);
        held = open_file(f->a, f->path);
        shared = open_file(f->b, f->path);
        waiting = open_file(f->a, f->path);
        assert_int_equal(portalock_lock(held, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock(shared, PORTALOCK_SH, -1), 0);
        assert_int_equal(portalock_lock_start(held, PORTALOCK_EX, -1, on_done, &upgrade), 0);
        assert_int_equal(portalock_lock_start(waiting, PORTALOCK_EX, -1, on_done, &waited), 0);
        kill_pid(portalock_daemon_pid(f->a));
        assert_int_equal(WaitForSingleObject(portalock_handle(f->a), 1000), WAIT_OBJECT_0);
        assert_int_equal(portalock_process(f->a), PORTALOCK_E_CONNECTION);
        assert_int_equal(loss.calls, 1);
        assert_ptr_equal(loss.file, held);
        assert_int_equal(upgrade.result, PORTALOCK_E_LOST);
        assert_int_equal(waited.result, PORTALOCK_E_CONNECTION);
        assert_int_equal(portalock_lock(held, PORTALOCK_EX, 10), PORTALOCK_E_CONNECTION);
        portalock_close(held);
        portalock_close(shared);
        portalock_close(waiting);
}

static void a_daemon_that_does_not_start_is_quoted(void **state)
{
        portalock_session *s;

        (void)state;
        SetEnvironmentVariableA("PORTALOCK_SOCKET", "portalock-library-nobody");
        _putenv_s("PORTALOCK_SOCKET", "portalock-library-nobody");
        _putenv_s("PORTALOCKD", "C:\\windows\\system32\\nosuchthing.exe");
        assert_int_equal(portalock_connect(NULL, 0, &s), PORTALOCK_E_NO_DAEMON);
        assert_non_null(strstr(portalock_error(s)->text, "the daemon did not start"));
        portalock_disconnect(s);
}

/* ---- the other processes ---- */

static int role_hold(const char *path)
{
        portalock_session *s;
        portalock_file *file;

        if (portalock_connect("hold", 0, &s) != 0 || portalock_open(s, path, &file) != 0 || portalock_lock(file, PORTALOCK_EX, -1) != 0) {
                role_say(portalock_error(s)->text);
                return 1;
        }
        role_say("locked");
        role_wait();
        portalock_close(file);
        portalock_disconnect(s);
        return 0;
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_lock_is_real_and_ends_with_unlock, set_up, tear_down),
                cmocka_unit_test_setup_teardown(locking_twice_does_not_block, set_up, tear_down),
                cmocka_unit_test_setup_teardown(two_opens_of_one_session_exclude_each_other, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_refused_upgrade_keeps_its_share, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_about_descriptors_is_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(errors_of_files_come_when_they_are_opened, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_locked_file_can_be_written_renamed_and_deleted, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_loop_waits_for_the_handle, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_cancelled_request_is_answered, set_up, tear_down),
                cmocka_unit_test_setup_teardown(thousands_of_requests_at_once_are_all_answered, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_long_list_arrives, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_session_outlives_the_thread_that_made_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_a_thread_has_begun_to_send_does_not_end_with_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_killed_holder_lets_the_next_one_in, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_killed_waiter_is_forgotten, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_killed_daemon_takes_the_locks_along_and_says_so_at_once, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_waited_when_the_daemon_was_killed_asks_the_next_one, set_up, tear_down),
                cmocka_unit_test_setup_teardown(without_reconnecting_all_ends_with_the_daemon, set_up, tear_down),
                cmocka_unit_test(a_daemon_that_does_not_start_is_quoted),
        };

        if (argc == 3 && strcmp(argv[1], "hold") == 0)
                return role_hold(argv[2]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
