// SPDX-License-Identifier: GPL-2.0-only
/*
 * try_to_merge_one_page(vma, page, kpage): without a kpage, success means that `page` became a KSM
 * page in place, and no rmap function was called for it.
 *
 * Other CPUs must read what is stored here in the order in which it is stored: order().
 */

/*
 * The page is locked, and a huge page has been split. From here on the page can get another PTE
 * only by fork from a process that has one, and not from the converting mm, whose lock ksmd holds.
 * So if there is one PTE, no other process shares the page. (At the entry of
 * try_to_merge_one_page() a swap-in, the end of a migration or the split could still add some.)
 *
 * The other mms are in doubt before the first PTE turns, so that no snapshot calls them exact
 * meanwhile. Before that, the conversion is called shared, so that no read settles these doubts.
 */
static __always_inline void look_for_sharers(struct conversion *c)
{
    u64 *page = page_in_conversion();

    if (page)
        *page = (u64)c->page;
    order();
#ifdef HAS_PROTECT
    if (mapcount(c->page) <= 1)
        return;
#endif
    c->shared = 1;
    order();
    doubt_family(c->root);
    order();
}

int on_merge(CONTEXT(MERGE) * ctx)
{
    struct vm_area_struct *vma = (struct vm_area_struct *)ARGUMENT(MERGE, ctx, 0);
    struct page *page = (struct page *)ARGUMENT(MERGE, ctx, 1);
    struct page *kpage = (struct page *)ARGUMENT(MERGE, ctx, 2);
    struct conversion *c = conversion();

    if (!c)
        return 0;
    c->seen = 0;
    c->shared = 0;
    c->gone = 0;
    c->mm = vm_area_struct_vm_mm(vma);
    c->root = anon_vma_root(vm_area_struct_anon_vma(vma));
    c->kpage = kpage;
    c->already = is_ksm(page);
    c->page = page;
    lock_xadd(&c->serial, 1);
    if (kpage || c->already || asleep())
        return 0;
    c->seen = 1;
    account_of(c->mm, false);
#ifndef HAS_PROTECT
    look_for_sharers(c);
#endif
    return 0;
}

/*
 * write_protect_page(), which try_to_merge_one_page() calls, or page_address_in_vma(), which that
 * calls first. Others who call the latter come too early: the call that matters follows.
 */
int on_protect(CONTEXT(PROTECT) * ctx)
{
#ifdef HAS_PROTECT
    struct conversion *c = conversion();

    if (c && c->page && c->seen)
        look_for_sharers(c);
#endif
    return 0;
}

/*
 * One PTE of the converting mm has turned. If it was unmapped after write_protect_page(), its
 * removal was counted if the page was KSM by then, and put the mm in doubt if not. Returns whether
 * PTEs of other mms turned, or may have.
 */
static __always_inline bool converted(struct conversion *c, u64 marked)
{
    struct account *account;

    /* It began while the hooks were off: perhaps an exact read has seen it already. */
    if (!c->seen)
        return !asleep();
    /* Nobody looked for sharers when the page was locked. */
    if (!marked)
        raise_alarm(T_CONVERSIONS_UNSEEN);
    account = account_of(c->mm, true);
    if (account) {
        move(account, c->page, IN_CONVERTED);
        note_conversion(c, account);
    }
    if (c->shared)
        total(T_SHARED_CONVERSIONS, 1);
    return c->shared;
}

/* The verifier follows the walk again for every state in which it is entered, so it is here once.
 */
int on_merge_return(CONTEXT(MERGE) * ctx)
{
    int error = (int)RESULT(MERGE, ctx);
    struct conversion *c = conversion();
    u64 *page = page_in_conversion();
    bool family = false;

    /* The mapping has turned before anything here says so. */
    order();
    if (!c || !page)
        return 0;
    if (!c->page) {
        raise_alarm(T_CONVERSIONS_UNSEEN);
        return 0;
    }
    if (error) {
        total(T_MERGE_FAILED, 1);
    } else if (c->kpage) {
        total(T_MERGE_REPLACED, 1);
    } else if (c->already) {
        total(T_MERGE_ALREADY, 1);
    } else {
        total(T_MERGE_CONVERTED, 1);
        c->last = c->page;
        family = converted(c, *page);
    }
    if (family) {
        doubt(c->mm);
        doubt_family(c->root);
    }
    /* It is over only when everything has been counted. */
    order();
    *page = 0;
    c->page = NULL;
    return 0;
}

/*
 * ksmd gives up one merge and unshares the page that it had converted for it: in
 * one mm only. PTEs that fork created keep mapping a KSM page without a stable node,
 * which can be neither reclaimed nor migrated. A sign, as the mapcount can change.
 */
int on_break_cow(CONTEXT(BREAK_COW) * ctx)
{
    struct conversion *c = conversion();

    total(T_BREAK_COW, 1);
    if (c && c->last && is_ksm(c->last) && mapcount(c->last) > 1)
        total(T_BREAK_COW_LEFT, 1);
    return 0;
}
