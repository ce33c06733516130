#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The command line: what each command prints, as text and as JSON, and how it refuses what is wrong.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 /usr/bin/python3

lb() { "$labboot" "$@"; }
# refused STATUS REGEX WORDS…: one line on stderr, nothing on stdout.
refused() {
    local status=$1 regex=$2
    shift 2
    expect_status "$status" lb "$@"
    expect "" "$(cat "$tmp/out")" "output of '$*'"
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error of '$*'"
    expect_match "^labboot: $regex" "$(cat "$tmp/err")" "error of '$*'"
}
# one_json WORDS…: exactly one JSON value.
one_json() { lb --json "$@" | /usr/bin/python3 -m json.tool > "$tmp/json" || fail "'$*' prints no JSON value"; }
# No rubbish: the files under images/ are versions of the catalog, locks, and nothing in tmp/.
expect_no_rubbish() {
    expect "$(lb --json image list | json '"\n".join(sorted(i["UUID"] + "/%d.img" % n["Version"] for i in v for n in i["Versions"]))')" \
        "$(cd "$tmp/state/images" && find . -type f ! -name lock -printf '%P\n' | sort)" "files of images"
    expect "$(lb --json image list | json 'len(v)')" "$(find "$tmp/state/images" -mindepth 1 -maxdepth 1 | wc -l)" \
        "folders of images"
}

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1

say "a catalog is missing"
refused 3 '.*; try: labboot init' user list

say "init"
expect "$tmp/state $tmp/state/images $tmp/state/overlays $tmp/state/tftp $tmp/run $tmp/state/catalog.db" \
    "$(lb init | paste -sd ' ')" "what init made"
expect "" "$(lb init)" "init again"
expect "[]" "$(lb --json init)" "init again"
expect "711 700 700 755 755" \
    "$(stat -c %a "$tmp"/state "$tmp"/state/{images,overlays,tftp} "$tmp/run" | paste -sd ' ')" "modes"
refused 1 '.*File exists' --config <(echo "[server]"; echo "state-dir = $LABBOOT_CONFIG") init

say "empty lists"
for list in "user list" "machine list" "image list" "setup list" "boot list" "status"; do
    # shellcheck disable=SC2086
    expect "[]" "$(lb --json $list)" "$list"
done

say "configuration"
expect "" "$(lb config check)"
expect "[]" "$(lb config check --json)"
one_json config show
one_json config example
lb config show > "$tmp/shown.conf"
expect "$(cat "$tmp/shown.conf")" "$(lb --config "$tmp/shown.conf" config show)" "what show printed, read again"
lb config example > "$tmp/example.conf"
expect "" "$(lb --config "$tmp/example.conf" config check)" "the example"
printf '[server]\nport = 0\nprot = 1\n' > "$tmp/bad.conf"
expect_status 2 lb --config "$tmp/bad.conf" config check
expect "$tmp/bad.conf:2: port: '0' is not between 1 and 65535
$tmp/bad.conf:3: unknown key 'prot' in [server]; try: port" "$(cat "$tmp/out")" "mistakes"
expect "labboot: $tmp/bad.conf: 2 mistakes" "$(cat "$tmp/err")"
expect 2 "$(lb --json --config "$tmp/bad.conf" config check 2> /dev/null | json 'len(v)')" "mistakes as JSON"
refused 2 "$tmp/bad.conf:2: port" --config "$tmp/bad.conf" user list
refused 3 ".*/missing.conf: no such file; try: " --config "$tmp/missing.conf" user list
LABBOOT_CONFIG="$tmp/missing.conf" refused 3 ".*/missing.conf: no such file" user list

say "users"
expect alice "$(lb user add alice --email alice@lab.example --role admin)"
expect Bob "$(lb --json user add bob --email bob@lab.example --name Bob | json 'v["Name"]')"
one_json user list
refused 4 ".*exists already" user add alice --email other@lab.example
refused 4 ".*another user" user add carol --email alice@lab.example
refused 2 "user carol needs an email address; try: --email" user add carol
refused 2 "--role: 'king' is not one of: user, moderator, admin" user add carol --email c@x --role king
refused 2 "'Carol' is not a name" user add Carol --email c@x
expect bob@lab.example "$(lb --json user show bob | json 'v["Email"]')"
expect_match 'ROLE +user' "$(lb user show bob)" "user show"
expect "" "$(lb user set bob --email b@lab.example --name "Bob B." --role moderator)"
expect "b@lab.example Bob B. moderator" "$(lb --json user show bob | json 'v["Email"], v["Name"], v["Role"]')" "user set"
expect user "$(lb --json user set bob --role user | json 'v["Role"]')" "user set --json"
refused 3 "there is no user 'carol'" user show carol
refused 3 "there is no user 'carol'" user set carol --name C
refused 2 "what shall change\?" user set bob
refused 2 "--role: 'king' is not one of" user set bob --role king
refused 4 ".*another user" user set bob --email alice@lab.example
refused 2 "an email address looks like" user set bob --email nonsense
refused 4 "user alice is the last admin; try: --force" user set alice --role user
expect_status 0 lb user set alice --role user --force
expect_match "warning: no user has the role admin now" "$(cat "$tmp/err")" "the last admin"
lb user set alice --role admin
refused 2 "'../x' is not a name" user add ../x --email c@x

say "usage"
refused 2 "which command\? try: labboot help"
refused 2 "'mashine' is no command; try: labboot help" mashine list
refused 2 "machine: which of its commands" machine
refused 2 "'lsit' is no command here" machine lsit
refused 2 "it needs MACHINE" machine show
refused 2 "'b' is one word too many" machine show a b
refused 2 "'--colour' is no option here" machine list --colour
refused 2 "'-x' is no option" machine list -x
refused 2 "'--name' needs a value" user add x --name
refused 2 "'--email' was given already" user add x --email a@b --email c@d
refused 2 "'--json=yes' takes no value" machine list --json=yes
refused 2 "'\\\\x1b\[31m' is no command" $'\e[31m'
expect_match '^labboot [0-9]' "$(lb --version)"
expect "$(lb machine --help)" "$(lb help machine)"
[ "$(lb user add --help | grep -c -- --email)" = 1 ] || fail "user add --help lacks --email"
if [ -w /dev/full ]; then
    got=0
    "$labboot" user list > /dev/full 2> "$tmp/err" || got=$?
    expect 1 "$got" "status with standard output full"
fi

say "import and export"
mkdir -p "$tmp/root/boot"
head -c 300000 /dev/urandom > "$tmp/root/boot/vmlinuz-6.1.0"
head -c 300000 /dev/urandom > "$tmp/root/boot/initrd.img-6.1.0"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.raw" 16M > /dev/null 2>&1
first=$(lb image import debian "$tmp/disk.raw" --owner alice)
expect_match '^[0-9]+$' "$first" "a version"
expect "alice ext4 system zstd" "$(lb --json image show debian |
    json 'v["Username"], v["Filesystem"], v["Type"], v["DiskCompressionStrategy"]')" "the image"
expect "6.1.0" "$(lb --json image versions debian | json 'v[0]["Kernel"]')" "its kernel"
second=$(lb image import alice/debian - --comment "from a pipe" < <(cat "$tmp/disk.raw"))
[ "$second" -gt "$first" ] || fail "the second version is not above the first"
expect "$first" "$(lb --json image versions debian | json 'v[0]["Parent"]')" "the parent"
expect debian "$(lb --json image import debian - < "$tmp/disk.raw" | json 'v["Name"]')" "import --json"
one_json image list
one_json image show debian
one_json image versions debian
lb image import bare "$tmp/disk.raw" --compression none --kind user --filesystem raw --new > /dev/null
expect "none user raw" \
    "$(lb --json image show bare | json 'v["DiskCompressionStrategy"], v["Type"], v["Filesystem"]')" "image bare"
for v in debian "debian@$first" alice/debian@latest bare; do
    lb image export "$v" - | cmp - "$tmp/disk.raw" || fail "export of $v to a pipe"
    lb image export "$v" "$tmp/out.raw" --force
    cmp "$tmp/out.raw" "$tmp/disk.raw" || fail "export of $v"
done
expect "$((0666 & ~$(umask)))" "$((0$(stat -c %a "$tmp/out.raw")))" "mode of an export"
expect_no_rubbish
expect_status 0 lb image import debian "$tmp/disk.raw" --progress json
refused 2 "--progress: 'bar' is not one of: json" image import debian "$tmp/disk.raw" --progress bar

say "imports that are refused"
refused 4 "image alice/debian exists already" image import debian "$tmp/disk.raw" --new
refused 4 "--compression none: the image exists already, with zstd" image import debian "$tmp/disk.raw" --compression none
refused 2 "--compression: 'lzma' is not one of" image import x "$tmp/disk.raw" --compression lzma
refused 2 "'Debian' is not a name for an image" image import Debian "$tmp/disk.raw"
refused 2 "'done' cannot be an image's name" image import "done" "$tmp/disk.raw"
refused 2 "--owner and the owner before" image import alice/x "$tmp/disk.raw" --owner bob
refused 3 "there is no user 'nobody'" image import x "$tmp/disk.raw" --owner nobody
refused 1 "$tmp/none.raw: No such file" image import x "$tmp/none.raw"
refused 1 "$tmp: Is a directory" image import x "$tmp"
refused 1 ".*empty" image import x /dev/null
refused 3 "there is no image" image export nothing "$tmp/nothing.raw"
refused 3 ".*" image export debian@17 "$tmp/nothing.raw"
refused 2 ".*" image export debian@x "$tmp/nothing.raw"
refused 4 ".*exists already; try: --force" image export debian "$tmp/out.raw"
refused 1 ".*No such file" image export debian "$tmp/no/such/folder"
expect "" "$(find "$tmp" -maxdepth 1 -name 'nothing*')" "files of refused exports"
expect_no_rubbish

say "an import that is interrupted"
for sig in INT TERM HUP; do
    mkfifo "$tmp/fifo"
    # Reset, since a background job of a script ignores SIGINT.
    env --default-signal="$sig" "$labboot" image import stalled "$tmp/fifo" > "$tmp/out" 2> "$tmp/err" &
    import=$!
    exec 9> "$tmp/fifo"
    head -c 9000000 "$tmp/disk.raw" >&9
    sleep 0.3
    kill "-$sig" "$import"
    got=0
    wait "$import" || got=$?
    exec 9>&-
    rm "$tmp/fifo"
    expect 1 "$got" "status after SIG$sig"
    expect_match "^labboot: .*interrupted" "$(cat "$tmp/err")" "error after SIG$sig"
    expect "" "$(cat "$tmp/out")"
    expect_no_rubbish
done

say "machines"
expect 52:54:00:12:34:56 "$(lb machine add 5254.0012.3456 --name lab1 --mac 52-54-00-12-34-57)"
expect "52:54:00:00:00:09 Arm64 False" "$(lb --json machine add 525400000009 --arch Arm64 --unmanaged |
    json 'v["MacAddress"]["Address"], v["Architecture"], v["Managed"]')"
for m in lab1 52:54:00:12:34:56 525400123457 52-54-00-12-34-56; do
    expect lab1 "$(lb --json machine show "$m" | json 'v["Name"]')" "machine $m"
done
one_json machine list
refused 4 ".*" machine add 52:54:00:12:34:57
refused 4 ".*" machine add 52:54:00:00:00:01 --name lab1
refused 2 "'52:54:00:12:34' .*" machine add 52:54:00:12:34
refused 2 ".*" machine add ff:ff:ff:ff:ff:ff
refused 2 "'lab_1' is not a name for a machine" machine add 52:54:00:00:00:01 --name lab_1
refused 2 "--arch: 'vax' is not one of" machine add 52:54:00:00:00:01 --arch vax
refused 3 ".*" machine add 52:54:00:00:00:01 --default-setup nothing
refused 3 ".*" machine show lab9
[ -s "$tmp/state/tftp/boot/mac-52-54-00-12-34-57.ipxe" ] || fail "a machine's script was not rendered"

say "machines that change"
refused 2 "--disk-size: '1023K' is not between 1M and" machine add 52:54:00:00:00:0a --disk-size 1023K
refused 2 "a machine's disk is of whole MiB" machine add 52:54:00:00:00:0a --disk-size 1025K
refused 2 "--disk-filesystem: 'xfs' is not one of" machine add 52:54:00:00:00:0a --disk-filesystem xfs
lb machine add 52:54:00:00:00:0a --name lab10 --disk-size 1M --disk-filesystem raw > /dev/null
expect "1 raw 0" "$(lb --json machine show lab10 |
    json 'v["MachineImage"]["Size"], v["MachineImage"]["Filesystem"], v["MachineImage"]["AllocatedBytes"]')" "its disk"
expect_match 'DISK +1M raw, 0 used' "$(lb machine show lab10)" "its disk"
expect "" "$(lb machine set lab10 --name lab11 --arch unknown --mac 525400000b0a --disk-size 4M --unmanaged)"
expect "lab11 unknown False 4" "$(lb --json machine show 52-54-00-00-0b-0a |
    json 'v["Name"], v["Architecture"], v["Managed"], v["MachineImage"]["Size"]')" "the changed machine"
[ -s "$tmp/state/tftp/boot/mac-52-54-00-00-0b-0a.ipxe" ] || fail "the new card's script was not rendered"
lb machine set lab11 --remove-mac 52:54:00:00:00:0a --managed
expect "52:54:00:00:0b:0a" "$(lb --json machine show lab11 | json 'v["MacAddress"]["Address"]')" "the key"
[ ! -e "$tmp/state/tftp/boot/mac-52-54-00-00-00-0a.ipxe" ] || fail "the script of a removed card is there"
refused 2 "what shall change\\? try: --help" machine set lab11
refused 2 "--managed or --unmanaged, not both" machine set lab11 --managed --unmanaged
refused 2 "--default-setup or --no-default-setup, not both" machine set lab11 --default-setup x --no-default-setup
refused 3 "there is no setup" machine set lab11 --default-setup nothing
refused 3 "there is no machine" machine set lab99 --name x
refused 4 "a machine 'lab1' exists already" machine set lab11 --name lab1 --disk-size 8M
expect 4 "$(lb --json machine show lab11 | json 'v["MachineImage"]["Size"]')" "the disk after a change that was refused"
refused 4 "the MAC 52:54:00:12:34:57 is machine 'lab1' already" machine set lab11 --mac 52:54:00:12:34:57
refused 4 "machine 'lab11': it needs a MAC" machine set lab11 --remove-mac 52:54:00:00:0b:0a
refused 4 "machine 'lab11': its disk has 4M, and can only grow" machine set lab11 --disk-size 2M
expect "" "$(lb machine remove lab11)"
refused 3 "there is no machine" machine show lab11
expect "" "$(find "$tmp/state/tftp/boot" -name 'mac-52-54-00-00-0b*')" "scripts of a removed machine"

say "setups"
setup=$(lb setup create lab --image "debian@$first" --image bare,update --owner alice)
expect_match '^[0-9a-f-]{36}$' "$setup" "a UUID"
expect "$first True" "$(lb --json setup show "$setup" |
    json 'v["Images"][0]["Version"]["Version"], v["Images"][1]["Update"]')" "the setup"
expect "$setup" "$(lb --json setup show alice/lab | json 'v["UUID"]')"
expect latest "$(lb --json setup create follow --image alice/debian@latest | json 'v["Name"] and "latest"')"
one_json setup list
refused 4 ".*" setup create lab --image debian --owner alice
refused 4 ".*" setup create twice --image debian --image "debian@$first"
refused 2 "a setup needs a root disk; try: --image" setup create none
refused 2 "--image: only ',update' may follow" setup create x --image debian,updates
refused 3 ".*" setup create x --image nothing
refused 3 ".*" setup create x --image debian@99
refused 3 ".*" setup show nothing

say "boots"
boot=$(lb --quiet boot queue lab1 follow --update --comment "why not")
expect_match '^[0-9]+$' "$boot" "a boot's id"
expect_status 0 lb boot queue lab1 follow --update
expect_match '^labboot: warning: ' "$(cat "$tmp/err")" "the warning of a second update"
other=$(cat "$tmp/out")
expect_status 0 lb --quiet boot queue lab1 lab --update
expect "" "$(cat "$tmp/err")" "warnings with --quiet"
expect "queued" "$(lb --json boot show "$boot" | json 'v["State"]')"
expect "$boot" "$(lb --json boot next lab1 | json 'v["ID"]')" "the next boot"
one_json boot list
one_json boot list lab1
one_json status
expect "" "$(lb boot cancel "$other")"
expect cancelled "$(lb --json boot show "$other" | json 'v["State"]')"
refused 4 ".*" boot cancel "$other"
refused 4 "boot $boot is still queued; try: labboot boot cancel $boot" boot end "$boot"
refused 3 ".*" boot end lab1
refused 3 "there is no boot '999'" boot show 999
refused 3 ".*" boot queue lab1 nothing
refused 2 "it needs MACHINE... SETUP; try: --all" boot queue lab
refused 2 "--all takes SETUP alone" boot queue lab1 lab --all
refused 3 ".*" boot queue lab9 lab
refused 4 ".*" boot queue 52:54:00:00:00:09 lab
refused 2 "--commit or --discard, not both" boot end "$boot" --commit --discard
expect_match 'MACHINE +MAC' "$(timeout 1 "$labboot" status --watch || true)" "status --watch"

say "a user goes with all images and setups"
lb user add dora --email dora@lab.example > /dev/null
lb image import dora/disk "$tmp/disk.raw" > /dev/null
dora=$(lb --json image show dora/disk | json 'v["UUID"]')
lb setup create mine --owner dora --image dora/disk > /dev/null
lb setup create shared --owner alice --image debian --image dora/disk > /dev/null
lb --quiet boot queue lab1 dora/mine > /dev/null
refused 4 "user dora: .*setup alice/shared has it" user remove dora
expect dora "$(lb --json user show dora | json 'v["Username"]')" "a user who could not go"
expect mine "$(lb --json setup show dora/mine | json 'v["Name"]')" "a setup of hers"
expect_status 0 lb user remove dora --force
expect_match "warning: 1 queued boot was cancelled" "$(cat "$tmp/err")" "boots of a user who went"
refused 3 "there is no user 'dora'" user show dora
refused 3 "there is no user 'dora'" user remove dora
refused 3 ".*" image show "$dora"
[ ! -e "$tmp/state/images/$dora" ] || fail "files of a user's image stay"
expect debian "$(lb --json setup show alice/shared | json '" ".join(i["Image"]["Name"] for i in v["Images"])')" "another's setup"
refused 4 "user alice is the last admin; try: --force" user remove alice
