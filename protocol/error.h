/*
 * Every error that travels: code, name, sentence. One table serves both sides and the documentation test.
 */
#ifndef PL_ERROR_H
#define PL_ERROR_H

#include <errno.h>

#ifndef ESTALE
#define ESTALE 10070    /* Windows' C library lacks what the protocol knows; the number is that of its sockets */
#endif

#define PL_ERRORS(X)                                                               \
        X(-32700, PARSE_ERROR, "not a JSON text of this protocol")                 \
        X(-32600, INVALID_REQUEST, "not a valid request")                          \
        X(-32601, METHOD_NOT_FOUND, "no such method")                              \
        X(-32602, INVALID_PARAMS, "invalid parameters")                            \
        X(-32603, INTERNAL_ERROR, "out of memory or an internal failure")          \
        X(1, LOCK_FAILED, "somebody else has the lock")                            \
        X(2, TIMED_OUT, "the time ran out before the lock was free")               \
        X(3, DEADLOCK, "waiting would never end")                                  \
        X(4, CANCELLED, "the request was cancelled")                               \
        X(5, LOST, "the lock was taken away")                                      \
        X(6, DENIED, "not permitted")                                              \
        X(7, OS_ERROR, "the operating system refused")                             \
        X(8, LIMIT, "a limit is reached")                                          \
        X(9, SHUTTING_DOWN, "the daemon is stopping")                              \
        X(10, NOT_FOUND, "no such lock")

enum pl_error {
        PL_OK = 0,
#define X(code, name, sentence) PL_E_##name = code,
        PL_ERRORS(X)
#undef X
};

/* The name of `code` ("LOCK_FAILED"), or "UNKNOWN". Static storage. */
const char *pl_error_name(int code);

/* One sentence for people about `code`. Static storage. */
const char *pl_error_sentence(int code);

/* The name of an errno value ("ENOENT"), or "E?" when unknown. Static storage. */
const char *pl_errno_name(int err);
/* What strerror(3) says or, where that has no words for it (Windows' old C library, for all of POSIX' later ones), its name. */
const char *pl_errno_text(int err);

/* The errno value for `name`; 0 when unknown. */
int pl_errno_value(const char *name);

#endif
