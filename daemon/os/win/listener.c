/*
 * Each instance of the pipe serves one client. Some of them wait for one all the time, so that clients who come together need not be told "busy"; when one
 * has been taken the next is made. The first was made by pl_address_bind(), and the others have its name and the same security.
 */
#include "transport.h"

#include "pipe.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define INSTANCES 8
#define NAME_UNITS 512
#define AGAIN_MS 100

struct instance {
        struct listener *listener;
        HANDLE pipe, connected, wait;
        OVERLAPPED overlapped;
        bool waiting;
};

struct listener {
        uv_loop_t *loop;
        uv_async_t async;
        uv_timer_t again;
        struct instance instances[INSTANCES];
        wchar_t name[NAME_UNITS];
        void (*accepted)(void *arg, int fd);
        void *arg;
        int handles;
        bool on, failing;
};

/* On a thread of the system's. */
static void CALLBACK on_connected(void *arg, BOOLEAN timed_out)
{
        struct instance *i = arg;

        (void)timed_out;
        uv_async_send(&i->listener->async);
}

static void stop_waiting(struct instance *i)
{
        if (i->wait != NULL)
                (void)UnregisterWaitEx(i->wait, INVALID_HANDLE_VALUE);  /* waits for a callback under way, which does not wait for us */
        i->wait = NULL;
        i->waiting = false;
}

/* Let a client come. False with GetLastError(). */
static bool offer(struct instance *i)
{
        DWORD error;

        memset(&i->overlapped, 0, sizeof i->overlapped);
        i->overlapped.hEvent = i->connected;
        ResetEvent(i->connected);
        error = ConnectNamedPipe(i->pipe, &i->overlapped) ? ERROR_PIPE_CONNECTED : GetLastError();
        if (error == ERROR_PIPE_CONNECTED)
                SetEvent(i->connected);         /* it was here before */
        else if (error == ERROR_NO_DATA)        /* it has been here, and gone */
                SetEvent(i->connected);
        else if (error != ERROR_IO_PENDING)
                return false;
        i->waiting = true;
        return RegisterWaitForSingleObject(&i->wait, i->connected, on_connected, i, INFINITE, WT_EXECUTEONLYONCE | WT_EXECUTEINWAITTHREAD);
}

static void drop(struct instance *i)
{
        bool offered = i->waiting;
        DWORD n;

        stop_waiting(i);
        if (i->pipe == INVALID_HANDLE_VALUE)
                return;
        if (offered) {
                CancelIoEx(i->pipe, &i->overlapped);
                (void)GetOverlappedResult(i->pipe, &i->overlapped, &n, TRUE);   /* the system writes into it until then */
        }
        CloseHandle(i->pipe);
        i->pipe = INVALID_HANDLE_VALUE;
}

static void on_again(uv_timer_t *timer);

static void fail(struct listener *l, DWORD error)
{
        bool first = !l->failing;

        l->failing = true;
        uv_timer_start(&l->again, on_again, AGAIN_MS, 0);
        if (first)
                l->accepted(l->arg, -pl_errno_of(error));
}

/* Those that are missing. */
static void fill(struct listener *l)
{
        size_t n;

        for (n = 0; n < INSTANCES && l->on; n++) {
                struct instance *i = &l->instances[n];

                if (i->waiting)
                        continue;
                if (i->pipe == INVALID_HANDLE_VALUE)
                        i->pipe = pl_pipe_instance(l->name, false);
                if (i->pipe == INVALID_HANDLE_VALUE || !offer(i)) {
                        DWORD error = GetLastError();

                        drop(i);
                        fail(l, error);
                        return;
                }
        }
        if (l->on)
                l->failing = false;
}

static void on_again(uv_timer_t *timer)
{
        fill(timer->data);
}

static bool is_here(const struct instance *i)
{
        return i->waiting && WaitForSingleObject(i->connected, 0) == WAIT_OBJECT_0;
}

static void accept_all(struct listener *l)
{
        HANDLE pipe;
        size_t n;

        for (n = 0; n < INSTANCES && l->on; n++) {
                if (!is_here(&l->instances[n]))
                        continue;
                pipe = l->instances[n].pipe;
                l->instances[n].pipe = INVALID_HANDLE_VALUE;
                stop_waiting(&l->instances[n]);
                l->accepted(l->arg, pl_handle_int(pipe));
        }
        if (l->on)
                fill(l);
}

static void on_async(uv_async_t *async)
{
        accept_all(async->data);
}

/* The pipe's own, by which the first instance was made. */
static bool name_of(HANDLE pipe, wchar_t out[NAME_UNITS])
{
        union {
                FILE_NAME_INFO info;
                unsigned char bytes[sizeof(FILE_NAME_INFO) + NAME_UNITS * sizeof(wchar_t)];
        } name;
        const wchar_t *base;
        size_t units;

        if (!GetFileInformationByHandleEx(pipe, FileNameInfo, &name, sizeof name))
                return false;
        units = name.info.FileNameLength / sizeof(wchar_t);
        base = name.info.FileName;
        if (units > 0 && base[0] == L'\\') {
                base++;
                units--;
        }
        wcscpy(out, L"\\\\.\\pipe\\");
        if (units + wcslen(out) >= NAME_UNITS)
                return false;
        wcsncat(out, base, units);
        return true;
}

struct listener *listener_create(uv_loop_t *loop, int fd, void (*accepted)(void *arg, int fd), void *arg)
{
        struct listener *l = calloc(1, sizeof *l);
        size_t n;

        if (l == NULL || !name_of(pl_int_handle(fd), l->name))
                goto fail;
        for (n = 0; n < INSTANCES; n++) {
                l->instances[n] = (struct instance){.listener = l, .pipe = INVALID_HANDLE_VALUE, .connected = CreateEventW(NULL, TRUE, FALSE, NULL)};
                if (l->instances[n].connected == NULL)
                        goto fail;
        }
        if (uv_async_init(loop, &l->async, on_async) != 0)
                goto fail;
        uv_timer_init(loop, &l->again);
        l->async.data = l->again.data = l;
        l->handles = 2;
        l->loop = loop;
        l->accepted = accepted;
        l->arg = arg;
        l->instances[0].pipe = pl_int_handle(fd);
        listener_accepting(l, true);
        return l;
fail:
        errno = l == NULL ? ENOMEM : pl_errno_of(GetLastError());
        for (n = 0; l != NULL && n < INSTANCES && l->instances[n].connected != NULL; n++)
                CloseHandle(l->instances[n].connected);
        free(l);
        return NULL;
}

static void listener_closed(uv_handle_t *handle)
{
        struct listener *l = handle->data;
        size_t n;

        if (--l->handles > 0)
                return;
        for (n = 0; n < INSTANCES; n++)
                CloseHandle(l->instances[n].connected);
        free(l);
}

void listener_destroy(struct listener *l)
{
        size_t n;

        if (l == NULL)
                return;
        l->on = false;
        for (n = 0; n < INSTANCES; n++)
                drop(&l->instances[n]);
        uv_close((uv_handle_t *)&l->async, listener_closed);
        uv_close((uv_handle_t *)&l->again, listener_closed);
}

/* Who comes while it is off finds an instance, as in a backlog, and is served later. */
void listener_accepting(struct listener *l, bool on)
{
        if (l->on == on)
                return;
        l->on = on;
        if (on)
                uv_async_send(&l->async);       /* not within this call */
        else
                uv_timer_stop(&l->again);
}

void listener_retry(struct listener *l)
{
        if (l->on && l->failing)
                uv_async_send(&l->async);
}
