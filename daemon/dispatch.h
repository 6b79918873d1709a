/*
 * Requests to events, outcomes to replies. Everything that is generic about a method - its params, descriptors, limits - has been or is
 * checked here; what is decided about locks is the table's business.
 */
#ifndef DISPATCH_H
#define DISPATCH_H

#include "account.h"
#include "engine.h"
#include "listing.h"
#include "metrics.h"
#include "outside.h"
#include "registry.h"

struct dispatch;

struct dispatch_hooks {
        void (*send)(struct session *s, const char *data, size_t len);
        /* A reply was lost: the session is to end, later. */
        void (*fail)(struct session *s, const char *reason);
        /* One more piece of work for this session in this turn of the loop? If not: dispatch_go_on() in the next turn. */
        bool (*take_share)(struct session *s);
        void (*again)(struct session *s);
        /* dispatch_is_full() has ended: its lines may come again. */
        void (*resume)(struct session *s);
        /* Has the client so many unread replies that it is better spared what can wait? */
        bool (*clogged)(const struct session *s);
        /* Somebody entitled has asked the daemon to stop. */
        void (*stop)(void *arg);
        /* Call dispatch_tick() at that time (engine's clock); a later call replaces an earlier one. */
        void (*wake_at)(void *arg, int64_t ms);
        void *arg;
};

struct dispatch_options {
        int64_t own_uid;
        int64_t log_waits_ms;   /* a wait longer than this is logged */
        size_t sessions_max;
        struct accounts *accounts;      /* not NULL: every user is served, and what he has is counted here */
        bool descriptors;       /* they travel on this system */
};

struct dispatch *dispatch_create(struct files *files, const struct dispatch_options *options, const struct dispatch_hooks *hooks);
/* The parts that report back to it; before the first session. */
void dispatch_attach(struct dispatch *d, struct engine *engine, struct outside *outside);
void dispatch_destroy(struct dispatch *d);

/* ---- sessions ---- */
/* A client, or NULL when there are too many or memory is out (text says which). */
struct client *dispatch_open(struct dispatch *d, struct session *s, const struct peer *peer, const char **text);
/* What its user has; NULL: that is not counted. */
struct account *dispatch_account(const struct client *c);
/* A whole line, without its LF. */
void dispatch_line(struct dispatch *d, struct client *c, const char *line, size_t len);
/* So many of its requests stand behind one that is looked up off the loop that no more lines must come. */
bool dispatch_is_full(const struct client *c);
/* What it had to leave when its share of the turn was used up. */
void dispatch_go_on(struct dispatch *d, struct client *c);
/* Nobody reads its replies any more: what only answers is not carried out. */
void dispatch_gone(struct client *c);
void dispatch_long_line(struct dispatch *d, struct client *c);
/* May a descriptor be received for it, as far as free ones go? */
bool dispatch_has_room(const struct dispatch *d, const struct client *c);
/* A descriptor arrived (or a hole). False: too many are unclaimed, or there is no memory: the session must end; the descriptor is closed. */
bool dispatch_descriptor(struct dispatch *d, struct client *c, int fd);
/* The session is over: its requests end, its locks are given back in shares. True: `c` is gone; else to be called again in the session's next turn. */
bool dispatch_end(struct dispatch *d, struct client *c);
/* The same, or the rest of it, at once. */
void dispatch_close(struct dispatch *d, struct client *c);

/* ---- what the parts report ---- */
void dispatch_report(void *arg, const struct table_effect *fx);         /* for the engine */
extern const struct outside_hooks dispatch_outside_hooks;               /* for outside; its argument is the dispatch */
void dispatch_tick(struct dispatch *d);

/* Answer every waiter SHUTTING_DOWN, tell the owners of locks by path that they are lost. New locks are refused from now on. */
void dispatch_stop(struct dispatch *d, const char *by);
size_t dispatch_sessions(const struct dispatch *d);

#endif
