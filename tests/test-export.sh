#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Exports in every format of disks of every kind, read by the programs that the formats are made for.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 qemu-img zstd gzip bgzip /usr/bin/python3
export PATH=$PATH:/usr/sbin:/sbin

lb() { "$labboot" "$@"; }
refused() {
    expect_status "$1" lb "${@:3}"
    expect_match "^labboot: $2" "$(cat "$tmp/err")" "error of '${*:3}'"
    expect "" "$(find "$tmp" -maxdepth 1 -name 'out.*')" "files of refused exports"
}
noise() { head -c "$1" /dev/urandom; }
# The licences of the system, again and again.
text() { (set +o pipefail && cat /usr/share/common-licenses/{,}{,}* | head -c "$1"); }

write_conf
lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null

# check_frames FILE DISK: by the seek table, some frames alone; and the frames are all there is.
check_frames() {
    /usr/bin/python3 - "$1" "$2" << 'END'
import random, struct, subprocess, sys
data, disk = (open(name, "rb").read() for name in sys.argv[1:])
count, flags, magic = struct.unpack("<IBI", data[-9:])
assert magic == 0x8F92EAB1 and flags == 0, "the end of the seek table"
table = data[-9 - 8 * count:-9]
assert struct.unpack("<II", data[-17 - 8 * count:-9 - 8 * count]) == (0x184D2A5E, 8 * count + 9), "its beginning"
frames, at, place = [], 0, 0
for stored, length in struct.iter_unpack("<II", table):
    frames.append((at, stored, place, length))
    at, place = at + stored, place + length
assert at == len(data) - 17 - 8 * count and place == len(disk), "the frames' lengths"
random.seed(1)
for at, stored, place, length in random.sample(frames, min(len(frames), 6)):
    got = subprocess.run(["zstd", "-dcq"], input=data[at:at + stored], capture_output=True, check=True).stdout
    assert got == disk[place:place + length], f"the frame at {at}"
END
}

# check_blocks FILE DISK: bgzip reads a part alone.
check_blocks() {
    local size offset
    size=$(stat -c %s "$2")
    bgzip -r "$1"
    for offset in 0 $((size / 3)) $((size - 1)); do
        bgzip -b "$offset" -s 100 "$1" | cmp - <(tail -c "+$((offset + 1))" "$2" | head -c 100) || fail "bgzip at $offset"
    done
    rm "$1.gzi"
}

# check_export IMAGE DISK: all formats, as file and where it can be as stream.
check_export() {
    local size
    size=$(stat -c %s "$2")
    lb image export "$1" "$tmp/out.raw" --format raw
    cmp "$tmp/out.raw" "$2" || fail "$1: raw"
    lb image export "$1" - --format raw | cmp - "$2" || fail "$1: raw, as a stream"
    lb image export "$1" "$tmp/out.raw.zst" --format raw.zst
    zstd -dcq "$tmp/out.raw.zst" | cmp - "$2" || fail "$1: raw.zst"
    check_frames "$tmp/out.raw.zst" "$2" || fail "$1: seek table"
    lb image export "$1" - --format raw.zst | cmp - "$tmp/out.raw.zst" || fail "$1: raw.zst, as a stream"
    lb image export "$1" "$tmp/out.raw.gz" --format raw.gz
    gzip -dc "$tmp/out.raw.gz" | cmp - "$2" || fail "$1: raw.gz"
    check_blocks "$tmp/out.raw.gz" "$2"
    lb image export "$1" - --format raw.gz | cmp - "$tmp/out.raw.gz" || fail "$1: raw.gz, as a stream"
    lb image export "$1" "$tmp/out.qcow2" --format qcow2
    qemu-img check -q "$tmp/out.qcow2" > "$tmp/check.log" 2>&1 || fail "$1: qemu-img check"
    qemu-img compare -q -f qcow2 -F raw "$tmp/out.qcow2" "$2" || fail "$1: qemu-img compare"
    expect "$(((size + 511) / 512 * 512))" "$(qemu-img info --output=json "$tmp/out.qcow2" | json 'v["virtual-size"]')"
    lb image export "$1" - --format qcow2 > "$tmp/out.stdout" || fail "$1: qcow2 to a file on standard output"
    cmp "$tmp/out.stdout" "$tmp/out.qcow2"
    rm "$tmp"/out.*
}

# disk NAME: from standard input. Holes stay.
disk() { cp --sparse=always /dev/stdin "$tmp/$1.raw"; }
printf x | disk byte
head -c 200000 /dev/zero | disk zero
noise 9000001 | disk noise
text 70000 | disk odd
{ text 65536; head -c 65536 /dev/zero; noise 65536; head -c 131072 /dev/zero; text 65535; } | disk mixed
# A byte on either side of every boundary of a chunk, and of a leaf, of each size.
truncate -s 20000001 "$tmp/edges.raw"
/usr/bin/python3 - "$tmp/edges.raw" << 'END'
import sys
with open(sys.argv[1], "r+b") as f:
    for shift in 14, 15, 16, 21, 22, 23:
        for at in range(1 << shift, 20000001, (1 << shift) * (7 if shift < 20 else 1)):
            f.seek(at - (at >> shift) % 2)
            f.write(b"\x01")
END
mkdir "$tmp/tree"
cp -r /usr/share/common-licenses "$tmp/tree"
cp "$labboot" "$tmp/tree"
truncate -s 24M "$tmp/ext4.raw"
mkfs.ext4 -q -F -d "$tmp/tree" "$tmp/ext4.raw"

for chunk in 64K 16K; do
    write_conf store.chunk-size=$chunk
    for compression in zstd gzip none; do
        say "$compression in chunks of $chunk"
        for disk in byte zero noise odd mixed edges ext4; do
            [ "$chunk" = 64K ] || [ "$disk" = odd ] || [ "$disk" = edges ] || continue
            lb image import "$disk-$compression-${chunk,,}" "$tmp/$disk.raw" --compression $compression > /dev/null
            check_export "$disk-$compression-${chunk,,}" "$tmp/$disk.raw"
        done
    done
done
write_conf

say "a version of several layers, each compressed in its way"
lb image import layers "$tmp/ext4.raw" > /dev/null
for compression in gzip none zstd; do
    lb image set layers --compression $compression
    { noise 300000; text 300000; } | dd of="$tmp/ext4.raw" bs=64K seek=$((RANDOM % 200)) conv=notrunc status=none
    lb image import layers "$tmp/ext4.raw" > /dev/null
done
check_export layers "$tmp/ext4.raw"

say "what is stored in the format's way goes out as it is"
lb image export ext4-zstd-64k "$tmp/out.raw.zst" --format raw.zst
lb image export ext4-gzip-64k "$tmp/out.raw.gz" --format raw.gz
/usr/bin/python3 - "$tmp" "$(lb --json image show ext4-zstd-64k | json 'v["UUID"]')" \
    "$(lb --json image show ext4-gzip-64k | json 'v["UUID"]')" << 'END'
import glob, sys
tmp, *images = sys.argv[1:]
for image, name in zip(images, ("out.raw.zst", "out.raw.gz")):
    layer = open(glob.glob(f"{tmp}/state/images/{image}/*.img")[0], "rb").read()
    made = open(f"{tmp}/{name}", "rb").read()
    assert layer[:200] in made, f"{name}: the first frame of the layer is not in it"
END
rm "$tmp"/out.*

say "a terabyte of nothing is little"
truncate -s 1T "$tmp/large.raw"
noise 3000000 | dd of="$tmp/large.raw" bs=1M seek=500000 conv=notrunc status=none
lb image import large "$tmp/large.raw" > /dev/null
lb image export large "$tmp/out.qcow2" --format qcow2
[ "$(stat -c %s "$tmp/out.qcow2")" -lt 6000000 ] || fail "qcow2: $(stat -c %s "$tmp/out.qcow2") bytes"
qemu-img check -q "$tmp/out.qcow2" || fail "qemu-img check of the large one"
lb image export large "$tmp/out.raw.zst" --format raw.zst
[ "$(stat -c %s "$tmp/out.raw.zst")" -lt 40000000 ] || fail "raw.zst: $(stat -c %s "$tmp/out.raw.zst") bytes"
rm "$tmp"/out.* "$tmp/large.raw"

say "the image's type is the format"
lb image set odd-zstd-64k --type qcow2
expect qcow2 "$(lb --json image show odd-zstd-64k | json 'v["ImageFileType"]')"
lb image export odd-zstd-64k "$tmp/out.disk"
expect qcow2 "$(qemu-img info --output=json "$tmp/out.disk" | json 'v["format"]')"
rm "$tmp/out.disk"
got=0
lb image export odd-zstd-64k - 2> "$tmp/err" | cmp - /dev/null || got=$?
expect 2 "$got" "the status of qcow2 to a pipe"
expect_match "^labboot: image odd-zstd-64k, version [0-9]+: qcow2 cannot be written to a stream; try: a file, or raw.zst" "$(cat "$tmp/err")"
lb image export odd-zstd-64k - --format raw | cmp - "$tmp/odd.raw"

say "refused"
refused 2 "--format: 'vmdk' is not one of: raw, qcow2, raw.zst, raw.gz" image export odd-zstd-64k "$tmp/out.x" --format vmdk
refused 2 "--type: 'vmdk' is not one of" image set odd-zstd-64k --type vmdk
for format in raw qcow2 raw.zst raw.gz; do
    [ "$format" = qcow2 ] || refused 1 ".*No space left" image export ext4-zstd-64k /dev/full --format $format
done
closed=0
lb image export noise-zstd-64k - --format raw.zst 2> "$tmp/err" | head -c 1000 > /dev/null || closed=$?
[ "$closed" != 0 ] || fail "nobody noticed that the reader was gone"
file=$(echo "$tmp/state/images/$(lb --json image show ext4-zstd-64k | json 'v["UUID"]')"/*.img)
printf '\377\377' | dd of="$file" bs=1 seek=50 conv=notrunc status=none
for format in raw qcow2 raw.zst raw.gz; do
    refused 6 "image ext4-zstd-64k, version [0-9]+: .*chunk [0-9]+" image export ext4-zstd-64k "$tmp/out.x" --format $format
done
