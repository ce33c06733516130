#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# labboot log: what it prints, what it leaves out, and how it follows.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 /usr/bin/python3

lb() { "$labboot" "$@"; }
# whats WORDS…: what was done, of the events that log prints.
whats() { lb --json log "$@" | json '" ".join(x["What"] for x in v)'; }
refused() {
    local status=$1 regex=$2
    shift 2
    expect_status "$status" lb "$@"
    expect "" "$(cat "$tmp/out")" "output of '$*'"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error of '$*'"
    expect_match "^labboot: $regex" "$(cat "$tmp/err")" "error of '$*'"
}

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1
lb init > /dev/null

say "an empty trail"
expect "" "$(lb log)"
expect "[]" "$(lb --json log)"

say "who did what to what"
lb user add alice --email alice@lab.example --role admin > /dev/null
mkdir -p "$tmp/root/boot"
head -c 300000 /dev/urandom | tee "$tmp/root/boot/vmlinuz-6.1.0" > "$tmp/root/boot/initrd.img-6.1.0"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.raw" 16M > /dev/null 2>&1
version=$(lb image import debian "$tmp/disk.raw" --owner alice)
lb setup create lab --image debian > /dev/null
lb machine add 52:54:00:00:00:01 --name lab1 > /dev/null
lb machine add 52:54:00:00:00:02 --name lab2 > /dev/null
boot=$(lb --as alice boot queue lab1 lab)
lb boot cancel "$boot"
expect "user-added image-created version-published setup-created machine-added address-assigned machine-added \
address-assigned boot-queued boot-cancelled" "$(whats)"
user=$(id -un)
expect_match "^[0-9-]+ [0-9:]+  $user as alice +boot-queued +boot $boot +of lab1  lab\$" "$(lb log --what boot-queued)"
expect "$user as alice" "$(lb --json log --what boot-queued | json 'v[0]["Actor"]')"

say "a part of it"
expect "address-assigned machine-added" "$(whats --object 'machine lab2' | tr ' ' '\n' | sort | paste -sd ' ')" "of lab2"
expect "$(whats --object 'machine lab2')" "$(whats --machine 5254.0000.0002)" "by a MAC"
expect "boot-queued boot-cancelled" "$(whats --boot "$boot")"
expect "boot-queued boot-cancelled" "$(whats --object boot)"
expect "boot-cancelled" "$(whats --limit 1)"
expect "boot-queued" "$(whats --actor alice)"
expect "boot-queued boot-cancelled" "$(whats --what 'boot-*')"
expect "image-created version-published" "$(whats --object 'image debian')"
expect "version-published" "$(whats --object "image alice/debian@$version")"
expect "" "$(whats --since 2100-01-01)"
expect "" "$(whats --until 2000-01-01)"
expect 10 "$(whats --since 1h | wc -w)" "events of the last hour"
expect "" "$(whats --boot 99)" "a boot that nobody knows"
refused 2 "--limit: 'many'" log --limit many
refused 2 "--since: " log --since yesterday-ish
refused 2 "--follow or --until, not both" log --follow --until 1h
refused 2 "--object: " log --object ''
refused 3 "there is no machine" log --machine lab9
refused 3 ".*" log --boot lab2

say "each change has its events, and what fails or changes nothing has none"
# change EVENTS STATUS WORDS…
change() {
    local events=$1 status=$2 before
    shift 2
    before=$(whats --limit 100000 | wc -w)
    expect_status "$status" lb --quiet "$@"
    expect "$events" "$(whats --limit 100000 | tr ' ' '\n' | tail -n "+$((before + 1))" | paste -sd ' ')" "events of '$*'"
}
change user-added 0 user add eve --email eve@lab.example
change "" 4 user add eve --email other@lab.example
change user-changed 0 user set eve --role moderator
change "" 2 user set eve --role king
change "image-created version-published" 0 image create eve/home --size 16M
change "" 4 image create eve/home --size 16M
change version-published 0 image import debian "$tmp/disk.raw"
change image-changed 0 image set debian --comment new
change version-commented 0 image set debian@latest --comment new
change "" 3 image set debian@1 --comment new
change setup-created 0 setup create tools --image debian --owner eve
change setup-changed 0 setup add-image tools home
change "" 4 setup add-image tools home
change setup-changed 0 setup move-image tools home --to 1
change setup-changed 0 setup peg tools "debian@$version"
change setup-changed 0 setup remove-image tools home
change setup-changed 0 setup rename tools utils
change setup-changed 0 setup set utils --owner alice
change "machine-added address-assigned" 0 machine add 52:54:00:00:00:09 --name lab9
change "" 4 machine add 52:54:00:00:00:09
change machine-changed 0 machine set lab9 --name lab8
change "machine-changed boot-queued" 0 machine set lab8 --default-setup utils
change boot-queued 0 boot queue lab8 lab
change "boot-queued boot-queued boot-queued" 0 boot queue --all lab
change "" 3 boot queue lab8 nothing
change boot-cancelled 0 boot cancel lab1
change image-rolled-back 0 image rollback debian --to "$version"
change "" 0 image keep debian --last 1
change version-removed 0 image remove --force "debian@$(lb --json image versions debian | json 'v[0]["Version"]')"
change "boot-cancelled boot-cancelled boot-cancelled machine-removed" 0 machine remove lab8
change setup-removed 0 setup remove utils
change image-removed 0 image remove home
change user-removed 0 user remove eve
change "" 3 user remove eve

say "what machines did, and from where"
export LABBOOT_CONFIG
hook() { "$LABBOOT_LIBEXECDIR/labboot-dhcp-hook" "$@"; }
address=$(lb --json machine show lab1 | json 'v["Addresses"][0]')
hook tftp 100 "$address" "$tmp/state/tftp/boot.ipxe"
hook tftp 100 "$address" "$tmp/state/tftp/boot.ipxe"
expect_match "dnsmasq +tftp +machine 52:54:00:00:00:01  of lab1  from $address  /boot.ipxe\$" "$(lb log --what tftp)"
expect 1 "$(lb log --what tftp | wc -l)" "the same fetch twice"
hook tftp 100 "$address" "$tmp/state/tftp/"$'\e[31m'
expect 0 "$(lb log | grep -c $'\e' || true)" "control characters"

say "exports that were refused"
start_serve --verbose
expect_status 1 nbdinfo "$(nbd_uri 52-54-00-00-00-01)"
refusal_is_there() { lb log --what export-refused | grep -q "of lab1 .*nothing is queued"; }
within 10 refusal_is_there
stop "$serve"

say "following it"
for option in "" --json; do
    # shellcheck disable=SC2086
    spawn "$tmp/follow$option.log" "$labboot" $option log --follow --limit 1 --object user
    follow=$spawned
    within 10 [ -s "$tmp/follow$option.log" ]
    lb user add "bob$option" --email "bob$option@lab.example" > /dev/null
    lb machine add "52:54:00:00:01:0${#option}" > /dev/null
    lb user add "carol$option" --email "carol$option@lab.example" > /dev/null
    within 10 grep -q "carol$option@" "$tmp/follow$option.log"
    expect 3 "$(wc -l < "$tmp/follow$option.log")" "lines"
    kill -INT "$follow"
    got=0
    wait "$follow" || got=$?
    expect 0 "$got" "status after SIGINT"
done
expect "bob--json carol--json" "$(tail -n 2 "$tmp/follow$option.log" | sed 's/$/,/' | { echo "["; cat; echo "{}]"; } |
    json '" ".join(x["Detail"].split("@")[0] for x in v[:2])')" "one JSON value a line"
spawn "$tmp/new.log" "$labboot" log --follow --limit 0
something_new() { lb user add "dave$RANDOM" --email "dave$RANDOM@x" > /dev/null && [ -s "$tmp/new.log" ]; }
within 10 something_new
expect 0 "$(grep -c machine-added "$tmp/new.log" || true)" "events from before, with --limit 0"
stop "$spawned"
wait "$spawned" 2> /dev/null || true
# A reader that goes away ends it too.
timeout 10 "$labboot" log --follow | head -n 1 > /dev/null || expect 0 "${PIPESTATUS[0]}" "status after the reader has gone"

say "it waits, and does not spin"
spawn "$tmp/idle.log" "$labboot" log --follow
sleep 2
ticks=$(awk '{ print $14 + $15 }' "/proc/$spawned/stat")
[ "$ticks" -lt 20 ] || fail "two seconds of waiting took $ticks ticks of the processor"
stop "$spawned"
