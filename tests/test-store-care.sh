#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The care of the store: image verify, gc and fsck find what is wrong or left over, and touch nothing else.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 sha256sum nbdinfo /usr/bin/python3

lb() { "$labboot" "$@"; }
# refused STATUS REGEX WORDS…: one line on stderr.
refused() {
    local status=$1 regex=$2
    shift 2
    expect_status "$status" lb "$@"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error of '$*'"
    expect_match "^labboot: $regex" "$(cat "$tmp/err")" "error of '$*'"
}
# flip FILE OFFSET: damages one byte; a second time, it is whole again.
flip() {
    /usr/bin/python3 - "$1" "$2" << 'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]), 2 if int(sys.argv[2]) < 0 else 0)
    b = f.read(1)
    f.seek(-1, 1)
    f.write(bytes([b[0] ^ 0x55]))
END
}

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1
lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null
images=$tmp/state/images

say "a store with a history"
mkdir -p "$tmp/root/boot"
head -c 300000 /dev/urandom > "$tmp/root/boot/vmlinuz-6.1.0"
head -c 300000 /dev/urandom > "$tmp/root/boot/initrd.img-6.1.0"
head -c 3000000 /dev/urandom > "$tmp/root/data"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.raw" 16M > /dev/null 2>&1
first=$(lb image import debian "$tmp/disk.raw" --owner alice)
head -c 200000 /dev/urandom | dd of="$tmp/disk.raw" bs=1M seek=12 conv=notrunc status=none
second=$(lb image import debian "$tmp/disk.raw")
lb setup create lab --owner alice --image debian > /dev/null
lb setup create old --owner alice --image "debian@$first" > /dev/null
lb machine add 52:54:00:00:00:01 --name lab-1 --default-setup lab > /dev/null
uuid=$(lb --json image show debian | json 'v["UUID"]')
state_of() { lb --json image versions debian | json "[n['State'] for n in v if n['Version'] == $1][0]"; }

say "verify: all is whole"
expect "None None" "$(lb --json image versions debian | json 'v[0]["VerifiedAt"], v[1]["VerifiedAt"]' | tr -d '(),')"
expect_status 0 lb image verify debian
expect "True" "$(lb --json image versions debian | json 'all(abs(n["VerifiedAt"] - n["MadeAt"]) < 100 for n in v)')" "when"
expect "0 0" "$(lb --json image verify debian | json 'v[0]["DamagedChunks"], v[1]["DamagedChunks"]' | tr -d '(),')"
expect "1" "$(lb --json image verify "debian@$first" | json 'len(v)')" "versions of a single one"
expect "None" "$(lb --json image versions debian | json 'v[0]["SHA256"]')" "SHA-256 that nobody asked for"
lb image export debian "$tmp/out.raw"
expect "$(sha256sum < "$tmp/out.raw" | cut -d ' ' -f 1)" \
    "$(lb --json image verify debian@latest --sha256 | json 'v[0]["SHA256"]')" "SHA-256"
expect "$(sha256sum < "$tmp/out.raw" | cut -d ' ' -f 1)" \
    "$(lb --json image versions debian | json 'v[0]["SHA256"]')" "SHA-256 that is kept"
refused 3 "there is no image 'nothing'" image verify nothing
refused 3 "image debian has no version 7" image verify debian@7
refused 2 "--progress: 'bar'" image verify debian --progress bar

say "verify: what is damaged is marked, with whom it touches"
flip "$images/$uuid/$first.img" 2000
refused 6 "image debian: 2 of 2 versions are damaged" image verify debian
expect_match "$first  damaged  1  *alice/old" "$(cat "$tmp/out")"
expect_match "$second  damaged  1  *alice/lab" "$(cat "$tmp/out")"
expect damaged "$(state_of "$first")"
expect "['alice/old']" "$(lb --json image verify debian 2> /dev/null | json '[s["Name"] for s in v[1]["Setups"]]')"
refused 4 ".*damaged; try: labboot image verify" boot queue lab-1 lab
lb --json image verify debian > "$tmp/verified" 2> /dev/null || true
expect "[{'File': '$first.img', 'Chunks': 1, 'SharedWith': [$first]}]" "$(json 'v[0]["DamagedFiles"]' < "$tmp/verified")"
expect "[('lab-1', 'queued')]" "$(json '[(b["MachineName"], b["State"]) for b in v[0]["Boots"]]' < "$tmp/verified")"
expect "labboot image import alice/debian FILE" "$(json 'v[0]["Try"]' < "$tmp/verified")"
lb doctor > "$tmp/out" 2> "$tmp/err" || true
expect_match "version alice/debian@$second: it is damaged: .*; in $first.img; damage there is shared with $first; setups that \
have it: alice/lab; boots that have it: 1 of lab-1 .queued.; try: restore the file, then labboot image verify alice/debian" \
    "$(cat "$tmp/out")"
expect_match "debian@$second,damaged" "$(lb status)"

say "verify: what was restored is good again"
flip "$images/$uuid/$first.img" 2000
expect_status 0 lb image verify debian
expect published "$(state_of "$first")"
expect_status 0 lb boot queue lab-1 lab
expect "version-damaged version-whole" "$(/usr/bin/python3 - "$tmp/state/catalog.db" << 'END'
import sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute(
    "SELECT DISTINCT what FROM event WHERE what IN ('version-damaged', 'version-whole') ORDER BY what")
print(*(r[0] for r in rows))
END
)" "events"

say "verify: a file that is gone"
mv "$images/$uuid/$second.img" "$tmp/aside.img"
refused 6 "image debian: 1 of 2 versions" image verify debian
expect_match "no such file" "$(cat "$tmp/out")"
mv "$tmp/aside.img" "$images/$uuid/$second.img"
expect_status 0 lb image verify debian

# ---- gc ----------------------------------------------------------------------------------------------------------------

# codes: what gc --dry-run finds, one line.
codes() { lb --json gc --dry-run | json '" ".join(sorted(r["Code"] for r in v))'; }
sql() { /usr/bin/python3 - "$tmp/state/catalog.db" "$1" << 'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript("PRAGMA foreign_keys = ON;" + sys.argv[2])
db.commit()
END
}
overlays=$tmp/state/overlays
tftp=$tmp/state/tftp

say "gc: nothing to do"
expect "[]" "$(lb --json gc)"
expect_match "^freed  *0  0 objects$" "$(lb gc)"

say "gc: each kind of rubbish is found, left alone by --dry-run, and removed"
stray=aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa
mkdir -p "$images/$stray/tmp" "$images/$stray/retired" "$overlays/1/0" "$overlays/999/0" "$tftp/kernels/$stray/5"
cp "$images/$uuid/$first.img" "$images/$stray/$first.img"
head -c 70000 /dev/urandom > "$images/$uuid/tmp/bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
head -c 5000 /dev/urandom > "$tftp/kernels/$stray/5/vmlinuz"
echo > "$tftp/boot/mac-52-54-00-00-00-99.ipxe"
echo > "$tftp/boot/wait-52-54-00-00-00-99-3.ipxe"
echo > "$tftp/boot/mine.ipxe"
lb boot cancel 1
# a version that was removed, but for its file
third=$(lb image import debian "$tmp/disk.raw")
sql "UPDATE image SET head = $second WHERE uuid = '$uuid'; DELETE FROM version WHERE number = $third"
lb gc --dry-run > "$tmp/dry"
expect "dead-overlay dead-tmp stray-image stray-kernel stray-kernel stray-layer stray-script stray-script" "$(codes)"
expect_match "would free .* 8 objects" "$(tail -n 1 "$tmp/dry")"
[ -e "$images/$stray/$first.img" ] || fail "--dry-run removed something"
lb gc > "$tmp/gc"
expect "$(sed '$d' "$tmp/dry")" "$(sed '$d' "$tmp/gc")" "what gc removed"
expect "" "$(codes)" "what is left"
for gone in "$images/$stray" "$images/$uuid/$third.img" "$overlays/1" "$tftp/kernels/$stray" \
    "$tftp/boot/mac-52-54-00-00-00-99.ipxe"; do
    [ ! -e "$gone" ] || fail "$gone is still there"
done
for kept in "$overlays/999/0" "$tftp/boot/mine.ipxe" "$tftp/boot/mac-52-54-00-00-00-01.ipxe" \
    "$tftp/kernels/$uuid/$first/vmlinuz"; do
    [ -e "$kept" ] || fail "$kept is gone"
done
rm -r "$overlays/999"
expect_status 0 lb image verify debian

say "gc: what somebody holds stays"
held=$images/$uuid/tmp/cccccccc-cccc-4ccc-8ccc-cccccccccccc
head -c 1000 /dev/urandom > "$held"
exec {fd}< "$held"
flock -x "$fd"
expect "" "$(codes)" "a file that is being written"
exec {fd}<&-
expect "dead-tmp" "$(codes)" "a file that nobody writes"
lb gc > /dev/null

say "gc: a retired layer stays while a version needs it"
sql "DELETE FROM setup WHERE name = 'old'; DELETE FROM version WHERE number = $first"
expect "stray-kernel stray-layer" "$(codes)" "a version whose row is gone"
lb gc > /dev/null
[ "$(find "$images/$uuid/retired" -type f | wc -l)" = 1 ] || fail "it is not retired"
expect "" "$(codes)" "a retired layer that is needed"
expect_status 0 lb image verify debian
lb image import other "$tmp/disk.raw" --owner alice > /dev/null
other=$(lb --json image show other | json 'v["UUID"]')
mv "$images/$uuid/retired"/*.img "$tmp/aside.img"
mv "$tmp/aside.img" "$images/$other/retired/$(/usr/bin/python3 -c '
import sys, uuid
with open(sys.argv[1], "rb") as f:
    f.seek(-4096, 2)
    print(uuid.UUID(bytes=f.read(48)[32:48]))' "$tmp/aside.img").img"
expect "retired-layer" "$(codes)" "a retired layer that nothing names"
mv "$images/$other/retired"/*.img "$images/$uuid/retired/"
expect "" "$(codes)"

# ---- fsck ------------------------------------------------------------------------------------------------------------

# found CODES [OPTION…]: what fsck finds, and with which status.
found() {
    local wanted=$1 got=0
    shift
    lb --json fsck "$@" > "$tmp/fsck.json" 2> "$tmp/err" || got=$?
    expect "$wanted" "$(json '" ".join(sorted(f["Code"] for f in v))' < "$tmp/fsck.json")" "findings of fsck $*"
    expect "$([ -z "$wanted" ] && echo 0 || echo 6)" "$got" "status of fsck $*"
}
# repaired CODES: what fsck --repair repairs; a second run finds nothing.
repaired() {
    found "$1"
    found "$1"
    expect_status 0 lb fsck --repair
    expect "" "$(grep -v '(repaired)$' "$tmp/out" || true)" "findings that were not repaired"
    found ""
}
# lost CODE: it is found, --repair marks the version, and it is found again.
lost() {
    found "$@"
    expect "True False" "$(json 'v[0]["Repairable"], v[0]["Repaired"]' < "$tmp/fsck.json" | tr -d '(),')"
    expect_status 6 lb fsck --repair "${@:2}"
    expect_match "(kept from use)" "$(cat "$tmp/out")"
    expect damaged "$(state_of "$second")"
    found "$@"
    expect "False" "$(json 'v[0]["Repairable"]' < "$tmp/fsck.json")" "once it is marked"
}
whole() {
    expect_status 0 lb image verify debian
    found ""
}

say "fsck: all is well"
found ""
found "" --data
expect "" "$(lb fsck)"

say "fsck: modes, rubbish and scripts are repaired"
chmod 755 "$images"
chmod 644 "$tmp/state/catalog.db"
repaired "wrong-mode wrong-mode wrong-mode wrong-mode" # with the files that SQLite keeps beside its own
expect "700 640" "$(stat -c %a "$images" "$tmp/state/catalog.db" | paste -sd ' ')"
head -c 1000 /dev/urandom > "$held"
mkdir -p "$overlays/1" "$tftp/kernels/$uuid/5"
echo > "$tftp/boot/mac-52-54-00-00-00-99.ipxe"
repaired "dead-overlay dead-tmp stray-kernel stray-script"
rm "$tftp/boot/mac-52-54-00-00-00-01.ipxe"
repaired "script-missing"
sql "UPDATE machine SET script_wanted = script_wanted + 1"
repaired "script-stale"
rm -r "$tftp/kernels/$uuid/$second"
repaired "kernel-missing"

say "fsck: data that no version has is left to gc"
cp "$images/$uuid/$second.img" "$images/$uuid/77.img"
mkdir -p "$images/$stray"
found "stray-layer" # an import may be about to begin there
touch -d '2 minutes ago' "$images/$stray"
found "stray-image stray-layer"
expect_status 6 lb fsck --repair
for kept in "$images/$uuid/77.img" "$images/$stray"; do
    [ -e "$kept" ] || fail "fsck removed $kept"
done
lb gc > /dev/null
found ""

say "fsck: what is wrong with the file of a version"
file=$images/$uuid/$second.img
cp "$file" "$tmp/good.img"
mv "$file" "$tmp/aside.img"
lost version-missing
mv "$tmp/aside.img" "$file"
whole
flip "$file" -100
lost version-footer
flip "$file" -100
whole
cp "$images/$other/$(lb --json image versions other | json 'v[0]["Version"]').img" "$file"
lost version-footer
cp "$tmp/good.img" "$file"
whole
sql "UPDATE version SET virtual_size = virtual_size + 512 WHERE number = $second AND image = '$uuid'"
lost version-footer
sql "UPDATE version SET virtual_size = virtual_size - 512 WHERE number = $second AND image = '$uuid'"
whole
sql "UPDATE version SET stored_size = stored_size + 1 WHERE number = $second AND image = '$uuid'"
repaired version-layer
flip "$file" -4200
lost version-index
flip "$file" -4200
whole
retired=$(echo "$images/$uuid/retired"/*.img)
mv "$retired" "$tmp/retired.img"
lost layer-missing
mv "$tmp/retired.img" "$retired"
whole
flip "$file" 3000
found ""
lost version-data --data
flip "$file" 3000
whole

say "fsck: boots and overlays that do not fit"
lb boot queue lab-1 lab > /dev/null
boot=$(lb --json boot next lab-1 | json 'v["ID"]')
mkdir -p "$overlays/$boot/0"
found overlay-unexpected
sql "INSERT INTO boot_image (boot, position, image, name, version, keep, result) VALUES ($boot, 0, '$uuid', 'debian', $second, 1, NULL);
    UPDATE boot SET state = 'interrupted', result = 'test' WHERE id = $boot"
expect_status 0 lb fsck --repair # its script
found ""
head -c 4096 /dev/zero > "$overlays/$boot/0/meta"
found overlay-damaged
rm -r "${overlays:?}/$boot"
found overlay-missing
sql "UPDATE boot SET state = 'discarded' WHERE id = $boot"
expect_status 0 lb fsck --repair
mkdir -p "$overlays/999"
found overlay-unknown
expect_status 6 lb fsck --repair
[ -e "$overlays/999" ] || fail "fsck removed an unknown overlay"
rmdir "$overlays/999"
found ""

say "fsck: places"
mv "$overlays" "$tmp/aside"
found missing
mv "$tmp/aside" "$overlays"

say "fsck: the catalog"
sql "PRAGMA foreign_keys = OFF; INSERT INTO machine_mac VALUES ('52:54:00:00:00:77', '52:54:00:00:00:78', 0)"
found catalog-reference
sql "PRAGMA foreign_keys = OFF; DELETE FROM machine_mac WHERE mac = '52:54:00:00:00:77'"
found ""
cp "$tmp/state/catalog.db" "$tmp/catalog.db"
sql "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'user')
    WHERE name = 'version_boot'"
got=0
lb fsck > "$tmp/out" 2> "$tmp/err" || got=$?
expect 6 "$got" "status of a damaged catalog"
expect_match "^catalog-damaged  $tmp/state/catalog.db: " "$(cat "$tmp/out")"
