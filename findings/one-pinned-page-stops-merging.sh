#!/bin/sh
# Linux 6.12.117 (Debian): one pinned page keeps ksmd from merging all other pages with the same content.
#
# A good engineer would expect the other pages to merge with each other. ksmd puts the pinned page into its tree of
# candidates at each scan, finds it there for every equal page, fails to merge the two, and tries no other.
#
# Seen: of 65 equal pages 65 merge, and none after 20 full scans if io_uring has pinned one of them (smart_scan off)
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/pinned.c" <<'C'
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGES = 65, PAGE = 4096 };

static void put(const char *name, const char *value)
{
    char path[99];
    snprintf(path, sizeof(path), "/sys/kernel/mm/ksm/%s", name);
    FILE *file = fopen(path, "w");
    if (file && fputs(value, file) >= 0)
        fclose(file);
}

static int number(const char *path)
{
    int value = -1;
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%d", &value) != 1)
        exit(4);
    fclose(file);
    return value;
}

int main(int argc, char **argv)
{
    char *area = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct io_uring_params parameters = {0};
    struct iovec first = {area, PAGE};
    madvise(area, PAGES * PAGE, MADV_NOHUGEPAGE);
    memset(area, 'x', PAGES * PAGE);
    int ring = syscall(SYS_io_uring_setup, 1, &parameters);
    if (argc > 1 && syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &first, 1))
        return 2;
    madvise(area, PAGES * PAGE, MADV_MERGEABLE);
    put("smart_scan", "0");
    put("pages_to_scan", "1000");
    put("sleep_millisecs", "10");
    put("run", "1");
    while (number("/sys/kernel/mm/ksm/full_scans") < 20)
        usleep(10000);
    printf("%d\n", number("/proc/self/ksm_merging_pages"));
    (void)argv;
    return 0;
}
C
gcc -O2 -static -o "$dir/pinned" "$dir/pinned.c"
merged() { "$here/tests/vm/run" --kernel 6.12 --memory 512M --writable "$dir" -- "$dir/pinned" "$@"; }
free=$(merged)
pinned=$(merged yes)
echo "without the pin $free, with it $pinned"
[ "$free" = 65 ] && [ "$pinned" = 0 ]
