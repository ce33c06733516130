#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# shellcheck source=tests/e2e/boot-scenario.sh
. "${srcdir:-.}/tests/e2e/boot-scenario.sh"
boot_scenario efi
