/*
 * Typed requests, replies and notifications <-> one line of JSON-RPC 2.0. What the daemon may assume of a decoded request is
 * written beside each member; everything else has been refused here with a fault that names the member.
 */
#ifndef PL_MESSAGE_H
#define PL_MESSAGE_H

#include "error.h"
#include "json.h"
#include "wire.h"

#include <stdbool.h>
#include <stdint.h>

enum pl_method { PL_HELLO, PL_LOCK, PL_UNLOCK, PL_CANCEL, PL_LIST, PL_WATCH, PL_BREAK, PL_STATS, PL_PING, PL_STOP, PL_METHOD_COUNT };

enum pl_mode { PL_MODE_NONE = 0, PL_MODE_SH = 1, PL_MODE_EX = 2 };
/* "LOCK_SH" / "LOCK_EX" / "none" */
const char *pl_mode_name(int mode);

struct pl_id {
        enum { PL_ID_NONE, PL_ID_INTEGER, PL_ID_STRING } kind;
        union {
                int64_t number;
                const char *text;       /* borrowed, from the document that it was in or whoever has copied it */
        };
};
bool pl_id_equal(const struct pl_id *a, const struct pl_id *b);
/* 0, or -1 when `n` cannot be an id. */
int pl_id_decode(const struct pl_json *n, struct pl_id *out);

struct pl_hello_params {
        const char *client;     /* NULL when absent */
        int64_t parent, session; /* 0 when absent */
        bool concurrent;
};
struct pl_lock_params {
        const char *path;       /* absolute; NULL only with fd */
        bool fd, nonblock, create, notify, detach;
        enum pl_mode mode;
        int64_t handle;
        int64_t timeout_ms;     /* -1: for ever */
        int64_t reclaim_token, reclaim_waited_ms; /* -1 when absent */
        enum pl_mode reclaim_mode;
};
struct pl_unlock_params {
        int64_t lock;           /* -1: by path */
        const char *path;
        int64_t handle;
        bool close;
};
struct pl_cancel_params {
        struct pl_id id;
};
struct pl_list_params {
        const char *path;       /* NULL: any */
        int64_t pid, session;   /* -1: any */
        enum { PL_STATE_ANY, PL_STATE_HELD, PL_STATE_WAITING } state;
        bool outside;
        int64_t limit;
        const char *after;      /* NULL: from the start */
};
struct pl_watch_params {
        const char *path;       /* NULL: any */
        int64_t pid, session;   /* -1: any */
};
struct pl_break_params {
        int64_t lock;
};
struct pl_stop_params {
        bool force;
};

struct pl_request {
        struct pl_json *doc;    /* owned: the strings below are borrowed from it */
        struct pl_id id;        /* kind NONE: no answer is wanted */
        enum pl_method method;
        union {
                struct pl_hello_params hello;
                struct pl_lock_params lock;
                struct pl_unlock_params unlock;
                struct pl_cancel_params cancel;
                struct pl_list_params list;
                struct pl_watch_params watch;
                struct pl_break_params break_;
                struct pl_stop_params stop;
        };
};

/* Why a line is refused. `member` and `limit` become data.member and data.limit when not empty. */
struct pl_fault {
        int code;
        struct pl_id id;        /* kind NONE: answered with id null; its text is in id_text */
        char id_text[PL_ID_BYTES_MAX + 1];
        char member[64];
        char limit[32];
        char text[160];         /* the sentence for people; empty: the code's own */
        bool supported;         /* data.supported: [1] */
        bool silent;            /* a refused request without id: do not answer */
        bool took_fd;           /* params had a member fd that is true: its descriptor must leave the queue all the same */
};

/* Decode one line. Returns 0 (then pl_request_clear() it) or -1 with *fault filled; -32603 when out of memory. */
int pl_request_decode(const char *line, size_t len, struct pl_request *out, struct pl_fault *fault);
void pl_request_clear(struct pl_request *r);

/* The fault of a line longer than PL_LINE_MAX. */
void pl_fault_line_too_long(struct pl_fault *f);

/* Name of a method row ("lock"). */
const char *pl_method_name(enum pl_method m);

/* ---- writing lines; each ends with LF. NULL or kind NONE id writes null ---- */
void pl_fault_write(struct pl_buf *b, const struct pl_fault *f);
/* {"jsonrpc":"2.0","id":ID,"result":{  ... the caller writes members ...  then pl_reply_end() */
void pl_reply_begin(struct pl_writer *w, struct pl_buf *b, const struct pl_id *id);
void pl_reply_end(struct pl_writer *w);
/* {"jsonrpc":"2.0","id":ID,"error":{"code":C,"message":M,"data":{"name":N ... members ... then pl_error_end(); text NULL: the code's own */
void pl_error_begin(struct pl_writer *w, struct pl_buf *b, const struct pl_id *id, int code, const char *text);
void pl_error_end(struct pl_writer *w);
/* {"jsonrpc":"2.0","method":M,"params":{ ... ; ends with pl_reply_end() */
void pl_notification_begin(struct pl_writer *w, struct pl_buf *b, const char *method);
/* {"jsonrpc":"2.0","id":N,"method":M,"params":{ ... ; ends with pl_reply_end() */
void pl_request_begin(struct pl_writer *w, struct pl_buf *b, int64_t id, const char *method);

/* ---- what a client reads ---- */
struct pl_reply {
        struct pl_json *doc;            /* owned */
        int64_t id;                     /* 0 for a notification or id null */
        const char *method;             /* notification's name, else NULL */
        int code;                       /* 0: a result */
        const char *text;               /* error.message */
        const struct pl_json *body;     /* result, error.data (may be NULL) or params */
};
/* 0, or -EBADMSG when the line is no reply of this protocol, or -ENOMEM. Unknown members are ignored: newer daemons may add some. */
int pl_reply_decode(const char *line, size_t len, struct pl_reply *out);
void pl_reply_clear(struct pl_reply *r);

#endif
