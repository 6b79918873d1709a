/*
 * The library's inside. Nothing waits but wait_until() in call.c.
 *
 * session.c    the session: accessors, what a loop needs, portalock_process(), the end
 * connect.c    from nothing to a greeted daemon, starting it if need be
 * reconnect.c  the connection broke: another daemon, and all as it was
 * conn.c       bytes and descriptors out, lines in
 * request.c    requests under way, each answered exactly once
 * call.c       any method; a blocking call is a request plus a wait
 * file.c       opened and attached files; lock.c their locks; direct.c a descriptor in one call; list.c what is held
 * notify.c     what the daemon says without being asked
 * error.c      the details of the last failure
 */
#ifndef CLIENT_INTERNAL_H
#define CLIENT_INTERNAL_H

#include "address.h"
#include "frame.h"
#include "message.h"
#include "portalock.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define HOLDERS_MAX 16
#define CALL_MAX_MS 10000       /* the longest a request that never queues may take */
#define NEVER INT64_MAX
#define REQUEST_CHAINS 64

#if defined(__GNUC__)
#define LIKE_PRINTF(format_at, words_at) __attribute__((format(printf, format_at, words_at)))
#else
#define LIKE_PRINTF(format_at, words_at)
#endif

#define REQUEST_FORGOTTEN 1      /* the session is being freed: free what `arg` owns, tell nobody, touch nothing else */

/*
 * Runs exactly once: code 0 with a result, an error that is set in the session, or REQUEST_FORGOTTEN; the reply is NULL when none came. May take reply->doc
 * over.
 */
typedef void request_done(void *arg, int code, struct pl_reply *reply);

/* The connection broke. True: it waits for the next one, and is sent again by its owner; false: it has failed. */
typedef bool request_broken(void *arg);

struct request {
        int64_t id, deadline_ms;
        request_done *done;
        request_broken *broken;         /* NULL: it fails; request_repeat: it asks again for what changes nothing */
        void *arg;
        char *line;                     /* with request_repeat, or held: as it is sent again; NULL: its owner does that */
        size_t line_len;
        bool held;                      /* not sent (any more), waits for a connection */
        struct request *next_failed;
        TAILQ_ENTRY(request) entry;
        LIST_ENTRY(request) of_chain;
};

/* A descriptor that travels with the byte at `offset` of the unsent ones. */
struct passed {
        size_t offset;
        int fd;
        bool owned;
        TAILQ_ENTRY(passed) entry;
};

enum session_state {
        SESSION_PAUSING,        /* connects again at resume_ms */
        SESSION_STARTING,       /* a daemon is being started; report_fd tells */
        SESSION_GREETING,       /* connected, hello is under way */
        SESSION_READY,
        SESSION_ENDED           /* ended_code and ended_text say why */
};

struct portalock_session {
        enum session_state state;
        int fd;                         /* -1: no connection */
        struct os_io *io;               /* what the system needs beside that (os_begin()); NULL: nothing */
        int64_t owner;                  /* the process that connected: a fork's child may only close */
        bool concurrent, may_spawn, in_process;
        int64_t parent;                 /* the session under which this program runs; 0: none */
        /* after it was connected once (reconnect.c) */
        int64_t reconnect_ms;           /* so long it looks for a daemon; 0: not at all */
        bool greeted, lost;             /* lost: not all is as it was before the connection broke */
        bool stopping;                  /* the daemon says that it ends: the connection counts as broken */
        int64_t ready_ms;               /* when all was as before the last time */
        unsigned flaps;                 /* how often in a row it broke soon after that */
        unsigned claims;                /* under way */
        unsigned closings;              /* grows when a file is closed: whoever walks over them begins anew */
        uint32_t jitter;
        struct watch *watches;
        struct pl_address address;
        /* while it connects */
        char client[PL_CLIENT_BYTES_MAX + 1];
        int64_t connect_deadline_ms, resume_ms, pause_ms;
        int report_fd;
        char words[400];                /* what the daemon says as it starts */
        size_t words_len;
        void (*connected)(void *arg, portalock_session *s, int result);
        void *connected_arg;
        /* the connection */
        struct pl_frame frame;
        struct pl_buf out;              /* unsent bytes from out_sent on */
        size_t out_sent, out_line;      /* out_line: where the line that is being written begins */
        TAILQ_HEAD(passed_list, passed) passed;
        TAILQ_HEAD(request_list, request) requests;     /* in the order in which they were begun */
        LIST_HEAD(, request) chains[REQUEST_CHAINS];    /* the same, by the remainder of their ids */
        struct request *failed;         /* no longer among them, and not told yet */
        int64_t earliest_ms;            /* no deadline of a request is before this */
        int64_t last_id, id, last_handle, again;     /* again: the id of the line that is being written, which is held */
        long long daemon_pid;
        char version[32];
        LIST_HEAD(, portalock_file) files;
        struct portalock_callbacks callbacks;
        void *callbacks_arg;
        /* the last failure */
        struct portalock_error_info error;
        struct portalock_holder holders[HOLDERS_MAX];
        char commands[HOLDERS_MAX][64], clients[HOLDERS_MAX][64];
        char text[512], syscall[32];
        struct portalock_cycle_step *cycle;     /* with the strings behind them */
        int ended_code, ended_errno;
        char ended_text[512];
};

struct lock_op;

struct watch {
        struct watch *next;
        char path[];                    /* "": all files */
};

struct portalock_file {
        struct portalock_session *session;
        int fd;                         /* -1: abandoned, or the system passes no descriptors */
        int64_t handle;                 /* then this tells the daemon which of the session's files it is */
        bool attached;                  /* the caller's descriptor */
        int64_t lock, token;            /* 0: not locked */
        int mode;
        bool unconfirmed;               /* held when the connection broke; this daemon has not yet said that it still is */
        int64_t claim;                  /* the request that asks; 0: none */
        char *path;                     /* absolute; NULL: attached */
        struct lock_op *op;             /* the lock request under way */
        LIST_HEAD(, unlock_op) unlocks; /* those under way */
        LIST_ENTRY(portalock_file) entry;
};

/* ---- error.c ---- */
int client_fail(struct portalock_session *s, int code, const char *format, ...) LIKE_PRINTF(3, 4);
int client_fail_os(struct portalock_session *s, int error, const char *syscall_name, const char *path);
int client_no_memory(struct portalock_session *s);
/* The error of a reply, holders included. */
int client_fail_reply(struct portalock_session *s, const struct pl_reply *r);
void client_worked(struct portalock_session *s);
/* 0, or the error that says why this session cannot be used; and why not even a file can be opened with it. */
int client_usable(struct portalock_session *s);
int client_may_open(struct portalock_session *s);
/* Holders of an error or of a notification into s->holders; how many. */
int client_take_holders(struct portalock_session *s, const struct pl_json *list);

/* ---- connect.c ---- */
/* Go as far as can be gone without waiting. */
void connect_step(struct portalock_session *s);

/* `result` is a failure of connecting, or 0. */
void connect_ended(struct portalock_session *s, int result);
/* Another try, after a pause that grows with each. */
void connect_again(struct portalock_session *s, bool at_once);

/* ---- reconnect.c ---- */
/* The connection is of no more use. What is under way fails, or waits for the next one. */
void reconnect_begin(struct portalock_session *s, int code, const char *text);
/* Connected and greeted again. */
void reconnect_resume(struct portalock_session *s);
/* Is there nothing left to do before this file's requests can be sent? */
bool reconnect_settled(const portalock_file *f);
/* The file is being closed while its claim is under way. */
void reconnect_closed(portalock_file *f);

/* ---- conn.c ---- */
/* Both: 0, or -1 when the connection is broken. */
int conn_flush(struct portalock_session *s);
int conn_receive(struct portalock_session *s);
/* The next line that came: 1 and *reply (to be cleared), 0 none, -EBADMSG not our protocol, -ENOMEM. */
int conn_next(struct portalock_session *s, struct pl_reply *reply);
/* Pass `fd` with the line that is being written. Owned descriptors are closed when sent. 0 or -1: no memory. */
int conn_pass(struct portalock_session *s, int fd);
/* What could not be sent at once must outlive its owner: duplicate the descriptors of the line. 0 or -errno. */
int conn_keep_passed(struct portalock_session *s);
void conn_close(struct portalock_session *s);

/* ---- members.c ---- */
int64_t integer_member(const struct pl_json *object, const char *name, int64_t fallback);
const char *string_member(const struct pl_json *object, const char *name);      /* "" when absent; borrowed */
/* PORTALOCK_EX or PORTALOCK_SH, as the member `mode` says. */
int mode_member(const struct pl_json *object, int fallback);

/* ---- request.c ---- */
/* Begin a line; the caller writes its params, then request_send() or request_drop(). */
void request_begin(struct portalock_session *s, struct pl_writer *w, const char *method);
/* The same for one that is held, under its old id. */
void request_begin_again(struct portalock_session *s, struct pl_writer *w, int64_t id, const char *method);
/*
 * Send it, with `fd` (borrowed) if that is not -1. `done` NULL: no answer is of interest. Returns its id, or a negative error code (then `done` does
 * not run). A broken connection is not an error here: `done` tells.
 */
int64_t request_send(struct portalock_session *s, struct pl_writer *w, int fd, int64_t deadline_ms, request_broken *broken, request_done *done, void *arg);
int64_t request_send_again(struct portalock_session *s, struct pl_writer *w, int fd, int64_t deadline_ms);
/* The first request of a connection: it alone is sent before it was answered. */
int64_t request_send_hello(struct portalock_session *s, struct pl_writer *w, int64_t deadline_ms, request_done *done, void *arg);
/* Register a request that its owner sends by request_begin_again() when it can. Its id, or a negative error code. */
int64_t request_hold(struct portalock_session *s, int64_t deadline_ms, request_broken *broken, request_done *done, void *arg);
bool request_is_held(struct portalock_session *s, int64_t id);
/* Its answer is somebody else's from now on. */
void request_redirect(struct portalock_session *s, int64_t id, request_done *done, void *arg);
/* Not to be answered any more. */
void request_forget(struct portalock_session *s, int64_t id);
/* Its answer must come by then. */
void request_expect(struct portalock_session *s, int64_t id, int64_t deadline_ms);
/* For those that change nothing: sent again as they are. */
bool request_repeat(void *arg);
/* The connection broke: those that cannot wait for another one, and those that are late, fail with E_CONNECTION and `text`. */
void request_interrupt(struct portalock_session *s, int64_t now_ms, const char *text);
/* Those that are held fail when their time is over. */
void request_expire(struct portalock_session *s, int64_t now_ms);
/* Send those that are held as lines. */
void request_send_held(struct portalock_session *s);
void request_drop(struct portalock_session *s);
/* Take back request `id`: its answer still comes, CANCELLED or what was decided before, and by answer_by_ms. `done` and the result: as request_send(). */
int64_t request_cancel(struct portalock_session *s, int64_t id, int64_t answer_by_ms, request_done *done, void *arg);
void request_answered(struct portalock_session *s, struct pl_reply *reply);
/* Is a request late? Recomputes earliest_ms. */
bool request_overdue(struct portalock_session *s, int64_t now_ms);
/* All are answered with the error `code`, whose details are set each time by s->ended_text. */
void request_fail_all(struct portalock_session *s, int code);
/* All are REQUEST_FORGOTTEN. */
void request_forget_all(struct portalock_session *s);

/* ---- session.c ---- */
/* The session is of no more use; what is under way is told so. */
void session_end(struct portalock_session *s, int code, const char *text);
void session_report_end(struct portalock_session *s);

/* ---- call.c ---- */
/* Process the session until *over. Everything under way ends some day, at the latest with the session. */
void wait_until(struct portalock_session *s, const bool *over);
/*
 * Send what was begun and wait for its answer at most timeout_ms (-1: for ever). repeats: it may be asked again should the connection break. 0 with
 * *reply (to be cleared), else the error is set.
 */
int call_wait(struct portalock_session *s, struct pl_writer *w, bool repeats, int64_t timeout_ms, struct pl_reply *reply);

/* ---- file.c ---- */
/* `path` made absolute, to be freed; NULL: the error is set. */
char *client_absolute(struct portalock_session *s, const char *path);

/* ---- lock.c ---- */
/* Exactly one of SH and EX, and nothing unknown. */
bool lock_flags_are_good(int flags);
/* The file whose lock request has this id; NULL: none. */
struct portalock_file *lock_waiting(struct portalock_session *s, int64_t request);
/* The connection broke: what the daemon has not answered is held. */
void lock_interrupted(portalock_file *f);
/* What the file must claim before anything else: true with the token and the mode. */
bool lock_to_claim(const portalock_file *f, int64_t *token, int *mode);
/* The claim was granted, or the lock is gone. */
void lock_claimed(portalock_file *f, const struct pl_reply *reply);
void lock_not_claimed(portalock_file *f, const char *by);       /* `by`: for the callback `lost` */
/* Send what is held and has nothing to claim first. */
void lock_send_held(portalock_file *f);
/* The file is being closed (its descriptor is already): give up its lock and its request; wait a little if `wait`. */
void lock_leave(portalock_file *f, bool wait);

/* ---- notify.c ---- */
void notified(struct portalock_session *s, const struct pl_reply *n);
/* Whatever the session holds is lost, all at once. */
void notify_all_lost(struct portalock_session *s, const char *by);

/* ---- os/: what differs between systems ---- */
int64_t os_now_ms(void);
int64_t os_process_id(void);
bool os_exists(const char *path);

/*
 * Can a descriptor be passed to the daemon? If not, the daemon opens what the lock names by path, descriptors of files are always -1 here, and what is held
 * ends with the daemon.
 */
bool os_passes_descriptors(void);

/* What the session's connection needs beside s->fd and s->report_fd, from before there is one to os_end(). 0 or -ENOMEM. */
int os_begin(struct portalock_session *s);
void os_end(struct portalock_session *s);
/* What portalock_handle() gives. */
void *os_handle(const struct portalock_session *s);
/* Wait until portalock_fd() is ready for portalock_events(), until deadline_ms, or until a signal comes. */
void os_wait(struct portalock_session *s, int64_t deadline_ms);
/* Bytes, with descriptor `pass` if that is not -1, over the connection: how many, or -errno. Neither waits. */
int64_t os_send(struct portalock_session *s, const char *data, size_t len, int pass);
/* 0: the other side is gone. */
int64_t os_receive(struct portalock_session *s, char *data, size_t len);
/* As os_receive(), from what os_spawn_daemon() gave. */
int64_t os_read_report(struct portalock_session *s, char *data, size_t len);
/* Close s->fd and s->report_fd, as far as they are open. */
void os_hang_up(struct portalock_session *s);
/* Start the daemon on the session's address. A descriptor from which it can be read, without waiting, what it says: READY, or its last words and the end;
   or an error code with the error set. */
int os_spawn_daemon(struct portalock_session *s);

/* Open a lock file by the rules of portalock_open(). A descriptor or -errno. */
int os_open(const char *path, bool for_writing);
void os_close(int fd);
bool os_is_open(int fd);
/* A duplicate with close-on-exec, or -errno. */
int os_duplicate(int fd);
/* Does `fd` still stand for what `path` names? */
bool os_is_current(int fd, const char *path);
/* Does the open file description bear a lock of flock(2), as far as the system tells? True when it does not. */
bool os_bears(int fd);
/* LOCK_UN: 0 or -errno. */
int os_unlock(int fd);
/* `path` made absolute, to be freed; NULL with errno. */
char *os_absolute(const char *path);

#endif
