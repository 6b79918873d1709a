#include "thread.h"

/* Windows delivers no signals to threads of ours: it starts one of its own for them. */
int thread_start(uv_thread_t *out, size_t stack_bytes, void (*entry)(void *arg), void *arg)
{
        uv_thread_options_t options = {.flags = stack_bytes != 0 ? UV_THREAD_HAS_STACK_SIZE : 0, .stack_size = stack_bytes};

        return uv_thread_create_ex(out, &options, entry, arg);
}
