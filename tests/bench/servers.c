/*
 * Two bare servers to measure against.
 *
 *   bench_server echo SOCKET       gives back what it gets: the floor of any libuv server
 *   bench_server roofline SOCKET   the least that an honest lock daemon does by path: parse with cJSON, open, fstat, flock, stat, a FIFO queue, reply
 *
 * The roofline keeps idle descriptions for a while (at most 256, at most 2 s; the stat after flock tells if the file was replaced), knows one session per
 * connection, exclusive locks and nothing else: no timeouts, no cancel, no list.
 */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>
#include <uv.h>

#define IDLE_MAX 256
#define IDLE_MS 2000

struct connection {
        uv_pipe_t pipe;
        char in[1 << 16], out[1 << 16];
        size_t in_len, out_len;
        LIST_HEAD(, lock) held;
};

struct waiter {
        struct connection *connection;
        int64_t id;
        TAILQ_ENTRY(waiter) entry;
};

struct lock {
        char *path;
        int fd;
        struct stat open_file;                  /* what fd is */
        struct connection *holder;              /* NULL: idle, the description is kept for a while */
        int64_t number;
        uint64_t idle_since;
        TAILQ_HEAD(, waiter) queue;
        LIST_ENTRY(lock) of_holder;
        TAILQ_ENTRY(lock) idle;
        UT_hash_handle hh, by_number;
};

static bool echoing;
static struct lock *locks, *numbers;
static TAILQ_HEAD(, lock) idle = TAILQ_HEAD_INITIALIZER(idle);
static unsigned idle_count;
static int64_t last_number = 1785000000000000;
static uv_loop_t *loop;

static void on_closed(uv_handle_t *handle)
{
        free(handle->data);
}

static void flush(struct connection *c)
{
        uv_buf_t buf = uv_buf_init(c->out, (unsigned)c->out_len);
        int n;

        while (buf.len > 0) {
                n = uv_try_write((uv_stream_t *)&c->pipe, &buf, 1);
                if (n < 0 && n != UV_EAGAIN)
                        break;
                if (n > 0) {
                        buf.base += n;
                        buf.len -= (size_t)n;
                }
        }
        c->out_len = 0;
}

static void reply(struct connection *c, const char *format, ...)
{
        va_list args;

        if (sizeof c->out - c->out_len < 1024)
                flush(c);
        va_start(args, format);
        c->out_len += (size_t)vsnprintf(c->out + c->out_len, 1024, format, args);
        va_end(args);
}

static void drop(struct lock *l)
{
        HASH_DEL(locks, l);
        close(l->fd);
        free(l->path);
        free(l);
}

static void forget_idle(struct lock *l)
{
        TAILQ_REMOVE(&idle, l, idle);
        idle_count--;
}

/* Lock it in the kernel and look whether the path still means it. */
static void take(struct lock *l)
{
        struct stat named;

        for (;;) {
                if (l->fd < 0) {
                        l->fd = open(l->path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
                        if (l->fd < 0 || fstat(l->fd, &l->open_file) != 0)
                                abort();
                }
                if (flock(l->fd, LOCK_EX | LOCK_NB) != 0)
                        abort();        /* the bench brings no outsiders to this one */
                if (stat(l->path, &named) == 0 && l->open_file.st_ino == named.st_ino && l->open_file.st_dev == named.st_dev)
                        return;
                close(l->fd);
                l->fd = -1;
        }
}

static void grant(struct lock *l, struct connection *c, int64_t id)
{
        take(l);
        l->holder = c;
        l->number = ++last_number;
        HASH_ADD(by_number, numbers, number, sizeof l->number, l);
        LIST_INSERT_HEAD(&c->held, l, of_holder);
        reply(c, "{\"jsonrpc\":\"2.0\",\"id\":%" PRId64 ",\"result\":{\"lock\":%" PRId64 ",\"path\":\"%s\",\"mode\":\"LOCK_EX\",\"token\":%" PRId64 ",\"waited_ms\":0}}\n", id,
              l->number, l->path, l->number);
}

static void release(struct lock *l)
{
        struct waiter *w = TAILQ_FIRST(&l->queue);
        struct connection *next;

        HASH_DELETE(by_number, numbers, l);
        LIST_REMOVE(l, of_holder);
        flock(l->fd, LOCK_UN);
        l->holder = NULL;
        if (w != NULL) {
                TAILQ_REMOVE(&l->queue, w, entry);
                next = w->connection;
                grant(l, next, w->id);
                flush(next);
                free(w);
                return;
        }
        l->idle_since = uv_now(loop);
        TAILQ_INSERT_TAIL(&idle, l, idle);
        if (++idle_count > IDLE_MAX) {
                l = TAILQ_FIRST(&idle);
                forget_idle(l);
                drop(l);
        }
}

static void do_lock(struct connection *c, const char *path, int64_t id)
{
        struct lock *l;
        struct waiter *w;

        HASH_FIND_STR(locks, path, l);
        if (l == NULL) {
                l = calloc(1, sizeof *l);
                l->path = strdup(path);
                l->fd = -1;
                TAILQ_INIT(&l->queue);
                HASH_ADD_KEYPTR(hh, locks, l->path, strlen(l->path), l);
        } else if (l->holder == NULL) {
                forget_idle(l);
        } else {
                w = malloc(sizeof *w);
                *w = (struct waiter){.connection = c, .id = id};
                TAILQ_INSERT_TAIL(&l->queue, w, entry);
                return;
        }
        grant(l, c, id);
}

static void do_line(struct connection *c, const char *line, size_t len)
{
        cJSON *request = cJSON_ParseWithLength(line, len);
        const cJSON *method = cJSON_GetObjectItemCaseSensitive(request, "method"), *params = cJSON_GetObjectItemCaseSensitive(request, "params"), *member;
        int64_t id = (int64_t)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(request, "id")), number;
        struct lock *l = NULL;

        if (!cJSON_IsString(method) || params == NULL) {
                fprintf(stderr, "bench_server: cannot read: %.*s\n", (int)len, line);
                abort();
        }
        if (strcmp(method->valuestring, "lock") == 0) {
                do_lock(c, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "path")), id);
        } else {
                member = cJSON_GetObjectItemCaseSensitive(params, "lock");
                if (member != NULL) {
                        number = (int64_t)member->valuedouble;
                        HASH_FIND(by_number, numbers, &number, sizeof number, l);
                } else {
                        HASH_FIND_STR(locks, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "path")), l);
                }
                reply(c, "{\"jsonrpc\":\"2.0\",\"id\":%" PRId64 ",\"result\":{\"released\":%s}}\n", id, l != NULL && l->holder == c ? "true" : "false");
                if (l != NULL && l->holder == c)
                        release(l);
        }
        cJSON_Delete(request);
}

static void alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
        struct connection *c = handle->data;

        (void)suggested;
        *buf = uv_buf_init(c->in + c->in_len, (unsigned)(sizeof c->in - c->in_len));
}

static void hung_up(struct connection *c)
{
        struct waiter *w, *next;
        struct lock *l;

        for (l = locks; l != NULL; l = l->hh.next) {
                for (w = TAILQ_FIRST(&l->queue); w != NULL; w = next) {
                        next = TAILQ_NEXT(w, entry);
                        if (w->connection != c)
                                continue;
                        TAILQ_REMOVE(&l->queue, w, entry);
                        free(w);
                }
        }
        while (!LIST_EMPTY(&c->held))
                release(LIST_FIRST(&c->held));
        uv_close((uv_handle_t *)&c->pipe, on_closed);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct connection *c = stream->data;
        char *line = c->in, *end;

        (void)buf;
        if (n < 0) {
                hung_up(c);
                return;
        }
        c->in_len += (size_t)n;
        if (echoing) {
                memcpy(c->out, c->in, c->in_len);
                c->out_len = c->in_len;
                c->in_len = 0;
                flush(c);
                return;
        }
        while ((end = memchr(line, '\n', c->in_len - (size_t)(line - c->in))) != NULL) {
                do_line(c, line, (size_t)(end - line));
                line = end + 1;
        }
        c->in_len -= (size_t)(line - c->in);
        memmove(c->in, line, c->in_len);
        flush(c);
}

static void on_connection(uv_stream_t *server, int status)
{
        struct connection *c = calloc(1, sizeof *c);

        if (status < 0 || c == NULL)
                abort();
        uv_pipe_init(loop, &c->pipe, 0);
        c->pipe.data = c;
        LIST_INIT(&c->held);
        if (uv_accept(server, (uv_stream_t *)&c->pipe) == 0)
                uv_read_start((uv_stream_t *)&c->pipe, alloc, on_read);
}

static void on_timer(uv_timer_t *timer)
{
        struct lock *l;

        (void)timer;
        while ((l = TAILQ_FIRST(&idle)) != NULL && uv_now(loop) - l->idle_since >= IDLE_MS) {
                forget_idle(l);
                drop(l);
        }
}

int main(int argc, char **argv)
{
        uv_pipe_t server;
        uv_timer_t timer;

        if (argc != 3 || (strcmp(argv[1], "echo") != 0 && strcmp(argv[1], "roofline") != 0)) {
                fprintf(stderr, "usage: bench_server echo|roofline SOCKET\n");
                return 64;
        }
        echoing = strcmp(argv[1], "echo") == 0;
        loop = uv_default_loop();
        uv_pipe_init(loop, &server, 0);
        uv_timer_init(loop, &timer);
        uv_timer_start(&timer, on_timer, 500, 500);
        if (uv_pipe_bind(&server, argv[2]) != 0 || uv_listen((uv_stream_t *)&server, 1024, on_connection) != 0) {
                fprintf(stderr, "bench_server: cannot listen on %s\n", argv[2]);
                return 1;
        }
        printf("READY\n");
        fflush(stdout);
        return uv_run(loop, UV_RUN_DEFAULT);
}
