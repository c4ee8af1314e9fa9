// SPDX-License-Identifier: GPL-2.0-only
/*
 * PTEs that start or stop mapping a KSM page: the hot programs.
 *
 * They run for every anonymous page on the host, so with fentry there are only direct loads before
 * the KSM test.
 */

/*
 * The code that runs for every anonymous page is a function of its own, and small: the JIT saves
 * registers and reserves stack for all that a function may use, whichever path it takes. The code
 * for KSM pages, rest_of_<event>(), is compiled separately. bcc links nothing, so ksmwatch
 * appends it, and turns this call of a helper that does not exist into a call of that function.
 */
#define REST(ctx) (((u64 (*)(void *))REST_MARK)(ctx))

/* A PTE starts to map a page. Runs under the page-table lock. */
u64 on_rmap_add(CONTEXT(RMAP_ADD) * ctx)
{
    struct page *page = (struct page *)ARGUMENT(RMAP_ADD, ctx, 0);

    return ARGUMENT_MAY_BE_KSM(RMAP_ADD, page) ? REST(ctx) : 0;
}

u64 rest_of_rmap_add(CONTEXT(RMAP_ADD) * ctx)
{
    struct vm_area_struct *vma = (struct vm_area_struct *)ARGUMENT(RMAP_ADD, ctx, RMAP_ADD_VMA);
    struct page *page = (struct page *)ARGUMENT(RMAP_ADD, ctx, 0);
    struct mm_struct *mm = MM_OF_ARGUMENT(RMAP_ADD, vma);
    struct account *account;

    if (is_tail(page))
        return 0;
    account = account_of(mm, false);
    if (account && current_is_ksmd()) {
        move(account, page, IN_MERGED);
        note_merge(page, mm, account);
        return 0;
    }
    if (account)
        move(account, page, IN_OTHER);
    note_other(page);
    return 0;
}

/*
 * Attached alone, while the daemon makes the kernel copy a page of its own: cow_call_site.py,
 * node_shift.py.
 */
int learn_copy(CONTEXT(RMAP_REMOVE) * ctx)
{
    struct call_site *site = call_site();
    u64 from;
#ifdef NODES
    struct node_place *place = node_place();
#endif

    if (!site || site->learner != (u32)bpf_get_current_pid_tgid())
        return 0;
#ifdef NODES
    if (place)
        place->flags = page_flags((struct page *)ARGUMENT(RMAP_REMOVE, ctx, 0));
#endif
    site->hooked = HOOKED_AT(RMAP_REMOVE, ctx);
    from = CALLER(RMAP_REMOVE, ctx, site->hooked);
    site->function = from ? called_before(from) : 0;
    site->copy = site->function ? from : 0;
    site->seen++;
    return 0;
}

static __always_inline enum movement why_gone(CONTEXT(RMAP_REMOVE) * ctx, struct mm_struct *mm)
{
    struct call_site *site = call_site();
    u64 from;

    if (!USERS_OF(RMAP_REMOVE, mm))
        return OUT_EXITED;
    from = site && site->copy ? CALLER(RMAP_REMOVE, ctx, site->hooked) : 0;
    if (from && from == site->copy)
        return OUT_COPIED;
    if (!from || called_before(from) != site->function)
        total(T_UNATTRIBUTED, 1);
    return OUT_UNMAPPED;
}

/*
 * A PTE that mapped a page is gone, or as good as gone: its page-table lock is held, and the
 * mapcount goes down after this.
 *
 * The page may be about to become a KSM page in place. The page in conversion is loaded first, and
 * the mapping second. If the conversion is over by the first load, the mapping is KSM by the
 * second. x86 keeps the order of loads, and volatile keeps the compiler's. On arm64 the second
 * load depends on the first.
 *
 * Either bit of the mapping is enough here, because the rest looks at both. A number that is 0 if
 * nothing follows is also the result, which saves an instruction.
 */
u64 on_rmap_remove(CONTEXT(RMAP_REMOVE) * ctx)
{
    u64 page = ARGUMENT(RMAP_REMOVE, ctx, 0);
    u64 in_conversion = *(volatile u64 *)CONVERTING_MARK;
    u64 bit;

    if (page != in_conversion) {
        page = AFTER(in_conversion, page);
        bit = ARGUMENT_KSM_BIT(RMAP_REMOVE, page);
        /* In C, the compiler would write the 0, which it knows, into the result once more. */
        asm volatile goto("if %0 == 0 goto %l[nothing]" : : "r"(bit) : : nothing);
    }
    return REST(ctx);
nothing:
    return bit;
}

/*
 * If the page is in conversion and not KSM yet, its removal is not counted, although ksmd may count
 * the arrival. So the mm is put in doubt first, and only then is the mapping looked at again.
 * If the conversion is over by now, the mapping must be looked at after that was seen.
 */
u64 rest_of_rmap_remove(CONTEXT(RMAP_REMOVE) * ctx)
{
    struct page *page = (struct page *)ARGUMENT(RMAP_REMOVE, ctx, 0);
    struct vm_area_struct *vma =
        (struct vm_area_struct *)ARGUMENT(RMAP_REMOVE, ctx, RMAP_REMOVE_VMA);
    struct mm_struct *mm = MM_OF_ARGUMENT(RMAP_REMOVE, vma);
    struct account *account;
    enum movement why;
    u64 *in_conversion = page_in_conversion();
    bool moves;

    if (in_conversion && *in_conversion == (u64)page) {
        doubt(mm);
        note_gone_in_conversion();
    }
    order();
    if (!is_ksm(page))
        return 0;
    account = account_of(mm, true);
    moves = note_migration();
    if (!account)
        return 0;
    why = why_gone(ctx, mm);
    move(account, page, why);
    note_departure(page, mm, account, why, moves);
    return 0;
}

/* ksm_might_need_to_copy(page, ...): a page from the swap cache is about to be mapped. */
int on_swapin(CONTEXT(SWAPIN) * ctx)
{
    if (is_ksm((struct page *)ARGUMENT(SWAPIN, ctx, 0)))
        total(T_SWAPIN_KSM, 1);
    return 0;
}
