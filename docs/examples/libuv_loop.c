/*
 * The same in a libuv loop: a uv_poll_t for the descriptor, a uv_timer_t for the timeout, both set anew after each turn of the session. The descriptor is
 * another one, or none for a while, when the daemon is restarted: so the uv_poll_t is one for each descriptor.
 */
#include <portalock.h>

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

struct app {
        uv_loop_t loop;
        uv_poll_t *poll;        /* NULL: there is no descriptor at the moment */
        int fd;                 /* that it is for */
        uv_timer_t timer, work;
        portalock_session *session;
        portalock_file *file;
        int result, ticks;
};

static void process(struct app *a);

static void on_poll(uv_poll_t *handle, int status, int events)
{
        (void)status;
        (void)events;
        process(handle->data);
}

static void on_timer(uv_timer_t *handle)
{
        process(handle->data);
}

static void on_closed(uv_handle_t *handle)
{
        free(handle);
}

static void stop_poll(struct app *a)
{
        if (a->poll != NULL)
                uv_close((uv_handle_t *)a->poll, on_closed);
        a->poll = NULL;
}

static void watch(struct app *a)
{
        int fd = portalock_fd(a->session);
        int events = UV_READABLE | ((portalock_events(a->session) & PORTALOCK_WRITABLE) != 0 ? UV_WRITABLE : 0);
        int64_t timeout = portalock_timeout(a->session);

        if (a->poll != NULL && a->fd != fd)
                stop_poll(a);
        if (a->poll == NULL && fd >= 0 && (a->poll = malloc(sizeof *a->poll)) != NULL) {
                uv_poll_init(&a->loop, a->poll, fd);
                a->poll->data = a;
                a->fd = fd;
        }
        if (a->poll != NULL)
                uv_poll_start(a->poll, events, on_poll);        /* also when it was set before: the same number may be another descriptor */
        if (timeout >= 0)
                uv_timer_start(&a->timer, on_timer, (uint64_t)timeout, 0);
        else
                uv_timer_stop(&a->timer);
}

static void stop(struct app *a)
{
        stop_poll(a);
        uv_close((uv_handle_t *)&a->timer, NULL);
        uv_close((uv_handle_t *)&a->work, NULL);
}

static void process(struct app *a)
{
        int e = portalock_process(a->session);

        if (e != 0)
                a->result = e;
        if (a->result != 1)
                stop(a);
        else
                watch(a);
}

static void on_locked(void *arg, portalock_file *f, int result)
{
        struct app *a = arg;

        if (result == 0)
                printf("locked after %d ticks of other work, token %lld\n", a->ticks, (long long)portalock_token(f));
        a->result = result;
}

static void on_work(uv_timer_t *handle)
{
        ((struct app *)handle->data)->ticks++;
}

int main(int argc, char **argv)
{
        struct app a = {.result = 1};
        int e = portalock_connect("libuv_loop", PORTALOCK_CONNECT_CONCURRENT, &a.session);

        if (e == 0)
                e = portalock_open(a.session, argc > 1 ? argv[1] : "somefile", &a.file);
        if (e == 0)
                e = portalock_lock_start(a.file, PORTALOCK_EX, -1, on_locked, &a);
        if (e == 0) {
                uv_loop_init(&a.loop);
                uv_timer_init(&a.loop, &a.timer);
                uv_timer_init(&a.loop, &a.work);
                a.timer.data = a.work.data = &a;
                uv_timer_start(&a.work, on_work, 0, 1);
                watch(&a);
                uv_run(&a.loop, UV_RUN_DEFAULT);
                uv_loop_close(&a.loop);
                e = a.result;
        }
        if (e != 0)
                fprintf(stderr, "%s\n", portalock_error(a.session)->text);
        portalock_close(a.file);
        portalock_disconnect(a.session);
        return e == 0 ? 0 : 1;
}
