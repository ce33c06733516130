#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Versions that are written anew: what becomes of them, of those that were built on them, and of their files.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 /usr/bin/python3
export PATH=$PATH:/usr/sbin:/sbin

lb() { "$labboot" "$@"; }
# refused STATUS REGEX WORDS…
refused() {
    expect_status "$1" lb "${@:3}"
    expect_match "^labboot: $2" "$(cat "$tmp/err")" "error of '${*:3}'"
}
# of NAME VERSION FIELD
of() { lb --json image versions "$1" | json "[x for x in v if x['Version'] == $2][0]['$3']"; }
folder() { echo "$tmp/state/images/$(lb --json image show "$1" | json 'v["UUID"]')"; }
retired() { find "$(folder debian)/retired" -type f | wc -l; }
# same NAME@VERSION FILE
same() { lb image export "$1" - | cmp - "$2" || fail "$1 is not what it was"; }
# change N: half of MiB N of the disk is another
change() { head -c 500000 /dev/urandom | dd of="$tmp/disk.raw" bs=1M seek="$1" conv=notrunc status=none; }
sql() { /usr/bin/python3 - "$tmp/state/catalog.db" "$1" << 'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute(sys.argv[2])
db.commit()
END
}

write_conf
lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null
mkdir "$tmp/tree"
cp /usr/share/common-licenses/* "$tmp/tree"
truncate -s 40M "$tmp/disk.raw"
mkfs.ext4 -q -F -d "$tmp/tree" "$tmp/disk.raw"
for n in 1 2 3; do
    change $((30 + n))
    v[n]=$(lb image import debian "$tmp/disk.raw" --owner alice)
    cp --sparse=always "$tmp/disk.raw" "$tmp/$n.raw"
done
all_same() { for n in 1 2 3; do same "debian@${v[n]}" "$tmp/$n.raw"; done; }

say "the latest: nobody else needs its old file"
checksum=$(of debian "${v[3]}" Checksum)
before=$(of debian "${v[3]}" StoredSize)
expect "" "$(lb image flatten debian)"
all_same
expect "$checksum" "$(of debian "${v[3]}" Checksum)" "its checksum"
expect "${v[2]}" "$(of debian "${v[3]}" Parent)" "its parent"
expect 0 "$(retired)" "retired layers"
after=$(of debian "${v[3]}" StoredSize)
expect "$(stat -c %s "$(folder debian)/${v[3]}.img")" "$after" "its size"
[ "$after" -gt "$before" ] || fail "$after is not more than $before: what it shared is its own now"
expect "version-flattened" "$(lb --json log --limit 1 | json 'v[-1]["What"]')" "the event"
expect_match "image alice/debian@${v[3]} .*stored" "$(lb log --limit 1)"

say "once more: nothing to do"
lb image flatten debian
expect "$after" "$(of debian "${v[3]}" StoredSize)"

say "harder"
expect "${v[3]}" "$(lb --json image flatten debian --level 19 | json 'v["Head"]')"
[ "$(of debian "${v[3]}" StoredSize)" -lt "$after" ] || fail "level 19 is no better than 3"
all_same

say "one that others are built on: its old file stays until they are gone"
lb image flatten "debian@${v[1]}" --level 9
all_same
expect 1 "$(retired)" "retired layers"
lb image verify debian > /dev/null
expect_status 0 lb fsck --data
lb image remove "debian@${v[2]}"
same "debian@${v[3]}" "$tmp/3.raw"
lb gc > /dev/null
expect 0 "$(retired)" "retired layers"
lb image export "debian@${v[1]}" - | cmp - "$tmp/1.raw"

say "another compression"
for how in gzip none zstd; do
    lb image set debian --compression "$how"
    lb image flatten debian
    same debian "$tmp/3.raw"
    [ "$how" != none ] || cmp -n "$(stat -c %s "$tmp/3.raw")" "$(folder debian)/${v[3]}.img" "$tmp/3.raw" ||
        fail "without compression the file is not the disk"
done

say "refused"
refused 3 "there is no image 'nothing'" image flatten nothing
refused 3 "image debian has no version 7" image flatten debian@7
refused 2 "--level: .*" image flatten debian --level 0
refused 2 "--level: .*" image flatten debian --level 20
refused 2 "--progress: .*" image flatten debian --progress bar
lb image set debian --compression gzip
refused 2 "--level: .*" image flatten debian --level 13
lb image set debian --compression none
refused 2 "--level: the image is not compressed; try: labboot image set debian --compression zstd" image flatten debian --level 3
lb image set debian --compression gzip
write_conf store.reserve=1000T
refused 1 "image debian, version ${v[3]}: .*no space" image flatten debian
write_conf
same debian "$tmp/3.raw"
expect "" "$(find "$(folder debian)/tmp" -type f)" "what a refused one leaves"

say "damaged: it stays as it is, and what is wrong is said"
file=$(folder debian)/${v[3]}.img
cp "$file" "$tmp/aside.img"
printf '\377' | dd of="$file" bs=1 seek=30 conv=notrunc status=none
cp "$file" "$tmp/damaged.img"
refused 6 "image debian, version ${v[3]}: .*chunk" image flatten debian
cmp "$file" "$tmp/damaged.img"
cp "$tmp/aside.img" "$file"
lb image flatten debian
same debian "$tmp/3.raw"

say "a crash before the catalog knows: the version is there, fsck tells, and gc or the next start finishes it"
for healer in gc fsck serve; do
    v[4]=$(lb image import debian "$tmp/disk.raw")
    layer=$(/usr/bin/python3 -c '
import sqlite3, sys
print(*sqlite3.connect(sys.argv[1]).execute("SELECT layer, stored_size FROM version ORDER BY number DESC LIMIT 1").fetchone())
' "$tmp/state/catalog.db")
    cp "$(folder debian)/${v[4]}.img" "$tmp/old.img"
    lb image flatten debian
    mkdir -p "$(folder debian)/retired"
    cp "$tmp/old.img" "$(folder debian)/retired/${layer% *}.img"
    sql "UPDATE version SET layer = '${layer% *}', stored_size = ${layer#* } WHERE number = ${v[4]}"
    same "debian@${v[4]}" "$tmp/3.raw"
    expect_status 6 lb fsck
    expect_match "version-layer" "$(cat "$tmp/out")"
    case $healer in
        gc) lb gc > /dev/null ;;
        fsck) expect_status 0 lb fsck --repair ;;
        serve)
            start_serve --verbose
            stop "$serve"
            ;;
    esac
    lb gc > /dev/null
    expect_status 0 lb fsck
    expect 0 "$(retired)" "retired layers after $healer"
    same "debian@${v[4]}" "$tmp/3.raw"
    lb image rollback debian --to "${v[3]}"
    lb image remove "debian@${v[4]}" --force
done
