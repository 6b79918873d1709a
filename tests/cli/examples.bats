#!/usr/bin/env bats
# The programs of docs/examples do what they say, while somebody else holds the lock.
# shellcheck disable=SC2153,SC2154 # PIDS is the helper's; output is set by run
load helper

EXAMPLES=${BUILD_DIR:-.}/docs/examples

# example NAME ARGUMENT...: in the background; NAME.seen is what it prints, and it reads what `says_to NAME` writes.
example() {
        local name=$1 input
        shift
        mkfifo "$name.input"
        exec {input}<>"$name.input"
        INPUT[$name]=$input
        : >"$name.seen" # before anybody looks
        "$EXAMPLES/example_$name" "$@" <"$name.input" >"$name.seen" 2>"$name.err" 3>&- {input}>&- &
        PIDS["$name"]=$!
}
declare -gA INPUT=()

says_to() { # NAME LINE
        echo "$2" >&"${INPUT[$1]}"
}
has_seen() { # NAME TEXT
        [[ "$(<"$1.seen")" == *"$2"* ]]
}
granted() { # NAME
        [ "$("$LOCKCTL" list -n -o PID,STATE f | tr -s ' ' | sed 's/^ //')" = "${PIDS[$1]} held" ]
}

@test "examples: the synopsis writes foo at 12, when it is its turn" {
        printf 'abcdefghijklmnopqr' >f
        hold a "$LOCKCTL" run f
        example synopsis f
        waits synopsis
        [ "$(cat f)" = abcdefghijklmnopqr ]
        release a
        finish a 0
        finish synopsis 0
        [ "$(cat f)" = abcdefghijklfoopqr ]
        [ -z "$(cat synopsis.err synopsis.seen)" ]
        run -0 flock -n f true
        # a new file: twelve zeros before
        run -0 "$EXAMPLES/example_synopsis" made
        [ "$(stat -c %s made)" -eq 15 ]
        [ "$(tail -c 3 made)" = foo ]
        run -1 "$EXAMPLES/example_synopsis" missing/f
        one_line
        has missing/f "No such file"
}

@test "examples: best practice: busy, some other work, again later, unlock in the end" {
        hold a "$LOCKCTL" run f
        example best_practice f
        busy() { [ "$(grep -c "^busy: lockctl\[${PIDS[a]}\] has it; doing some other work\$" best_practice.seen)" -eq "$1" ]; }
        eventually busy 1
        says_to best_practice '' # that was the other work
        eventually busy 2
        release a
        finish a 0
        says_to best_practice ''
        finish best_practice 0
        [ "$(tail -n 1 best_practice.seen)" = locked ]
        [ -z "$(cat best_practice.err)" ]
        run -0 flock -n f true
        run -1 "$EXAMPLES/example_best_practice" missing/f
        one_line
        has missing/f "No such file"
}

@test "examples: the poll loop reads lines while it waits for several locks" {
        hold a "$LOCKCTL" run f
        hold b "$LOCKCTL" run g
        example poll_loop f g h
        eventually has_seen poll_loop "h: locked, token "
        eventually has_seen poll_loop "waiting at place 1 for lockctl"
        waits poll_loop
        says_to poll_loop "first line"
        eventually has_seen poll_loop "meanwhile: first line"
        release b
        eventually has_seen poll_loop "g: locked, token "
        says_to poll_loop "second line"
        eventually has_seen poll_loop "meanwhile: second line"
        run ! has_seen poll_loop "f: locked"
        release a
        finish poll_loop 0
        has_seen poll_loop "f: locked, token "
        [ -z "$(cat poll_loop.err)" ]
        local file
        for file in f g h; do
                run -0 flock -n "$file" true
        done
        # nobody in the way, nothing to read
        run -0 "$EXAMPLES/example_poll_loop" f </dev/null
        has "f: locked"
}

@test "examples: the libuv loop ticks while it waits" {
        hold a "$LOCKCTL" run f
        example libuv_loop f
        waits libuv_loop
        # Its other work is a timer: the loop wakes again and again.
        woken() { awk '/^voluntary_ctxt_switches/ { exit !($2 > '"$1"') }' "/proc/${PIDS[libuv_loop]}/status"; }
        local before
        before=$(awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/${PIDS[libuv_loop]}/status")
        eventually woken $((before + 20))
        run ! granted libuv_loop
        release a
        finish libuv_loop 0
        [[ "$(<libuv_loop.seen)" =~ ^"locked after "([0-9]+)" ticks of other work, token "[0-9]{10,}$ ]]
        [ "${BASH_REMATCH[1]}" -ge 20 ]
        [ -z "$(cat libuv_loop.err)" ]
        run -0 flock -n f true
        run -1 "$EXAMPLES/example_libuv_loop" missing/f
        one_line
        has missing/f "No such file"
}

@test "examples: both loops go on when the daemon is killed" {
        local old new
        hold a "$LOCKCTL" run f
        example libuv_loop f
        waits libuv_loop
        example poll_loop f
        waits poll_loop
        for _ in 1 2 3; do
                old=$(daemon_pid)
                kill -KILL "$old"
                eventually ended "$old"
                waits libuv_loop poll_loop
                new=$(daemon_pid)
                [ "$new" != "$old" ]
        done
        release a
        finish a 0
        finish libuv_loop 0
        finish poll_loop 0
        has_seen libuv_loop "locked after "
        has_seen poll_loop "f: locked, token "
        [ -z "$(cat libuv_loop.err poll_loop.err)" ]
}
