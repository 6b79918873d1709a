#!/usr/bin/env bats
# Called by the name flock, lockctl is flock(1): every case runs with ours and with the system's, under the same assertions.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2317 # functions are called by their names
# shellcheck disable=SC2153,SC2154 # CHILD, PARENT and PIDS are the helper's; stderr is set by run
load helper
load flock

# ---- util-linux's own tests, rebuilt ----

conflicts() {
        hold a flock --shared lockfile
        [ "$(pgrep -P "${PIDS[a]}")" = "$CHILD" ]
        run -123 flock --nonblock --conflict-exit-code 123 lockfile echo never
        [ -z "$output" ]
        run -123 flock --no-fork --nonblock --conflict-exit-code 123 lockfile echo never
        [ -z "$output" ]
        run -0 flock --shared lockfile echo "Have shared lock"
        [ "$output" = "Have shared lock" ]
        run -123 flock --nonblock --exclusive --conflict-exit-code 123 lockfile echo never
        [ -z "$output" ]
        local option
        for option in --nb --nonblocking --nonb --wait=0 --timeout=0 --time=.01; do
                run -9 flock "$option" --conflict-exit-code=9 lockfile echo never
                [ -z "$output" ]
        done
        run -0 flock --shared --exclusive -s --nb lockfile echo again
        [ "$output" = again ]
        run -1 flock --shared -e --nb lockfile echo never
}
@test "flock: conflicts with a shared holder, by its long options" {
        both conflicts
}

the_number_of_an_open_descriptor() {
        hold a flock --shared lockfile
        local fd
        exec {fd}<>lockfile
        rm -f "$fd"
        run -123 flock --nonblock --exclusive --conflict-exit-code 123 "$fd"
        [ -z "$output" ]
        [ ! -e "$fd" ]
        run -0 flock --nonblock --shared "$fd"
        [ -z "$output" ]
        exec {fd}>&-
}
@test "flock: a number is a descriptor, though no file has that name" {
        both the_number_of_an_open_descriptor
}

a_timeout_waits_no_longer_than_needed() {
        local begin=${EPOCHREALTIME/[.,]/} holder took
        flock lockfile sleep 1 3>&- &
        holder=$!
        eventually pgrep -P "$holder"
        run -0 flock --timeout 5 --conflict-exit-code 5 lockfile echo "After timeout."
        took=$((${EPOCHREALTIME/[.,]/} - begin))
        [ "$output" = "After timeout." ]
        wait "$holder"
        [ "$took" -ge 1000000 ]
        [ "$took" -lt 5000000 ]
}
@test "flock: a timeout of 5 seconds waits just as long as the lock is held" {
        both a_timeout_waits_no_longer_than_needed
}

unlocking() {
        local fd
        exec {fd}<>lock
        flock --exclusive --nonblock --verbose "$fd" >out
        run -1 flock -n lock true
        flock --unlock "$fd" >>out
        flock --exclusive --wait 0 --verbose lock true >>out
        exec {fd}>&-
        sed -Ei 's/took [0-9]+\.[0-9]{6} seconds/took N seconds/' out
        # Theirs says some of it after the command, when nobody looks.
        [ "$(sort out)" = "flock: executing true
flock: getting lock took N seconds
flock: getting lock took N seconds" ]
}
@test "flock: -u gives up a descriptor's lock; --verbose on stdout" {
        both unlocking
}

verbose_refusals() {
        hold a flock lock
        run -1 --separate-stderr flock --verbose -n lock true
        [ -z "$output" ]
        [ "$stderr" = "flock: failed to get lock" ]
        run -4 --separate-stderr flock --verbose -w 0 -E 4 lock true
        [ -z "$output" ]
        [ "$stderr" = "flock: failed to get lock" ]
        run -1 --separate-stderr flock --verbose -w .05 lock true
        [ -z "$output" ]
        [ "$stderr" = "flock: timeout while waiting to get lock" ]
        run -1 --separate-stderr flock -w .05 lock true
        [ -z "$output$stderr" ]
}
@test "flock: --verbose tells a conflict from a timeout on stderr; without it nothing is said" {
        both verbose_refusals
}

@test "flock: --close and --fd, as util-linux's newer versions have them (ours only)" {
        closing() {
                local fd
                exec {fd}<>lock
                run -65 flock --exclusive --close --fd "$fd" --command "flock --exclusive --nonblock --fd $fd true"
                [ "$output" = "flock: $fd: Bad file descriptor" ]
                run -0 flock --exclusive --fd "$fd" --command "flock --exclusive --nonblock --fd $fd echo in"
                [ "$output" = in ]
                run -1 flock -n lock true
                run -0 flock --fd "$fd" echo a 'b  c'
                [ "$output" = "a b  c" ]
                exec {fd}>&-
                run -0 flock -n lock true
        }
        as ours closing
}

# ---- the idioms of its manual ----

a_script_that_locks_itself() {
        printf '%s\n' '#!/bin/sh' '[ "${FLOCKER}" != "$0" ] && exec env FLOCKER="$0" flock -en "$0" "$0" "$@" || :' 'exec "$@"' >script
        chmod +x script
        hold a ./script
        run -1 ./script echo never
        [ -z "$output" ]
        release a 5
        finish a 5
        run -0 ./script echo 'a  b' c
        [ "$output" = "a  b c" ]

        printf '%s\n' '#!/bin/sh' '[ -n "$IN" ] || IN=1 exec flock -n "$0" "$0" "$@"' 'exec "$@"' >other
        chmod +x other
        hold b ./other
        run -1 ./other echo never
        release b
        finish b 0
        run -0 ./other echo in
        [ "$output" = in ]
}
@test "flock: the boilerplate of a script that locks itself" {
        both a_script_that_locks_itself
}

a_subshell() {
        local script='( flock -n 9 || exit 1; "$@" ) 9>file'
        hold a sh -c "$script" sh
        run -1 sh -c "$script" sh echo never
        [ -z "$output" ]
        release a 3
        finish a 3
        run -0 sh -c "$script" sh echo in
        [ "$output" = in ]
}
@test "flock: ( flock -n 9 || exit 1; ... ) 9>file" {
        both a_subshell
}

@test "flock: exec 4<>file; flock -n 4; ...; flock -u 4" {
        same 0 'exec 4<>file; flock -n 4; echo $?; flock -n file echo never; echo $?; flock -u 4; flock -n file echo free' $'0\n1\nfree'
        same 0 'exec 4<>file; flock -n 4 && flock -n 4 && flock -sn 4; flock -sn file echo shared; flock -xn file echo never; exec 4>&-; flock -xn file echo free' $'shared\nfree'
}

a_folder() {
        mkdir folder
        hold a flock folder
        run -1 flock -w .007 folder -c "echo never"
        [ -z "$output" ]
        run -1 flock -s -w .007 folder -c "echo never"
        release a
        finish a 0
        hold b flock -s folder
        run -0 flock -s -w .007 folder -c "echo in"
        [ "$output" = in ]
        run -1 flock -n folder true
        [ -z "$(ls -A folder)" ]
}
@test "flock: folder -c COMMAND, exclusive and shared" {
        both a_folder
}

@test "flock: -x local-lock-file echo 'a b c'" {
        same 0 "flock -x local-lock-file echo 'a b c'; ls local-lock-file" $'a b c\nlocal-lock-file'
}

# ---- options ----

@test "flock: -c uses \$SHELL, or /bin/sh" {
        same 0 'SHELL=/bin/bash flock f -c "echo \$0 \$BASH"' "/bin/bash /bin/bash"
        same 0 'SHELL= flock f -c "echo \$0"' /bin/sh
        same 0 'unset SHELL; flock f -c "echo \$0"' /bin/sh
        same 69 'SHELL=/no/shell flock f -c true'
        same 3 'flock f -c "echo in; exit 3"' in
        same 0 'flock f --command "echo  in"' in
        same 64 'flock f -c'
        same 64 'flock f -c true more'
        same 64 'flock f --command'
        same 69 'flock f --comm true'
        same 64 'flock -c true f'
}

@test "flock: -w takes fractions and whatever strtod does" {
        same 0 'for w in 0 .5 5. 1e3 1e-9 0x1 +1 " 1" 99999999999 -0; do flock -w "$w" f true || echo "$w: $?"; done'
        same 0 'for w in "" x 1x . 1.2.3 1,5 "1 " --; do flock -w "$w" f true; echo -n "$? "; done' "64 64 64 64 64 64 64 64 "
        same 0 'for w in -1 inf nan 1e300 1e999; do flock -w "$w" f true; echo -n "$? "; done' "71 71 71 71 71 "
        same 5 'exec 4>f; flock 4; flock -w 1e-9 -E 5 f true'
        same 5 'exec 4>f; flock 4; flock -n -w 600 -E 5 f true; flock -w 600 -n -E 5 f true'
        same 1 'exec 4>f; flock 4; flock -w .05 f true'
}

@test "flock: -E takes 0 to 255" {
        same 0 'exec 4>f; flock 4; for e in 0 7 255 +5 " 5" 007; do flock -n -E "$e" f true; echo -n "$? "; done' "0 7 255 5 5 7 "
        same 0 'for e in "" x 1x -1 256 1.5 0x10 99999999999999999999; do flock -E "$e" f true; echo -n "$? "; done' "64 64 64 64 64 64 64 64 "
}

@test "flock: the last of -s, -x, -e and -u wins" {
        same 1 'exec 4>f; flock -s 4; flock -n -s -x f true'
        same 1 'exec 4>f; flock -s 4; flock -n -s -e f true'
        same 0 'exec 4>f; flock -s 4; flock -n -x -s f echo in' in
        same 0 'exec 4>f; flock 4; flock -n -x -u f echo in' in
        same 1 'exec 4>f; flock 4; flock -u -n -x f echo never'
        same 0 'exec 4>f; flock 4; flock -xu 4; flock -n f echo in' in
        same 1 'exec 4>f; flock 4; flock -ux 4; flock -n f echo never'
}

@test "flock: unique prefixes of long options; others are refused in getopt's words" {
        same 0 'flock --sh --nonb --wa 1 --conf 5 --cl --verb f true | wc -l; exec 4>f; flock --exc 4; flock --unl 4; flock -n f echo free' $'2\nfree'
        same 0 'for o in --no --n --c=1 --v --frob --shared=1 -q -nq -w --timeout --conflict-exit-code; do
                        flock $o; echo -n "$? "
                done' "64 64 64 64 64 64 64 64 64 64 64 "
}

@test "flock: options after FILE belong to the command" {
        same 0 "flock f printf '%s.' -n -w 5 --shared -- -x -c" "-n.-w.5.--shared.--.-x.-c."
        same 0 "flock -- f echo -- -n" "-- -n"
        same 0 "flock -n -- -x echo in; ls ./-x" $'in\n./-x'
        same 69 "flock f -n true"
}

@test "flock: arguments that are missing: 64" {
        same 64 'flock'
        same 64 'flock -n'
        same 64 'flock -n -w 1 f; code=$?; ls; exit $code' "bin
code
err
out"
        same 0 'for n in f 12x "" 4294967296 99999999999999999999; do flock "$n"; echo -n "$? "; done' "64 64 64 64 64 "
        same 64 'flock -o -F f true'
}

@test "flock: a descriptor that is not open: 65" {
        same 0 'for n in 3 4 5 6 7 8 300 2147483647 -1 +5 " 5"; do
                        flock -- "$n"; echo -n "$? "
                        flock -u -- "$n"; echo -n "$? "
                done' "$(printf '65 %.0s' {1..22})"
        same 65 'flock 0 0<&-'
        same 65 'flock 1 1>&-'
        same 65 'flock -u 0 0<&-'
        same 0 'flock 0 </dev/null'
        same 0 'echo | flock 0'
}

@test "flock: a file that cannot be opened: 66" {
        same 0 '>plain; ln -s missing/f link; for f in missing/f plain/f "" missing/ link; do flock "$f" true; echo -n "$? "; done' "66 66 66 66 66 "
        same 66 'flock -F missing/f true'
        same 66 'flock -u missing/f true'
}

@test "flock: a command that cannot be executed: 69" {
        same 0 '>plain; for o in -x -F -o -u; do
                        for c in no-such-command ./plain ""; do flock $o f "$c"; echo -n "$? "; done
                done' "$(printf '69 %.0s' {1..12})"
}

@test "flock: a file system that is read-only or full: 73" {
        local in_namespace="unshare -m" options
        [ "$(id -u)" -eq 0 ] || in_namespace="unshare -rm"
        prepare ours
        prepare theirs
        mkdir ours/fs theirs/fs
        $in_namespace mount -t tmpfs none ours/fs || skip "no mount namespaces here"
        as ours flock warm true # not in there
        for options in ro nr_inodes=1; do
                same 73 "$in_namespace sh -c 'mount -t tmpfs -o $options none fs && exec flock fs/f true'"
        done
}

@test "flock: output that cannot be written: 1" {
        same 1 'flock --verbose f true >/dev/full'
        same 1 'flock --verbose f sh -c "exit 7" >/dev/full'
        same 1 'flock --help >/dev/full'
        same 0 'flock --verbose f true >&-'
        same 7 'flock f sh -c "exit 7" >/dev/full'
}

help_and_version() {
        local option
        for option in -h --help --he; do
                run -0 --separate-stderr flock "$option"
                [ -z "$stderr" ]
                has "flock [options] <file>|<directory> <command>" "flock [options] <file descriptor number>" --nonblock --conflict-exit-code
        done
        for option in -V --version --vers; do
                run -0 --separate-stderr flock "$option"
                [ -z "$stderr" ]
                [[ $output == "flock from "* ]]
        done
        run -0 flock -n --help no such thing
}
@test "flock: --help and --version" {
        both help_and_version
}

@test "flock: --fcntl, --start and --length are refused in a clear sentence (ours only)" {
        refusals() {
                local option
                for option in --fcntl --start=1 --length=1; do
                        run -64 flock "$option" f true
                        one_line
                        has "flock: " "--fcntl, --start, --length" "not supported"
                done
                [ ! -e f ]
        }
        as ours refusals
}

# ---- the command ----

the_commands_end() {
        local code
        for code in 0 1 64 255; do
                run "-$code" flock f sh -c "exit $code"
        done
        run -137 flock f sh -c 'kill -9 $$'
        run -143 flock f sh -c 'kill -15 $$'
        run -7 env --ignore-signal=CHLD flock f sh -c 'exit 7'
}
@test "flock: exit codes are the command's; also with SIGCHLD ignored" {
        both the_commands_end
}

ignores_children() { # COMMAND...: it would, in this command
        local mask
        mask=$("$@" awk '/^SigIgn/ { print $2 }' /proc/self/status)
        (((0x$mask >> 16) & 1))
}
sigchld_is_reset() {
        ignores_children env --ignore-signal=CHLD
        run -1 ignores_children env --ignore-signal=CHLD flock f
        run -1 ignores_children env --ignore-signal=CHLD flock -F f
}
@test "flock: the command finds SIGCHLD as it is by default" {
        both sigchld_is_reset
}

a_grandchild_keeps_the_lock() {
        local stay
        mkfifo stay
        exec {stay}<>stay
        run -5 flock f sh -c 'head -n 1 stay >/dev/null 2>&1 3>&- & exit 5' {stay}>&-
        run -1 flock -n f true
        echo go >&"$stay"
        eventually flock -n f true
        # not with -o
        run -5 flock -o f sh -c 'head -n 1 stay >/dev/null 2>&1 3>&- & echo $!; exit 5' {stay}>&-
        local pid=$output
        run -0 flock -n f true
        run ! ended "$pid"
        echo go >&"$stay"
        eventually ended "$pid"
        exec {stay}>&-
}
@test "flock: a background grandchild keeps the lock, unless -o" {
        both a_grandchild_keeps_the_lock
}

closed_in_the_command() {
        run -0 flock -o f sh -c 'readlink /proc/$$/fd/*; flock -n f echo never; echo $?' 3>&-
        [ "$(tail -n 1 <<<"$output")" = 1 ]
        [[ $output != *"$PWD/f"* ]]
        run -0 flock f sh -c 'readlink /proc/$$/fd/*; :' 3>&-
        has "$PWD/f"
}
@test "flock: -o closes the file in the command only" {
        both closed_in_the_command
}

no_fork() {
        hold a flock -F f
        [ "$CHILD" = "${PIDS[a]}" ]
        run -1 flock -n f true
        if [ "$OURS" = yes ]; then
                run -0 "$LOCKCTL" list -n -o PID,STATE,PATH
                [ "$(tr -s ' ' <<<"$output")" = "${PIDS[a]} held $PWD/f" ]
        fi
        kill -TERM "${PIDS[a]}"
        finish a 143
        run -0 flock -n -F f echo in
        [ "$output" = in ]
        run -8 flock --no-fork f -c 'exit 8'
        if [ "$OURS" = yes ]; then
                not_listed() { [ -z "$("$LOCKCTL" list)" ]; }
                eventually not_listed
        fi
}
@test "flock: -F becomes the command: signals reach it, and our list shows it" {
        both no_fork
}

waiting_and_its_end() {
        hold a flock f
        start b flock -w 600.5 f
        blocked b
        start c flock f
        blocked c
        release a 4
        finish a 4
        await b
        release b
        finish b 0
        await c
        kill -KILL "$CHILD"
        finish c 137
        run -0 flock -n f true
}
@test "flock: waits until the lock is free" {
        both waiting_and_its_end
}

signals_while_it_waits() {
        local s
        hold a flock f
        for s in TERM INT HUP QUIT USR1 USR2; do
                start "$s" env --default-signal="$s" flock f
                blocked "$s"
                kill -"$s" "${PIDS[$s]}"
                finish "$s" $((128 + $(kill -l "$s")))
        done
        [ "$(cat order)" = a ]
}
@test "flock: signals while it waits end it" {
        both signals_while_it_waits
}
