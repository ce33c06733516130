#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The command line where it needs a mount namespace of its own: full disks, a failing import, the system user, and the
# server's sockets.

if [ -z "${LABBOOT_IN_NAMESPACE-}" ]; then
    unshare -m true 2> /dev/null || { echo "test-cli-root.sh: skipped: needs root (unshare -m)" >&2; exit 77; }
    LABBOOT_IN_NAMESPACE=1 exec unshare -m --propagation private "$0" "$@"
fi
# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need nbdinfo nbdcopy nbdkit mkfs.ext4 /usr/bin/python3
at_end() { umount -l "$tmp"/{images,small} /etc/passwd /etc/group 2> /dev/null || true; }

lb() { "$labboot" "$@"; }
refused() { # STATUS REGEX WORDS…
    expect_status "$1" lb "${@:3}"
    expect "" "$(cat "$tmp/out")" "output of '${*:3}'"
    expect_match "^labboot: $2" "$(cat "$tmp/err")" "error of '${*:3}'"
}
files_of_images() { (cd "$tmp/images" && find . -mindepth 1 | sort); }

mkdir "$tmp/images" "$tmp/small"
mount -t tmpfs -o size=3m labboot-test "$tmp/images"
mount -t tmpfs -o size=3m labboot-test "$tmp/small"
write_conf server.images-dir="$tmp/images" network.interface=lo network.range=127.0.1.1-127.0.1.200 \
    network.netmask=255.0.0.0 network.next-server=127.0.0.1
lb init > /dev/null
lb user add alice --email alice@lab.example --role admin > /dev/null
mkdir -p "$tmp/root/boot"
echo kernel > "$tmp/root/boot/vmlinuz-6.1.0"
echo initrd > "$tmp/root/boot/initrd.img-6.1.0"
mkfs.ext4 -q -d "$tmp/root" "$tmp/disk.raw" 4M > /dev/null 2>&1
head -c 8M /dev/urandom > "$tmp/random.raw"
cp "$tmp/disk.raw" "$tmp/grown.raw"
cat "$tmp/random.raw" >> "$tmp/grown.raw"

say "the disk is full: a first version"
refused 1 ".*No space left" image import noise "$tmp/random.raw"
expect "[]" "$(lb --json image list)"
expect "" "$(files_of_images)" "what is left of the image"
refused 1 ".*No space left" image import noise - < "$tmp/random.raw"
expect "" "$(files_of_images)" "what is left of the image"

say "the disk is full: a next version"
first=$(lb image import debian "$tmp/disk.raw")
before=$(files_of_images)
refused 1 ".*No space left" image import debian "$tmp/grown.raw"
expect "$before" "$(files_of_images)" "files of the image"
expect "$first" "$(lb --json image versions debian | json 'v[0]["Version"]')"
second=$(lb image import debian "$tmp/disk.raw")
[ "$second" -gt "$first" ] || fail "no version after a full disk"

say "a failure after the file has its name: the catalog's row"
before=$(files_of_images)
mv "$tmp/state/tftp/kernels" "$tmp/kernels"
: > "$tmp/state/tftp/kernels"
refused 1 ".*" image import debian "$tmp/disk.raw"
expect "$before" "$(files_of_images)" "files of the image"
rm "$tmp/state/tftp/kernels"
mv "$tmp/kernels" "$tmp/state/tftp/kernels"

say "the disk is full: an empty image"
before=$(files_of_images)
head -c 2900K /dev/zero > "$tmp/images/ballast"
refused 1 "image empty: .*No space left" image create empty --size 1G
rm "$tmp/images/ballast"
expect "$before" "$(files_of_images)" "files of the image"
expect_status 3 lb image show empty
lb image create empty --size 64M > /dev/null || fail "no image after a full disk"
lb image remove empty
expect "$before" "$(files_of_images)" "files of the images"

say "an export onto a full disk"
head -c 2M /dev/urandom > "$tmp/noise.raw"
lb image import noise "$tmp/noise.raw" > /dev/null
head -c 2M /dev/zero > "$tmp/small/ballast"
refused 1 ".*No space left" image export noise "$tmp/small/noise.raw"
expect ballast "$(cd "$tmp/small" && echo *)" "files beside a failed export"
refused 1 ".*No space left" image export debian /dev/full

say "serve: its sockets"
printf '' > "$tmp/nbd.sock"
refused 4 "$tmp/nbd.sock: exists, and is no socket" serve
rm "$tmp/nbd.sock"
/usr/bin/python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$tmp/nbd.sock"
start_serve --verbose
expect 660 "$(stat -c %a "$tmp/nbd.sock")" "mode of the socket"
refused 4 "a server is running already" serve
nbdcopy "$(nbd_uri image/debian)" "$tmp/copy.raw"
cmp "$tmp/copy.raw" "$tmp/disk.raw" || fail "what the server serves"

say "boot end, with and without a server"
lb machine add 52:54:00:12:34:56 --name lab1 > /dev/null
lb setup create lab --image debian > /dev/null
for server in with without; do
    boot=$(lb boot queue lab1 lab --update)
    head -c 4096 /dev/urandom > "$tmp/block"
    PATH=/usr/bin:$PATH nbdsh -u "$(nbd_uri 52-54-00-12-34-56)" -c "h.pwrite(open('$tmp/block', 'rb').read(), 3 << 20)" -c 'h.flush()'
    if [ "$server" = without ]; then stop "$serve"; fi
    made=$(lb boot end lab1)
    expect "debian@$(lb --json image versions debian | json 'v[0]["Version"]')" "$made" "the version, $server server"
    expect committed "$(lb --json boot show lab1 | json 'v["State"]')"
    refused 4 ".*" boot end "$boot"
    lb image export "$made" "$tmp/made.raw" --force
    cmp -n 4096 -i $((3 << 20)):0 "$tmp/made.raw" "$tmp/block" || fail "its contents"
    expect "" "$(find "$tmp/state/overlays" -mindepth 1)" "overlays left"
done

say "two addresses, one of them taken"
/usr/bin/python3 - "$labboot" "$tmp" << 'EOF' || fail "serve on a port that is taken"
import os, socket, subprocess, sys
labboot, tmp = sys.argv[1:]
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
port = s.getsockname()[1]
conf = open(f"{tmp}/labboot.conf").read().replace("listen = ", f"port = {port}\nlisten = ::1 127.0.0.1")
open(f"{tmp}/taken.conf", "w").write(conf)
p = subprocess.run([labboot, "--config", f"{tmp}/taken.conf", "serve"], capture_output=True, text=True)
sys.exit(0 if p.returncode == 4 and p.stderr == f"labboot: 127.0.0.1 port {port}: in use by another program\n" else p.stderr)
EOF

say "root works as the system user labboot, where that exists"
cp /etc/passwd "$tmp/passwd"
cp /etc/group "$tmp/group"
echo 'labboot:x:64077:64077::/nonexistent:/usr/sbin/nologin' >> "$tmp/passwd"
echo 'labboot:x:64077:' >> "$tmp/group"
mount --bind "$tmp/passwd" /etc/passwd
mount --bind "$tmp/group" /etc/group
write_conf server.state-dir="$tmp/theirs" server.run-dir="$tmp/their-run" server.unix-socket="$tmp/their-run/nbd.sock" \
    network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 network.next-server=127.0.0.1
expect 64077 "$(lb init > /dev/null && stat -c %u "$tmp/theirs/catalog.db")" "owner of the catalog"
lb user add alice --email alice@lab.example --role admin > /dev/null
chmod 600 "$tmp/disk.raw"
mkdir -m 700 "$tmp/private"
lb image import debian "$tmp/disk.raw" > /dev/null || fail "an import of a file that root alone may read"
lb image export debian "$tmp/private/out.raw" || fail "an export to a folder of root's"
expect 0 "$(stat -c %u "$tmp/private/out.raw")" "owner of the export"
cmp "$tmp/private/out.raw" "$tmp/disk.raw"
lb machine add 52:54:00:12:34:56 --name lab1 > /dev/null
spawn "$tmp/serve.log" "$labboot" serve
server=$spawned
within 20 nbdinfo "nbd+unix:///image/debian?socket=$tmp/their-run/nbd.sock" > /dev/null 2>&1
expect 64077 "$(stat -c %u "/proc/$server")" "user of the server"
expect "" "$(find "$tmp/theirs" "$tmp/their-run" ! -uid 64077)" "files that are not labboot's"
stop "$server"
