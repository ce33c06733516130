/* SPDX-License-Identifier: BSD-3-Clause */
/* Prints the example configuration, for the build. */
#include "conf/conf.h"

#include <stdio.h>

int main(void)
{
    cleanup(strbuf) struct strbuf example = STRBUF_INIT;
    conf_example(&example);
    return example.failed || fputs(strbuf_text(&example), stdout) == EOF || fflush(stdout) != 0;
}
