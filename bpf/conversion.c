// SPDX-License-Identifier: GPL-2.0-only
/*
 * try_to_merge_one_page(vma, page, kpage): without a kpage, success means that `page` became a KSM
 * page in place and no rmap function was called for it.
 */

int on_merge(CONTEXT(MERGE) * ctx)
{
    struct vm_area_struct *vma = (struct vm_area_struct *)ARGUMENT(MERGE, ctx, 0);
    struct page *page = (struct page *)ARGUMENT(MERGE, ctx, 1);
    struct page *kpage = (struct page *)ARGUMENT(MERGE, ctx, 2);
    struct conversion *c = conversion();
    struct account *account;

    if (!c)
        return 0;
    c->begun = 0;
    c->mm = vm_area_struct_vm_mm(vma);
    c->root = anon_vma_root(vm_area_struct_anon_vma(vma));
    c->kpage = kpage;
    c->already = is_ksm(page);
    c->removed = 0;
    c->foreign = 0;
    c->page = page;
    if (kpage || c->already || asleep())
        return 0;
    account = account_of(c->mm);
    if (account) {
        c->begun = 1;
        lock_xadd(&account->conversions_begun, 1);
    }
    /* In doubt before the first PTE turns, so that no snapshot calls it exact meanwhile. */
    if (!is_tail(page) && mapcount(page) > 1)
        doubt_family(c->root);
    return 0;
}

/*
 * How many PTEs of the converting mm turned. One, unless it was unmapped after
 * write_protect_page() and before the conversion: such a removal was not counted,
 * as the page was not KSM yet. The mapcount is read first: if it is 0 already, a
 * removal after the conversion has been counted by now. Says whether PTEs of others turned.
 */
static __always_inline bool converted(struct conversion *c)
{
    struct account *account;
    int mapped = mapcount(c->page);

    account = find_account(c->mm);
    if (account && (mapped > 0 || c->removed > c->foreign))
        move(account, IN_CONVERTED);
    if (mapped <= 1 && !c->foreign)
        return false;
    total(T_SHARED_CONVERSIONS, 1);
    return true;
}

/*
 * The walk of the family stands here once, and nothing but the conversion is known across it:
 * the verifier follows the loop anew for every state in which it is entered.
 */
static __always_inline void conversion_ends(struct conversion *c, int error)
{
    struct account *account;
    bool family = false;

    if (!error) {
        c->last = c->page;
        /* Begun while the hooks were off: perhaps an exact read has seen it already. */
        family = c->begun ? converted(c) : !asleep();
    }
    if (family) {
        doubt(c->mm);
        doubt_family(c->root);
    }
    if (!c->begun)
        return;
    account = find_account(c->mm);
    if (account)
        lock_xadd(&account->conversions_ended, 1);
}

int on_merge_return(CONTEXT(MERGE) * ctx)
{
    int error = (int)RESULT(MERGE, ctx);
    struct conversion *c = conversion();

    if (!c)
        return 0;
    if (!c->page) {
        raise_alarm(T_CONVERSIONS_UNSEEN);
        return 0;
    }
    if (error)
        total(T_MERGE_FAILED, 1);
    else if (c->kpage)
        total(T_MERGE_REPLACED, 1);
    else if (c->already)
        total(T_MERGE_ALREADY, 1);
    else
        total(T_MERGE_CONVERTED, 1);
    if (!c->kpage && !c->already)
        conversion_ends(c, error);
    c->page = NULL;
    return 0;
}

/*
 * ksmd gives up one merge and unshares the page that it had converted for it: in
 * one mm only. PTEs that fork made keep mapping a KSM page without a stable node,
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
