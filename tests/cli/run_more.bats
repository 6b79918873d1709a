#!/usr/bin/env bats
# lockctl run beyond the simple case: descriptors, what the command finds, what is said while it waits.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2153,SC2154 # CHILD, PARENT and PIDS are the helper's; stderr is set by run
load helper
load terminal

# What stays in the list.
listed() {
        "$LOCKCTL" list -n -o PID,STATE,PATH | tr -s ' ' | sed 's/^ //'
}
nothing_listed() { [ -z "$(listed)" ]; }

@test "run: -o closes the lock's descriptor in the command; the lock ends with lockctl" {
        run -0 "$LOCKCTL" run -o f sh -c 'readlink /proc/$$/fd/*; :' 3>&-
        [[ $output != *"$DIR/f"* ]]
        hold a "$LOCKCTL" run -o f
        run -1 flock -n f true
        kill -KILL "${PIDS[a]}"
        finish a 137
        run -0 flock -n f true
        run ! ended "$CHILD"
}

@test "run: -F becomes the command, which keeps the connection: the list shows it until it ends" {
        hold a "$LOCKCTL" run -F f
        [ "$CHILD" = "${PIDS[a]}" ]
        [ "$(listed)" = "${PIDS[a]} held $DIR/f" ]
        run -1 "$LOCKCTL" run -n f true
        has "sh[${PIDS[a]}]"
        kill -USR1 "${PIDS[a]}"
        finish a 138
        eventually nothing_listed
        run -0 "$LOCKCTL" run -n f true
        run -64 "$LOCKCTL" run -F -o f touch ran
        one_line
        has --no-fork --close
        run -69 "$LOCKCTL" run -F f no-such-command
        one_line
        has no-such-command
        run -0 "$LOCKCTL" run -n f true
}

@test "run: -c is a line for the shell, behind FILE or --fd NUMBER only" {
        SHELL=/bin/sh run -0 "$LOCKCTL" run f -c 'echo "$0"; echo a  b'
        [ "$output" = $'/bin/sh\na b' ]
        run -5 "$LOCKCTL" run f --command 'exit 5'
        run -64 "$LOCKCTL" run f -c
        one_line
        run -64 "$LOCKCTL" run f -c a b
        one_line
        run -64 "$LOCKCTL" run -c true f
        one_line
        exec 9>g
        run -0 "$LOCKCTL" run --fd 9 -c 'echo in; flock -n g true || echo locked'
        [ "$output" = $'in\nlocked' ]
        run -64 "$LOCKCTL" run --fd 9 -c
        one_line
        exec 9>&-
}

@test "run: --fd locks a descriptor, around a command or for good" {
        exec 9>f
        run -0 "$LOCKCTL" run --fd 9 -n sh -c 'flock -n f true || echo "locked"; readlink /proc/$$/fd/9'
        [ "$output" = $'locked\n'"$DIR/f" ]
        run -0 "$LOCKCTL" run --fd 9 -o sh -c 'readlink /proc/$$/fd/9 || echo closed'
        [ "$output" = closed ]
        run -0 "$LOCKCTL" run --fd 9
        run -1 flock -n f true
        run -1 "$LOCKCTL" run -n f true
        run -0 "$LOCKCTL" run -u 9
        run -0 flock -n f true
        run -0 "$LOCKCTL" run -s 9
        run -0 flock -n -s f true
        run -1 flock -n f true
        exec 9>&-
        run -0 flock -n f true
        run -65 "$LOCKCTL" run --fd 9 touch ran
        one_line
        has "descriptor 9" "Bad file descriptor"
        run -65 "$LOCKCTL" run 9
        one_line
        run -65 "$LOCKCTL" run -u 9
        one_line
        run -64 "$LOCKCTL" run --fd x true
        one_line
        has "'x'"
        [ ! -e ran ]
}

@test "run: -u gives up a lock before a command, too" {
        exec 9>f
        "$LOCKCTL" run 9
        run -0 "$LOCKCTL" run -u --fd 9 flock -n f echo free
        [ "$output" = free ]
        exec 9>&-
        run -3 "$LOCKCTL" run -u f sh -c 'flock -n f true && exit 3'
}

@test "run: a descriptor number that was closed when we began is not one of ours" {
        # What lockctl opens itself takes the lowest numbers.
        local fd
        for fd in 4 5 6 7 8; do
                run -65 bash -c 'exec "$0" run "$1"' "$LOCKCTL" "$fd" 4>&- 5>&- 6>&- 7>&- 8>&-
        done
        run -65 bash -c 'exec "$0" run 0 <&-' "$LOCKCTL"
        run -65 bash -c 'exec "$0" run -u 0 <&-' "$LOCKCTL"
        run -0 "$LOCKCTL" run 0 <"$DIR"
}

@test "run: the command finds PORTALOCK_SESSION, PORTALOCK_TOKEN and PORTALOCK_FILE" {
        mkdir d
        run -0 "$LOCKCTL" run d/../f sh -c 'echo "$PORTALOCK_SESSION $PORTALOCK_TOKEN $PORTALOCK_FILE"; "$0" list -n -o SESSION,TOKEN,PATH' "$LOCKCTL"
        [ "${#lines[@]}" -eq 2 ]
        local session token path first
        read -r session token path <<<"${lines[1]}"
        [ "${lines[0]}" = "$session $token $DIR/d/../f" ]
        [ "$path" = "$DIR/f" ]
        first=$token
        run -0 "$LOCKCTL" run -F f sh -c 'echo "$PORTALOCK_SESSION $PORTALOCK_TOKEN $PORTALOCK_FILE"'
        read -r session token path <<<"$output"
        [ "$session" -gt 0 ]
        [ "$token" -gt "$first" ]
        [ "$path" = "$DIR/f" ]
        run -0 env -u PORTALOCK_SESSION -u PORTALOCK_TOKEN PORTALOCK_NO_SPAWN=1 PORTALOCK_SOCKET="$DIR/none" \
                "$LOCKCTL" run f sh -c 'echo "${PORTALOCK_SESSION-none} ${PORTALOCK_TOKEN-none}"'
        [ "$output" = "none none" ]
}

# ---- while it waits ----

@test "run: signals while it waits: 128+N, and the queue is left" {
        hold a "$LOCKCTL" run f
        local s
        not_queued() { [ "$(listed)" = "${PIDS[a]} held $DIR/f" ]; }
        for s in TERM INT HUP; do
                start "$s" env --default-signal="$s" "$LOCKCTL" run f
                waits "$s"
                kill -"$s" "${PIDS[$s]}"
                finish "$s" $((128 + $(kill -l "$s")))
                [ -z "$(cat "$s.err" "$s.out")" ]
                eventually not_queued
        done
        release a
        finish a 0
        [ "$(cat order)" = a ]
}

@test "run: on a terminal a wait is told after a second, updated in place and cleaned away" {
        hold a "$LOCKCTL" run "my file"
        start b "$LOCKCTL" run "my file"
        waits b
        local begin=${EPOCHREALTIME/[.,]/}
        on_terminal t "$LOCKCTL" run "my file" echo in
        eventually says t "waiting for my file: held by sh\\[${PIDS[a]}\\] \\($(id -un)\\) for .*s, 1 ahead"
        [ $((${EPOCHREALTIME/[.,]/} - begin)) -ge 1000000 ]
        release a
        await b
        eventually says t "held by sh\\[${PIDS[b]}\\] \\($(id -un)\\) for [^,]*\$"
        release b
        terminal_ends t 0
        # one line, written anew each time, and taken back before the command speaks
        output=$(<t.screen)
        [ "$(tr -d '\r' <<<"$output" | grep -c .)" -eq 1 ]
        [[ $output == $'\r\e[Kwaiting for '*$'\r\e[Kwaiting for '*$'\r\e[Kin\r' ]]
}

@test "run: on a terminal --verbose tells of a wait at once; a short wait is not told without" {
        hold a "$LOCKCTL" run f
        on_terminal t "$LOCKCTL" run --verbose f echo in
        eventually says t "waiting for f: held by sh"
        release a
        terminal_ends t 0
        [[ $(<t.screen) == $'\r\e[Kwaiting for f: '*$'\r\e[Klockctl: f: locked after '*$'\nin\r' ]]
        on_terminal u "$LOCKCTL" run f echo in
        terminal_ends u 0
        [ "$(<u.screen)" = $'in\r' ]
}

@test "run: a wait on a terminal that a key ends leaves a clean line" {
        hold a "$LOCKCTL" run f
        on_terminal t "$LOCKCTL" run --verbose f echo never
        eventually says t "waiting for f"
        keys t $'\003'
        terminal_ends t 130
        [[ $(<t.screen) == *$'\r\e[K^C' || $(<t.screen) == *$'^C\r\e[K' ]]
        nobody_waits() { [[ $("$LOCKCTL" list) != *waiting* ]]; }
        eventually nobody_waits
}

@test "run: a wait that no terminal shows: silence, or with --verbose a line for each change" {
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run --verbose f
        start c "$LOCKCTL" run f
        waits b c
        told() { grep -qE "$2" "$1.err"; }
        eventually told b "^lockctl: waiting for f: held by sh\[${PIDS[a]}\] .* for [0-9]+m?s(, 1 ahead)?\$"
        release a
        await b
        release b
        await c
        release c
        finish c 0
        [ -z "$(cat c.err)" ]
        run ! grep -q '[^[:print:]]' b.err
        run -0 tail -n 1 b.err
        has "f: locked after"
}

# ---- signals to the command ----

@test "run: TERM, INT, HUP, QUIT, USR1 and USR2 reach a command that handles them" {
        local s
        for s in TERM INT HUP QUIT USR1 USR2; do
                hold "$s" env --default-signal="$s" "$LOCKCTL" run f sh -c 'trap "echo got $1; exit 40" "$1"; shift; "$@" & wait' sh "$s"
                kill -"$s" "${PIDS[$s]}"
                finish "$s" 40
                [ "$(cat "$s.out")" = "got $s" ]
                release "$s" # what was in its background
                eventually flock -n f true
        done
}
