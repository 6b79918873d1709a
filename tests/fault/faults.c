/* Which call fails: PORTALOCK_FAULTS, read once, before main(). */
#include "faults.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RULES_MAX 32

enum when { ALWAYS, ONCE, EACH, FROM };

struct rule {
        enum fault_call call;
        enum fault_kind kind;
        enum when when;
        bool kill;
        int error;
        unsigned long n;
        atomic_ulong count;
};

static struct rule rules[RULES_MAX];
static size_t rule_count;

static const char *const calls[CALLS] = {
        [CALL_FLOCK] = "flock", [CALL_SEND] = "send",   [CALL_RECVMSG] = "recvmsg", [CALL_ACCEPT4] = "accept4",     [CALL_OPEN] = "open",
        [CALL_OPENAT] = "openat", [CALL_DUP] = "dup",   [CALL_READ] = "read",       [CALL_WRITE] = "write",         [CALL_FSYNC] = "fsync",
        [CALL_FDATASYNC] = "fdatasync", [CALL_RENAME] = "rename", [CALL_RENAMEAT] = "renameat", [CALL_GETTIMEOFDAY] = "uv_gettimeofday",
};

static const struct {
        const char *name;
        enum fault_kind kind;
        int error;
} kinds[] = {
        {"kill", FAULT_NONE, 0},          {"short", FAULT_SHORT, 0},        {"trunc", FAULT_TRUNC, 0},        {"back", FAULT_BACK, 0},
        {"forward", FAULT_FORWARD, 0},    {"eintr", FAULT_ERROR, EINTR},    {"eagain", FAULT_ERROR, EAGAIN},  {"emfile", FAULT_ERROR, EMFILE},
        {"enfile", FAULT_ERROR, ENFILE},  {"enospc", FAULT_ERROR, ENOSPC},  {"edquot", FAULT_ERROR, EDQUOT},  {"eio", FAULT_ERROR, EIO},
        {"enomem", FAULT_ERROR, ENOMEM},  {"eacces", FAULT_ERROR, EACCES},  {"enolck", FAULT_ERROR, ENOLCK},  {"erofs", FAULT_ERROR, EROFS},
        {"econnaborted", FAULT_ERROR, ECONNABORTED},
};

static bool parse_when(struct rule *r, const char *text)
{
        char *end;

        if (*text == '\0')
                return true;
        r->when = *text == '/' ? EACH : ONCE;
        r->n = strtoul(text + 1, &end, 10);
        if (r->when == ONCE && *end == '+') {
                r->when = FROM;
                end++;
        }
        return (*text == '/' || *text == '@') && r->n > 0 && *end == '\0';
}

static bool parse(struct rule *r, char *word)
{
        char *fault = strchr(word, ':'), mark;
        size_t len, i;

        if (fault == NULL)
                return false;
        *fault++ = '\0';
        for (i = 0; i < CALLS && strcmp(word, calls[i]) != 0; i++)
                ;
        if (i == CALLS)
                return false;
        r->call = (enum fault_call)i;
        len = strcspn(fault, "@/");
        mark = fault[len];
        fault[len] = '\0';
        for (i = 0; i < sizeof kinds / sizeof kinds[0] && strcmp(fault, kinds[i].name) != 0; i++)
                ;
        fault[len] = mark;
        if (i == sizeof kinds / sizeof kinds[0])
                return false;
        r->kind = kinds[i].kind;
        r->error = kinds[i].error;
        r->kill = i == 0;
        return parse_when(r, fault + len);
}

__attribute__((constructor)) static void read_rules(void)
{
        const char *given = getenv("PORTALOCK_FAULTS");
        char text[1024], *word, *rest;

        if (given == NULL)
                return;
        snprintf(text, sizeof text, "%s", given);
        for (word = strtok_r(text, ";", &rest); word != NULL; word = strtok_r(NULL, ";", &rest)) {
                if (rule_count == RULES_MAX || !parse(&rules[rule_count], word)) {
                        fprintf(stderr, "portalockd_fault: PORTALOCK_FAULTS is wrong at '%s'\n", word);
                        _exit(64);
                }
                rule_count++;
        }
}

static bool is_due(struct rule *r)
{
        unsigned long count = atomic_fetch_add(&r->count, 1) + 1;

        switch (r->when) {
        case ALWAYS:
                return true;
        case ONCE:
                return count == r->n;
        case EACH:
                return count % r->n == 0;
        case FROM:
                return count >= r->n;
        }
        return false;
}

enum fault_kind fault_now(enum fault_call call)
{
        enum fault_kind kind = FAULT_NONE;
        size_t i;

        for (i = 0; i < rule_count; i++) {
                struct rule *r = &rules[i];

                if (r->call != call || r->kill || !is_due(r))
                        continue;
                kind = r->kind;
                if (kind == FAULT_ERROR)
                        errno = r->error;
        }
        return kind;
}

void fault_succeeded(enum fault_call call)
{
        size_t i;

        for (i = 0; i < rule_count; i++)
                if (rules[i].call == call && rules[i].kill && is_due(&rules[i]))
                        kill(getpid(), SIGKILL);
}
