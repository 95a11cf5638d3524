/* Counts what a process changes below one folder, and lets one of these operations fail.

   Loaded by LD_PRELOAD, it stands between every library of the process (Python, HDF5, TensorStore) and libc. An
   operation is what changes a file or a folder: open to write, write, truncate, rename, link, make or remove a folder,
   unlink, flush. They are numbered from 1 since fault_arm().

   action 0  count only
          1  ENOSPC, from operation `at` on, of all that needs room, as on a disk that is full
          2  EIO, of operation `at` alone
          3  a signal to this process before operation `at`
          4  a copy of the folder as `snapshots`/NUMBER before every `at`-th operation, of a write after its first half:
             what kill -9 would leave there
          5  before operation `at` the clock of the day jumps by `sig` seconds */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, NO_SPACE, BAD_DISK, SIGNAL, SNAPSHOT, CLOCK };
enum { ROOM = 1, CHANGE = 2, REMOVAL = 4 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], snapshots[PATH_MAX], hit[2 * PATH_MAX];
static int armed, action, argument, log_file = -1;
static long at, seen;
static volatile long jumped;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void fault_arm(const char *folder, int what, long when, int sig, const char *copies, const char *log) {
  pthread_mutex_lock(&lock);
  snprintf(root, sizeof root, "%s", folder);
  snprintf(snapshots, sizeof snapshots, "%s", copies);
  action = what, at = when, argument = sig, seen = 0, jumped = 0, hit[0] = 0, armed = 1;
  if (log_file >= 0) close(log_file);
  log_file = *log ? REAL(open)(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
  pthread_mutex_unlock(&lock);
}

long fault_disarm(void) {
  pthread_mutex_lock(&lock);
  armed = 0, jumped = 0;
  if (log_file >= 0) close(log_file);
  log_file = -1;
  pthread_mutex_unlock(&lock);
  return seen;
}

const char *fault_hit(void) { return hit; }

static void of_handle(int handle, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
  ssize_t size = readlink(link, path, PATH_MAX - 1);
  path[size < 0 ? 0 : size] = 0;
}

static void of_name(int folder, const char *name, char *path) {
  char base[PATH_MAX] = "";
  if (*name == '/') {
    snprintf(path, PATH_MAX, "%s", name);
    return;
  }
  if (folder != AT_FDCWD) of_handle(folder, base);
  else if (!getcwd(base, sizeof base)) base[0] = 0;
  snprintf(path, 2 * PATH_MAX, "%s/%s", base, name);
}

static int inside(const char *path) {
  size_t size = strlen(root);
  return !strncmp(path, root, size) && (path[size] == '/' || !path[size]);
}

static void snapshot(long number) {
  char target[PATH_MAX + 32];
  snprintf(target, sizeof target, "%s/%ld", snapshots, number);
  char *const words[] = {"cp", "-a", root, target, NULL}, *const environment[] = {"PATH=/usr/bin:/bin", NULL};
  pid_t child;
  int status;
  if (!posix_spawnp(&child, "cp", NULL, NULL, words, environment)) waitpid(child, &status, 0);
}

/* 0, or the errno to fail with. Called with the lock held, so that no other operation happens meanwhile. */
static int point(const char *what, const char *path, int kind, int half) {
  if (!armed || !inside(path)) return 0;
  if (half) { /* the second call for the same write */
    if (action == SNAPSHOT && seen % at == 0) snapshot(seen);
    return 0;
  }
  if (action == NO_SPACE && kind != ROOM) return 0;
  if (action == BAD_DISK && kind == REMOVAL) return 0;
  seen++;
  if (log_file >= 0) dprintf(log_file, "%s %s\n", what, path + strlen(root));
  if (action == SNAPSHOT && seen % at == 0 && strcmp(what, "write")) snapshot(seen);
  int here = seen == at || (action == NO_SPACE && seen > at);
  if (!here || action == COUNT || action == SNAPSHOT) return 0;
  if (!hit[0]) snprintf(hit, sizeof hit, "%s %s", what, path + strlen(root));
  if (action == SIGNAL) kill(getpid(), argument);
  if (action == CLOCK) jumped = argument;
  return action == NO_SPACE ? ENOSPC : action == BAD_DISK ? EIO : 0;
}

#define GUARDED(type, what, path, kind, call)            \
  do {                                                   \
    pthread_mutex_lock(&lock);                           \
    int error = point(what, path, kind, 0);              \
    type answer = error ? (type)-1 : (type)(call);       \
    int kept = error ? error : errno;                    \
    pthread_mutex_unlock(&lock);                         \
    errno = kept;                                        \
    return answer;                                       \
  } while (0)

#define BY_NAME(type, what, folder, name, kind, call)    \
  do {                                                   \
    if (!armed) return call;                             \
    char path[2 * PATH_MAX];                             \
    of_name(folder, name, path);                         \
    GUARDED(type, what, path, kind, call);               \
  } while (0)

#define BY_HANDLE(type, what, handle, kind, call)        \
  do {                                                   \
    if (!armed) return call;                             \
    char path[2 * PATH_MAX];                             \
    of_handle(handle, path);                             \
    GUARDED(type, what, path, kind, call);               \
  } while (0)

#define MODE                                             \
  mode_t mode = 0;                                       \
  if (flags & (O_CREAT | O_TMPFILE)) {                   \
    va_list rest;                                        \
    va_start(rest, flags);                               \
    mode = va_arg(rest, mode_t);                         \
    va_end(rest);                                        \
  }

#define OPEN(name)                                                                                   \
  int name(const char *file, int flags, ...) {                                                       \
    MODE if (!(flags & (O_CREAT | O_TRUNC))) return REAL(name)(file, flags, mode);                    \
    BY_NAME(int, "open", AT_FDCWD, file, ROOM, REAL(name)(file, flags, mode));                        \
  }
#define OPENAT(name)                                                                                 \
  int name(int folder, const char *file, int flags, ...) {                                           \
    MODE if (!(flags & (O_CREAT | O_TRUNC))) return REAL(name)(folder, file, flags, mode);            \
    BY_NAME(int, "open", folder, file, ROOM, REAL(name)(folder, file, flags, mode));                  \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* Writes are done in two halves while copies are taken. */
#define WRITE(name, parameters, first, rest)                                  \
  ssize_t name parameters {                                                   \
    __typeof__(&name) real = REAL(name);                                      \
    if (!armed) return first(size);                                           \
    char path[2 * PATH_MAX];                                                  \
    of_handle(handle, path);                                                  \
    pthread_mutex_lock(&lock);                                                \
    int error = point("write", path, ROOM, 0), kept = error;                  \
    ssize_t answer = -1;                                                      \
    if (!error) {                                                             \
      size_t half = armed && action == SNAPSHOT && inside(path) ? size / 2 : 0; \
      answer = half ? first(half) : 0;                                        \
      if (answer >= 0) {                                                      \
        point("write", path, ROOM, 1);                                        \
        ssize_t more = rest(size, answer);                                    \
        answer = more < 0 ? more : answer + more;                             \
      }                                                                       \
      kept = errno;                                                           \
    }                                                                         \
    pthread_mutex_unlock(&lock);                                              \
    errno = kept;                                                             \
    return answer;                                                            \
  }
#define W_FIRST(n) real(handle, data, n)
#define W_REST(n, done) real(handle, (const char *)data + (done), (n) - (done))
#define P_FIRST(n) real(handle, data, n, place)
#define P_REST(n, done) real(handle, (const char *)data + (done), (n) - (done), place + (done))
WRITE(write, (int handle, const void *data, size_t size), W_FIRST, W_REST)
WRITE(pwrite, (int handle, const void *data, size_t size, off_t place), P_FIRST, P_REST)
WRITE(pwrite64, (int handle, const void *data, size_t size, off64_t place), P_FIRST, P_REST)

ssize_t writev(int h, const struct iovec *v, int n) { BY_HANDLE(ssize_t, "writev", h, ROOM, REAL(writev)(h, v, n)); }
ssize_t pwritev(int h, const struct iovec *v, int n, off_t o) {
  BY_HANDLE(ssize_t, "writev", h, ROOM, REAL(pwritev)(h, v, n, o));
}
ssize_t pwritev64(int h, const struct iovec *v, int n, off64_t o) {
  BY_HANDLE(ssize_t, "writev", h, ROOM, REAL(pwritev64)(h, v, n, o));
}
ssize_t sendfile(int to, int from, off_t *o, size_t n) { BY_HANDLE(ssize_t, "copy", to, ROOM, REAL(sendfile)(to, from, o, n)); }
ssize_t sendfile64(int to, int from, off64_t *o, size_t n) {
  BY_HANDLE(ssize_t, "copy", to, ROOM, REAL(sendfile64)(to, from, o, n));
}
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned f) {
  BY_HANDLE(ssize_t, "copy", to, ROOM, REAL(copy_file_range)(from, a, to, b, n, f));
}
int ftruncate(int h, off_t n) { BY_HANDLE(int, "truncate", h, ROOM, REAL(ftruncate)(h, n)); }
int ftruncate64(int h, off64_t n) { BY_HANDLE(int, "truncate", h, ROOM, REAL(ftruncate64)(h, n)); }
int fsync(int h) { BY_HANDLE(int, "flush", h, ROOM, REAL(fsync)(h)); }
int fdatasync(int h) { BY_HANDLE(int, "flush", h, ROOM, REAL(fdatasync)(h)); }
int mkdir(const char *p, mode_t m) { BY_NAME(int, "mkdir", AT_FDCWD, p, ROOM, REAL(mkdir)(p, m)); }
int mkdirat(int d, const char *p, mode_t m) { BY_NAME(int, "mkdir", d, p, ROOM, REAL(mkdirat)(d, p, m)); }
int link(const char *a, const char *b) { BY_NAME(int, "link", AT_FDCWD, b, ROOM, REAL(link)(a, b)); }
int linkat(int c, const char *a, int d, const char *b, int f) {
  BY_NAME(int, "link", d, b, ROOM, REAL(linkat)(c, a, d, b, f));
}
int rename(const char *a, const char *b) { BY_NAME(int, "rename", AT_FDCWD, b, CHANGE, REAL(rename)(a, b)); }
int renameat(int c, const char *a, int d, const char *b) {
  BY_NAME(int, "rename", d, b, CHANGE, REAL(renameat)(c, a, d, b));
}
int renameat2(int c, const char *a, int d, const char *b, unsigned f) {
  BY_NAME(int, "rename", d, b, CHANGE, REAL(renameat2)(c, a, d, b, f));
}
int unlink(const char *p) { BY_NAME(int, "unlink", AT_FDCWD, p, REMOVAL, REAL(unlink)(p)); }
int unlinkat(int d, const char *p, int f) { BY_NAME(int, "unlink", d, p, REMOVAL, REAL(unlinkat)(d, p, f)); }
int rmdir(const char *p) { BY_NAME(int, "rmdir", AT_FDCWD, p, REMOVAL, REAL(rmdir)(p)); }

int clock_gettime(clockid_t clock, struct timespec *now) {
  int answer = REAL(clock_gettime)(clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec += jumped;
  return answer;
}
int gettimeofday(struct timeval *now, void *zone) {
  int answer = ((int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday"))(now, zone);
  now->tv_sec += jumped;
  return answer;
}
time_t time(time_t *now) {
  time_t answer = REAL(time)(NULL) + jumped;
  if (now) *now = answer;
  return answer;
}
