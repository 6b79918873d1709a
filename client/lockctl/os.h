/* What lockctl needs of the system; a folder for each below. */
#ifndef LOCKCTL_OS_H
#define LOCKCTL_OS_H

#include "portalock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t os_now_ms(void);        /* monotonic */
int64_t os_now_us(void);        /* the same clock */

/* ---- signals and waiting (events.c) ---- */

/* From now on TERM, INT, HUP, QUIT, USR1 and USR2 are events; those that are ignored stay so. Undone by os_release_signals(). */
void os_catch_signals(void);
void os_release_signals(void);

struct os_event {
        enum { OS_READABLE /* or writable */, OS_TIME, OS_SIGNAL, OS_CHILD_ENDED } kind;
        int number;             /* the signal, or the child's exit code: 128+N when signal N killed it */
        bool from_terminal;     /* a key: the whole foreground has got the signal, a child too */
};
/*
 * Wait for the next event: a signal, the end of `child` (0: none), session `s` (NULL: none) in want of portalock_process(), or timeout_ms (-1: none) over.
 */
void os_next_event(struct os_event *e, const portalock_session *s, int64_t timeout_ms, int64_t child);

/* End as one whom this signal killed. Does not return. */
void os_die_by(int signal_number);

/* ---- the command (child.c) ---- */

/* argv for os_spawn() and os_exec() that gives `line`, which is borrowed, to the shell. */
void os_shell(char *line, char *argv[4]);
/* Run argv[0] (by PATH) as a child that inherits descriptor `keep` (-1: none of ours). Its pid, or -errno. */
int64_t os_spawn(char **argv, int keep);
/* Become argv[0], which inherits the `count` descriptors of `keep`. Returns only on failure: -errno. */
int os_exec(char **argv, const int *keep, size_t count);
void os_kill(int64_t child, int signal_number);
/* End the child: it is asked to, or at_once made to. */
void os_end_command(int64_t child, bool at_once);
/* Set a variable of the environment that commands get. */
void os_set_variable(const char *name, const char *value);

/* Does a lock live with a descriptor, which a command inherits and a shell has? If not, it is taken by path, and is lockctl's alone. */
bool os_has_descriptors(void);

/* Has `fd` come from whoever started us, open? What we open ourselves is never inherited. */
bool os_is_inherited(int fd);
/* Shall commands get it? */
void os_set_inherited(int fd, bool inherited);

/* ---- without a daemon (direct.c) ---- */

/* The system call that locks, for people. */
extern const char os_lock_call[];

enum os_direct { OS_DIRECT_OK, OS_DIRECT_BUSY, OS_DIRECT_TIMED_OUT, OS_DIRECT_NO_FILE, OS_DIRECT_FAILED };
/*
 * flock(2) on `path`, which is opened as portalock_open() does, or on descriptor *fd if path is NULL. flags and timeout_ms as portalock_lock(). *fd with OK; *error
 * (errno) with NO_FILE and FAILED. Signals end the process as they do by default.
 */
enum os_direct os_lock_direct(const char *path, int flags, int64_t timeout_ms, int *fd, int *error);
/* LOCK_UN: 0 or errno. */
int os_unlock(int fd);
/* The path from the root, to be freed; NULL when that cannot be told. */
char *os_absolute(const char *path);
/* Open without locking: 0 or errno. */
int os_open_file(const char *path, int *fd);
void os_close_file(int fd);
/* Is it the name, in an error of the library, of the system call that opens files? */
bool os_is_open_call(const char *syscall);
/* What is wrong with a file, for whoever reads it. */
const char *os_error_text(int error);

/* ---- run --remove (remove.c) ---- */

/* What is there that cannot be removed as a lock file: "a directory", "a symbolic link"...; NULL: nothing, or a regular file. */
const char *os_kept_kind(const char *path);
enum os_removal {
        OS_REMOVED,
        OS_KEPT,                /* there is nothing of ours to remove: others have it locked, or the path names another file by now, or none */
        OS_REMOVAL_FAILED       /* *why says why */
};
/* Unlink `path` if it names the file that is locked by `fd`, and nobody else has that locked. `shared`: our lock is shared, and stays so at least. */
enum os_removal os_remove_locked(const char *path, int fd, bool shared, const char **why);

/* ---- people and terminals (system.c) ---- */

/* What `help run` has to add on this system. */
extern const char os_help_run[];

/* The last part of a path. */
const char *os_base_name(const char *path);

/* The user's name, or the number. */
void os_user_name(int64_t uid, char *out, size_t size);

bool os_is_terminal(int fd);
/* Columns of the terminal on stderr; 80 when unknown. */
int os_terminal_width(void);

/*
 * Descriptors 0 to 2 that came closed are taken, by something that neither reads nor writes: else the daemon's socket or the lock file would be
 * our stdout. The command finds them closed, as it should.
 */
void os_guard_stdio(void);

#endif
