#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The boot queue: many machines at once, all or nothing, in order; lists; what is taken out again.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 /usr/bin/python3

lb() { "$labboot" "$@"; }
# refused STATUS REGEX WORDS…: one line on stderr, nothing on stdout, and no boot more or less.
refused() {
    local status=$1 regex=$2 before
    shift 2
    before=$(all_boots)
    expect_status "$status" lb "$@"
    expect "" "$(cat "$tmp/out")" "output of '$*'"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error of '$*'"
    expect_match "^labboot: $regex" "$(cat "$tmp/err")" "error of '$*'"
    expect "$before" "$(all_boots)" "boots after '$*'"
}
all_boots() { lb --json boot list --limit 100000 | json '" ".join("%d:%s" % (b["ID"], b["State"]) for b in v)'; }
state() { lb --json boot show "$1" | json 'v["State"]'; }
# ids WORDS…: of a list, the newest first
ids() { lb --json boot list "$@" | json '" ".join(str(b["ID"]) for b in v)'; }

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1
lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null
lb user add bob --email bob@lab.example > /dev/null
mkdir -p "$tmp/root/boot"
echo kernel > "$tmp/root/boot/vmlinuz-6.1.0"
echo initrd > "$tmp/root/boot/initrd.img-6.1.0"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.raw" 8M > /dev/null 2>&1
version=$(lb image import debian "$tmp/disk.raw" --owner alice)
lb image import data "$tmp/disk.raw" --owner alice > /dev/null
lb setup create desk --owner alice --image debian > /dev/null
lb setup create pegged --owner alice --image "debian@$version" > /dev/null
lb setup create bobs --owner bob --image debian > /dev/null
refused 4 "there is no managed machine; try: labboot machine add" boot queue --all desk
for n in 1 2 3 4; do lb machine add "52:54:00:00:00:0$n" --name "lab-$n" > /dev/null; done
lb machine add 52:54:00:00:00:05 --name lab-5 --unmanaged > /dev/null
lb machine add 52:54:00:00:00:06 --name lab-6 --unmanaged > /dev/null

say "several machines"
read -r -d '' a b c < <(lb boot queue lab-3 lab-1 52-54-00-00-00-02 desk --comment "new course") || true
expect "lab-3 lab-1 lab-2" "$(for i in "$a" "$b" "$c"; do lb --json boot show "$i" | json 'v["Machine"]["Name"]'; done |
    paste -sd ' ')" "whose boots they are"
expect "$((a + 1)) $((a + 2))" "$b $c" "one after the other"
expect "list 2 new course" "$(lb --json boot queue lab-1 lab-2 desk --comment "new course" |
    json 'type(v).__name__, len(v), v[1]["Comment"]')" "several as JSON"
expect "dict" "$(lb --json boot queue lab-1 desk | json 'type(v).__name__')" "one as JSON"
refused 4 "machine 'lab-5' is not managed" boot queue lab-1 lab-2 lab-5 desk
refused 3 ".*lab-9" boot queue lab-1 lab-9 desk
refused 3 "there is no setup 'nothing'" boot queue lab-1 lab-2 nothing
refused 5 "booting the setup alice/desk" --as bob boot queue lab-1 lab-2 desk
refused 5 "changing the system image" --as bob boot queue lab-1 lab-2 bobs --update
count=$(lb boot list --limit 1000 | wc -l)

say "all machines"
expect_status 0 lb boot queue --all desk
expect "labboot: warning: 2 machines are not managed: nothing is queued for them" "$(cat "$tmp/err")"
expect 4 "$(sort -un "$tmp/out" | wc -l)" "ids"
expect "list 4" "$(lb --quiet --json boot queue --all desk | json 'type(v).__name__, len(v)')" "all as JSON"
expect "$((count + 8))" "$(lb boot list --limit 1000 | wc -l)" "boots"
[ -s "$tmp/state/tftp/boot/mac-52-54-00-00-00-04.ipxe" ] || fail "a script was not rendered"

say "one warning, however many machines"
expect_status 0 lb boot queue --all desk --update
expect "labboot: warning: 4 boots update image debian: the one that ends first becomes its latest, the others branches" \
    "$(head -n 1 "$tmp/err")"
expect 2 "$(wc -l < "$tmp/err")" "lines of warnings"
expect_status 0 lb boot queue lab-1 pegged --update
expect_match "setup 'pegged' pegs debian@$version" "$(cat "$tmp/err")"
expect 1 "$(wc -l < "$tmp/err")" "lines of warnings"

say "counts"
queued() { lb --json boot list "$1" --state queued --limit 1000 | json 'len(v)'; }
expect "$(queued lab-1)" "$(lb --json status | json '[m["Queued"] for m in v if m["Name"] == "lab-1"][0]')" "status"
expect "$(queued lab-1)" "$(lb --json machine show lab-1 | json 'v["Queued"]')" "machine show"
expect_match 'QUEUED' "$(lb machine list | head -n 1)"
expect_match 'QUEUED' "$(lb status | head -n 1)"

say "lists"
expect "$(ids lab-1 --limit 2)" "$(ids lab-1 | cut -d ' ' -f 1-2)" "--limit"
expect "[]" "$(lb --json boot list --state running)"
expect 1 "$(lb --json boot list --setup pegged | json 'len(v)')" "--setup"
expect "[]" "$(lb --json boot list lab-3 --setup pegged)"
refused 2 "--state: 'sleeping' is not one of: queued, leased" boot list --state sleeping
refused 2 "--limit: '0' is not between" boot list --limit 0
refused 2 "--since: 'yesterday' is not a time; try: 2h" boot list --since yesterday
refused 3 "there is no setup" boot list --setup nothing
lb boot cancel "$a"
for since in 2h "$(date +%F)" "$(date -d '1 hour ago' '+%F %H:%M')" 1795460000; do
    expect 1 "$(lb --json boot list --since "$since" --state cancelled | json 'len(v)')" "--since $since"
done
expect "[]" "$(lb --json boot list --since "$(date -d tomorrow +%F)" --state cancelled)" "--since tomorrow"
expect "$(queued lab-2)" "$(lb --json boot list lab-2 --since "$(date -d tomorrow +%F)" | json 'len(v)')" \
    "those that have not ended, --since tomorrow"

say "taken out again"
first=$(lb --json boot next lab-2 | json 'v["ID"]')
expect "$first cancelled" "$(lb --json boot cancel lab-2 | json 'v["ID"], v["State"]')" "the next boot of a machine"
[ "$(lb --json boot next lab-2 | json 'v["ID"]')" != "$first" ] || fail "lab-2 still boots $first"
mapfile -t many < <(lb --quiet boot queue --all desk)
refused 4 "boot $first is cancelled" boot cancel "${many[@]}" "$first"
expect "" "$(lb boot cancel "${many[@]}")"
for i in "${many[@]}"; do expect cancelled "$(state "$i")" "boot $i"; done
mapfile -t many < <(lb --quiet boot queue lab-1 lab-2 desk)
expect "2 cancelled" "$(lb --json boot cancel "${many[@]}" | json 'len(v), v[1]["State"]')"
refused 3 "nothing is queued for machine 'lab-5'" boot cancel lab-5
refused 5 "changing boot" --as bob boot cancel lab-1
lb machine add 52:54:00:00:00:07 --name lab-7 --default-setup desk > /dev/null
expect True "$(lb --json boot next lab-7 | json 'v["FromDefault"]')"
refused 3 "nothing is queued for machine 'lab-7'" boot cancel lab-7

say "the order holds when many queue at once"
pids_here=()
for n in 1 2 3 4 5 6; do
    (for k in 1 2 3 4 5; do lb --quiet boot queue lab-7 desk --comment "$n.$k"; done > "$tmp/queue.$n") &
    pids_here+=($!)
done
for pid in "${pids_here[@]}"; do wait "$pid"; done
expect 30 "$(cat "$tmp"/queue.? | sort -un | wc -l)" "boots"
for n in 1 2 3 4 5 6; do expect "$(sort -n "$tmp/queue.$n")" "$(cat "$tmp/queue.$n")" "order of the $n. caller"; done
cat "$tmp"/queue.? | sort -n > "$tmp/order"
start_serve --verbose
while read -r id; do
    expect "$id" "$(lb --json boot next lab-7 | json 'v["ID"]')" "the next boot"
    PATH=/usr/bin:$PATH nbdsh -u "$(nbd_uri 52:54:00:00:00:07)" -c 'h.pwrite(b"x" * 512, 0)' > /dev/null
    lb boot discard lab-7
    expect discarded "$(state "$id")" "boot $id"
done < <(head -n 5 "$tmp/order")
stop "$serve"

say "what happened long ago goes"
# age DAYS: all that has ended, and all events, by so much
age() {
    /usr/bin/python3 -c 'import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    for column in ("boot SET ended = ended", "event SET at = at", "request SET answered = answered"):
        db.execute("UPDATE %s - ?" % column, (86400 * int(sys.argv[2]),))' "$tmp/state/catalog.db" "$1"
}
ended() { lb --json boot list --limit 10000 | json 'len([b for b in v if b["State"] in ("cancelled", "discarded")])'; }
before=$(ended)
[ "$before" -gt 5 ] || fail "there is no history: $before boots"
age 89
lb gc > /dev/null
expect "$before" "$(ended)" "history of 89 days"
age 2
expect_match "old-history .* $before boots, " "$(lb gc --dry-run)"
expect "$before" "$(ended)" "history after a dry run"
sed -i 's/^\[server\]/&\nhistory-days = 0/' "$LABBOOT_CONFIG"
lb gc > /dev/null
expect "$before" "$(ended)" "history that is kept for ever"
sed -i 's/^history-days = 0/history-days = 90/' "$LABBOOT_CONFIG"
queued=$(lb --json boot list --state queued --limit 10000 | json 'len(v)')
lb gc > /dev/null
expect 0 "$(ended)" "history after gc"
expect "$queued" "$(lb --json boot list --state queued --limit 10000 | json 'len(v)')" "boots that are queued"
lb boot cancel lab-1
age 91
start_serve --verbose
gone() { [ "$(ended)" = 0 ]; }
within 20 gone
