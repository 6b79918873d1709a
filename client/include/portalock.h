/*
 * libportalock: file locks through the portalock daemon, for programs.
 *
 * The library opens the lock file (or takes one that is open), passes its descriptor to the daemon and gets a real flock(2) lock on it: programs that
 * never heard of portalock are excluded too, and the lock lives as long as the descriptor, even if the daemon dies. Waiting is fair (first come, first
 * served).
 *
 * Two ways to use it. Blocking: portalock_lock() and the like return when it is done. Event loop: portalock_lock_start() and the like return at once and
 * report through a callback; the loop waits for portalock_fd() to be ready for portalock_events(), at most portalock_timeout() milliseconds, and
 * then calls portalock_process(), from which all callbacks run (on Windows it waits for portalock_handle()). A blocking call is the other kind plus such a wait, so both may be mixed on one session.
 *
 * Threads: a session and its files belong to one thread at a time; the library starts no threads (on Windows it uses one of the system's pool while a request
 * has to wait to be sent), installs no signal handlers, keeps no global state and does not raise SIGPIPE. Fork: in a child of fork(2) without exec every call fails with PORTALOCK_E_FORKED; only portalock_close() and
 * portalock_disconnect() work there, and they close, nothing else.
 *
 * When the daemon dies or stops, or does not answer in time, the session goes on: our descriptors bear the locks. Another daemon is looked for, and
 * started if that is allowed, for PORTALOCK_RECONNECT_MS (in the environment; default 30000; 0: not at all); what is held is claimed there, what waits asks
 * again and keeps its place. Meanwhile requests may be begun as always, and have their timeouts. A lock that is gone when the daemon is back (it had been
 * broken, say) is lost: `lost` is called, portalock_mode() is 0, and a request under way for that file is PORTALOCK_E_LOST. A portalock_call() under way that
 * changes something fails with PORTALOCK_E_CONNECTION: nobody knows whether it was done. If no daemon is found in that time the session ends with that code:
 * what is locked stays locked until its file is closed, but nobody sees it.
 *
 * Windows: a named pipe carries no descriptors, so the daemon opens what portalock_open() names, and the lock (LockFileEx) is the daemon's: it ends with the
 * connection. When that breaks, what is held is lost at once (the callback `lost`; an upgrade under way is PORTALOCK_E_LOST), and nothing of it is locked
 * again unless you ask for it; only what waits goes on waiting, as above. What is about descriptors does not exist there: portalock_attach(),
 * portalock_lock_fd() and portalock_unlock_fd() give PORTALOCK_E_ARGUMENT, portalock_file_fd() and portalock_fd() -1, and PORTALOCK_DETACH has no use.
 *
 * Times are milliseconds. A function that returns int gives 0 or a negative PORTALOCK_E_... code, unless it says otherwise; portalock_error() then has the
 * details. Strings are UTF-8. Callbacks may start and cancel requests and close files, but not the file that a blocking call under way is about; they must
 * not call a blocking function of the same session, portalock_process() or portalock_disconnect().
 */
#ifndef PORTALOCK_H
#define PORTALOCK_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(_WIN32)       /* there portalock.def says what the DLL exports */
#define PORTALOCK_API __attribute__((visibility("default")))
#else
#define PORTALOCK_API
#endif

#define PORTALOCK_VERSION "0.1.0"

/*
 * Lock flags: the numbers of flock(2). Exactly one of SH and EX; NB: fail at once instead of waiting. DETACH, for an attached descriptor only: once granted
 * the lock lives with the descriptor's open file description alone, whatever becomes of the session; portalock_mode() stays 0, and closing the
 * descriptor or portalock_unlock_fd() ends it.
 */
enum { PORTALOCK_SH = 1, PORTALOCK_EX = 2, PORTALOCK_NB = 4, PORTALOCK_DETACH = 8 };

enum {
        PORTALOCK_E_LOCK_FAILED = -1,    /* NB or a timeout of 0, and somebody else has it (the recipe's LockException) */
        PORTALOCK_E_TIMED_OUT = -2,
        PORTALOCK_E_DEADLOCK = -3,       /* waiting would never end; what was held is still held */
        PORTALOCK_E_CANCELLED = -4,
        PORTALOCK_E_LOST = -5,           /* the lock was taken away */
        PORTALOCK_E_DENIED = -6,
        PORTALOCK_E_OS = -7,             /* the system refused: os_errno has errno (on Windows the nearest one), syscall the call */
        PORTALOCK_E_LIMIT = -8,          /* a limit of the daemon; text names it */
        PORTALOCK_E_SHUTTING_DOWN = -9,  /* the daemon is stopping */
        PORTALOCK_E_NOT_FOUND = -10,
        PORTALOCK_E_NO_DAEMON = -100,    /* no daemon can be reached or started: os_errno tells ENOENT, ECONNREFUSED and EACCES apart */
        PORTALOCK_E_CONNECTION = -101,   /* the daemon did not answer, or the connection broke; from portalock_process(): this session is of no more use */
        PORTALOCK_E_PROTOCOL = -102,     /* the peer does not speak our protocol, or does not know the method */
        PORTALOCK_E_ARGUMENT = -103,     /* the caller's mistake: text names it */
        PORTALOCK_E_NO_MEMORY = -104,
        PORTALOCK_E_FORKED = -105        /* this session belongs to the parent process */
};

/* One sentence about a code, without a final full stop. Static storage; never NULL. */
PORTALOCK_API const char *portalock_strerror(int code);

typedef struct portalock_session portalock_session;
typedef struct portalock_file portalock_file;

/* Who holds a lock, as the daemon sees it. Strings are owned by the session and valid until its next call. */
struct portalock_holder {
        int64_t pid;            /* 0: unknown */
        int64_t uid;            /* -1: unknown */
        const char *command;    /* the process; "" when unknown */
        const char *client;     /* as the program named itself in portalock_connect(); "" if it did not */
        int mode;               /* PORTALOCK_SH or PORTALOCK_EX */
        int64_t held_ms;        /* -1: unknown (an outsider) */
        bool outside;           /* not through this daemon: flock(1), another program */
};

/* One step of a deadlock: who waits, and for which file. */
struct portalock_cycle_step {
        int64_t pid, uid;       /* 0 and -1: unknown */
        const char *command, *client;
        const char *path;       /* "": unknown, or not shown to us */
        int mode;               /* that it waits for; 0: it waits for the next step's session to end, which runs under its lock */
};

struct portalock_error_info {
        int code;               /* PORTALOCK_E_...; 0 when the last call worked */
        int os_errno;           /* 0 when none */
        const char *syscall;    /* "open", "flock"; "" when none */
        const char *text;       /* one sentence without a final full stop */
        const struct portalock_holder *holders; /* with LOCK_FAILED and TIMED_OUT; at most 16 */
        int holder_count;
        const struct portalock_cycle_step *cycle;       /* with DEADLOCK: this session first, each waits for the next, the last for the first; NULL: unknown */
        int cycle_count;
};

/* ---- session ---- */

enum {
        PORTALOCK_CONNECT_NO_SPAWN = 1,         /* start no daemon; so does PORTALOCK_NO_SPAWN in the environment, unless it is 0 */
        PORTALOCK_CONNECT_CONCURRENT = 2        /* this session does other things while it waits (an event loop): no wait of it can be part of a deadlock. Without it
                                                   it is taken to do nothing, neither unlock, while any request of it waits: two files of one session that exclude
                                                   each other are a deadlock then */
};

/*
 * Connect to the daemon of this user (PORTALOCK_SOCKET, else as portalockd(1) says), starting it if none runs: PORTALOCKD in the environment, else
 * portalockd beside this program, else by PATH. A program that runs with more rights than its user (set-id) starts none. `client` names the program
 * in lists, beside its process (NULL: no name; 63 bytes count). Waits at most 10 seconds.
 *
 * *out is set whenever memory allows, also on failure, so that portalock_error() can be asked; it is to be freed with portalock_disconnect().
 * If the daemon does not start, the text of the error is what it said last.
 *
 * PORTALOCK_SESSION in the environment (lockctl run sets it for its command) is the session under whose lock this program runs: it is taken to wait
 * for the end of this one, so that deadlocks with what it holds are found. Anything but a session's id is ignored. A program that
 * starts others and waits for them may set it to its own portalock_session_id() for them; what runs in the background should not have it.
 */
PORTALOCK_API int portalock_connect(const char *client, int flags, portalock_session **out);

/*
 * The same without waiting: `done` runs once from portalock_process(), with 0 or an error code; the session can be used from then on. Only files may be opened
 * and attached before, while the daemon's answer to our greeting is under way, as it is when portalock_daemon_pid() is not 0.
 */
PORTALOCK_API int portalock_connect_start(const char *client, int flags, void (*done)(void *arg, portalock_session *s, int result), void *arg,
                                          portalock_session **out);

/*
 * End the session: all its locks are given up, what is under way is not reported any more. Files opened with it must be closed before. NULL is allowed.
 */
PORTALOCK_API void portalock_disconnect(portalock_session *s);

/*
 * Details of the last failed call or, within a callback, of the result it reports. Never NULL, also for a NULL session (then: out of memory);
 * valid until the next call on the session.
 */
PORTALOCK_API const struct portalock_error_info *portalock_error(const portalock_session *s);

/* The daemon's id of this session (0 before it is connected; usually the same after a reconnect), its pid (0: unknown) and version ("": unknown), and the socket's path. */
PORTALOCK_API int64_t portalock_session_id(const portalock_session *s);
PORTALOCK_API int64_t portalock_daemon_pid(const portalock_session *s);
PORTALOCK_API const char *portalock_daemon_version(const portalock_session *s);
PORTALOCK_API const char *portalock_socket(const portalock_session *s);

/* ---- event loops ---- */

enum { PORTALOCK_READABLE = 1, PORTALOCK_WRITABLE = 2 };

/*
 * What to wait for before portalock_process(): a descriptor (-1: none at the moment; always on Windows, see portalock_handle()), for what (READABLE, perhaps with WRITABLE), and how long at most
 * (-1: for ever, 0: not at all). All three change with every call on the session: ask again before each wait. While it connects, at first or after the
 * daemon has died, the descriptor is another one, which may even have the same number: a loop that remembers descriptors (epoll) must register it anew.
 */
PORTALOCK_API int portalock_fd(const portalock_session *s);
PORTALOCK_API int portalock_events(const portalock_session *s);
PORTALOCK_API int64_t portalock_timeout(const portalock_session *s);

/*
 * Windows: a HANDLE that takes the place of portalock_fd() and portalock_events(): an event, set when portalock_process() has something to do. It is the same
 * from portalock_connect_start() to portalock_disconnect(), whatever the state of the connection, and stays the session's: wait for it
 * (WaitForMultipleObjects, MsgWaitForMultipleObjects, RegisterWaitForSingleObject) for portalock_timeout() at most, and neither set, reset nor close
 * it. Only portalock_process() clears it. It may be set for nothing. NULL elsewhere: see portalock_fd().
 */
PORTALOCK_API void *portalock_handle(const portalock_session *s);

/*
 * Do what can be done without waiting, and run the callbacks of what has happened. Returns 0, or PORTALOCK_E_CONNECTION (or what else ended it) once the
 * session is of no more use; everything under way has been reported with that code by then.
 */
PORTALOCK_API int portalock_process(portalock_session *s);

/* Something that happened to a lock. Numbers are -1 and strings "" where the event has none. Valid during the callback only. */
struct portalock_event {
        const char *event;      /* "granted", "waiting", "released", "timed_out", "cancelled", "deadlock", "lost"; "overflow": `dropped` were left out */
        int64_t session, lock, pid, uid, token;
        const char *command, *client, *path;
        int mode;               /* PORTALOCK_SH or PORTALOCK_EX; 0: none */
        int64_t time_ms;        /* CLOCK_REALTIME */
        int64_t dropped;
        const char *json;       /* the notification's params, as docs/protocol.md has them */
};

/* Called for what nobody asked for at that moment; members may be NULL. What they are given is valid during the call only. */
struct portalock_callbacks {
        /* The lock of `f` was taken away; it is not locked any more. by: "outside", as who broke it is called, or "reclaim": it was gone when the
           daemon was back. When the connection breaks only on Windows ("the end of the connection"); elsewhere the descriptor bears the lock then as
           before. */
        void (*lost)(void *arg, portalock_file *f, const char *by);
        /* The lock request of `f` waits: at once, then when its position (1: next) or the holders change, at most five times a second. */
        void (*waiting)(void *arg, portalock_file *f, int64_t position, const struct portalock_holder *holders, int count);
        /* Something happened to a lock that is watched, see portalock_watch(). */
        void (*event)(void *arg, const struct portalock_event *e);
        /* The connection broke (false); what was held is held again, or was reported lost (true). Events between the two were missed. */
        void (*connection)(void *arg, bool connected);
};
/* *callbacks is copied; NULL: none. `waiting` takes effect with the next lock request. */
PORTALOCK_API void portalock_set_callbacks(portalock_session *s, const struct portalock_callbacks *callbacks, void *arg);

/* Be told of what happens to the file `path` (NULL: to all) through the callback `event`, until the session ends. Blocking. */
PORTALOCK_API int portalock_watch(portalock_session *s, const char *path);

/* ---- files ---- */

/*
 * Open the lock file `path`: created with mode 0666 & ~umask when missing, O_RDONLY as flock(1) does, a directory as it is. Nothing is locked yet.
 * *out is the caller's until portalock_close(), which must come before portalock_disconnect().
 */
PORTALOCK_API int portalock_open(portalock_session *s, const char *path, portalock_file **out);

/*
 * The same for a descriptor that is open already (not on Windows); it stays the caller's and must stay open until portalock_close(), which does not close it. A lock that its
 * open file description bears already is found, not waited for.
 */
PORTALOCK_API int portalock_attach(portalock_session *s, int fd, portalock_file **out);

/*
 * The descriptor that bears the lock. Of an opened file it is O_CLOEXEC, stays owned by the file, and may change during a lock request: when the lock file
 * was replaced meanwhile, or when the request was not answered (then -1 if the file cannot be opened again). On Windows always -1.
 */
PORTALOCK_API int portalock_file_fd(const portalock_file *f);

/*
 * Lock: flags are SH or EX, perhaps with NB and DETACH. Waits at most timeout_ms (-1: for ever; 0 as NB). Locking what is locked already is a relock, an upgrade or a
 * downgrade; a refused upgrade keeps its shared lock. After success the file of an opened `f` is the one that its path names now. Waits that a
 * signal interrupts go on. If the daemon does not answer in time (timeout_ms and a second; with NB ten seconds) the result is PORTALOCK_E_TIMED_OUT, with NB
 * PORTALOCK_E_CONNECTION, the descriptor of an opened file is replaced, and another connection is made.
 */
PORTALOCK_API int portalock_lock(portalock_file *f, int flags, int64_t timeout_ms);

/*
 * The same without waiting: `done` runs once from portalock_process() with the result, unless portalock_close() comes before. One request per file at a
 * time: a second one is PORTALOCK_E_ARGUMENT. When this returns an error `done` does not run.
 */
PORTALOCK_API int portalock_lock_start(portalock_file *f, int flags, int64_t timeout_ms, void (*done)(void *arg, portalock_file *f, int result), void *arg);

/* Take the request under way back. `done` still runs: with PORTALOCK_E_CANCELLED, or with what was decided before. Without a request it does nothing. */
PORTALOCK_API int portalock_lock_cancel(portalock_file *f);

/* PORTALOCK_SH or PORTALOCK_EX while locked, as far as is known; else 0. */
PORTALOCK_API int portalock_mode(const portalock_file *f);

/* The token of the lock held: grows with each new grant. 0 when not locked. */
PORTALOCK_API int64_t portalock_token(const portalock_file *f);

/* Unlock. What is not locked is no error. */
PORTALOCK_API int portalock_unlock(portalock_file *f);
PORTALOCK_API int portalock_unlock_start(portalock_file *f, void (*done)(void *arg, portalock_file *f, int result), void *arg);

/*
 * Give up the lock, by closing only, never by LOCK_UN: a child that inherited the descriptor keeps it. A request under way is taken back without
 * report. Waits for the daemon's answer, a second at most, so that the lock is free on return; with PORTALOCK_CONNECT_CONCURRENT, or
 * while the session looks for its daemon, it does not wait. NULL is allowed.
 */
PORTALOCK_API void portalock_close(portalock_file *f);

/* ---- a descriptor, in one call ---- */

/*
 * The recipe's lock(file, flags) and unlock(file): for a descriptor of your own, without a session. Not on Windows. The lock lives with the descriptor's open file
 * description and ends when that is closed or unlocked. portalock_lock_fd() connects (starting the daemon if need be), waits its turn with all
 * others, for ever without NB, and disconnects; it fails with PORTALOCK_E_NO_DAEMON rather than lock unfairly. portalock_unlock_fd() is
 * flock(fd, LOCK_UN); with PORTALOCK_E_OS errno tells why.
 */
PORTALOCK_API int portalock_lock_fd(int fd, int flags);
PORTALOCK_API int portalock_unlock_fd(int fd);

/* ---- everything else ---- */

/*
 * Any method of docs/protocol.md, with its params as JSON text (NULL: {}). `done` runs once from portalock_process(): result 0 with the reply's result as
 * JSON text, else an error code with NULL. When this returns an error `done` does not run.
 */
PORTALOCK_API int portalock_call(portalock_session *s, const char *method, const char *params_json, void (*done)(void *arg, int result, const char *json),
                                 void *arg);

/* The same with a wait of at most timeout_ms (-1: for ever). *json is to be freed by the caller with free(3); NULL on failure. */
PORTALOCK_API int portalock_call_wait(portalock_session *s, const char *method, const char *params_json, int64_t timeout_ms, char **json);

/* One row of a list: a lock held or waited for. Strings are valid during the callback only. */
struct portalock_row {
        const char *path;       /* "" when not shown to us */
        const char *state;      /* "held", "waiting", "outside" */
        int64_t lock, session, pid, uid;        /* -1 when it has none, or it is not shown to us: in a daemon for all users others' ids are not */
        const char *command, *client;
        int mode;
        int64_t token;          /* the same */
        int64_t age_ms;         /* held or waiting for so long; -1 unknown */
        int64_t timeout_ms, position;           /* waiters; -1 */
};
/*
 * What is held or waited for, file by file: holders, outside holders, then waiters in their order. `paths`: `count` of them; 0: all files.
 * A path that names no file has no locks. `row` must not use the session. Blocking.
 */
PORTALOCK_API int portalock_list(portalock_session *s, const char *const *paths, int count, void (*row)(void *arg, const struct portalock_row *row), void *arg);

/* The same as one JSON document {"locks":[...]}, members as docs/protocol.md has them; to be freed with free(3). */
PORTALOCK_API int portalock_list_json(portalock_session *s, const char *const *paths, int count, char **json);

#ifdef __cplusplus
}
#endif
#endif
