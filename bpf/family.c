// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fork family of a page, found in the anon_vma tree of its root.
 *
 * When ksmd converts in place a page that processes share by fork, the PTEs of
 * all of them become KSM PTEs without an event. Every mm that has an area in
 * the tree is therefore put in doubt, and the daemon reads it.
 *
 * The walk holds no lock: a node may go while it is looked at. Reads cannot
 * fault, the number of steps is bounded, and an mm counts only if its own owner
 * still uses it, so the worst is a relative that is missed or one too many.
 * A family larger than FAMILY_STEPS tree edges is said to be truncated, and the daemon
 * then reads every process.
 */
#ifndef FAMILY_STEPS
#define FAMILY_STEPS 128
#endif

static __always_inline void doubt_node(u64 node)
{
    u64 vma = FIELD(node - OFF_anon_vma_chain_rb, anon_vma_chain_vma);
    u64 mm = FIELD(vma, vm_area_struct_vm_mm);
    u64 owner = FIELD(mm, mm_struct_owner);

    if (owner && FIELD(owner, task_struct_mm) == mm)
        doubt(mm);
}

/* In-order walk by edges: down to the left, the node itself, to the right, up. */
static __always_inline void doubt_family(u64 root)
{
    u64 node = FIELD(root, anon_vma_rb_root);
    u64 from = 0;
    int step;

    for (step = 0; step < FAMILY_STEPS; step++) {
        u64 left, right, parent;

        if (!node)
            return;
        left = FIELD(node, rb_node_rb_left);
        right = FIELD(node, rb_node_rb_right);
        /* The lowest bits of the parent's address are the colour. */
        parent = read_u64(node) & ~3ULL;
        if (from == parent && left) {
            from = node;
            node = left;
            continue;
        }
        if (from == parent || from == left) {
            doubt_node(node);
            if (right) {
                from = node;
                node = right;
                continue;
            }
        }
        from = node;
        node = parent;
    }
    raise_alarm(T_FAMILIES_TRUNCATED);
}
