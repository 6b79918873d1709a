/* Records in blocks: each has its own place and keeps it, ids are never used again, what is promised is there, and blocks that are empty are given back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "pool.h"
#include "starve.h"

#include <stdlib.h>
#include <string.h>

#define MANY 3000

struct record {
        uint64_t number;
        char rest[100];
};

static uint32_t blocks(const struct pool *p)
{
        uint32_t i, n = 0;

        for (i = 0; i < p->place_count; i++)
                n += p->places[i].block != NULL;
        return n;
}

static struct record *take(struct pool *p, uint64_t number)
{
        static const struct record zeros;
        struct record *r = pool_take(p);

        assert_non_null(r);
        assert_memory_equal(r, &zeros, sizeof zeros);
        memset(r, 0xff, sizeof *r);
        r->number = number;
        return r;
}

static void each_has_its_own_place_and_is_found_by_its_id(void **state)
{
        static struct record *all[MANY];
        static uint64_t ids[MANY];
        struct pool p;
        uint64_t i, index;

        (void)state;
        pool_init(&p, sizeof(struct record), true);
        for (i = 0; i < MANY; i++) {
                all[i] = take(&p, i);
                ids[i] = pool_id(&p, all[i]);
                assert_true(ids[i] != 0 && ids[i] < (UINT64_C(1) << 53));
        }
        assert_int_equal(p.used, MANY);
        for (i = 0; i < MANY; i += 2)
                pool_give(&p, all[i]);
        for (i = 0; i < MANY; i++) {
                assert_ptr_equal(pool_find(&p, ids[i]), i % 2 ? all[i] : NULL);
                if (i % 2)
                        assert_int_equal(all[i]->number, i);
        }
        for (i = 0; i < MANY; i += 2) {
                all[i] = take(&p, i);
                assert_null(pool_find(&p, ids[i]));
                assert_ptr_equal(pool_find(&p, pool_id(&p, all[i])), all[i]);
        }
        for (i = index = 0; pool_next(&p, &index) != NULL; i++, index++)
                assert_int_equal(pool_id(&p, pool_next(&p, &index)) & (POOL_INDEX_MAX - 1), index);
        assert_int_equal(i, MANY);
        assert_null(pool_find(&p, 0));
        assert_null(pool_find(&p, UINT64_C(1) << 24 | (POOL_INDEX_MAX - 1)));
        pool_clear(&p);
}

/* Though its block has gone and another has come to its place. */
static void an_id_is_never_used_again(void **state)
{
        static struct record *all[MANY];
        static uint64_t ids[3][MANY];
        struct pool p;
        int round, before;
        size_t i;

        (void)state;
        pool_init(&p, sizeof(struct record), true);
        for (round = 0; round < 3; round++) {
                for (i = 0; i < MANY; i++) {
                        all[i] = take(&p, i);
                        ids[round][i] = pool_id(&p, all[i]);
                }
                for (before = 0; before < round; before++)
                        for (i = 0; i < MANY; i++)
                                assert_null(pool_find(&p, ids[before][i]));
                for (i = 0; i < MANY; i++)
                        pool_give(&p, all[i]);
        }
        pool_clear(&p);
}

static void what_is_empty_is_given_back_but_for_a_little(void **state)
{
        static struct record *all[MANY];
        struct pool p;
        size_t i;

        (void)state;
        pool_init(&p, sizeof(struct record), false);
        for (i = 0; i < MANY; i++)
                all[i] = take(&p, i);
        assert_true(blocks(&p) >= 5);
        for (i = 0; i < MANY; i++)
                pool_give(&p, all[i]);
        assert_int_equal(p.used, 0);
        assert_in_range(blocks(&p), 0, 2);
        pool_clear(&p);
        assert_int_equal(blocks(&p), 0);
}

static void what_is_promised_is_there_without_memory(void **state)
{
        struct pool p;
        size_t i;

        (void)state;
        pool_init(&p, sizeof(struct record), false);
        assert_true(pool_reserve(&p, MANY));
        starve_at(1, true);
        pool_give(&p, pool_take(&p));   /* its block is empty again, and part of the promise */
        for (i = 1; i < MANY; i++)
                assert_non_null(pool_take(&p));
        assert_false(pool_reserve(&p, MANY));
        while (pool_take(&p) != NULL)
                ;
        assert_true(starve_end());
        assert_non_null(pool_take(&p));
        pool_clear(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_has_its_own_place_and_is_found_by_its_id),
                cmocka_unit_test(an_id_is_never_used_again),
                cmocka_unit_test(what_is_empty_is_given_back_but_for_a_little),
                cmocka_unit_test(what_is_promised_is_there_without_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
