/* SPDX-License-Identifier: GPL-2.0-only */
/* What the test programs do to memory by system calls, and the numbers of newer headers. */
#pragma once
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __x86_64__
#define PAGE 4096UL
#else
#define PAGE ((unsigned long)sysconf(_SC_PAGESIZE))
#endif
#define STACK_BYTES (256 * 1024)

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
/* Since 5.14, 6.1 and 6.13. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

/* Write `content` at an address of another process. */
static inline int write_into(pid_t pid, unsigned long address, unsigned long content)
{
    struct iovec here = {&content, sizeof(content)};
    struct iovec there = {(void *)address, sizeof(content)};

    return process_vm_writev(pid, &here, 1, &there, 1, 0) < 0 ? -1 : 0;
}

/*
 * Stop a process as a debugger does. Not by PTRACE_ATTACH: when exec stops it first, the SIGSTOP
 * of that outlives the tracer, and the process is stopped for ever.
 */
static inline int seize(pid_t pid)
{
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL))
        return -1;
    return waitpid(pid, NULL, __WALL) < 0 ? -1 : 0;
}

static inline int advise_process(pid_t pid, unsigned long address, size_t bytes, int advice)
{
    struct iovec there = {(void *)address, bytes};
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    long result;
    int error;

    if (fd < 0)
        return -1;
    result = syscall(SYS_process_madvise, fd, &there, 1UL, advice, 0U);
    error = errno;
    close(fd);
    errno = error;
    return result < 0 ? -1 : 0;
}

/* The top of a new stack, NULL without memory. */
static inline char *new_stack(void)
{
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

    return stack == MAP_FAILED ? NULL : stack + STACK_BYTES;
}
