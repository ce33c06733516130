#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Imports of a disk in everything that it may come as, and of what only looks like it.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 qemu-img zstd gzip xz bgzip /usr/bin/python3
export PATH=$PATH:/usr/sbin:/sbin

lb() { "$labboot" "$@"; }
rubbish() { (cd "$tmp/state/images" && find . -path './*/tmp/*' -o -name "*.img" -newer "$tmp/mark"); }
# refused STATUS REGEX WORDS…: one line, no image, no file.
refused() {
    touch "$tmp/mark"
    expect_status "$1" lb "${@:3}"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error of '${*:3}'"
    expect_match "^labboot: $2" "$(cat "$tmp/err")" "error of '${*:3}'"
    expect "" "$(rubbish)" "what is left of '${*:3}'"
    expect_status 3 lb image show refused
}
checksum() { lb --json image versions "$1" | json 'v[0]["Checksum"]'; }
# takes NAME FILE [OPTION…]: as a file and as a stream it is the same disk.
takes() {
    lb image import "$@" > /dev/null
    expect "$checksum" "$(checksum "$1")" "the disk of $2"
    lb image import "$1" - "${@:3}" < <(cat "$2") > /dev/null
    expect "$checksum" "$(checksum "$1")" "the disk of $2, as a stream"
    lb image import "$1" - "${@:3}" < "$2" > /dev/null
    expect "$checksum" "$(checksum "$1")" "the disk of $2, as standard input"
}

write_conf
lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null
cd "$tmp"
mkdir tree
cp -r /usr/share/common-licenses "$labboot" tree
truncate -s 16M disk.raw
mkfs.ext4 -q -F -d tree disk.raw
lb image import raw disk.raw > /dev/null
checksum=$(checksum raw)

say "compressed"
zstd -q disk.raw -o disk.zst
zstd -q --long=30 --ultra -20 disk.raw -o disk.long.zst
gzip -c disk.raw > disk.gz
bgzip -c disk.raw > disk.bgz
xz -1 -c disk.raw > disk.xz
{ head -c 8M disk.raw | zstd -q; printf '\x50\x2a\x4d\x18\x04\0\0\0skip'; tail -c +$(((8 << 20) + 1)) disk.raw | zstd -q; } > two.zst
{ head -c 8M disk.raw | gzip; tail -c +$(((8 << 20) + 1)) disk.raw | gzip; } > two.gz
for file in disk.zst disk.long.zst disk.gz disk.bgz disk.xz two.zst two.gz; do
    cp "$file" anything.img # the name tells nothing
    takes compressed anything.img
done
lb image export raw own.zst --format raw.zst
takes own-stream own.zst

say "qcow2"
qemu-img convert -q -O qcow2 disk.raw plain.qcow2
qemu-img convert -q -c -O qcow2 disk.raw zlib.qcow2
qemu-img convert -q -c -O qcow2 -o compression_type=zstd,cluster_size=2M disk.raw zstd.qcow2
qemu-img convert -q -O qcow2 -o compat=0.10,cluster_size=4k disk.raw old.qcow2
qemu-img convert -q -O qcow2 -o extended_l2=on,cluster_size=128k disk.raw extended.qcow2
cp plain.qcow2 snapshots.qcow2
qemu-img snapshot -q -c before snapshots.qcow2
lb image export raw own.qcow2 --format qcow2
for kind in plain zlib zstd old extended snapshots own; do
    takes "$kind" "$kind.qcow2"
    expect qcow2 "$(lb --json image show "$kind" | json 'v["ImageFileType"]')" "the type of $kind"
done
takes plain disk.raw # the next version may come as another
expect qcow2 "$(lb --json image show plain | json 'v["ImageFileType"]')" "the type stays"
truncate -s 3G sparse.raw
qemu-img convert -q -O qcow2 sparse.raw sparse.qcow2
lb image import sparse sparse.qcow2 > /dev/null
lb image export sparse - --format raw | cmp - sparse.raw

say "what is not readable by its name"
chmod 600 plain.qcow2
exec {fd}< plain.qcow2
lb image import by-descriptor - <&"$fd" > /dev/null
exec {fd}<&-
expect "$checksum" "$(checksum by-descriptor)"

say "backing files"
qemu-img create -q -f qcow2 -b disk.raw -F raw overlay.qcow2
qemu-io -c "write -P 7 12M 64k" overlay.qcow2 > /dev/null
refused 1 "image refused: overlay.qcow2: a qcow2 file with a backing file; try: --follow-backing" image import refused overlay.qcow2
refused 2 "--follow-backing needs the name of a file" image import refused - --follow-backing < overlay.qcow2
lb image import overlay overlay.qcow2 --follow-backing > /dev/null
qemu-img convert -O raw overlay.qcow2 overlay.raw
lb image export overlay - --format raw | cmp - overlay.raw
lb image import overlay zlib.qcow2 --follow-backing > /dev/null
expect "$checksum" "$(checksum overlay)" "one without"
cp overlay.qcow2 escape.qcow2
qemu-img rebase -q -u -b 'json:{"driver": "file", "filename": "/etc/passwd"}' -F raw escape.qcow2
refused 1 ".*with a backing file" image import refused escape.qcow2

say "as what it is said to be"
lb image import as-raw plain.qcow2 --type raw > /dev/null
lb image export as-raw - | cmp - plain.qcow2
refused 1 "disk.raw: no qcow2 file" image import refused disk.raw --type qcow2
refused 1 "disk.zst: no qcow2 file" image import refused disk.zst --type qcow2

say "damaged, and what only looks like it"
for file in disk.zst disk.gz disk.xz plain.qcow2 zlib.qcow2; do
    head -c 100000 "$file" > cut.img
    refused 1 "image refused: cut.img: .*" image import refused cut.img
    head -c 3000 "$file" > short
    refused 1 "image refused: short: .*" image import refused short
    { head -c 8 "$file"; head -c 5000 /dev/urandom; } > garbage
    refused 1 "image refused: garbage: .*" image import refused garbage
    refused 1 "image refused: -: .*" image import refused - < <(cat garbage)
done
for file in disk.zst disk.gz disk.xz; do
    cp "$file" flipped
    printf '\377\377\377\377' | dd of=flipped bs=1 seek=$(($(stat -c %s "$file") / 2)) conv=notrunc status=none
    refused 1 "image refused: flipped: .*" image import refused flipped
    head -c 5000 /dev/urandom >> flipped
done
zstd -q plain.qcow2 -o inner.zst
refused 1 "image refused: inner.zst: compressed by zstd, but what is in it is no raw disk; try: decompress" image import refused inner.zst
gzip -c disk.xz > inner.gz
refused 1 ".*what is in it is no raw disk" image import refused inner.gz
: | zstd -q > empty.zst
refused 1 "image refused: empty: " image import refused empty.zst
printf 'QFI\373\0\0\0\7' > other.qcow2
head -c 200 /dev/zero >> other.qcow2
refused 1 "image refused: other.qcow2: a damaged or unknown qcow2 file" image import refused other.qcow2
qemu-img create -q -f qcow2 huge.qcow2 70T
refused 1 "image refused: huge.qcow2: a disk of [0-9]+ bytes; at most 64 TiB" image import refused huge.qcow2
qemu-img create -q -f qcow2 -o data_file=data.raw,data_file_raw=on outside.qcow2 8M
refused 1 ".*whose data is in another file" image import refused outside.qcow2
cp plain.qcow2 secret.qcow2
printf '\0\0\0\2' | dd of=secret.qcow2 bs=1 seek=32 conv=notrunc status=none # LUKS, as its header says
refused 1 ".*an encrypted qcow2 file" image import refused secret.qcow2

say "no space"
write_conf store.reserve=1000T
for file in disk.raw disk.zst plain.qcow2; do
    refused 1 "image refused: .*no space" image import refused $file
done
write_conf

say "killed, and interrupted: nothing is left that gc does not take, and no program runs on"
mkfifo fifo
for file in disk.zst plain.qcow2; do
    for sig in KILL TERM; do
        spawn killed.log "$labboot" image import refused fifo
        exec {feed}> fifo
        head -c 50000 $file >&"$feed"
        sleep 0.3
        children=$(pgrep -P "$spawned" || true)
        stop "$spawned" $sig
        for child in $children; do within 5 eval "! alive $child"; done
        exec {feed}>&-
        lb gc > /dev/null
        touch mark
        expect "" "$(rubbish)" "what is left after SIG$sig"
        expect_status 3 lb image show refused
    done
done
