/*
 * The lock table: the bytes say what happens next in the world of the random walk (model/walk.h), whose naive model and invariants judge each step. The
 * fuzzer looks for histories that reach code which others have not reached.
 */
#include "fuzz.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        int i;

        if (size == 0)
                return 0;
        memset(&w, 0, sizeof w);
        w.bytes = data;
        w.bytes_left = size;
        begin();
        for (i = 0; i < SESSIONS; i++)
                introduce(i);
        for (; w.bytes_left > 0; w.steps++)
                move();
        judge_rest();
        judge_end();
        end();
        return 0;
}
