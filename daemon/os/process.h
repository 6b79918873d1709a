/* The daemon's own process. */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>

/* Before anything else is opened. */
void process_begin(void);

/* The arguments in UTF-8, of which there are *argc; `argv` are those that main() was given. NULL: they cannot be had. */
char **process_arguments(int *argc, char **argv);

/* A descriptor that whoever started us gave us (on Windows: a handle): ours alone from now on, not our children's. False: there is none of that number. */
bool process_adopt(int fd);
/* The end has begun: whoever still asks for it by a signal changes nothing. */
void process_ends(void);
/* Write the whole text to an adopted descriptor, as far as it takes it, and close it. */
void process_tell(int fd, const char *text);

#endif
