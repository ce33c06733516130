#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# labboot doctor: a situation for each of its checks, and none of them where nothing is wrong.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4 sqlite3 /usr/bin/python3 nbdinfo openssl

lb() { "$labboot" "$@"; }
sql() { sqlite3 "$tmp/state/catalog.db" "PRAGMA foreign_keys = ON; $1"; }
# codes [MACHINE]: of all findings, sorted; each counts as seen.
seen=()
codes() {
    lb --json doctor "$@" > "$tmp/doctor.json" 2> "$tmp/doctor.err" || true
    json '" ".join(sorted({x["Code"] for x in v}))' < "$tmp/doctor.json"
}
# found CODES WHY [MACHINE]: just these codes, and one finding of the first has this in its why or what.
found() {
    local wanted=$1 why=$2 got
    shift 2
    got=$(codes "$@")
    expect "$wanted" "$got" "findings of 'doctor $*' ($(cat "$tmp/doctor.json"))"
    expect_match "$why" "$(json '" / ".join(x["What"] + ": " + x["Why"] for x in v)' < "$tmp/doctor.json")" "why"
    seen+=("$got")
}

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1

say "no catalog, no folders"
found "catalog dhcp-stopped folder loader server-stopped" "No such file"
expect_status 1 lb doctor
grep -qxF "error: folder: $tmp/state: No such file or directory; try: labboot init" "$tmp/out" || fail "a line of text"
expect_match "^labboot: [0-9]+ findings\$" "$(cat "$tmp/err")"

say "a configuration with mistakes"
printf '[server]\nport = 0\nprot = 1\n' > "$tmp/bad.conf"
LABBOOT_CONFIG=$tmp/bad.conf found "configuration" "bad.conf:2: port.*bad.conf:3: unknown key"
LABBOOT_CONFIG=$tmp/missing.conf found "configuration" "missing.conf"

say "a server that stands, but without its daemons"
lb init > /dev/null
for loader in undionly.kpxe ipxe.efi; do
    [ -s "$tmp/state/tftp/$loader" ] || echo loader > "$tmp/state/tftp/$loader"
done
found "dhcp-stopped server-stopped" "does not run"
start_serve --verbose
# Stands in for `labboot dhcp`, which needs a network of its own.
spawn "$tmp/lock.log" flock "$tmp/run/dhcp.lock" sleep 1000
dhcp=$spawned
dhcp_runs() { [ "$(codes)" = "" ]; }
within 10 dhcp_runs
say "nothing is wrong"
expect_status 0 lb doctor
expect "" "$(cat "$tmp/out" "$tmp/err")" "output where nothing is wrong"
expect "[]" "$(lb --json doctor)"

say "a server that does not answer"
kill -STOP "$serve"
found "socket-silent" "nbd.sock: nothing is said"
kill -CONT "$serve"

say "folders"
chmod 777 "$tmp/state/images"
found "folder" "images: its mode is 0777, not 0700"
chmod 700 "$tmp/state/images"
if [ "$(id -u)" = 0 ]; then
    chown 12345 "$tmp/state/overlays"
    found "folder" "overlays: it does not belong to"
    chown 0 "$tmp/state/overlays"
fi

say "TLS"
cp "$LABBOOT_CONFIG" "$tmp/aside.conf"
sed -i "s|^\[access\].*|&\ntls = require\ntls-credentials = $tmp/tls|" "$LABBOOT_CONFIG"
found "tls" "TLS: $tmp/tls: no such file"
# certificate DAYS: the server's, which signs itself.
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tmp/tls/server-key.pem" \
        -out "$tmp/tls/server-cert.pem" -days "$1" -subj /CN=lab 2> /dev/null
    cp "$tmp/tls/server-cert.pem" "$tmp/tls/ca-cert.pem"
}
mkdir "$tmp/tls"
certificate 10
found "tls-expiring" "server-cert.pem: it has ended, or will within two weeks"
certificate 100
expect_status 0 lb doctor
cp "$tmp/aside.conf" "$LABBOOT_CONFIG"

say "the network"
sed -i.bak 's/^interface = .*/interface = nosuch0/' "$LABBOOT_CONFIG"
found "interface" "nosuch0: there is no such network interface"
sed -i 's/^interface = .*/interface = lo/; s/^next-server = .*/next-server = 192.0.2.77/' "$LABBOOT_CONFIG"
found "interface" "192.0.2.77: machines are sent to this address"
sed -i 's/^interface = .*//' "$LABBOOT_CONFIG"
found "interface" "it is not set"
mv "$LABBOOT_CONFIG.bak" "$LABBOOT_CONFIG"
mv "$tmp/state/tftp/undionly.kpxe" "$tmp/loader"
found "loader" "undionly.kpxe: No such file"
: > "$tmp/state/tftp/undionly.kpxe"
found "loader" "it is empty"
mv "$tmp/loader" "$tmp/state/tftp/undionly.kpxe"
chmod 640 "$tmp/state/tftp/undionly.kpxe"
found "loader" "dnsmasq may not read it"
chmod 644 "$tmp/state/tftp/undionly.kpxe"

say "space"
sed -i.bak 's/^reserve = .*/reserve = 1000T/' "$LABBOOT_CONFIG"
found "space" "reserve.* keeps 1000T"
mv "$LABBOOT_CONFIG.bak" "$LABBOOT_CONFIG"

say "a stranger"
hook() { "$LABBOOT_LIBEXECDIR/labboot-dhcp-hook" "$@"; }
export LABBOOT_CONFIG
hook add 52:54:00:00:00:77 127.0.1.77 stranger
found "stranger" "52:54:00:00:00:77: it has the address 127.0.1.77"
expect "labboot machine add 52:54:00:00:00:77" "$(json 'v[0]["Try"]' < "$tmp/doctor.json")"
hook del 52:54:00:00:00:77 127.0.1.77

# ---- machines -----------------------------------------------------------------------------------------------------
lb user add alice --email alice@lab.example --role admin > /dev/null
mkdir -p "$tmp/root/boot"
head -c 300000 /dev/urandom | tee "$tmp/root/boot/vmlinuz-6.1.0" > "$tmp/root/boot/initrd.img-6.1.0"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.raw" 16M > /dev/null 2>&1
version=$(lb image import debian "$tmp/disk.raw" --owner alice)
mkfs.ext4 -q "$tmp/bare.raw" 4M > /dev/null 2>&1
lb image import bare "$tmp/bare.raw" --owner alice > /dev/null
lb setup create lab --image debian > /dev/null
lb setup create bare --image bare > /dev/null
mac=52:54:00:00:00:01
lb machine add "$mac" --name lab1 > /dev/null
address=$(lb --json machine show lab1 | json 'v["Addresses"][0]')
tftp() { hook tftp 100 "$address" "$tmp/state/tftp$1"; }

say "a machine that is not managed, or has nothing to boot"
lb machine add 52:54:00:00:00:02 --name lab2 --unmanaged > /dev/null
found "unmanaged" "lab2: it is not managed" lab2
found "nothing-queued" "lab1: nothing is queued" lab1
refused=0
lb doctor lab9 > "$tmp/out" 2> "$tmp/err" || refused=$?
expect "3 " "$refused $(cat "$tmp/out")" "a machine that there is not"

say "how far it got"
boot=$(lb boot queue lab1 lab)
found "progress" "nothing was ever heard of it" lab1
hook add "$mac" "$address" lab1
found "progress" "given an address, and fetched nothing" lab1
tftp /undionly.kpxe
found "progress" "fetched its loader" lab1
tftp /boot.ipxe
found "progress" "fetched boot.ipxe, and no boot script" lab1
tftp /boot/mac-52-54-00-00-00-01.ipxe
found "progress" "fetched its boot script, and not the kernel" lab1
uuid=$(lb --json image show debian | json 'v["UUID"]')
tftp "/kernels/$uuid/$version/vmlinuz"
found "progress" "fetched the kernel, and not the initrd" lab1
tftp "/kernels/$uuid/$version/initrd.img"
found "progress" "loaded kernel and initrd, and attached no disk" lab1

say "an export that was refused"
expect_status 1 nbdinfo "$(nbd_uri 52-54-00-00-00-01/nosuch)"
refusal_is_known() { [ "$(codes lab1)" = "progress refused" ]; }
within 10 refusal_is_known
found "progress refused" "the Unix socket was refused '52-54-00-00-00-01/nosuch'" lab1

say "a machine that runs"
/usr/bin/python3 - "$tmp/nbd.sock" << 'END' &
import nbd, sys, time
h = nbd.NBD()
h.set_export_name("52-54-00-00-00-01")
h.connect_unix(sys.argv[1])
h.pread(512, 0)
h.pwrite(b"x" * 4096, 0)
time.sleep(1000)
END
client=$!
pids+=("$client")
runs() { [ "$(lb --json boot show "$boot" | json 'v["State"]')" = running ]; }
within 20 runs
expect_status 0 lb doctor lab1
stop "$client" KILL
is_disconnected() { [ "$(lb --json boot show "$boot" | json 'v["DisconnectedAt"]')" != None ]; }
within 20 is_disconnected
found "disconnected" "boot $boot of lab1: it has lost its connections" lab1
lb boot end "$boot" --discard > /dev/null

say "a machine that is silent since its next boot was queued"
next=$(lb boot queue lab1 lab)
found "progress" "with boot $next queued: nothing was heard of it since 20" lab1

# The server would mend what comes now.
stop "$serve"
found "server-stopped" "does not run"

say "scripts and kernels"
script=$tmp/state/tftp/boot/mac-52-54-00-00-00-01.ipxe
mv "$script" "$tmp/script"
found "progress script-missing" "the machine's boot script is not there" lab1
mv "$tmp/script" "$script"
mv "$tmp/state/tftp/kernels/$uuid/$version/vmlinuz" "$tmp/vmlinuz"
found "kernel-missing progress" "vmlinuz: No such file" lab1
mv "$tmp/vmlinuz" "$tmp/state/tftp/kernels/$uuid/$version/vmlinuz"
chmod 600 "$tmp/state/tftp/kernels/$uuid/$version/initrd.img"
found "kernel-missing progress" "initrd.img: dnsmasq may not read it" lab1
chmod 644 "$tmp/state/tftp/kernels/$uuid/$version/initrd.img"
sql "UPDATE machine SET script_wanted = script_wanted + 1 WHERE name = 'lab1'"
found "progress script-stale" "machine lab1: its boot script is not the one wanted" lab1
found "script-stale server-stopped" "machine lab1"
lb boot cancel "$next"

say "a root without a kernel"
next=$(lb --quiet boot queue lab1 bare)
found "progress script-missing" "image bare@.*kernel" lab1
lb boot cancel "$next"

say "a boot that was begun and never ran"
next=$(lb boot queue lab1 lab)
sql "UPDATE boot SET attempts = 2, result = 'nothing came' WHERE id = $next"

found "attempts progress" "begun 2 times and never ran: nothing came" lab1
lb boot cancel "$next"

say "a boot that was interrupted"
sql "UPDATE boot SET state = 'interrupted', result = 'power cut' WHERE id = $boot"
found "boot-interrupted nothing-queued script-stale" "boot $boot of lab1: it was interrupted.*power cut" lab1
found "boot-interrupted script-stale server-stopped" "power cut"
sql "UPDATE boot SET space_wanted = 1048576, result = 'the disk is full' WHERE id = $boot"
found "boot-interrupted script-stale server-stopped" "boot $boot of lab1: it was interrupted, and waits for space: the disk is full"
sql "UPDATE boot SET state = 'discarded', space_wanted = NULL WHERE id = $boot"

say "a damaged version"
lb boot queue lab1 lab > /dev/null
sql "UPDATE version SET state = 'damaged', damage = 'chunk 7' WHERE number = $version AND image = '$uuid'"
found "progress script-stale version" "version $version of image debian is damaged" lab1
found "script-stale server-stopped version-damaged" "version alice/debian@$version: it is damaged: chunk 7; setups that have it: alice/lab"

say "a request without an answer"
sql "INSERT INTO request (kind, boot, actor, asked) VALUES ('end', $boot, 'root', unixepoch() - 60)"
found "request-waiting script-stale server-stopped version-damaged" "boot $boot: root asked to end it 6[0-9] s ago"
stop "$dhcp"

say "each check was seen, and stands in its page"
expect "$(sed -n 's/^    {"\([a-z-]*\)", SEVERITY.*/\1/p; s/.*= {"\([a-z-]*\)", SEVERITY.*/\1/p' "$srcdir"/cli/doctor*.c | sort -u)" \
    "$(printf '%s\n' "${seen[@]}" | tr ' ' '\n' | grep . | sort -u)" "checks that were seen"
expect "$(printf '%s\n' "${seen[@]}" | tr ' ' '\n' | grep . | sort -u)" \
    "$(sed -n '/^\.SH CHECKS/,/^\.SH EXIT/s/^\.B \(.*\)/\1/p' "$srcdir/cli/labboot-doctor.1" | tr -d '\134' | sort -u)" "checks of the page"
