#!/bin/sh
# Linux 6.12.117 (Debian): ksmd frees the zero pages of transparent huge pages, and no counter of KSM shows it.
#
# A good engineer would expect all that KSM saves in its counters; with use_zero_pages=0 it should not even look for zero
# pages. But before ksmd merges a part of a huge page it splits the page, and since 6.12 the kernel replaces the zero
# pages in it by its shared zero page (commit b1f202060afe). A guest's memory has many.
#
# Seen: two areas of 16 MiB in huge pages, one small page in four not zero: after ksmd has merged, 25,165,824 bytes of
#       anonymous memory are gone without a mapping; pages_sharing is 1,024 (4 MiB), ksm_zero_pages 0
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/huge.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BYTES = 16 << 20, PAGE = 4096, HUGE = 2 << 20 };

static void put(const char *path, const char *value)
{
    FILE *file = fopen(path, "w");
    if (!file || fputs(value, file) < 0 || fclose(file))
        exit(3);
}

static long number(const char *path)
{
    long value = -1;
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%ld", &value) != 1)
        exit(4);
    fclose(file);
    return value;
}

static long smaps(const char *name)
{
    char line[200];
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof(line), file))
        if (!strncmp(line, name, strlen(name))) {
            fclose(file);
            return atol(line + strlen(name)) * 1024;
        }
    exit(5);
}

static void fill(void)
{
    char *area = mmap(0, BYTES + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    area += HUGE - (unsigned long)area % HUGE;
    madvise(area, BYTES, MADV_HUGEPAGE);
    for (int page = 0; page < BYTES / PAGE; page += 4)
        *(int *)(area + page * PAGE) = page + 1;
    madvise(area, BYTES, MADV_MERGEABLE);
}

#define KSM "/sys/kernel/mm/ksm/"

int main(void)
{
    put("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
    fill();
    fill();
    long huge = smaps("AnonHugePages:"), before = smaps("Anonymous:");
    put(KSM "use_zero_pages", "0");
    put(KSM "smart_scan", "0");
    put(KSM "pages_to_scan", "10000");
    put(KSM "sleep_millisecs", "10");
    put(KSM "run", "1");
    while (number(KSM "full_scans") < 8)
        usleep(10000);
    printf("%ld %ld %ld %ld\n", huge, before - smaps("Anonymous:"), number(KSM "pages_sharing"),
           number(KSM "ksm_zero_pages"));
    return 0;
}
C
gcc -O2 -static -o "$dir/huge" "$dir/huge.c"
found=$("$here/tests/vm/run" --kernel 6.12 --memory 512M --writable "$dir" -- "$dir/huge")
echo "in huge pages, gone, pages_sharing, ksm_zero_pages: $found"
[ "$found" = "33554432 25165824 1024 0" ]
