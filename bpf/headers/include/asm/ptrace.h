/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Saved registers as a kprobe program sees them. The order is part of the
 * kernel's ABI with debuggers and has been the same since the first x86-64
 * and the first AArch64.
 */
#pragma once

#if defined(MACHINE_AARCH64)
struct pt_regs {
    unsigned long regs[31], sp, pc, pstate;
};
#elif defined(MACHINE_X86_64)
struct pt_regs {
    unsigned long r15, r14, r13, r12, bp, bx;
    unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
    unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#endif
