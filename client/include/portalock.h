/*
 * libportalock: file locks through the portalock daemon, for programs.
 *
 * The library opens the lock file, passes its descriptor to the daemon and gets a real flock(2) lock on it: programs that never heard of
 * portalock are excluded too, and the lock lives as long as the descriptor, even if the daemon dies. Waiting is fair (first come, first served).
 *
 * Threads: one session belongs to one thread at a time; the library starts no threads, installs no signal handlers and has no global state.
 * Fork: in a child of fork(2) without exec every call fails with PORTALOCK_E_FORKED and only the close functions work (they close, nothing else).
 * Times are milliseconds. Every function that returns int gives 0 or a negative PORTALOCK_E... code; portalock_error() then has the details.
 */
#ifndef PORTALOCK_H
#define PORTALOCK_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PORTALOCK_API __attribute__((visibility("default")))
#else
#define PORTALOCK_API
#endif

#define PORTALOCK_VERSION "0.1.0"

/* Lock flags: the numbers of flock(2). Exactly one of SH and EX; NB: fail at once instead of waiting. */
enum { PORTALOCK_SH = 1, PORTALOCK_EX = 2, PORTALOCK_NB = 4 };

enum {
        PORTALOCK_E_LOCK_FAILED = -1,    /* LOCK_NB, and somebody else has it (the recipe's LockException) */
        PORTALOCK_E_TIMED_OUT = -2,
        PORTALOCK_E_DEADLOCK = -3,       /* waiting would never end */
        PORTALOCK_E_CANCELLED = -4,
        PORTALOCK_E_LOST = -5,           /* the lock was taken away */
        PORTALOCK_E_DENIED = -6,
        PORTALOCK_E_OS = -7,             /* the system refused: os_errno has errno, syscall the call */
        PORTALOCK_E_LIMIT = -8,
        PORTALOCK_E_SHUTTING_DOWN = -9,
        PORTALOCK_E_NOT_FOUND = -10,
        PORTALOCK_E_NO_DAEMON = -100,    /* no daemon can be reached or started */
        PORTALOCK_E_CONNECTION = -101,   /* the connection broke, or the daemon did not answer in time: this session is of no more use */
        PORTALOCK_E_PROTOCOL = -102,     /* the peer does not speak our protocol */
        PORTALOCK_E_ARGUMENT = -103,     /* the caller's mistake: text names it */
        PORTALOCK_E_NO_MEMORY = -104,
        PORTALOCK_E_FORKED = -105        /* this session belongs to the parent process */
};

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

struct portalock_error_info {
        int code;               /* PORTALOCK_E_...; 0 when the last call worked */
        int os_errno;           /* 0 when none */
        const char *syscall;    /* "open", "flock"; "" when none */
        const char *text;       /* one sentence without a final full stop; valid until the next call on the session */
        const struct portalock_holder *holders; /* with LOCK_FAILED and TIMED_OUT; at most 16 */
        int holder_count;
};

/* PORTALOCK_NO_SPAWN in the environment has the same effect as the flag. */
enum { PORTALOCK_CONNECT_NO_SPAWN = 1 };

/*
 * Connect to the daemon of this user (PORTALOCK_SOCKET, else as portalockd(1) says), starting it if none runs: portalockd beside this
 * program or library, else in PATH, or PORTALOCKD in the environment. `client` names the program in lists beside its process (NULL: no
 * name; only the first 63 bytes count). *out is
 * set whenever memory allows, also on failure, so that portalock_error() can be asked; free it with portalock_disconnect().
 */
PORTALOCK_API int portalock_connect(const char *client, int flags, portalock_session **out);

/* End the session: all its locks are given up. Files opened with it must be closed before. NULL is allowed. */
PORTALOCK_API void portalock_disconnect(portalock_session *s);

/* Details of the last failed call. Never NULL; valid until the next call on the session. */
PORTALOCK_API const struct portalock_error_info *portalock_error(const portalock_session *s);

/* The daemon's id of this session, its pid (0: unknown) and version ("" unknown), and the socket's path in use. */
PORTALOCK_API int64_t portalock_session_id(const portalock_session *s);
PORTALOCK_API int64_t portalock_daemon_pid(const portalock_session *s);
PORTALOCK_API const char *portalock_daemon_version(const portalock_session *s);
PORTALOCK_API const char *portalock_socket(const portalock_session *s);

/*
 * Open the lock file `path` (created with mode 0666 & ~umask when missing; a directory is opened as it is; O_RDONLY as flock(1) does). Nothing is locked yet.
 * The file belongs to the caller until portalock_close(), which must come before portalock_disconnect().
 */
PORTALOCK_API int portalock_open(portalock_session *s, const char *path, portalock_file **out);

/*
 * The descriptor that bears the lock, O_CLOEXEC; stays owned by the file. It may change during portalock_lock(): when the lock file was replaced
 * meanwhile, or when the connection broke (then -1 if the file cannot be opened again).
 */
PORTALOCK_API int portalock_file_fd(const portalock_file *f);

/*
 * Lock: flags are SH or EX, perhaps with NB. Waits at most timeout_ms (-1: for ever; 0 as NB). Locking what is locked already is a relock, an
 * upgrade or a downgrade; a refused upgrade keeps its shared lock. After success the file is the one that `path` names now. Interrupted waits (EINTR) go on.
 */
PORTALOCK_API int portalock_lock(portalock_file *f, int flags, int64_t timeout_ms);

/* As above; `interrupted` (may be NULL) is asked whenever a signal handler has run during the wait: true withdraws the request: PORTALOCK_E_CANCELLED. */
PORTALOCK_API int portalock_lock_interruptible(portalock_file *f, int flags, int64_t timeout_ms, bool (*interrupted)(void *arg), void *arg);

/* The token of the lock held: grows with each new grant. 0 when not locked. */
PORTALOCK_API int64_t portalock_token(const portalock_file *f);

/* Unlock. What is not locked is no error. */
PORTALOCK_API int portalock_unlock(portalock_file *f);

/* Close the descriptor and give the lock up by closing only, never LOCK_UN: a child that inherited the descriptor keeps the lock. NULL is allowed. */
PORTALOCK_API void portalock_close(portalock_file *f);

/*
 * Any method of the protocol, with its params as JSON text (NULL: {}). *json becomes the result as JSON text, to be freed by the caller with free(3).
 * Waits at most timeout_ms (-1: for ever).
 */
PORTALOCK_API int portalock_call_wait(portalock_session *s, const char *method, const char *params_json, int64_t timeout_ms, char **json);

/* One row of a list: a lock held or waited for. Strings are valid during the callback only. */
struct portalock_row {
        const char *path;       /* "" when not shown to us */
        const char *state;      /* "held", "waiting", "outside" */
        int64_t lock, session, pid, uid;        /* -1 when it has none */
        const char *command, *client;
        int mode;
        int64_t token;          /* -1 when it has none */
        int64_t age_ms;         /* held or waiting for so long; -1 unknown */
        int64_t timeout_ms, position;           /* waiters; -1 */
};
/*
 * What is held or waited for, file by file: holders, outside holders, then waiters in their order. `paths`: `count` of them; 0: all files.
 * A path that names no file has no locks. `row` must not use the session.
 */
PORTALOCK_API int portalock_list(portalock_session *s, const char *const *paths, int count, void (*row)(void *arg, const struct portalock_row *row), void *arg);

/* The same as one JSON document {"locks":[...]}, members as docs/protocol.md has them; to be freed with free(3). */
PORTALOCK_API int portalock_list_json(portalock_session *s, const char *const *paths, int count, char **json);

#ifdef __cplusplus
}
#endif
#endif
