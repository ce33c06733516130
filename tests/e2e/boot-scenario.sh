# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# A machine without disks boots from the network what was queued for it: an update boot becomes the next version, which
# the very reboot that ends it shows; a boot without update leaves nothing. Run for each firmware by test-boot-*.sh.

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

# boot_scenario bios|efi
boot_scenario() {
    local update plain last second
    lab_start
    lab_fill "$LABBOOT_ROOT"
    update=$(boot_queue --update)
    plain=$(boot_queue)
    last=$(boot_queue)

    machine_start "$1" "$lab_mac"
    expect_match 'motd: as installed$' "$(machine_up)" "the first boot"
    expect_boot running "$update"
    expect "" "$(machine_disks)" "disks of the machine"
    guest_run 'echo "changed by the update" > /etc/lab-motd'
    machine_reboot

    expect_match 'motd: changed by the update$' "$(machine_up)" "the reboot of the update boot"
    expect_boot committed "$update"
    expect_boot running "$plain"
    read -r _ second <<< "$(versions)"
    expect "$first_version $second" "$(versions)" "versions after the update"

    guest_run 'echo scratch > /etc/lab-motd && sync'
    machine_reboot
    expect_match 'motd: changed by the update$' "$(machine_up)" "the boot after one without update"
    expect_boot discarded "$plain"
    expect_boot running "$last"
    expect "$first_version $second" "$(versions)" "versions after a boot without update"

    lab image export "debian-lab@$second" "$tmp/second.raw"
    e2fsck -fn "$tmp/second.raw" > "$tmp/e2fsck.log" 2>&1 || fail "the new version's file system"
}
