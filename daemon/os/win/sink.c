/*
 * Files are written at once. A console or pipe may make its writer wait for whoever reads it, and neither can be written without blocking; so these have a
 * thread, which writes what lies in a ring, and what finds no room in it is not taken.
 */
#include "sink.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include <windows.h>

#define RING_BYTES (64 * 1024)
#define DRAIN_MS 500

static struct {
        HANDLE out;
        bool has_thread;
        uv_mutex_t mutex;
        uv_cond_t filled;
        size_t head, count;
        char bytes[RING_BYTES];
} sink = {.out = NULL};

static void write_main(void *arg)
{
        char piece[4096];
        DWORD written;
        size_t n;

        (void)arg;
        for (;;) {
                uv_mutex_lock(&sink.mutex);
                while (sink.count == 0)
                        uv_cond_wait(&sink.filled, &sink.mutex);
                n = sink.count < sizeof piece ? sink.count : sizeof piece;
                if (n > RING_BYTES - sink.head)
                        n = RING_BYTES - sink.head;
                memcpy(piece, sink.bytes + sink.head, n);
                uv_mutex_unlock(&sink.mutex);
                if (!WriteFile(sink.out, piece, (DWORD)n, &written, NULL))
                        return;         /* nobody reads it any more: the ring fills, and then nothing is taken */
                uv_mutex_lock(&sink.mutex);
                sink.head = (sink.head + written) % RING_BYTES;
                sink.count -= written;
                uv_mutex_unlock(&sink.mutex);
        }
}

/* The last words, if somebody reads them within half a second. */
static void drain(void)
{
        ULONGLONG until = GetTickCount64() + DRAIN_MS;          /* Sleep(1) may take 16 ms */
        bool empty = false;

        while (!empty && GetTickCount64() < until) {
                uv_mutex_lock(&sink.mutex);
                empty = sink.count == 0;
                uv_mutex_unlock(&sink.mutex);
                if (!empty)
                        Sleep(1);
        }
}

void sink_open(void)
{
        uv_thread_t thread;

        sink.out = GetStdHandle(STD_ERROR_HANDLE);
        if (sink.out == NULL || sink.out == INVALID_HANDLE_VALUE || GetFileType(sink.out) == FILE_TYPE_DISK)
                return;
        if (uv_mutex_init(&sink.mutex) == 0 && uv_cond_init(&sink.filled) == 0)
                sink.has_thread = uv_thread_create(&thread, write_main, NULL) == 0;     /* it ends with the process */
        if (sink.has_thread)
                atexit(drain);
}

static long put_into_ring(const char *data, size_t len)
{
        size_t n, at, first;

        uv_mutex_lock(&sink.mutex);
        n = RING_BYTES - sink.count;
        if (n >= len) {
                n = len;
                at = (sink.head + sink.count) % RING_BYTES;
                first = n < RING_BYTES - at ? n : RING_BYTES - at;
                memcpy(sink.bytes + at, data, first);
                memcpy(sink.bytes, data + first, n - first);
                sink.count += n;
                uv_cond_signal(&sink.filled);
        } else {
                n = 0;          /* a line is taken whole or not at all */
        }
        uv_mutex_unlock(&sink.mutex);
        return n > 0 ? (long)n : -1;
}

long sink_put(const char *data, size_t len)
{
        DWORD written;

        if (sink.has_thread)
                return put_into_ring(data, len);
        if (sink.out == NULL)
                sink.out = GetStdHandle(STD_ERROR_HANDLE);
        if (sink.out == NULL || sink.out == INVALID_HANDLE_VALUE || !WriteFile(sink.out, data, (DWORD)len, &written, NULL))
                return -1;
        return (long)written;
}
