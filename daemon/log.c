#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define QUOTE_BYTES 1024
#define QUOTE_BUFFERS 4

static const char *const names[] = {"error", "warning", "info", "debug"};
static enum log_level threshold = LOG_INFO;

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
        threshold = level;
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
        char line[4096];
        struct timespec now;
        struct tm tm;
        size_t len;
        va_list args;
        int n;

        if (level > threshold)
                return;
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        len = strftime(line, sizeof line, "time=%Y-%m-%dT%H:%M:%S", &tm);
        n = snprintf(line + len, sizeof line - len, ".%03ldZ level=%s event=%s ", now.tv_nsec / 1000000, names[level], event);
        len += (size_t)n;
        va_start(args, format);
        n = vsnprintf(line + len, sizeof line - len - 1, format, args);
        va_end(args);
        len += (size_t)n < sizeof line - len - 1 ? (size_t)n : sizeof line - len - 2;
        line[len++] = '\n';
        (void)fwrite(line, 1, len, stderr);     /* one write: lines of several daemons in one file stay whole */
}

const char *log_quote(const char *text)
{
        static char buffers[QUOTE_BUFFERS][QUOTE_BYTES];
        static unsigned turn;
        char *out = buffers[turn++ % QUOTE_BUFFERS];
        size_t len = 0;

        out[len++] = '"';
        for (; *text != '\0' && len < QUOTE_BYTES - 6; text++) {
                unsigned char c = (unsigned char)*text;

                if (c == '"' || c == '\\') {
                        out[len++] = '\\';
                        out[len++] = (char)c;
                } else if (c < 0x20 || c == 0x7f) {
                        len += (size_t)snprintf(out + len, QUOTE_BYTES - len, "\\x%02X", c);
                } else {
                        out[len++] = (char)c;
                }
        }
        out[len++] = '"';
        out[len] = '\0';
        return out;
}
