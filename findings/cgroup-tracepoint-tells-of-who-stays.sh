#!/bin/sh
# Linux 6.12.117 (Debian): the tracepoint cgroup_attach_task tells of a process that stays, and not of one that comes.
#
# A good engineer would expect one event whenever a cgroup gets another process. But a process that is written to the
# cgroup.procs in which it already is causes an event too. A process that is created in another cgroup than its parent's
# (clone3 with CLONE_INTO_CGROUP, which service managers use) causes none: only sched_process_fork tells of it, without
# its cgroup.
#
# Seen: moved 1 event, written to its own cgroup 1 event, created in another cgroup 0 events
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/members.c" <<'C'
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CGROUP "/sys/fs/cgroup/finding"
#define TRACING "/sys/kernel/tracing/"

static void put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_TRUNC);
    if (file < 0 || write(file, text, strlen(text)) < 0) {
        perror(path);
        exit(2);
    }
    close(file);
}

/* How many events there were since the last look. */
static int events(void)
{
    static char text[1 << 16];
    size_t length = 0;
    int file = open(TRACING "trace", O_RDONLY), found = 0;
    for (ssize_t got; (got = read(file, text + length, sizeof(text) - 1 - length)) > 0; length += got)
        ;
    close(file);
    text[length] = 0;
    for (char *at = text; (at = strstr(at, "cgroup_attach_task: ")); at++)
        found++;
    put(TRACING "trace", "");
    return found;
}

static void end(int pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int main(void)
{
    struct clone_args born = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
    int pid, moved, stayed, came, file;
    char number[16], line[256] = "";

    if (mount("tracefs", TRACING, "tracefs", 0, NULL) && access(TRACING "trace", F_OK))
        return 3;
    mkdir(CGROUP, 0755);
    put(TRACING "events/cgroup/cgroup_attach_task/enable", "1");
    put(TRACING "trace", "");
    pid = fork();
    if (!pid)
        for (;;)
            pause();
    snprintf(number, sizeof(number), "%d", pid);
    put(CGROUP "/cgroup.procs", number);
    moved = events();
    put(CGROUP "/cgroup.procs", number);
    stayed = events();
    end(pid);
    born.cgroup = open(CGROUP, O_RDONLY | O_DIRECTORY);
    pid = syscall(SYS_clone3, &born, sizeof(born));
    if (!pid)
        for (;;)
            pause();
    came = events();
    snprintf(line, sizeof(line), "/proc/%d/cgroup", pid);
    file = open(line, O_RDONLY);
    line[read(file, line, sizeof(line) - 1)] = 0;
    end(pid);
    printf("moved %d, stayed %d, created %d in %s", moved, stayed, came, strstr(line, "0::"));
    return 0;
}
C
gcc -O2 -static -o "$dir/members" "$dir/members.c"
found=$("$here/tests/vm/run" --kernel 6.12 --memory 512M --cpus 1 --writable "$dir" -- "$dir/members")
echo "$found"
[ "$found" = "moved 1, stayed 1, created 0 in 0::/finding" ]
