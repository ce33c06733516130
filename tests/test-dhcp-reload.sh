#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# labboot dhcp while the configuration changes: it says what needs its restart, and goes on with what it has.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need_root
need dnsmasq unshare ip

lb() { "$labboot" "$@"; }
set_conf() {
    write_conf network.interface=lab0 network.range=10.77.0.100-10.77.0.200 network.next-server=10.77.0.1 "$@"
}
said() { grep -qF -- "$1" "$tmp/dhcp.log"; }
hosts_has() { grep -q "$1" "$tmp/run/dnsmasq.hosts" 2> /dev/null; }

set_conf
lb init > /dev/null
# shellcheck disable=SC2016  # the inner shell's words
spawn "$tmp/dhcp.log" unshare --net -- bash -c '
    ip link set lo up && ip link add lab0 type veth peer name lab1 && ip addr add 10.77.0.1/24 dev lab0 && ip link set lab0 up &&
    exec "$0" dhcp' "$labboot"
dhcp=$spawned
lb user add alice --email alice@example.org > /dev/null
lb machine add 52:54:00:00:00:01 --name desk > /dev/null
within 20 hosts_has 52:54:00:00:00:01

say "a change that waits for a restart"
set_conf network.lease-time=1h boot.grace=5s
lb --quiet config reload
within 20 said "needs a restart for what changed in the configuration: [network] lease-time"
! said grace || fail "what is the server's to take over was said too"

say "a file that is wrong by the time that it is read"
sed 's/^lease-time = .*/lease-time = 2h/' "$tmp/labboot.conf" > "$tmp/good.conf"
set_conf network.lease-time=forever
lb --quiet --config "$tmp/good.conf" config reload
within 20 said "lease-time: 'forever' is not a time"

say "machines go on to be told of"
lb --config "$tmp/good.conf" machine add 52:54:00:00:00:02 --name bench > /dev/null
within 20 hosts_has 52:54:00:00:00:02
alive "$dhcp" || fail "labboot dhcp has ended"
