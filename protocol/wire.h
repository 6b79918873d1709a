/*
 * (Not called limits.h: on an include path that would hide the C library's.) Every number that daemon and client must agree on. Sizes are bytes, times are milliseconds.
 */
#ifndef PL_WIRE_H
#define PL_WIRE_H

#define PL_PROTOCOL_VERSION 1

#define PL_LINE_MAX 65536u          /* a request line without its LF */
#define PL_REPLY_MAX (1024u * 1024u) /* a reply line; a list page is at most PL_LIST_BYTES_MAX */
#define PL_DEPTH_MAX 128u           /* levels of JSON nesting */
#define PL_ID_BYTES_MAX 128u        /* a string used as a request id */
#define PL_PATH_BYTES_MAX 4096u     /* a path or label */
#define PL_INTEGER_MAX 9007199254740991LL /* 2^53-1: what every JSON reader keeps exactly */
#define PL_CLIENT_BYTES_MAX 63u     /* hello's `client` */
#define PL_HANDLE_MAX 2147483647LL

#define PL_FDS_UNCLAIMED_MAX 64u    /* descriptors a session may have queued */
#define PL_DEFERRED_MAX 256u        /* requests of a session that stand behind one whose file is opened off the loop, before reading pauses */
#define PL_FDS_RESERVE 64u          /* free descriptors the daemon keeps for work in hand */
#define PL_BACKLOG_BYTES_MAX (256u * 1024u) /* unsent replies before reading pauses */

#define PL_LIST_ROWS_DEFAULT 1000
#define PL_LIST_ROWS_MAX 4000
#define PL_LIST_BYTES_MAX (512u * 1024u)

#define PL_SESSIONS_MAX 20000u
#define PL_WAITING_PER_SESSION_MAX 100000u
#define PL_LOCKS_PER_SESSION_MAX 100000u
#define PL_WATCHES_PER_SESSION_MAX 64u

#define PL_CLIENT_GRACE_MS 1000     /* added to a timeout before the client gives up by itself */
#define PL_CLIENT_NB_MS 10000       /* how long the client waits for an answer that never queues */
#define PL_NOTIFY_INTERVAL_MS 200   /* at most five `waiting` notifications a second */
#define PL_RECLAIM_WINDOW_MS 5000
#define PL_FOLLOW_MS 1000           /* who found its file replaced gives back what it got, and then asks for the new one, within so long each */

#define PL_SOCKET_PATH_MAX 107u     /* sun_path without its NUL */

#endif
