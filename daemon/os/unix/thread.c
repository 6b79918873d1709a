#include "thread.h"

#include <signal.h>

int thread_start(uv_thread_t *out, size_t stack_bytes, void (*entry)(void *arg), void *arg)
{
        uv_thread_options_t options = {.flags = stack_bytes > 0 ? UV_THREAD_HAS_STACK_SIZE : UV_THREAD_NO_FLAGS, .stack_size = stack_bytes};
        sigset_t all, old;
        int r;

        /* A new thread inherits the mask. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = uv_thread_create_ex(out, &options, entry, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return r;
}
