#!/usr/bin/env bats
# lockctl list: who holds, who waits.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2154 # lines and PIDS are the helper's and bats'
load helper

# Succeeds if $output is one JSON document; prints what the Python expression says of it as `d`.
json() {
        "$PYTHON" -c 'import json, sys; d = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$output" "${1-0}"
}

# The rows of $output without the spaces that align them.
rows() {
        tr -s ' ' <<<"$output"
}

@test "list: without a daemon there is nothing, and none is started" {
        run -0 "$LOCKCTL" list
        [ -z "$output" ]
        run -0 "$LOCKCTL" list f
        [ -z "$output" ]
        [ ! -e socket ]
}

@test "list: --json is a document also without a daemon and without locks" {
        nothing() {
                run -0 "$LOCKCTL" list "$@"
                [ "$output" = '{"locks":[]}' ]
        }
        nothing --json
        "$PYTHON" -m json.tool <<<"$output"
        nothing -J
        nothing --js
        nothing --json f
        [ ! -e socket ]
        "$LOCKCTL" run f true
        nothing --json
        nothing --json f
}

@test "list: a daemon that is gone holds nothing" {
        "$LOCKCTL" run f true
        local daemon
        daemon=$(daemon_pid)
        kill -KILL "$daemon"
        eventually ended "$daemon"
        [ -S socket ]
        run -0 "$LOCKCTL" list
        [ -z "$output" ]
        run -0 "$LOCKCTL" list --json
        [ "$output" = '{"locks":[]}' ]
}

@test "list: a daemon that cannot be reached is not one that holds nothing" {
        touch plain
        PORTALOCK_SOCKET=$DIR/plain/socket run -69 "$LOCKCTL" list
        one_line
        has plain/socket "Not a directory"
        PORTALOCK_SOCKET=$DIR/plain/socket run -69 "$LOCKCTL" list --json
}

@test "list: a row for a holder, under a header" {
        hold a "$LOCKCTL" run "a file"
        run -0 "$LOCKCTL" list
        [ "${#lines[@]}" -eq 2 ]
        [ "$(head -n 1 <<<"$(rows)")" = "COMMAND PID USER MODE STATE AGE TOKEN PATH" ]
        [[ "$(tail -n 1 <<<"$(rows)")" =~ ^sh\ ${PIDS[a]}\ $(id -un)\ LOCK_EX\ held\ [0-9]+m?s\ [0-9]{10,}\ $DIR/a\ file$ ]]
        # Columns line up: PATH begins where its heading does.
        local before=${lines[0]%PATH}
        [ "${lines[1]:${#before}}" = "$DIR/a file" ]
        release a
        finish a 0
        run -0 "$LOCKCTL" list
        [ -z "$output" ]
}

@test "list: shared locks say so, each with its holder" {
        hold a "$LOCKCTL" run -s f
        hold b "$LOCKCTL" run -s f
        run -0 "$LOCKCTL" list
        [ "$(grep -c " LOCK_SH \+held " <<<"$output")" -eq 2 ]
        has " ${PIDS[a]} " " ${PIDS[b]} "
}

@test "list: waiters stand under what blocks them, in the order of their turns" {
        hold a "$LOCKCTL" run f
        hold b "$LOCKCTL" run g
        start c "$LOCKCTL" run f
        waits c
        start d "$LOCKCTL" run -s g
        waits d
        start e "$LOCKCTL" run f
        waits e
        run -0 "$LOCKCTL" list
        local of_f="${PIDS[a]} held ${PIDS[c]} waiting ${PIDS[e]} waiting" of_g="${PIDS[b]} held ${PIDS[d]} waiting" seen
        seen=$(awk 'NR > 1 { printf "%s%s %s", sep, $2, $5; sep = " " }' <<<"$output")
        [ "$seen" = "$of_f $of_g" ] || [ "$seen" = "$of_g $of_f" ]
        grep -q "^  sh  *${PIDS[c]} .* waiting .* - $DIR/f\$" <<<"$output"
        grep -q "^sh  *${PIDS[a]} .* held " <<<"$output"
        run -0 "$LOCKCTL" list --json
        [ "$(json '{f["path"][-1]: [w["pid"] for w in f["waiters"]] for f in sorted(d["locks"], key=lambda f: f["path"])}')" = "{'f': [${PIDS[c]}, ${PIDS[e]}], 'g': [${PIDS[d]}]}" ]
}

@test "list: FILE shows that file only, by any of its names; several are shown in turn" {
        hold a "$LOCKCTL" run f
        hold b "$LOCKCTL" run g
        hold c "$LOCKCTL" run h
        ln -s f link
        local name
        for name in f ./f "$DIR/f" link; do
                run -0 "$LOCKCTL" list "$name"
                [ "${#lines[@]}" -eq 2 ]
                has " ${PIDS[a]} "
        done
        run -0 "$LOCKCTL" list h f
        [ "$(awk 'NR > 1 { printf "%s ", $2 }' <<<"$output")" = "${PIDS[c]} ${PIDS[a]} " ]
        run -0 "$LOCKCTL" list --json h f
        [ "$(json 'len(d["locks"])')" -eq 2 ]
}

@test "list: a FILE that does not exist has no locks, and is not made" {
        "$LOCKCTL" run f true
        run -0 "$LOCKCTL" list missing
        [ -z "$output" ]
        run -0 "$LOCKCTL" list --json missing nowhere/f
        [ "$output" = '{"locks":[]}' ]
        [ ! -e missing ]
}

@test "list: outsiders show when FILE is given, and on files that are held or waited for here" {
        "$LOCKCTL" run f true
        hold a flock -o f
        run -0 "$LOCKCTL" list f
        [ "${#lines[@]}" -eq 2 ]
        grep -q "^flock  *${PIDS[a]} .* LOCK_EX  *outside .* $DIR/f\$" <<<"$output"
        run -0 "$LOCKCTL" list --json f
        [ "$(json '[(o["pid"], o["command"]) for o in d["locks"][0]["outside"]]')" = "[(${PIDS[a]}, 'flock')]" ]
        run -0 "$LOCKCTL" list
        [ -z "$output" ]
        start b "$LOCKCTL" run f
        waits b
        # What the daemon read of /proc/locks may be a second old.
        shows() {
                run -0 "$LOCKCTL" list
                [ "$(awk 'NR > 1 { printf "%s %s ", $2, $5 }' <<<"$output")" = "$1" ]
        }
        eventually shows "${PIDS[a]} outside ${PIDS[b]} waiting "
        hold c "$LOCKCTL" run -s g
        hold d flock -o -s g
        release a
        await b
        release b
        finish b 0
        eventually shows "${PIDS[c]} held ${PIDS[d]} outside "
}

@test "list: our own grants are not outsiders" {
        hold a "$LOCKCTL" run f
        run -0 "$LOCKCTL" list f
        [ "${#lines[@]}" -eq 2 ]
        [[ $output != *outside* ]]
}

@test "list: names with spaces, newlines and escape sequences cannot break rows" {
        local name=$'two words\nnew line\t\e[2J\x7f\xc2\x9b31m'
        local command=$'c\nd \e[1m'
        # A lockctl names itself after the command that it runs.
        printf '#!/bin/sh\nexec "$@"\n' >"$command"
        chmod +x "$command"
        hold a "$LOCKCTL" run "$name" "./$command"
        start b "$LOCKCTL" run "$name"
        waits b
        run -0 "$LOCKCTL" list
        [ "${#lines[@]}" -eq 3 ]
        has 'two words\x0Anew line\x09\x1B[2J\x7F\xC2\x9B31m' 'c\x0Ad \x1B[1m'
        [ "$(tr -d '\n' <<<"$output" | LC_ALL=C grep -c '[[:cntrl:]]')" -eq 0 ]
        run -0 "$LOCKCTL" list --json "$name"
        [ "$(wc -l <<<"$output")" -eq 1 ]
        [ "$(json 'd["locks"][0]["path"].rsplit("/", 1)[1] == "two words\nnew line\t\x1b[2J\x7f\x9b31m"')" = True ]
}

@test "list: a name that is not UTF-8 is shown by its bytes" {
        local name=$'caf\xe9'
        hold a "$LOCKCTL" run "$name"
        run -0 "$LOCKCTL" list
        [ "${#lines[@]}" -eq 2 ]
        has 'caf\xE9'
        run -0 "$LOCKCTL" list --json
        "$PYTHON" -m json.tool <<<"$output"
        run -1 "$LOCKCTL" run -n "$name" true
        one_line
}

@test "list: many locks, over more than one page" {
        # 1,200 path locks in one session: a page has 1,000 rows at most.
        local many='
import json, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
lines = s.makefile()
for i in range(1200):
    s.sendall(json.dumps({"jsonrpc": "2.0", "id": i, "method": "lock", "params": {"path": "%s/many-%d" % (sys.argv[2], i), "flags": ["LOCK_SH"]}}).encode() + b"\n")
    assert "result" in json.loads(lines.readline())
sys.exit(subprocess.call(sys.argv[3:]))'
        "$LOCKCTL" run f true
        hold a "$PYTHON" -c "$many" "$PORTALOCK_SOCKET" "$DIR"
        run -0 "$LOCKCTL" list
        [ "$(grep -c ' held ' <<<"$output")" -eq 1200 ]
        [ "$(awk '/ held / { print $NF }' <<<"$output" | sort -u | wc -l)" -eq 1200 ]
        "$LOCKCTL" list --json >document
        [ "$("$PYTHON" -c 'import json; print(len({f["path"] for f in json.load(open("document"))["locks"]}))')" -eq 1200 ]
}

@test "list: output that cannot be written is a failure with a sentence" {
        hold a "$LOCKCTL" run f
        local option
        for option in "" --json; do
                run -74 bash -c '"$0" list $1 >/dev/full' "$LOCKCTL" "$option"
                one_line
                has "No space left"
                run -74 bash -c '"$0" list $1 >&-' "$LOCKCTL" "$option"
                one_line
                has "Bad file descriptor"
                run -74 env --ignore-signal=PIPE bash -c 'exec 5> >(exec true); wait $!; "$0" list $1 >&5' "$LOCKCTL" "$option"
                one_line
                has "Broken pipe"
                run -141 env --default-signal=PIPE bash -c 'exec 5> >(exec true); wait $!; "$0" list $1 >&5' "$LOCKCTL" "$option"
        done
        # The daemon took no harm from what was meant for stdout.
        run -0 "$LOCKCTL" list
        [ "${#lines[@]}" -eq 2 ]
}

@test "list: unknown options: 64 in one line" {
        local option
        for option in -z --frob --json=5 -Jz; do
                run -64 "$LOCKCTL" list "$option"
                one_line
                has "help list"
        done
}

@test "list: options may follow FILE; after -- they are files" {
        hold a "$LOCKCTL" run -- --json
        run -0 "$LOCKCTL" list ./--json --json
        [ "$(json 'len(d["locks"])')" -eq 1 ]
        run -0 "$LOCKCTL" list -- --json
        has " ${PIDS[a]} "
}
