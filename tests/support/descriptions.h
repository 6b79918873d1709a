/* Open file descriptions of one file, real or fake: what the contract of os/oslock.h is tried with. */
#ifndef DESCRIPTIONS_H
#define DESCRIPTIONS_H

#include <stdbool.h>

void descriptions_begin(void);
void descriptions_end(void);
int description_open(void);     /* a new description */
int description_dup(int fd);    /* another descriptor of the same one */
void description_close(int fd);

/* Where systems differ in what is not of the contract. */
extern const struct description_system {
        bool duplicates;        /* is there description_dup()? */
        bool threads;           /* waits have threads, up to the bound; else all of them retry */
        int retry_max_ms;       /* the longest step between two tries */
} description_system;

#endif
