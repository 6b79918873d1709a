/* Open file descriptions of one file, real or fake: what the contract of os/oslock.h is tried with. */
#ifndef DESCRIPTIONS_H
#define DESCRIPTIONS_H

void descriptions_begin(void);
void descriptions_end(void);
int description_open(void);     /* a new description */
int description_dup(int fd);    /* another descriptor of the same one */
void description_close(int fd);

#endif
