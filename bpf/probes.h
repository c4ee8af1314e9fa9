/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two mechanisms, fentry and kprobe: how a program gets its inputs.
 *
 * plan.py chooses one per event; compile_flags.py passes it as -DVIA_<EVENT>=FENTRY or KPROBE.
 * An event has one program, on_<event>(), for the entry of its function, and
 * one, on_<event>_return(), for its return. They use the macros below.
 */
#pragma once
#include "callers.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define BY_MECHANISM(event, what) PASTE(PASTE(VIA_, event), what)

/* The type that the program's argument, ctx, points to. */
#define CONTEXT(event) BY_MECHANISM(event, _CONTEXT)
#define FENTRY_CONTEXT u64
#define KPROBE_CONTEXT struct pt_regs

/* Argument number n, from 0, of the hooked function. At a return only fentry has any. */
#define ARGUMENT(event, ctx, n) BY_MECHANISM(event, _ARGUMENT)(ctx, n)
#define FENTRY_ARGUMENT(ctx, n) ((ctx)[n])
#define KPROBE_ARGUMENT(ctx, n) PASTE(KPROBE_ARGUMENT_, n)(ctx)
#define KPROBE_ARGUMENT_0(ctx) PT_REGS_PARM1(ctx)
#define KPROBE_ARGUMENT_1(ctx) PT_REGS_PARM2(ctx)
#define KPROBE_ARGUMENT_2(ctx) PT_REGS_PARM3(ctx)
#define KPROBE_ARGUMENT_3(ctx) PT_REGS_PARM4(ctx)

/* The result of the hooked function. With fentry it is behind the arguments. */
#define RESULT(event, ctx) BY_MECHANISM(event, _RESULT)(ctx, event)
#define FENTRY_RESULT(ctx, event) ((ctx)[event##_ARGUMENTS])
#define KPROBE_RESULT(ctx, event) PT_REGS_RC(ctx)

/*
 * The mm that was the first argument of the returning function. A kretprobe has no arguments, so
 * on_<event>() is attached too then, and does REMEMBER_MM().
 */
#define REMEMBERED_MM(event, ctx) BY_MECHANISM(event, _REMEMBERED_MM)(ctx)
#define FENTRY_REMEMBERED_MM(ctx) ((struct mm_struct *)(ctx)[0])
#define KPROBE_REMEMBERED_MM(ctx) remembered_mm()

/*
 * Direct loads, with fentry. The verifier allows no arithmetic on a mapping, a pointer. The
 * difference of two pointers is a number, and as a folio is aligned it has the mapping's low bits.
 */
#define DIRECT(type, pointer, member) (*(type *)PLACE(pointer, member))
#define DIRECT_KSM_BIT(page) ((*(volatile u64 *)PLACE(page, page_mapping) - (u64)(page)) & 2)
#define DIRECT_MAY_BE_KSM(page)                                                                    \
    (((DIRECT(u64, page, page_mapping) - (u64)(page)) & MAPPING_KSM) == MAPPING_KSM)

/* With kprobe an argument is a number. bpf_rdonly_cast() makes it a pointer, since 6.2. */
#ifdef CAST_FUNCTION
static __always_inline bool cast_may_be_ksm(struct page *page)
{
    u64 cast = ((u64 (*)(u64, u32))(KFUNC_MARK + CAST_FUNCTION))((u64)page, CAST_PAGE);

    return DIRECT_MAY_BE_KSM(cast);
}

static __always_inline u64 cast_ksm_bit(u64 page)
{
    u64 cast = ((u64 (*)(u64, u32))(KFUNC_MARK + CAST_FUNCTION))(page, CAST_PAGE);

    return DIRECT_KSM_BIT(cast);
}
#else
#define cast_may_be_ksm may_be_ksm

static __always_inline u64 cast_ksm_bit(u64 page)
{
    u8 lowest;

    bpf_probe_read_kernel(&lowest, sizeof(lowest), PLACE(page, page_mapping));
    return lowest & 2;
}
#endif

/* What the hot programs need from an argument. */
#define ARGUMENT_MAY_BE_KSM(event, page) BY_MECHANISM(event, _MAY_BE_KSM)(page)
#define FENTRY_MAY_BE_KSM(page) DIRECT_MAY_BE_KSM(page)
#define KPROBE_MAY_BE_KSM(page) cast_may_be_ksm(page)

/* 0 if the page is not KSM. */
#define ARGUMENT_KSM_BIT(event, page) BY_MECHANISM(event, _KSM_BIT)(page)
#define FENTRY_KSM_BIT(page) DIRECT_KSM_BIT(page)
#define KPROBE_KSM_BIT(page) cast_ksm_bit(page)

#define MM_OF_ARGUMENT(event, vma) BY_MECHANISM(event, _MM_OF)(vma)
#define FENTRY_MM_OF(vma) DIRECT(struct mm_struct *, vma, vm_area_struct_vm_mm)
#define KPROBE_MM_OF(vma) vm_area_struct_vm_mm(vma)

/* For an mm found by MM_OF_ARGUMENT(). */
#define USERS_OF(event, mm) BY_MECHANISM(event, _USERS_OF)(mm)
#define FENTRY_USERS_OF(mm) DIRECT(u32, mm, mm_struct_mm_users)
#define KPROBE_USERS_OF(mm) mm_struct_mm_users(mm)

/* The caller of the hooked function; see callers.h. */
#define HOOKED_AT(event, ctx) BY_MECHANISM(event, _HOOKED_AT)(ctx, event)
#define FENTRY_HOOKED_AT(ctx, event) fentry_hooked_at((ctx) + event##_ARGUMENTS)
#define KPROBE_HOOKED_AT(ctx, event) 0

#define CALLER(event, ctx, hooked) BY_MECHANISM(event, _CALLER)(ctx, event, hooked)
#define FENTRY_CALLER(ctx, event, hooked) fentry_caller((ctx) + event##_ARGUMENTS, hooked)
#define KPROBE_CALLER(ctx, event, hooked) kprobe_caller(ctx)
