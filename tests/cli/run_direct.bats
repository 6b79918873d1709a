#!/usr/bin/env bats
# lockctl run without a daemon: flock(2) directly, or a refusal.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2153,SC2154 # CHILD, PARENT and PIDS are the helper's; stderr is set by run
load helper

@test "run: without a daemon the kernel's lock still keeps everybody apart" {
        export PORTALOCK_NO_SPAWN=1
        hold a "$LOCKCTL" run f
        [ -z "$(daemon_pid)" ]
        [ ! -e socket ]
        run -1 flock -n f true
        run -1 "$LOCKCTL" run -n f touch ran
        one_line
        has "f: held by"
        run -8 "$LOCKCTL" run -w 0.1 -E 8 f touch ran
        one_line
        has "f: the time ran out"
        run -1 "$LOCKCTL" run -w 0 f touch ran
        [ ! -e ran ]
        start b "$LOCKCTL" run f
        eventually queued_in_kernel "${PIDS[b]}"
        start c "$LOCKCTL" run -w 600 f
        eventually queued_in_kernel "${PIDS[c]}"
        release a 3
        finish a 3
        await b
        release b
        await c
        [ "$PARENT" = "${PIDS[c]}" ]
}

@test "run: without a daemon shared runs overlap" {
        export PORTALOCK_NO_SPAWN=1
        hold a "$LOCKCTL" run -s f
        hold b "$LOCKCTL" run -s f
        run -1 "$LOCKCTL" run -n f true
}

@test "run: without a daemon, against those with one" {
        hold a "$LOCKCTL" run f
        PORTALOCK_NO_SPAWN=1 PORTALOCK_SOCKET=$DIR/other run -1 "$LOCKCTL" run -n f true
        PORTALOCK_NO_SPAWN=1 PORTALOCK_SOCKET=$DIR/other start b "$LOCKCTL" run f
        eventually queued_in_kernel "${PIDS[b]}"
        release a
        await b
        run -1 "$LOCKCTL" run -n f true
}

@test "run: without a daemon the exit codes, signals and the descriptor are the same" {
        export PORTALOCK_NO_SPAWN=1
        run -66 "$LOCKCTL" run missing/f true
        one_line
        run -69 "$LOCKCTL" run f no-such-command-here
        one_line
        run -137 "$LOCKCTL" run f sh -c 'kill -9 $$'
        run -0 "$LOCKCTL" run f sh -c 'for fd in /proc/$$/fd/*; do readlink "$fd" || :; done' 3>&-
        has "$DIR/f"
        mkdir d
        run -0 "$LOCKCTL" run d true
        (umask 027 && "$LOCKCTL" run made true)
        [ "$(stat -c %a made)" = 640 ]
        hold a "$LOCKCTL" run f
        kill -TERM "${PIDS[a]}"
        finish a 143
        # a background grandchild keeps this lock as well
        mkfifo stay
        exec {stay}<>stay
        run -0 "$LOCKCTL" run f sh -c 'head -n 1 stay >/dev/null 2>&1 3>&- &' {stay}>&-
        run -1 flock -n f true
        echo go >&"$stay"
        eventually flock -n f true
        exec {stay}>&-
}

@test "run: a daemon that cannot be started is done without; --verbose tells why in its own words" {
        printf '#!/bin/sh\necho "boom: no luck today" >&2\nexit 1\n' >broken
        chmod +x broken
        PORTALOCKD=$DIR/broken run -0 --separate-stderr "$LOCKCTL" run f echo 'done'
        [ "$output" = 'done' ]
        [ -z "$stderr" ]
        PORTALOCKD=$DIR/broken run -0 --separate-stderr "$LOCKCTL" run --verbose f echo 'done'
        [ "$output" = 'done' ]
        output=$stderr
        one_line
        has "boom: no luck today" "flock(2)"
        PORTALOCKD=$DIR/missing run -0 "$LOCKCTL" run --verbose f true
        one_line
        has "$DIR/missing: No such file"
}

@test "run: --require-daemon: 69 with a clear sentence, and the command is not run" {
        PORTALOCK_NO_SPAWN=1 run -69 "$LOCKCTL" run --require-daemon f touch ran
        one_line
        has "f: not locked" "$PORTALOCK_SOCKET" "no daemon listens there" "--require-daemon"
        PORTALOCKD=$DIR/missing run -69 "$LOCKCTL" run --require-daemon f touch ran
        one_line
        has "did not start" "$DIR/missing"
        [ ! -e ran ]
        run -0 "$LOCKCTL" run --require-daemon f touch ran
        [ -e ran ]
}
