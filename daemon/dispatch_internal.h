/* Shared by the files of dispatch: dispatch.c (doors and the small methods), locking.c (lock, unlock, cancel), notices.c (waits told and logged). */
#ifndef DISPATCH_INTERNAL_H
#define DISPATCH_INTERNAL_H

#include "dispatch.h"

/* A `list` that waits for a fresh look at outsiders. */
struct pending_list {
        uint64_t client;
        struct pl_request request;
        struct pending_list *next;
};

struct dispatch {
        struct files *files;
        struct engine *engine;
        struct outside *outside;
        struct registry registry;
        struct listing listing;
        struct dispatch_options options;
        struct dispatch_hooks hooks;
        struct metrics metrics;
        struct pl_buf out;              /* one line at a time */
        struct pending_list *lists;
        size_t path_locks;              /* held by path: they end with the daemon */
        bool stopping;
        size_t notifying;               /* requests that want `waiting` notifications */
        int64_t wake_ms;
};

/* Send what is in d->out to the client and empty it. `wanted` false: only empty it. */
void dispatch_flush(struct dispatch *d, const struct client *c, bool wanted);
/* An error without further data; nothing is sent for a request without id. */
void dispatch_refuse(struct dispatch *d, const struct client *c, const struct pl_id *id, int code, const char *text);
void dispatch_refuse_member(struct dispatch *d, const struct client *c, const struct pl_id *id, const char *member, const char *text);
void dispatch_refuse_limit(struct dispatch *d, const struct client *c, const struct pl_id *id, const char *limit, const char *text);
void dispatch_refuse_os(struct dispatch *d, const struct client *c, const struct pl_id *id, const struct file_error *e, const char *path);

/* Notification `lost` to the owner of `g`. */
void dispatch_tell_lost(struct dispatch *d, const struct grant *g, const char *by);

/* locking.c */
void locking_lock(struct dispatch *d, struct client *c, const struct pl_request *r);
void locking_unlock(struct dispatch *d, struct client *c, const struct pl_request *r);
void locking_cancel(struct dispatch *d, struct client *c, const struct pl_request *r);
void locking_replied(struct dispatch *d, const struct table_effect *fx);
void locking_lost(struct dispatch *d, const struct table_effect *fx);
/* The request is over: nothing of it is left here. */
void locking_forget(struct dispatch *d, struct request *q);
/* The oldest descriptor of the client's queue; false when none is there. *fd may be a hole. */
bool locking_claim(struct client *c, int *fd);

/* notices.c */
void notices_waiting(struct dispatch *d, const struct table_effect *fx);
/* The queue of `key` has moved: those who want to know are told, at most five times a second each. */
void notices_moved(struct dispatch *d, struct table_key key);
void notices_granted(struct dispatch *d, const struct request *q, int64_t waited_ms);
void notices_tick(struct dispatch *d);

#endif
