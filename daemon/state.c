/*
 * The file is one line: "portalock-bound 1 NUMBER CHECKSUM". What is not exactly what we would write for that number is damaged, and not believed.
 *
 * The new bound is ten seconds ahead of the clock. If the numbers are ahead of the clock already (it was set back, or we were killed a moment ago) they
 * grow by one each, and a million is as far: or a daemon killed in a loop would drive its numbers into the future by ten seconds a round.
 *
 * A bound in a future that cannot be (a clock was wrong then, or is now) is minded all the same, for such numbers have been given. Not so one near the
 * end of all numbers, 2^53: the clock is not believed beyond TABLE_CLOCK_MAX, so there it takes more grants to get there than anybody can ask for.
 */
#include "state.h"

#include "lane.h"
#include "log.h"
#include "statefile.h"
#include "table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define AHEAD_US 10000000u      /* how far the bound is ahead of the clock */
#define AHEAD_NUMBERS 1000000u  /* or of the numbers */
#define HOLD_MS 100             /* what is sent is held back no longer than this */
#define START_MS 1000           /* the start waits no longer than this for the file */
#define AGAIN_MS 10000          /* after a failure */
#define FUTURE_US (366ull * 86400 * 1000000)

/* What the lane works on. Lives on when the state is gone and the file hangs. */
struct state_job {
        struct lane_job job;
        struct state *state;            /* the loop's; NULL: gone */
        struct statefile file;
        bool read;                      /* before it writes */
        bool last;                      /* lower than what is there: as good if a crash of the system leaves that. Whoever stops need not wait for a disk */
        uint64_t clock_us, found, bound;
        int read_error, error;          /* 0 or -errno */
        const char *read_step, *step;
};

struct state {
        uv_loop_t *loop;
        struct lane *lane;
        struct state_options options;
        struct state_job *job;
        uv_timer_t timer;               /* of the start, then of a hold */
        uint64_t floor, bound, renew_at, last, clock_us;
        uint64_t again_ms;              /* not before this time after a failure */
        bool nowhere;                   /* there is no place for a file */
        bool begun;                     /* the first bound has been written, or the start waits no more */
        bool writing, holding;
        bool unguarded;                 /* numbers above the bound may have been seen */
};

static uint64_t checksum(const char *text)
{
        uint64_t sum = 14695981039346656037u;  /* FNV-1a */

        for (; *text != '\0'; text++)
                sum = (sum ^ (unsigned char)*text) * 1099511628211u;
        return sum;
}

static void render(char out[STATEFILE_TEXT_MAX], uint64_t bound)
{
        int len = snprintf(out, STATEFILE_TEXT_MAX, "portalock-bound 1 %" PRIu64, bound);

        snprintf(out + len, STATEFILE_TEXT_MAX - (size_t)len, " %016" PRIx64 "\n", checksum(out));
}

static bool parse(const char *text, uint64_t *bound)
{
        static const char head[] = "portalock-bound 1 ";
        char expected[STATEFILE_TEXT_MAX];
        uint64_t n;

        if (strncmp(text, head, sizeof head - 1) != 0)
                return false;
        n = strtoull(text + sizeof head - 1, NULL, 10);
        render(expected, n);
        if (strcmp(text, expected) != 0 || n > TABLE_CLOCK_MAX + (TABLE_NUMBER_MAX - TABLE_CLOCK_MAX) / 2)
                return false;
        *bound = n;
        return true;
}

static uint64_t max(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}

static uint64_t ahead(uint64_t last, uint64_t clock_us)
{
        return max(last + AHEAD_NUMBERS, clock_us + AHEAD_US);
}

static void read_bound(struct state_job *j)
{
        char text[STATEFILE_TEXT_MAX];
        int len = statefile_read(&j->file, text, &j->read_step);

        j->read_error = len < 0 ? len : 0;
        if (len < 0 || (strlen(text) == (size_t)len && parse(text, &j->found)))
                return;
        j->read_error = -EBADMSG;
}

static void work(struct lane_job *job)
{
        struct state_job *j = (struct state_job *)job;
        char text[STATEFILE_TEXT_MAX];

        if (j->read) {
                read_bound(j);
                j->bound = ahead(j->found, j->clock_us);
        }
        render(text, j->bound);
        j->error = statefile_write(&j->file, text, !j->last, &j->step);
}

static void write_bound(struct state *s, uint64_t bound)
{
        s->writing = true;
        s->job->bound = bound;
        s->job->last = bound < s->bound;
        /* A lower one counts from now on: nobody knows when it stands there. */
        if (bound < s->bound)
                s->bound = s->renew_at = bound;
        lane_submit(s->lane, &s->job->job);
}

static void hold(struct state *s, bool on)
{
        if (s->holding == on)
                return;
        s->holding = on;
        if (!on)
                uv_timer_stop(&s->timer);
        s->options.hold(s->options.arg, on);
}

static const char *reason_of(const char *step, int error)
{
        char text[128];

        if (error == -EBADMSG)
                return log_quote("damaged");
        snprintf(text, sizeof text, "%s: %s", step, strerror(-error));
        return log_quote(text);
}

/* Said once, until it is over. */
static void unguard(struct state *s, const char *reason)
{
        if (!s->unguarded)
                log_event(LOG_WARNING, "tokens_unguarded", "folder=%s file=%s reason=%s effect=%s", log_quote(s->job->file.folder), s->job->file.name, reason,
                          log_quote("after a crash tokens go on by the clock alone"));
        s->unguarded = true;
        hold(s, false);
}

static void on_held_long(uv_timer_t *timer)
{
        struct state *s = timer->data;

        unguard(s, log_quote(s->begun ? "takes long to write" : "takes long to read"));
        s->begun = true;
}

/* What the first look has found. */
static void learn(struct state *s)
{
        const struct state_job *j = s->job;

        s->floor = j->found;
        s->last = max(s->last, s->floor);
        if (j->read_error != 0)
                log_event(j->read_error == -ENOENT ? LOG_INFO : LOG_WARNING, "tokens_by_clock", "folder=%s file=%s reason=%s", log_quote(j->file.folder),
                          j->file.name, reason_of(j->read_step, j->read_error));
        else if (j->found > j->clock_us + FUTURE_US)
                log_event(LOG_WARNING, "tokens_ahead", "folder=%s bound=%" PRIu64 " effect=%s", log_quote(j->file.folder), j->found,
                          log_quote("the clock is, or was, far from the truth; tokens go on from where they were"));
        if (s->begun && s->floor > 0)
                s->options.raise(s->options.arg, s->floor);
        s->begun = true;
}

static void settle(struct state *s)
{
        uint64_t used = max(s->last, s->clock_us);

        s->bound = s->job->bound;
        s->renew_at = s->bound > used ? used + (s->bound - used) / 2 : s->bound;
        if (s->last > s->bound)
                return;         /* outrun meanwhile */
        if (s->unguarded)
                log_event(LOG_INFO, "tokens_guarded", "folder=%s", log_quote(s->job->file.folder));
        s->unguarded = false;
        hold(s, false);
}

static void done(struct lane_job *job)
{
        struct state_job *j = (struct state_job *)job;
        struct state *s = j->state;

        if (s == NULL) {
                free(j);
                return;
        }
        s->writing = false;
        if (j->read)
                learn(s);
        j->read = false;
        if (j->error != 0) {
                s->again_ms = uv_now(s->loop) + AGAIN_MS;
                unguard(s, reason_of(j->step, j->error));
                return;
        }
        settle(s);
        if (s->last > s->renew_at)
                write_bound(s, ahead(s->last, s->clock_us));
}

void state_drawn(struct state *s, uint64_t number, uint64_t clock_us)
{
        s->last = number;
        s->clock_us = clock_us;
        if (s->nowhere || number <= s->renew_at)
                return;
        if (!s->writing && (!s->unguarded || uv_now(s->loop) >= s->again_ms))
                write_bound(s, ahead(number, clock_us));
        if (number > s->bound && !s->unguarded && !s->holding) {
                hold(s, true);
                uv_timer_start(&s->timer, on_held_long, HOLD_MS, 0);
        }
}

void state_finish(struct state *s)
{
        if (!s->nowhere && !s->unguarded && !s->writing && s->last > 0 && s->last < s->bound)
                write_bound(s, s->last);
}

bool state_is_busy(const struct state *s)
{
        return s->writing;
}

uint64_t state_floor(const struct state *s)
{
        return s->floor;
}

static void begin(struct state *s)
{
        s->writing = true;
        s->job->read = true;
        lane_submit(s->lane, &s->job->job);
        uv_timer_start(&s->timer, on_held_long, START_MS, 0);
        while (!s->begun)
                uv_run(s->loop, UV_RUN_ONCE);
        uv_timer_stop(&s->timer);
}

struct state *state_create(uv_loop_t *loop, struct lane *lane, const struct state_options *options, uint64_t clock_us)
{
        struct state *s = calloc(1, sizeof *s);
        struct state_job *j = calloc(1, sizeof *j);

        if (s == NULL || j == NULL) {
                free(s);
                free(j);
                return NULL;
        }
        *s = (struct state){.loop = loop, .lane = lane, .options = *options, .job = j, .clock_us = clock_us};
        *j = (struct state_job){.job = {.work = work, .done = done}, .state = s, .clock_us = clock_us};
        uv_timer_init(loop, &s->timer);
        s->timer.data = s;
        s->nowhere = !statefile_place(&j->file, options->folder, options->system);
        snprintf(j->file.name, sizeof j->file.name, "tokens-%016" PRIx64, checksum(options->socket));
        if (s->nowhere)
                log_event(LOG_WARNING, "tokens_by_clock", "reason=%s", log_quote("neither --state-dir nor XDG_STATE_HOME nor HOME names a folder"));
        else
                begin(s);
        return s;
}

static void timer_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void state_destroy(struct state *s)
{
        if (s == NULL)
                return;
        s->job->state = NULL;
        if (!s->writing)
                free(s->job);
        uv_close((uv_handle_t *)&s->timer, timer_closed);
}
