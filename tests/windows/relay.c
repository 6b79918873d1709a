/*
 * Between a test on Linux and a daemon under Wine, whose pipes no Linux program can open: starts portalockd and stands for its clients, a connection to a
 * pipe for each to a port of this machine. What one end closes is closed at the other.
 *
 *      relay PIPE PORTALOCKD OPTION...
 *
 * Prints "READY port PORT pid PID uid UID" when the daemon says that it is ready, exits as it exits, and takes it along when killed. PID and UID, the last
 * number of the user's SID, are those of all its clients.
 */
#include <uv.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#define COMMAND_UNITS 8192

struct end {
        union {
                uv_handle_t handle;
                uv_stream_t stream;
                uv_tcp_t tcp;
                uv_pipe_t pipe;
        } as;
        struct pair *pair;
        struct end *other;
};

struct pair {
        struct end client, server;
        uv_connect_t connect;
        int open;
        bool closing;
};

struct passing {
        uv_write_t write;
        struct end *from;
        char *data;
};

static uv_loop_t loop;
static const char *pipe_name;
static HANDLE daemon_process;
static uv_async_t ended;

static void fail(const char *what, int error)
{
        fprintf(stderr, "relay: %s: %s\n", what, uv_strerror(error));
        exit(125);
}

/* ---- what comes in on one end goes out on the other ---- */

static void on_closed(uv_handle_t *handle)
{
        struct pair *p = ((struct end *)handle)->pair;

        if (--p->open == 0)
                free(p);
}

static void end_pair(struct pair *p)
{
        if (p->closing)
                return;
        p->closing = true;
        uv_close(&p->client.as.handle, on_closed);
        uv_close(&p->server.as.handle, on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
        (void)handle;
        *buf = uv_buf_init(malloc(suggested), (unsigned)suggested);
        if (buf->base == NULL)
                exit(125);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

/* No more is read than has been passed on: back-pressure reaches the other end. */
static void on_written(uv_write_t *req, int status)
{
        struct passing *w = (struct passing *)req;
        struct end *from = w->from;

        free(w->data);
        free(w);
        if (from->pair->closing)
                return;
        if (status < 0 || uv_read_start(&from->as.stream, on_alloc, on_read) != 0)
                end_pair(from->pair);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct end *from = (struct end *)stream;
        struct passing *w;
        uv_buf_t out;

        if (n == 0) {
                free(buf->base);
                return;
        }
        if (n < 0) {
                free(buf->base);
                end_pair(from->pair);
                return;
        }
        uv_read_stop(stream);
        w = malloc(sizeof *w);
        if (w == NULL)
                exit(125);
        *w = (struct passing){.from = from, .data = buf->base};
        out = uv_buf_init(buf->base, (unsigned)n);
        if (uv_write(&w->write, &from->other->as.stream, &out, 1, on_written) == 0)
                return;
        free(w->data);
        free(w);
        end_pair(from->pair);
}

static void on_connected(uv_connect_t *req, int status)
{
        struct pair *p = req->data;

        if (p->closing)
                return;
        if (status < 0 || uv_read_start(&p->client.as.stream, on_alloc, on_read) != 0 || uv_read_start(&p->server.as.stream, on_alloc, on_read) != 0)
                end_pair(p);
}

static void on_client(uv_stream_t *listener, int status)
{
        struct pair *p = calloc(1, sizeof *p);

        if (status < 0 || p == NULL)
                fail("accept", status);
        p->client.pair = p->server.pair = p;
        p->client.other = &p->server;
        p->server.other = &p->client;
        p->open = 2;
        uv_tcp_init(&loop, &p->client.as.tcp);
        uv_pipe_init(&loop, &p->server.as.pipe, 0);
        if (uv_accept(listener, &p->client.as.stream) != 0) {
                end_pair(p);
                return;
        }
        p->connect.data = p;
        uv_pipe_connect(&p->connect, &p->server.as.pipe, pipe_name, on_connected);
}

/* ---- the daemon ---- */

static void append(wchar_t *command, const wchar_t *word)
{
        if (wcslen(command) + wcslen(word) + 4 > COMMAND_UNITS)
                exit(125);
        wcscat(command, *command != L'\0' ? L" \"" : L"\"");
        wcscat(command, word);
        wcscat(command, L"\"");
}

/* Waits until it says that it is ready. False: it never did. */
static bool start_daemon(int argc, wchar_t **argv)
{
        SECURITY_ATTRIBUTES inherited = {.nLength = sizeof inherited, .bInheritHandle = TRUE};
        JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE};
        STARTUPINFOW startup = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES};
        HANDLE job = CreateJobObjectW(NULL, NULL), ready, report;
        static wchar_t command[COMMAND_UNITS];
        PROCESS_INFORMATION process;
        wchar_t number[32];
        char text[16];
        DWORD len = 0;
        int i;

        if (!CreatePipe(&ready, &report, &inherited, 0) || !SetHandleInformation(ready, HANDLE_FLAG_INHERIT, 0))
                fail("pipe", UV_EIO);
        swprintf(number, 32, L"%d", (int)(intptr_t)report);
        append(command, argv[2]);
        append(command, L"--socket");
        append(command, argv[1]);
        append(command, L"--ready-fd");
        append(command, number);
        for (i = 3; i < argc; i++)
                append(command, argv[i]);
        startup.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
        startup.hStdOutput = startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
        SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
        if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL, &startup, &process))
                fail("start the daemon", UV_EIO);
        AssignProcessToJobObject(job, process.hProcess);
        ResumeThread(process.hThread);
        CloseHandle(process.hThread);
        CloseHandle(report);
        daemon_process = process.hProcess;
        return ReadFile(ready, text, sizeof text, &len, NULL) && len == 6 && memcmp(text, "READY\n", 6) == 0;
}

static int exit_code(void)
{
        DWORD code = 125;

        WaitForSingleObject(daemon_process, INFINITE);
        GetExitCodeProcess(daemon_process, &code);
        return (int)code;
}

static void wait_main(void *arg)
{
        (void)arg;
        WaitForSingleObject(daemon_process, INFINITE);
        uv_async_send(&ended);
}

static void on_ended(uv_async_t *async)
{
        (void)async;
        exit(exit_code());
}

static DWORD own_uid(void)
{
        union {
                TOKEN_USER user;
                unsigned char bytes[256];
        } token;
        HANDLE h;
        DWORD len;

        if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &h) || !GetTokenInformation(h, TokenUser, &token, sizeof token, &len))
                fail("ask for the user", UV_EIO);
        CloseHandle(h);
        return *GetSidSubAuthority(token.user.User.Sid, (DWORD)*GetSidSubAuthorityCount(token.user.User.Sid) - 1);
}

int wmain(int argc, wchar_t **argv);    /* no header has it */

int wmain(int argc, wchar_t **argv)
{
        static char name[512];
        struct sockaddr_in address;
        int len = sizeof address, error;
        uv_tcp_t listener;
        uv_thread_t thread;

        if (argc < 3) {
                fprintf(stderr, "usage: relay PIPE PORTALOCKD OPTION...\n");
                return 64;
        }
        strcpy(name, "\\\\.\\pipe\\");
        WideCharToMultiByte(CP_UTF8, 0, argv[1], -1, name + strlen(name), (int)(sizeof name - strlen(name)), NULL, NULL);
        pipe_name = name;
        if (!start_daemon(argc, argv))
                return exit_code();
        uv_loop_init(&loop);
        uv_tcp_init(&loop, &listener);
        uv_ip4_addr("127.0.0.1", 0, &address);
        error = uv_tcp_bind(&listener, (const struct sockaddr *)&address, 0);
        if (error == 0)
                error = uv_listen((uv_stream_t *)&listener, 128, on_client);
        if (error == 0)
                error = uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &len);
        if (error != 0)
                fail("listen", error);
        uv_async_init(&loop, &ended, on_ended);
        uv_thread_create(&thread, wait_main, NULL);
        printf("READY port %d pid %lu uid %lu\n", ntohs(address.sin_port), GetCurrentProcessId(), own_uid());
        fflush(stdout);
        uv_run(&loop, UV_RUN_DEFAULT);
        return 0;
}
