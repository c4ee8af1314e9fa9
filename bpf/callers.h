/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The return address of the hooked function, 0 if it cannot be found. `above` is where an
 * fentry program's arguments end, on the stack of its trampoline. HOOKED_AT is an address in the
 * hooked function by which the layout there is verified.
 *
 * For who traces returns (function_graph, kretprobes) the kernel puts an address of its own in
 * place of the caller's. called_before() says where the call leads that stands before a return
 * address, and 0 if none does: before that one there is no call of the hooked function.
 */
#pragma once

#ifdef MACHINE_AARCH64
/*
 * The trampoline has put the arguments below what it found and saved: a result, if another
 * program wants that, x19, x20, a word if the rest is odd, and two frames of {x29, address}: of the
 * hooked function, and of its caller. A frame's first word is the address of the next one.
 */
static __always_inline u64 fentry_frames(u64 *above, u64 *hooked)
{
    u64 found[8];

    bpf_probe_read_kernel(found, sizeof(found), above);
#pragma unroll
    for (int i = 2; i <= 4; i++) {
        if (found[i] == (u64)(above + i + 2)) {
            *hooked = found[i + 1];
            return found[i + 3];
        }
    }
    return 0;
}

static __always_inline u64 fentry_hooked_at(u64 *above)
{
    u64 hooked = 0;

    fentry_frames(above, &hooked);
    return hooked;
}

static __always_inline u64 fentry_caller(u64 *above, u64 hooked)
{
    u64 found = 0, from = fentry_frames(above, &found);

    return found == hooked ? from : 0;
}

/* If the kernel signs the address, a kprobe runs before the instruction that does so. */
static __always_inline u64 kprobe_caller(struct pt_regs *ctx)
{
    return ctx->regs[30];
}

/* bl: six bits, and the distance in words. */
static __always_inline u64 called_before(u64 from)
{
    u64 call = from - 4;
    u32 code = 0;

    bpf_probe_read_kernel(&code, sizeof(code), (void *)call);
    return code >> 26 == 0x25 ? call + (s64)((s32)(code << 6) >> 4) : 0;
}
#else
static __always_inline u64 word_at(void *address)
{
    u64 word;

    bpf_probe_read_kernel(&word, sizeof(word), address);
    return word;
}

/*
 * The trampoline has put the arguments below what it found there: the register that it saved, the
 * address behind its call, and the return address. Between them is a result, if another program
 * wants that.
 */
static __always_inline u64 fentry_hooked_at(u64 *above)
{
    return word_at(above + 1);
}

static __always_inline u64 fentry_caller(u64 *above, u64 hooked)
{
    u64 found[3];

    bpf_probe_read_kernel(found, sizeof(found), above + 1);
    if (found[0] == hooked)
        return found[1];
    return found[1] == hooked ? found[2] : 0;
}

/* A kprobe runs before the function has touched its stack. */
static __always_inline u64 kprobe_caller(struct pt_regs *ctx)
{
    return word_at((void *)PT_REGS_SP(ctx));
}

/* call: one byte, and the distance from behind it. */
static __always_inline u64 called_before(u64 from)
{
    struct {
        u8 code;
        s32 distance;
    } __attribute__((packed)) call = {};

    bpf_probe_read_kernel(&call, sizeof(call), (void *)(from - sizeof(call)));
    return call.code == 0xe8 ? from + call.distance : 0;
}
#endif
