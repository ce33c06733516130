# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# A lab in the network of net.sh: one server, one machine, one image, one setup.
# shellcheck disable=SC2154  # labboot, tmp, spawned and the like are of functions.sh

lab_mac=52:54:00:12:34:56

lab() { "$labboot" "$@" || fail "labboot $*"; }

# The configuration, the catalog, and the two services. Grace is long: boots end by what the machine does.
lab_start() {
    net_up
    write_conf server.listen="$server_address" network.interface=lab0 network.range=10.77.0.100-10.77.0.199 \
        network.netmask=255.255.255.0 boot.console=ttyS0,115200 boot.grace=1h
    lab init > /dev/null
    lab user add alice --email alice@lab.example --role admin > /dev/null
    start_serve
    spawn "$tmp/dhcp.log" "$labboot" dhcp
    dhcp=$spawned
    within 20 dhcp_started
}
dhcp_started() {
    alive "$dhcp" || fail "labboot dhcp has ended"
    grep -q 'started, version' "$tmp/dhcp.log"
}

# lab_fill ROOT-IMAGE: the image, the machine, the setup.
lab_fill() {
    # shellcheck disable=SC2034  # for the scripts
    first_version=$(lab image import debian-lab "$1" --owner alice --comment "as installed")
    lab machine add "$lab_mac" --name lab1 > /dev/null
    lab setup create lab --owner alice --image debian-lab@latest > /dev/null
}

# boot_queue [--update]: prints its id.
boot_queue() { lab boot queue lab1 lab "$@"; }
boot_state() { lab --json boot show "$1" | json 'v["State"]'; }
# expect_boot STATE ID
expect_boot() { expect "$1" "$(boot_state "$2")" "state of boot $2"; }
# The versions of the image, the oldest first, on one line.
versions() { lab --json image versions debian-lab | json '*sorted(x["Version"] for x in v)'; }

# Shuts the machine's system down, and resets the machine: the same qemu goes on.
machine_reboot() {
    console type 'reboot'
    console_wait 60 'labboot-guest: down' > /dev/null
}
