#!/bin/sh
# bcc 0.26.0 (Debian 12): a BPF object that has compiled its programs is false until a table of it was asked for.
#
# A good engineer would expect an object of a class that stands for programs to be true, so that `if bpf:` tells it from None.
# It has __len__, which counts the tables that were opened by bpf["name"] so far. So `bpf or build()` compiles again, and a
# clean-up of the form `if bpf: bpf.cleanup()` is left out for an object of which only attach and detach were used.
#
# Seen, with one map in the program: bool(bpf) is False and len(bpf) 0; after bpf["counts"]: True and 1
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Their libraries (LLVM, libelf) are those of the installed package python3-bpfcc. Root is needed.
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
import sys

import bcc

program = bcc.BPF(text="BPF_ARRAY(counts, u64, 1);")
before = (bool(program), len(program))
program["counts"]
after = (bool(program), len(program))
print(*before, *after)
sys.exit((before, after) != ((False, 0), (True, 1)))
PYTHON
