#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Setups: how their lists of images change, what that does to the machines that boot them, and who may do it.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 /usr/bin/python3

lb() { "$labboot" "$@"; }
# refused STATUS REGEX WORDS…: one line on stderr, nothing on stdout, and nothing has changed.
refused() {
    local status=$1 regex=$2 before
    shift 2
    before=$(lb --json setup list)
    expect_status "$status" lb "$@"
    expect "" "$(cat "$tmp/out")" "output of '$*'"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error of '$*'"
    expect_match "^labboot: $regex" "$(cat "$tmp/err")" "error of '$*'"
    expect "$before" "$(lb --json setup list)" "setups after '$*'"
}
# images SETUP: "debian@latest lab-data@12,update"
images() {
    lb --json setup show "$1" | json '" ".join("%s@%s%s" % (i["Image"]["Name"],
        "latest" if i["Latest"] else i["Version"]["Version"], ",update" if i["Update"] else "") for i in v["Images"])'
}
# last_event WHAT: its detail; the trail has no command of its own for that
events() { /usr/bin/python3 -c 'import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute("SELECT actor, object, detail FROM event WHERE what = ? ORDER BY id", sys.argv[2:]):
    print(*row, sep="|")' "$tmp/state/catalog.db" "$1"; }
script() { cat "$tmp/state/tftp/boot/mac-52-54-00-00-00-0$1.ipxe"; }

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1
lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null
lb user add bob --email bob@lab.example > /dev/null
mkdir -p "$tmp/root/boot"
echo kernel > "$tmp/root/boot/vmlinuz-6.1.0"
echo initrd > "$tmp/root/boot/initrd.img-6.1.0"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.raw" 8M > /dev/null 2>&1
first=$(lb image import debian "$tmp/disk.raw" --owner alice)
second=$(lb image import debian "$tmp/disk.raw")
data=$(lb image import data "$tmp/disk.raw" --owner alice)
lb image import home "$tmp/disk.raw" --owner bob --kind user > /dev/null
lb image import data "$tmp/disk.raw" --owner bob --kind user --new > /dev/null 2>&1 ||
    lb image import bob/data "$tmp/disk.raw" --kind user > /dev/null
desk=$(lb setup create desk --owner alice --image "debian@$first")
lb machine add 52:54:00:00:00:01 --name lab-1 --default-setup desk > /dev/null
lb machine add 52:54:00:00:00:02 --name lab-2 > /dev/null

say "images are added, moved and taken out"
expect "" "$(lb setup add-image desk "data@$data,update")"
expect "" "$(lb setup add-image desk bob/home)"
expect "debian@$first data@$data,update home@latest" "$(images desk)" "after add-image"
expect_match "\|images debian@$first data@$data,update -> debian@$first data@$data,update home@latest$" \
    "$(events setup-changed | tail -n 1)" "the event"
expect_status 0 lb setup move-image desk home --to 1
expect "labboot: warning: home is the root disk now" "$(cat "$tmp/err")" "a new root"
expect "home@latest debian@$first data@$data,update" "$(images desk)" "after move-image"
expect_status 0 lb setup move-image desk home --to 3
expect "labboot: warning: debian is the root disk now" "$(cat "$tmp/err")" "the old root"
expect_status 0 lb setup move-image desk home --to 2
expect "" "$(cat "$tmp/err")" "the root stays"
expect "debian@$first home@latest data@$data,update" "$(images desk)" "after move-image --to 2"
expect "debian home" "$(lb --json setup remove-image desk data | json '" ".join(i["Image"]["Name"] for i in v["Images"])')"
expect_status 0 lb setup remove-image desk alice/debian
expect "labboot: warning: home is the root disk now" "$(cat "$tmp/err")" "without the root"
refused 4 "home is the only image of setup 'desk'; try: labboot setup remove desk" setup remove-image desk home
lb setup add-image desk "debian@$first"
lb --quiet setup remove-image desk home
refused 4 "two images are named 'debian'" setup add-image desk debian
lb setup add-image desk data
refused 4 "two images are named 'data'" setup add-image desk bob/data
lb setup remove-image desk data
refused 2 "only ',update' may follow" setup add-image desk data,updates
refused 3 "there is no image 'nothing'" setup add-image desk nothing
refused 3 "image data has no version 7" setup add-image desk data@7
refused 3 "setup 'desk' has no image 'data'; try: labboot setup show desk" setup remove-image desk data
refused 2 "where to\? try: --to NUMBER" setup move-image desk debian
refused 2 "--to: '2' is not between 1 and 1" setup move-image desk debian --to 2
refused 3 "there is no setup 'nothing'" setup add-image nothing data

say "pegged, pegged anew, promoted"
expect "debian: $first -> $second" "$(lb setup peg desk "debian@$second")"
expect_match "/$second/vmlinuz" "$(script 1)" "the script of a machine whose default it is"
expect "debian: $second -> latest" "$(lb setup peg desk debian@latest)"
expect "debian: latest -> latest,update" "$(lb setup peg desk debian --update yes)"
expect "debian: latest,update -> $first,update" "$(lb setup peg desk "debian@$first")"
expect "debian: $first,update -> latest" "$(lb setup peg desk debian@latest --update no)"
count=$(events setup-changed | wc -l)
lb setup peg desk debian@latest > /dev/null
expect "$count" "$(events setup-changed | wc -l)" "events when nothing changed"
third=$(lb image import debian "$tmp/disk.raw")
expect_match "/$third/vmlinuz" "$(script 1)" "the script follows the latest"
refused 2 "which version\? try: debian@latest" setup peg desk debian
refused 2 "--update: 'maybe' is neither" setup peg desk debian --update maybe
refused 2 "debian: a version: 'x' is not a whole number" setup peg desk debian@x
refused 3 "image debian has no version 7" setup peg desk debian@7
/usr/bin/python3 -c 'import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("UPDATE version SET state = ?, damage = ? WHERE number = ?", ("damaged", "a test", sys.argv[2]))' \
    "$tmp/state/catalog.db" "$first"
refused 4 "version $first of image debian is damaged" setup peg desk "debian@$first"
refused 4 ".*is damaged" setup create broken --image "debian@$first"

say "a running boot keeps what it has, a queued one gets what the setup means then"
start_serve --verbose
boot=$(lb boot queue lab-1 desk)
next=$(lb boot queue lab-1 desk)
PATH=/usr/bin:$PATH nbdsh -u "$(nbd_uri 52:54:00:00:00:01)" -c 'h.pread(512, 0)' -c 'h.pwrite(b"x" * 512, 0)' > /dev/null
running() { [ "$(lb --json boot show "$boot" | json 'v["State"]')" = running ]; }
within 20 running
lb setup peg desk "debian@$second" > /dev/null
expect "$third" "$(lb --json boot show "$boot" | json 'v["Images"][0]["Version"]')" "what runs"
expect "$second" "$(lb --json boot show "$next" | json 'v["Images"][0]["Version"]')" "what comes"

say "names and owners"
lb setup rename desk table
expect "$desk" "$(lb --json setup show alice/table | json 'v["UUID"]')" "the same setup"
expect "desk table" "$(for b in "$boot" "$next"; do lb --json boot show "$b" | json 'v["SetupName"]'; done | paste -sd ' ')" \
    "what runs, and what comes"
expect_match "\|setup alice/desk\|name desk -> table$" "$(events setup-changed | tail -n 1)"
lb setup create lamp --owner alice --image data > /dev/null
refused 4 "setup 'alice/table' exists already" setup rename lamp table
refused 2 "'Lamp' is not a name for a setup" setup rename lamp Lamp
lb setup set lamp --owner bob
expect bob "$(lb --json setup show lamp | json 'v["Username"]')" "its owner"
refused 2 "nothing to change" setup set lamp
refused 3 "there is no user 'carol'" setup set lamp --owner carol
expect "bob/lamp" "$(lb --json setup list --owner bob | json '" ".join(s["Username"] + "/" + s["Name"] for s in v)')"
expect "lamp" "$(lb --json setup list --image data | json '" ".join(s["Name"] for s in v)')"
expect "[]" "$(lb --json setup list --image data --owner alice)"
expect 1 "$(lb setup list --owner nobody | wc -l)" "lines: the heading alone"
expect "$second False" "$(lb --json setup show table --image debian | json 'v["Version"]["Version"], v["Latest"]')"
expect_match 'PLACE +root disk' "$(lb setup show table --image debian | tr '\n' ' ')"
refused 3 "there is no image of this setup 'data'" setup show table --image data

say "setups of others"
refused 5 "changing the setup alice/table needs the role admin" --as bob setup rename table mine
refused 5 "changing the setup" --as bob setup remove table
refused 5 "making the setup alice/lamp needs the role admin" --as bob setup set lamp --owner alice
refused 5 "using the user image alice/.*" --as bob setup add-image lamp \
    "$(lb image import secret "$tmp/disk.raw" --kind user --owner alice > /dev/null && echo alice/secret)"
refused 5 "changing the system image alice/debian" --as bob setup add-image lamp debian,update
refused 5 "changing the system image alice/data" --as bob setup peg lamp data --update yes
lb --as bob setup add-image lamp home,update
expect "data@latest home@latest,update" "$(images lamp)"

say "removal"
refused 4 "setup 'alice/table' is in use: the default of lab-1, boot $boot of lab-1; try: --force" setup remove table
lb setup create spare --owner alice --image debian > /dev/null
spare=$(lb boot queue lab-2 spare)
lb boot queue lab-2 spare > /dev/null
expect_status 0 lb setup remove spare
expect "labboot: warning: 2 queued boots of it were cancelled" "$(cat "$tmp/err")"
expect "cancelled its setup was removed" "$(lb --json boot show "$spare" | json 'v["State"], v["Result"]')"
lb --quiet setup remove table --force
expect "running discarded" "$(lb --json boot show "$boot" | json 'v["State"]') $(lb boot end "$boot" &&
    lb --json boot show "$boot" | json 'v["State"]')" "the boot that ran"
expect "cancelled" "$(lb --json boot show "$next" | json 'v["State"]')" "the one that was to come"
expect "None" "$(lb --json machine show lab-1 | json 'v["DefaultSetupUUID"]')" "the machine's default"
[[ $(script 1) != *vmlinuz* ]] || fail "lab-1 still boots the setup that is gone"
expect lamp "$(lb --json setup remove lamp | json 'v["Name"]')"
expect "[]" "$(lb --json setup list)"
