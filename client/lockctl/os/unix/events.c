/*
 * Signals and descriptors in one place. Signals are blocked but while ppoll(2) waits, so that none falls between a look and the wait; their handlers only
 * note them.
 */
#include "../../os.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int caught[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
#define CAUGHT (sizeof caught / sizeof caught[0])

static volatile sig_atomic_t noted[CAUGHT], from_terminal[CAUGHT];
static bool ignored[CAUGHT];     /* by whoever started us (nohup): it stays so, for the command too */
static sigset_t before, waiting;

static void note(int sig, siginfo_t *info, void *context)
{
        size_t i;

        (void)context;
        for (i = 0; i < CAUGHT; i++) {
                if (caught[i] == sig) {
                        noted[i] = 1;
                        from_terminal[i] = info->si_code == SI_KERNEL;
                }
        }
}

static void ignore_child(int sig)
{
        (void)sig;      /* it only ends the wait */
}

void os_catch_signals(void)
{
        struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO}, child = {.sa_handler = ignore_child}, old;
        sigset_t block;
        size_t i;

        sigemptyset(&block);
        sigaddset(&block, SIGCHLD);
        for (i = 0; i < CAUGHT; i++)
                sigaddset(&block, caught[i]);
        sigprocmask(SIG_BLOCK, &block, &before);
        waiting = before;
        sigdelset(&waiting, SIGCHLD);
        for (i = 0; i < CAUGHT; i++) {
                sigaction(caught[i], &action, &old);
                ignored[i] = old.sa_handler == SIG_IGN;
                if (ignored[i])
                        sigaction(caught[i], &old, NULL);
                else
                        sigdelset(&waiting, caught[i]);
        }
        sigaction(SIGCHLD, &child, NULL);
}

void os_release_signals(void)
{
        size_t i;

        for (i = 0; i < CAUGHT; i++)
                if (!ignored[i])
                        signal(caught[i], SIG_DFL);
        signal(SIGCHLD, SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
}

static bool take_signal(struct os_event *e)
{
        size_t i;

        for (i = 0; i < CAUGHT; i++) {
                if (!noted[i])
                        continue;
                noted[i] = 0;
                *e = (struct os_event){.kind = OS_SIGNAL, .number = caught[i], .from_terminal = from_terminal[i] != 0};
                return true;
        }
        return false;
}

static bool take_child(struct os_event *e, int64_t pid)
{
        int status;

        if (pid <= 0 || waitpid((pid_t)pid, &status, WNOHANG) != (pid_t)pid)
                return false;
        *e = (struct os_event){.kind = OS_CHILD_ENDED, .number = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)};
        return true;
}

void os_next_event(struct os_event *e, const portalock_session *s, int64_t timeout_ms, int64_t child)
{
        bool write = s != NULL && (portalock_events(s) & PORTALOCK_WRITABLE) != 0;
        struct pollfd p = {.fd = s != NULL ? portalock_fd(s) : -1, .events = (short)(POLLIN | (write ? POLLOUT : 0))};
        struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000), .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
        int r;

        if (take_signal(e) || take_child(e, child))
                return;
        r = ppoll(&p, 1, timeout_ms < 0 ? NULL : &timeout, &waiting);
        if (take_signal(e) || take_child(e, child))
                return;
        *e = (struct os_event){.kind = r > 0 ? OS_READABLE : OS_TIME};
}

void os_die_by(int signal_number)
{
        signal(signal_number, SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        raise(signal_number);
        _exit(128 + signal_number);
}

int64_t os_now_us(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t os_now_ms(void)
{
        return os_now_us() / 1000;
}
