#include <uv.h>

#include "daemon.h"

#include "address.h"
#include "json.h"
#include "process.h"
#include "wire.h"
#include "server.h"
#include "state.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_THREADS_MAX 256
#define WAIT_AWAY_THREADS_MAX 64
#define LANE_THREADS_MAX 32     /* for files that may hang */
#define DISK_THREADS_MAX 4      /* for ways that only a disk stands before */
#define STATE_THREADS_MAX 1     /* for the file of the tokens */
#define SETTLE_STEP_MS 1        /* while stopping: how often to look whether the kernel's waits have ended */
#define SETTLE_MAX_MS 2000

struct daemon {
        uv_loop_t loop;
        const struct daemon_options *options;
        struct pl_address address;
        struct descriptors descriptors;
        struct accounts accounts;
        struct mounts *mounts;
        struct files_lanes lanes;
        struct lane *state_lane;
        struct state *state;
        struct files *files;
        struct outside *outside;
        struct engine *engine;
        struct dispatch *dispatch;
        struct server *server;
        uv_signal_t terminate, interrupt;
        uv_timer_t idle, wake, settle;
        int start_lock, listen_fd;
        int64_t settle_until;
        bool stopping;
};

static void close_handles(struct daemon *d)
{
        uv_close((uv_handle_t *)&d->terminate, NULL);
        uv_close((uv_handle_t *)&d->interrupt, NULL);
        uv_close((uv_handle_t *)&d->idle, NULL);
        uv_close((uv_handle_t *)&d->wake, NULL);
        uv_close((uv_handle_t *)&d->settle, NULL);
}

/* Everything goes, and with it the loop's last handle. Duplicates are closed, never unlocked: clients keep what their descriptors bear. */
static void finish(struct daemon *d)
{
        process_ends();
        server_destroy(d->server);
        engine_destroy(d->engine);
        state_destroy(d->state);
        outside_destroy(d->outside);
        files_destroy(d->files);
        lane_destroy(d->lanes.slow);
        lane_destroy(d->lanes.disk);
        lane_destroy(d->state_lane);
        mounts_destroy(d->mounts);
        close_handles(d);
}

static void on_settle(uv_timer_t *timer)
{
        struct daemon *d = timer->data;
        struct table_counts n;

        table_count(engine_table(d->engine), &n);
        /* A wait that wins the lock while it is cancelled must give it back, or its client would hold a lock unknowingly. */
        if (n.os_ops == 0)
                state_finish(d->state);
        if ((n.os_ops > 0 || state_is_busy(d->state)) && (int64_t)uv_now(&d->loop) < d->settle_until)
                return;
        uv_timer_stop(timer);
        finish(d);
}

static void stop(struct daemon *d, const char *by)
{
        if (d->stopping)
                return;
        d->stopping = true;
        log_event(LOG_INFO, "stopping", "by=%s", by);
        pl_address_unbind(&d->address); /* before the last answer: who is refused shall find no socket */
        server_stop_listening(d->server);
        dispatch_stop(d->dispatch, by);
        d->settle_until = (int64_t)uv_now(&d->loop) + SETTLE_MAX_MS;
        uv_timer_start(&d->settle, on_settle, 0, SETTLE_STEP_MS);
}

static void on_signal(uv_signal_t *handle, int signum)
{
        stop(handle->data, signum == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void on_stop_asked(void *arg)
{
        stop(arg, "stop");
}

static void on_wake(uv_timer_t *timer)
{
        dispatch_tick(((struct daemon *)timer->data)->dispatch);
}

static void wake_at(void *arg, int64_t ms)
{
        struct daemon *d = arg;
        int64_t now = (int64_t)uv_now(&d->loop);

        uv_timer_start(&d->wake, on_wake, ms > now ? (uint64_t)(ms - now) : 0, 0);
}

static void on_idle_over(uv_timer_t *timer)
{
        stop(timer->data, "idle");
}

static void on_idle(void *arg, bool idle)
{
        struct daemon *d = arg;

        if (!idle || d->options->idle_exit_s < 0)
                uv_timer_stop(&d->idle);
        else
                uv_timer_start(&d->idle, on_idle_over, (uint64_t)d->options->idle_exit_s * 1000, 0);
}

static void init_handles(struct daemon *d)
{
        uv_signal_init(&d->loop, &d->terminate);
        uv_signal_init(&d->loop, &d->interrupt);
        uv_timer_init(&d->loop, &d->idle);
        uv_timer_init(&d->loop, &d->wake);
        uv_timer_init(&d->loop, &d->settle);
        d->terminate.data = d->interrupt.data = d->idle.data = d->wake.data = d->settle.data = d;
        uv_signal_start(&d->terminate, on_signal, SIGTERM);
        uv_signal_start(&d->interrupt, on_signal, SIGINT);
}

/* The socket is ours, or this daemon must not run. */
static int take_address(struct daemon *d)
{
        bool system = d->options->system;
        int r = system ? pl_address_find_system(&d->address, d->options->socket) : pl_address_find(&d->address, d->options->socket);

        if (r == 0)
                r = system ? pl_address_check_system(&d->address) : pl_address_check(&d->address, true);
        if (r != 0) {
                fprintf(stderr, "portalockd: %s\n", d->address.text);
                return DAEMON_EXIT_FAILED;
        }
        if (d->address.system && !system) {
                fprintf(stderr, "portalockd: %s is the place of a daemon for all users: use --system, or name another --socket\n", d->address.path);
                return DAEMON_EXIT_FAILED;
        }
        d->start_lock = pl_address_start_lock(&d->address);
        if (d->start_lock == -EWOULDBLOCK) {
                fprintf(stderr, "portalockd: another daemon already serves %s\n", d->address.path);
                return DAEMON_EXIT_RUNNING;
        }
        if (d->start_lock >= 0)
                d->listen_fd = pl_address_bind(&d->address, system);
        if (d->start_lock < 0 || d->listen_fd < 0) {
                int error = d->start_lock < 0 ? -d->start_lock : -d->listen_fd;

                fprintf(stderr, "portalockd: %s: %s\n", d->address.path, error == EADDRINUSE ? "another program has this name already" : pl_errno_text(error));
                return DAEMON_EXIT_FAILED;
        }
        return 0;
}

static void hold_replies(void *arg, bool on)
{
        server_hold(((struct daemon *)arg)->server, on);
}

static void raise_numbers(void *arg, uint64_t floor)
{
        engine_raise_numbers(((struct daemon *)arg)->engine, floor);
}

/* The numbers of those who came before are known before the first of ours is drawn. Runs the loop. */
static bool recall(struct daemon *d)
{
        struct state_options options = {.folder = d->options->state_dir, .system = d->address.system, .hold = hold_replies, .raise = raise_numbers, .arg = d};
        char *socket = pl_address_canonical(&d->address);

        options.socket = socket != NULL ? socket : d->address.path;
        d->state_lane = lane_create(&d->loop, STATE_THREADS_MAX);
        if (d->state_lane != NULL)
                d->state = state_create(&d->loop, d->state_lane, &options, engine_clock_us());
        free(socket);
        return d->state != NULL;
}

static bool build(struct daemon *d)
{
        struct accounts *accounts = d->options->system ? &d->accounts : NULL;
        struct dispatch_options options = {.own_uid = peer_own_uid(),
                                           .log_waits_ms = d->options->log_waits_ms,
                                           .sessions_max = (size_t)d->options->sessions_max,
                                           .accounts = accounts,
                                           .descriptors = transport_passes_descriptors};
        struct dispatch_hooks hooks = {
                .send = session_send, .fail = session_fail, .take_share = session_take_share, .again = session_again, .resume = session_resume,
                .clogged = session_clogged, .stop = on_stop_asked, .wake_at = wake_at, .arg = d};
        struct kernel_threads threads = {.local = WAIT_THREADS_MAX, .away = WAIT_AWAY_THREADS_MAX};
        struct server_options server = {.own_uid = options.own_uid, .accounts = accounts, .idle = on_idle, .arg = d};

        d->mounts = mounts_create(&d->loop);
        d->lanes.slow = lane_create(&d->loop, LANE_THREADS_MAX);
        d->lanes.disk = lane_create(&d->loop, DISK_THREADS_MAX);
        if (d->mounts == NULL || d->lanes.slow == NULL || d->lanes.disk == NULL)
                return false;
        descriptors_init(&d->descriptors, file_limit_raise());
        accounts_init(&d->accounts, descriptors_for_locks(&d->descriptors));
        d->files = files_create(&d->loop, &d->descriptors, d->mounts, &d->lanes, (uint64_t)d->options->keep_open_ms);
        if (file_comparing() == FILE_NOTHING)
                log_event(LOG_WARNING, "descriptions_unknown", "missing=kcmp,F_DUPFD_QUERY effect=%s",
                          log_quote("a description that two sessions pass counts as two owners; when one unlocks, both have unlocked"));
        d->dispatch = d->files != NULL ? dispatch_create(d->files, &options, &hooks) : NULL;
        if (d->dispatch == NULL)
                return false;
        d->outside = outside_create(&d->loop, &dispatch_outside_hooks, d->dispatch);
        if (d->outside == NULL)
                return false;
        d->engine = engine_create(&d->loop, d->files, d->lanes.slow, threads, d->state, dispatch_report, d->dispatch);
        if (d->engine == NULL)
                return false;
        dispatch_attach(d->dispatch, d->engine, d->outside);
        d->server = server_create(&d->loop, d->listen_fd, d->dispatch, &d->descriptors, &server);
        return d->server != NULL;
}

static void say_ready(int fd)
{
        if (fd >= 0)
                process_tell(fd, "READY\n");
}

int daemon_run(const struct daemon_options *options)
{
        struct daemon *d = calloc(1, sizeof *d);
        int r;

        if (d == NULL) {
                fputs("portalockd: cannot start: out of memory\n", stderr);
                return DAEMON_EXIT_FAILED;
        }
        d->options = options;
        d->start_lock = d->listen_fd = -1;
        log_set_level(options->log_level);
        log_start();
        process_begin();
        pl_json_use_arena(true);
        r = take_address(d);
        if (r != 0)
                goto out;
        r = uv_loop_init(&d->loop);
        if (r == 0 && !recall(d))
                r = -ENOMEM;
        if (r == 0) {
                init_handles(d);        /* after recall(): until signals are caught they end a daemon that nobody knows yet */
                errno = ENOMEM;         /* not everything that fails for want of memory or threads says so */
                r = build(d) ? 0 : -errno;
        }
        if (r != 0) {
                fprintf(stderr, "portalockd: cannot start: %s\n", strerror(-r));
                pl_address_unbind(&d->address);
                r = DAEMON_EXIT_FAILED;
                goto out;
        }
        on_idle(d, true);
        log_event(LOG_INFO, "listening", "socket=%s pid=%lld", log_quote(d->address.path), (long long)uv_os_getpid());
        say_ready(options->ready_fd);
        uv_run(&d->loop, UV_RUN_DEFAULT);
        uv_loop_close(&d->loop);
        dispatch_destroy(d->dispatch);
        log_event(LOG_INFO, "stopped", "socket=%s", log_quote(d->address.path));
out:
        if (d->start_lock >= 0)
                pl_address_close(d->start_lock);
        free(d);
        return r;
}
