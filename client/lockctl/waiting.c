/* "waiting for FILE: held by make[1234] (alice) for 3m12s, 2 ahead": on a terminal after a second, updated in place; with --verbose at once. */
#include "lockctl.h"

#include "os.h"
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 1000        /* short waits are nobody's business */
#define REFRESH_MS 1000

bool waiting_begin(struct waiting *w, const char *name, bool verbose, bool quiet)
{
        *w = (struct waiting){.name = name, .on_terminal = os_is_terminal(2), .at_once = verbose, .since_ms = os_now_ms(), .held_ms = -1};
        w->next_ms = w->on_terminal && !verbose ? w->since_ms + PATIENCE_MS : -1;
        if (!w->on_terminal && (!verbose || quiet))
                w->name = NULL;
        return w->name != NULL;
}

void waiting_update(struct waiting *w, int64_t position, const struct portalock_holder *holders, int count)
{
        w->position = position;
        w->told_at_ms = os_now_ms();
        w->held_ms = count > 0 ? holders[0].held_ms : -1;
        w->holder[0] = '\0';
        if (count > 0)
                describe_process(w->holder, sizeof w->holder, holders[0].command, holders[0].client, holders[0].pid, holders[0].uid);
        if (w->next_ms < 0 || w->shown)
                w->next_ms = w->told_at_ms;
}

static void compose(const struct waiting *w, char *out, size_t size, bool with_age)
{
        char age[32], held[64] = "", ahead[32] = "";

        if (with_age && w->held_ms >= 0) {
                describe_age(age, sizeof age, w->held_ms + os_now_ms() - w->told_at_ms);
                snprintf(held, sizeof held, " for %s", age);
        }
        if (w->position > 1)
                snprintf(ahead, sizeof ahead, ", %lld ahead", (long long)(w->position - 1));
        snprintf(out, size, "waiting for %s: held by %s%s%s", w->name, w->holder[0] != '\0' ? w->holder : "somebody else", held, ahead);
}

static void show_on_terminal(struct waiting *w)
{
        char line[sizeof w->line];
        char *text;

        compose(w, line, sizeof line, true);
        text = printable(line);
        if (text == NULL)
                return;
        /* One column stays free: a full line would wrap and could not be taken back. */
        fprintf(stderr, "\r\033[K%.*s", fit_columns(text, os_terminal_width() - 1), text);
        fflush(stderr);
        free(text);
        w->shown = true;
        w->next_ms = os_now_ms() + REFRESH_MS;
}

static void show_as_line(struct waiting *w)
{
        char line[sizeof w->line];

        w->next_ms = -1;
        compose(w, line, sizeof line, false);
        if (strcmp(line, w->line) == 0)
                return;
        memcpy(w->line, line, sizeof line);
        compose(w, line, sizeof line, true);
        complain("%s", line);
}

int64_t waiting_show(struct waiting *w)
{
        int64_t now = os_now_ms();

        if (w->name == NULL || w->told_at_ms == 0 || w->next_ms < 0)
                return -1;
        if (now >= w->next_ms) {
                if (w->on_terminal)
                        show_on_terminal(w);
                else
                        show_as_line(w);
        }
        return w->next_ms < 0 ? -1 : w->next_ms > now ? w->next_ms - now : 0;
}

void waiting_end(struct waiting *w)
{
        if (w->shown)
                fputs("\r\033[K", stderr);
        w->name = NULL;
        w->shown = false;
}
