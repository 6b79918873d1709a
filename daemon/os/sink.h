/* Where the log goes: standard error, whatever that is, without ever waiting for its reader. From the loop's thread. */
#ifndef SINK_H
#define SINK_H

#include <stddef.h>

/* Find out what standard error is. Before: written to as it comes. */
void sink_open(void);

/* How many of the bytes were taken, perhaps not all; -1 when none can be taken now. */
long sink_put(const char *data, size_t len);

#endif
