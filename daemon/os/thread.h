/* Threads beside the loop's. The process's signals are the loop's alone: none is delivered to these. */
#ifndef THREAD_H
#define THREAD_H

#include <stddef.h>
#include <uv.h>

/*
 * As uv_thread_create(): 0, or a negative UV code and no thread. stack_bytes 0: as much as the system gives by default. All signals are blocked in it
 * from its first instruction on; it may unblock one that is meant for it alone.
 */
int thread_start(uv_thread_t *out, size_t stack_bytes, void (*entry)(void *arg), void *arg);

#endif
