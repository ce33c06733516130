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
expect_status 0 lb image verify debian
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
