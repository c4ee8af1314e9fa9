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
 * A family of more than FAMILY_STEPS tree edges is said to be truncated, and the daemon
 * then reads every process. An area has two edges, so that is some eight thousand areas, and
 * a few milliseconds of ksmd.
 */
#define FAMILY_STEPS (1 << 14)

/* `node` NULL: it is over. */
struct walk {
    struct rb_node *node;
    struct rb_node *from;
};

static __always_inline void doubt_node(struct rb_node *node)
{
    struct mm_struct *mm = vm_area_struct_vm_mm(anon_vma_chain_vma(anon_vma_chain_of(node)));
    struct task_struct *owner = mm_struct_owner(mm);

    if (owner && task_struct_mm(owner) == mm)
        doubt(mm);
}

/*
 * One edge of an in-order walk: down to the left, the node itself, to the right, up. 1: no more.
 * bpf_loop() calls it (since 5.17), so the verifier follows it once. The loader puts it behind the
 * programs that do, with an instruction that makes the second argument, the walk, the first.
 */
int walk_edge(struct walk *walk)
{
    struct rb_node *node = walk->node, *from = walk->from;
    struct rb_node *left, *right, *parent;

    if (!node)
        return 1;
    left = rb_node_rb_left(node);
    right = rb_node_rb_right(node);
    parent = rb_node_parent(node);
    walk->from = node;
    if (from == parent && left) {
        walk->node = left;
        return 0;
    }
    walk->node = parent;
    if (from == parent || from == left) {
        doubt_node(node);
        if (right)
            walk->node = right;
    }
    return 0;
}

#define BPF_LOOP ((long (*)(u32, void *, void *, u64))181)

static __always_inline void doubt_family(struct anon_vma *root)
{
    struct walk walk = {.node = anon_vma_rb_root(root)};

    BPF_LOOP(FAMILY_STEPS, (void *)WALK_MARK, &walk, 0);
    if (walk.node)
        raise_alarm(T_FAMILIES_TRUNCATED);
}
