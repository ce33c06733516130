#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Every manual page renders without a warning, and says what the tables of commands say: each noun, verb and option stands
# in just one place, and nothing stands there that is not.

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

cd "$builddir"
unset LABBOOT_CONFIG
lb() { "$labboot" "$@"; }

say "help, the tables and the pages agree"
# The page of a command, or nothing where it stands in none or in several.
page() {
    local found
    found=$(grep -lxF -- ".SS labboot $1" "$srcdir"/cli/*.1)
    [ "$(wc -l <<< "$found")" = 1 ] && echo "$found"
}
# The overview leaves out what is for programs.
commands=$({ lb help | sed -n 's/^  labboot \([a-z]*\( [a-z-]*\)\{0,1\}\).*/\1/p' | sed 's/ *$//'; echo complete; } | sort)
expect "$commands" "$(sed -n 's/^\.SS labboot //p' "$srcdir"/cli/*.1 | sort)" "commands"
expect "$(lb help | sed -n 's/^  --\([a-z-]*\).*/\1/p')" \
    "$(sed -n '/^\.SH OPTIONS OF ALL/,/^\.SH THE SERVER/s/^\.BI* \\-\\-\([a-z\\-]*\).*/\1/p' "$srcdir/cli/labboot.1" | tr -d '\134')" \
    "options of all commands"
while read -r command; do
    # shellcheck disable=SC2086
    lb $command --help > "$tmp/help"
    page=$(page "$command") || fail "'$command' has not one place in the pages"
    case $page in
        */labboot.1) ;;
        *) expect "labboot-${command%% *}.1" "${page##*/}" "page of $command" ;;
    esac
    expect "$(sed -n 's/^  --\([a-z-]*\).*/\1/p' "$tmp/help")" \
        "$(awk -v c=".SS labboot $command" '/^\.S[SH]/ { on = $0 == c } on' "$page" |
            sed -n 's/^\.BI* \\-\\-\([a-z\\-]*\).*/\1/p' | tr -d '\134')" "options of $command"
    # What the words in capitals of its usage mean.
    while read -r word; do
        [ "$word" = OPTIONS ] || grep -q "^  $word  *[a-z]" "$tmp/help" || fail "'$command --help' does not say what $word is"
    done < <(grep "^  labboot $command" "$tmp/help" | sed 's/   .*//' | grep -oE '\b[A-Z]+\b' | sort -u)
done <<< "$commands"

say "each noun is named by the page of all"
for page in "$srcdir"/cli/labboot-*.1; do
    name=${page##*/}
    grep -qF ".BR ${name%.1} (1)" <(sed 's/\\-/-/g' "$srcdir/cli/labboot.1") || fail "labboot(1) does not name ${name%.1}(1)"
    noun=${name#labboot-}
    lb help "${noun%.1}" > /dev/null || fail "$name is the page of no noun"
done
