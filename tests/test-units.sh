#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What systemd gets: complete, and as systemd itself reads it without a complaint.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"

units=(labboot.socket labboot.service labboot-dhcp.service)
say "every path was filled in"
for f in "${units[@]/#/systemd/}" systemd/labboot.sysusers systemd/labboot.tmpfiles labboot.sudoers; do
    ! grep '@[a-z]*@' "$builddir/conf/$f" || fail "$f names a path that was not filled in"
done

need systemd-analyze
# The program where it is built: systemd-analyze looks whether it is there.
for u in "${units[@]}"; do
    sed "s|^\(Exec[A-Za-z]*=\)[^ ]*/labboot |\1$labboot |" "$builddir/conf/systemd/$u" > "$tmp/$u"
done
for u in "${units[@]}"; do
    say "$u"
    # Pages that are not installed are no fault of the unit.
    systemd-analyze verify --man=no --recursive-errors=no "$tmp/$u" > "$tmp/out" 2>&1 || fail "$(cat "$tmp/out")"
    expect "" "$(grep -F "${tmp##*/}" "$tmp/out" || true)" "complaints about $u"
done
