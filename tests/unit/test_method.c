/* The params of every method: what is absent has its default, what is there is taken, everything else is refused by name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "root.h"

#include "method.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static struct pl_span span(const char *text)
{
        return (struct pl_span){text, strlen(text)};
}

static int decode(const char *method, const char *params, struct pl_request *r, struct pl_fault *f)
{
        size_t size = strlen(params) + 128;
        char *line = malloc(size);
        int result, len;

        assert_non_null(line);
        len = snprintf(line, size, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"%s\"%s%s}", method,
        params[0] != '\0' ? ",\"params\":" : "", params);
        result = pl_request_decode(line, (size_t)len, r, f);
        free(line);
        return result;
}

/* `params` "": absent. To be cleared by pl_request_clear(). */
static struct pl_request accepted(const char *method, const char *params)
{
        struct pl_request r;
        struct pl_fault f;

        if (decode(method, params, &r, &f) != 0)
                fail_msg("%s %s: %d %s", method, params, f.code, f.text);
        assert_int_equal(r.id.number, 7);
        assert_string_equal(pl_method_name(r.method), method);
        return r;
}

static void taken(const char *method, const char *params)
{
        struct pl_request r = accepted(method, params);

        pl_request_clear(&r);
}

static void refused(const char *method, const char *params, const char *member)
{
        struct pl_request r;
        struct pl_fault f;

        if (decode(method, params, &r, &f) == 0)
                fail_msg("accepted: %s %s", method, params);
        if (f.code != PL_E_INVALID_PARAMS || strcmp(f.member, member) != 0)
                fail_msg("%s %s: %d, member \"%s\" and not \"%s\"", method, params, f.code, f.member, member);
        assert_int_equal(f.id.kind, PL_ID_INTEGER);
        assert_int_equal(f.id.number, 7);
        assert_false(f.silent);
        assert_true(strncmp(f.text, "params", 6) == 0);
        assert_true(strlen(f.text) < sizeof f.text - 1);        /* not cut */
}

/* before + `n` times `c` + after */
static char *filled(const char *before, char c, size_t n, const char *after)
{
        size_t a = strlen(before), b = strlen(after);
        char *text = malloc(a + n + b + 1);

        assert_non_null(text);
        memcpy(text, before, a);
        memset(text + a, c, n);
        memcpy(text + a + n, after, b + 1);
        return text;
}

/* A string member of `max` bytes is taken, one byte more is refused. */
static void longest(const char *method, const char *before, size_t max, const char *after, const char *member)
{
        char *text = filled(before, 'x', max, after);

        taken(method, text);
        free(text);
        text = filled(before, 'x', max + 1, after);
        refused(method, text, member);
        free(text);
}

static void every_method_has_a_name_of_its_own(void **state)
{
        int m;

        (void)state;
        for (m = 0; m < PL_METHOD_COUNT; m++)
                assert_int_equal(pl_method_find(span(pl_method_name((enum pl_method)m))), m);
        assert_int_equal(pl_method_find(span("Lock")), -1);
        assert_int_equal(pl_method_find(span("loc")), -1);
        assert_int_equal(pl_method_find(span("locks")), -1);
        assert_int_equal(pl_method_find(span("")), -1);
}

static void params_are_an_object_or_absent(void **state)
{
        static const char *const bad[] = {"null", "[]", "[{}]", "1", "\"x\"", "true"};
        size_t i;
        int m;

        (void)state;
        for (m = 0; m < PL_METHOD_COUNT; m++)
                for (i = 0; i < COUNT(bad); i++)
                        refused(pl_method_name((enum pl_method)m), bad[i], "params");
        taken("ping", "");
        taken("ping", "{}");
        taken("stats", "");
        taken("stats", "{}");
}

static void an_unknown_or_doubled_member_is_refused_by_its_name(void **state)
{
        static const struct {
                const char *method, *good, *member;
        } rows[] = {{"hello", "\"client\":\"x\"", "client"}, {"lock", "\"path\":\"" ROOT "f\",\"flags\":[\"LOCK_EX\"]", "path"},
                    {"unlock", "\"lock\":5", "lock"},
                    {"cancel", "\"id\":5", "id"}, {"list", "\"pid\":5", "pid"}, {"stop", "\"force\":true", "force"}};
        char text[256];
        size_t i;
        int m;

        (void)state;
        for (m = 0; m < PL_METHOD_COUNT; m++) {
                refused(pl_method_name((enum pl_method)m), "{\"colour\":1}", "colour");
                refused(pl_method_name((enum pl_method)m), "{\"twice\":1,\"twice\":1}", "twice");
        }
        for (i = 0; i < COUNT(rows); i++) {
                snprintf(text, sizeof text, "{%s}", rows[i].good);
                taken(rows[i].method, text);
                snprintf(text, sizeof text, "{%s,\"colour\":1}", rows[i].good);
                refused(rows[i].method, text, "colour");
                snprintf(text, sizeof text, "{%s,%s}", rows[i].good, rows[i].good);
                assert_int_equal(strcmp(rows[i].method, "lock") == 0, strstr(text, "flags") != NULL);
                refused(rows[i].method, text, strcmp(rows[i].method, "lock") == 0 ? "flags" : rows[i].member);
        }
        refused("stop", "{\"Force\":true}", "Force");
        refused("lock", "{\"Path\":\"/f\",\"flags\":[\"LOCK_EX\"]}", "Path");
}

static void a_refused_member_of_any_length_is_named_as_far_as_there_is_room(void **state)
{
        char *text = filled("{\"", 'm', 60000, "\":1}"), name[61];

        (void)state;
        memset(name, 'm', 60);
        name[60] = '\0';
        refused("lock", text, name);
        free(text);
}

static void hello_says_who_comes(void **state)
{
        struct pl_request r = accepted("hello", "");

        (void)state;
        assert_null(r.hello.client);
        assert_true(r.hello.parent == 0 && r.hello.session == 0 && !r.hello.concurrent);
        pl_request_clear(&r);
        r = accepted("hello", "{\"protocol\":1,\"client\":\"lockctl\",\"parent\":5,\"session\":9007199254740991,\"concurrent\":true}");
        assert_string_equal(r.hello.client, "lockctl");
        assert_true(r.hello.parent == 5 && r.hello.session == PL_INTEGER_MAX && r.hello.concurrent);
        pl_request_clear(&r);
        longest("hello", "{\"client\":\"", PL_CLIENT_BYTES_MAX, "\"}", "client");
        refused("hello", "{\"client\":\"\"}", "client");
        refused("hello", "{\"client\":5}", "client");
        refused("hello", "{\"client\":null}", "client");
        refused("hello", "{\"parent\":-1}", "parent");
        refused("hello", "{\"parent\":9007199254740992}", "parent");
        refused("hello", "{\"parent\":\"5\"}", "parent");
        refused("hello", "{\"session\":1.5}", "session");
        refused("hello", "{\"concurrent\":1}", "concurrent");
}

static void hello_in_another_version_is_told_which_ones_there_are(void **state)
{
        static const char *const bad[] = {"{\"protocol\":2}", "{\"protocol\":0}", "{\"protocol\":\"1\"}", "{\"protocol\":1.5}",
                                          "{\"protocol\":null}"};
        struct pl_request r;
        struct pl_fault f;
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(bad); i++) {
                refused("hello", bad[i], "protocol");
                assert_int_equal(decode("hello", bad[i], &r, &f), -1);
                assert_true(f.supported);
        }
        assert_int_equal(decode("hello", "{\"client\":5}", &r, &f), -1);
        assert_false(f.supported);
}

static void lock_has_its_defaults(void **state)
{
        struct pl_request r = accepted("lock", "{\"path\":\"" ROOT "f\",\"flags\":[\"LOCK_EX\"]}");
        const struct pl_lock_params *p = &r.lock;

        (void)state;
        assert_string_equal(p->path, ROOT "f");
        assert_int_equal(p->mode, PL_MODE_EX);
        assert_true(p->create && !p->fd && !p->nonblock && !p->notify && !p->detach);
        assert_true(p->handle == 0 && p->timeout_ms == -1);
        assert_true(p->reclaim_token == -1 && p->reclaim_waited_ms == -1 && p->reclaim_mode == PL_MODE_NONE);
        pl_request_clear(&r);
}

static void lock_takes_all_that_is_said(void **state)
{
        struct pl_request r = accepted("lock",
        "{\"path\":\"a label\",\"fd\":true,\"flags\":[\"LOCK_NB\",\"LOCK_SH\"],\"handle\":2147483647,"
                                               "\"timeout_ms\":9007199254740991,\"create\":false,\"notify\":true,\"detach\":true}");
        const struct pl_lock_params *p = &r.lock;

        (void)state;
        assert_string_equal(p->path, "a label");
        assert_int_equal(p->mode, PL_MODE_SH);
        assert_true(!p->create && p->fd && p->nonblock && p->notify && p->detach);
        assert_true(p->handle == PL_HANDLE_MAX && p->timeout_ms == PL_INTEGER_MAX);
        pl_request_clear(&r);
        r = accepted("lock", "{\"fd\":true,\"flags\":[\"LOCK_EX\"]}");
        assert_null(r.lock.path);
        pl_request_clear(&r);
}

#define LOCK(members) "{\"path\":\"" ROOT "f\",\"flags\":[\"LOCK_EX\"]," members "}"

static void lock_refuses_what_is_out_of_its_range(void **state)
{
        (void)state;
        refused("lock", LOCK("\"handle\":2147483648"), "handle");
        refused("lock", LOCK("\"handle\":-1"), "handle");
        refused("lock", LOCK("\"handle\":0.5"), "handle");
        refused("lock", LOCK("\"timeout_ms\":-1"), "timeout_ms");
        refused("lock", LOCK("\"timeout_ms\":9007199254740992"), "timeout_ms");
        refused("lock", LOCK("\"timeout_ms\":null"), "timeout_ms");
        refused("lock", LOCK("\"create\":0"), "create");
        refused("lock", LOCK("\"notify\":\"true\""), "notify");
        refused("lock", LOCK("\"detach\":null"), "detach");
        refused("lock", LOCK("\"detach\":true"), "detach");     /* needs fd */
        refused("lock", LOCK("\"fd\":1"), "fd");
        taken("lock", LOCK("\"timeout_ms\":0,\"handle\":0,\"fd\":false,\"detach\":false"));
}

static void a_path_is_absolute_and_bounded_a_label_only_bounded(void **state)
{
        (void)state;
        /* PL_PATH_BYTES_MAX counts the NUL. */
        longest("lock", "{\"flags\":[\"LOCK_SH\"],\"path\":\"" ROOT, PL_PATH_BYTES_MAX - sizeof ROOT, "\"}", "path");
        longest("lock", "{\"flags\":[\"LOCK_SH\"],\"fd\":true,\"path\":\"", PL_PATH_BYTES_MAX - 1, "\"}", "path");
        longest("unlock", "{\"path\":\"" ROOT, PL_PATH_BYTES_MAX - sizeof ROOT, "\"}", "path");
        longest("list", "{\"path\":\"" ROOT, PL_PATH_BYTES_MAX - sizeof ROOT, "\"}", "path");
        refused("lock", "{\"path\":\"f\",\"flags\":[\"LOCK_EX\"]}", "path");
        refused("lock", "{\"path\":\"./f\",\"fd\":false,\"flags\":[\"LOCK_EX\"]}", "path");
        refused("lock", "{\"path\":\"\",\"flags\":[\"LOCK_EX\"]}", "path");
        refused("lock", "{\"path\":\"\",\"fd\":true,\"flags\":[\"LOCK_EX\"]}", "path");
        refused("lock", "{\"path\":5,\"flags\":[\"LOCK_EX\"]}", "path");
        refused("lock", "{\"flags\":[\"LOCK_EX\"]}", "path");
        refused("lock", "{\"fd\":false,\"flags\":[\"LOCK_EX\"]}", "path");
}

static void flags_hold_exactly_one_mode(void **state)
{
        static const char *const good[] = {"[\"LOCK_EX\"]", "[\"LOCK_SH\"]", "[\"LOCK_EX\",\"LOCK_NB\"]", "[\"LOCK_NB\",\"LOCK_SH\"]"};
        static const char *const bad[] = {"[]", "[\"LOCK_NB\"]", "[\"LOCK_EX\",\"LOCK_SH\"]", "[\"LOCK_EX\",\"LOCK_EX\"]", "[\"LOCK_UN\"]",
                                          "[\"LOCK_NB\",\"LOCK_EX\",\"LOCK_NB\"]", "[\"lock_ex\"]", "[\"LOCK_EX\",null]", "[2]",
                                          "[[\"LOCK_EX\"]]",
                                          "\"LOCK_EX\"", "2", "null", "{\"LOCK_EX\":true}"};
        char text[128];
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(good); i++) {
                snprintf(text, sizeof text, "{\"path\":\"" ROOT "f\",\"flags\":%s}", good[i]);
                taken("lock", text);
        }
        for (i = 0; i < COUNT(bad); i++) {
                snprintf(text, sizeof text, "{\"path\":\"" ROOT "f\",\"flags\":%s}", bad[i]);
                refused("lock", text, "flags");
        }
        refused("lock", "{\"path\":\"" ROOT "f\"}", "flags");
}

static void reclaim_is_a_holders_or_a_waiters(void **state)
{
        struct pl_request r = accepted("lock", LOCK("\"reclaim\":{\"mode\":\"LOCK_SH\",\"token\":9007199254740991}"));

        (void)state;
        assert_true(r.lock.reclaim_token == PL_INTEGER_MAX && r.lock.reclaim_mode == PL_MODE_SH && r.lock.reclaim_waited_ms == -1);
        assert_int_equal(r.lock.mode, PL_MODE_EX);
        pl_request_clear(&r);
        r = accepted("lock", LOCK("\"reclaim\":{\"waited_ms\":0}"));
        assert_true(r.lock.reclaim_token == -1 && r.lock.reclaim_mode == PL_MODE_NONE && r.lock.reclaim_waited_ms == 0);
        pl_request_clear(&r);
}

static void reclaim_refuses_everything_else(void **state)
{
        static const char *const bad[] = {
                "null", "[]", "5", "{}", "{\"token\":5}", "{\"mode\":\"LOCK_EX\"}", "{\"token\":5,\"mode\":\"LOCK_EX\",\"waited_ms\":1}",
                "{\"token\":5,\"waited_ms\":1}", "{\"mode\":\"LOCK_EX\",\"waited_ms\":1}", "{\"token\":-1,\"mode\":\"LOCK_EX\"}",
                "{\"token\":1.5,\"mode\":\"LOCK_EX\"}", "{\"token\":9007199254740992,\"mode\":\"LOCK_EX\"}",
                "{\"token\":\"5\",\"mode\":\"LOCK_EX\"}",
                "{\"token\":5,\"mode\":\"LOCK_NB\"}", "{\"token\":5,\"mode\":null}", "{\"waited_ms\":-1}", "{\"waited_ms\":0.5}",
                "{\"waited_ms\":null}",
                "{\"waited_ms\":1,\"colour\":1}", "{\"Waited_ms\":1}", "{\"waited_ms\":1,\"waited_ms\":1}",
                "{\"token\":5,\"token\":6,\"mode\":\"LOCK_EX\"}", "{\"token\":5,\"mode\":\"LOCK_EX\",\"mode\":\"LOCK_SH\"}"};
        char text[200];
        size_t i;

        (void)state;
        for (i = 0; i < COUNT(bad); i++) {
                snprintf(text, sizeof text, LOCK("\"reclaim\":%s"), bad[i]);
                refused("lock", text, "reclaim");
        }
}

static void unlock_is_by_id_or_by_path(void **state)
{
        struct pl_request r = accepted("unlock", "{\"lock\":9007199254740991,\"close\":true}");

        (void)state;
        assert_true(r.unlock.lock == PL_INTEGER_MAX && r.unlock.path == NULL && r.unlock.close);
        pl_request_clear(&r);
        r = accepted("unlock", "{\"path\":\"" ROOT "f\",\"handle\":3}");
        assert_true(r.unlock.lock == -1 && r.unlock.handle == 3 && !r.unlock.close);
        assert_string_equal(r.unlock.path, ROOT "f");
        pl_request_clear(&r);
        refused("unlock", "", "lock");
        refused("unlock", "{}", "lock");
        refused("unlock", "{\"close\":true}", "lock");
        refused("unlock", "{\"lock\":5,\"path\":\"" ROOT "f\"}", "lock");
        refused("unlock", "{\"lock\":0}", "lock");
        refused("unlock", "{\"lock\":-5}", "lock");
        refused("unlock", "{\"lock\":9007199254740992}", "lock");
        refused("unlock", "{\"lock\":5,\"handle\":0}", "handle");
        refused("unlock", "{\"path\":\"" ROOT "f\",\"handle\":2147483648}", "handle");
        refused("unlock", "{\"path\":\"f\"}", "path");
        refused("unlock", "{\"path\":\"" ROOT "f\",\"close\":0}", "close");
}

static void cancel_names_a_request(void **state)
{
        struct pl_request r = accepted("cancel", "{\"id\":\"a\"}");

        (void)state;
        assert_int_equal(r.cancel.id.kind, PL_ID_STRING);
        assert_string_equal(r.cancel.id.text, "a");
        pl_request_clear(&r);
        r = accepted("cancel", "{\"id\":-3}");
        assert_true(r.cancel.id.kind == PL_ID_INTEGER && r.cancel.id.number == -3);
        pl_request_clear(&r);
        longest("cancel", "{\"id\":\"", PL_ID_BYTES_MAX, "\"}", "id");
        refused("cancel", "", "id");
        refused("cancel", "{}", "id");
        refused("cancel", "{\"id\":null}", "id");
        refused("cancel", "{\"id\":1.5}", "id");
        refused("cancel", "{\"id\":9007199254740992}", "id");
        refused("cancel", "{\"id\":[1]}", "id");
}

static void list_may_be_narrowed(void **state)
{
        struct pl_request r = accepted("list", "");

        (void)state;
        assert_true(r.list.path == NULL && r.list.pid == -1 && r.list.session == -1 && r.list.state == PL_STATE_ANY && r.list.outside);
        assert_true(r.list.limit == PL_LIST_ROWS_DEFAULT && r.list.after == NULL);
        pl_request_clear(&r);
        r = accepted("list",
        "{\"path\":\"" ROOT "f\",\"pid\":0,\"session\":6,\"state\":\"waiting\",\"outside\":false,\"limit\":4000,\"after\":\"8:42\"}");
        assert_string_equal(r.list.path, ROOT "f");
        assert_true(r.list.pid == 0 && r.list.session == 6 && r.list.state == PL_STATE_WAITING);
        assert_true(!r.list.outside && r.list.limit == PL_LIST_ROWS_MAX);
        assert_string_equal(r.list.after, "8:42");
        pl_request_clear(&r);
        r = accepted("list", "{\"state\":\"held\",\"limit\":1}");
        assert_true(r.list.state == PL_STATE_HELD && r.list.limit == 1);
        pl_request_clear(&r);
        longest("list", "{\"after\":\"", 128, "\"}", "after");
        refused("list", "{\"limit\":4001}", "limit");
        refused("list", "{\"limit\":0}", "limit");
        refused("list", "{\"limit\":1.5}", "limit");
        refused("list", "{\"pid\":-1}", "pid");
        refused("list", "{\"session\":-1}", "session");
        refused("list", "{\"state\":\"both\"}", "state");
        refused("list", "{\"state\":\"Held\"}", "state");
        refused("list", "{\"state\":\"\"}", "state");
        refused("list", "{\"state\":1}", "state");
        refused("list", "{\"outside\":null}", "outside");
        refused("list", "{\"after\":\"\"}", "after");
        refused("list", "{\"after\":7}", "after");
        refused("list", "{\"path\":\"f\"}", "path");
}

static void stop_is_gentle_unless_forced(void **state)
{
        struct pl_request r = accepted("stop", "");

        (void)state;
        assert_false(r.stop.force);
        pl_request_clear(&r);
        r = accepted("stop", "{\"force\":true}");
        assert_true(r.stop.force);
        pl_request_clear(&r);
        refused("stop", "{\"force\":\"yes\"}", "force");
        refused("stop", "{\"force\":1}", "force");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_method_has_a_name_of_its_own),
                cmocka_unit_test(params_are_an_object_or_absent),
                cmocka_unit_test(an_unknown_or_doubled_member_is_refused_by_its_name),
                cmocka_unit_test(a_refused_member_of_any_length_is_named_as_far_as_there_is_room),
                cmocka_unit_test(hello_says_who_comes),
                cmocka_unit_test(hello_in_another_version_is_told_which_ones_there_are),
                cmocka_unit_test(lock_has_its_defaults),
                cmocka_unit_test(lock_takes_all_that_is_said),
                cmocka_unit_test(lock_refuses_what_is_out_of_its_range),
                cmocka_unit_test(a_path_is_absolute_and_bounded_a_label_only_bounded),
                cmocka_unit_test(flags_hold_exactly_one_mode),
                cmocka_unit_test(reclaim_is_a_holders_or_a_waiters),
                cmocka_unit_test(reclaim_refuses_everything_else),
                cmocka_unit_test(unlock_is_by_id_or_by_path),
                cmocka_unit_test(cancel_names_a_request),
                cmocka_unit_test(list_may_be_narrowed),
                cmocka_unit_test(stop_is_gentle_unless_forced),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
