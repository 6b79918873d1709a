#!/usr/bin/env bats
# lockctl run: a command under a lock.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2153,SC2154 # CHILD, PARENT and PIDS are the helper's; stderr is set by run
load helper

# ---- the command ----

@test "run: the first run starts the daemon, the next one finds it" {
        run -69 "$LOCKCTL" ping
        run -0 "$LOCKCTL" run f echo hello
        [ "$output" = hello ]
        local first
        first=$(daemon_pid)
        [ -n "$first" ]
        run -0 "$LOCKCTL" run f true
        [ "$(daemon_pid)" = "$first" ]
}

@test "run: the exit code is the command's" {
        local code
        for code in 0 1 3 64 127 255; do
                run "-$code" "$LOCKCTL" run f sh -c "exit $code"
        done
}

@test "run: a command killed by signal N gives 128+N" {
        local n
        for n in 9 11 15; do
                run "-$((128 + n))" "$LOCKCTL" run f sh -c "kill -$n \$\$"
        done
}

@test "run: input, output and errors are the command's own" {
        run -0 --separate-stderr "$LOCKCTL" run f sh -c 'cat; echo oops >&2' <<<"some input"
        [ "$output" = "some input" ]
        [ "$stderr" = oops ]
}

@test "run: options after FILE belong to the command" {
        run -0 "$LOCKCTL" run f printf '%s.' -n -w 5 --shared -- -x
        [ "$output" = "-n.-w.5.--shared.--.-x." ]
}

@test "run: -- ends the options, so that FILE may begin with a dash" {
        run -0 "$LOCKCTL" run -n -- -x echo -n hi
        [ "$output" = hi ]
        [ -e ./-x ]
}

@test "run: the command is a direct child of lockctl" {
        hold a "$LOCKCTL" run f
        [ "$PARENT" = "${PIDS[a]}" ]
}

@test "run: the command inherits the lock's descriptor, and none of the daemon's" {
        run -0 "$LOCKCTL" run f sh -c 'for fd in /proc/$$/fd/*; do readlink "$fd" || :; done' 3>&-
        has "$DIR/f"
        [ "$(grep -cxF "$DIR/f" <<<"$output")" -eq 1 ]
        [[ $output != *socket* ]]
}

@test "run: a script without an interpreter line is the shell's, as with flock" {
        mkdir bin
        echo 'echo "$#: $1, $2"' >bin/script
        chmod +x bin/script
        run -0 "$LOCKCTL" run f bin/script 'a b' c
        [ "$output" = "2: a b, c" ]
        run -0 "$LOCKCTL" run -F f bin/script 'a b' c
        [ "$output" = "2: a b, c" ]
        PATH=$DIR/bin:$PATH run -0 "$LOCKCTL" run f script 'a b' c
        [ "$output" = "2: a b, c" ]
}

@test "run: works with stdin, stdout and stderr closed, and the command finds them closed" {
        "$LOCKCTL" run f sh -c 'ls -l /proc/$$/fd >seen' 0<&- 1>&- 2>&-
        [ -n "$(daemon_pid)" ]
        run -1 grep -E ' [02] -> ' seen # (1 is seen itself)
        grep -q " -> $DIR/f\$" seen
        "$LOCKCTL" run f sh -c 'ls -l /proc/$$/fd >seen' 0<&- 1>&- 2>&-
        run -1 grep -E ' [02] -> ' seen
}

@test "run: a pipe from lockctl ends with the command, though the daemon that it started lives on" {
        [ "$("$LOCKCTL" run f echo hi)" = hi ]
        [ -n "$(daemon_pid)" ]
}

@test "run: --verbose tells of the lock, otherwise lockctl is silent" {
        run -0 "$LOCKCTL" run f true
        [ -z "$output" ]
        run -0 "$LOCKCTL" run --verbose f true
        one_line
        has "f: locked after" token
}

# ---- the file ----

@test "run: the file is created by the umask, and an existing one is left as it is" {
        (umask 027 && "$LOCKCTL" run made true)
        [ "$(stat -c %a made)" = 640 ]
        (umask 0 && "$LOCKCTL" run open true)
        [ "$(stat -c %a open)" = 666 ]
        echo precious >old
        chmod 400 old
        "$LOCKCTL" run old true
        [ "$(cat old)" = precious ]
        [ "$(stat -c %a old)" = 400 ]
}

@test "run: a directory can be locked; nothing is made in it" {
        mkdir d
        hold a "$LOCKCTL" run d
        run -1 "$LOCKCTL" run -n d true
        run -1 flock -n d true
        [ -z "$(ls -A d)" ]
}

@test "run: links and other spellings of a file are the same lock" {
        hold a "$LOCKCTL" run f
        mkdir d
        ln f hard
        ln -s f soft
        local name
        for name in ./f "$DIR/f" d/../f hard soft; do
                run -1 "$LOCKCTL" run -n "$name" true
        done
        run -0 "$LOCKCTL" run -n other true
}

@test "run: a file that is replaced while somebody waits: the new one gets locked" {
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run f
        waits b
        rm f
        touch f
        release a
        await b
        run -1 flock -n f true
        run -1 "$LOCKCTL" run -n f true
}

# ---- waiting or not ----

@test "run: -n on a held lock: 1, or what -E says; the command is not run" {
        hold a "$LOCKCTL" run f
        run -1 "$LOCKCTL" run -n f touch ran
        run -42 "$LOCKCTL" run -n -E 42 f touch ran
        run -0 "$LOCKCTL" run -n -E 0 f touch ran
        run -255 "$LOCKCTL" run -nE255 f touch ran
        [ ! -e ran ]
        release a
        finish a 0
        run -0 "$LOCKCTL" run -n -E 42 f touch ran
        [ -e ran ]
}

@test "run: -w gives up when the time is over, not before: 1, or what -E says" {
        hold a "$LOCKCTL" run f
        local begin=${EPOCHREALTIME/[.,]/}
        run -1 "$LOCKCTL" run -w 0.3 f touch ran
        [ $((${EPOCHREALTIME/[.,]/} - begin)) -ge 300000 ]
        run -7 "$LOCKCTL" run -w .05 -E 7 f touch ran
        [ ! -e ran ]
        run -0 "$LOCKCTL" list
        [[ $output != *waiting* ]]
}

@test "run: -w 0 does not wait" {
        hold a "$LOCKCTL" run f
        run -1 "$LOCKCTL" run -w 0 f true
        run -9 "$LOCKCTL" run -w 0.0 -E 9 f true
        release a
        finish a 0
        run -0 "$LOCKCTL" run -w 0 f true
}

@test "run: -w that is long enough gets the lock" {
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run -w 600.5 f
        waits b
        release a
        await b
        release b 5
        finish b 5
}

@test "run: -n beats -w" {
        hold a "$LOCKCTL" run f
        run -3 "$LOCKCTL" run -n -w 600 -E 3 f true
        run -3 "$LOCKCTL" run -w 600 -n -E 3 f true
}

@test "run: the last of -s and -x wins" {
        hold a "$LOCKCTL" run -x -s f
        run -0 "$LOCKCTL" run -n -s f true
        run -1 "$LOCKCTL" run -n -s -x f true
        run -1 "$LOCKCTL" run -n -s -e f true
        run -1 "$LOCKCTL" run -n f true
}

@test "run: long options and their unique beginnings, as flock has them" {
        hold a "$LOCKCTL" run --shared f
        local option
        for option in --nonblock --nonblocking --nb --nonb; do
                run -1 "$LOCKCTL" run --exclusive "$option" f true
        done
        for option in --timeout --wait --time; do
                run -1 "$LOCKCTL" run "$option" 0 f true
                run -1 "$LOCKCTL" run "$option=0" f true
        done
        run -6 "$LOCKCTL" run -n --conflict-exit-code 6 f true
        run -6 "$LOCKCTL" run -n --conflict=6 f true
        run -0 "$LOCKCTL" run -n --sh f true
}

# ---- exit codes of lockctl itself, and its words ----

@test "run: numbers that are none: 64, and the command is not run" {
        local bad
        for bad in '' x 1x -1 1.2.3 . 1e3 0x1 inf nan 99999999999; do
                run -64 "$LOCKCTL" run -w "$bad" f touch ran
                one_line
                has -w "'$bad'" "help run"
        done
        for bad in '' x 1x -1 256 1.5 99999999999999999999; do
                run -64 "$LOCKCTL" run -E "$bad" f touch ran
                one_line
                has -E "'$bad'" "help run"
        done
        [ ! -e ran ]
        [ ! -e f ]
        [ -z "$(daemon_pid)" ]
}

@test "run: missing file, missing command, unknown options: 64, one line each" {
        run -64 "$LOCKCTL" run
        one_line
        has "lock file is missing"
        run -64 "$LOCKCTL" run f
        one_line
        has "command" "'f'"
        run -64 "$LOCKCTL" run -n -w 1 f
        one_line
        run -64 "$LOCKCTL" run -q f true
        one_line
        has "'-q'"
        run -64 "$LOCKCTL" run --verbose -nq f true
        one_line
        has "'-q'"
        run -64 "$LOCKCTL" run --frob f true
        one_line
        has "'--frob'"
        run -64 "$LOCKCTL" run --shared=5 f true
        one_line
        has "'--shared=5'"
        run -64 "$LOCKCTL" run -w
        one_line
        has "'-w'"
        run -64 "$LOCKCTL" run --timeout
        one_line
        has "'--timeout'"
        [ ! -e f ]
}

@test "run: a file that cannot be opened: 66" {
        touch plain
        local name
        for name in missing/f plain/f; do
                run -66 "$LOCKCTL" run "$name" touch ran
                one_line
                has "$name"
        done
        [ ! -e ran ]
        [ "$(id -u)" -ne 0 ] || skip "the rest needs a user whom modes stop"
        chmod 0 plain
        run -66 "$LOCKCTL" run plain true
        has "Permission denied"
}

@test "run: a read-only file system: 73" {
        mkdir ro
        local in_namespace=(unshare -m)
        [ "$(id -u)" -eq 0 ] || in_namespace=(unshare -rm)
        "${in_namespace[@]}" mount -t tmpfs -o ro none ro || skip "no mount namespaces here"
        run -73 "${in_namespace[@]}" sh -c 'mount -t tmpfs -o ro none ro && exec "$0" run ro/f true' "$LOCKCTL"
        one_line
        has ro/f "Read-only"
}

@test "run: no descriptors left: 71" {
        "$LOCKCTL" run f true
        run -71 bash -c 'ulimit -n 4 && exec "$0" run f true' "$LOCKCTL" 3>&-
        one_line
        has f "Too many open files"
}

@test "run: a command that cannot be executed: 69, and the lock is free again" {
        run -69 "$LOCKCTL" run f no-such-command-here
        one_line
        has no-such-command-here "No such file"
        touch plain
        run -69 "$LOCKCTL" run f ./plain
        one_line
        has ./plain "Permission denied"
        run -0 flock -n f true
}

@test "run: who is refused learns the file, the holder and what to do, in one line" {
        hold a "$LOCKCTL" run "my file"
        run -1 --separate-stderr "$LOCKCTL" run -n "my file" true
        [ -z "$output" ]
        output=$stderr
        one_line
        has "my file: held by sh[${PIDS[a]}] ($(id -un)) for " "without -n"
        run -1 "$LOCKCTL" run -w 0.05 "my file" true
        one_line
        has "my file: the time ran out" "sh[${PIDS[a]}]" "lockctl list my file"
        run -1 "$LOCKCTL" run -w 0 "my file" true
        has "sh[${PIDS[a]}]" "longer -w"
}

@test "run: several holders are counted" {
        hold a "$LOCKCTL" run -s f
        hold b "$LOCKCTL" run -s f
        hold c "$LOCKCTL" run -s f
        run -1 "$LOCKCTL" run -n f true
        one_line
        has "and 2 more"
}

@test "run: an outside holder is named too" {
        hold a flock -o f
        run -1 "$LOCKCTL" run -n f true
        one_line
        has "f: held by flock[${PIDS[a]}]"
        run -1 "$LOCKCTL" run -w 0.05 f true
        one_line
        has "f: the time ran out, still held by flock[${PIDS[a]}]"
}

@test "run: names with newlines and escape sequences stay one harmless line" {
        local name=$'new\nline \e[31mred' command=$'./c\nd\e[1m'
        ln -s "$(command -v sh)" "$command"
        hold a "$LOCKCTL" run "$name"
        run -1 "$LOCKCTL" run -n "$name" true
        one_line
        has 'new\x0Aline \x1B[31mred: held by'
        run -69 "$LOCKCTL" run f $'no\nsuch\e[1m'
        one_line
        has 'no\x0Asuch\x1B[1m'
        run -64 "$LOCKCTL" run -w $'1\n2' f true
        one_line
        run -66 "$LOCKCTL" run $'no\nfolder/f' true
        one_line
}

# ---- signals ----

@test "run: TERM, INT, HUP, QUIT, USR1 and USR2 reach the command; lockctl ends with 128+N after it" {
        local s
        for s in TERM INT HUP QUIT USR1 USR2; do
                hold "$s" env --default-signal="$s" "$LOCKCTL" run f
                kill -"$s" "${PIDS[$s]}"
                finish "$s" $((128 + $(kill -l "$s")))
                ended "$CHILD"
        done
}

@test "run: a command that handles the signal decides the exit code" {
        hold a "$LOCKCTL" run f sh -c 'trap "exit 33" TERM; "$@" & wait' sh
        kill "${PIDS[a]}"
        finish a 33
}

@test "run: what was ignored stays ignored, for the command too" {
        hold a env --ignore-signal=HUP "$LOCKCTL" run f
        kill -HUP "${PIDS[a]}"
        kill -HUP "$CHILD"
        release a 4
        finish a 4
}

# ---- how long the lock lasts ----

@test "run: a background grandchild keeps the lock after lockctl has ended; then the next one gets in" {
        mkfifo stay
        exec {stay}<>stay
        run -5 "$LOCKCTL" run f sh -c 'head -n 1 stay >/dev/null 2>&1 3>&- & exit 5' {stay}>&-
        run -1 flock -n f true
        run -1 "$LOCKCTL" run -n f true
        start b "$LOCKCTL" run f
        waits b
        run -1 flock -n f true
        echo go >&"$stay"
        await b
        exec {stay}>&-
}

@test "run: lockctl killed by KILL: the command keeps the lock until it ends" {
        hold a "$LOCKCTL" run f
        local child=$CHILD
        kill -KILL "${PIDS[a]}"
        finish a 137
        run -1 flock -n f true
        run -1 "$LOCKCTL" run -n f true
        start b "$LOCKCTL" run f
        waits b
        kill -0 "$child"
        release a
        await b
        ended "$child"
}

@test "run: the lock is free as soon as lockctl has ended" {
        local i
        for i in 1 2 3 4 5 6 7 8 9 10; do
                "$LOCKCTL" run -n f true
                flock -n f true
        done
}

@test "run: the daemon dies: the lock stays, and later runs are excluded by it" {
        hold a "$LOCKCTL" run f
        local daemon
        daemon=$(daemon_pid)
        kill -KILL "$daemon"
        eventually ended "$daemon"
        run -1 flock -n f true
        run -1 "$LOCKCTL" run -n f true
        [ -n "$(daemon_pid)" ]
        start b "$LOCKCTL" run f
        waits b
        release a 6
        finish a 6
        await b
}

# ---- turns ----

@test "run: two shared runs overlap, an exclusive one waits for both" {
        hold a "$LOCKCTL" run -s f
        hold b "$LOCKCTL" run -s f
        start c "$LOCKCTL" run f
        waits c
        release a
        finish a 0
        queued c
        release b
        await c
        run -1 "$LOCKCTL" run -n -s f true
}

@test "run: a new shared run does not overtake a waiting exclusive one" {
        hold a "$LOCKCTL" run -s f
        start b "$LOCKCTL" run f
        waits b
        run -1 "$LOCKCTL" run -s -n f true
        start c "$LOCKCTL" run -s f
        waits c
        release a
        await b
        queued c
        release b
        await c
}

@test "run: turns come in the order of asking" {
        hold a "$LOCKCTL" run f
        local name
        for name in b c d e; do
                start "$name" "$LOCKCTL" run f
                waits "$name"
        done
        for name in a b c d e; do
                release "$name"
        done
        for name in a b c d e; do
                finish "$name" 0
        done
        [ "$(tr -d '\n' <order)" = abcde ]
}

@test "run: a waiting lockctl that is killed leaves the queue" {
        hold a "$LOCKCTL" run f
        start b "$LOCKCTL" run f
        waits b
        start c "$LOCKCTL" run f
        waits c
        start d "$LOCKCTL" run f
        waits d
        kill -TERM "${PIDS[b]}"
        finish b 143
        kill -KILL "${PIDS[c]}"
        finish c 137
        not_queued() { ! queued "$1"; }
        eventually not_queued b
        eventually not_queued c
        release a
        await d
        [ "$(tr -d '\n' <order)" = ad ]
}

@test "run: outsiders exclude us, and we wait for them" {
        hold a flock f
        run -1 "$LOCKCTL" run -n f true
        run -1 "$LOCKCTL" run -w 0.05 f true
        start b "$LOCKCTL" run f
        waits b
        release a
        await b
}

@test "run: outsiders are excluded, and wait for us" {
        hold a "$LOCKCTL" run f
        run -1 flock -n f true
        run -1 flock -n -s f true
        start b flock f
        eventually queued_in_kernel "${PIDS[b]}"
        release a
        await b
}

@test "run: shared with outsiders" {
        hold a flock -s f
        hold b "$LOCKCTL" run -s f
        run -0 flock -n -s f true
        run -1 flock -n f true
        run -1 "$LOCKCTL" run -n f true
}

@test "run: killed while it waits for an outsider, it does not get the lock afterwards" {
        hold a flock f
        start b "$LOCKCTL" run f
        waits b
        kill -KILL "${PIDS[b]}"
        finish b 137
        release a
        finish a 0
        eventually flock -n f true
        run -0 "$LOCKCTL" run -n f true
        [ "$(cat order)" = a ]
}

@test "run: no update is lost between 4 runs and 4 flocks" {
        echo 0 >counter
        local i work='for i in 1 2 3 4 5; do "$@" sh -c "read -r n <counter; echo \$((n + 1)) >counter" || exit; done'
        for i in 1 2 3 4; do
                sh -c "$work" sh "$LOCKCTL" run f 3>&- &
                PIDS["l$i"]=$!
                sh -c "$work" sh flock f 3>&- &
                PIDS["f$i"]=$!
        done
        touch l{1..4}.err f{1..4}.err
        for i in 1 2 3 4; do
                finish "l$i" 0
                finish "f$i" 0
        done
        [ "$(cat counter)" -eq 40 ]
}
