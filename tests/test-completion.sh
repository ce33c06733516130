#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The completion of command lines: what labboot proposes, and how bash and zsh show it.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 /usr/bin/python3

lb() { "$labboot" "$@"; }
# proposed WORDS…: the candidates for the last one, in one line.
proposed() { lb complete -- "$@" | sort | paste -sd ' '; }

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1

say "without a catalog, a configuration or a sense"
expect "machine" "$(proposed mach)"
expect "" "$(proposed machine show '')" "machines of no catalog"
expect "" "$(lb complete -- machine show '' 2>&1)" "messages"
expect "" "$(lb complete 2>&1 | grep -v '^[a-z]*$')" "without words"
LABBOOT_CONFIG=$tmp/missing.conf expect "" "$(LABBOOT_CONFIG=$tmp/missing.conf lb complete -- machine show '' 2>&1)" \
    "messages of a missing configuration"
expect "" "$(proposed nonsense '')"
expect "" "$(proposed machine nonsense '')"
expect "" "$(proposed machine list --nonsense=x)"
expect "" "$(proposed serve -- --fore)" "options of nbdkit"

lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null
lb user add bob --email bob@lab.example > /dev/null
mkdir -p "$tmp/root/boot"
head -c 300000 /dev/urandom | tee "$tmp/root/boot/vmlinuz-6.1.0" > "$tmp/root/boot/initrd.img-6.1.0"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.raw" 16M > /dev/null 2>&1
first=$(lb image import debian "$tmp/disk.raw" --owner alice)
second=$(lb image import debian "$tmp/disk.raw")
lb image import bare "$tmp/disk.raw" --owner alice > /dev/null
lb image import bare "$tmp/disk.raw" --owner bob --new > /dev/null
lb setup create lab --image debian --owner alice > /dev/null
lb machine add 52:54:00:00:00:01 --name lab1 --mac 52:54:00:00:00:02 > /dev/null
lb machine add 52:54:00:00:00:03 --name lab2 > /dev/null
boot=$(lb --quiet boot queue lab1 lab)
gone=$(lb --quiet boot queue lab1 lab)
lb boot cancel "$gone"
"$LABBOOT_LIBEXECDIR/labboot-dhcp-hook" add 52:54:00:00:00:77 127.0.1.77 stranger

say "nouns, verbs and options, from the tables"
expect "$(lb help | sed -n 's/^  labboot \([a-z]*\).*/\1/p' | { cat; echo help; } | sort -u | paste -sd ' ')" "$(proposed '')"
expect "$(lb help machine | sed -n 's/^  labboot machine \([a-z-]*\).*/\1/p' | sort | paste -sd ' ')" "$(proposed machine '')"
expect "cancel" "$(proposed boot ca)"
expect "$(lb help user | sed -n 's/^  labboot user \([a-z-]*\).*/\1/p' | sort | paste -sd ' ')" "$(proposed help user '')"
expect "--role" "$(proposed user add --r)"
expect "--follow" "$(proposed log --machine lab1 --fo)" "an option behind another's value"
expect "--config" "$(proposed --c)"
expect "" "$(proposed compl)" "what is for programs"

say "values of options"
expect "admin moderator user" "$(proposed user add x --role '')"
expect "alice" "$(proposed user show al)"
expect "--role=moderator" "$(proposed user add x --role=mod)"
expect "boot" "$(proposed image import x y --kind bo)"
expect "alice bob" "$(proposed setup create x --owner '')"
expect ":files" "$(proposed --config '')"
expect "lab1 lab2" "$(proposed log --machine la)"
expect "" "$(proposed user add x --name a)"

say "names of objects"
expect "lab1 lab2" "$(proposed machine show lab)"
expect "52:54:00:00:00:01 52:54:00:00:00:02 52:54:00:00:00:03" "$(proposed machine show 52:54:00)"
expect "52:54:00:00:00:77" "$(proposed machine add '')" "MACs that nobody added"
expect "alice/bare bob/bare debian" "$(proposed image show '')" "images: with the owner where it must be"
expect "alice/bare alice/debian" "$(proposed image show alice/)"
expect "debian@$first debian@$second debian@latest" "$(proposed image export debian@)"
expect "debian@$second" "$(proposed image export "debian@$second")"
expect "alice/debian@latest" "$(proposed setup create x --image alice/debian@l)"
expect ":files" "$(proposed image export debian '')"
expect "lab lab1 lab2" "$(proposed boot queue lab1 l)" "more machines, or the setup"
expect "lab" "$(proposed setup show '')"
expect "lab1" "$(proposed boot queue lab1)"
expect "debian" "$(proposed setup remove-image lab d)"
expect "$boot" "$(proposed boot cancel '' | tr ' ' '\n' | grep -v '[a-z:]')" "queued boots"
expect "$boot $gone" "$(proposed boot show '' | tr ' ' '\n' | grep -v '[a-z:]' | paste -sd ' ')" "all boots"
expect "" "$(proposed boot end '' | tr ' ' '\n' | grep -v '[a-z:]')" "boots that run"
expect "lab1 lab2" "$(env -u LABBOOT_CONFIG "$labboot" complete -- --config "$LABBOOT_CONFIG" machine show lab | paste -sd ' ')" \
    "with the configuration of the line"

say "it is fast"
times=()
for _ in 1 2 3 4 5 6 7 8 9; do
    started=${EPOCHREALTIME/./}
    lb complete -- machine show '' > /dev/null
    times+=($((${EPOCHREALTIME/./} - started)))
done
fastest=$(printf '%s\n' "${times[@]}" | sort -n | head -n 1)
say "completing a machine took $fastest microseconds"
[ "$fastest" -lt 50000 ] || fail "completing a machine takes $fastest microseconds"

say "bash"
cat > "$tmp/in-bash" << 'END'
. "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:@'
_labboot labboot
printf '%s\n' "${COMPREPLY[@]}" | sort | paste -sd ' '
END
PATH=${labboot%/*}:$PATH
in_bash() { (cd "$tmp" && bash --norc "$tmp/in-bash" "$srcdir/cli/completion/bash/labboot" "$1"); }
expect "machine" "$(in_bash 'labboot mach')"
expect "lab1 lab2" "$(in_bash "labboot machine show lab")"
expect "01 02 03" "$(in_bash 'labboot machine show 52:54:00:00:00:0' | tr ' ' '\n' | sed 's/^.*://' | paste -sd ' ')" "what is behind the last colon"
expect "latest" "$(in_bash 'labboot image export debian@l')"
expect "moderator" "$(in_bash 'labboot user add x --role=mod')"
expect "disk.raw" "$(in_bash 'labboot image import x dis')" "files"

say "zsh"
need zsh
cat > "$tmp/in-zsh" << 'END'
zmodload zsh/zpty zsh/zselect
zpty -b shell zsh -f -i
zpty -w shell "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; unsetopt list_beep auto_list"
zpty -w shell "show() { print -r -- \"\$BUFFER\" > $2.new; mv $2.new $2; zle kill-buffer }; zle -N show; bindkey '^T' show"
shift 2
zpty -w -n shell "$1"$'\t\x14'
zselect -t 1000 2> /dev/null || true
zpty -d shell
END
# The line as zsh completes it.
in_zsh() {
    rm -f "$tmp/line"
    spawn "$tmp/zsh.log" zsh -f "$tmp/in-zsh" "$srcdir/cli/completion/zsh" "$tmp/line" "$1"
    within 20 [ -e "$tmp/line" ]
    stop "$spawned" KILL
    cat "$tmp/line"
}
expect "labboot machine " "$(in_zsh 'labboot mach')"
expect "labboot machine show lab" "$(in_zsh 'labboot machine show l')"
expect "labboot machine show 52:54:00:00:00:0" "$(in_zsh 'labboot machine show 5')"
expect "labboot image export debian@latest " "$(in_zsh 'labboot image export debian@l')"
expect "labboot user add x --role=moderator " "$(in_zsh 'labboot user add x --role=mod')"
expect "labboot image import x $tmp/disk.raw " "$(in_zsh "labboot image import x $tmp/dis")"
