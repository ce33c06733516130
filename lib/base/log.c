/* SPDX-License-Identifier: BSD-3-Clause */
#include "lib/base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

static log_sink *the_sink; /* set before any thread starts */
static _Atomic enum log_level the_most;

void log_set_sink(log_sink *sink, enum log_level most)
{
    the_sink = sink;
    the_most = most;
}

void log_set_level(enum log_level most)
{
    the_most = most;
}

#define DEFINE_LOG(name, level)                                                                              \
    void name(const char *fmt, ...)                                                                          \
    {                                                                                                        \
        if (!the_sink || level > the_most)                                                                   \
            return;                                                                                          \
        char message[1000];                                                                                  \
        va_list ap;                                                                                          \
        va_start(ap, fmt);                                                                                   \
        vsnprintf(message, sizeof message, fmt, ap);                                                         \
        va_end(ap);                                                                                          \
        the_sink(level, message);                                                                            \
    }

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_info, LOG_LEVEL_INFO)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)
