// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts, for every mm, the PTEs that map a KSM page.
 *
 * ksmwatch/probes/plan.py chooses one probe per event and says so by -D flags:
 * FENTRY_<EVENT>=<symbol> or KPROBE_<EVENT>. The two differ only in how they
 * fetch arguments. Both rmap hooks run for every anonymous page on the host, so
 * by fentry nothing but direct loads stands before the KSM test.
 */
#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
/* bcc takes the function to attach to from the program's name. */
#define ON_ENTRY(symbol) PASTE(kfunc__, symbol)
#define ON_RETURN(symbol) PASTE(kretfunc__, symbol)

static __always_inline bool current_is_ksmd(void)
{
    struct control *c = control();

    return c && c->ksmd == bpf_get_current_pid_tgid() >> 32;
}

static __always_inline bool asleep(void)
{
    struct control *c = control();

    return c && c->asleep;
}

/* A PTE was pointed at a KSM page. Runs under the page-table lock. */
static __always_inline int arrival(u64 mm)
{
    struct account *account = account_of(mm);

    if (account)
        move(account, current_is_ksmd() ? IN_MERGED : IN_OTHER);
    return 0;
}

/* By thread: it is in migrate_pages(); 1 once it has taken a KSM page away. */
BPF_HASH(migrating, u32, u32, 4096);

/*
 * A page in migration is mapped by nobody until it has arrived, but smaps counts its
 * migration entries. An exact read must wait for the end of the call.
 */
static __always_inline void note_migration(void)
{
    struct migration *m = migration();
    u32 *taken, thread;

    if (!m || !m->underway)
        return;
    thread = bpf_get_current_pid_tgid();
    taken = migrating.lookup(&thread);
    if (taken && !*taken) {
        *taken = 1;
        lock_xadd(&m->begun, 1);
    }
}

/*
 * Who called the hooked function: the return address, 0 if it cannot be told. A kprobe runs
 * before the function has touched its stack. The trampoline of an fentry program has put the
 * arguments below what it found there: the register that it saved, the address behind its call
 * and the return address; and between them a result, if somebody's program wants that too.
 */
#ifdef FENTRY_RMAP_REMOVE
typedef u64 removal;
#define USERS_OF(mm) (*(u32 *)((mm) + OFF_mm_struct_mm_users))

static __always_inline u64 hooked_at(removal *ctx)
{
    return read_u64((u64)(ctx + RMAP_REMOVE_ARGUMENTS + 1));
}

static __always_inline u64 caller(removal *ctx, u64 hooked)
{
    u64 found[3];

    bpf_probe_read_kernel(found, sizeof(found), ctx + RMAP_REMOVE_ARGUMENTS + 1);
    if (found[0] == hooked)
        return found[1];
    return found[1] == hooked ? found[2] : 0;
}
#else
typedef struct pt_regs removal;
#define USERS_OF(mm) read_u32((mm) + OFF_mm_struct_mm_users)

static __always_inline u64 hooked_at(removal *ctx)
{
    return 0;
}

static __always_inline u64 caller(removal *ctx, u64 hooked)
{
    return read_u64(PT_REGS_SP(ctx));
}
#endif

/* Attached alone, while the daemon copies a page of its own: cow_call_site.py. */
int learn_copy(removal *ctx)
{
    struct call_site *site = call_site();

    if (!site || site->learner != (u32)bpf_get_current_pid_tgid())
        return 0;
    site->hooked = hooked_at(ctx);
    site->copy = caller(ctx, site->hooked);
    site->seen++;
    return 0;
}

static __always_inline enum movement why_gone(removal *ctx, u64 mm)
{
    struct call_site *site = call_site();
    u64 from;

    if (!USERS_OF(mm))
        return OUT_EXITED;
    from = site && site->copy ? caller(ctx, site->hooked) : 0;
    if (!from)
        total(T_UNATTRIBUTED, 1);
    else if (from == site->copy)
        return OUT_COPIED;
    return OUT_UNMAPPED;
}

/* A PTE that mapped a KSM page is gone. Runs under the page-table lock. */
static __always_inline int departure(removal *ctx, u64 page, u64 mm)
{
    struct account *account = account_of(mm);
    struct conversion *c = conversion();

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

/*
 * What runs for every anonymous page is a function of its own, and small: the JIT saves
 * registers and makes room on the stack for all that a function may use, whichever way it takes.
 * What follows for KSM pages, rest_of_<event>(), is compiled apart; the loader appends it and
 * makes this call, of a helper that does not exist, one of that function, as bcc links nothing.
 */
#define REST(ctx) (((int (*)(void *))REST_MARK)(ctx))

/*
 * The verifier allows no arithmetic on the mapping, a pointer. The difference of
 * two pointers is a number, and as a folio is aligned it has the mapping's low bits.
 */
#define DIRECT_MAY_BE_KSM(page)                                                                    \
    (((*(u64 *)((page) + OFF_page_mapping) - (page)) & MAPPING_KSM) == MAPPING_KSM)

/* Of an area that is an argument of a function hooked by fentry. */
#define DIRECT_MM(vma) (*(u64 *)((vma) + OFF_vm_area_struct_vm_mm))

/* By kprobe an argument is a number. bpf_rdonly_cast() makes it a pointer, since 6.2. */
#ifdef CAST_FUNCTION
static __always_inline bool arg_may_be_ksm(u64 page)
{
    u64 cast = ((u64 (*)(u64, u32))(KFUNC_MARK + CAST_FUNCTION))(page, CAST_PAGE);

    return DIRECT_MAY_BE_KSM(cast);
}
#else
#define arg_may_be_ksm may_be_ksm
#endif

#ifdef FENTRY_RMAP_ADD
int ON_ENTRY(FENTRY_RMAP_ADD)(u64 *ctx)
{
    return DIRECT_MAY_BE_KSM(ctx[0]) ? REST(ctx) : 0;
}

int rest_of_rmap_add(u64 *ctx)
{
    return is_tail(ctx[0]) ? 0 : arrival(DIRECT_MM(ctx[RMAP_ADD_VMA]));
}
#endif

#ifdef KPROBE_RMAP_ADD
int on_rmap_add(struct pt_regs *ctx)
{
    return arg_may_be_ksm(PT_REGS_PARM1(ctx)) ? REST(ctx) : 0;
}

int rest_of_rmap_add(struct pt_regs *ctx)
{
    return is_tail(PT_REGS_PARM1(ctx)) ? 0
                                       : arrival(FIELD(RMAP_ADD_VMA(ctx), vm_area_struct_vm_mm));
}
#endif

#ifdef FENTRY_RMAP_REMOVE
int ON_ENTRY(FENTRY_RMAP_REMOVE)(u64 *ctx)
{
    return DIRECT_MAY_BE_KSM(ctx[0]) ? REST(ctx) : 0;
}

int rest_of_rmap_remove(u64 *ctx)
{
    return is_tail(ctx[0]) ? 0 : departure(ctx, ctx[0], DIRECT_MM(ctx[RMAP_REMOVE_VMA]));
}
#endif

#ifdef KPROBE_RMAP_REMOVE
int on_rmap_remove(struct pt_regs *ctx)
{
    return arg_may_be_ksm(PT_REGS_PARM1(ctx)) ? REST(ctx) : 0;
}

int rest_of_rmap_remove(struct pt_regs *ctx)
{
    return is_tail(PT_REGS_PARM1(ctx))
               ? 0
               : departure(ctx, PT_REGS_PARM1(ctx),
                           FIELD(RMAP_REMOVE_VMA(ctx), vm_area_struct_vm_mm));
}
#endif

/*
 * try_to_merge_one_page(vma, page, kpage): without a kpage, success means that
 * `page` became a KSM page in place and no rmap function was called for it.
 */
static __always_inline int merge_begins(u64 vma, u64 page, u64 kpage)
{
    struct conversion *c = conversion();
    struct account *account;

    if (!c)
        return 0;
    c->begun = 0;
    c->mm = FIELD(vma, vm_area_struct_vm_mm);
    c->root = FIELD(FIELD(vma, vm_area_struct_anon_vma), anon_vma_root);
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

    account = accounts.lookup(&c->mm);
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
    account = accounts.lookup(&c->mm);
    if (account)
        lock_xadd(&account->conversions_ended, 1);
}

static __always_inline int merge_ends(int error)
{
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
    c->page = 0;
    return 0;
}

#ifdef FENTRY_MERGE
int ON_ENTRY(FENTRY_MERGE)(u64 *ctx)
{
    return merge_begins(ctx[0], ctx[1], ctx[2]);
}

int ON_RETURN(FENTRY_MERGE)(u64 *ctx)
{
    return merge_ends((int)ctx[3]);
}
#endif

#ifdef KPROBE_MERGE
int on_merge(struct pt_regs *ctx)
{
    return merge_begins(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx));
}

int on_merge_return(struct pt_regs *ctx)
{
    return merge_ends((int)PT_REGS_RC(ctx));
}
#endif

/*
 * ksmd gives up one merge and unshares the page that it had converted for it: in
 * one mm only. PTEs that fork made keep mapping a KSM page without a stable node,
 * which can be neither reclaimed nor migrated. A sign, as the mapcount can change.
 */
static __always_inline int break_cow(void)
{
    struct conversion *c = conversion();

    total(T_BREAK_COW, 1);
    if (c && c->last && is_ksm(c->last) && mapcount(c->last) > 1)
        total(T_BREAK_COW_LEFT, 1);
    return 0;
}

#ifdef FENTRY_BREAK_COW
int ON_ENTRY(FENTRY_BREAK_COW)(u64 *ctx)
{
    return break_cow();
}
#endif

#ifdef KPROBE_BREAK_COW
int on_break_cow(struct pt_regs *ctx)
{
    return break_cow();
}
#endif

/* ksm_might_need_to_copy(page, ...): a page from the swap cache is about to be mapped. */
static __always_inline int swapin(u64 page)
{
    if (is_ksm(page))
        total(T_SWAPIN_KSM, 1);
    return 0;
}

#ifdef FENTRY_SWAPIN
int ON_ENTRY(FENTRY_SWAPIN)(u64 *ctx)
{
    return swapin(ctx[0]);
}
#endif

#ifdef KPROBE_SWAPIN
int on_swapin(struct pt_regs *ctx)
{
    return swapin(PT_REGS_PARM1(ctx));
}
#endif

/*
 * An mm at this address cannot have an account yet. One that is there was left
 * by an earlier mm whose end was missed.
 */
static __always_inline void forget_stale(u64 mm)
{
    if (!accounts.lookup(&mm))
        return;
    accounts.delete(&mm);
    baselines.delete(&mm);
    total(T_STALE_ACCOUNTS, 1);
}

/*
 * A child starts with its parent's PTEs, and in doubt: areas with MADV_DONTFORK
 * or MADV_WIPEONFORK were not copied.
 */
static __always_inline void inherit(u64 parent, u64 child, u64 owner)
{
    struct account *from = accounts.lookup(&parent);
    u64 settled;
    s64 count;

    if (!from)
        return;
    count = mappings(parent, from, &settled);
    if (count < 0)
        count = 0;
    if (count == 0 && settled == from->doubts)
        return;
    if (open_account(child, owner, count, 1))
        total(IN_FORKED, count);
}

/*
 * __ksm_enter(mm) for an mm that is not the caller's own: fork, which copies the
 * PTEs under the parent's mmap lock, or (since 6.9) exec, whose new mm is empty.
 * For the caller's own mm: a first MADV_MERGEABLE or PR_SET_MEMORY_MERGE.
 */
static __always_inline int enter(u64 mm)
{
    u64 own = FIELD(bpf_get_current_task(), task_struct_mm);
    struct account *account;

    if (mm == own)
        return 0;
    account = accounts.lookup(&mm);
    if (account && !account->tgid) {
        /* Since 6.12 fork copies first: an event has met a PTE that was copied already. */
        lock_xadd(&account->doubts, 1);
        total(T_DOUBTS, 1);
        return 0;
    }
    forget_stale(mm);
    if (FIELD(mm, mm_struct_total_vm))
        inherit(own, mm, 0);
    return 0;
}

#ifdef FENTRY_ENTER
int ON_ENTRY(FENTRY_ENTER)(u64 *ctx)
{
    return enter(ctx[0]);
}
#endif

#ifdef KPROBE_ENTER
int on_enter(struct pt_regs *ctx)
{
    return enter(PT_REGS_PARM1(ctx));
}
#endif

/*
 * sched_process_fork(parent, child): gives the child's account its owner, who had no
 * process id yet when __ksm_enter() ran, and opens one for the child of a parent
 * that has KSM pages without ever having registered for KSM.
 */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
    u64 child = ctx->args[1];
    u64 mm = FIELD(child, task_struct_mm);
    u64 own = FIELD(ctx->args[0], task_struct_mm);
    struct account *account;

    if (!mm || mm == own)
        return 0;
    account = accounts.lookup(&mm);
    if (account && (!account->tgid || account->tgid == read_u32(child + OFF_task_struct_tgid))) {
        NAME_OWNER(account, child);
        /*
         * It may have been opened by an event in dup_mmap(), which knew nothing of the parent,
         * or by the reader: the child is in /proc already.
         */
        lock_xadd(&account->doubts, 1);
        total(T_DOUBTS, 1);
        return 0;
    }
    if (account)
        forget_stale(mm);
    inherit(own, mm, child);
    return 0;
}

static __always_inline int migration_begins(void)
{
    u32 thread = bpf_get_current_pid_tgid(), none = 0;
    struct migration *m = migration();

    if (m && !migrating.insert(&thread, &none))
        lock_xadd(&m->underway, 1);
    else
        /* Left by a call whose end was missed. */
        migrating.update(&thread, &none);
    return 0;
}

static __always_inline int migration_ends(void)
{
    u32 thread = bpf_get_current_pid_tgid();
    u32 *taken = migrating.lookup(&thread);
    struct migration *m = migration();

    if (!taken || !m)
        return 0;
    if (*taken)
        lock_xadd(&m->ended, 1);
    migrating.delete(&thread);
    lock_xadd(&m->underway, -1);
    return 0;
}

#ifdef FENTRY_MIGRATE
int ON_ENTRY(FENTRY_MIGRATE)(u64 *ctx)
{
    return migration_begins();
}

int ON_RETURN(FENTRY_MIGRATE)(u64 *ctx)
{
    return migration_ends();
}
#endif

#ifdef KPROBE_MIGRATE
int on_migrate(struct pt_regs *ctx)
{
    return migration_begins();
}

int on_migrate_return(struct pt_regs *ctx)
{
    return migration_ends();
}
#endif

/*
 * mm_update_next_owner(mm): the owner exits or execs, and the mm passes to another process
 * that shares it (CLONE_VM), if there is one.
 */
static __always_inline int passes_on(u64 mm)
{
    struct account *account = accounts.lookup(&mm);
    u64 owner = account ? FIELD(mm, mm_struct_owner) : 0;

    if (owner) {
        NAME_OWNER(account, owner);
        total(T_DOUBTS, 1);
    }
    return 0;
}

#ifdef FENTRY_OWNER
int ON_RETURN(FENTRY_OWNER)(u64 *ctx)
{
    return passes_on(ctx[0]);
}
#endif

#if defined(KPROBE_OWNER) || defined(KPROBE_EMPTIED)
/* A kretprobe has no arguments. By thread: the mm of the call under way. */
BPF_HASH(passing, u64, u64, 1024);

static __always_inline int remember(u64 mm)
{
    u64 thread = bpf_get_current_pid_tgid();

    passing.update(&thread, &mm);
    return 0;
}

static __always_inline u64 remembered(void)
{
    u64 thread = bpf_get_current_pid_tgid();
    u64 *passed = passing.lookup(&thread);
    u64 mm = passed ? *passed : 0;

    passing.delete(&thread);
    return mm;
}
#endif

#ifdef KPROBE_OWNER
int on_owner(struct pt_regs *ctx)
{
    return remember(PT_REGS_PARM1(ctx));
}

int on_owner_return(struct pt_regs *ctx)
{
    u64 mm = remembered();

    return mm ? passes_on(mm) : 0;
}
#endif

static __always_inline void miscounted(s64 left)
{
    total(T_MISCOUNTED_MMS, 1);
    total(T_MISCOUNTED_PAGES, left < 0 ? -left : left);
}

static __always_inline int close_account(u64 mm)
{
    struct account *account = accounts.lookup(&mm);
    u64 settled;
    s64 left;

    if (!account)
        return 0;
    left = mappings(mm, account, &settled);
    /* One that was in doubt never passed for right. */
    if (left && settled == account->doubts && !alarmed())
        miscounted(left);
    accounts.delete(&mm);
    baselines.delete(&mm);
    return 0;
}

/*
 * exit_mmap(mm) returns: no PTE is left, whatever has been counted. This is also the end of what
 * was counted for a fork that failed half-way. The mm itself may stay for long: ksmd keeps one
 * that it knows until it scans again.
 */
#ifdef FENTRY_EMPTIED
int ON_RETURN(FENTRY_EMPTIED)(u64 *ctx)
{
    return close_account(ctx[0]);
}
#endif

#ifdef KPROBE_EMPTIED
int on_emptied(struct pt_regs *ctx)
{
    return remember(PT_REGS_PARM1(ctx));
}

int on_emptied_return(struct pt_regs *ctx)
{
    u64 mm = remembered();

    return mm ? close_account(mm) : 0;
}
#endif

/* The last reference to an mm goes: the end of an account that was opened after exit_mmap(). */
#ifdef FENTRY_MM_GOES
int ON_ENTRY(FENTRY_MM_GOES)(u64 *ctx)
{
    return close_account(ctx[0]);
}
#endif

#ifdef KPROBE_MM_GOES
int on_mm_goes(struct pt_regs *ctx)
{
    return close_account(PT_REGS_PARM1(ctx));
}
#endif

/*
 * mm_access() runs when a process opens /proc/PID/smaps_rollup or pagemap, and
 * returns the mm that the file then pins. So the reader learns which account a
 * file belongs to, and the account cannot go while the file is open.
 */
static __always_inline int mm_opened(u64 mm)
{
    struct control *c = control();
    u64 self = bpf_get_current_pid_tgid();
    struct opened file = {.mm = mm};
    struct account *account;
    u32 thread = self;
    u64 owner;

    if (!c || c->reader != self >> 32)
        return 0;
    owner = FIELD(mm, mm_struct_owner);
    if (owner) {
        NAME_OWNER(&file, owner);
        /* A child of a fork that ran before the tracepoint was attached has no name yet. */
        account = accounts.lookup(&mm);
        if (account && !account->tgid)
            NAME_OWNER(account, owner);
    }
    opened.update(&thread, &file);
    return 0;
}

#ifdef FENTRY_MM_OPENED
int ON_RETURN(FENTRY_MM_OPENED)(u64 *ctx)
{
    return mm_opened(ctx[2]);
}
#endif

#ifdef KPROBE_MM_OPENED
int on_mm_opened_return(struct pt_regs *ctx)
{
    return mm_opened(PT_REGS_RC(ctx));
}
#endif
