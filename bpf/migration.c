// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls of migrate_pages(). A page in migration is not mapped until it has arrived, but smaps
 * counts its migration entries. An exact read must wait for the end of the call.
 */

/* By thread: it is in migrate_pages(). 1 once it has, or may have, taken a KSM page away. */
BPF_HASH(migrating, u32, u32, 4096);

/* A KSM page has gone; returns whether to another place. */
static __always_inline bool note_migration(void)
{
    struct migration *m = migration();
    u32 *taken, thread;

    if (!m || !m->underway)
        return false;
    thread = bpf_get_current_pid_tgid();
    taken = migrating.lookup(&thread);
    if (taken && !*taken) {
        *taken = 1;
        lock_xadd(&m->begun, 1);
    }
    return taken;
}

/*
 * While the hooks are off, nothing sees which pages a call takes away. They may still be away when
 * the hooks go on, so reads wait for the end of such a call. The end of a call for which there is
 * no room is not seen: reads wait until the daemon takes it for ended.
 */
int on_migrate(CONTEXT(MIGRATE) * ctx)
{
    u32 thread = bpf_get_current_pid_tgid(), taken = asleep();
    struct migration *m = migration();

    if (!m)
        return 0;
    if (!migrating.insert(&thread, &taken))
        lock_xadd(&m->underway, 1);
    /* There may be an entry, left by a call whose end was missed. */
    else if (migrating.update(&thread, &taken))
        taken = 1;
    if (taken)
        lock_xadd(&m->begun, 1);
    return 0;
}

int on_migrate_return(CONTEXT(MIGRATE) * ctx)
{
    u32 thread = bpf_get_current_pid_tgid();
    u32 *taken = migrating.lookup(&thread);
    struct migration *m = migration();

    if (!taken || !m)
        return 0;
    /* The arrivals have been counted before. */
    order();
    if (*taken)
        lock_xadd(&m->ended, 1);
    migrating.delete(&thread);
    lock_xadd(&m->underway, -1);
    return 0;
}

/*
 * try_to_migrate_one(page, vma, ...): PTEs of a page are about to become migration entries. Hooked
 * only if the compiler inlined the function in which departures are seen into this one, so that
 * none is seen. The arrivals will be seen, so the mm is put in doubt. Before that, a migration is
 * said to be under way, so that no read settles the doubt in between.
 */
int on_moves_away(CONTEXT(MOVES_AWAY) * ctx)
{
    struct vm_area_struct *vma = (struct vm_area_struct *)ARGUMENT(MOVES_AWAY, ctx, 1);

    if (!is_ksm((struct page *)ARGUMENT(MOVES_AWAY, ctx, 0)))
        return 0;
    note_migration();
    order();
    doubt(MM_OF_ARGUMENT(MOVES_AWAY, vma));
    return 0;
}
