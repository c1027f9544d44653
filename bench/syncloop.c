/* What the disk and the kernel allow: durable small files from threads, without HTTP, signatures or an interpreter.
 *
 * Per file, as Durability = "full" does it: a directory of its own, a file without a name, its bytes, fsync, link,
 * fsync of the directory, fsync of its parent.
 *
 * Usage: syncloop DIRECTORY THREADS SECONDS SIZE COUNT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int root;
static size_t size;
static long limit;
static double end;
static char *content;
static double *waits;
static atomic_long begun, finished;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void check(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void store(long number)
{
    char name[32], link[64];
    snprintf(name, sizeof name, "s%08lx", number);
    int file = openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
    check(file >= 0, "O_TMPFILE");
    check(pwrite(file, content, size, 0) == (ssize_t)size, "pwrite");
    check(fsync(file) == 0, "fsync of the file");
    check(mkdirat(root, name, 0750) == 0, "mkdir");
    int folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check(folder >= 0, "open of the directory");
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    check(linkat(AT_FDCWD, link, folder, "data.bin", AT_SYMLINK_FOLLOW) == 0, "linkat");
    check(fsync(folder) == 0, "fsync of the directory");
    check(fsync(root) == 0, "fsync of its parent");
    close(folder);
    close(file);
}

static void *work(void *unused)
{
    (void)unused;
    for (;;) {
        double start = now();
        if (start >= end)
            return NULL;
        long number = atomic_fetch_add(&begun, 1);
        if (number >= limit)
            return NULL;
        store(number);
        waits[atomic_fetch_add(&finished, 1)] = now() - start;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: syncloop DIRECTORY THREADS SECONDS SIZE COUNT\n");
        return 2;
    }
    root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check(root >= 0, argv[1]);
    int threads = atoi(argv[2]);
    size = strtoul(argv[4], NULL, 10);
    limit = atol(argv[5]);
    content = malloc(size + 1);
    waits = calloc(limit + 1, sizeof *waits);
    pthread_t *thread = calloc(threads, sizeof *thread);
    check(content && waits && thread, "memory");
    memset(content, 'x', size);

    double start = now();
    end = start + atof(argv[3]);
    for (int i = 0; i < threads; i++)
        check((errno = pthread_create(&thread[i], NULL, work, NULL)) == 0, "thread");
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    double seconds = now() - start;

    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = use.ru_utime.tv_sec + use.ru_stime.tv_sec + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    long count = atomic_load(&finished);
    qsort(waits, count, sizeof *waits, ascending);
    double last = count ? count - 1 : 0;
    printf("{\"count\": %ld, \"seconds\": %.6f, \"cpu\": %.6f, \"p50\": %.4f, \"p99\": %.4f, \"max\": %.4f}\n", count,
           seconds, cpu, waits[(long)(last * 0.5)] * 1e3, waits[(long)(last * 0.99)] * 1e3, waits[(long)last] * 1e3);
    return 0;
}
