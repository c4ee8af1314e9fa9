// SPDX-License-Identifier: GPL-2.0-only
/* The life of an mm: fork, its owners and their cgroups, its end, and /proc files about it. */

/*
 * An mm at this address cannot have an account yet. An existing one was left
 * by an earlier mm whose end was missed.
 */
static __always_inline void forget_stale(struct mm_struct *mm)
{
    if (!find_account(mm))
        return;
    forget_account(mm);
    total(T_STALE_ACCOUNTS, 1);
}

/*
 * A child starts with its parent's PTEs, and in doubt: areas with MADV_DONTFORK or MADV_WIPEONFORK
 * were not copied; since the copying another thread of the parent may have unmapped the parent's
 * last KSM page; and a page that both map may be in conversion, which put the parent in doubt
 * before the child existed. None of this applies to a parent without an account.
 */
static __always_inline void inherit(struct mm_struct *parent, struct mm_struct *child,
                                    struct task_struct *owner)
{
    struct account *from = find_account(parent);
    u64 settled;
    s64 count;

    if (!from) {
        /* Something has happened to an unknown process, perhaps to the parent. */
        if (alarmed_of_late())
            open_account(child, owner, 0, 1);
        return;
    }
    count = mappings(parent, from, &settled);
    open_account(child, owner, count < 0 ? 0 : count, 1);
}

/*
 * __ksm_enter(mm) for an mm that is not the caller's own is fork, which copies the
 * PTEs under the parent's mmap lock, or (since 6.9) exec, whose new mm is empty.
 * For the caller's own mm it is a first MADV_MERGEABLE or PR_SET_MEMORY_MERGE.
 */
int on_enter(CONTEXT(ENTER) * ctx)
{
    struct mm_struct *mm = (struct mm_struct *)ARGUMENT(ENTER, ctx, 0);
    struct mm_struct *own = task_struct_mm((struct task_struct *)bpf_get_current_task());
    struct account *account;

    if (mm == own)
        return 0;
    account = find_account(mm);
    if (account && !account->owner.tgid) {
        /* Since 6.12 fork copies first: an event has met a copied PTE. */
        doubt_account(account);
        return 0;
    }
    forget_stale(mm);
    if (mm_struct_total_vm(mm))
        inherit(own, mm, NULL);
    return 0;
}

/*
 * sched_process_fork(parent, child): gives the child's account its owner, which had no
 * process id yet when __ksm_enter() ran. Also opens one for the child of a parent
 * that has KSM pages without ever having registered for KSM.
 */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *parent = (struct task_struct *)ctx->args[0];
    struct task_struct *child = (struct task_struct *)ctx->args[1];
    struct mm_struct *mm = task_struct_mm(child);
    struct mm_struct *own = task_struct_mm(parent);
    struct account *account;

    if (!mm || mm == own)
        return 0;
    account = find_account(mm);
    if (account && (!account->owner.tgid || account->owner.tgid == task_struct_tgid(child))) {
        name_owner(&account->owner, child);
        /*
         * It may have been opened by an event in dup_mmap(), which knew nothing about the parent,
         * or by the reader: the child is in /proc already.
         */
        doubt_account(account);
        return 0;
    }
    if (account)
        forget_stale(mm);
    inherit(own, mm, child);
    return 0;
}

/*
 * cgroup_attach_task(cgroup, path, task, threadgroup): a process, or a thread of it, has been moved
 * to another cgroup. The kernel calls this under a lock (since 4.18, commit e4f8d81c738d), so no
 * two CPUs are here at once. The daemon knows each word by its number, so no order is needed.
 */
int on_cgroup(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *task = (struct task_struct *)ctx->args[2];
    u32 zero = 0;
    struct cgroup_moves *moves = cgroup_moves.lookup(&zero);
    u64 number;

    if (!moves)
        return 0;
    number = moves->last + 1;
    moves->processes[number % CGROUP_MOVES] = number << 32 | task_struct_tgid(task);
    moves->last = number;
    return 0;
}

/* By thread: the mm of the call under way, for a return that has no arguments. */
BPF_HASH(passing, u64, u64, 1024);

static __always_inline int remember_mm(struct mm_struct *mm)
{
    u64 thread = bpf_get_current_pid_tgid(), passed = (u64)mm;

    passing.update(&thread, &passed);
    return 0;
}

static __always_inline struct mm_struct *remembered_mm(void)
{
    u64 thread = bpf_get_current_pid_tgid();
    u64 *passed = passing.lookup(&thread);
    struct mm_struct *mm = passed ? (struct mm_struct *)*passed : NULL;

    passing.delete(&thread);
    return mm;
}

int on_owner(CONTEXT(OWNER) * ctx)
{
    return remember_mm((struct mm_struct *)ARGUMENT(OWNER, ctx, 0));
}

/*
 * mm_update_next_owner(mm): the owner exits or execs, and the mm passes to another process
 * that shares it (CLONE_VM), if there is one.
 */
int on_owner_return(CONTEXT(OWNER) * ctx)
{
    struct mm_struct *mm = REMEMBERED_MM(OWNER, ctx);
    struct account *account = mm ? find_account(mm) : NULL;
    struct task_struct *owner = account ? mm_struct_owner(mm) : NULL;

    if (owner) {
        name_owner(&account->owner, owner);
        total(T_DOUBTS, 1);
    }
    return 0;
}

static __always_inline void miscounted(s64 left)
{
    total(T_MISCOUNTED_MMS, 1);
    total(T_MISCOUNTED_PAGES, left < 0 ? -left : left);
}

static __always_inline int close_account(struct mm_struct *mm)
{
    struct account *account = mm ? find_account(mm) : NULL;
    u64 settled;
    s64 left;

    if (!account)
        return 0;
    left = mappings(mm, account, &settled);
    /* A count in doubt was never called right. */
    if (left && settled == account->doubts && !alarmed())
        miscounted(left);
    forget_account(mm);
    return 0;
}

int on_emptied(CONTEXT(EMPTIED) * ctx)
{
    return remember_mm((struct mm_struct *)ARGUMENT(EMPTIED, ctx, 0));
}

/*
 * exit_mmap(mm) returns: no PTE is left, whatever has been counted. This also ends what was
 * counted for a fork that failed half-way. The mm itself may stay for a long time: ksmd keeps an
 * mm that it knows until it scans again.
 */
int on_emptied_return(CONTEXT(EMPTIED) * ctx)
{
    return close_account(REMEMBERED_MM(EMPTIED, ctx));
}

/* The last reference to an mm goes: this ends an account that was opened after exit_mmap(). */
int on_mm_goes(CONTEXT(MM_GOES) * ctx)
{
    return close_account((struct mm_struct *)ARGUMENT(MM_GOES, ctx, 0));
}

/*
 * move_page_tables() moves the PTEs of the caller's own mm (mremap), without an rmap event. An
 * exact read that goes from area to area can miss them or see them twice. exec moves a stack in an
 * mm that nothing reads yet. UFFDIO_MOVE moves PTEs too, but refuses pages that are not
 * exclusive to their process (PageAnonExclusive), which KSM pages never are.
 */
int on_move(CONTEXT(MOVE) * ctx)
{
    struct reading *r = reading();

    if (r && r->mm == task_struct_mm((struct task_struct *)bpf_get_current_task()))
        lock_xadd(&r->moved, 1);
    return 0;
}

/*
 * mm_access() runs when a process opens /proc/PID/smaps_rollup or pagemap, and
 * returns the mm that the file then pins. So the reader learns to which account a
 * file belongs, and the account cannot go while the file is open.
 */
int on_mm_opened_return(CONTEXT(MM_OPENED) * ctx)
{
    struct mm_struct *mm = (struct mm_struct *)RESULT(MM_OPENED, ctx);
    struct control *c = control();
    struct opened *file = opening();
    u64 self = bpf_get_current_pid_tgid();
    struct task_struct *owner;
    struct account *account;

    if (!c || c->reader != self >> 32 || !file || file->thread != (u32)self)
        return 0;
    owner = mm_struct_owner(mm);
    if (owner) {
        name_owner(&file->owner, owner);
        /* A child whose fork ran before the tracepoint was attached has no name yet. */
        account = find_account(mm);
        if (account && !account->owner.tgid)
            account->owner = file->owner;
    }
    file->mm = mm;
    file->seen = 1;
    return 0;
}
