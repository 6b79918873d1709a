/*
 * A connection on Windows. Pipes cannot be polled, so one read is always under way into a buffer of ours, and what is sent is copied into another that the
 * system writes. When they end one event is set, the one that a loop waits for. Whether an operation has ended is told by its own OVERLAPPED,
 * never by the event: that says only that a look is worth while. So it may be set for nothing, but must never be clear while something waits to be taken;
 * hence it is cleared before each look.
 *
 * A session may go from thread to thread, but what a thread has begun is cancelled when that thread ends. A read is begun again then. Of a write nobody can tell
 * how much of it has gone, so it must not belong to a thread: that is so when its file has a completion port and it has no event. Hardly any write has to wait;
 * for one that does a thread of the system's pool waits at the port, and sets the event.
 */
#include "internal.h"
#include "pipe.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct os_io {
        HANDLE event, port;
        PTP_WORK waiter;        /* submitted once for each write that has to wait; NULL before the first, for the pool has threads as soon as it is used */
        HANDLE ported;          /* the pipe that belongs to the port, if one does */
        OVERLAPPED read, write;
        bool reading, writing;  /* begun and not looked at since it ended */
        bool full;              /* something was not sent because of the write under way */
        size_t have, taken;     /* of `in` */
        size_t sending;         /* of `out` */
        char in[PL_PIPE_BUFFER], out[PL_PIPE_BUFFER];
};

int64_t os_now_ms(void)
{
        LARGE_INTEGER now, per_second;

        QueryPerformanceCounter(&now);
        QueryPerformanceFrequency(&per_second);
        return now.QuadPart / per_second.QuadPart * 1000 + now.QuadPart % per_second.QuadPart * 1000 / per_second.QuadPart;
}

int os_begin(struct portalock_session *s)
{
        struct os_io *io = calloc(1, sizeof *io);

        if (io == NULL)
                return -ENOMEM;
        io->event = CreateEventW(NULL, TRUE, FALSE, NULL);
        io->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
        s->io = io;
        if (io->event == NULL || io->port == NULL) {
                os_end(s);
                return -ENOMEM;
        }
        return 0;
}

void os_end(struct portalock_session *s)
{
        if (s->io == NULL)
                return;
        os_hang_up(s);
        if (s->io->waiter != NULL)
                CloseThreadpoolWork(s->io->waiter);
        if (s->io->port != NULL)
                CloseHandle(s->io->port);
        if (s->io->event != NULL)
                CloseHandle(s->io->event);
        free(s->io);
        s->io = NULL;
}

void *os_handle(const struct portalock_session *s)
{
        return s->io != NULL ? s->io->event : NULL;
}

void os_wait(struct portalock_session *s, int64_t deadline_ms)
{
        DWORD ms = INFINITE;
        int64_t left;

        if (deadline_ms != INT64_MAX) {
                left = deadline_ms - os_now_ms();
                ms = left <= 0 ? 0 : left < INFINITE ? (DWORD)left : INFINITE - 1;
        }
        (void)WaitForSingleObject(s->io->event, ms);    /* whatever ends it, the caller looks again */
}

/* ---- sending ---- */

/* What is written at once is no news to the port. */
static bool has_port(struct os_io *io, HANDLE pipe)
{
        if (io->ported == pipe)
                return true;
        if (CreateIoCompletionPort(pipe, io->port, 0, 0) == NULL || !SetFileCompletionNotificationModes(pipe, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS))
                return false;
        io->ported = pipe;
        return true;
}

/* One write that had to wait. */
static void await_write(const struct os_io *io)
{
        OVERLAPPED *ended;
        ULONG_PTR key;
        DWORD n;

        (void)GetQueuedCompletionStatus(io->port, &n, &key, &ended, INFINITE);
}

/* On a thread of the pool. */
static void CALLBACK on_pool(PTP_CALLBACK_INSTANCE instance, void *arg, PTP_WORK work)
{
        struct os_io *io = arg;

        (void)instance;
        (void)work;
        await_write(io);
        SetEvent(io->event);
}

/* False: the write is taken back. */
static bool tell_when_written(struct os_io *io, HANDLE pipe)
{
        if (io->waiter == NULL)
                io->waiter = CreateThreadpoolWork(on_pool, io, NULL);
        if (io->waiter != NULL) {
                SubmitThreadpoolWork(io->waiter);
                return true;
        }
        CancelIoEx(pipe, &io->write);
        await_write(io);
        return false;
}

int64_t os_send(struct portalock_session *s, const char *data, size_t len, int pass)
{
        HANDLE pipe = pl_int_handle(s->fd);
        struct os_io *io = s->io;
        DWORD n;

        (void)pass;
        if (io->writing) {
                io->full = !HasOverlappedIoCompleted(&io->write);
                if (io->full)
                        return -EAGAIN;
                io->writing = false;
                if (!GetOverlappedResult(pipe, &io->write, &n, FALSE) || n != io->sending)
                        return -EPIPE;
        }
        io->sending = len < sizeof io->out ? len : sizeof io->out;
        memcpy(io->out, data, io->sending);
        io->write = (OVERLAPPED){0};
        if (!has_port(io, pipe))
                return -EPIPE;
        if (!WriteFile(pipe, io->out, (DWORD)io->sending, NULL, &io->write)) {
                if (GetLastError() != ERROR_IO_PENDING)
                        return -EPIPE;
                if (!tell_when_written(io, pipe))
                        return -EPIPE;
        }
        io->writing = true;
        return (int64_t)io->sending;
}

/* The event may have been cleared after a write that somebody waits for had set it. */
static void remember_write(struct os_io *io)
{
        if (io->full && HasOverlappedIoCompleted(&io->write))
                SetEvent(io->event);
}

/* ---- receiving ---- */

/* False: the pipe is broken. An end at once is seen like a later one. */
static bool begin_read(struct os_io *io, HANDLE pipe)
{
        io->have = io->taken = 0;
        io->read = (OVERLAPPED){.hEvent = (HANDLE)((ULONG_PTR)io->event | 1)};  /* cleared by this; the lowest bit says that the port need not know */
        io->reading = ReadFile(pipe, io->in, sizeof io->in, NULL, &io->read) || GetLastError() == ERROR_IO_PENDING;
        return io->reading;
}

/* What has come, and the next read is begun when all of it is taken: somebody must set the event when more comes. */
static int64_t hand_out(struct os_io *io, HANDLE pipe, char *data, size_t len)
{
        size_t n = io->have - io->taken;

        if (n > len)
                n = len;
        memcpy(data, io->in + io->taken, n);
        io->taken += n;
        if (io->taken == io->have && !begin_read(io, pipe))
                SetEvent(io->event);    /* the next look sees that it is broken */
        remember_write(io);
        return (int64_t)n;
}

static int64_t receive(struct os_io *io, HANDLE pipe, char *data, size_t len)
{
        DWORD n;

        for (;;) {
                if (io->taken < io->have)
                        return hand_out(io, pipe, data, len);
                if (!io->reading && !begin_read(io, pipe))
                        return 0;
                ResetEvent(io->event);
                if (!HasOverlappedIoCompleted(&io->read)) {
                        remember_write(io);
                        return -EAGAIN;
                }
                io->reading = false;
                if (GetOverlappedResult(pipe, &io->read, &n, FALSE))
                        io->have = n;
                else if (GetLastError() != ERROR_OPERATION_ABORTED)     /* with the thread that began it: again */
                        return 0;
        }
}

int64_t os_receive(struct portalock_session *s, char *data, size_t len)
{
        return receive(s->io, pl_int_handle(s->fd), data, len);
}

int64_t os_read_report(struct portalock_session *s, char *data, size_t len)
{
        return receive(s->io, pl_int_handle(s->report_fd), data, len);
}

/* ---- the end ---- */

/* The system must have let go of it and its buffer. */
static void await_read(struct os_io *io)
{
        for (;;) {
                ResetEvent(io->event);
                if (HasOverlappedIoCompleted(&io->read))
                        return;
                WaitForSingleObject(io->event, INFINITE);
        }
}

static void close_pipe(struct os_io *io, int *fd)
{
        if (*fd < 0)
                return;
        CancelIoEx(pl_int_handle(*fd), NULL);
        if (io->reading)
                await_read(io);
        if (io->waiter != NULL)
                WaitForThreadpoolWorkCallbacks(io->waiter, FALSE);      /* writes that had to wait; none else is under way */
        CloseHandle(pl_int_handle(*fd));
        *fd = -1;
        io->ported = NULL;
        io->reading = io->writing = io->full = false;
        io->have = io->taken = 0;
        ResetEvent(io->event);
}

void os_hang_up(struct portalock_session *s)
{
        close_pipe(s->io, &s->fd);
        close_pipe(s->io, &s->report_fd);
}
