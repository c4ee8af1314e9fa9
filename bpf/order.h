/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The order in which CPUs see what others store. docs/model/README.md lists each order that counts
 * depend on.
 *
 * x86 keeps the order of loads and that of stores, and an atomic addition is a full barrier. arm64
 * keeps none of these.
 */
#pragma once

/*
 * An atomic addition; the value before it (BPF_FETCH; arm64's JIT has it since 5.18). LLVM emits
 * that only with -mcpu=v3, which bcc does not pass. So the offset is a mark, and the compiler
 * process makes the instruction one with a result.
 */
static __always_inline u64 fetch_add(u64 *at, u64 amount)
{
    asm volatile("lock *(u64 *)(%1 + %2) += %0"
                 : "+r"(amount)
                 : "r"(at), "i"(FETCH_MARK)
                 : "memory");
    return amount;
}

#ifdef MACHINE_AARCH64
/* A full barrier: an atomic addition whose result is used. */
static __always_inline void order(void)
{
    u64 own = 0;

    fetch_add(&own, 0);
}

/*
 * The pointer, which the CPU cannot know before it has loaded `value`. So what is loaded by this
 * pointer is loaded later. This costs no barrier.
 */
#define AFTER(value, pointer)                                                                      \
    ({                                                                                             \
        u64 nothing_ = (value);                                                                    \
        typeof(pointer) pointer_ = (pointer);                                                      \
                                                                                                   \
        asm volatile("%0 &= 0\n%1 += %0" : "+r"(nothing_), "+r"(pointer_));                        \
        pointer_;                                                                                  \
    })
#else
static __always_inline void order(void)
{
}

#define AFTER(value, pointer) (pointer)
#endif
