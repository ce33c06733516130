#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A Debian whose init is systemd, as it comes: at a reboot and at a poweroff systemd leaves the root read-only and says
# nothing to the server, and the update is published; a reboot by force interrupts it.

# shellcheck source=tests/e2e/net.sh
. "${srcdir:-.}/tests/e2e/net.sh"
enter_lab "$0" "$@"
# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need qemu-system-x86_64 dnsmasq nbdkit nbdinfo ip
# shellcheck source=tests/e2e/machine.sh
. "$srcdir/tests/e2e/machine.sh"
# shellcheck source=tests/e2e/lab.sh
. "$srcdir/tests/e2e/lab.sh"

# set_boot KEY VALUE: of the section [boot], while the server runs.
set_boot() {
    sed -i "/^$1 = /d; s|^\[boot\]|&\n$1 = $2|" "$LABBOOT_CONFIG"
    lab config reload > /dev/null
}
# expect_systemd BOOT MOTD: the machine has come up with that boot, and its root says that.
expect_systemd() {
    expect_match "motd: $2\$" "$(machine_up)" "boot $1"
    expect systemd "$(guest_run 'cat /proc/1/comm')" "the first process"
    expect_boot running "$1"
}
# expect_end STATE BOOT WHY
expect_end() {
    expect_boot "$1" "$2"
    expect_match "$3" "$(lab --json boot show "$2" | json 'v["Result"]')" "how boot $2 ended"
}
# expect_version VERSION MOTD
expect_version() {
    lab image export "debian-lab@$1" "$tmp/$1.raw"
    e2fsck -fn "$tmp/$1.raw" > "$tmp/e2fsck.log" 2>&1 || fail "the file system of version $1"
    expect "$2" "$(debugfs -R 'cat /etc/lab-motd' "$tmp/$1.raw" 2> /dev/null)" "the root of version $1"
    rm "$tmp/$1.raw"
}
powered_off() { ! alive "$qemu"; }
is_committed() { [ "$(boot_state "$1")" = committed ]; }

lab_start
set_boot kernel-arguments "init=/lib/systemd/systemd systemd.show_status=no"
lab_fill "$LABBOOT_ROOT"
rebooted=$(boot_queue --update)
forced=$(boot_queue --update)
off=$(boot_queue --update)

say "systemctl reboot"
machine_start bios "$lab_mac"
expect_systemd "$rebooted" "as installed"
guest_run 'echo "kept by a reboot" > /etc/lab-motd'
console type 'systemctl reboot'
expect_systemd "$forced" "kept by a reboot"
expect_end committed "$rebooted" "it fetched its boot script"

say "systemctl reboot --force --force"
guest_run 'echo "half an update" > /etc/lab-motd && sync'
console type 'systemctl reboot --force --force'
expect_systemd "$off" "kept by a reboot"
expect_end interrupted "$forced" "not clean: ext4: needs journal recovery"

say "systemctl poweroff"
set_boot grace 1s
guest_run 'echo "kept by a poweroff" > /etc/lab-motd'
console type 'systemctl poweroff'
within 120 powered_off
within 60 is_committed "$off"
expect_end committed "$off" "the machine was shut down"

say "what the server saw and has"
grep -q 'NBD_CMD_DISC' "$tmp/serve.log" && fail "a machine disconnected"
read -r first second third <<< "$(versions)"
expect "$first_version" "$first" "the first version"
expect_version "$second" "kept by a reboot"
expect_version "$third" "kept by a poweroff"
