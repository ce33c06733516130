#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Boot scripts on disk as the catalog changes, the kernel that is missing, and dnsmasq's script with words of an attacker.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need mkfs.ext4

lb() { "$labboot" "$@"; }
hook() { "$builddir/labboot-dhcp-hook" "$@"; }
boot=$tmp/state/tftp/boot
script=$boot/mac-52-54-00-00-00-01.ipxe
has() { grep -qF -- "$1" "$script" || fail "'$1' is not in: $(cat "$script")"; }

write_conf network.interface=lo network.range=127.0.1.1-127.0.1.200 network.netmask=255.0.0.0 \
    network.next-server=127.0.0.1
export LABBOOT_CONFIG=$tmp/labboot.conf
lb init > /dev/null
lb user add alice --email alice@example.org > /dev/null
mkdir -p "$tmp/tree/boot" "$tmp/empty"
for v in 6.1.0-9 6.1.0-37; do
    echo "kernel $v" > "$tmp/tree/boot/vmlinuz-$v"
    echo "initrd $v" > "$tmp/tree/boot/initrd.img-$v"
done
truncate -s 16M "$tmp/disk"
mkfs.ext4 -q -F -d "$tmp/tree" "$tmp/disk"
version=$(lb image import lab "$tmp/disk" --new --owner alice)
lb machine add 52:54:00:00:00:01 --name desk --mac 52:54:00:00:00:02 > /dev/null

say "nothing to boot"
has "local disk"

say "a boot: one script a card"
lb setup create lab --owner alice --image lab > /dev/null
id=$(lb boot queue desk lab --update)
has "image lab@$version, kernel 6.1.0-37"
has "ip=127.0.1.1::"
grep -qF BOOTIF=01-52-54-00-00-00-02 "$boot/mac-52-54-00-00-00-02.ipxe"
kernel=$(sed -n 's,^kernel \([^ ]*\) .*,\1,p' "$script")
expect "kernel 6.1.0-37" "$(cat "$tmp/state/tftp$kernel")"
expect "" "$(ls "$tmp/state/tftp/tmp")" "rubbish"

say "kernels that were lost come back"
rm -r "$tmp/state/tftp/kernels"
lb boot cancel "$id" > /dev/null
has "local disk"
id=$(lb boot queue desk lab)
expect "kernel 6.1.0-37" "$(cat "$tmp/state/tftp$kernel")"

say "no script rather than a wrong one"
lb boot cancel "$id" > /dev/null
rm -r "$tmp/state/tftp/kernels"
LABBOOT_LIBEXECDIR=$tmp/empty lb boot queue desk lab > /dev/null 2> "$tmp/err" || true
expect_match "labboot-kernel" "$(cat "$tmp/err")"
[ ! -e "$script" ] || fail "a stale script is left"
expect "default.ipxe" "$(ls "$boot")"

say "the hook writes leases, again and again"
hook add 52:54:00:00:00:01 127.0.1.1 desk
DNSMASQ_LEASE_EXPIRES=0 hook old 52:54:00:00:00:01 127.0.1.1 desk
hook arp-add 52:54:00:00:00:01 127.0.1.1
hook del 52:54:00:00:00:01 127.0.1.1 desk
hook del 52:54:00:00:00:01 127.0.1.1 desk
hook add 52:54:00:00:00:99 127.0.1.9
hook tftp 100 127.0.1.1 "$script"
hook arp-del 52:54:00:00:00:01 127.0.1.1
hook init
hook 'nothing we know' ';reboot'

say "the hook and hostile words"
long=$(head -c 100000 /dev/zero | tr '\0' a)
for words in "add" "add x" "add x y" "add 52:54:00:00:00:01 127.0.0.1;x" "add ff:ff:ff:ff:ff:ff 127.0.1.1" \
    "add $long 127.0.1.1" "add 52:54:00:00:00:01 $long" "del ; 1" "tftp" "tftp 1 2" \
    "tftp 1 $long /boot/wait-52-54-00-00-00-01-1.ipxe" "tftp 1 127.0.1.1 /boot/wait-52-54-00-00-00-01-77.ipxe"; do
    # shellcheck disable=SC2086  # words
    expect_status 1 hook $words
    expect 1 "$(wc -l < "$tmp/err")" "lines of the error"
done
expect_status 1 hook add $'\xff\n\x1b[2J' $'127.0.1.1\n'
expect_status 1 hook
LABBOOT_CONFIG=$tmp/none expect_status 1 hook add 52:54:00:00:00:01 127.0.1.1
