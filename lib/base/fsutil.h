/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LABBOOT_FSUTIL_H
#define LABBOOT_FSUTIL_H

/* Whole reads and writes, atomic replacement, directories. Paths in messages are as given. */

#include "lib/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* All of `count` bytes, restarted after signals. A read past the end of the file is an error (sys = EIO). */
int full_pread(int fd, void *buf, size_t count, uint64_t offset, struct err *e) must_check;
int full_pwrite(int fd, const void *buf, size_t count, uint64_t offset, struct err *e) must_check;
/* Sequential; at the end of the file *ret_got is less than count. */
int full_read(int fd, void *buf, size_t count, size_t *ret_got, struct err *e) must_check;
int full_write(int fd, const void *buf, size_t count, struct err *e) must_check;

/* The whole file as a malloc'ed, NUL-terminated string. Refused over `max` bytes. A missing file: ERR_NOT_FOUND. */
int read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct err *e) must_check;
/* Writes PATH through a temporary file in `tmp_dir` (same file system; NULL: PATH's folder), fsync, rename, fsync
 * of the folder. After a crash PATH is the old file or the new one. */
int atomic_replace(const char *path, const char *tmp_dir, const void *data, size_t len, mode_t mode,
                   struct err *e) must_check;
/* The same without fsync, for what is made again after a crash of the host: no process sees half a file. */
int replace_unsynced(const char *path, const char *tmp_dir, const void *data, size_t len, mode_t mode,
                     struct err *e) must_check;
int fsync_dir(const char *path, struct err *e) must_check;
/* Makes PATH and its parents; the mode is set on what was missing. An existing folder is fine. */
int make_dirs(const char *path, mode_t mode, struct err *e) must_check;
/* Removes a file or a folder with all in it, without following links. A missing PATH is fine. */
int remove_tree(const char *path, struct err *e) must_check;
bool path_exists(const char *path);
/* Calls `each` with the names in a folder but "." and "..", sorted, which were there when it began, until it returns
 * non-zero, which is returned. A folder that is not there has none. -1: it cannot be read, or `each` failed. */
int each_entry(const char *dir, int (*each)(void *ctx, const char *name, struct err *e), void *ctx,
               struct err *e) must_check;
/* Bytes that a file, or all in a folder, takes on its file system; what cannot be looked at counts nothing. */
uint64_t tree_bytes(const char *path);
/* Bytes that may still be taken on the file system of `path`; 0 where it cannot be looked at. */
uint64_t free_bytes(const char *path);

/* An flock of `path` (made 0600 when missing), exclusive. wait=false: ERR_STATE when another holds it. The lock
 * goes when *ret_fd is closed; the file stays. */
int lock_file(const char *path, bool wait, int *ret_fd, struct err *e) must_check;

/* malloc'ed "fmt"; aborts the program when there is no memory for a path. */
char *path_format(const char *fmt, ...) __attribute__((format(printf, 1, 2), warn_unused_result));

#endif
