/*
 * accept4(2) by uv_poll_t. When the process or the system is out of descriptors accept4 fails while the connection stays in the backlog and the poll
 * keeps reporting it: then it is not polled for a while, or the loop would spin.
 */
#include "transport.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define BACKLOG 4096
#define ACCEPTS_PER_TURN 64
#define AGAIN_MS 100

struct listener {
        uv_poll_t poll;
        uv_timer_t again;
        int fd, handles;
        void (*accepted)(void *arg, int fd);
        void *arg;
        bool on, failing;
};

static void on_again(uv_timer_t *timer);

static void fail(struct listener *l, int error)
{
        bool first = !l->failing;

        l->failing = true;
        uv_poll_stop(&l->poll);
        uv_timer_start(&l->again, on_again, AGAIN_MS, 0);
        if (first)
                l->accepted(l->arg, -error);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
        struct listener *l = poll->data;
        int i;

        (void)status;
        (void)events;
        for (i = 0; i < ACCEPTS_PER_TURN && l->on; i++) {
                int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
                        continue;
                if (fd < 0) {
                        if (errno != EAGAIN)
                                fail(l, errno);
                        return;
                }
                l->failing = false;
                l->accepted(l->arg, fd);
        }
}

static void poll_now(struct listener *l)
{
        uv_timer_stop(&l->again);
        uv_poll_start(&l->poll, UV_READABLE, on_connection);
}

static void on_again(uv_timer_t *timer)
{
        struct listener *l = timer->data;

        if (l->on)
                poll_now(l);
}

struct listener *listener_create(uv_loop_t *loop, int fd, void (*accepted)(void *arg, int fd), void *arg)
{
        struct listener *l = calloc(1, sizeof *l);

        if (l == NULL || listen(fd, BACKLOG) != 0 || uv_poll_init(loop, &l->poll, fd) != 0) {
                free(l);
                return NULL;
        }
        uv_timer_init(loop, &l->again);
        l->poll.data = l->again.data = l;
        l->handles = 2;
        l->fd = fd;
        l->accepted = accepted;
        l->arg = arg;
        listener_accepting(l, true);
        return l;
}

static void listener_closed(uv_handle_t *handle)
{
        struct listener *l = handle->data;

        if (--l->handles == 0)
                free(l);
}

void listener_destroy(struct listener *l)
{
        if (l == NULL)
                return;
        l->on = false;
        uv_close((uv_handle_t *)&l->poll, listener_closed);
        uv_close((uv_handle_t *)&l->again, listener_closed);
        close(l->fd);
}

void listener_accepting(struct listener *l, bool on)
{
        if (l->on == on)
                return;
        l->on = on;
        if (on) {
                poll_now(l);
        } else {
                uv_timer_stop(&l->again);
                uv_poll_stop(&l->poll);
        }
}

void listener_retry(struct listener *l)
{
        if (l->on && l->failing)
                poll_now(l);
}
