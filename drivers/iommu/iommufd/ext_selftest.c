// SPDX-License-Identifier: GPL-2.0-only
/*
 * A provider of ext pages for tools/testing/selftests/iommu/iommufd_ext_*.c, and a
 * look into the page tables of the mock IOMMU.
 *
 * The provider is a file. It has a set of pages, each with a PFN that nobody uses
 * and that is never looked up, and one lock. Any number of ext objects can be
 * made of it, each has all of the pages. A change is one transaction over all of
 * them, as it is for the bindings of a guest_memfd.
 */
#include <linux/anon_inodes.h>
#include <linux/bitfield.h>
#include <linux/bitmap.h>
#include <linux/file.h>
#include <linux/generic_pt/common.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/iommufd_ext.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <uapi/linux/iommufd.h>

#include "ext_selftest.h"
#include "iommufd_private.h"
#include "iommufd_test.h"

/* -- the mock IOMMU ----------------------------------------------------------- */

/*
 * The walk does not share code with iommupt, so that it notices when that writes
 * something else than the format says: AMDv1 with pages of 2K.
 */
enum {
	MOCK_GRANULE_LG2 = 11,
	MOCK_INDEX_LG2 = 9,
};

#define MOCK_PTE_PRESENT	BIT_ULL(0)
#define MOCK_PTE_DIRTY		BIT_ULL(6)
#define MOCK_PTE_NEXT_LEVEL	GENMASK_ULL(11, 9)
#define MOCK_PTE_ADDR		GENMASK_ULL(51, 12)
#define MOCK_PTE_WRITE		BIT_ULL(62)
#define MOCK_NEXT_LEVEL_SIZE	7

void iommufd_test_iotlb_init(struct iommufd_test_iotlb *iotlb)
{
	rwlock_init(&iotlb->lock);
}

void iommufd_test_iotlb_sync(struct iommufd_test_iotlb *iotlb,
			     const struct iommu_iotlb_gather *gather)
{
	write_lock(&iotlb->lock);
	iotlb->nr_syncs++;
	iotlb->start = gather->start;
	iotlb->last = gather->end;
	write_unlock(&iotlb->lock);
}

void iommufd_test_iotlb_sync_map(struct iommufd_test_iotlb *iotlb,
				 unsigned long iova, size_t size)
{
	write_lock(&iotlb->lock);
	iotlb->nr_map_syncs++;
	iotlb->map_start = iova;
	iotlb->map_last = iova + size - 1;
	write_unlock(&iotlb->lock);
}

static unsigned int mock_level_lg2(unsigned int level)
{
	return MOCK_GRANULE_LG2 + MOCK_INDEX_LG2 * level;
}

static const u64 *mock_top(const struct iommufd_test_mock *mock,
			   unsigned int *level)
{
	uintptr_t top = READ_ONCE(mock->common->top_of_table);

	*level = top & PT_TOP_LEVEL_MASK;
	return (const u64 *)(top & ~(uintptr_t)PT_TOP_LEVEL_MASK);
}

static const u64 *mock_table(u64 pte)
{
	return phys_to_virt(FIELD_GET(MOCK_PTE_ADDR, pte) << MOCK_GRANULE_LG2);
}

static bool mock_is_table(u64 pte, unsigned int level)
{
	u64 next_level = FIELD_GET(MOCK_PTE_NEXT_LEVEL, pte);

	return level && next_level && next_level != MOCK_NEXT_LEVEL_SIZE;
}

/* Fill in a leaf from one of its items */
static void mock_read_leaf(const u64 *table, unsigned int index,
			   unsigned int level, u64 iova,
			   struct iommu_test_leaf *leaf)
{
	u64 pte = READ_ONCE(table[index]);
	u64 addr = FIELD_GET(MOCK_PTE_ADDR, pte);
	unsigned int lg2 = mock_level_lg2(level);
	unsigned int nr;

	/* The address has its lower bits set up to half of the size */
	if (FIELD_GET(MOCK_PTE_NEXT_LEVEL, pte) == MOCK_NEXT_LEVEL_SIZE) {
		lg2 = ffz(addr) + MOCK_GRANULE_LG2 + 1;
		addr &= ~0ULL << ffz(addr);
	}

	leaf->lg2 = lg2;
	leaf->iova = iova & (~0ULL << lg2);
	leaf->phys = addr << MOCK_GRANULE_LG2;
	leaf->flags = pte & MOCK_PTE_WRITE ? IOMMU_TEST_LEAF_WRITE : 0;

	/* The mock device sets any of the items dirty */
	nr = 1 << (lg2 - mock_level_lg2(level));
	table += index & ~(nr - 1);
	while (nr--)
		if (READ_ONCE(table[nr]) & MOCK_PTE_DIRTY)
			leaf->flags |= IOMMU_TEST_LEAF_DIRTY;
}

/* Find what the device does. If it is a fault then lg2 is the size of the hole. */
static bool mock_walk(const struct iommufd_test_mock *mock, u64 iova,
		      struct iommu_test_leaf *leaf)
{
	unsigned int level;
	const u64 *table = mock_top(mock, &level);

	guard(read_lock)(&mock->iotlb->lock);
	for (;; level--) {
		unsigned int index = (iova >> mock_level_lg2(level)) %
				     (1 << MOCK_INDEX_LG2);
		u64 pte = READ_ONCE(table[index]);

		if (!(pte & MOCK_PTE_PRESENT)) {
			leaf->lg2 = mock_level_lg2(level);
			return false;
		}
		if (!mock_is_table(pte, level)) {
			mock_read_leaf(table, index, level, iova, leaf);
			return true;
		}
		table = mock_table(pte);
	}
}

/* Returns how many leaves there are, also if that is more than max */
static unsigned int mock_walk_range(const struct iommufd_test_mock *mock,
				    u64 iova, u64 length,
				    struct iommu_test_leaf *leaves,
				    unsigned int max)
{
	u64 last = iova + length - 1;
	unsigned int nr = 0;

	while (true) {
		struct iommu_test_leaf leaf;

		if (mock_walk(mock, iova, &leaf)) {
			if (nr < max)
				leaves[nr] = leaf;
			nr++;
		}
		iova |= (1ULL << leaf.lg2) - 1;
		if (iova >= last)
			return nr;
		iova++;
		cond_resched();
	}
}

static u64 mock_count_tables(const u64 *table, unsigned int level)
{
	u64 count = 1;
	unsigned int i;

	if (!level)
		return count;
	for (i = 0; i != 1 << MOCK_INDEX_LG2; i++) {
		u64 pte = READ_ONCE(table[i]);

		if ((pte & MOCK_PTE_PRESENT) && mock_is_table(pte, level))
			count += mock_count_tables(mock_table(pte), level - 1);
	}
	return count;
}

static struct iommu_test_leaf *alloc_leaves(u32 max)
{
	if (max > SZ_1M)
		return ERR_PTR(-EOVERFLOW);
	return kvzalloc_objs(struct iommu_test_leaf, max ?: 1,
			     GFP_KERNEL_ACCOUNT) ?: ERR_PTR(-ENOMEM);
}

static int iommufd_test_md_walk(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	u32 max = cmd->md_walk.max;
	struct iommu_test_leaf *leaves;
	struct iommufd_test_mock mock;
	u64 last;
	int rc;

	if (!cmd->md_walk.length ||
	    check_add_overflow(cmd->md_walk.iova, cmd->md_walk.length - 1,
			       &last))
		return -EINVAL;

	leaves = alloc_leaves(max);
	if (IS_ERR(leaves))
		return PTR_ERR(leaves);

	rc = iommufd_test_get_mock(ucmd, cmd->id, &mock);
	if (rc)
		goto out_free;

	cmd->md_walk.out_nr = mock_walk_range(&mock, cmd->md_walk.iova,
					      cmd->md_walk.length, leaves, max);
	if (copy_to_user(u64_to_user_ptr(cmd->md_walk.uptr), leaves,
			 min(cmd->md_walk.out_nr, max) * sizeof(*leaves)))
		rc = -EFAULT;
	else
		rc = iommufd_ucmd_respond(ucmd, sizeof(*cmd));
	iommufd_put_object(ucmd->ictx, mock.obj);
out_free:
	kvfree(leaves);
	return rc;
}

static int iommufd_test_md_info(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	struct iommufd_test_mock mock;
	unsigned int level;
	const u64 *table;
	int rc;

	rc = iommufd_test_get_mock(ucmd, cmd->id, &mock);
	if (rc)
		return rc;

	table = mock_top(&mock, &level);
	read_lock(&mock.iotlb->lock);
	cmd->md_info.out_nr_tables = mock_count_tables(table, level);
	cmd->md_info.out_nr_syncs = mock.iotlb->nr_syncs;
	cmd->md_info.out_sync_start = mock.iotlb->start;
	cmd->md_info.out_sync_last = mock.iotlb->last;
	cmd->md_info.out_nr_map_syncs = mock.iotlb->nr_map_syncs;
	cmd->md_info.out_map_start = mock.iotlb->map_start;
	cmd->md_info.out_map_last = mock.iotlb->map_last;
	read_unlock(&mock.iotlb->lock);

	iommufd_put_object(ucmd->ictx, mock.obj);
	return iommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

/* -- the provider ------------------------------------------------------------- */

/**
 * struct ext_provider - Pages with fake PFNs
 * @lock: Keeps the set of pages. A change holds it for write.
 * @objs: List of struct ext_obj, changes with @lock held for write
 * @next_index: Of the next object
 * @npages: Number of pages
 * @pfn: Page i has the PFN pfn + (i ^ pfn_xor)
 * @pfn_xor: 0 for pages that are one behind the other
 * @present: One bit for each page
 */
struct ext_provider {
	struct rw_semaphore lock;
	struct list_head objs;
	u32 next_index;
	unsigned long npages;
	unsigned long pfn;
	unsigned long pfn_xor;
	unsigned long *present;
};

/**
 * struct ext_obj - An ext object of a provider
 * @elm: On ext_provider::objs
 * @provider: The provider
 * @ictx: Referenced
 * @ext: The object
 * @index: Its name for user space
 * @removed: Somebody is removing it. Locked by ext_provider::lock.
 * @unmapped: Number of calls of the unmapped op
 */
struct ext_obj {
	struct list_head elm;
	struct ext_provider *provider;
	struct iommufd_ctx *ictx;
	struct iommufd_ext *ext;
	u32 index;
	bool removed;
	atomic_t unmapped;
};

static void ext_begin(void *priv)
{
	struct ext_obj *obj = priv;

	down_read(&obj->provider->lock);
}

static void ext_end(void *priv)
{
	struct ext_obj *obj = priv;

	up_read(&obj->provider->lock);
}

static unsigned long ext_pfn(struct ext_provider *provider, unsigned long index)
{
	return provider->pfn + (index ^ provider->pfn_xor);
}

/* Find pages in a state that have PFNs one behind the other */
static bool ext_find_run(struct ext_provider *provider, unsigned long index,
			 unsigned long last, bool present,
			 struct iommufd_ext_run *run)
{
	if (present)
		index = find_next_bit(provider->present, last + 1, index);
	else
		index = find_next_zero_bit(provider->present, last + 1, index);
	if (index > last)
		return false;

	run->index = index;
	run->nr = 1;
	run->pfn = ext_pfn(provider, index);
	while (index++ != last &&
	       test_bit(index, provider->present) == present &&
	       ext_pfn(provider, index) == run->pfn + run->nr)
		run->nr++;
	return true;
}

static bool ext_next_run(void *priv, unsigned long index, unsigned long last,
			 struct iommufd_ext_run *run)
{
	struct ext_obj *obj = priv;

	return ext_find_run(obj->provider, index, last, true, run);
}

static void ext_unmapped(void *priv)
{
	struct ext_obj *obj = priv;

	atomic_inc(&obj->unmapped);
}

static const struct iommufd_ext_ops ext_test_ops = {
	.begin = ext_begin,
	.end = ext_end,
	.next_run = ext_next_run,
	.unmapped = ext_unmapped,
};

static void ext_free_obj(struct ext_obj *obj)
{
	struct ext_provider *provider = obj->provider;

	iommufd_ext_unmap(obj->ext);
	down_write(&provider->lock);
	list_del(&obj->elm);
	up_write(&provider->lock);
	iommufd_ext_put(obj->ext);
	iommufd_ctx_put(obj->ictx);
	kfree(obj);
}

static int ext_release(struct inode *inode, struct file *filep)
{
	struct ext_provider *provider = filep->private_data;
	struct ext_obj *obj, *tmp;

	list_for_each_entry_safe(obj, tmp, &provider->objs, elm)
		ext_free_obj(obj);
	kvfree(provider->present);
	kfree(provider);
	return 0;
}

static const struct file_operations ext_test_fops = {
	.release = ext_release,
};

static struct file *ext_get_file(int fd)
{
	struct file *filep = fget(fd);

	if (!filep)
		return ERR_PTR(-EBADF);
	if (filep->f_op != &ext_test_fops) {
		fput(filep);
		return ERR_PTR(-EBADF);
	}
	return filep;
}

static int iommufd_test_ext_create(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	struct ext_provider *provider;
	int fd;

	if (!cmd->ext_create.npages || cmd->ext_create.npages > SZ_1M ||
	    cmd->ext_create.pfn_xor >= roundup_pow_of_two(cmd->ext_create.npages))
		return -EINVAL;

	provider = kzalloc_obj(*provider, GFP_KERNEL_ACCOUNT);
	if (!provider)
		return -ENOMEM;
	init_rwsem(&provider->lock);
	INIT_LIST_HEAD(&provider->objs);
	provider->npages = cmd->ext_create.npages;
	provider->pfn = cmd->ext_create.pfn;
	provider->pfn_xor = cmd->ext_create.pfn_xor;
	provider->present = kvcalloc(BITS_TO_LONGS(provider->npages),
				     sizeof(long), GFP_KERNEL_ACCOUNT);
	if (!provider->present) {
		kfree(provider);
		return -ENOMEM;
	}

	fd = anon_inode_getfd("[iommufd_test_ext]", &ext_test_fops, provider,
			      O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		kvfree(provider->present);
		kfree(provider);
	}
	return fd;
}

static struct ext_obj *ext_find_obj(struct ext_provider *provider, u32 index)
{
	struct ext_obj *obj;

	lockdep_assert_held(&provider->lock);
	list_for_each_entry(obj, &provider->objs, elm)
		if (obj->index == index && !obj->removed)
			return obj;
	return NULL;
}

static struct ext_obj *ext_alloc_obj(struct ext_provider *provider,
				     struct iommufd_ctx *ictx, bool writable,
				     unsigned int max_leaf_lg2)
{
	struct ext_obj *obj;
	struct iommufd_ext *ext;

	obj = kzalloc_obj(*obj, GFP_KERNEL_ACCOUNT);
	if (!obj)
		return ERR_PTR(-ENOMEM);
	obj->provider = provider;

	ext = iommufd_ext_alloc(&ext_test_ops, obj, provider->npages, writable,
				1UL << max_leaf_lg2);
	if (IS_ERR(ext)) {
		kfree(obj);
		return ERR_CAST(ext);
	}
	obj->ext = ext;
	obj->ictx = ictx;
	iommufd_ctx_get(ictx);

	/* A change has to find it before anything is mapped */
	down_write(&provider->lock);
	obj->index = provider->next_index++;
	list_add_tail(&obj->elm, &provider->objs);
	up_write(&provider->lock);
	return obj;
}

/*
 * The object that user space names, or a new one. Nothing keeps the named one:
 * tests do not remove an object that they are mapping.
 */
static struct ext_obj *ext_get_obj(struct ext_provider *provider,
				   struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	struct ext_obj *obj;

	if (!(cmd->ext_map.flags & IOMMU_TEST_EXT_MAP_AGAIN))
		return ext_alloc_obj(provider, ucmd->ictx,
				     !(cmd->ext_map.flags &
				       IOMMU_TEST_EXT_MAP_READ_ONLY),
				     cmd->ext_map.max_leaf_lg2);

	down_read(&provider->lock);
	obj = ext_find_obj(provider, cmd->ext_map.index);
	up_read(&provider->lock);
	return obj ?: ERR_PTR(-ENOENT);
}

static int iommufd_test_ext_map(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	u32 flags = cmd->ext_map.flags;
	struct ext_provider *provider;
	struct ext_obj *obj;
	unsigned long iova;
	struct file *filep;
	int prot = 0;
	int rc;

	if (cmd->ext_map.max_leaf_lg2 < PAGE_SHIFT ||
	    cmd->ext_map.max_leaf_lg2 >= BITS_PER_LONG)
		return -EINVAL;

	filep = ext_get_file(cmd->ext_map.fd);
	if (IS_ERR(filep))
		return PTR_ERR(filep);
	provider = filep->private_data;

	obj = ext_get_obj(provider, ucmd);
	if (IS_ERR(obj)) {
		rc = PTR_ERR(obj);
		goto out_fput;
	}

	if (flags & IOMMU_TEST_EXT_MAP_READ)
		prot |= IOMMU_READ;
	if (flags & IOMMU_TEST_EXT_MAP_WRITE)
		prot |= IOMMU_WRITE;
	iova = cmd->ext_map.iova;
	rc = iommufd_ext_map(obj->ext, ucmd->ictx, cmd->id, &iova,
			     flags & IOMMU_TEST_EXT_MAP_FIXED, prot);
	if (!rc) {
		cmd->ext_map.index = obj->index;
		cmd->ext_map.iova = iova;
		rc = iommufd_ucmd_respond(ucmd, sizeof(*cmd));
	}
	if (rc && !(flags & IOMMU_TEST_EXT_MAP_AGAIN))
		ext_free_obj(obj);
out_fput:
	fput(filep);
	return rc;
}

static int iommufd_test_ext_unmap(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	struct ext_provider *provider;
	struct ext_obj *obj;
	struct file *filep;

	filep = ext_get_file(cmd->ext_unmap.fd);
	if (IS_ERR(filep))
		return PTR_ERR(filep);
	provider = filep->private_data;

	down_write(&provider->lock);
	obj = ext_find_obj(provider, cmd->ext_unmap.index);
	if (obj)
		obj->removed = true;
	up_write(&provider->lock);

	if (obj)
		ext_free_obj(obj);
	fput(filep);
	return obj ? 0 : -ENOENT;
}

static int iommufd_test_ext_stats(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	struct iommu_test_ext_stats out = {};
	struct iommufd_ext_stats stats;
	struct ext_provider *provider;
	struct ext_obj *obj;
	struct file *filep;
	int rc = 0;

	filep = ext_get_file(cmd->ext_stats.fd);
	if (IS_ERR(filep))
		return PTR_ERR(filep);
	provider = filep->private_data;

	down_read(&provider->lock);
	obj = ext_find_obj(provider, cmd->ext_stats.index);
	if (obj) {
		iommufd_ext_get_stats(obj->ext, &stats);
		out.mapped = stats.mapped;
		out.unmapped = stats.unmapped;
		out.syncs = stats.syncs;
		out.cuts = stats.cuts;
		out.merges = stats.merges;
		out.failures = stats.failures;
		out.gone = atomic_read(&obj->unmapped);
	}
	up_read(&provider->lock);
	fput(filep);

	if (!obj)
		return -ENOENT;
	if (copy_to_user(u64_to_user_ptr(cmd->ext_stats.uptr), &out,
			 sizeof(out)))
		rc = -EFAULT;
	return rc;
}

/* -- a change ----------------------------------------------------------------- */

/**
 * struct ext_change - A change of the provider's set
 * @provider: The provider
 * @txn: The transaction of all objects
 * @ranges: What to change, no two of them overlap
 * @nr_ranges: Number of @ranges
 * @flags: IOMMU_TEST_EXT_CHANGE_*
 * @mock: A domain to look at between the steps, or its obj is NULL
 * @iova: First IOVA to look at
 * @length: How much to look at
 * @leaves: What is seen, up to max leaves for each step
 * @max: See @leaves
 * @nr: Number of leaves for each step
 */
struct ext_change {
	struct ext_provider *provider;
	struct iommufd_ext_txn txn;
	struct iommu_test_ext_range *ranges;
	u32 nr_ranges;
	u32 flags;
	struct iommufd_test_mock mock;
	u64 iova;
	u64 length;
	struct iommu_test_leaf *leaves;
	u32 max;
	u32 nr[IOMMU_TEST_EXT_STEPS];
};

static struct lockdep_map *ext_nest_lock(struct ext_provider *provider)
{
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	return &provider->lock.dep_map;
#else
	return NULL;
#endif
}

static void ext_look(struct ext_change *change, unsigned int step)
{
	if (change->mock.obj)
		change->nr[step] = mock_walk_range(&change->mock, change->iova,
						   change->length,
						   change->leaves +
							   step * change->max,
						   change->max);
}

/* The next run of a range's pages that are not there; *@index is where to look */
static bool ext_next_absent(const struct ext_change *change,
			    const struct iommu_test_ext_range *range,
			    unsigned long *index, struct iommufd_ext_run *run)
{
	unsigned long last = range->index + range->nr - 1;

	if (*index > last ||
	    !ext_find_run(change->provider, *index, last, false, run))
		return false;
	*index = run->index + run->nr;
	return true;
}

static int ext_prepare_range(struct ext_change *change,
			     const struct iommu_test_ext_range *range)
{
	struct ext_provider *provider = change->provider;
	unsigned long index = range->index;
	struct iommufd_ext_run run;
	struct ext_obj *obj;
	int rc;

	if (!range->present) {
		if (change->flags & IOMMU_TEST_EXT_CHANGE_REVOKE)
			return 0;
		list_for_each_entry(obj, &provider->objs, elm) {
			rc = iommufd_ext_prepare_unmap(obj->ext, range->index,
						       range->nr);
			if (rc)
				return rc;
		}
		return 0;
	}

	while (ext_next_absent(change, range, &index, &run)) {
		list_for_each_entry(obj, &provider->objs, elm) {
			rc = iommufd_ext_prepare_map(obj->ext, &run);
			if (rc)
				return rc;
		}
	}
	return 0;
}

static void ext_unmap_range(struct ext_change *change,
			    const struct iommu_test_ext_range *range)
{
	struct ext_provider *provider = change->provider;
	struct ext_obj *obj;

	list_for_each_entry(obj, &provider->objs, elm) {
		if (change->flags & IOMMU_TEST_EXT_CHANGE_REVOKE)
			iommufd_ext_revoke_range(obj->ext, range->index,
						 range->nr);
		else
			iommufd_ext_unmap_range(obj->ext, range->index,
						range->nr);
	}
	bitmap_clear(provider->present, range->index, range->nr);
}

static void ext_map_range(struct ext_change *change,
			  const struct iommu_test_ext_range *range)
{
	struct ext_provider *provider = change->provider;
	unsigned long index = range->index;
	struct iommufd_ext_run run;
	struct ext_obj *obj;

	while (ext_next_absent(change, range, &index, &run))
		list_for_each_entry(obj, &provider->objs, elm)
			iommufd_ext_map_run(obj->ext, &run);
	bitmap_set(provider->present, range->index, range->nr);
}

static void ext_commit(struct ext_change *change)
{
	u32 i;

	for (i = 0; i != change->nr_ranges; i++)
		if (!change->ranges[i].present)
			ext_unmap_range(change, &change->ranges[i]);
	iommufd_ext_sync(&change->txn);
	ext_look(change, IOMMU_TEST_EXT_UNMAPPED);

	for (i = 0; i != change->nr_ranges; i++)
		if (change->ranges[i].present)
			ext_map_range(change, &change->ranges[i]);
	iommufd_ext_sync(&change->txn);
	ext_look(change, IOMMU_TEST_EXT_MAPPED);
}

static int ext_do_change(struct ext_change *change)
{
	struct ext_provider *provider = change->provider;
	struct ext_obj *obj;
	int rc = 0;
	u32 i;

	down_write(&provider->lock);
	iommufd_ext_txn_init(&change->txn);
	list_for_each_entry(obj, &provider->objs, elm) {
		iommufd_ext_lock(obj->ext, ext_nest_lock(provider));
		iommufd_ext_join(obj->ext, &change->txn);
	}

	for (i = 0; !rc && i != change->nr_ranges; i++)
		rc = ext_prepare_range(change, &change->ranges[i]);
	if (!rc && (change->flags & IOMMU_TEST_EXT_CHANGE_ABORT))
		rc = -ECANCELED;
	ext_look(change, IOMMU_TEST_EXT_PREPARED);
	if (!rc)
		ext_commit(change);
	else
		iommufd_ext_sync(&change->txn);

	list_for_each_entry_reverse(obj, &provider->objs, elm)
		iommufd_ext_unlock(obj->ext);
	up_write(&provider->lock);
	return rc;
}

static int ext_check_ranges(const struct ext_change *change)
{
	u32 i;

	for (i = 0; i != change->nr_ranges; i++) {
		struct iommu_test_ext_range *range = &change->ranges[i];

		if (!range->nr || range->index >= change->provider->npages ||
		    range->nr > change->provider->npages - range->index)
			return -EINVAL;
	}
	return 0;
}

/* Copies what was seen also if the change was refused */
static int ext_respond(struct iommufd_ucmd *ucmd, struct ext_change *change)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	int i;

	for (i = 0; i != IOMMU_TEST_EXT_STEPS; i++) {
		size_t offset = i * change->max;

		cmd->ext_change.out_nr[i] = change->nr[i];
		if (copy_to_user(u64_to_user_ptr(cmd->ext_change.walk_uptr) +
					 offset * sizeof(*change->leaves),
				 change->leaves + offset,
				 min(change->nr[i], change->max) *
					 sizeof(*change->leaves)))
			return -EFAULT;
	}
	return iommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

static int iommufd_test_ext_change(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;
	struct ext_change change = {
		.flags = cmd->ext_change.flags,
		.nr_ranges = cmd->ext_change.nr_ranges,
		.iova = cmd->ext_change.walk_iova,
		.length = cmd->ext_change.walk_length,
		.max = cmd->ext_change.walk_max,
	};
	void __user *ranges;
	struct file *filep;
	int rc, rc2;

	if (change.nr_ranges > SZ_4K || change.max > SZ_64K)
		return -EINVAL;

	filep = ext_get_file(cmd->ext_change.fd);
	if (IS_ERR(filep))
		return PTR_ERR(filep);
	change.provider = filep->private_data;

	ranges = u64_to_user_ptr(cmd->ext_change.ranges_uptr);
	change.ranges = vmemdup_array_user(ranges, change.nr_ranges,
					   sizeof(*change.ranges));
	if (IS_ERR(change.ranges)) {
		rc = PTR_ERR(change.ranges);
		goto out_fput;
	}
	rc = ext_check_ranges(&change);
	if (rc)
		goto out_free_ranges;

	change.leaves = alloc_leaves(change.max * IOMMU_TEST_EXT_STEPS);
	if (IS_ERR(change.leaves)) {
		rc = PTR_ERR(change.leaves);
		goto out_free_ranges;
	}
	if (cmd->id) {
		rc = iommufd_test_get_mock(ucmd, cmd->id, &change.mock);
		if (rc)
			goto out_free_leaves;
	}

	rc = ext_do_change(&change);
	rc2 = ext_respond(ucmd, &change);
	rc = rc ?: rc2;

	if (change.mock.obj)
		iommufd_put_object(ucmd->ictx, change.mock.obj);
out_free_leaves:
	kvfree(change.leaves);
out_free_ranges:
	kvfree(change.ranges);
out_fput:
	fput(filep);
	return rc;
}

int iommufd_test_ext(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;

	switch (cmd->op) {
	case IOMMU_TEST_OP_MD_WALK:
		return iommufd_test_md_walk(ucmd);
	case IOMMU_TEST_OP_MD_INFO:
		return iommufd_test_md_info(ucmd);
	case IOMMU_TEST_OP_EXT_CREATE:
		return iommufd_test_ext_create(ucmd);
	case IOMMU_TEST_OP_EXT_MAP:
		return iommufd_test_ext_map(ucmd);
	case IOMMU_TEST_OP_EXT_UNMAP:
		return iommufd_test_ext_unmap(ucmd);
	case IOMMU_TEST_OP_EXT_CHANGE:
		return iommufd_test_ext_change(ucmd);
	case IOMMU_TEST_OP_EXT_STATS:
		return iommufd_test_ext_stats(ucmd);
	default:
		return -EOPNOTSUPP;
	}
}
