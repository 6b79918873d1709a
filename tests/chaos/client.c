/*
 * A client for the chaos test: locks and unlocks files at random, and proves by other means that it is alone.
 *
 *   chaos_client library FOLDER FILES SEED    through libportalock, until SIGTERM
 *   chaos_client flock FOLDER FILES SEED      an outsider with flock(2), until SIGTERM
 *   chaos_client inside FOLDER I EX|SH        once, as the command of a `lockctl run`
 *
 * Lock file I is FOLDER/I.lock. Who holds it takes a POSIX lock on I.guard as well: another mechanism of the kernel, which ends with the process just as
 * well, so that one which cannot be had at once proves that two are inside. The exclusive holder reads the last number of I.journal and appends the
 * next: an update that is lost shows as a number that comes twice. Beside it stands the lock's token, which must never be smaller than one before.
 * What is wrong is a line in FOLDER/wrong.
 */
#include "portalock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static const char *folder, *kind;
static int file_count;
static volatile sig_atomic_t ending;
static bool lost;                       /* the callback has said so */
static struct {
        unsigned done, busy, timed_out, deadlock, lost_in_upgrade, disconnected;
} count;

static void on_term(int number)
{
        (void)number;
        ending = 1;
}

__attribute__((format(printf, 1, 2))) static void wrong(const char *format, ...)
{
        char line[512], path[4096];
        va_list args;
        int fd, n;

        n = snprintf(line, sizeof line, "%s[%d]: ", kind, (int)getpid());
        va_start(args, format);
        n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
        va_end(args);
        line[n++] = '\n';
        snprintf(path, sizeof path, "%s/wrong", folder);
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0 || write(fd, line, (size_t)n) != n)
                abort();
        close(fd);
}

static int open_part(int i, const char *part, int flags)
{
        char path[4096];
        int fd;

        snprintf(path, sizeof path, "%s/%d.%s", folder, i, part);
        fd = open(path, flags | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0) {
                wrong("%s: %s", path, strerror(errno));
                exit(1);
        }
        return fd;
}

static void pause_us(long us)
{
        struct timespec t = {.tv_nsec = us * 1000};

        while (nanosleep(&t, &t) != 0 && errno == EINTR)
                ;
}

/* The last line of the journal: its number and token; 0 when it is empty. */
static void last_entry(int fd, int i, uint64_t *number, uint64_t *token)
{
        off_t end = lseek(fd, 0, SEEK_END), begin = end > 256 ? end - 256 : 0;
        char text[257], *line;
        ssize_t n = pread(fd, text, (size_t)(end - begin), begin);

        *number = *token = 0;
        if (n <= 0)
                return;
        text[n - 1] = '\0';     /* the last line's end */
        line = strrchr(text, '\n');
        if (sscanf(line != NULL ? line + 1 : text, "%" SCNu64 " %" SCNu64, number, token) != 2)
                wrong("%d.journal ends with '%s'", i, line != NULL ? line + 1 : text);
}

static void add_entry(int i, uint64_t token)
{
        int fd = open_part(i, "journal", O_RDWR | O_APPEND), n;
        uint64_t number, last;
        char line[128];

        last_entry(fd, i, &number, &last);
        if (token != 0 && token < last)
                wrong("%d.lock: token %" PRIu64 " after %" PRIu64, i, token, last);
        pause_us(rand() % 3000);
        n = snprintf(line, sizeof line, "%" PRIu64 " %" PRIu64 " %s %d\n", number + 1, token != 0 ? token : last, kind, (int)getpid());
        if (write(fd, line, (size_t)n) != n)
                wrong("%d.journal: %s", i, strerror(errno));
        close(fd);
}

/* What the lock protects. */
static void inside(int i, bool exclusive, uint64_t token)
{
        struct flock guard = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
        int fd = open_part(i, "guard", O_RDWR);

        if (fcntl(fd, F_SETLK, &guard) != 0)
                wrong("%d.lock: two are inside (%s)", i, exclusive ? "EX" : "SH");
        if (exclusive)
                add_entry(i, token);
        else
                pause_us(rand() % 3000);
        close(fd);
        count.done++;
}

/* ---- an outsider ---- */

static void flock_once(void)
{
        int i = rand() % file_count, fd = open_part(i, "lock", O_RDONLY);
        bool exclusive = rand() % 2 == 0, wait = rand() % 2 == 0;
        int r;

        do
                r = flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
        while (r != 0 && errno == EINTR && !ending);
        if (r == 0)
                inside(i, exclusive, 0);
        else if (errno == EWOULDBLOCK)
                count.busy++;
        close(fd);
        pause_us(rand() % 5000);
}

/* ---- through the library ---- */

static void on_lost(void *arg, portalock_file *f, const char *by)
{
        (void)arg;
        (void)f;
        (void)by;
        lost = true;
}

/* True when the session can be used further. */
static bool refused(int e, bool upgrade)
{
        switch (e) {
        case PORTALOCK_E_LOCK_FAILED:
                count.busy++;
                return true;
        case PORTALOCK_E_TIMED_OUT:
                count.timed_out++;
                return true;
        case PORTALOCK_E_DEADLOCK:
                count.deadlock++;
                return true;
        case PORTALOCK_E_LOST:
                if (!upgrade)
                        wrong("LOST without an upgrade");
                count.lost_in_upgrade++;
                return true;
        case PORTALOCK_E_CONNECTION:
        case PORTALOCK_E_NO_DAEMON:
        case PORTALOCK_E_SHUTTING_DOWN:
                count.disconnected++;
                return false;
        default:
                wrong("an unexpected answer: %s", portalock_strerror(e));
                return false;
        }
}

/* Time inside, during which the connection may break and come back. */
static void hold(portalock_session *s, portalock_file *f, int i)
{
        int64_t token = portalock_token(f);
        bool exclusive = portalock_mode(f) == PORTALOCK_EX;

        lost = false;
        inside(i, exclusive, (uint64_t)token);
        (void)portalock_process(s);
        if (lost)
                wrong("%d.lock: taken away while it was held", i);
}

static bool lock_once(portalock_session *s, portalock_file **files, int i)
{
        static const int64_t timeouts[] = {-1, -1, 2, 20, 1000};
        int flags = rand() % 2 == 0 ? PORTALOCK_EX : PORTALOCK_SH, e;

        if (rand() % 4 == 0)
                flags |= PORTALOCK_NB;
        e = portalock_lock(files[i], flags, timeouts[rand() % 5]);
        if (e != 0)
                return refused(e, false);
        hold(s, files[i], i);
        if ((flags & PORTALOCK_SH) != 0 && rand() % 3 == 0) {
                e = portalock_lock(files[i], PORTALOCK_EX, 1000);
                if (e != 0 && !refused(e, true))
                        return false;
                if (portalock_mode(files[i]) != 0)
                        hold(s, files[i], i);
        }
        return true;
}

/* False: the session is of no more use. */
static bool library_once(portalock_session *s, portalock_file **files)
{
        int a = rand() % file_count, b = rand() % file_count;
        bool usable = lock_once(s, files, a);

        if (usable && a != b && portalock_mode(files[a]) != 0 && rand() % 4 == 0) {     /* the other one while this is held: deadlocks included */
                usable = lock_once(s, files, b);
                if (usable && portalock_unlock(files[b]) == PORTALOCK_E_CONNECTION)
                        usable = false;
        }
        if (usable && portalock_unlock(files[a]) == PORTALOCK_E_CONNECTION)
                usable = false;
        return usable;
}

static void session(void)
{
        struct portalock_callbacks callbacks = {.lost = on_lost};
        portalock_session *s;
        portalock_file *files[64] = {NULL};
        char path[4096];
        bool usable;
        int i;

        usable = portalock_connect("chaos", 0, &s) == 0;
        if (!usable)
                count.disconnected++;
        portalock_set_callbacks(s, &callbacks, NULL);
        for (i = 0; usable && i < file_count; i++) {
                snprintf(path, sizeof path, "%s/%d.lock", folder, i);
                usable = portalock_open(s, path, &files[i]) == 0;
        }
        while (usable && !ending) {
                usable = library_once(s, files);
                pause_us(rand() % 2000);
        }
        for (i = 0; i < file_count; i++)
                portalock_close(files[i]);
        portalock_disconnect(s);
}

int main(int argc, char **argv)
{
        const char *token = getenv("PORTALOCK_TOKEN");
        struct sigaction term = {.sa_handler = on_term};

        if (argc != 5)
                return 64;
        kind = argv[1];
        folder = argv[2];
        if (strcmp(kind, "inside") == 0) {
                srand((unsigned)getpid());
                inside(atoi(argv[3]), strcmp(argv[4], "EX") == 0, token != NULL ? strtoull(token, NULL, 10) : 0);
                return 0;
        }
        file_count = atoi(argv[3]);
        if (file_count < 1 || file_count > 64)
                return 64;
        srand((unsigned)atoi(argv[4]));
        sigaction(SIGTERM, &term, NULL);
        while (!ending) {
                if (strcmp(kind, "flock") == 0)
                        flock_once();
                else
                        session();
        }
        printf("done=%u busy=%u timed_out=%u deadlock=%u lost_in_upgrade=%u disconnected=%u\n", count.done, count.busy, count.timed_out, count.deadlock,
               count.lost_in_upgrade, count.disconnected);
        return 0;
}
