/*
 * Keys and the end of the session come in a thread of the system's, which notes them and sets an event. All that is waited for is one wait for
 * several handles.
 *
 * Ctrl-C and Ctrl-Break reach every program of the console, the command too, so the first one is left to the command. It may take no notice, or have
 * no console: a second one is passed on by force.
 */
#include "internal.h"

#include "../../os.h"

#include <signal.h>
#include <stdlib.h>

#define LEFTOVER_MS 50          /* nothing tells when what the command left behind has ended */

static volatile LONG noted;     /* a signal's number; 0: none */
static volatile LONG times;     /* that a key has come */
static HANDLE event;

static BOOL WINAPI note(DWORD type)
{
        switch (type) {
        case CTRL_C_EVENT:
                InterlockedExchange(&noted, SIGINT);
                break;
        case CTRL_BREAK_EVENT:
                InterlockedExchange(&noted, SIGBREAK);
                break;
        default:        /* the console's window is closed, the user leaves: the process ends when this returns, or some seconds later */
                InterlockedExchange(&noted, SIGTERM);
                SetEvent(event);
                Sleep(INFINITE);
                return TRUE;
        }
        InterlockedIncrement(&times);
        SetEvent(event);
        return TRUE;
}

void os_catch_signals(void)
{
        if (event == NULL)
                event = CreateEventW(NULL, FALSE, FALSE, NULL);
        if (event != NULL)
                SetConsoleCtrlHandler(note, TRUE);
}

void os_release_signals(void)
{
        SetConsoleCtrlHandler(note, FALSE);
}

static bool take_signal(struct os_event *e)
{
        LONG number = InterlockedExchange(&noted, 0);

        if (number == 0)
                return false;
        *e = (struct os_event){.kind = OS_SIGNAL, .number = (int)number, .from_terminal = number != SIGTERM && times < 2};
        return true;
}

void sleep_unless_signalled(DWORD ms)
{
        struct os_event e;

        if (event == NULL)
                Sleep(ms);
        else if (WaitForSingleObject(event, ms) == WAIT_OBJECT_0 && take_signal(&e))
                os_die_by(e.number);
}

static bool take_child(struct os_event *e, int64_t child)
{
        int code;

        if (child <= 0 || !command_has_ended(times > 0, &code))
                return false;
        *e = (struct os_event){.kind = OS_CHILD_ENDED, .number = code};
        return true;
}

static DWORD milliseconds(int64_t timeout_ms)
{
        return timeout_ms < 0 ? INFINITE : timeout_ms < INFINITE ? (DWORD)timeout_ms : INFINITE - 1;
}

void os_next_event(struct os_event *e, const portalock_session *s, int64_t timeout_ms, int64_t child)
{
        DWORD count = 0, ms = milliseconds(timeout_ms), r;
        HANDLE handles[3], session = s != NULL ? portalock_handle(s) : NULL;

        if (take_signal(e) || take_child(e, child))
                return;
        if (session != NULL)
                handles[count++] = session;     /* the first, so that it is the one that is told of */
        if (event != NULL)
                handles[count++] = event;
        if (child > 0 && command_left_something())
                ms = ms < LEFTOVER_MS ? ms : LEFTOVER_MS;
        else if (child > 0)
                handles[count++] = command_process();
        console_is_ours(child <= 0);
        if (count > 0) {
                r = WaitForMultipleObjects(count, handles, FALSE, ms);
        } else {
                Sleep(ms);
                r = WAIT_TIMEOUT;
        }
        console_is_ours(true);
        if (take_signal(e) || take_child(e, child))
                return;
        *e = (struct os_event){.kind = session != NULL && r == WAIT_OBJECT_0 ? OS_READABLE : OS_TIME};
}

void os_die_by(int signal_number)
{
        exit(128 + signal_number);      /* the number by which shells on Unix tell it */
}

int64_t os_now_us(void)
{
        LARGE_INTEGER now, per_second;

        QueryPerformanceCounter(&now);
        QueryPerformanceFrequency(&per_second);
        return now.QuadPart / per_second.QuadPart * 1000000 + now.QuadPart % per_second.QuadPart * 1000000 / per_second.QuadPart;
}

int64_t os_now_ms(void)
{
        return os_now_us() / 1000;
}
