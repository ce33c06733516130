#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A lab in a file: what labboot apply would do and does, all of it or nothing.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4

lb() { "$labboot" "$@"; }
# lab TEXT: the configuration with these sections.
lab() { conf && printf '%s\n' "$1" >> "$LABBOOT_CONFIG"; }
conf() {
    write_conf network.interface=lo network.range=127.0.1.1-127.0.9.200 network.netmask=255.0.0.0 \
        network.next-server=127.0.0.1
}
# applies PLAN: a dry run says this plan and does nothing, the command says it too, and then there is nothing left to do.
applies() {
    local wanted=$1 before
    shift
    before=$(state)
    expect "$wanted" "$(lb apply --dry-run "$@" 2>&1)" "the dry run's plan"
    expect "$before" "$(state)" "what the dry run has left alone"
    expect "$wanted" "$(lb apply "$@" 2> "$tmp/err")" "the plan"
    expect "no changes" "$(lb apply "$@" 2>&1)" "the second time"
}
# refused STATUS REGEX [OPTION…]: nothing is done.
refused() {
    local before
    before=$(state)
    expect_status "$1" lb apply "${@:3}"
    expect_match "$2" "$(cat "$tmp/err")"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error"
    expect "$before" "$(state)" "what a refused plan has left alone"
}
state() { lb --json user list && lb --json setup list && lb --json machine list && lb --json log; }

conf
lb init > /dev/null

say "users, setups and machines are made"
alice='[user alice]
email = alice@example.org
role = admin'
bob='[user bob]
email = bob@example.org
name = Bob "the" Builder'
lab "$alice
$bob"
applies "+ user alice alice@example.org role admin
+ user bob bob@example.org name Bob \"the\" Builder"
mkdir -p "$tmp/tree/boot"
echo kernel > "$tmp/tree/boot/vmlinuz-6.1.0-9"
echo initrd > "$tmp/tree/boot/initrd.img-6.1.0-9"
truncate -s 16M "$tmp/disk"
mkfs.ext4 -q -F -d "$tmp/tree" "$tmp/disk"
version=$(lb image import root "$tmp/disk" --new --owner alice)
lb image import data "$tmp/disk" --new --owner bob > /dev/null
desk="[setup desk]
images = root@$version bob/data@latest,update"
lab "$alice
[machine lab1]
mac = 52:54:00:00:00:01
default-setup = desk
[machine lab2]
mac = 5254.0000.0002, 52-54-00-00-00-03
managed = no
arch = Arm64
disk-size = 256M
$bob
$desk"
applies "+ setup desk images root@$version bob/data@latest,update
+ machine lab1 52:54:00:00:00:01 default-setup desk
+ machine lab2 52:54:00:00:00:02,52:54:00:00:00:03 arch Arm64 managed no disk-size 256M"
grep -q "image root@$version" "$tmp/state/tftp/boot/mac-52-54-00-00-00-01.ipxe" || fail "no script was rendered"

say "they change"
lab "$alice
${bob/example.org/example.com}
role = moderator
[setup desk]
images = root
[machine lab1]
mac = 52:54:00:00:00:01 52:54:00:00:00:04
[machine bench]
mac = 52:54:00:00:00:02
default-setup = alice/desk
disk-size = 512M"
applies "~ user bob email: bob@example.org -> bob@example.com, role: user -> moderator
~ setup desk images: root@$version bob/data@latest,update -> root@latest
~ machine lab1 mac: 52:54:00:00:00:01 -> 52:54:00:00:00:01,52:54:00:00:00:04, default-setup: desk -> none
~ machine bench mac: 52:54:00:00:00:02,52:54:00:00:00:03 -> 52:54:00:00:00:02, name: lab2 -> bench,\
 arch: Arm64 -> x86_64, managed: no -> yes, default-setup: none -> desk, disk-size: 256M -> 512M"
expect_match "machine-changed" "$(lb log --machine bench)" "the event"

say "a name that a terminal would obey"
lb user set bob --name $'Bob \e[2J'
expect '~ user bob name: Bob ?[2J -> Bob "the" Builder' "$(lb apply --dry-run)"
lb apply > /dev/null

say "names and cards pass from one to another"
lab "$alice
$bob
[setup desk]
images = root
[machine bench]
mac = 52:54:00:00:00:01
[machine lab1]
mac = 52:54:00:00:00:02 52:54:00:00:00:04
default-setup = desk"
lb apply > "$tmp/out"
expect 2 "$(grep -c '^~ machine' "$tmp/out")" "machines that changed"
expect "bench lab1" "$(lb --json machine list | json '" ".join(m["Name"] for m in v)')"
expect "52:54:00:00:00:01" "$(lb --json machine show bench | json 'v["MacAddress"]["Address"]')"
expect "no changes" "$(lb apply)"

say "a machine with another card"
sed -i 's/^mac = 52:54:00:00:00:01$/mac = 52:54:00:00:00:09/' "$LABBOOT_CONFIG"
applies "~ machine bench mac: 52:54:00:00:00:01 -> 52:54:00:00:00:09"

say "what the catalog does not have"
good=$(cat "$LABBOOT_CONFIG")
lines=$(wc -l < "$LABBOOT_CONFIG")
again() { printf '%s\n' "$good" > "$LABBOOT_CONFIG"; }
printf '[user carol]\nemail = carol@example.org\n[machine lab9]\nmac = 52:54:00:00:00:10\ndefault-setup = nowhere\n' >> "$LABBOOT_CONFIG"
refused 3 "labboot.conf:$((lines + 3)): \[machine lab9\]: default-setup: .*nowhere"
again
printf '[user carol]\nemail = carol@example.org\n[setup x]\nimages = nothing\n' >> "$LABBOOT_CONFIG"
refused 3 "labboot.conf:$((lines + 3)): \[setup x\]: images: .*nothing"
again
printf '[setup x]\nowner = dave\nimages = alice/root\n' >> "$LABBOOT_CONFIG"
refused 3 "labboot.conf:$((lines + 1)): \[setup x\]: .*dave"
again
printf '[user carol]\nemail = carol@example.org\nrole = admin\n' >> "$LABBOOT_CONFIG"
refused 2 "\[setup desk\]: whose shall it be"
again
printf '[user carol]\nemail = carol\n' >> "$LABBOOT_CONFIG"
expect_status 2 lb apply
expect_match "labboot.conf:$((lines + 2)): email: 'carol' is not" "$(cat "$tmp/err")"
again

say "the words for programs"
printf '[user carol]\nemail = carol@example.org\n' >> "$LABBOOT_CONFIG"
expect "[{'Action': 'add', 'Kind': 'user', 'Name': 'carol', 'Changes': [{'Field': 'email', 'To': 'carol@example.org'}]}]" \
    "$(lb --json apply --dry-run | json v)"
lb apply --quiet > /dev/null
expect "[]" "$(lb --json apply | json v)"

say "what the file does not name goes when asked to"
lb setup create spare --owner carol --image alice/root > /dev/null
again
applies "no changes"
applies "- setup carol/spare
- user carol" --prune
lab "$alice
$desk
[machine bench]
mac = 52:54:00:00:00:09
default-setup = desk"
refused 4 "--prune: user bob: user bob still owns: .*data" --prune
lab "$alice
$bob
$desk"
id=$(lb boot queue lab1 desk)
lb boot cancel "$id" > /dev/null
applies "~ setup desk images: root@latest -> root@$version bob/data@latest,update
- machine lab1
- machine bench" --prune
expect "[]" "$(lb --json machine list | json v)"
conf
refused 4 "would remove all" --prune

say "only admins"
lab "$alice
$bob"
expect_status 5 lb --as bob apply --dry-run

# ---- a whole lab -----------------------------------------------------------------------------------------------------

{
    printf '%s\n' "$alice" "$bob"
    for i in {1..30}; do printf '[user u%d]\nemail = u%d@example.org\n' "$i" "$i"; done
    for i in {1..20}; do printf '[setup s%d]\nowner = u%d\nimages = alice/root\n' "$i" "$i"; done
    for i in {1..500}; do
        printf '[machine m%d]\nmac = 52:54:00:01:%02x:%02x\ndefault-setup = s%d\n' "$i" $((i / 256)) $((i % 256)) $((i % 20 + 1))
    done
} > "$tmp/lab"
# lab() of a file
whole() { conf && cat "$tmp/lab" >> "$LABBOOT_CONFIG"; }

say "killed in the middle: all or nothing"
whole
count() { lb --json machine list | json 'len(v)'; }
for delay in 0.01 0.03 0.06 0.1 0.2 0.4; do
    timeout --signal=KILL "$delay" "$labboot" apply > /dev/null 2>&1 || true
    n=$(count)
    [ "$n" = 0 ] || [ "$n" = 500 ] || fail "$n machines are there"
done

lab "$alice
$bob
$desk"
lb apply --prune > /dev/null
whole

say "550 objects"
start=$(date +%s%N)
lb apply > "$tmp/out" 2> "$tmp/err"
middle=$(date +%s%N)
expect "no changes" "$(lb apply)"
end=$(date +%s%N)
expect 500 "$(count)"
say "applied in $(((middle - start) / 1000000)) ms, the second time in $(((end - middle) / 1000000)) ms"

say "one that is wrong among many"
sed -i 's/^\[machine m499\]$/&\ndisk-size = 64M/' "$LABBOOT_CONFIG"
sed -i 's/^role = admin$/&\nname = Alice/' "$LABBOOT_CONFIG"
refused 4 "\[machine m499\]"

say "numbered anew: each gets the name of the next"
whole
awk '/^\[machine m/ { sub(/m[0-9]+/, "m" ++n + 1) } { print }' "$tmp/lab" > "$tmp/lab2"
mv "$tmp/lab2" "$tmp/lab"
whole
expect 500 "$(lb apply 2> /dev/null | grep -c '^~ machine')"
expect "no changes" "$(lb apply)"
