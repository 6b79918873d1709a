/*
 * A command under a lock. Everything is an event: the daemon's answers, signals, the end of the command. Without a daemon the kernel's lock is taken
 * directly: nobody is let in twice, but nobody is served in order or seen either.
 */
#include "run.h"

#include "lockctl.h"
#include "os.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_GRACE_MS 1000   /* beyond -w, as the library waits for an answer */
#define KILL_AFTER_MS 5000      /* a command whose lock was broken has so long to end */

struct run {
        const struct run_options *o;
        portalock_session *session;
        portalock_file *file;
        int fd;                 /* what bears the lock; -1: nothing */
        bool asked;             /* for the lock: before that it connects */
        bool over;              /* what is waited for */
        int result;
        int signal;             /* that came while it waited */
        struct waiting waiting;
        int64_t child, kill_at_ms;
        int64_t connect_until_ms;       /* -1: the library's own limit is enough */
        bool lost, disconnected;
};

static const char *name_of(const struct run_options *o)
{
        static char number[32];

        if (o->path != NULL)
                return o->path;
        snprintf(number, sizeof number, "descriptor %d", o->fd);
        return number;
}

/* ---- the lock, from the daemon ---- */

static void on_connected(void *arg, portalock_session *s, int result)
{
        struct run *r = arg;

        (void)s;
        r->over = true;
        r->result = result;
}

static void on_locked(void *arg, portalock_file *f, int result)
{
        struct run *r = arg;

        (void)f;
        r->over = true;
        r->result = result;
}

static void on_waiting(void *arg, portalock_file *f, int64_t position, const struct portalock_holder *holders, int count)
{
        struct run *r = arg;

        (void)f;
        waiting_update(&r->waiting, position, holders, count);
}

static void on_lost(void *arg, portalock_file *f, const char *by)
{
        struct run *r = arg;

        (void)f;
        r->lost = true;
        if (r->child == 0)
                return;         /* the request itself tells */
        complain("%s: the lock was taken away (%s)%s", name_of(r->o), by, r->o->warn_when_lost ? "" : "; ending the command");
        if (r->o->warn_when_lost)
                return;
        os_end_command(r->child, false);
        r->kill_at_ms = os_now_ms() + KILL_AFTER_MS;
}

static void on_connection(void *arg, bool connected)
{
        struct run *r = arg;

        r->disconnected = !connected;
        if (r->o->verbose && !r->o->is_flock)
                complain(connected ? "%s: a daemon is there again" : "%s: the daemon is gone; looking for another, or starting one", name_of(r->o));
}

static int64_t sooner(int64_t a, int64_t b)
{
        return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* A daemon that is stopped takes connections, and says nothing. */
static int64_t left_to_connect(const struct run *r)
{
        int64_t left = r->connect_until_ms - os_now_ms();

        return r->connect_until_ms < 0 || r->asked ? -1 : left > 0 ? left : 0;
}

/* Until r->over. The first signal takes the request back; one more ends us at once. */
static void wait_over(struct run *r)
{
        struct os_event e;

        for (;;) {
                (void)portalock_process(r->session);
                if (left_to_connect(r) == 0 && !r->over) {
                        r->over = true;
                        r->result = PORTALOCK_E_CONNECTION;
                }
                if (r->over)
                        return;
                os_next_event(&e, r->session, sooner(sooner(portalock_timeout(r->session), waiting_show(&r->waiting)), left_to_connect(r)), 0);
                if (e.kind != OS_SIGNAL)
                        continue;
                waiting_end(&r->waiting);
                if (r->signal != 0 || !r->asked)
                        os_die_by(e.number);
                r->signal = e.number;
                (void)portalock_lock_cancel(r->file);
        }
}

/* Once. */
static int open_or_attach(struct run *r)
{
        if (r->file != NULL)
                return 0;
        return r->o->path != NULL ? portalock_open(r->session, r->o->path, &r->file) : portalock_attach(r->session, r->o->fd, &r->file);
}

static int lock_by_daemon(struct run *r)
{
        struct portalock_callbacks callbacks = {.lost = on_lost, .connection = on_connection};
        const struct run_options *o = r->o;
        /* A descriptor's lock stays with it, when we have long ended. */
        int flags = o->flags | (o->path == NULL && o->command == NULL ? PORTALOCK_DETACH : 0), e;

        e = portalock_connect_start(o->command != NULL ? os_base_name(o->command[0]) : NULL, 0, on_connected, r, &r->session);
        if (e != 0)
                return e;
        r->connect_until_ms = o->timeout_ms > 0 ? os_now_ms() + o->timeout_ms + CONNECT_GRACE_MS : -1;
        /* While the daemon thinks about our greeting. Not before there is a connection: what is opened last is closed first when we are killed (docs/design.md). */
        (void)portalock_process(r->session);
        if (portalock_daemon_pid(r->session) > 0 && (e = open_or_attach(r)) != 0)
                return e;
        wait_over(r);
        if (r->result != 0)
                return r->result;
        if (waiting_begin(&r->waiting, name_of(o), o->verbose, o->is_flock))
                callbacks.waiting = on_waiting; /* else it costs the daemon and us, for nobody */
        portalock_set_callbacks(r->session, &callbacks, r);
        e = open_or_attach(r);
        if (e != 0)
                return e;
        r->over = false;
        r->asked = true;
        e = portalock_lock_start(r->file, flags, o->timeout_ms, on_locked, r);
        if (e != 0)
                return e;
        wait_over(r);
        waiting_end(&r->waiting);
        r->fd = portalock_file_fd(r->file);
        return r->result;
}

static void leave(struct run *r)
{
        portalock_close(r->file);
        portalock_disconnect(r->session);
        r->file = NULL;
        r->session = NULL;
}

/* The daemon is gone (or never was): may the kernel do without it? */
static bool is_absence(int e)
{
        return e == PORTALOCK_E_NO_DAEMON || e == PORTALOCK_E_CONNECTION || e == PORTALOCK_E_SHUTTING_DOWN;
}

static const char silent[] = "the daemon does not answer";

/* ---- refusals ---- */

static int conflict(const struct run *r, bool timed_out)
{
        if (r->o->is_flock && r->o->verbose)
                complain(timed_out ? "timeout while waiting to get lock" : "failed to get lock");
        else if (!r->o->is_flock && r->session != NULL && !r->disconnected)
                (void)report_failure(r->session, name_of(r->o));
        else if (!r->o->is_flock)
                complain(timed_out ? "%s: the time ran out, still held by somebody else" : "%s: held by somebody else; without -n, or with a longer -w, it waits",
                         name_of(r->o));
        return r->o->conflict_code;
}

static int system_failure(const struct run *r, bool no_file, int error)
{
        if (r->o->is_flock && no_file)
                complain("cannot open lock file %s: %s", r->o->path, os_error_text(error));
        else if (r->o->is_flock && r->o->path == NULL)
                complain("%d: %s", r->o->fd, os_error_text(error));
        else
                complain("%s: %s", name_of(r->o), os_error_text(error));
        return code_of_errno(error, no_file ? "open" : "flock");
}

static int refused(const struct run *r, int e)
{
        const struct portalock_error_info *info = portalock_error(r->session);

        if (e == PORTALOCK_E_LOCK_FAILED || e == PORTALOCK_E_TIMED_OUT)
                return conflict(r, e == PORTALOCK_E_TIMED_OUT);
        if (e == PORTALOCK_E_OS)
                return system_failure(r, os_is_open_call(info->syscall), info->os_errno);
        if (e == PORTALOCK_E_CONNECTION && info->code == 0) {
                complain("%s: %s", name_of(r->o), silent);
                return EXIT_PEER;
        }
        return report_failure(r->session, name_of(r->o));
}

/* ---- without it ---- */

/* -1: locked, else the exit code. */
static int lock_directly(struct run *r, int64_t began_ms, const char *why)
{
        const struct run_options *o = r->o;
        int64_t timeout_ms = o->timeout_ms, past = os_now_ms() - began_ms;
        enum os_direct d;
        int error = 0;

        if (o->verbose || (!o->is_flock && os_is_terminal(2)))
                complain("%s; locking with %s directly, unfair and unseen", why, os_lock_call);
        if (timeout_ms > 0)
                timeout_ms = timeout_ms > past ? timeout_ms - past : 0;
        r->fd = o->fd;
        d = os_lock_direct(o->path, o->flags, timeout_ms, &r->fd, &error);
        switch (d) {
        case OS_DIRECT_OK:
                return -1;
        case OS_DIRECT_BUSY:
        case OS_DIRECT_TIMED_OUT:
                return conflict(r, d == OS_DIRECT_TIMED_OUT || (o->timeout_ms > 0 && (o->flags & PORTALOCK_NB) == 0));
        case OS_DIRECT_NO_FILE:
        case OS_DIRECT_FAILED:
                break;
        }
        return system_failure(r, d == OS_DIRECT_NO_FILE, error);
}

/* ---- the command ---- */

static void tell_command(const struct run *r)
{
        char number[32], *path = NULL;

        if (r->session == NULL)
                return;
        snprintf(number, sizeof number, "%" PRId64, portalock_session_id(r->session));
        os_set_variable("PORTALOCK_SESSION", number);
        snprintf(number, sizeof number, "%" PRId64, portalock_token(r->file));
        os_set_variable("PORTALOCK_TOKEN", number);
        if (r->o->path != NULL && (path = os_absolute(r->o->path)) != NULL)
                os_set_variable("PORTALOCK_FILE", path);
        free(path);
}

static int not_run(const struct run *r, int error)
{
        if (r->o->is_flock)
                complain("failed to execute %s: %s", r->o->command[0], strerror(error));
        else
                complain("cannot run '%s': %s", r->o->command[0], strerror(error));
        return error == ENOMEM || error == EAGAIN ? EXIT_SYSTEM : EXIT_UNAVAILABLE;
}

/* A key on the terminal has reached the command by itself: it is in our process group. */
static void on_event(struct run *r, const struct os_event *e)
{
        if (e->kind == OS_SIGNAL && !e->from_terminal)
                os_kill(r->child, e->number);
        if (r->kill_at_ms > 0 && os_now_ms() >= r->kill_at_ms) {
                os_end_command(r->child, true);
                r->kill_at_ms = 0;
        }
}

/* For a long time there has been no daemon. Our descriptor bears the lock all the same. */
static bool goes_on_listening(struct run *r)
{
        if (portalock_process(r->session) == 0)
                return true;
        if (!r->lost && !r->o->is_flock)
                complain("%s: %s", name_of(r->o), portalock_error(r->session)->text);
        return false;
}

static int run_command(struct run *r)
{
        struct os_event e = {.kind = OS_TIME};
        bool listens = r->session != NULL;
        int64_t timeout;

        if (r->o->close_in_command)
                os_set_inherited(r->fd, false);
        r->child = os_spawn(r->o->command, r->o->close_in_command ? -1 : r->fd);
        if (r->child < 0)
                return not_run(r, (int)-r->child);
        for (;;) {
                /* A daemon that dies takes nothing with it where our descriptor bears the lock; elsewhere on_lost() has been called. */
                listens = listens && goes_on_listening(r);
                timeout = listens ? portalock_timeout(r->session) : -1;
                if (r->kill_at_ms > 0)
                        timeout = sooner(timeout, r->kill_at_ms > os_now_ms() ? r->kill_at_ms - os_now_ms() : 0);
                os_next_event(&e, listens ? r->session : NULL, timeout, r->child);
                if (e.kind == OS_CHILD_ENDED)
                        break;
                on_event(r, &e);
        }
        r->child = 0;           /* its pid may be somebody else's from now on */
        return r->lost && !r->o->warn_when_lost ? EXIT_LOST : e.number;
}

/* ---- --remove ---- */

/* Others may share the lock: only who is the last of them can have it alone. The daemon is asked, since a share that is lost on the way is told there. */
static bool has_alone(struct run *r)
{
        if (portalock_mode(r->file) == PORTALOCK_EX)
                return true;
        r->over = false;
        if (portalock_lock_start(r->file, PORTALOCK_EX | PORTALOCK_NB, 0, on_locked, r) != 0)
                return false;
        wait_over(r);
        return r->result == 0;
}

/* While the lock is held; when this has failed the file stays, which harms nobody. */
static void remove_file(struct run *r)
{
        bool alive = r->session != NULL && portalock_process(r->session) == 0, shared = (r->o->flags & PORTALOCK_SH) != 0;
        const char *why = NULL;

        if (r->lost || (alive && !has_alone(r)) || r->lost)
                return;
        if (os_remove_locked(r->o->path, r->fd, shared && !alive, &why) == OS_REMOVAL_FAILED)
                complain("%s: not removed: %s", r->o->path, why);
}

/* -F: the command takes our place, and inherits the connection: it stays in the list. */
static int become_command(const struct run *r)
{
        int keep[2] = {r->fd, r->session != NULL ? portalock_fd(r->session) : -1};

        return not_run(r, -os_exec(r->o->command, keep, 2));
}

static int act(struct run *r, int64_t began_us)
{
        int64_t took = os_now_us() - began_us;
        int code;

        if (r->o->verbose && r->o->is_flock)
                printf("flock: getting lock took %" PRId64 ".%06" PRId64 " seconds\n", took / 1000000, took % 1000000);
        else if (r->o->verbose && r->session != NULL && portalock_token(r->file) > 0)
                complain("%s: locked after %" PRId64 " ms, token %" PRId64, name_of(r->o), took / 1000, portalock_token(r->file));
        if (r->o->command == NULL)
                return 0;
        if (r->o->verbose && r->o->is_flock)
                printf("flock: executing %s\n", r->o->command[0]);
        flush_output();
        tell_command(r);
        code = r->o->no_fork ? become_command(r) : run_command(r);
        if (r->o->remove)
                remove_file(r);
        if (r->o->path == NULL || r->session != NULL)
                return code;
        os_close_file(r->fd);
        return code;
}

static int unlock_and_run(struct run *r, int64_t began_us)
{
        const struct run_options *o = r->o;
        int error = 0;

        r->fd = o->fd;
        if (o->path != NULL && (error = os_open_file(o->path, &r->fd)) != 0)
                return system_failure(r, true, error);
        error = os_unlock(r->fd);
        if (error != 0)
                return system_failure(r, false, error);
        return act(r, began_us);
}

int run_all(const struct run_options *o)
{
        struct run r = {.o = o, .fd = -1};
        int64_t began_us = os_now_us();
        int e, code = -1;

        os_catch_signals();
        /* One that was not open when we began may be by now: the daemon's socket, what guards stdio. */
        if (o->path == NULL && !os_is_inherited(o->fd))
                return system_failure(&r, false, EBADF);
        if (o->unlock)
                return unlock_and_run(&r, began_us);
        e = lock_by_daemon(&r);
        if (r.signal != 0) {
                leave(&r);
                os_die_by(r.signal);
        }
        if (e != 0 && (!is_absence(e) || o->require_daemon)) {
                code = refused(&r, e);
        } else if (e != 0) {
                char why[512];

                snprintf(why, sizeof why, "%s", portalock_error(r.session)->code != 0 ? portalock_error(r.session)->text : silent);
                leave(&r);
                code = lock_directly(&r, began_us / 1000, why);
        }
        if (code < 0)
                code = act(&r, began_us);
        leave(&r);
        return code;
}

int cmd_run(int argc, char **argv)
{
        struct run_options o;
        int code = run_parse(argc, argv, false, &o);

        return code >= 0 ? code : run_all(&o);
}

int flock_main(int argc, char **argv)
{
        struct run_options o;
        int code = run_parse(argc, argv, true, &o);

        return code >= 0 ? code : run_all(&o);
}
