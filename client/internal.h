/* The library's inside: conn.c (the connection machine, never blocks), call.c (a call is a request plus a wait), api.c, file.c and list.c (the public calls). */
#ifndef CLIENT_INTERNAL_H
#define CLIENT_INTERNAL_H

#include "address.h"
#include "frame.h"
#include "message.h"
#include "portalock.h"

#include <stdbool.h>
#include <sys/types.h>

#define HOLDERS_MAX 16

struct portalock_session {
        int fd;                         /* -1: no connection */
        pid_t owner;                    /* the process that connected: a fork's child may only close */
        struct pl_address address;
        struct pl_frame frame;
        struct pl_buf out;              /* unsent bytes */
        size_t out_sent;
        int out_fd;                     /* travels with the first byte of `out`; -1: none */
        int64_t last_id, id;
        long long daemon_pid;
        char version[32];
        struct portalock_error_info error;
        struct portalock_holder holders[HOLDERS_MAX];
        char commands[HOLDERS_MAX][64], clients[HOLDERS_MAX][64];
        char text[512], syscall[32];
};

struct portalock_file {
        struct portalock_session *session;
        int fd;
        int64_t lock, token;            /* 0: not locked */
        char *path;                     /* absolute */
};

/* ---- error.c ---- */
int client_fail(struct portalock_session *s, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int client_fail_os(struct portalock_session *s, int error, const char *syscall_name, const char *path);
/* The error of a reply, holders included. */
int client_fail_reply(struct portalock_session *s, const struct pl_reply *r);
void client_worked(struct portalock_session *s);
/* 0, or PORTALOCK_E_FORKED, PORTALOCK_E_CONNECTION: may this session be used? */
int client_usable(struct portalock_session *s);

/* ---- conn.c: never blocks ---- */
/* A line for the daemon is s->out from `start` on; `fd` (borrowed until sent, -1: none) goes with it. */
void conn_send(struct portalock_session *s, int fd);
/* Move bytes both ways as far as they go. 0, or -1 when the connection is broken. */
int conn_process(struct portalock_session *s);
/* The next line that came: 1 and *reply (to be cleared), 0 none, -1 not our protocol. */
int conn_next(struct portalock_session *s, struct pl_reply *reply);
void conn_close(struct portalock_session *s);

/* ---- call.c ---- */
/* The longest a request that never queues may take. */
#define CALL_MAX_MS 10000

/* Asked when a signal has interrupted the wait; true: give up. */
struct interruption {
        bool (*asked)(void *arg);
        void *arg;
};
/* Begin a request: the caller writes its params, then call_wait(). */
void call_begin(struct portalock_session *s, struct pl_writer *w, const char *method);
/* Send it, with `fd` if that is not -1, and wait for its answer at most timeout_ms (-1: for ever). 0 with *reply (result), else the error is set. */
int call_wait(struct portalock_session *s, struct pl_writer *w, int fd, int64_t timeout_ms, const struct interruption *i, struct pl_reply *reply);

/* ---- os/: what differs between systems ---- */
int64_t os_now_ms(void);
/* Wait until the session's connection can be read (or written, if `write`). 1 ready, 0 time is over, -EINTR a signal came, else -errno. */
int os_wait(int fd, bool write, int64_t deadline_ms);
/* Bytes, with descriptor `pass` if that is not -1, over the connection: how many, or -errno. Neither waits. */
ssize_t os_send(int fd, const char *data, size_t len, int pass);
/* 0: the other side is gone. */
ssize_t os_receive(int fd, char *data, size_t len);
void os_close(int fd);
/* Start the daemon on the session's address and wait until it listens. 0, or an error code with the error set. */
int os_spawn_daemon(struct portalock_session *s);
/* Open a lock file by the rules of portalock_open(). A descriptor or -errno. */
int os_open(const char *path, bool for_writing);
/* Does `fd` still stand for what `path` names? */
bool os_is_current(int fd, const char *path);
/* `path` made absolute, to be freed; NULL with errno. */
char *os_absolute(const char *path);

#endif
