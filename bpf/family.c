// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fork family of a page, found in the anon_vma tree of its root.
 *
 * When ksmd converts in place a page that processes share by fork, all their PTEs
 * become KSM PTEs without an event. So every mm that has an area in the tree is put
 * in doubt, and the daemon reads it.
 *
 * The walk holds no lock, because a BPF program cannot take one. If a fork or an exit changes the
 * tree, the walk could miss a member. So hooks watch for changes of the tree. After a change the
 * walk starts again, and after MOST_WALKS the daemon reads every process (FAMILIES_CHANGED).
 *
 * Reads cannot fault, and the number of steps is bounded. If FAMILY_STEPS tree edges are not
 * enough, the daemon reads every process too (FAMILIES_TRUNCATED). An area has two edges, so
 * that is about eight thousand areas, and a few milliseconds of ksmd.
 */
#define FAMILY_STEPS (1 << 14)
#define MOST_WALKS 4

/* The tree that is being walked. Only ksmd walks. */
struct watch {
    u64 root;    /* address of its anon_vma; 0: none */
    u64 tree;    /* address of the tree in it */
    u64 changed; /* not 0: a task has changed the tree since `root` was set */
    u64 walks;   /* walks begun, ever */
    u32 begun;   /* walks begun in this tree */
    u32 unsure;  /* not 0: the walk may have missed a member */
};

BPF_ARRAY(watches, struct watch, 1);

static __always_inline struct watch *watch(void)
{
    u32 zero = 0;

    return watches.lookup(&zero);
}

/*
 * Runs before a node is linked or unlinked. All changes go through the two functions below, which
 * are in a separate file (mm/interval_tree.c), so that no caller can inline them. The task has
 * locked the tree before it looks whether that is walked, and says so before it changes the tree.
 */
static __always_inline int tree_changes(u64 tree)
{
    struct watch *w = watch();

    order();
    /* Their argument is the anon_vma, or before about 7.3 the address of the tree in it. */
    if (w && (tree == w->root || tree == w->tree)) {
        w->changed = 1;
        order();
    }
    return 0;
}

int on_tree_grows(CONTEXT(TREE_GROWS) * ctx)
{
    return tree_changes(ARGUMENT(TREE_GROWS, ctx, 1));
}

int on_tree_shrinks(CONTEXT(TREE_SHRINKS) * ctx)
{
    return tree_changes(ARGUMENT(TREE_SHRINKS, ctx, 1));
}

/*
 * `node` NULL: the walk is over. There is nothing here that the verifier could follow from one edge
 * to the next; it would follow every value.
 */
struct walk {
    struct rb_node *node;
    struct rb_node *from;
    struct anon_vma *root;
};

/*
 * A task that changes the tree holds its lock. If it read `root` before it was set here, it still
 * has the lock, or it has finished. The locked addition between the stores and the loads keeps
 * their order on x86.
 */
static __always_inline void begin_walk(struct walk *walk, struct watch *w)
{
    w->changed = 0;
    w->root = (u64)walk->root;
    w->tree = (u64)PLACE(walk->root, anon_vma_rb_root);
    lock_xadd(&w->walks, 1);
    order();
    w->unsure = is_locked_for_writing(PLACE(walk->root, anon_vma_rwsem));
    walk->from = NULL;
    walk->node = anon_vma_rb_root(walk->root);
    w->begun++;
}

/*
 * As long as the tree has not changed, the node is part of it and its mm exists, even if
 * exit_mmap() is at work there and has not come to this PTE yet. If it has changed, an mm counts
 * only if its own owner still uses it. The owner may be exiting while other threads use the mm, and
 * in fork it does not have it yet, so nothing is asked about users.
 */
static __always_inline void doubt_node(struct rb_node *node, struct watch *w)
{
    struct mm_struct *mm = vm_area_struct_vm_mm(anon_vma_chain_vma(anon_vma_chain_of(node)));
    struct task_struct *owner = mm_struct_owner(mm);

    order();
    if (!*(volatile u64 *)&w->changed || (owner && task_struct_mm(owner) == mm))
        doubt(mm);
}

/*
 * One edge of an in-order walk: down to the left, the node itself, to the right, up. Returns 1 at
 * the end. bpf_loop() calls it (since 5.17), so the verifier follows it once. ksmwatch puts it
 * behind the programs that do, with an instruction that makes the second argument, the walk, the
 * first.
 */
int walk_edge(struct walk *walk)
{
    struct rb_node *node = walk->node, *from = walk->from;
    struct rb_node *left, *right, *parent;
    struct watch *w = watch();

    if (!w)
        return 1;
    if (!node) {
        order();
        if (*(volatile u64 *)&w->changed)
            w->unsure = 1;
        if (!w->unsure || w->begun >= MOST_WALKS)
            return 1;
        begin_walk(walk, w);
        return 0;
    }
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
        doubt_node(node, w);
        if (right)
            walk->node = right;
    }
    return 0;
}

#define BPF_LOOP ((long (*)(u32, void *, void *, u64))181)

static __always_inline void doubt_family(struct anon_vma *root)
{
    struct walk walk = {.root = root};
    struct watch *w = watch();

    if (!w)
        return;
    w->begun = 0;
    begin_walk(&walk, w);
    BPF_LOOP(FAMILY_STEPS, (void *)CALLBACK_MARK, &walk, 0);
    w->root = 0;
    w->tree = 0;
    if (walk.node)
        raise_alarm(T_FAMILIES_TRUNCATED);
#if defined(HAS_TREE_GROWS) && defined(HAS_TREE_SHRINKS)
    else if (w->unsure)
#else
    else
#endif
        raise_alarm(T_FAMILIES_CHANGED);
}
