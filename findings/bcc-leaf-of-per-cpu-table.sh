#!/bin/sh
# bcc 0.26.0 (Debian 12): table.Leaf of a per-CPU table is an array for all CPUs, so t[k] = t.Leaf(7) sets CPU 0 only.
#
# A good engineer would expect the C type of the value, which Leaf is of every other table: code that fills an array by
# t[k] = t.Leaf(7), or asks ctypes.sizeof(t.Leaf) for the size of a record, works. Of BPF_PERCPU_ARRAY the same code gives
# one CPU the value and all others 0, without an error, and a size that depends on the machine. The value's type is t.sLeaf.
#
# Seen, on two CPUs: BPF_ARRAY: sizeof 8, value 7; BPF_PERCPU_ARRAY: sizeof 16, values 7 0
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Their libraries (LLVM, libelf) are those of the installed package python3-bpfcc. Root, and two CPUs, are needed.
apt-get -qq -o APT::Sandbox::User=root download python3-bpfcc=0.26.0+ds-1 libbpfcc=0.26.0+ds-1
for deb in *.deb; do dpkg -x "$deb" .; done
# bcc includes headers of the kernel, of which a program without functions needs only this.
mkdir -p include/linux include/asm include/uapi/linux
echo "#define CONFIG_BPF_SYSCALL 1" >include/linux/kconfig.h
touch include/linux/log2.h include/linux/bpf_common.h include/asm/page.h \
  include/uapi/linux/if_ether.h include/uapi/linux/if_packet.h include/uapi/linux/bpf_common.h include/asm/ptrace.h
echo '#include <bcc/bpf.h>' >include/uapi/linux/bpf.h
printf '#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n#define LINUX_VERSION_CODE 330240\n' \
  >include/linux/version.h
cat >include/linux/types.h <<'C'
typedef signed char __s8;
typedef unsigned char __u8, u8;
typedef short __s16, s16;
typedef unsigned short __u16, u16, __be16, __le16, __sum16;
typedef int __s32, s32, pid_t;
typedef unsigned int __u32, u32, __be32, __le32, __wsum;
typedef long long __s64, s64;
typedef unsigned long long __u64, u64, __be64, __le64;
typedef unsigned long size_t, uintptr_t;
typedef long ssize_t;
typedef _Bool bool;
#define __always_inline inline __attribute__((always_inline))
#define NULL ((void *)0)
#define __aligned_u64 __u64 __attribute__((aligned(8)))
struct pt_regs { unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss; };
C
export BCC_KERNEL_SOURCE="$dir" PYTHONPATH="$dir/usr/lib/python3/dist-packages" \
  LD_LIBRARY_PATH="$dir/usr/lib/x86_64-linux-gnu"
/usr/bin/python3 - <<'PYTHON'
import ctypes, sys

import bcc

program = bcc.BPF(text="BPF_ARRAY(plain, u64, 1); BPF_PERCPU_ARRAY(percpu, u64, 1);")
plain, percpu = program["plain"], program["percpu"]
for table in (plain, percpu):
    table[0] = table.Leaf(7)
found = (ctypes.sizeof(plain.Leaf), plain[0].value, ctypes.sizeof(percpu.Leaf), list(percpu[0]))
print(*found)
cpus = len(found[3])
sys.exit(cpus < 2 or found != (8, 7, 8 * cpus, [7] + [0] * (cpus - 1)))
PYTHON
