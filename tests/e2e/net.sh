# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# A network of the test's own: a lab whose only machines are the server (lab0, 10.77.0.1) and one virtual machine on tap0.
#
# The script runs itself again in new network and process namespaces. They have no names, so tests run side by side; and
# the kernel removes them, with every process in them, when the script ends, even by kill -9.

server_address=10.77.0.1

# enter_lab "$0" "$@": as enter_namespace, with the root disk for the machines made before, while there is a network.
# Its path is in $LABBOOT_ROOT.
enter_lab() {
    local here
    if [ -z "${LABBOOT_TEST_NAMESPACE-}" ] && [ "$(id -u)" = 0 ]; then
        here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
        LABBOOT_ROOT=$("$here/make-root" "${LABBOOT_STATE:-${builddir:-.}/_state}") || {
            echo "${1##*/}: skipped: the machines' root cannot be made here" >&2
            exit 77
        }
        export LABBOOT_ROOT
    fi
    enter_namespace "$@"
}

# enter_namespace "$0" "$@": to be called first of all, before the script has made anything.
enter_namespace() {
    [ -z "${LABBOOT_TEST_NAMESPACE-}" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "${1##*/}: skipped: needs root (a network namespace of its own)" >&2
        exit 77
    fi
    unshare --net true 2> /dev/null || { echo "${1##*/}: skipped: no network namespaces here" >&2; exit 77; }
    # The propagation of / stays: in a chroot it cannot be changed, and --mount-proc makes /proc private by itself.
    LABBOOT_TEST_NAMESPACE=1 exec unshare --net --pid --fork --kill-child --propagation unchanged --mount-proc -- /bin/bash "$@"
}

# The bridge with the server's address, and the tap device for qemu.
net_up() {
    ip link set lo up
    ip link add lab0 type bridge forward_delay 0 stp_state 0
    ip addr add "$server_address/24" dev lab0
    # iPXE waits sixteen seconds for a router advertisement, which dnsmasq sends only where there is a prefix.
    ip addr add fd77::1/64 dev lab0 nodad
    ip tuntap add dev tap0 mode tap
    ip link set tap0 master lab0 up
    ip link set lab0 up
}
