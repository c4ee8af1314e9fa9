#!/bin/sh
# Linux 6.16.12 (Debian): a BPF program goes on running after the pin of its link was removed and its descriptor closed.
#
# A good engineer would expect close() to detach the program, as it does without a pin. But a file of the BPF file system
# gives its object up only when RCU frees the inode, which is later. In 6.12.117 (Debian) that is changed (commit
# 4f375ade6aa9, made for another reason). Whoever attaches the same program again at once runs it twice, or is refused.
#
# Seen: a program counts system calls; of 100,000 after its end, about 15,000 are counted on 6.16.12, none on 6.12.117
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/calls.c" <<'C'
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attr)
{
    int result = syscall(SYS_bpf, command, attr, sizeof(*attr));
    if (result < 0) {
        perror("bpf");
        exit(3);
    }
    return result;
}

static void calls(int number)
{
    while (number--)
        syscall(SYS_getppid);
}

static unsigned long long counted(int map)
{
    int key = 0;
    unsigned long long value = 0;
    union bpf_attr attr = {.map_fd = map, .key = (long)&key, .value = (long)&value};
    bpf(BPF_MAP_LOOKUP_ELEM, &attr);
    return value;
}

int main(void)
{
    static const char path[] = "/run/bpf/link", license[] = "GPL", name[] = "sys_enter";
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1};
    int map = bpf(BPF_MAP_CREATE, &attr), prog, link;
    /* The value of the only key, plus 1. */
    struct bpf_insn code[] = {
        {.code = 0x18, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_VALUE, .imm = map}, {0},
        {.code = 0xb7, .dst_reg = 2, .imm = 1},
        {.code = 0xdb, .dst_reg = 1, .src_reg = 2},
        {.code = 0xb7, .dst_reg = 0},
        {.code = 0x95},
    };
    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
    attr.insns = (long)code;
    attr.insn_cnt = sizeof(code) / sizeof(code[0]);
    attr.license = (long)license;
    prog = bpf(BPF_PROG_LOAD, &attr);
    memset(&attr, 0, sizeof(attr));
    attr.raw_tracepoint.name = (long)name;
    attr.raw_tracepoint.prog_fd = prog;
    link = bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
    mkdir("/run/bpf", 0700);
    if (mount("bpf", "/run/bpf", "bpf", 0, NULL))
        return 4;
    memset(&attr, 0, sizeof(attr));
    attr.pathname = (long)path;
    attr.bpf_fd = link;
    bpf(BPF_OBJ_PIN, &attr);
    calls(100000);
    unsigned long long before = counted(map);
    unlink(path);
    close(link);
    calls(100000);
    printf("%llu %llu\n", before, counted(map) - before);
    return 0;
}
C
gcc -O2 -static -o "$dir/calls" "$dir/calls.c"
for kernel in 6.16 6.12; do
    found=$("$here/tests/vm/run" --kernel "$kernel" --memory 512M --cpus 1 --writable "$dir" -- "$dir/calls")
    echo "$kernel: counted before and after its end: $found"
    after=${found#* }
    case $kernel in
    6.16) [ "$after" -gt 100 ] ;;
    # The two calls that end it.
    6.12) [ "$after" -eq 2 ] ;;
    esac
done
