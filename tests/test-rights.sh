#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Who may do what, with real users, groups and sudo: in a mount namespace whose /etc and whose prefix are its own.
#
# The table below says what each command needs. It is written from the manual, not from the program's own table, and has
# every command: a new one fails this test until somebody has thought about who may use it.

if [ -z "${LABBOOT_IN_NAMESPACE-}" ]; then
    unshare -m true 2> /dev/null || { echo "test-rights.sh: skipped: needs root (unshare -m)" >&2; exit 77; }
    LABBOOT_IN_NAMESPACE=1 exec unshare -m --propagation private "$0" "$@"
fi
# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need nbdkit sudo visudo useradd groupadd setpriv mkfs.ext4 make /usr/bin/python3
export PATH=$PATH:/usr/sbin:/sbin
# ---- a host of its own -----------------------------------------------------------------------------------------------

mkdir "$tmp/over"
mount -t tmpfs labboot-test "$tmp/over"
at_end() { umount -l "${covered[@]}" "$tmp/over" 2> /dev/null || true; }
covered=()

# cover FOLDER: what is written to it, or to its nearest ancestor that exists, stays in this namespace.
cover() {
    local dir=$1 n=${#covered[@]} c
    while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
    [ "$dir" != / ] || skip "cannot cover $1"
    for c in "${covered[@]}"; do
        case $dir/ in "$c"/*) return ;; esac
    done
    mkdir "$tmp/over/upper$n" "$tmp/over/work$n"
    mount -t overlay labboot-test -o "lowerdir=$dir,upperdir=$tmp/over/upper$n,workdir=$tmp/over/work$n" "$dir" ||
        skip "cannot mount an overlay on $dir"
    covered+=("$dir")
}

# place PATH: its end, of what `make install` installs; $placed is where.
place() {
    local from
    from=$(find "$tmp/over/inst" -type f -path "*/$1" | head -n 1)
    [ -n "$from" ] || fail "make install does not install $1"
    placed=${from#"$tmp/over/inst"}
    cover "$(dirname "$placed")"
    mkdir -p "$(dirname "$placed")"
    cp "$from" "$placed"
}

make -C "$builddir" -s install DESTDIR="$tmp/over/inst" > "$tmp/install" 2>&1 || fail "make install: $(tail "$tmp/install")"
cover /etc
# First what may lie in a folder of its own that is new: what covers its ancestor would hide what was covered before.
place labboot-kernel
place nbdkit-labboot-plugin.so
place labboot.conf.example
config=$(dirname "$placed")/labboot.conf
place bin/labboot
installed=$placed
mkdir -p /etc/sudoers.d
rm -f /etc/sudoers.d/*
# As Debian has it.
cat > /etc/sudoers << 'END'
Defaults env_reset
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Defaults use_pty
root ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
END
chmod 440 /etc/sudoers
install -m 0440 "$builddir/conf/labboot.sudoers" /etc/sudoers.d/labboot
say "the file for sudo"
visudo -c -q -f /etc/sudoers || fail "$(visudo -c -f /etc/sudoers 2>&1)"

groupadd -r -f lab
groupadd -r -f lab-admin
id -u labboot > /dev/null 2>&1 || useradd -r -U -d /nonexistent -s /usr/sbin/nologin labboot
# alice and bob have the role user, mona moderator, ada admin; lena needs no role, nils has none, olga is nobody here.
for user in alice bob mona ada nils; do useradd -M -N -g lab "$user"; done
useradd -M -U -G lab-admin lena
useradd -M -U olga

# run USER WORDS…: as that user calls it, with nothing of this script's environment.
run() { run_program "$1" "$installed" "${@:2}"; }
run_program() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin setpriv --reuid "$1" --regid "$(id -g "$1")" --init-groups -- "${@:2}"
}
lb() { env -u LABBOOT_PLUGIN -u LABBOOT_LIBEXECDIR "$installed" "$@"; }
# refused STATUS REGEX USER WORDS…: one line on stderr, nothing on stdout.
refused() {
    expect_status "$1" run "${@:3}"
    expect "" "$(cat "$tmp/out")" "output of '${*:3}'"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error of '${*:3}'"
    expect_match "^labboot: $2" "$(cat "$tmp/err")" "error of '${*:3}'"
}

# ---- a lab ---------------------------------------------------------------------------------------------------------------

state=$tmp/over/state
write_conf server.state-dir="$state" server.run-dir="$tmp/over/run" server.unix-socket="$tmp/over/run/nbd.sock" \
    network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 network.next-server=127.0.0.1
mv "$LABBOOT_CONFIG" "$config"
unset LABBOOT_CONFIG
lb init > /dev/null
lb user add alice --email alice@lab.example > /dev/null
lb user add bob --email bob@lab.example > /dev/null
lb user add zoe --email zoe@lab.example > /dev/null
lb user add mona --email mona@lab.example --role moderator > /dev/null
lb user add ada --email ada@lab.example --role admin > /dev/null
mkfs.ext4 -q "$tmp/disk.raw" 1M > /dev/null 2>&1
declare -A boot
lb machine add 52:54:00:00:00:01 --name lab1 > /dev/null
for user in alice bob mona ada; do
    lb image import "$user/img" "$tmp/disk.raw" --kind user > /dev/null
    lb image import "$user/sys" "$tmp/disk.raw" --kind system > /dev/null
    lb setup create "set" --owner "$user" --image "$user/img" > /dev/null
    boot[$user]=$(lb --quiet boot queue lab1 "$user/set")
done
cp -a "$state" "$tmp/over/saved"
restore() {
    rm -rf "$state"
    cp -a "$tmp/over/saved" "$state"
}

# ---- the table -------------------------------------------------------------------------------------------------------------

# COMMAND | its words | own | another's | another's system image | status where permitted
# The middle ones are the least role: user, moderator, admin; none: nobody is asked; -: there is no such object.
# OWNER is the owner of the object, SELF who calls, BOOT a queued boot of OWNER's. A disk is at hand as standard input.
table() {
    cat << 'END'
init           |                                  | -         | admin     | -         | 0
apply          |                                  | -         | admin     | -         | 0
config check   |                                  | -         | none      | -         | 0
config reload  |                                  | -         | admin     | -         | *
config show    |                                  | -         | none      | -         | 0
config example |                                  | -         | none      | -         | 0
serve          | -- --dump-plugin                   | -         | admin     | -         | 0
dhcp           | -- --test                        | -         | admin     | -         | *
status         |                                  | -         | user      | -         | 0
log            |                                  | -         | user      | -         | 0
fsck           |                                  | -         | admin     | -         | *
fsck           | --repair                         | -         | admin     | -         | *
gc             |                                  | -         | admin     | -         | 0
doctor         | lab1                             | -         | user      | -         | *
user add       | eve --email eve@lab.example      | -         | admin     | -         | 0
user list      |                                  | -         | user      | -         | 0
user show      | OWNER                            | user      | user      | -         | 0
user set       | OWNER --name Other               | user      | admin     | -         | 0
user set       | OWNER --email x@lab.example      | user      | admin     | -         | 0
user set       | OWNER --role moderator --force   | admin     | admin     | -         | 0
user remove    | OWNER --force                    | admin     | admin     | -         | 0
machine add    | 52:54:00:00:00:09                | -         | admin     | -         | 0
machine list   |                                  | -         | user      | -         | 0
machine show   | lab1                             | -         | user      | -         | 0
image create   | OWNER/new --size 4M              | user      | admin     | -         | 0
image create   | OWNER/new --size 4M --kind boot  | moderator | moderator | -         | 0
machine set    | lab1 --name lab7                 | -         | admin     | -         | 0
machine remove | lab1                             | -         | admin     | -         | *
image import   | OWNER/new - --kind user          | user      | admin     | -         | 0
image import   | OWNER/new -                      | user      | -         | -         | 0
image import   | OWNER/new - --kind system        | moderator | moderator | -         | 0
image import   | OWNER/img -                      | user      | admin     | -         | 0
image import   | OWNER/sys -                      | user      | -         | moderator | 0
image export   | OWNER/img -                      | user      | admin     | -         | 0
image export   | OWNER/sys -                      | user      | -         | user      | 0
image verify   | OWNER/img                        | user      | admin     | -         | 0
image verify   | OWNER/sys                        | user      | -         | user      | 0
image flatten  | OWNER/img                        | user      | admin     | -         | 0
image flatten  | OWNER/sys --level 9              | user      | -         | moderator | 0
image list     |                                  | -         | user      | -         | 0
image show     | OWNER/img                        | user      | user      | -         | 0
image versions | OWNER/img                        | user      | user      | -         | 0
image set      | OWNER/img --name new             | user      | admin     | -         | 0
image set      | OWNER/sys --comment new          | user      | -         | moderator | 0
image set      | OWNER/img --kind system          | moderator | admin     | -         | 0
image set      | OWNER/sys --kind user            | moderator | -         | moderator | 0
image set      | OWNER/img --owner eve            | admin     | admin     | -         | 3
image remove   | OWNER/img                        | user      | admin     | -         | 4
image remove   | OWNER/sys                        | user      | -         | moderator | 0
image rollback | OWNER/sys --to 1                 | user      | -         | moderator | 3
image keep     | OWNER/img --last 1               | user      | admin     | -         | 0
setup create   | new --owner OWNER --image SELF/img | user    | admin     | -         | 0
setup create   | new --owner SELF --image OWNER/img | user    | admin     | -         | 0
setup create   | new --owner SELF --image OWNER/sys | user    | -         | user      | 0
setup create   | new --owner SELF --image OWNER/sys,update | user | -     | moderator | 0
setup list     |                                  | -         | user      | -         | 0
setup show     | OWNER/set                        | user      | user      | -         | 0
setup add-image    | OWNER/set SELF/sys           | user      | admin     | -         | 0
setup remove-image | OWNER/set img                | user      | admin     | -         | 4
setup move-image   | OWNER/set img --to 1         | user      | admin     | -         | 0
setup peg      | OWNER/set img@latest             | user      | admin     | -         | 0
setup rename   | OWNER/set other                  | user      | admin     | -         | 0
setup set      | OWNER/set --owner SELF           | user      | admin     | -         | *
setup remove   | OWNER/set                        | user      | admin     | -         | 0
setup add-image | SELF/set OWNER/sys               | user      | -         | user      | 0
setup add-image | SELF/set OWNER/sys,update        | user      | -         | moderator | 0
setup peg      | OWNER/set img --update yes       | user      | admin     | -         | 0
setup set      | OWNER/set --owner zoe            | admin     | admin     | -         | 0
boot queue     | lab1 OWNER/set                   | user      | moderator | -         | 0
boot queue     | lab1 OWNER/set --update          | user      | admin     | -         | 0
boot list      |                                  | -         | user      | -         | 0
boot show      | BOOT                             | user      | user      | -         | 0
boot next      | lab1                             | -         | user      | -         | 0
boot cancel    | BOOT                             | user      | moderator | -         | 0
boot end       | BOOT                             | user      | moderator | -         | 4
boot commit    | BOOT                             | user      | moderator | -         | 4
boot discard   | BOOT                             | user      | moderator | -         | 4
boot resume    | BOOT                             | user      | moderator | -         | 4
END
}

# Users, and what they count as.
declare -A rank=([none]=0 [user]=1 [moderator]=2 [admin]=3)
declare -A counts=([alice]=user [mona]=moderator [ada]=admin [lena]=admin [nils]=none [olga]=none)

# try USER OWNER LEAST STATUS COMMAND WORDS
try() {
    local user=$1 owner=$2 least=$3 wanted=$4 words=$6 got=0
    local self=$user
    [ "$user" != lena ] && [ "$user" != nils ] && [ "$user" != olga ] || self=bob
    words=${words//OWNER/$owner}
    words=${words//SELF/$self}
    words=${words//BOOT/${boot[$owner]}}
    [ "${rank[${counts[$user]}]}" -ge "${rank[$least]}" ] || wanted=5
    # shellcheck disable=SC2086
    run_program "$user" timeout 60 "$installed" --quiet $5 $words < "$tmp/disk.raw" > "$tmp/out" 2> "$tmp/err" || got=$?
    if [ "$wanted" != "*" ] || [ "$got" = 5 ]; then
        [ "$got" = "$wanted" ] || fail "$user: labboot $5 $words: wanted status $wanted, got $got: $(cat "$tmp/err")"
    fi
    [ "$got" != 5 ] || [ ! -s "$tmp/out" ] || fail "$user: labboot $5 $words: refused, with output"
    tried=$((tried + 1))
    if [ "$got" != 5 ] && ! cmp -s "$state/catalog.db" "$tmp/over/saved/catalog.db"; then restore; fi
}

say "the table has every command"
commands=$("$installed" help | sed -n 's/^  labboot \([a-z]*\( [a-z-]*\)\{0,1\}\).*/\1/p' | sed 's/ *$//' | sort -u)
differences=$(diff <(echo "$commands") <(table | cut -d'|' -f1 | sed 's/ *$//' | sort -u)) ||
    fail "the commands (<) and the table (>) differ: $differences"

say "every command, every role, own and others' objects"
tried=0
while IFS='|' read -r command words own other common status; do
    command=$(xargs <<< "$command")
    read -r words <<< "$words"
    own=${own// /} other=${other// /} common=${common// /} status=${status// /}
    for user in alice mona ada lena nils olga; do
        [ "$own" = - ] || [ "${counts[$user]}" = none ] || [ "$user" = lena ] ||
            try "$user" "$user" "$own" "$status" "$command" "$words"
        [ "$other" = - ] || try "$user" bob "$other" "$status" "$command" "$words"
        [ "$common" = - ] || try "$user" bob "$common" "$status" "$command" "$words"
    done
done < <(table)
say "$tried calls"

# ---- what a caller might try -----------------------------------------------------------------------------------------------

restore
# as_labboot USER WORDS…: without labboot in between.
as_labboot() { run_program "$1" sudo -n -u labboot "$installed" "${@:2}"; }
last_actor() {
    /usr/bin/python3 -c 'import sqlite3, sys
c = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro&immutable=1", uri=True)
print(c.execute("SELECT actor FROM event WHERE actor <> \"server\" ORDER BY id DESC").fetchone()[0])' "$state/catalog.db"
}
versions() { lb --json image versions "$1" | json 'len(v)'; }
# mine USER: a folder that is that user's alone.
mine() {
    local dir=$tmp/over/$1
    [ -d "$dir" ] || install -d -m 700 -o "$1" "$dir"
    echo "$dir"
}

say "being somebody else"
expect_status 5 run_program alice env "SUDO_UID=$(id -u lena)" SUDO_USER=lena "$installed" machine add 52:54:00:00:00:09
expect_status 5 run_program nils env "SUDO_UID=$(id -u ada)" "$installed" user list
expect_status 5 run_program olga env "SUDO_UID=$(id -u ada)" "$installed" user list
refused 5 "--as needs the role admin" alice user list --as ada
expect_status 1 run_program alice sudo -n -u labboot "SUDO_UID=$(id -u ada)" "$installed" user list
expect_status 1 run_program alice sudo -n -u labboot true
expect_status 0 run ada machine add 52:54:00:00:00:09 --name lab9
expect ada "$(last_actor)" "who added the machine"
expect_status 0 run lena --as bob image import own - < "$tmp/disk.raw"
expect "lena as bob" "$(last_actor)" "who made bob's image"
expect "bob user" "$(lb --json image show bob/own | json 'v["Username"], v["Type"]')" "bob's image"
expect_status 5 run lena --as bob machine add 52:54:00:00:00:0a

say "what a refusal says"
refused 5 "olga is not in the group lab; try: .*adduser olga lab" olga user list
refused 5 "nils is no user of labboot; try: .*labboot user add nils --email" nils user list
refused 5 "this command needs the role admin; alice has the role user" alice machine add 52:54:00:00:00:0b
refused 5 "changing the system image bob/sys needs the role moderator, or its owner; alice has" alice image import bob/sys "$tmp/disk.raw"

say "an update that is queued reaches no image that joins its setup later"
update=$(run alice --quiet boot queue lab1 "set" --update)
refused 5 "changing the system image bob/sys needs the role moderator" alice setup add-image "set" bob/sys
expect_status 0 run alice --quiet setup add-image "set" alice/sys
run alice boot cancel "$update"
expect_status 0 run alice setup remove-image "set" alice/sys
expect_status 0 run alice --quiet setup add-image "set" bob/sys

say "another configuration"
sed "s|$state|$tmp/over/evil|" "$config" > "$tmp/evil.conf"
install -d -o labboot "$tmp/over/evil"
expect_status 0 run lena --config "$tmp/evil.conf" init
for user in alice ada; do
    refused 5 "$tmp/evil.conf: another configuration is for members of the group lab-admin" "$user" --config "$tmp/evil.conf" user list
    expect_status 5 run_program "$user" env "LABBOOT_CONFIG=$tmp/evil.conf" "$installed" user list
    expect_status 5 as_labboot "$user" --config "$tmp/evil.conf" user list
    expect_status 5 as_labboot "$user" --config "$state/catalog.db" config check
    expect "" "$(cat "$tmp/out")" "what a forbidden file holds"
done
expect_status 0 run alice --config "$config" user list
expect "" "$(run lena --config "$tmp/evil.conf" --json user list | json 'v or ""')" "users of another state"
expect_status 0 run_program lena env "LABBOOT_CONFIG=$tmp/evil.conf" "$installed" user list
expect_status 0 run lena --config "$tmp/evil.conf" user add mallory --email mallory@lab.example
expect mallory "$(as_labboot lena complete -- --config "$tmp/evil.conf" user show mal)" "completion for an admin"
expect "" "$(as_labboot alice complete -- --config "$tmp/evil.conf" user show mal)" "completion for a user"

say "programs of the caller"
install -d "$tmp/over/programs"
printf '#!/bin/sh\ntouch %s\nexit 1\n' "$tmp/over/programs/ran" > "$tmp/over/programs/labboot-kernel"
cp "$tmp/over/programs/labboot-kernel" "$tmp/over/programs/mkfs.ext4"
chmod 755 "$tmp/over/programs"/*
chmod 1777 "$tmp/over/programs"
# Also where sudo would let it through.
for keep in "" 'Defaults env_keep += "LABBOOT_CONFIG LABBOOT_LIBEXECDIR LABBOOT_PLUGIN"'; do
    echo "$keep" >> /etc/sudoers
    expect_status 0 run_program alice env "LABBOOT_LIBEXECDIR=$tmp/over/programs" "PATH=$tmp/over/programs:$PATH" \
        "$installed" image import img "$tmp/disk.raw"
    [ ! -e "$tmp/over/programs/ran" ] || fail "a program of the caller's ran"
    expect_status 0 run_program alice env "LABBOOT_CONFIG=$tmp/evil.conf" sudo -n -u labboot "$installed" user show alice
done

say "files: with the caller's rights"
install -m 600 -o alice "$tmp/disk.raw" "$(mine alice)/disk.raw"
before=$(versions alice/img)
expect_status 0 run alice image import img "$(mine alice)/disk.raw"
expect "$((before + 1))" "$(versions alice/img)" "versions"
refused 1 ".*: Permission denied" mona image import img "$(mine alice)/disk.raw"
install -m 600 -o labboot "$tmp/disk.raw" "$state/secret.raw"
refused 1 "$state/secret.raw: Permission denied" alice image import img "$state/secret.raw"
for user in alice ada lena; do
    expect_status 5 as_labboot "$user" image import "bob/new" "$state/secret.raw"
    expect_status 5 as_labboot "$user" image export bob/sys "$state/catalog.db" --force
    expect_status 5 as_labboot "$user" image export bob/sys /dev/stdout
done
rm "$state/secret.raw"
refused 1 ".*: Is a directory" alice image import img "$tmp/over"

say "exports"
truncate -s 64M "$tmp/big.raw"
mkfs.ext4 -q -F "$tmp/big.raw" > /dev/null 2>&1
expect_status 0 run alice image import big "$tmp/big.raw"
expect_status 0 run alice image export big "$(mine alice)/out.raw"
cmp "$(mine alice)/out.raw" "$tmp/big.raw"
expect "alice 644" "$(stat -c '%U %a' "$(mine alice)/out.raw")" "owner and mode of an export"
[ "$(stat -c %b "$(mine alice)/out.raw")" -lt 65536 ] || fail "the export is not sparse"
(umask 077 && run alice image export big - > "$tmp/over/out.raw")
cmp "$tmp/over/out.raw" "$tmp/big.raw"
[ "$(stat -c %b "$tmp/over/out.raw")" -lt 65536 ] || fail "the export to standard output is not sparse"
run alice image export big - | cmp - "$tmp/big.raw" || fail "an export through a pipe"
refused 4 ".*exists already; try: --force" alice image export big "$(mine alice)/out.raw"
expect big "$(run alice --json image export big@latest "$(mine alice)/out.raw" --force | json 'v["Name"]')" "export --json"
before=$(ls -A "$(mine alice)")
refused 3 ".*" alice image export nothing "$(mine alice)/no.raw"
refused 5 ".*" alice image export mona/img "$(mine alice)/no.raw"
refused 3 ".*" alice image export big@17 "$(mine alice)/out.raw" --force
refused 1 ".*Permission denied" bob image export sys "$(mine alice)/no.raw"
expect "$before" "$(ls -A "$(mine alice)")" "files beside exports that failed"
cmp "$(mine alice)/out.raw" "$tmp/big.raw"
refused 1 ".*No space left" alice image export big /dev/full

say "words, statuses, standard input and output"
# shellcheck disable=SC2016
comment='$(touch /tmp/x); `id` "a  b" '\''c'\'' \ * ~ --json'
version=$(run alice --quiet image import img - --comment "$comment" < "$tmp/disk.raw")
expect "$comment" "$(lb --json image versions alice/img | json 'v[0]["Comment"]')" "a comment"
expect "$version" "$(lb --json image versions alice/img | json 'v[0]["Version"]')" "the version"
expect_status 0 run alice image import img - --comment= < "$tmp/disk.raw"
refused 2 "'--owner=' .*" alice --owner= user list
expect_status 3 run alice image show nothing
expect_status 4 run alice image import img "$tmp/disk.raw" --new
expect_status 2 run alice image shwo
expect_status 1 run_program alice bash -c "'$installed' user list > /dev/full"
expect "$(lb --json user list)" "$(run alice --json user list)" "a list"

say "an umask that would lock labboot out"
expect_status 0 run_program alice bash -c "umask 777; '$installed' image import dark '$tmp/disk.raw'"
expect_status 0 run alice image import dark "$tmp/disk.raw"
expect_status 0 run alice image export dark - > /dev/null

say "signals"
# stalled USER: an import that waits for more input; $importer is its pid.
stalled() {
    rm -f "$tmp/fifo"
    mkfifo -m 666 "$tmp/fifo"
    env -i PATH=/usr/bin:/bin setpriv --reuid "$1" --regid lab --init-groups -- \
        env --default-signal=INT "$installed" image import "$1/stalled" "$tmp/fifo" > "$tmp/out" 2> "$tmp/err" &
    importer=$!
    exec 9> "$tmp/fifo"
    head -c 100000 "$tmp/big.raw" >&9
    within 10 importing
}
importing() { pgrep -u labboot -x labboot > /dev/null && [ -n "$(find "$state/images" -path "$state/images/*/tmp/*" -type f)" ]; }
not_importing() { ! pgrep -u labboot -x labboot > /dev/null; }
for sig in INT TERM HUP; do
    stalled alice
    kill "-$sig" "$importer"
    got=0
    wait "$importer" || got=$?
    expect 1 "$got" "status after SIG$sig"
    expect_match "^labboot: .*interrupted" "$(cat "$tmp/err")" "error after SIG$sig"
    expect "" "$(find "$state/images" -path "$state/images/*/tmp/*" -type f)" "files after SIG$sig"
    exec 9>&-
done
stalled alice
kill -KILL "$importer"
wait "$importer" 2> /dev/null || true
within 10 not_importing
exec 9>&-
expect_status 3 run alice image show stalled
spawn "$tmp/watch.log" setpriv --reuid alice --regid lab --init-groups -- "$installed" status --watch
within 10 grep -q MACHINE "$tmp/watch.log"
kill -TERM "$spawned"
got=0
wait "$spawned" || got=$?
expect 143 "$got" "status --watch after SIGTERM"
within 10 not_importing

say "a bar on a terminal"
(head -c 1M "$tmp/big.raw"; sleep 1; tail -c +1048577 "$tmp/big.raw") > "$tmp/fifo" &
script -qec "env -i PATH=$PATH setpriv --reuid alice --regid lab --init-groups -- '$installed' image import big '$tmp/fifo'" \
    /dev/null > "$tmp/terminal" < /dev/null
expect_match 'importing' "$(cat "$tmp/terminal")" "the progress of an import"

say "sudo that does not let"
mv /etc/sudoers.d/labboot "$tmp/over/sudoers"
expect_status 5 run alice user list
expect_match "labboot: sudo did not run $installed as labboot; try: see labboot-user" "$(cat "$tmp/err")"
mv "$tmp/over/sudoers" /etc/sudoers.d/labboot
expect_status 1 run_program alice env PATH=/nonexistent "$installed" user list
expect_match "labboot: there is no sudo here" "$(cat "$tmp/err")"

say "a state of one's own needs nobody"
sed "s|$state|$(mine olga)/state|; s|$tmp/over/run|$(mine olga)/run|" "$config" > "$tmp/own.conf"
expect_status 0 run olga --config "$tmp/own.conf" init
expect_status 0 run olga --config "$tmp/own.conf" user add olga --email olga@lab.example
expect olga "$(stat -c %U "$(mine olga)/state/catalog.db")" "owner of the state"
