/* The session: what a loop needs to know of it, its turn, its end. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void session_end(struct portalock_session *s, int code, const char *text)
{
        if (s->state == SESSION_ENDED)
                return;
        s->state = SESSION_ENDED;
        s->ended_code = code;
        s->ended_errno = text == NULL ? s->error.os_errno : 0;
        snprintf(s->ended_text, sizeof s->ended_text, "%s", text != NULL ? text : s->text);
        conn_close(s);
        request_fail_all(s, code);
        if (s->state == SESSION_ENDED)  /* or it connects again */
                session_report_end(s);
}

void session_report_end(struct portalock_session *s)
{
        client_fail(s, s->ended_code, "%s", s->ended_text);
        s->error.os_errno = s->ended_errno;
}

static void take_lines(struct portalock_session *s)
{
        struct pl_reply reply;
        int r = 0;

        while (s->fd >= 0 && (r = conn_next(s, &reply)) > 0) {
                if (reply.method != NULL)
                        notified(s, &reply);
                else if (reply.id == 0 && reply.code != 0)
                        reconnect_begin(s, client_fail_reply(s, &reply), NULL); /* we are not served, and it says why */
                else
                        request_answered(s, &reply);
                pl_reply_clear(&reply);
        }
        if (r == -ENOMEM && s->fd >= 0) {
                session_end(s, PORTALOCK_E_NO_MEMORY, "out of memory: an answer of the daemon could not be read");
        } else if (r < 0 && s->fd >= 0) {
                client_fail(s, PORTALOCK_E_PROTOCOL, "%.300s: the answer is not one of portalockd", s->address.path);
                session_end(s, PORTALOCK_E_PROTOCOL, NULL);
        }
}

static void talk(struct portalock_session *s)
{
        char late[64];
        bool alive = conn_flush(s) == 0;

        alive = conn_receive(s) == 0 && alive;
        take_lines(s);          /* what came before the end still counts */
        if (s->fd < 0)
                return;
        request_expire(s, os_now_ms());
        if (!alive || s->stopping) {
                reconnect_begin(s, PORTALOCK_E_CONNECTION, alive ? "the daemon is stopping" : "the connection to the daemon broke");
        } else if (request_overdue(s, os_now_ms())) {
                snprintf(late, sizeof late, "the daemon (pid %lld) did not answer in time", s->daemon_pid);
                reconnect_begin(s, PORTALOCK_E_CONNECTION, late);
        }
}

int portalock_process(portalock_session *s)
{
        if (s->owner != getpid())
                return client_usable(s);
        s->in_process = true;
        connect_step(s);
        if (s->fd >= 0)
                talk(s);
        else if (s->state != SESSION_ENDED)
                request_expire(s, os_now_ms());
        s->in_process = false;
        return s->state == SESSION_ENDED ? s->ended_code : 0;
}

int portalock_fd(const portalock_session *s)
{
        return s->state == SESSION_STARTING ? s->report_fd : s->fd;
}

int portalock_events(const portalock_session *s)
{
        return PORTALOCK_READABLE | (s->fd >= 0 && s->out_sent < s->out.len ? PORTALOCK_WRITABLE : 0);
}

int64_t portalock_timeout(const portalock_session *s)
{
        int64_t at = s->state == SESSION_PAUSING ? s->resume_ms : s->state == SESSION_STARTING ? s->connect_deadline_ms : NEVER, now;

        if (s->earliest_ms < at)
                at = s->earliest_ms;
        if (s->state == SESSION_ENDED || at == NEVER)
                return -1;
        now = os_now_ms();
        return at > now ? at - now : 0;
}

void portalock_set_callbacks(portalock_session *s, const struct portalock_callbacks *callbacks, void *arg)
{
        s->callbacks = callbacks != NULL ? *callbacks : (struct portalock_callbacks){0};
        s->callbacks_arg = arg;
}

void portalock_disconnect(portalock_session *s)
{
        struct watch *w;

        if (s == NULL)
                return;
        request_forget_all(s);
        conn_close(s);
        while ((w = s->watches) != NULL) {
                s->watches = w->next;
                free(w);
        }
        if (s->report_fd >= 0)
                os_close(s->report_fd);
        pl_buf_clear(&s->out);
        free(s->cycle);
        free(s);
}

const struct portalock_error_info *portalock_error(const portalock_session *s)
{
        static const struct portalock_error_info no_memory = {.code = PORTALOCK_E_NO_MEMORY, .syscall = "", .text = "out of memory"};
        static const struct portalock_error_info none = {.syscall = "", .text = ""};

        if (s == NULL)
                return &no_memory;
        return s->error.text != NULL ? &s->error : &none;
}

int64_t portalock_session_id(const portalock_session *s)
{
        return s->id;
}

int64_t portalock_daemon_pid(const portalock_session *s)
{
        return s->daemon_pid;
}

const char *portalock_daemon_version(const portalock_session *s)
{
        return s->version;
}

const char *portalock_socket(const portalock_session *s)
{
        return s->address.path;
}
