/* Loaded before libc (LD_PRELOAD) into every process of a run: counts what makes, places, syncs or removes a file
 * below the folders KILL_BELOW (with `:` between them), and kills the run in front of the operation numbered KILL_AT.
 *
 * The count is the size of the file KILL_COUNT, to which every process of the run appends a byte and, where KILL_LOG
 * is set, a line to that. KILL_WHOM is `run` (the process group, as when a machine dies) or `process` (the one that is
 * about to act, as when a system out of memory chooses it).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The libc function behind the one of the same name here. */
#define BEHIND(result, name, ...) result (*behind)(__VA_ARGS__) = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int libc_openat(int folder, const char *path, int flags, mode_t mode) {
    BEHIND(int, openat, int, const char *, int, ...);
    return behind(folder, path, flags, mode);
}

static void append(const char *path, const char *text) {
    int file = libc_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0 || write(file, text, strlen(text)) < 0) _exit(99);
    close(file);
}

/* Of a path in a folder that is open as `folder`, or of the open file itself if there is no path. */
static void absolute(int folder, const char *path, char *found) {
    char link[64];
    found[0] = 0;
    if (path && path[0] == '/') {
        snprintf(found, PATH_MAX, "%s", path);
        return;
    }
    if (folder == AT_FDCWD) {
        if (!getcwd(found, PATH_MAX)) return;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t size = readlink(link, found, PATH_MAX - 1);
        found[size < 0 ? 0 : size] = 0;
    }
    size_t end = strlen(found);
    if (path) snprintf(found + end, PATH_MAX - end, "/%s", path);
}

/* Whether a path starts with one of those in the list, which `:` separates. */
static int is_below(const char *path, const char *list) {
    for (const char *start = list; *start;) {
        size_t size = strcspn(start, ":");
        if (size && !strncmp(path, start, size)) return 1;
        start += size + (start[size] == ':');
    }
    return 0;
}

static void about_to(const char *what, int folder, const char *path) {
    int before = errno; /* the libc function in front of us has set it, and nobody may see that we were here */
    const char *below = getenv("KILL_BELOW"), *count = getenv("KILL_COUNT"), *at = getenv("KILL_AT");
    const char *log = getenv("KILL_LOG"), *whom = getenv("KILL_WHOM");
    char where[PATH_MAX];
    struct stat counted;
    if (below && count) absolute(folder, path, where);
    if (!below || !count || !is_below(where, below)) {
        errno = before;
        return;
    }
    int file = libc_openat(AT_FDCWD, count, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    /* One at a time: the size after our byte is our number. */
    if (file < 0 || flock(file, LOCK_EX) || write(file, ".", 1) != 1 || fstat(file, &counted)) _exit(99);
    if (log) {
        char line[PATH_MAX + 64];
        snprintf(line, sizeof line, "%s %s\n", what, where);
        append(log, line);
    }
    if (at && counted.st_size == atoll(at)) {
        int leader = whom && !strcmp(whom, "leader"); /* DVC, whose stage may be the one that is here */
        kill(leader ? getpgrp() : whom && !strcmp(whom, "process") ? getpid() : 0, SIGKILL);
        if (!leader || getpid() == getpgrp()) pause(); /* never to act, even if the signal takes its time */
    }
    close(file);
    errno = before;
}

#define WRITES(flags) (((flags) & (O_CREAT | O_TRUNC)) && ((flags) & (O_WRONLY | O_RDWR)))
#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

/* Twice: a file that is made is one state, the same file still empty another. */
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        BEHIND(int, name, const char *, int, ...); \
        MODE(flags, flags) \
        if (WRITES(flags)) about_to("open", AT_FDCWD, path); \
        int file = behind(path, flags, mode); \
        if (file >= 0 && WRITES(flags)) about_to("write", file, NULL); \
        return file; \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        BEHIND(int, name, int, const char *, int, ...); \
        MODE(flags, flags) \
        if (WRITES(flags)) about_to("open", folder, path); \
        int file = behind(folder, path, flags, mode); \
        if (file >= 0 && WRITES(flags)) about_to("write", file, NULL); \
        return file; \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define ON_FILE(name) \
    int name(int file) { \
        BEHIND(int, name, int); \
        about_to(#name, file, NULL); \
        return behind(file); \
    }
ON_FILE(fsync)
ON_FILE(fdatasync)

#define ON_PATH(name) \
    int name(const char *path) { \
        BEHIND(int, name, const char *); \
        about_to(#name, AT_FDCWD, path); \
        return behind(path); \
    }
ON_PATH(unlink)
ON_PATH(rmdir)
ON_PATH(remove)

int unlinkat(int folder, const char *path, int flags) {
    BEHIND(int, unlinkat, int, const char *, int);
    about_to("unlink", folder, path);
    return behind(folder, path, flags);
}

/* Of those with two paths, the second is the one that appears. */
int rename(const char *old, const char *new) {
    BEHIND(int, rename, const char *, const char *);
    about_to("rename", AT_FDCWD, new);
    return behind(old, new);
}

int renameat(int from, const char *old, int to, const char *new) {
    BEHIND(int, renameat, int, const char *, int, const char *);
    about_to("rename", to, new);
    return behind(from, old, to, new);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned int flags) {
    BEHIND(int, renameat2, int, const char *, int, const char *, unsigned int);
    about_to("rename", to, new);
    return behind(from, old, to, new, flags);
}

int link(const char *old, const char *new) {
    BEHIND(int, link, const char *, const char *);
    about_to("link", AT_FDCWD, new);
    return behind(old, new);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    BEHIND(int, linkat, int, const char *, int, const char *, int);
    about_to("link", to, new);
    return behind(from, old, to, new, flags);
}

int symlink(const char *target, const char *path) {
    BEHIND(int, symlink, const char *, const char *);
    about_to("link", AT_FDCWD, path);
    return behind(target, path);
}
