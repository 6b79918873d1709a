/*
 * The daemon with faults: portalockd_fault is portalockd's own objects, linked so that some system calls go through here (-Wl,--wrap). Nothing in the
 * daemon knows of it. The environment variable PORTALOCK_FAULTS says what fails, as words separated by ";":
 *
 *      CALL:FAULT      every call         CALL:FAULT@N    the N-th call alone
 *      CALL:FAULT/N    each N-th call     CALL:FAULT@N+   the N-th call and all after it
 *
 * CALL is a function's name. FAULT is an error's name in small letters (eintr, emfile, enospc ...), or one of
 *      kill    (any) the process kills itself with SIGKILL right after the call has succeeded; calls that fail do not count
 *      short   (send, recvmsg, read, write) one byte is moved
 *      trunc   (recvmsg) no room for descriptors: what was sent is lost, and MSG_CTRUNC says so
 *      back    (uv_gettimeofday) the wall clock is a day earlier; forward: a day later. The monotonic clock knows nothing of it
 * A word that is not understood ends the program: a test must not pass because of a typing error.
 *
 * Memory: PORTALOCK_STARVE names a file that holds a `struct starvation` (support/starve.h), which the test writes while the daemon runs.
 */
#ifndef FAULTS_H
#define FAULTS_H

enum fault_call {
        CALL_FLOCK,
        CALL_SEND,
        CALL_RECVMSG,
        CALL_ACCEPT4,
        CALL_OPEN,
        CALL_OPENAT,
        CALL_DUP,
        CALL_READ,
        CALL_WRITE,
        CALL_FSYNC,
        CALL_FDATASYNC,
        CALL_RENAME,
        CALL_RENAMEAT,
        CALL_GETTIMEOFDAY,
        CALLS
};

enum fault_kind { FAULT_NONE, FAULT_ERROR, FAULT_SHORT, FAULT_TRUNC, FAULT_BACK, FAULT_FORWARD };

/* What happens to this call; FAULT_ERROR: `errno` is set. Counts it. */
enum fault_kind fault_now(enum fault_call call);

/* The call has succeeded: perhaps the last thing that this process does. */
void fault_succeeded(enum fault_call call);

#endif
