/*
 * The inside of the random walk: the world that its files share. Who calls whom: walk -> moves, restart, rest, turn -> engine -> replies, scene, circles -> naive -> world.
 *
 * A *wish* is a request without an answer, a *hold* a lock that somebody was told to have. They lie in plain lists, which everybody walks over; `live`
 * says which places are taken.
 */
#ifndef WALK_H
#define WALK_H

#include "fake_os.h"
#include "table.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILES 3
#define SESSIONS 5
#define HANDLES 2
#define PASSED 8                /* descriptions that clients pass */
#define OUTSIDERS 3
#define REQUESTS_MAX 256
#define HOLDS_MAX 256
#define SCENE_MAX 64

struct wish {
        bool live, shared, nonblock, detach, upgrade, duplicate, cancelled, saw_busy, saw_failure, saw_loss;
        bool broken;                    /* its lock is being taken away: it must be answered OUT_LOST in this very step */
        bool waited;                    /* was said to wait */
        bool claims;                    /* what was held before a restart, with `token` */
        uint64_t token;
        uint64_t cookie, session, bearer, order;
        int file;
        int64_t handle, since, deadline;
        enum table_mode mode, found;    /* found: what the passed description bore already */
};

struct hold {
        bool live, shared;
        bool broken;                    /* is being taken away: its session must be told in this very step */
        int file;
        uint64_t session, bearer, token;
        int64_t handle;
        enum table_mode mode;
        table_id lock;
};

/* What a waiter can be told of a file. */
struct scene {
        size_t holders, waiters;
        table_id locks[SCENE_MAX], requests[SCENE_MAX];
        enum table_mode modes[SCENE_MAX];
};

struct world {
        struct table *table;
        struct fake_os *os;
        int64_t now;
        uint64_t clock, last_token, last_cookie, last_order;
        struct wish wishes[REQUESTS_MAX];
        struct hold holds[HOLDS_MAX];
        size_t wish_count, hold_count;          /* none live from here on */
        size_t references[FAKE_DESCRIPTIONS];   /* the daemon's, per bearer */
        int shared_bearer[FILES];               /* as files.c keeps it; 0: none */
        int passed[PASSED];                     /* the clients' own references; 0: not open */
        enum table_mode left_over[FAKE_DESCRIPTIONS];   /* closed or detached with this lock on: it lives on with the client's own descriptor */
        int outsiders[OUTSIDERS];
        bool outsider_waits[OUTSIDERS];
        uint64_t session_ids[SESSIONS], last_session;
        uint64_t parents[SESSIONS];             /* 0: none */
        bool concurrent[SESSIONS];
        bool joined;                            /* in this step one became a holder that had not queued, or got a parent */
        struct {
                uint64_t op;
                int fresh;
        } fresh[REQUESTS_MAX];
        struct {
                uint64_t op, bearer;
        } ops[REQUESTS_MAX];                    /* asked of the system, not answered to the table */
        struct {
                bool live;
                uint64_t op, bearer;
                enum table_os_result result;
        } late[REQUESTS_MAX];                   /* tries whose answer is not told yet */
        struct scene scenes[FILES];             /* as the last step left them */
        bool steady;                            /* the system does not fail */
        uint64_t broken_bearer;                 /* of the lock that is being taken away; 0: the id was nobody's */
        table_id last_broken;                   /* an id of the past */
        bool left;                              /* an owner has left since the last grant: the next to one who waited is a hand-over */
        unsigned hand_overs;
        uint64_t steps, grants, refusals, timeouts, deadlocks, circles, joins, cancels, losses, breaks, races, duplicates, detached, turns, restarts;
        uint64_t seed, random;
        const uint8_t *bytes;                   /* where chance comes from in place of the seed: a fuzzer's input */
        size_t bytes_left;
        struct table_effects fx;                /* of the step at hand */
        bool trace;
};

extern struct world w;

/* ---- world.c: chance, and the end when something is wrong ---- */
void check(bool holds, const char *what);
void judge(bool holds, const struct wish *q, const char *what);         /* prints what is known of its file */
void fail(const char *what);
void print_file(int file);              /* what the model knows of it: for whoever must understand a failure */
uint64_t roll(uint64_t below);
bool chance(unsigned percent);
void begin(void);                       /* a new world, after `seed` or `bytes` were set in an empty one */
void end(void);
enum oslock_mode os_mode(enum table_mode mode);
struct table_key key_of(int file);
int open_file(int file);                /* a new description */
bool is_open(uint64_t bearer);          /* with the daemon or with a client; outsiders' never are */

/* ---- naive.c: the second model ---- */
struct wish *wish_of(uint64_t cookie);
struct hold *hold_of_lock(table_id lock);
bool same_owner(const struct hold *h, const struct wish *q);
struct hold *own_hold(const struct wish *q);            /* the lock that the wish's owner has; of a passed description any co-holder's */
struct hold *session_hold(const struct wish *q);        /* this very session's lock, not a co-holder's */
bool is_held(uint64_t bearer);
struct wish *trial_of(uint64_t bearer, uint64_t session);       /* of a passed description that bears SH and wants more; `session` 0: anybody's */
bool others_conflict(const struct wish *q);
bool stands_before(const struct wish *a, const struct wish *b);
struct wish *head_of(int file);
bool blocking_wish_waits(int file, const struct wish *but);
struct wish *upgrader_of(int file, const struct wish *but);
bool waits_already(const struct wish *q);               /* its owner has a request that waits: one more is refused */
void add_hold(const struct wish *q, const struct table_effect *fx, uint64_t bearer);

/* ---- replies.c: was that answer allowed? ---- */
void on_reply(const struct table_effect *fx);
void on_lost(const struct table_effect *fx);

/* ---- circles.c: who waits for whom ---- */
void judge_circles(void);               /* after every step */
void judge_deadlock(struct wish *q, size_t at);

/* ---- scene.c: who holds, who waits and who is told, after every step ---- */
void check_holds(void);
void judge_scenes(const struct table_effects *fx);
void judge_broken(void);                /* after an EV_BREAK */

/* ---- engine.c: the engine's part ---- */
void step(struct table_event *ev);
void tell_tries(unsigned percent);      /* answers to tries */
void tell_one_answer(void);             /* to a wait */
void settle(void);                      /* until nothing is left to tell */
bool loss_is_on_its_way(const struct hold *h);
bool op_under_way(uint64_t bearer);

/* ---- moves.c: what clients, outsiders and time do ---- */
void move(void);
void ask(struct wish probe);            /* `probe` says who wants what; the rest is filled in here */
void unlock(struct hold *h, bool close_only);
void break_hold(const struct hold *h);
void cancel(struct wish *q);
void end_session(uint64_t session);
void move_session_end(void);
void introduce(int slot);               /* a session's hello, perhaps */
void pass_time(int64_t ms);
struct hold *any_hold(void);            /* NULL: there is none */
struct wish *any_wish(void);

/* ---- rest.c: when nothing more happens ---- */
void judge_rest(void);
void judge_end(void);                   /* everybody leaves */

/* ---- restart.c ---- */
void restart(void);

/* ---- turn.c ---- */
void judge_outsiders_turn(void);

#endif
