/* Signals, for the parts that know Unix. */
#ifndef LOCKCTL_UNIX_EVENTS_H
#define LOCKCTL_UNIX_EVENTS_H

#include <signal.h>

/* Those blocked before we caught any: a command's. */
const sigset_t *os_signal_mask(void);

#endif
