/* The index: whatever is in it is found, newest first, however it has grown; and it grows no further than it was given room. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "chains.h"

#define MANY 5000

struct member {
        uint64_t key, number;
        struct link link;
};

static struct member members[MANY];

static uint64_t hash(const struct link *l)
{
        return chains_mix(chains_owner(l, struct member, link)->key);
}

static struct member *find(const struct chains *c, uint64_t key)
{
        struct link *l;

        for (l = chains_first(c, chains_mix(key)); l != NULL; l = chains_next(l)) {
                if (chains_owner(l, struct member, link)->key == key)
                        return chains_owner(l, struct member, link);
        }
        return NULL;
}

static void add(struct chains *c, uint64_t number, uint64_t key)
{
        members[number] = (struct member){.key = key, .number = number};
        chains_add(c, &members[number].link);
}

static size_t longest(const struct chains *c)
{
        size_t i, n, most = 0;
        struct link *l;

        for (i = 0; i < c->count; i++) {
                for (n = 0, l = chains_list(c, i); l != NULL; l = chains_next(l))
                        n++;
                most = n > most ? n : most;
        }
        return most;
}

static void all_are_found_while_it_grows(void **state)
{
        struct chains c;
        uint64_t i, j;

        (void)state;
        assert_true(chains_init(&c, hash));
        for (i = 0; i < MANY; i++) {
                assert_true(chains_reserve(&c, 1));
                add(&c, i, i * 7);
                for (j = i % 97; j <= i; j += 97)
                        assert_ptr_equal(find(&c, j * 7), &members[j]);
                assert_null(find(&c, (i + 1) * 7));
        }
        assert_true(longest(&c) < 20);
        for (i = 0; i < MANY; i += 2)
                chains_remove(&c, &members[i].link);
        for (i = 0; i < MANY; i++)
                assert_ptr_equal(find(&c, i * 7), i % 2 == 0 ? NULL : &members[i]);
        assert_int_equal(c.members, MANY / 2);
        chains_clear(&c);
}

static void the_newest_of_a_key_comes_first_also_after_splits(void **state)
{
        struct chains c;
        uint64_t i;

        (void)state;
        assert_true(chains_init(&c, hash));
        for (i = 0; i < MANY; i++) {
                assert_true(chains_reserve(&c, 1));
                add(&c, i, i % 50);
        }
        for (i = 0; i < 50; i++)
                assert_int_equal(find(&c, i)->number, MANY - 50 + i);
        chains_clear(&c);
}

static void without_room_it_gets_slower_and_works(void **state)
{
        struct chains c;
        uint64_t i;

        (void)state;
        assert_true(chains_init(&c, hash));
        for (i = 0; i < MANY; i++)
                add(&c, i, i);
        assert_int_equal(c.count, c.cap);
        for (i = 0; i < MANY; i++)
                assert_ptr_equal(find(&c, i), &members[i]);
        chains_clear(&c);
}

static void room_for_a_crowd_is_had_beforehand(void **state)
{
        struct chains c;
        size_t cap;
        uint64_t i;

        (void)state;
        assert_true(chains_init(&c, hash));
        assert_true(chains_reserve(&c, MANY));
        cap = c.cap;
        for (i = 0; i < MANY; i++)
                add(&c, i, i);
        assert_int_equal(c.cap, cap);
        assert_true(longest(&c) < 20);
        chains_clear(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_are_found_while_it_grows),
                cmocka_unit_test(the_newest_of_a_key_comes_first_also_after_splits),
                cmocka_unit_test(without_room_it_gets_slower_and_works),
                cmocka_unit_test(room_for_a_crowd_is_had_beforehand),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
