/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gmem_iommu binds a guest_memfd to an IOAS:
 *
 *   main.c     the device node, and the ioctls that create a binding
 *   binding.c  the file descriptor of a binding: what user space sees of it
 *   mirror.c   the binding at work: listener of guest_memfd, provider of iommufd
 *   debugfs.c  what others than its owner see of a binding
 *
 * A binding is made of a listener and an ext object, and holds two references:
 * the inode of the guest_memfd, because its file would pin the VM, and the
 * iommufd context, because the ext object lives in it. Neither holds the binding,
 * so its file descriptor can be closed in any order with the others.
 */
#ifndef __GMEM_IOMMU_H
#define __GMEM_IOMMU_H

#include <linux/guest_memfd.h>
#include <linux/iommufd.h>
#include <linux/iommufd_ext.h>
#include <linux/sizes.h>
#include <linux/wait.h>
#include <uapi/linux/gmem_iommu.h>

/* Runs of PFNs that a query looks at: for so long, and not longer, it holds its locks. */
#define GMEM_BINDING_MAX_PFN_RUNS	65536UL

/* Runs that one GMEM_IOMMU_QUERY_RUNS returns at most. */
#define GMEM_IOMMU_MAX_QUERY_RUNS	4096

#define GMEM_IOMMU_MAX_LEAF_SIZE	SZ_1G

/**
 * struct gmem_binding - A range of a guest_memfd bound to a range of an IOAS
 * @listener: Hears of changes of the range
 * @ext: The area of the IOAS and its copies
 * @inode: The guest_memfd, referenced
 * @ictx: The iommufd context, referenced
 * @iova: Where the range is bound
 * @prot: IOMMU_READ, IOMMU_WRITE
 * @policy: enum gmem_iommu_policy
 * @max_leaf_size: Largest IOMMU leaf, 0 if user space set no limit
 * @dead: The range is not mirrored any more and never will be: the guest_memfd
 *	was released, or the area unmapped. Set once.
 * @wait: Woken when @dead is set
 * @id: Number of the binding, in debugfs and in fdinfo
 * @debugfs: Its file there
 * @conversions: Under the ext mutex: committed conversions
 * @joined: Under the ext mutex: on gmem_event::joined
 * @txn: Under the ext mutex: of the event that this binding is the first of
 * @nr_pages: Under the ext mutex: what the event did in this phase
 * @aborts: Under the ext mutex: prepared and abandoned conversions
 * @refusals: Under the ext mutex: changes that this binding could not prepare
 * @traced: Under the ext mutex: counters of @ext that tracepoints have told of
 * @total_ns: Under the ext mutex: time that changes spent in the mirror
 * @max_ns: Under the ext mutex: the longest of them
 */
struct gmem_binding {
	struct gmem_listener listener;
	struct iommufd_ext *ext;
	struct inode *inode;
	struct iommufd_ctx *ictx;
	unsigned long iova;
	int prot;
	u32 policy;
	u64 max_leaf_size;
	bool dead;
	wait_queue_head_t wait;
	int id;
	struct dentry *debugfs;
	u64 conversions;
	u64 aborts;
	u64 refusals;
	struct iommufd_ext_stats traced;
	u64 total_ns;
	u64 max_ns;
	struct list_head joined;
	struct iommufd_ext_txn txn;
	u64 nr_pages;
};

static inline unsigned long gmem_binding_nr_pages(const struct gmem_binding *b)
{
	return b->listener.last - b->listener.start + 1;
}

/* Whether pages are mapped for having memory, in any state. */
static inline bool gmem_binding_maps_all(const struct gmem_binding *b)
{
	return b->policy == GMEM_IOMMU_POLICY_ALL;
}

static inline unsigned long gmem_binding_max_leaf(const struct gmem_binding *b)
{
	if (!b->max_leaf_size)
		return GMEM_IOMMU_MAX_LEAF_SIZE;
	return min(b->max_leaf_size, GMEM_IOMMU_MAX_LEAF_SIZE);
}

/* main.c */
int gmem_iommu_copy_args(void *args, size_t ksize, size_t min_size,
			 const void __user *uarg);
int gmem_iommu_return_args(const void *args, size_t ksize, void __user *uarg);

/* binding.c */
extern const struct file_operations gmem_binding_fops;
void gmem_binding_set_dead(struct gmem_binding *b);
void gmem_binding_fill_run(struct gmem_binding *b, struct gmem_run *run,
			   unsigned long *budget, struct gmem_iommu_run *urun);
void gmem_binding_read_stats(struct gmem_binding *b,
			     struct gmem_iommu_stats *stats);

/* debugfs.c */
void gmem_debugfs_init(void);
void gmem_debugfs_exit(void);
void gmem_debugfs_add(struct gmem_binding *b);
void gmem_debugfs_remove(struct gmem_binding *b);

/* mirror.c */
struct gmem_binding *gmem_mirror_bind(struct file *gmem,
				      struct iommufd_ctx *ictx,
				      const struct gmem_iommu_bind *args);
void gmem_mirror_unbind(struct gmem_binding *b);

#endif /* __GMEM_IOMMU_H */
