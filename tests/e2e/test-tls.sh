#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A machine whose image learns TLS in an update boot, as labboot.conf(5) says: it then boots from a server that requires it,
# as the version before does not, which `labboot doctor` explains.

# shellcheck source=tests/e2e/net.sh
. "${srcdir:-.}/tests/e2e/net.sh"
enter_lab "$0" "$@"
# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need qemu-system-x86_64 dnsmasq nbdkit nbdinfo ip openssl
# shellcheck source=tests/e2e/machine.sh
. "$srcdir/tests/e2e/machine.sh"
# shellcheck source=tests/e2e/lab.sh
. "$srcdir/tests/e2e/lab.sh"

# make_certificates FOLDER: for the server's address.
make_certificates() {
    local ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    mkdir "$1"
    openssl req -x509 "${ec[@]}" -days 9 -subj /CN=lab -keyout "$tmp/ca-key.pem" -out "$1/ca-cert.pem"
    openssl req "${ec[@]}" -subj /CN=labboot -keyout "$1/server-key.pem" -out "$tmp/server.csr"
    echo "subjectAltName=IP:$server_address" > "$tmp/server.ext"
    openssl x509 -req -in "$tmp/server.csr" -CA "$1/ca-cert.pem" -CAkey "$tmp/ca-key.pem" -CAcreateserial -days 9 \
        -extfile "$tmp/server.ext" -out "$1/server-cert.pem"
}

# What the page tells an admin to do in the image.
teach_tls() {
    local line
    guest_run 'mkdir -p /etc/labboot && : > /etc/labboot/ca-cert.pem'
    while read -r line; do
        guest_run "echo '$line' >> /etc/labboot/ca-cert.pem"
    done < "$tmp/tls/ca-cert.pem"
    guest_run "echo 'export NBDCLIENT=\"/sbin/nbd-client -cacertfile /etc/labboot/ca-cert.pem\"' > /etc/initramfs-tools/conf.d/labboot"
    # shellcheck disable=SC2016  # it is the guest's shell that expands
    for line in '#!/bin/sh' '[ "$1" = prereqs ] && exit 0' '. /usr/share/initramfs-tools/hook-functions' \
        'copy_file certificate /etc/labboot/ca-cert.pem'; do
        guest_run "echo '$line' >> /etc/initramfs-tools/hooks/labboot"
    done
    guest_run 'chmod +x /etc/initramfs-tools/hooks/labboot && echo "knows TLS" > /etc/lab-motd'
    console run 300 'update-initramfs -u' || fail "update-initramfs"
}

# Its root is attached by an nbd-client that was given the certificate.
expect_tls() {
    expect_match '^[1-9]' "$(guest_run "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c -x -e '[-]cacertfile'")" "clients by TLS"
}

make_certificates "$tmp/tls" > "$tmp/openssl.log" 2>&1
lab_start
lab_fill "$LABBOOT_ROOT"
say "TLS is offered, and not required"
stop "$serve"
start_serve --tls=on --tls-certificates="$tmp/tls"
update=$(boot_queue --update)
plain=$(boot_queue)
machine_start bios "$lab_mac"
expect_match 'motd: as installed$' "$(machine_up)" "the first boot, without TLS"
teach_tls
machine_reboot
expect_match 'motd: knows TLS$' "$(machine_up)" "the reboot, by TLS"
expect_tls
expect_boot committed "$update"
expect_boot running "$plain"
stop "$qemu" KILL
lab boot end "$plain" --discard > /dev/null

say "TLS is required"
stop "$serve"
printf '[access]\ntls = require\ntls-credentials = %s\n' "$tmp/tls" >> "$LABBOOT_CONFIG"
start_serve
second=$(boot_queue)
machine_start bios "$lab_mac"
expect_match 'motd: knows TLS$' "$(machine_up)" "a boot where TLS is required"
expect_tls
expect_boot running "$second"
guest_run 'echo scratch > /etc/lab-motd && sync'
stop "$qemu" KILL
lab boot end "$second" --discard > /dev/null

say "what knows no TLS is refused"
lab setup peg lab "debian-lab@$first_version" > /dev/null
third=$(boot_queue)
machine_start bios "$lab_mac"
refusal_is_known() {
    "$labboot" doctor lab1 > "$tmp/doctor" 2>&1 || true
    grep -q 'refused: lab1: .* was refused .*: 10.77.0.* came without TLS' "$tmp/doctor"
}
within 120 refusal_is_known
expect_boot queued "$third"
