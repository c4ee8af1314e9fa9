// SPDX-License-Identifier: GPL-2.0-only
/* Operations on the whole host, by its files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/swap.h>
#include <unistd.h>

#include "operations.h"

int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    ssize_t length = fd < 0 ? -1 : write(fd, text, strlen(text));
    int error = errno;

    if (fd >= 0)
        close(fd);
    errno = error;
    return length < 0 ? -1 : 0;
}

int set_ksmd(const char *run)
{
    return write_file("/sys/kernel/mm/ksm/run", run);
}

int do_compact(struct step *s)
{
    (void)s;
    return write_file("/proc/sys/vm/compact_memory", "1");
}

int do_dropcaches(struct step *s)
{
    return write_file("/proc/sys/vm/drop_caches", s->argument % 2 ? "1" : "3");
}

/* Swaps out some of what is not used, if fuzz.py has made a control group. */
int do_reclaim(struct step *s)
{
    (void)s;
    return write_file("/sys/fs/cgroup/ksmfuzz/memory.reclaim", "512K");
}

/* Everything comes back from swap space, if fuzz.py has made some. */
int do_swapoff(struct step *s)
{
    (void)s;
    return swapoff("/dev/zram0") || swapon("/dev/zram0", 0) ? -1 : 0;
}

/* Rarely unmerges everything on the way. */
int do_ksmd(struct step *s)
{
    if (set_ksmd("0") || (s->argument % 8 == 0 && set_ksmd("2")))
        return -1;
    return set_ksmd("1");
}

unsigned count_nodes(void)
{
    char path[sizeof("/sys/devices/system/node/node10")];
    unsigned nodes = 0;

    do
        snprintf(path, sizeof(path), "/sys/devices/system/node/node%u", ++nodes % 100);
    while (!access(path, F_OK));
    return nodes;
}
