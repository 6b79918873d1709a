/* lockctl break: take a lock away from whoever holds it. */
#include "lockctl.h"

#include "os.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct found {
        int64_t lock;
        bool any;
        char who[300];
        char path[4096];
};

static void look(void *arg, const struct portalock_row *r)
{
        char process[200], age[32];
        struct found *f = arg;

        if (r->lock != f->lock || strcmp(r->state, "held") != 0)
                return;
        f->any = true;
        describe_process(process, sizeof process, r->command, r->client, r->pid, r->uid);
        describe_age(age, sizeof age, r->age_ms);
        snprintf(f->who, sizeof f->who, "%s, held by %s for %s", r->mode == PORTALOCK_EX ? "LOCK_EX" : "LOCK_SH", process, age);
        snprintf(f->path, sizeof f->path, "%s", r->path);
}

/* On a terminal only: a script must say --yes. */
static bool is_confirmed(void)
{
        char answer[16];

        fputs("lockctl: break it? [y/N] ", stderr);
        return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int break_lock(portalock_session *s, const struct found *f, bool yes)
{
        char params[64], *json;

        if (!yes) {
                complain("lock %" PRId64 " on %s: %s", f->lock, f->path, f->who);
                if (!os_is_terminal(0))
                        return bad_usage("break", "this is not a terminal where you could be asked: use --yes");
                if (!is_confirmed())
                        return EXIT_CONFLICT;
        }
        snprintf(params, sizeof params, "{\"lock\":%" PRId64 "}", f->lock);
        if (portalock_call_wait(s, "break", params, ANSWER_MS, &json) != 0)
                return report_failure(s, NULL);
        free(json);
        complain("broke lock %" PRId64 " on %s: %s", f->lock, f->path, f->who);
        return 0;
}

static int parse(int argc, char **argv, int64_t *lock, bool *yes)
{
        const char *id = NULL;
        char *end;
        int i;

        for (i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--yes") == 0 || strcmp(argv[i], "-y") == 0)
                        *yes = true;
                else if (id != NULL || argv[i][0] == '-')
                        return bad_usage("break", "unexpected argument '%s'", argv[i]);
                else
                        id = argv[i];
        }
        if (id == NULL)
                return bad_usage("break", "the lock's id is missing: 'lockctl list -o LOCK,COMMAND,PID,PATH' shows it");
        errno = 0;
        *lock = strtoll(id, &end, 10);
        if (errno != 0 || *end != '\0' || end == id || *lock <= 0)
                return bad_usage("break", "'%s' is not the id of a lock", id);
        return -1;
}

int cmd_break(int argc, char **argv)
{
        struct found f = {.any = false};
        bool yes = false;
        portalock_session *s;
        int code = parse(argc, argv, &f.lock, &yes);

        if (code >= 0)
                return code;
        s = open_session(false, &code);
        if (s == NULL)
                return code;
        if (portalock_list(s, NULL, 0, look, &f) != 0) {
                code = report_failure(s, NULL);
        } else if (!f.any) {
                complain("no lock has the id %" PRId64 "; 'lockctl list -o LOCK,COMMAND,PID,PATH' shows those that are held", f.lock);
                code = EXIT_CONFLICT;
        } else {
                code = break_lock(s, &f, yes);
        }
        portalock_disconnect(s);
        return code;
}
