// SPDX-License-Identifier: GPL-2.0-only
/*
 * PTEs that begin or cease to map a KSM page: the hot programs.
 *
 * They run for every anonymous page on the host, so by fentry nothing but direct loads stands
 * before the KSM test.
 */

/*
 * What runs for every anonymous page is a function of its own, and small: the JIT saves
 * registers and makes room on the stack for all that a function may use, whichever way it takes.
 * What follows for KSM pages, rest_of_<event>(), is compiled apart; the loader appends it and
 * makes this call, of a helper that does not exist, one of that function, as bcc links nothing.
 */
#define REST(ctx) (((int (*)(void *))REST_MARK)(ctx))

/* A PTE was pointed at a page. Runs under the page-table lock. */
int on_rmap_add(CONTEXT(RMAP_ADD) * ctx)
{
    struct page *page = (struct page *)ARGUMENT(RMAP_ADD, ctx, 0);

    return ARGUMENT_MAY_BE_KSM(RMAP_ADD, page) ? REST(ctx) : 0;
}

int rest_of_rmap_add(CONTEXT(RMAP_ADD) * ctx)
{
    struct vm_area_struct *vma = (struct vm_area_struct *)ARGUMENT(RMAP_ADD, ctx, RMAP_ADD_VMA);
    struct account *account;

    if (is_tail((struct page *)ARGUMENT(RMAP_ADD, ctx, 0)))
        return 0;
    account = account_of(MM_OF_ARGUMENT(RMAP_ADD, vma));
    if (account)
        move(account, current_is_ksmd() ? IN_MERGED : IN_OTHER);
    return 0;
}

/* Attached alone, while the daemon copies a page of its own: cow_call_site.py. */
int learn_copy(CONTEXT(RMAP_REMOVE) * ctx)
{
    struct call_site *site = call_site();

    if (!site || site->learner != (u32)bpf_get_current_pid_tgid())
        return 0;
    site->hooked = HOOKED_AT(RMAP_REMOVE, ctx);
    site->copy = CALLER(RMAP_REMOVE, ctx, site->hooked);
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
    if (!from)
        total(T_UNATTRIBUTED, 1);
    else if (from == site->copy)
        return OUT_COPIED;
    return OUT_UNMAPPED;
}

/* A PTE that mapped a page is gone. Runs under the page-table lock. */
int on_rmap_remove(CONTEXT(RMAP_REMOVE) * ctx)
{
    struct page *page = (struct page *)ARGUMENT(RMAP_REMOVE, ctx, 0);

    return ARGUMENT_MAY_BE_KSM(RMAP_REMOVE, page) ? REST(ctx) : 0;
}

int rest_of_rmap_remove(CONTEXT(RMAP_REMOVE) * ctx)
{
    struct page *page = (struct page *)ARGUMENT(RMAP_REMOVE, ctx, 0);
    struct vm_area_struct *vma =
        (struct vm_area_struct *)ARGUMENT(RMAP_REMOVE, ctx, RMAP_REMOVE_VMA);
    struct mm_struct *mm;
    struct account *account;
    struct conversion *c = conversion();

    if (is_tail(page))
        return 0;
    mm = MM_OF_ARGUMENT(RMAP_REMOVE, vma);
    account = account_of(mm);
    note_migration();
    if (c && c->page == page) {
        lock_xadd(&c->removed, 1);
        if (c->mm != mm)
            lock_xadd(&c->foreign, 1);
    }
    if (account)
        move(account, why_gone(ctx, mm));
    return 0;
}

/* ksm_might_need_to_copy(page, ...): a page from the swap cache is about to be mapped. */
int on_swapin(CONTEXT(SWAPIN) * ctx)
{
    if (is_ksm((struct page *)ARGUMENT(SWAPIN, ctx, 0)))
        total(T_SWAPIN_KSM, 1);
    return 0;
}
