/* Makes one of the calls fail that write below a folder, in a process and all that it starts (LD_PRELOAD, Linux).
 *
 * FAULT_UNDER    the folder, absolute
 * FAULT_COUNTER  a file of 8 zero bytes, in which all processes count the calls
 * FAULT_LOG      a file that gets a line for each call
 * FAULT_AT       the number of the call that fails, from 1; 0 for none
 * FAULT_HOW      an errno; 0 for a write of one byte only
 * FAULT_LASTS    1 if all calls after it fail too
 *
 * They are read when a process starts; a fork with others calls `read_faults`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long *counter;
static const char *under;
static long fails_at, how, lasts;

__attribute__((constructor)) void read_faults(void) {
    under = getenv("FAULT_UNDER");
    int file = under ? open(getenv("FAULT_COUNTER"), O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *memory = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED)
        return;
    fails_at = atol(getenv("FAULT_AT"));
    how = atol(getenv("FAULT_HOW"));
    lasts = atol(getenv("FAULT_LASTS"));
    counter = memory;
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

/* Counts a call if it is about a file below the folder; returns whether it has to fail. */
static int fails(const char *call, const char *path) {
    char line[PATH_MAX + 64];
    if (!counter || strncmp(path, under, strlen(under)) != 0)
        return 0;
    long number = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    int file = open(getenv("FAULT_LOG"), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file >= 0) {
        ssize_t (*write_)(int, const void *, size_t) = next("write");
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path + strlen(under));
        if (write_(file, line, length) < 0)
            abort();
        close(file);
    }
    errno = how;
    return fails_at && (number == fails_at || (lasts && number > fails_at));
}

static int fails_on_file(const char *call, int file) {
    char link[64], path[PATH_MAX];
    struct stat status;
    if (!counter || fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(call, path);
}

static int fails_on_path(const char *call, const char *path) {
    char whole[PATH_MAX];
    if (!counter)
        return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole - NAME_MAX) || strlen(whole) + strlen(path) + 2 > sizeof whole)
            return 0;
        strcat(strcat(whole, "/"), path);
        path = whole;
    }
    return fails(call, path);
}

ssize_t write(int file, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = next("write");
    if (size && fails_on_file("write", file)) {
        if (how)
            return -1;
        size = 1;
    }
    return real(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    ssize_t (*real)(int, const struct iovec *, int) = next("writev");
    return fails_on_file("writev", file) && how ? -1 : real(file, parts, count);
}

int fsync(int file) {
    int (*real)(int) = next("fsync");
    return fails_on_file("fsync", file) && how ? -1 : real(file);
}

int ftruncate64(int file, off64_t length) {
    int (*real)(int, off64_t) = next("ftruncate64");
    return fails_on_file("ftruncate", file) && how ? -1 : real(file, length);
}

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = next("rename");
    return fails_on_path("rename", to) && how ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
    int (*real)(const char *, mode_t) = next("mkdir");
    return fails_on_path("mkdir", path) && how ? -1 : real(path, mode);
}

#define OPEN(name)                                                                             \
    int name(const char *path, int flags, ...) {                                               \
        int (*real)(const char *, int, mode_t) = next(#name);                                  \
        va_list rest;                                                                          \
        va_start(rest, flags);                                                                 \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                              \
        va_end(rest);                                                                          \
        return flags & O_CREAT && fails_on_path(#name, path) && how ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
