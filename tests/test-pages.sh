#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Every manual page renders without a warning.

# shellcheck source=tests/functions.sh
. "${srcdir:-.}/tests/functions.sh"
need groff grotty

cd "$srcdir"
for page in cli/*.1 conf/labboot.conf.5 nbd-plugin/nbdkit-labboot-plugin.1; do
    say "$page"
    groff -man -ww -Tutf8 -Kutf8 -P-cbou "$page" > "$tmp/out" 2> "$tmp/err" || fail "$page does not render"
    expect "" "$(cat "$tmp/err")" "warnings of $page"
    expect_match "NAME" "$(cat "$tmp/out")" "$page"
done
