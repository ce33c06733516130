#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The life of images: made empty, changed, rolled back, thinned out, removed; and what holds them.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 e2fsck debugfs /usr/bin/python3
export PATH=$PATH:/usr/sbin:/sbin

lb() { "$labboot" "$@"; }
# refused STATUS REGEX WORDS…: one line on stderr, nothing on stdout.
refused() {
    expect_status "$1" lb "${@:3}"
    expect "" "$(cat "$tmp/out")" "output of '${*:3}'"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error of '${*:3}'"
    expect_match "^labboot: $2" "$(cat "$tmp/err")" "error of '${*:3}'"
}
versions() { lb --json image versions "$1" | json '" ".join(str(x["Version"]) for x in v[::-1])'; }
uuid() { lb --json image show "$1" | json 'v["UUID"]'; }
folder() { echo "$tmp/state/images/$(uuid "$1")"; }
# files FOLDER: of layers, and what else may lie about.
files() { (cd "$1" && find . -type f ! -name lock -printf '%P\n' | sort | paste -sd ' '); }
kernels() { (cd "$tmp/state/tftp/kernels" && find . -mindepth 2 -maxdepth 2 -printf '%P\n' | sort | paste -sd ' '); }
# change N: the disk is not what it was.
change() { head -c 100000 /dev/urandom | dd of="$tmp/disk.raw" bs=1M seek="$1" conv=notrunc status=none; }

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1
lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null
lb user add bob --email bob@lab.example > /dev/null
lb machine add 52:54:00:00:00:01 --name lab1 > /dev/null
script=$tmp/state/tftp/boot/mac-52-54-00-00-00-01.ipxe

say "empty disks"
for filesystem in ext4 fat32 raw; do
    version=$(lb image create "new-$filesystem" --size 40M --filesystem "$filesystem" --comment first --owner bob)
    expect_match '^[0-9]+$' "$version"
    expect "$filesystem user raw bob" "$(lb --json image show "new-$filesystem" |
        json 'v["Filesystem"], v["Type"], v["ImageFileType"], v["Username"]')" "new-$filesystem"
    expect first "$(lb --json image versions "new-$filesystem" | json 'v[0]["Comment"]')"
    lb image export "new-$filesystem" "$tmp/$filesystem.raw"
    expect $((40 << 20)) "$(stat -c %s "$tmp/$filesystem.raw")" "size"
    expect "$version.img" "$(files "$(folder "new-$filesystem")")" "files"
done
e2fsck -fn "$tmp/ext4.raw" > "$tmp/fsck.log" 2>&1 || fail "the ext4"
expect_match has_journal "$(dumpe2fs -h "$tmp/ext4.raw" 2> /dev/null)" "the least ext4"
if command -v fsck.fat > /dev/null; then fsck.fat -n "$tmp/fat32.raw" > "$tmp/fsck.log" || fail "the FAT"; fi
cmp -n $((40 << 20)) "$tmp/raw.raw" /dev/zero
expect qcow2 "$(lb --json image create q --size 512 --filesystem raw --type qcow2 --kind boot --compression none |
    json 'v["ImageFileType"]')"
lb image create least --size 4M > /dev/null
lb image export least - > "$tmp/least.raw"
expect_match has_journal "$(dumpe2fs -h "$tmp/least.raw" 2> /dev/null)" "the least ext4"

say "empty disks that are refused"
before=$(find "$tmp/state" -type f -o -type d | sort)
refused 2 "a disk needs a size; try: --size" image create x
refused 2 "--size: ext4 needs at least 4M" image create x --size 4095K
refused 2 "--size: fat32 needs at least 33M" image create x --size 32M --filesystem fat32
refused 2 "--size: 513 is no whole number of sectors" image create x --size 513
refused 2 "--size: .*" image create x --size 1X
refused 2 "--size: .*" image create x --size 65T
refused 2 "--filesystem: 'xfs' is not one of: ext4, fat32, raw" image create x --size 4M --filesystem xfs
refused 2 "--kind: 'machine' is not one of" image create x --size 4M --kind machine
refused 2 "--type: 'vmdk' is not one of: raw, qcow2" image create x --size 4M --type vmdk
refused 2 "'done' cannot be an image's name" image create "done" --size 4M
refused 3 "there is no user 'eve'" image create x --size 4M --owner eve
refused 4 "image bob/new-raw exists already" image create bob/new-raw --size 4M
expect "$before" "$(find "$tmp/state" -type f -o -type d | sort)" "what is left of them"

say "lists"
expect "new-ext4 new-fat32 new-raw" "$(lb --json image list --owner bob | json '" ".join(i["Name"] for i in v)')"
expect q "$(lb --json image list --kind boot | json '" ".join(i["Name"] for i in v)')"
expect "[]" "$(lb --json image list --kind boot --owner bob)"
expect 4 "$(lb image list --owner bob | wc -l)" "lines of the list"
refused 3 ".*eve.*" image list --owner eve
refused 2 "--kind: .*" image list --kind disk

say "changes"
mkdir -p "$tmp/tree/boot"
echo "a kernel" > "$tmp/tree/boot/vmlinuz-6.1.0-37"
echo "an initrd" > "$tmp/tree/boot/initrd.img-6.1.0-37"
truncate -s 32M "$tmp/disk.raw"
mkfs.ext4 -q -F -d "$tmp/tree" "$tmp/disk.raw"
v1=$(lb image import debian "$tmp/disk.raw" --owner alice)
lb setup create lab --owner alice --image debian > /dev/null
lb image set debian --name lenny --comment "of old"
expect "of old" "$(lb --json image show lenny | json 'v["Comment"]')"
expect alice/lab "$(lb --json image show lenny | json 'v["Setups"][0]["Name"]')"
expect_match 'SETUPS +alice/lab' "$(lb image show lenny)"
expect debian "$(lb --json image set lenny --name debian | json 'v["Name"]')" "image set --json"
lb image set "debian@$v1" --comment "the first one"
expect "the first one" "$(lb --json image versions debian | json 'v[0]["Comment"]')"
lb image set debian --comment "" --compression none
expect "None none" "$(lb --json image show debian | json 'v["Comment"], v["DiskCompressionStrategy"]')"
change 20
v2=$(lb image import debian "$tmp/disk.raw")
lb image export debian - | cmp - "$tmp/disk.raw" || fail "a version without compression on one with"
lb image set debian --compression zstd
lb image import packed "$tmp/disk.raw" --owner alice --compression gzip > /dev/null
lb image export packed - | cmp - "$tmp/disk.raw" || fail "a version with gzip"
lb image remove packed
refused 2 "what shall be set\\? try: --help" image set debian
refused 2 "a version has nothing to set but --comment" image set "debian@$v1" --name x
refused 2 "a version has nothing to set but --comment" image set "debian@$v1" --comment x --kind user
refused 3 ".*has no version 17.*" image set debian@17 --comment x
refused 2 "'machine' cannot be an image's name" image set debian --name machine
refused 2 "--kind: 'machine' is not one of" image set debian --kind machine
refused 3 ".*eve.*" image set debian --owner eve
lb image create debian --size 4M --owner bob > /dev/null
refused 4 "image alice/debian: image 'bob/debian' exists already" image set alice/debian --owner bob
refused 4 "image alice/debian: image 'alice/q' exists already" image set alice/debian --name q
lb setup create two --owner alice --image alice/debian --image bob/new-raw > /dev/null
lb image set bob/debian --name other > /dev/null
refused 4 "image bob/new-raw: setup alice/two has another image 'debian'" image set bob/new-raw --name debian
lb setup remove two

say "what versions hold"
change 22
v3=$(lb image import debian "$tmp/disk.raw")
lb --json image versions debian > "$tmp/json"
expect "True" "$(json 'v[0]["AloneSize"] == v[0]["StoredSize"]' < "$tmp/json")" "the newest alone holds its file"
expect "0" "$(json 'v[1]["AloneSize"]' < "$tmp/json")" "the next has all of the second's"
change 20
v4=$(lb image import debian "$tmp/disk.raw")
expect "0" "$(lb --json image versions debian | json 'v[2]["AloneSize"]')" "what the fourth wrote over, the third has"
expect_match "ALONE" "$(lb image versions debian)"

say "rollback"
lb boot queue lab1 lab > /dev/null
grep -q "image debian@$v4" "$script" || fail "the script does not boot the latest"
lb image rollback debian --to "$v2"
expect "$v2" "$(lb --json image show debian | json 'v["Head"]')"
grep -q "image debian@$v2" "$script" || fail "the script does not boot what is latest now"
refused 2 "to which version\\? try: --to" image rollback debian
refused 2 "--to: .*" image rollback debian --to latest
refused 3 ".*has no version 17.*" image rollback debian --to 17
lb image rollback debian --to "$v4"

say "a tree of versions"
cp --sparse=always "$tmp/disk.raw" "$tmp/aside.raw"
for n in 1 2 3 4 5 6; do
    change "$((n + 10))"
    t[n]=$(lb image import tree "$tmp/disk.raw" --owner alice)
    case $n in
        3) lb image rollback tree --to "${t[2]}" ;; # the fourth is made from the second, as the third
        4) lb image rollback tree --to "${t[3]}" ;; # the fifth from the third
        5) lb image rollback tree --to "${t[4]}" ;; # the sixth from the fourth
    esac
done
tree() { lb image versions tree --tree | sed 's/ *20[0-9-]* .*//; 1d' | paste -sd ' '; }
expect "${t[1]} ${t[2]} +-${t[3]} | ${t[5]} ${t[4]} ${t[6]}" "$(tree)" "the line of the latest goes straight down"
lb image rollback tree --to "${t[5]}"
expect "${t[1]} ${t[2]} +-${t[4]} | ${t[6]} ${t[3]} ${t[5]}" "$(tree)" "and so it does when that is another"
expect_match "^VERSION +TIME +STATE +STORED +ALONE +BOOT +MACHINE +COMMENT" "$(lb image versions tree --tree)"
lb image remove "tree@${t[2]}" --force
expect "${t[1]} ${t[3]} ${t[5]} ${t[4]} ${t[6]}" "$(tree)" "what was made from a version that is gone begins a line"
expect "$(lb --json image versions tree)" "$(lb --json image versions tree --tree)" "JSON names the parents"
lb image remove tree
mv "$tmp/aside.raw" "$tmp/disk.raw"

say "who holds a version"
refused 4 "image alice/debian, version $v4: it is the latest; try: labboot image rollback alice/debian --to" \
    image remove "debian@$v4"
refused 4 "image alice/debian, version $v2: boot [0-9]+ of lab1 may start with it" image remove "debian@$v2"
lb setup create pegged --owner alice --image "debian@$v3" > /dev/null
refused 4 "image alice/debian, version $v3: setup alice/pegged pegs it" image remove "debian@$v3"
refused 4 "image alice/debian: setup alice/lab has it; setup alice/pegged has it" image remove debian
expect "$v1 $v2 $v3 $v4" "$(versions debian)" "what is left"
lb image remove "debian@$v3" --force
expect "$v1 $v2 $v4" "$(versions debian)"
expect True "$(lb --json setup show pegged | json 'v["Images"][0]["Latest"]')" "what was pegged follows latest"
expect "1.img 2.img 4.img r.img" "$(files "$(folder debian)" |
    sed "s/$v1/1/; s/$v2/2/; s/$v4/4/; s,retired/[-0-9a-f]*,r,")" "files: the fourth is built on the third"
lb image export debian - | cmp - "$tmp/disk.raw" || fail "the fourth without the third"
expect True "$(lb --json image versions debian | json '100000 <= v[1]["AloneSize"] < v[1]["StoredSize"]')" \
    "what the fourth wrote over, the second alone has"
expect "" "$(kernels | tr ' ' '\n' | grep "/$v3\$" || true)" "the kernel of the third"

say "keep"
refused 2 "how many shall stay\\? try: --last" image keep debian
refused 2 "--last: .*" image keep debian --last 0
refused 2 "--days: .*" image keep debian --last 1 --days never
expect "$v1" "$(lb image keep debian --last 1 --dry-run)" "what would go: a queued boot may start with the second"
expect "$v1 $v2 $v4" "$(versions debian)"
expect "" "$(lb image keep debian --last 1 --days 1)" "nothing is as old as that"
expect "[$v1]" "$(lb --json image keep debian --last 1)"
expect "[]" "$(lb --json image keep debian --last 1)"
expect "$v2 $v4" "$(versions debian)"
lb image export "debian@$v2" - > "$tmp/second.raw" || fail "the second without the first"

say "a damaged version"
printf X | dd of="$(folder debian)/$v2.img" bs=1 seek=100 conv=notrunc status=none
truncate -s -1 "$(folder debian)/$v2.img"
expect "None" "$(lb --json image versions debian | json 'v[1]["AloneSize"]')" "of a damaged one nothing is told"
expect "$v4" "$(lb --json image versions debian | json 'v[0]["AloneSize"] and v[0]["Version"]')"
lb image remove "debian@$v2" --force
expect "$v4" "$(versions debian)"
refused 4 "image alice/debian, version $v4: it is the only version; try: labboot image remove alice/debian" \
    image remove "debian@$v4"

say "the whole image"
boot=$(lb --json boot next lab1 | json 'v["ID"]')
gone=$(folder debian)
refused 4 "image alice/debian: setup alice/lab has it; setup alice/pegged has it" image remove debian
expect "null" "$(lb --json image remove debian --force)"
refused 3 "there is no image 'debian'" image show debian
[ ! -e "$gone" ] || fail "its folder is left: $(find "$gone")"
expect "" "$(kernels)" "kernels"
expect "[]" "$(lb --json setup show lab | json 'v["Images"]')" "the images of the setup"
expect cancelled "$(lb --json boot show "$boot" | json 'v["State"]')" "the boot without a disk"
grep -q "local disk" "$script" || fail "a script boots what is gone"
expect "image-removed" "$(lb --json log --what image-removed | json 'v[-1]["What"]')" "the event"
refused 3 "there is no image 'debian'" image remove debian

say "a kernel for a root that has none"
truncate -s 8M "$tmp/root.raw" "$tmp/boot.raw"
mkdir "$tmp/empty" "$tmp/files"
mkfs.ext4 -q -F -d "$tmp/empty" "$tmp/root.raw"
cp "$tmp/tree/boot/"* "$tmp/files"
for tree in tree files; do # with /boot, and as what is mounted there
    mkfs.ext4 -q -F -d "$tmp/$tree" "$tmp/boot.raw"
    version=$(lb image import "kernels-$tree" "$tmp/boot.raw" --kind boot)
    root=$(lb image import "root-$tree" "$tmp/root.raw")
    lb setup create "$tree" --owner alice --image "root-$tree" --image "kernels-$tree@$version" > /dev/null
    sleep 1 # a version has its number from the clock
    newer=$(lb image import "kernels-$tree" "$tmp/boot.raw")
    [ "$newer" != "$version" ] || fail "two versions of one number"
    expect_status 0 lb boot queue lab1 "$tree"
    expect "" "$(cat "$tmp/err")" "warnings"
    grep -q "^kernel /kernels/$(uuid "kernels-$tree")/$version/vmlinuz" "$script" || fail "the kernel: $(cat "$script")"
    grep -q "image root-$tree@$root, kernel 6.1.0-37" "$script" || fail "the root: $(cat "$script")"
    lb boot cancel "$(cat "$tmp/out")"
done
lb setup create bare --owner alice --image root-tree > /dev/null
expect_status 0 lb boot queue lab1 bare
expect_match "warning: root-tree@[0-9]+ has no kernel and initrd" "$(cat "$tmp/err")" "the warning"
lb boot cancel "$(cat "$tmp/out")"

say "killed while it removes: the catalog is right, what is there can be read, and gc takes the rest"
command -v strace > /dev/null || { say "without strace: not tried"; exit 0; }
killed=0
for point in openat:9 flock:1 flock:2 pwrite64:1 pwrite64:2 pwrite64:4 fdatasync:1 rename:1 fsync:1 fsync:2 unlink:1 \
    unlink:2 unlinkat:1; do
    for version in 1 2; do # retired, and unlinked
        truncate -s 0 "$tmp/disk.raw"
        truncate -s 8M "$tmp/disk.raw"
        change 1
        one=$(lb image import crash "$tmp/disk.raw" --new --kind user)
        change 2
        two=$(lb image import crash "$tmp/disk.raw")
        lb image export crash - > "$tmp/two.raw"
        lb image export "crash@$one" - > "$tmp/one.raw"
        if [ "$version" = 2 ]; then lb image rollback crash --to "$one"; fi
        victim=$([ "$version" = 1 ] && echo "$one" || echo "$two")
        got=0
        strace -qq -o "$tmp/strace.log" -e "inject=${point%:*}:signal=KILL:when=${point#*:}" \
            "$labboot" image remove "crash@$victim" > "$tmp/out" 2>&1 || got=$?
        [ "$got" = 0 ] || [ "$got" = 137 ] || fail "at $point: status $got: $(cat "$tmp/out")"
        killed=$((killed + (got != 0)))
        for v in $(versions crash); do
            lb image export "crash@$v" - | cmp - "$tmp/$([ "$v" = "$one" ] && echo one || echo two).raw" ||
                fail "killed at $point: version $v"
        done
        lb gc > /dev/null
        expect "$(versions crash | tr ' ' '\n' | sed 's/$/.img/')" "$(files "$(folder crash)" | tr ' ' '\n' | grep -v ^retired/)" \
            "layers after gc, killed at $point"
        lb image export crash - > /dev/null || fail "killed at $point: gc took too much"
        if [[ " $(versions crash) " == *" $victim "* ]]; then lb image remove "crash@$victim"; fi
        [ "$(lb image import crash "$tmp/two.raw")" -gt "$two" ] || fail "a number was used again"
        left=$(folder crash)
        lb image remove crash
        [ ! -e "$left" ] || fail "killed at $point: left: $(find "$left")"
    done
done
say "killed $killed times"
[ "$killed" -ge 12 ] || fail "it was killed too rarely"
