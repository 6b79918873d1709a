#!/usr/bin/env bats
# lockctl watch, break and list --watch: seeing and doing something about it.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2154 # PIDS is the helper's; stderr is set by run
load helper
load terminal

# The id of the lock that the process PID holds.
lock_of() { # PID
        "$LOCKCTL" list -n -o PID,STATE,LOCK | awk -v pid="$1" '$1 == pid && $2 == "held" { print $3 }'
}

# watching NAME FILE [OPTION]: `lockctl watch` in the background. It has begun when it sees somebody come and go on FILE.
watching() {
        local name=$1 file=$2
        ln -s "$(type -P true)" knock
        "$LOCKCTL" run "$file" true # a daemon
        : >"$name.seen" # before anybody looks
        # shellcheck disable=SC2086 # an option or none
        "$LOCKCTL" watch ${3-} ${4-} >"$name.seen" 2>"$name.err" 3>&- &
        PIDS["$name"]=$!
        sees_something() {
                "$LOCKCTL" run "$file" true
                [ -s "$name.seen" ]
        }
        eventually sees_something
        "$LOCKCTL" run "$file" ./knock
        eventually grep -q 'released.*knock' "$name.seen"
}

# What it has seen since, without times.
seen() { # NAME
        sed '1,/released.*knock/d' "$1.seen" | sed -E 's/^[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} //; s/ +/ /g'
}
has_seen() { # NAME TEXT
        [ "$(seen "$1")" = "$2" ]
}

# `lockctl run sleep 100`, until it has its lock.
sleeper() { # NAME WORD...
        local name=$1
        shift
        "$LOCKCTL" run "$@" sleep 100 >"$name.out" 2>"$name.err" 3>&- &
        PIDS["$name"]=$!
        eventually has_child "$name"
}
has_child() { CHILD=$(pgrep -P "${PIDS[$1]}"); }

@test "watch: a line for each event" {
        local me
        me="($(id -un))"
        watching w f
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run -s f
        waits b
        run -1 "$LOCKCTL" run -w .01 f true
        has "ran out"
        local late=
        release a
        await b
        release b
        finish b 0
        eventually grep -q "released .*sh\[${PIDS[b]}\]" w.seen
        late=$(seen w | sed -nE 's/^timed_out .*true\[([0-9]+)\].*/\1/p')
        has_seen w "granted LOCK_EX sh[${PIDS[a]}] $me $DIR/f
waiting LOCK_SH sh[${PIDS[b]}] $me $DIR/f
waiting LOCK_EX true[$late] $me $DIR/f
timed_out LOCK_EX true[$late] $me $DIR/f
released LOCK_EX sh[${PIDS[a]}] $me $DIR/f
granted LOCK_SH sh[${PIDS[b]}] $me $DIR/f
released LOCK_SH sh[${PIDS[b]}] $me $DIR/f"
        kill -TERM "${PIDS[w]}"
        finish w 143
        [ -z "$(cat w.err)" ]
        run ! grep -q '[^[:print:]]' w.seen
}

@test "watch: FILE shows that file only, --json a document for each event" {
        watching w f --json f
        "$LOCKCTL" run g true
        hold a "$LOCKCTL" run f
        release a
        finish a 0
        eventually grep -q "\"event\":\"released\".*\"pid\":${PIDS[a]}" w.seen
        run -0 "$PYTHON" -c '
import json, sys
for line in sys.stdin:
    e = json.loads(line)
    if e["pid"] == int(sys.argv[1]):
        print(e["event"], e["path"], e["command"], e["client"])
    assert e["path"] == sys.argv[2], line' "${PIDS[a]}" "$DIR/f" <w.seen
        [ -z "$(cat w.err)" ]
        [ "$output" = "granted $DIR/f lockctl sh
released $DIR/f lockctl sh" ]
        kill -TERM "${PIDS[w]}"
        finish w 143
}

@test "watch: without a daemon 69; unknown options 64; a daemon that stops ends it, if no other is waited for" {
        run -69 "$LOCKCTL" watch
        one_line
        run -64 "$LOCKCTL" watch --frob
        one_line
        PORTALOCK_RECONNECT_MS=0 watching w f
        "$LOCKCTL" stop
        finish w 76
}

@test "break: the command is ended, lockctl exits with 75, and watch has seen it" {
        local me id
        me="($(id -un))"
        watching w f
        sleeper a f
        id=$(lock_of "${PIDS[a]}")
        run -0 "$LOCKCTL" break --yes "$id"
        one_line
        has "broke lock $id on $DIR/f: LOCK_EX, held by sleep[${PIDS[a]}] $me for "
        finish a 75
        ended "$CHILD"
        output=$(cat a.err)
        one_line
        has "f: the lock was taken away" break "ending the command"
        eventually has_seen w "granted LOCK_EX sleep[${PIDS[a]}] $me $DIR/f
lost LOCK_EX sleep[${PIDS[a]}] $me $DIR/f"
        run -0 flock -n f true
        kill -TERM "${PIDS[w]}"
        finish w 143
}

@test "break: the next one gets in" {
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run f
        waits b
        "$LOCKCTL" break --yes "$(lock_of "${PIDS[a]}")"
        finish a 75
        await b
}

@test "break: a command that ignores TERM is killed after 5 seconds" {
        hold a "$LOCKCTL" run f env --ignore-signal=TERM
        local begin=${EPOCHREALTIME/[.,]/} took
        "$LOCKCTL" break --yes "$(lock_of "${PIDS[a]}")"
        finish a 75
        took=$((${EPOCHREALTIME/[.,]/} - begin))
        [ "$took" -ge 5000000 ]
        [ "$took" -lt 10000000 ]
        ended "$CHILD"
}

@test "break: --on-lost=warn only says so, and the command decides the exit code" {
        hold a "$LOCKCTL" run --on-lost=warn f
        "$LOCKCTL" break --yes "$(lock_of "${PIDS[a]}")"
        told() { [ -s a.err ]; }
        eventually told
        output=$(cat a.err)
        one_line
        has "f: the lock was taken away"
        [[ $output != *ending* ]]
        run ! ended "$CHILD"
        release a 6
        finish a 6
        run -64 "$LOCKCTL" run --on-lost=frob f true
        one_line
        has "'frob'"
}

@test "break: it asks on a terminal" {
        hold a "$LOCKCTL" run f
        local id
        id=$(lock_of "${PIDS[a]}")
        on_terminal t "$LOCKCTL" break "$id"
        eventually says t "^lockctl: break it\\? \\[y/N\\] "
        has_said t "lock $id on $DIR/f: LOCK_EX, held by sh[${PIDS[a]}] ($(id -un)) for "
        keys t $'n\r'
        terminal_ends t 1
        run -1 flock -n f true
        on_terminal u "$LOCKCTL" break "$id"
        eventually says u "break it"
        keys u $'\r'
        terminal_ends u 1
        run -1 flock -n f true
        on_terminal v "$LOCKCTL" break "$id"
        eventually says v "break it"
        keys v $'y\r'
        terminal_ends v 0
        has_said v "broke lock $id"
        finish a 75
}
has_said() { # NAME TEXT
        output=$(cat "$1.screen") has "$2"
}

@test "break: elsewhere it needs --yes; ids that are none" {
        hold a "$LOCKCTL" run f
        run -64 "$LOCKCTL" break "$(lock_of "${PIDS[a]}")" </dev/null
        has "sh[${PIDS[a]}]" "--yes"
        run -1 flock -n f true
        run -1 "$LOCKCTL" break --yes 12345
        one_line
        has "no lock has the id 12345" "lockctl list"
        local bad
        for bad in 0 -1 x 1x '' 99999999999999999999; do
                run -64 "$LOCKCTL" break --yes "$bad"
                one_line
        done
        run -64 "$LOCKCTL" break
        one_line
        run -64 "$LOCKCTL" break 1 2
        one_line
        "$LOCKCTL" stop --force
        release a
        eventually none_runs
        run -69 "$LOCKCTL" break --yes 1
        one_line
}
none_runs() { [ -z "$(daemon_pid)" ]; }

# ---- list ----

@test "list: -o takes columns by name, in any case, -n leaves the headings away" {
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run -s -w 600 f
        waits b
        run -0 "$LOCKCTL" list -o path,Mode,PID,position,TIMEOUT,uid,process
        [ "$(tr -s ' ' <<<"$output" | sed 's/ $//')" = "PATH MODE PID POSITION TIMEOUT UID PROCESS
$DIR/f LOCK_EX ${PIDS[a]} - - $(id -u) lockctl
$DIR/f LOCK_SH ${PIDS[b]} 1 10m00s $(id -u) lockctl" ]
        for option in -n --noheadings --nohead; do
                run -0 "$LOCKCTL" list "$option" --output=STATE
                [ "$output" = $'held\nwaiting' ]
        done
        run -0 "$LOCKCTL" list -n -o LOCK,SESSION,TOKEN,AGE-MS,AGE f
        [[ "$(tr -s ' ' <<<"${lines[0]}")" =~ ^\ ?[0-9]+\ [0-9]+\ [0-9]+\ [0-9]+\ [0-9]+m?s$ ]]
        local bad
        for bad in '' ',' FROB 'PID,' ',PID' 'PID, USER' "$(printf 'PID,%.0s' {1..100})PID"; do
                run -64 "$LOCKCTL" list -o "$bad"
                one_line
        done
        run -64 "$LOCKCTL" list -o
        one_line
}

@test "list: nothing but printable text goes to a pipe, and no colour to a terminal either" {
        hold a "$LOCKCTL" run f
        local command
        for command in "list" "list --json" "help" "help run" "stats" "ping"; do
                # shellcheck disable=SC2086 # words
                "$LOCKCTL" $command >plain
                [ -s plain ]
                run ! grep -q '[^[:print:]]' plain
                # shellcheck disable=SC2086 # words
                NO_COLOR=1 "$LOCKCTL" $command >no_color
                [ "$command" != help ] || cmp plain no_color
        done
        on_terminal t "$LOCKCTL" list
        terminal_ends t 0
        has_said t " held "
        run ! grep -q $'\e' t.screen
}

@test "list: --watch shows it again after each change" {
        hold a "$LOCKCTL" run f
        : >w.seen
        "$LOCKCTL" list --watch -n -o PID,STATE >w.seen 2>w.err 3>&- &
        PIDS[w]=$!
        shown() { [[ "$(sed 's/^ *//' w.seen)" == *"$1"* ]]; }
        eventually shown "${PIDS[a]} held"
        start b "$LOCKCTL" run f
        eventually shown "${PIDS[a]} held"$'\n'"${PIDS[b]} waiting"
        release a
        await b
        eventually shown "${PIDS[b]} held"
        run ! grep -q '[^[:print:]]' w.seen
        kill -TERM "${PIDS[w]}"
        finish w 143
}

@test "list: --watch on a terminal begins at the top each time" {
        hold a "$LOCKCTL" run f
        on_terminal t "$LOCKCTL" list --watch
        eventually says t " ${PIDS[a]} .* held "
        start b "$LOCKCTL" run f
        eventually says t " ${PIDS[b]} .* waiting "
        [[ $(<t.screen) == $'\e[H\e[2JCOMMAND '*$'\e[H\e[2JCOMMAND '* ]]
        keys t $'\003'
        terminal_ends t 130
}
