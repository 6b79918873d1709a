/* Other processes of a test: the test's own program in another role, started by main() with words. */
#ifndef TEST_PROCESS_H
#define TEST_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <windows.h>

struct process {
        HANDLE process, from;           /* what it says */
        HANDLE to;                      /* closed: it may end */
        DWORD pid;
};

/* This program with the words `role` and `path`. */
struct process process_start(const char *role, const char *path);
/* What it says next, a line without its end, within 20 seconds; fails the test otherwise. */
void process_line(struct process *p, char *line, size_t size);
/* As the task manager does it. */
void process_kill(struct process *p);
/* Let it end, and its exit code. */
int process_end(struct process *p);

/* In the other process: say a line; wait until the parent lets us end or has ended. */
void role_say(const char *line);
void role_wait(void);

/* Kill the process of that id and wait until it has ended. */
void kill_pid(int64_t pid);

#endif
