#!/bin/sh
# Linux 6.12.117 and 7.3.4 (Debian): memory in which one KSM page is mapped twice never becomes a huge page, and the kernel
# says "try again".
#
# A good engineer would expect MADV_COLLAPSE (and khugepaged) to undo the effect of KSM on huge pages: it copies pages, and
# KSM pages that are shared with other processes are copied. But it takes each page off the LRU list on the way, and one
# that it meets a second time is no longer there (__collapse_huge_page_isolate() in mm/khugepaged.c). madvise(2) says that
# EAGAIN is transient. Here it is for ever: two equal pages within 2 MiB, merged with each other, are enough.
#
# Seen: pages that are merged with pages elsewhere collapse at once; with two equal ones in one huge page EAGAIN, ten
# times out of ten
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/collapse.c" <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
enum { PAGE = 4096, PAGES = 512, TRIES = 10 };
static const size_t HUGE = (size_t)PAGE * PAGES;

static void put(const char *name, const char *value)
{
    char path[99];
    snprintf(path, sizeof(path), "/sys/kernel/mm/ksm/%s", name);
    int file = open(path, O_WRONLY);
    if (write(file, value, strlen(value)) < 0)
        exit(3);
    close(file);
}

static int merged(void)
{
    int value = -1;
    FILE *file = fopen("/proc/self/ksm_merging_pages", "r");
    if (!file || fscanf(file, "%d", &value) != 1)
        exit(4);
    fclose(file);
    return value;
}

/* One huge page's worth of small pages, aligned. Content of page i: `seed` and i; the last two may be equal. */
static char *fill(uint64_t seed, int equal)
{
    char *room = mmap(0, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *area = (char *)(((uintptr_t)room + HUGE - 1) / HUGE * HUGE);
    madvise(room, 2 * HUGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < PAGES; i++)
        *(uint64_t *)(area + i * PAGE) = seed << 32 | (equal && i == PAGES - 1 ? PAGES - 2 : i) | 1 << 20;
    if (madvise(area, HUGE, MADV_MERGEABLE))
        exit(2);
    return area;
}

/* How many of so many tries failed with EAGAIN; -1 if any failed with something else. */
static int tries(char *area)
{
    int again = 0;
    /* A huge page must be allowed, and one of the small ones be writable. */
    madvise(area, HUGE, MADV_HUGEPAGE);
    area[0] = 'w';
    for (int i = 0; i < TRIES; i++) {
        if (!madvise(area, HUGE, MADV_COLLAPSE))
            return again;
        if (errno != EAGAIN)
            return -1;
        again++;
    }
    return again;
}

int main(void)
{
    char *once = fill(1, 0), *twice = fill(2, 1);
    fill(1, 0);
    fill(2, 1);
    put("pages_to_scan", "5000");
    put("sleep_millisecs", "10");
    put("run", "1");
    while (merged() < 4 * PAGES)
        usleep(10000);
    put("run", "0");
    int plain = tries(once), equal = tries(twice);
    printf("without equal pages %d of %d tries failed, with two equal ones %d\n", plain, TRIES, equal);
    return !(plain == 0 && equal == TRIES);
}
C
gcc -O2 -static -o "$dir/collapse" "$dir/collapse.c"
status=0
for kernel in 6.12 7.3; do
    # A guest sees only directories that are named.
    "$here/tests/vm/run" --kernel "$kernel" --memory 1G --writable "$dir" -- "$dir/collapse" || status=1
done
exit $status
