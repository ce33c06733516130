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
need sudo visudo useradd groupadd setpriv mkfs.ext4 make /usr/bin/python3
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

# place NAME: of what `make install` installs; $placed is where.
place() {
    local from
    from=$(find "$tmp/over/inst" -type f -name "$1" | head -n 1)
    [ -n "$from" ] || fail "make install does not install $1"
    placed=${from#"$tmp/over/inst"}
    cover "$(dirname "$placed")"
    mkdir -p "$(dirname "$placed")"
    cp "$from" "$placed"
}

make -C "$builddir" -s install DESTDIR="$tmp/over/inst" > "$tmp/install.log" 2>&1 || fail "make install"
cover /etc
place labboot-kernel
place labboot.conf.example
config=$(dirname "$placed")/labboot.conf
place labboot
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
config check   |                                  | -         | none      | -         | 0
config show    |                                  | -         | none      | -         | 0
config example |                                  | -         | none      | -         | 0
serve          |                                  | -         | admin     | -         | 4
dhcp           | -- --test                        | -         | admin     | -         | *
status         |                                  | -         | user      | -         | 0
log            |                                  | -         | user      | -         | 0
user add       | eve --email eve@lab.example      | -         | admin     | -         | 0
user list      |                                  | -         | user      | -         | 0
machine add    | 52:54:00:00:00:09                | -         | admin     | -         | 0
machine list   |                                  | -         | user      | -         | 0
machine show   | lab1                             | -         | user      | -         | 0
image create   | OWNER/new --size 4M              | user      | admin     | -         | 0
image create   | OWNER/new --size 4M --kind boot  | moderator | moderator | -         | 0
image import   | OWNER/new - --kind user          | user      | admin     | -         | 0
image import   | OWNER/new -                      | user      | -         | -         | 0
image import   | OWNER/new - --kind system        | moderator | moderator | -         | 0
image import   | OWNER/img -                      | user      | admin     | -         | 0
image import   | OWNER/sys -                      | user      | -         | moderator | 0
image export   | OWNER/img -                      | user      | admin     | -         | 0
image export   | OWNER/sys -                      | user      | -         | user      | 0
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
boot queue     | lab1 OWNER/set                   | user      | moderator | -         | 0
boot queue     | lab1 OWNER/set --update          | user      | admin     | -         | 0
boot list      |                                  | -         | user      | -         | 0
boot show      | BOOT                             | user      | user      | -         | 0
boot next      | lab1                             | -         | user      | -         | 0
boot cancel    | BOOT                             | user      | moderator | -         | 0
boot end       | BOOT                             | user      | moderator | -         | 4
boot commit    | BOOT                             | user      | moderator | -         | 4
boot discard   | BOOT                             | user      | moderator | -         | 4
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
    run "$user" --quiet $5 $words < "$tmp/disk.raw" > "$tmp/out" 2> "$tmp/err" || got=$?
    if [ "$wanted" != "*" ] || [ "$got" = 5 ]; then
        [ "$got" = "$wanted" ] || fail "$user: labboot $5 $words: wanted status $wanted, got $got: $(cat "$tmp/err")"
    fi
    [ "$got" != 5 ] || [ ! -s "$tmp/out" ] || fail "$user: labboot $5 $words: refused, with output"
    tried=$((tried + 1))
    if [ "$got" != 5 ] && ! cmp -s "$state/catalog.db" "$tmp/over/saved/catalog.db"; then restore; fi
}

say "the table has every command"
commands=$("$installed" help | sed -n 's/^  labboot \([a-z]*\( [a-z-]*\)\{0,1\}\).*/\1/p' | sed 's/ *$//' | sort -u)
expect "$commands" "$(table | cut -d'|' -f1 | sed 's/ *$//' | sort -u)" "commands of the table"

say "every command, every role, own and others' objects"
tried=0
# A server that runs: nobody shall start one here.
spawn "$tmp/lock.log" flock --no-fork "$tmp/over/run/server.lock" sleep infinity
within 10 [ -e "$tmp/over/run/server.lock" ]
chmod 644 "$tmp/over/run/server.lock"
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
