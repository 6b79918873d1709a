/* What JSON may be, for json.c alone. */
#ifndef PL_JSON_SCAN_H
#define PL_JSON_SCAN_H

#include "json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Is it one JSON text that cJSON reads as it is meant? 0 and an outline of it, -EBADMSG, or -E2BIG: more than PL_DEPTH_MAX levels. */
int pl_json_scan(const char *text, size_t len, struct pl_outline *o);

/* Length of the UTF-8 sequence at s, 0 when it is none (no overlong forms, no surrogates, at most U+10FFFF). */
size_t pl_utf8_length(const unsigned char *s, size_t len);

static inline bool pl_is_plain(unsigned char c)
{
        return c >= 0x20 && c <= 0x7f && c != '"' && c != '\\';
}

/* Eight bytes, the first of them lowest: compilers make one load of it. */
static inline uint64_t pl_eight_bytes(const char *s)
{
        const unsigned char *p = (const unsigned char *)s;

        return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 |
               (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

#define PL_LANES UINT64_C(0x0101010101010101)

/* The highest bit of each byte that is not plain. Those above the first such one may be wrong: a sum can carry into them. */
static inline uint64_t pl_not_plain(uint64_t v)
{
        const uint64_t high = 0x80 * PL_LANES, low = 0x7f * PL_LANES;
        uint64_t text = v + 0x60 * PL_LANES;                        /* high for 0x20 and above; what is above 0x7f is found by `v` itself */
        uint64_t quote = ((v ^ '"' * PL_LANES) & low) + low;        /* high but for a quote; likewise */
        uint64_t backslash = ((v ^ '\\' * PL_LANES) & low) + low;

        return (v | ~text | ~quote | ~backslash) & high;
}

/* How many bytes lie below the lowest highest bit. */
static inline size_t pl_lanes_below(uint64_t bits)
{
        return (size_t)((((bits & (0 - bits)) - 1) & PL_LANES) * PL_LANES >> 56) - 1;
}

/* How many bytes from s on are ASCII that stands for itself in a JSON string. */
static inline size_t pl_plain_length(const char *s, size_t len)
{
        size_t i = 0;
        uint64_t bits;

        for (; len - i >= 8; i += 8) {
                bits = pl_not_plain(pl_eight_bytes(s + i));
                if (bits != 0)
                        return i + pl_lanes_below(bits);
        }
        while (i < len && pl_is_plain((unsigned char)s[i]))
                i++;
        return i;
}

/* False when it has a fraction or lies beyond +-PL_INTEGER_MAX. */
bool pl_double_to_integer(double value, int64_t *out);

/* isfinite() is a macro that not all compilers take without a warning. */
bool pl_is_finite(double value);

#endif
