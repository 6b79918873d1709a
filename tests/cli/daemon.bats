#!/usr/bin/env bats
# lockctl and the daemon itself: how it is started, ping, stats, stop, sockname; and help.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2154 # lines and PIDS are the helper's and bats'
load helper

subcommands=(run list ping stats stop sockname help)

# ---- start ----

@test "spawn: only run starts a daemon" {
        local c
        for c in ping stats stop; do
                run -69 "$LOCKCTL" "$c"
                one_line
                has "$PORTALOCK_SOCKET" "no daemon listens there"
        done
        run -0 "$LOCKCTL" list
        run -0 "$LOCKCTL" sockname
        [ ! -e socket ]
}

@test "spawn: the daemon is nobody's child, in a session of its own, in /, with nothing of ours open" {
        exec 9>mine
        "$LOCKCTL" run f true
        exec 9>&-
        local daemon parent session tty
        daemon=$(daemon_pid)
        read -r _ parent _ session tty _ < <(sed 's/.*) //' "/proc/$daemon/stat")
        [ "$parent" -ne $$ ]
        [ "$session" -ne "$(ps -o sid= -p $$)" ]
        [ "$tty" -eq 0 ]
        [ "$(readlink "/proc/$daemon/cwd")" = / ]
        run -0 sh -c 'for fd in "$0"/*; do readlink "$fd" || :; done' "/proc/$daemon/fd"
        [[ $output != *"$DIR/mine"* ]]
        [ "$(readlink "/proc/$daemon/fd/0")" = /dev/null ]
        [ "$(readlink "/proc/$daemon/fd/1")" = /dev/null ]
        [ "$(readlink "/proc/$daemon/fd/2")" != "$(readlink /proc/$$/fd/2)" ]
}

@test "spawn: many first runs at once start one daemon" {
        local i
        for i in 1 2 3 4 5 6 7 8; do
                start "r$i" "$LOCKCTL" run --require-daemon -s f
        done
        for i in 1 2 3 4 5 6 7 8; do
                await "r$i"
        done
        run -0 "$LOCKCTL" list
        [ "${#lines[@]}" -eq 9 ]
}

@test "spawn: PORTALOCK_NO_SPAWN turns it off; empty and 0 do not" {
        PORTALOCK_NO_SPAWN=1 run -0 "$LOCKCTL" run f true
        [ -z "$(daemon_pid)" ]
        PORTALOCK_NO_SPAWN=0 run -0 "$LOCKCTL" run f true
        [ -n "$(daemon_pid)" ]
        # One that runs is used all the same.
        PORTALOCK_NO_SPAWN=1 hold a "$LOCKCTL" run f
        run -0 "$LOCKCTL" list
        has " ${PIDS[a]} "
}

@test "spawn: a killed daemon is replaced by the next run" {
        "$LOCKCTL" run f true
        local first second
        first=$(daemon_pid)
        kill -KILL "$first"
        eventually ended "$first"
        run -69 "$LOCKCTL" ping
        one_line
        has "$PORTALOCK_SOCKET"
        run -0 "$LOCKCTL" run f true
        second=$(daemon_pid)
        [ -n "$second" ]
        [ "$first" != "$second" ]
}

@test "spawn: the daemon is found beside lockctl, without PORTALOCKD and PATH" {
        mkdir bin
        ln "$LOCKCTL" bin/lockctl 2>/dev/null || cp "$LOCKCTL" bin/lockctl
        ln "$PORTALOCKD" bin/portalockd 2>/dev/null || cp "$PORTALOCKD" bin/portalockd
        env -u PORTALOCKD bin/lockctl run --require-daemon f true
        [ "$(readlink "/proc/$(daemon_pid)/exe")" = "$DIR/bin/portalockd" ]
}

# ---- ping ----

@test "ping: names the daemon's version, pid and socket" {
        "$LOCKCTL" run f true
        run -0 "$LOCKCTL" ping
        [[ $output =~ ^portalockd\ [0-9]+\.[0-9]+\.[0-9]+,\ pid\ ([0-9]+),\ on\ $DIR/socket$ ]]
        [ "$(readlink "/proc/${BASH_REMATCH[1]}/exe")" -ef "$PORTALOCKD" ]
}

# ---- stats ----

@test "stats: a JSON document that counts" {
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run f
        waits b
        "$LOCKCTL" stats >before
        release a
        await b
        "$LOCKCTL" stats >after
        "$PYTHON" -c '
import json
d = json.load(open("before"))
assert d["gauges"]["locks"] == 1 and d["gauges"]["waiting"] == 1, d
assert d["counters"]["granted"] == 1, d
d = json.load(open("after"))
assert d["gauges"]["locks"] == 1 and d["gauges"]["waiting"] == 0, d
assert d["counters"]["granted"] == 2, d
'
}

# ---- stop ----

@test "stop: the daemon ends and takes its socket away" {
        "$LOCKCTL" run f true
        local daemon
        daemon=$(daemon_pid)
        run -0 "$LOCKCTL" stop
        [ -z "$output" ]
        eventually ended "$daemon"
        [ ! -e socket ]
        run -69 "$LOCKCTL" stop
        one_line
        run -0 "$LOCKCTL" run f true
}

@test "stop: refused while locks by path are held, unless forced" {
        "$LOCKCTL" run f true
        hold a path_lock "$DIR/f"
        local daemon
        daemon=$(daemon_pid)
        run -77 "$LOCKCTL" stop
        one_line
        has force
        [ "$(daemon_pid)" = "$daemon" ]
        run -1 flock -n f true
        run -0 "$LOCKCTL" stop --force
        eventually ended "$daemon"
        run -0 flock -n f true
}

@test "stop: a running command keeps its lock, and its exit code" {
        hold a "$LOCKCTL" run f
        local daemon
        daemon=$(daemon_pid)
        run -0 "$LOCKCTL" stop
        eventually ended "$daemon"
        run -1 flock -n f true
        run -1 "$LOCKCTL" run -n f true
        release a 12
        finish a 12
        eventually flock -n f true
}

@test "stop: who waits goes on waiting, and gets the lock" {
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run f
        waits b
        run -0 "$LOCKCTL" stop
        run -1 flock -n f true
        release a
        await b
        release b 3
        finish b 3
}

# ---- sockname ----

@test "sockname: PORTALOCK_SOCKET as it is, daemon or not" {
        run -0 "$LOCKCTL" sockname
        [ "$output" = "$DIR/socket" ]
        "$LOCKCTL" run f true
        run -0 "$LOCKCTL" sockname
        [ "$output" = "$DIR/socket" ]
}

@test "sockname: without PORTALOCK_SOCKET the user's own place" {
        [ ! -e /run/portalock/system ] || skip "a system daemon runs here"
        if [ "$(id -u)" -eq 0 ]; then
                run -0 env -u PORTALOCK_SOCKET "$LOCKCTL" sockname
                [ "$output" = /run/portalock/socket ]
        else
                run -0 env -u PORTALOCK_SOCKET XDG_RUNTIME_DIR="$DIR" "$LOCKCTL" sockname
                [ "$output" = "$DIR/portalock/socket" ]
                run -0 env -u PORTALOCK_SOCKET -u XDG_RUNTIME_DIR "$LOCKCTL" sockname
                [ "$output" = "/tmp/portalock-$(id -u)/socket" ]
        fi
}

@test "a socket whose path is longer than the kernel's 107 bytes works" {
        local long
        long=$DIR/$(printf '%0120d' 0)
        mkdir -m 700 "$long"
        PORTALOCK_SOCKET=$long/socket
        run -0 "$LOCKCTL" run --require-daemon f true
        run -0 "$LOCKCTL" sockname
        [ "$output" = "$long/socket" ]
        run -0 "$LOCKCTL" ping
        has "$long/socket"
}

# ---- help ----

@test "help: lists every subcommand" {
        run -0 "$LOCKCTL" help
        local c general=$output
        for c in "${subcommands[@]}"; do
                grep -q "^  $c " <<<"$output"
        done
        for c in --help -h; do
                run -0 "$LOCKCTL" "$c"
                [ "$output" = "$general" ]
        done
}

@test "help: every subcommand is explained, also by --help behind it" {
        local c explained
        for c in "${subcommands[@]}"; do
                run -0 "$LOCKCTL" help "$c"
                [[ ${lines[0]} == "usage: lockctl $c"* ]]
                [ "${#lines[@]}" -ge 2 ]
                explained=$output
                run -0 "$LOCKCTL" "$c" --help
                [ "$output" = "$explained" ]
        done
        [ -z "$(daemon_pid)" ]
}

@test "help: names every option and exit code" {
        run -0 "$LOCKCTL" help run
        has -s --shared -x --exclusive -n --nonblock -w --timeout -E --conflict-exit-code --require-daemon --verbose \
                128+N 64 65 66 69 71 73
        run -0 "$LOCKCTL" help list
        has --json outside
        run -0 "$LOCKCTL" help stop
        has --force
}

@test "help: of what does not exist: 64" {
        run -64 "$LOCKCTL" help frob
        one_line
        has "'frob'"
        run -64 "$LOCKCTL" help run list
        one_line
}

@test "version: of lockctl, the daemon's is the same" {
        run -0 "$LOCKCTL" --version
        [[ $output =~ ^lockctl\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
        local version=${output#lockctl }
        run -0 "$LOCKCTL" -V
        [ "$output" = "lockctl $version" ]
        run -0 "$PORTALOCKD" --version
        [ "$output" = "portalockd $version" ]
        [ ! -e socket ]
}

@test "usage: no subcommand, an unknown one, or arguments where none belong: 64" {
        run -64 --separate-stderr "$LOCKCTL"
        [ -z "$output" ]
        [[ $stderr == usage:* ]]
        run -64 "$LOCKCTL" frob
        one_line
        has "'frob'" "lockctl help"
        run -64 "$LOCKCTL" --frob
        one_line
        run -64 "$LOCKCTL" ''
        one_line
        local c
        for c in ping stats stop sockname; do
                run -64 "$LOCKCTL" "$c" extra
                one_line
                has "'extra'" "help $c"
                run -64 "$LOCKCTL" "$c" --frob
                one_line
        done
}

@test "output that cannot be written is a failure with a sentence" {
        "$LOCKCTL" run f true
        local c
        for c in ping stats sockname help --version; do
                run -74 sh -c '"$0" "$1" >/dev/full' "$LOCKCTL" "$c"
                one_line
                has "No space left"
                run -74 sh -c '"$0" "$1" >&-' "$LOCKCTL" "$c"
                one_line
        done
}
