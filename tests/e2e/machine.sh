# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# A virtual machine without any disk, on tap0 of net.sh. Its serial console is in $tmp/guest (see console.py).

# shellcheck disable=SC2054  # qemu's options hold commas
# shellcheck disable=SC2154  # tmp and spawned are of functions.sh

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
guest=$tmp/guest

# machine_start bios|efi MAC: $qemu is its pid.
machine_start() {
    local firmware=$1 mac=$2 args=()
    # KVM is not asked for: where it is broken, it fails in odd ways, and CI rarely has it. LABBOOT_ACCEL says otherwise.
    args=(-accel "${LABBOOT_ACCEL:-tcg,thread=multi}" -cpu max -m 512 -smp 1 -nodefaults -no-user-config -display none
        -netdev tap,id=n0,ifname=tap0,script=no,downscript=no
        -chardev "socket,id=con,path=$guest/console.sock,server=on,wait=off,logfile=$guest/console.log"
        -serial chardev:con -device virtio-rng-pci)
    rm -rf "$guest"
    mkdir "$guest"
    case $firmware in
        bios)
            # graphics=off: the firmware and iPXE speak on the serial console.
            args+=(-machine pc,graphics=off -device "virtio-net-pci,netdev=n0,mac=$mac,bootindex=0")
            ;;
        efi)
            cp /usr/share/OVMF/OVMF_VARS_4M.fd "$guest/vars.fd"
            # No option ROM: OVMF's own driver does PXE, and fetches the loader that the server names.
            args+=(-machine q35 -device "virtio-net-pci,netdev=n0,mac=$mac,bootindex=0,romfile="
                -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
                -drive "if=pflash,unit=1,format=raw,file=$guest/vars.fd")
            ;;
        *) fail "no such firmware: $firmware" ;;
    esac
    spawn "$tmp/qemu.log" qemu-system-x86_64 "${args[@]}"
    qemu=$spawned
    echo "$qemu" > "$guest/qemu.pid"
    within 10 test -S "$guest/console.sock"
}

console() { "$here/console.py" "$guest" "$@"; }
console_wait() { console wait "$@" || fail "the machine's console"; }
# guest_run COMMAND: must succeed there; prints its output.
guest_run() { console run 60 "$1" || fail "in the machine: $1"; }

# The disks that the machine has of its own: none.
machine_disks() {
    # shellcheck disable=SC2016  # it is the guest's shell that expands
    guest_run 'for d in /sys/block/*; do case $d in */nbd* | */ram* | */loop*) ;; *) echo "$d" ;; esac; done'
}

# Waits for the machine's root; prints the line that it says then.
machine_up() { console_wait 240 'labboot-guest: up[^\r\n]*[\r\n]'; }
