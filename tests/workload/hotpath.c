// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory operations, each with what it cost.
 *
 *     hotpath ruler  COUNT           a loop of COUNT instructions
 *     hotpath unmap  PAGES REPEATS   first touch of anonymous pages; munmap of them
 *     hotpath large  PAGES REPEATS   the same where large folios are allowed
 *     hotpath read   PAGES REPEATS   a read of the own smaps_rollup
 *     hotpath fork   PAGES REPEATS   fork of a process with so many pages, and the child's exit
 *     hotpath exec   REPEATS         vfork, exec of this program, its exit
 *     hotpath file   PAGES REPEATS   munmap of a file's pages in the page cache (tmpfs)
 *     hotpath merge  PAGES KSMD      ksmd merges pages (its own time); a write to each (COW)
 *
 * For each repetition one line with a number for each thing measured. They are differences of
 * the time-stamp counter: instructions, where QEMU runs with -icount shift=0. KSMD is ksmd's
 * process id; its time is in nanoseconds, which are instructions there too.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <x86intrin.h>
#else
#include <time.h>
#endif

#include "memory.h"

/* Contents of the pages that are to merge, so that no KSM page reaches max_page_sharing. */
#define CONTENTS 101

static char *self;

static unsigned long long ticks(void)
{
#ifdef __x86_64__
    return __rdtsc();
#else
    struct timespec now;

    /* Nanoseconds, which are instructions too, by steps of the counter of the machine. */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ULL + now.tv_nsec;
#endif
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Pages of our own, not there yet. */
static char *anonymous(size_t pages, int size)
{
    char *base =
        mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    /* A kernel without huge pages, as those with PREEMPT_RT are, knows no such advice. */
    if (base == MAP_FAILED ||
        (madvise(base, pages * PAGE, size) && !(size == MADV_NOHUGEPAGE && errno == EINVAL)))
        fail("anonymous memory");
    return base;
}

static unsigned long long touch(char *base, size_t pages)
{
    unsigned long long began = ticks();

    for (size_t i = 0; i < pages; i++)
        *(volatile char *)(base + i * PAGE) = 1;
    return ticks() - began;
}

static unsigned long long unmap(char *base, size_t pages)
{
    unsigned long long began = ticks();

    munmap(base, pages * PAGE);
    return ticks() - began;
}

static void measure_ruler(long count)
{
    unsigned long long began = ticks();
    long left = count / 2;

#ifdef __x86_64__
    __asm__ volatile("1: dec %0\n jnz 1b" : "+r"(left));
#else
    __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(left));
#endif
    printf("%llu\n", ticks() - began);
}

static void measure_unmap(size_t pages, int size)
{
    char *base = anonymous(pages, size);
    unsigned long long touched = touch(base, pages);

    printf("%llu %llu\n", touched, unmap(base, pages));
}

static void measure_read(size_t pages)
{
    char *base = anonymous(pages, MADV_NOHUGEPAGE);
    unsigned long long began;
    char text[4096];
    int fd;

    touch(base, pages);
    began = ticks();
    fd = open("/proc/self/smaps_rollup", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof(text)) <= 0)
        fail("/proc/self/smaps_rollup");
    close(fd);
    printf("%llu\n", ticks() - began);
    unmap(base, pages);
}

static void measure_fork(size_t pages)
{
    char *base = anonymous(pages, MADV_NOHUGEPAGE);
    unsigned long long began;
    pid_t child;

    touch(base, pages);
    began = ticks();
    child = fork();
    if (child == 0)
        _exit(0);
    if (waitpid(child, NULL, 0) != child)
        fail("fork");
    printf("%llu\n", ticks() - began);
    unmap(base, pages);
}

static void measure_exec(void)
{
    unsigned long long began = ticks();
    pid_t child = vfork();

    if (child == 0) {
        execl(self, self, "nothing", NULL);
        _exit(1);
    }
    if (waitpid(child, NULL, 0) != child)
        fail("vfork");
    printf("%llu\n", ticks() - began);
}

static void measure_file(size_t pages)
{
    int fd = memfd_create("file", 0);
    char *base;

    if (fd < 0 || ftruncate(fd, (off_t)(pages * PAGE)))
        fail("file");
    base = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        fail("file");
    touch(base, pages);
    printf("%llu\n", unmap(base, pages));
    close(fd);
}

static unsigned long long first_number(const char *path)
{
    unsigned long long number = 0;
    FILE *file = fopen(path, "r");

    if (!file || fscanf(file, "%llu", &number) != 1)
        fail(path);
    fclose(file);
    return number;
}

static void switch_ksm(const char *run)
{
    int fd = open("/sys/kernel/mm/ksm/run", O_WRONLY);

    if (fd < 0 || write(fd, run, 1) != 1)
        fail("/sys/kernel/mm/ksm/run");
    close(fd);
}

/* What ksmd has run since its start; it must be asleep. */
static unsigned long long time_of(const char *pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%s/schedstat", pid);
    return first_number(path);
}

static void measure_merge(size_t pages, const char *ksmd)
{
    char *base = anonymous(pages, MADV_NOHUGEPAGE);
    unsigned long long began, merged;

    for (size_t i = 0; i < pages; i++)
        *(size_t *)(base + i * PAGE) = i % CONTENTS + 1;
    if (madvise(base, pages * PAGE, MADV_MERGEABLE))
        fail("MADV_MERGEABLE");
    began = time_of(ksmd);
    switch_ksm("1");
    while (first_number("/proc/self/ksm_merging_pages") < pages)
        usleep(1000);
    /* Returns when the scan is over. */
    switch_ksm("0");
    usleep(5000);
    merged = time_of(ksmd) - began;
    printf("%llu %llu\n", merged, touch(base, pages));
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    long number = argc > 2 ? atol(argv[2]) : 0;
    long repeats = argc > 3 ? atol(argv[3]) : 0;

    self = argv[0];
    if (!strcmp(what, "nothing"))
        return 0;
    if (number <= 0)
        return 2;
    if (!strcmp(what, "ruler"))
        measure_ruler(number);
    else if (!strcmp(what, "merge") && argc > 3)
        measure_merge((size_t)number, argv[3]);
    else if (!strcmp(what, "exec"))
        while (number--)
            measure_exec();
    else if (!strcmp(what, "unmap"))
        while (repeats--)
            measure_unmap((size_t)number, MADV_NOHUGEPAGE);
    else if (!strcmp(what, "large"))
        while (repeats--)
            measure_unmap((size_t)number, MADV_HUGEPAGE);
    else if (!strcmp(what, "read"))
        while (repeats--)
            measure_read((size_t)number);
    else if (!strcmp(what, "fork"))
        while (repeats--)
            measure_fork((size_t)number);
    else if (!strcmp(what, "file"))
        while (repeats--)
            measure_file((size_t)number);
    else
        return 2;
    return 0;
}
