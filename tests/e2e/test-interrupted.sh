#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A machine that loses its power in an update boot: the boot is interrupted, nothing is published, and the machine goes on
# with its queue. Once the machine comes back by itself, once an admin ends the boot.

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

# cut_in_update BOOT: the machine boots it, writes, and loses its power.
cut_in_update() {
    expect_match 'motd: as installed$' "$(machine_up)" "boot $1"
    expect_boot running "$1"
    guest_run 'echo "half an update" > /etc/lab-motd && sync'
    stop "$qemu" KILL
    expect_boot running "$1"
}

lab_start
lab_fill "$LABBOOT_ROOT"
first=$(boot_queue --update)
second=$(boot_queue --update)

machine_start bios "$lab_mac"
cut_in_update "$first"

machine_start bios "$lab_mac"
cut_in_update "$second"
expect_boot interrupted "$first"

expect_status 4 "$labboot" boot end lab1
expect_match 'not clean' "$(cat "$tmp/err")" "what the admin is told"
expect_boot interrupted "$second"
expect "$first_version" "$(versions)" "versions"

# The overlay was kept: the admin may still say that it is worth it.
made=$(lab boot end "$second" --commit)
expect_boot committed "$second"
expect "debian-lab@${made#*@}" "$made" "what the commit prints"
expect "$first_version ${made#*@}" "$(versions)" "versions"
