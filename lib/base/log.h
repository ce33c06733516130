/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_LOG_H
#define LABBOOT_LOG_H

/* The libraries never print: what an admin should read goes to the sink that the program installed (the CLI's to
 * stderr, the plugin's to nbdkit's log). Without a sink nothing is logged. */

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* `message` is one line without a newline. Called from any thread. */
typedef void log_sink(enum log_level level, const char *message);

/* Call before any thread is started. */
void log_set_sink(log_sink *sink, enum log_level most);
/* The most that is logged from now on; any thread. */
void log_set_level(enum log_level most);
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
