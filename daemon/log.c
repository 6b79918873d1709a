#include "log.h"

#include "sink.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#define LINE_BYTES 4096         /* PIPE_BUF: a pipe takes such a line whole or not at all */
#define QUOTE_BYTES 1024
#define QUOTE_BUFFERS 4

static struct {
        uint64_t dropped;       /* lines, since the last one that was written */
        char rest[LINE_BYTES];  /* of a line that a terminal or socket took in part */
        size_t rest_len;
} sink;

static const char *const names[] = {"error", "warning", "info", "debug"};
enum log_level log_threshold = LOG_INFO;

bool log_level_parse(const char *text, enum log_level *out)
{
        size_t i;

        for (i = 0; i < sizeof names / sizeof names[0]; i++) {
                if (strcmp(text, names[i]) == 0) {
                        *out = (enum log_level)i;
                        return true;
                }
        }
        return false;
}

void log_set_level(enum log_level level)
{
        log_threshold = level;
}

void log_start(void)
{
        sink_open();
}

/* False when there is no room for it. */
static bool write_line(const char *line, size_t len)
{
        long n;

        if (sink.rest_len > 0) {
                n = sink_put(sink.rest, sink.rest_len);
                if (n > 0) {
                        sink.rest_len -= (size_t)n;
                        memmove(sink.rest, sink.rest + n, sink.rest_len);
                }
                if (sink.rest_len > 0)
                        return false;
        }
        n = sink_put(line, len);
        if (n < 0)
                return false;
        sink.rest_len = len - (size_t)n;
        memcpy(sink.rest, line + n, sink.rest_len);
        return true;
}

static size_t begin_line(char *line, size_t size, enum log_level level, const char *event)
{
        uv_timeval64_t now;
        time_t seconds;
        size_t len;

        uv_gettimeofday(&now);
        seconds = (time_t)now.tv_sec;
        len = strftime(line, size, "time=%Y-%m-%dT%H:%M:%S", gmtime(&seconds));     /* on one thread */
        return len + (size_t)snprintf(line + len, size - len, ".%03dZ level=%s event=%s ", (int)(now.tv_usec / 1000), names[level], event);
}

static bool say_dropped(void)
{
        char line[256];
        size_t len = begin_line(line, sizeof line, LOG_WARNING, "log_dropped");

        len += (size_t)snprintf(line + len, sizeof line - len, "lines=%llu\n", (unsigned long long)sink.dropped);
        if (!write_line(line, len))
                return false;
        sink.dropped = 0;
        return true;
}

void log_write(enum log_level level, const char *event, const char *format, ...)
{
        char line[LINE_BYTES];
        va_list args;
        size_t len;
        int n;

        len = begin_line(line, sizeof line, level, event);
        va_start(args, format);
        n = vsnprintf(line + len, sizeof line - len - 1, format, args);
        va_end(args);
        len += (size_t)n < sizeof line - len - 1 ? (size_t)n : sizeof line - len - 2;
        line[len++] = '\n';
        /* One write: lines of several daemons in one file stay whole. */
        if ((sink.dropped > 0 && !say_dropped()) || !write_line(line, len))
                sink.dropped++;
}

const char *log_quote(const char *text)
{
        static char buffers[QUOTE_BUFFERS][QUOTE_BYTES];
        static unsigned turn;
        char *quoted = buffers[turn++ % QUOTE_BUFFERS];
        size_t len = 0;

        quoted[len++] = '"';
        for (; *text != '\0' && len < QUOTE_BYTES - 6; text++) {
                unsigned char c = (unsigned char)*text;

                if (c == '"' || c == '\\') {
                        quoted[len++] = '\\';
                        quoted[len++] = (char)c;
                } else if (c < 0x20 || c == 0x7f) {
                        len += (size_t)snprintf(quoted + len, QUOTE_BYTES - len, "\\x%02X", c);
                } else {
                        quoted[len++] = (char)c;
                }
        }
        quoted[len++] = '"';
        quoted[len] = '\0';
        return quoted;
}
