// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes of the set of pages of ext objects, by their provider.
 *
 * A change has two steps. What can fail comes first: iommufd_ext_prepare_map()
 * makes the tables, and iommufd_ext_prepare_unmap() cuts the leaves at the ends of
 * the range, which changes no translation. What follows does not allocate: leaves
 * are cleared or written, and those that fit together again are merged. Tables
 * that are empty stay until an area leaves the domain, or a leaf takes their place.
 *
 * Many objects can be changed by one transaction, struct iommufd_ext_txn, with one
 * IOTLB sync of each domain: each object has a gather per domain, and those of the
 * same domain are put together when the transaction is synced.
 */
#include <linux/generic_pt/iommu.h>
#include <linux/iommu.h>
#include <linux/iommufd_ext.h>
#include <linux/list.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "ext_pages.h"
#include "io_pagetable.h"
#include "iommufd_private.h"

/**
 * iommufd_ext_txn_init() - Begin a transaction
 * @txn: The transaction, without objects. There is nothing to end.
 */
void iommufd_ext_txn_init(struct iommufd_ext_txn *txn)
{
	INIT_LIST_HEAD(&txn->exts);
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_txn_init, "IOMMUFD_EXT");

/**
 * iommufd_ext_lock() - Begin a change of the set of an object
 * @ext: The object
 * @nest: The lock of the provider, which the caller holds. It allows to lock
 *	several objects. NULL to only keep changes out.
 *
 * Until iommufd_ext_unlock() the object is not filled into another domain and
 * does not leave one. The fill of a new domain is kept out by the lock of the
 * provider already.
 *
 * Context: Process context, may sleep.
 */
void iommufd_ext_lock(struct iommufd_ext *ext, struct lockdep_map *nest)
{
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	_mutex_lock_nest_lock(&ext->pages->mutex, nest);
#else
	mutex_lock(&ext->pages->mutex);
#endif
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_lock, "IOMMUFD_EXT");

/**
 * iommufd_ext_join() - Make an object part of a transaction
 * @ext: The object, until its iommufd_ext_unlock()
 * @txn: The transaction
 *
 * Context: Between iommufd_ext_lock() and iommufd_ext_unlock().
 */
void iommufd_ext_join(struct iommufd_ext *ext, struct iommufd_ext_txn *txn)
{
	lockdep_assert_held(&ext->pages->mutex);

	list_add_tail(&ext->txn_elm, &txn->exts);
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_join, "IOMMUFD_EXT");

/**
 * iommufd_ext_unlock() - End a change of the set of an object
 * @ext: The object. What was done since iommufd_ext_lock() has been synced by
 *	iommufd_ext_sync(), also if the change was given up: leaves can have been
 *	cut for it.
 */
void iommufd_ext_unlock(struct iommufd_ext *ext)
{
	struct iommufd_ext_domain *dom;

	lockdep_assert_held(&ext->pages->mutex);

	/* Late, but the next change must not find it */
	list_for_each_entry(dom, &ext->domains, elm)
		WARN_ON_ONCE(iopt_ext_sync_gathered(dom));

	list_del_init(&ext->txn_elm);
	mutex_unlock(&ext->pages->mutex);
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_unlock, "IOMMUFD_EXT");

static int ext_prealloc_piece(struct iommufd_ext_track *track,
			      unsigned long iova, phys_addr_t paddr, size_t size,
			      gfp_t gfp)
{
	return iommu_prealloc_range(track->dom->domain, iova, paddr, size,
				    track->max_leaf_lg2,
				    track->area->iommu_prot, gfp);
}

/**
 * iommufd_ext_prepare_map() - Make iommufd_ext_map_run() possible
 * @ext: The object
 * @run: Pages that have no PFN yet, and the PFNs that they will get
 *
 * Builds the page tables for @run in all domains. What is mapped does not
 * change. If the change is given up then the tables stay for the next one, there
 * is nothing to undo.
 *
 * Context: Process context, may sleep. Between iommufd_ext_lock() and
 * iommufd_ext_unlock().
 *
 * Return: 0, -ENOMEM, -EADDRINUSE if a page of @run is mapped, -ERANGE if a
 * domain cannot store the physical address.
 */
int iommufd_ext_prepare_map(struct iommufd_ext *ext,
			    const struct iommufd_ext_run *run)
{
	struct iommufd_ext_track *track;

	lockdep_assert_held(&ext->pages->mutex);

	if (ext->revoked)
		return 0;

	list_for_each_entry(track, &ext->tracks, elm) {
		unsigned long index, last;
		int rc;

		if (!ext_clip(track, run->index, run->nr, &index, &last))
			continue;
		if (iommufd_should_fail())
			return -ENOMEM;

		rc = iopt_ext_do_pieces(track, index, last,
					run->pfn + (index - run->index),
					GFP_KERNEL_ACCOUNT, ext_prealloc_piece);
		if (rc)
			return rc;
	}
	return 0;
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_prepare_map, "IOMMUFD_EXT");

static int ext_cut(struct iommufd_ext *ext, struct iommufd_ext_track *track,
		   unsigned long index, unsigned long last)
{
	unsigned long ends[] = {
		ext_index_to_iova(track->area, index),
		ext_index_to_iova(track->area, last) + PAGE_SIZE,
	};
	unsigned int cuts = 0;
	int rc = 0;
	int i;

	if (track->max_leaf_lg2 == PAGE_SHIFT)
		return 0;
	if (iommufd_should_fail())
		return -ENOMEM;

	for (i = 0; !rc && i != ARRAY_SIZE(ends); i++) {
		/* The end of the area is the end of a leaf */
		if (!ends[i] || ends[i] - 1 == iopt_area_last_iova(track->area))
			continue;
		rc = iommu_cut(track->dom->domain, ends[i], GFP_KERNEL_ACCOUNT,
			       &track->dom->gather, &cuts);
	}
	atomic64_add(cuts, &ext->cuts);
	return rc;
}

/**
 * iommufd_ext_prepare_unmap() - Make iommufd_ext_unmap_range() possible
 * @ext: The object
 * @index: First page
 * @nr: Number of pages, any of them can be a hole
 *
 * Cuts the leaves that are partly in the range, in all domains. What is mapped
 * does not change, not even for a moment. If the change is given up then the
 * leaves stay as they are.
 *
 * Context: Process context, may sleep. Between iommufd_ext_lock() and
 * iommufd_ext_unlock().
 *
 * Return: 0, -ENOMEM, or -EOPNOTSUPP if the format of a domain has no leaves of a
 * size that a cut would need.
 */
int iommufd_ext_prepare_unmap(struct iommufd_ext *ext, unsigned long index,
			      unsigned long nr)
{
	struct iommufd_ext_track *track;
	unsigned long first, last;
	int rc;

	lockdep_assert_held(&ext->pages->mutex);

	list_for_each_entry(track, &ext->tracks, elm) {
		if (!ext_clip(track, index, nr, &first, &last))
			continue;
		rc = ext_cut(ext, track, first, last);
		if (rc)
			return rc;
		cond_resched();
	}
	return 0;
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_prepare_unmap, "IOMMUFD_EXT");

static int ext_unmap_track(struct iommufd_ext *ext,
			   struct iommufd_ext_track *track, unsigned long first,
			   unsigned long last)
{
	size_t unmapped = 0;
	int rc;

	rc = iopt_ext_unmap_iova(track, ext_index_to_iova(track->area, first),
				 ext_index_to_iova(track->area, last) + PAGE_SIZE - 1,
				 false, &unmapped);
	atomic64_add(unmapped / PAGE_SIZE, &ext->unmapped);
	return rc;
}

/* With all of the leaves that are partly in the range */
static void ext_unmap_wide(struct iommufd_ext *ext,
			   struct iommufd_ext_track *track, unsigned long first,
			   unsigned long last)
{
	unsigned long mask = (1UL << track->max_leaf_lg2) - 1;
	struct iopt_area *area = track->area;
	unsigned long iova = ext_index_to_iova(area, first);
	unsigned long end = ext_index_to_iova(area, last);

	/* No leaf of the area sticks out of the area */
	iova = max(iova & ~mask, iopt_area_iova(area));
	end = min(end | mask, iopt_area_last_iova(area));
	WARN_ON(ext_unmap_track(ext, track, ext_iova_to_index(area, iova),
				ext_iova_to_index(area, end)));
}

/**
 * iommufd_ext_unmap_range() - Take PFNs back
 * @ext: The object
 * @index: First page
 * @nr: Number of pages, any of them can be a hole. The same range as in an
 *	iommufd_ext_prepare_unmap() since iommufd_ext_lock().
 *
 * Devices can reach the pages until iommufd_ext_sync(). The page tables stay, so
 * that the pages can be mapped again without iommufd_ext_prepare_map(). Pages
 * that a device has made dirty are reported by the next
 * IOMMU_HWPT_GET_DIRTY_BITMAP, if they are mapped then or not.
 *
 * Context: Process context, may sleep, does not allocate. Between
 * iommufd_ext_lock() and iommufd_ext_unlock().
 */
void iommufd_ext_unmap_range(struct iommufd_ext *ext, unsigned long index,
			     unsigned long nr)
{
	struct iommufd_ext_track *track;
	unsigned long first, last;

	lockdep_assert_held(&ext->pages->mutex);

	list_for_each_entry(track, &ext->tracks, elm) {
		if (!ext_clip(track, index, nr, &first, &last))
			continue;
		/* A domain that broke its word must not keep the pages */
		if (ext_unmap_track(ext, track, first, last)) {
			atomic64_inc(&ext->failures);
			ext_unmap_wide(ext, track, first, last);
		}
		cond_resched();
	}
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_unmap_range, "IOMMUFD_EXT");

/**
 * iommufd_ext_revoke_range() - Take PFNs back without preparation
 * @ext: The object
 * @index: First page
 * @nr: Number of pages, any of them can be a hole
 *
 * Like iommufd_ext_unmap_range(), for a change that cannot be refused. If there
 * is no memory to cut a leaf then all of the leaf is unmapped: devices fault on
 * its other pages until they are mapped again.
 *
 * Context: Process context, may sleep. Between iommufd_ext_lock() and
 * iommufd_ext_unlock().
 */
void iommufd_ext_revoke_range(struct iommufd_ext *ext, unsigned long index,
			      unsigned long nr)
{
	struct iommufd_ext_track *track;
	unsigned long first, last;

	lockdep_assert_held(&ext->pages->mutex);

	list_for_each_entry(track, &ext->tracks, elm) {
		if (!ext_clip(track, index, nr, &first, &last))
			continue;
		if (ext_cut(ext, track, first, last) ||
		    ext_unmap_track(ext, track, first, last))
			ext_unmap_wide(ext, track, first, last);
		cond_resched();
	}
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_revoke_range, "IOMMUFD_EXT");

/* Tables of all formats have 512 entries, except for those at the top */
#define EXT_LEVEL_LG2	9

/*
 * Merge the leaves around pages that were just mapped. A larger size can become
 * possible only if the next smaller one did, or was mapped.
 */
static void ext_merge(struct iommufd_ext *ext, struct iommufd_ext_track *track,
		      unsigned long index, unsigned long last)
{
	struct iommu_domain *domain = track->dom->domain;
	struct iopt_area *area = track->area;
	unsigned long iova = ext_index_to_iova(area, index);
	unsigned long end = ext_index_to_iova(area, last) + PAGE_SIZE - 1;
	unsigned int lg2;

	/*
	 * Devices can write while leaves are merged, so all of the new one counts as
	 * dirty. That would be far more than what was written.
	 */
	if (READ_ONCE(to_hwpt_paging(domain->iommufd_hwpt)->dirty_tracking))
		return;

	for (lg2 = PAGE_SHIFT + EXT_LEVEL_LG2; lg2 <= track->max_leaf_lg2;
	     lg2 += EXT_LEVEL_LG2) {
		unsigned long mask = (1UL << lg2) - 1;
		unsigned long start = iova & ~mask;
		unsigned long stop = end | mask;
		unsigned int merges;

		/* Neither of them can be beyond the ends of the IOVA space */
		if (start < iopt_area_iova(area) &&
		    check_add_overflow(start, mask + 1, &start))
			return;
		if (stop > iopt_area_last_iova(area) &&
		    check_sub_overflow(stop, mask + 1, &stop))
			return;
		if (start >= stop)
			return;

		merges = iommu_merge_leaves(domain, start, stop - start + 1, lg2,
					    &track->dom->gather);
		atomic64_add(merges, &ext->merges);
		if (!merges && end - iova < mask)
			return;
	}
}

/**
 * iommufd_ext_map_run() - Give PFNs to pages
 * @ext: The object
 * @run: Pages and their PFNs. The same as in an iommufd_ext_prepare_map() since
 *	the last iommufd_ext_lock().
 *
 * Devices are sure to reach the pages after iommufd_ext_sync().
 *
 * After iommufd_ext_prepare_map() this does not allocate and every domain has
 * promised to map the pages. If one breaks that then pages are left unmapped
 * in it, and this is counted in struct iommufd_ext_stats: a device faults, but never
 * reaches a wrong page.
 *
 * Context: Process context, may sleep. Between iommufd_ext_lock() and
 * iommufd_ext_unlock().
 */
void iommufd_ext_map_run(struct iommufd_ext *ext,
			 const struct iommufd_ext_run *run)
{
	struct iommufd_ext_track *track;

	lockdep_assert_held(&ext->pages->mutex);

	if (ext->revoked)
		return;

	list_for_each_entry(track, &ext->tracks, elm) {
		unsigned long index, last;

		if (!ext_clip(track, run->index, run->nr, &index, &last))
			continue;

		/* The flags make a broken promise fail, not sleep */
		if (iopt_ext_do_pieces(track, index, last,
				       run->pfn + (index - run->index),
				       GFP_NOWAIT | __GFP_NOWARN, iopt_ext_map_piece)) {
			atomic64_inc(&ext->failures);
			continue;
		}
		atomic64_add(last - index + 1, &ext->mapped);
		ext_merge(ext, track, index, last);
		cond_resched();
	}
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_map_run, "IOMMUFD_EXT");

/* Leave it to the sync of another gather of the same domain */
static void ext_move_gathered(struct iommufd_ext_domain *from,
			      struct iommufd_ext_domain *to)
{
	struct iommu_iotlb_gather *src = &from->gather;
	struct iommu_iotlb_gather *dst = &to->gather;

	dst->start = min(dst->start, src->start);
	dst->end = max(dst->end, src->end);
	dst->pt.leaf_levels_bitmap |= src->pt.leaf_levels_bitmap;
	dst->pt.table_levels_bitmap |= src->pt.table_levels_bitmap;
	iommu_pages_list_splice(&src->freelist, &dst->freelist);
	iommu_iotlb_gather_init(src);
}

/* Another object of the transaction that has something to sync in the domain */
static struct iommufd_ext_domain *ext_find_gathered(struct iommufd_ext_txn *txn,
						    struct iommufd_ext *ext,
						    struct iommu_domain *domain)
{
	struct iommufd_ext_domain *dom;

	list_for_each_entry_continue(ext, &txn->exts, txn_elm)
		list_for_each_entry(dom, &ext->domains, elm)
			if (dom->domain == domain && ext_is_gathered(dom))
				return dom;
	return NULL;
}

/**
 * iommufd_ext_sync() - Make a change effective
 * @txn: The transaction, all of its objects are locked
 *
 * On return no device reaches a page that was unmapped. Costs one IOTLB sync in
 * every domain where something was unmapped since the last call, however many
 * ranges, areas and objects there were, and nothing in the others.
 *
 * Context: Process context. Between iommufd_ext_lock() and iommufd_ext_unlock()
 * of all objects.
 */
void iommufd_ext_sync(struct iommufd_ext_txn *txn)
{
	struct iommufd_ext_domain *dom, *other;
	struct iommufd_ext *ext;

	list_for_each_entry(ext, &txn->exts, txn_elm) {
		lockdep_assert_held(&ext->pages->mutex);

		list_for_each_entry(dom, &ext->domains, elm) {
			if (iopt_ext_sync_mapped(dom))
				atomic64_inc(&ext->failures);
			/* The last of them does it for all */
			other = ext_find_gathered(txn, ext, dom->domain);
			if (ext_is_gathered(dom) && other)
				ext_move_gathered(dom, other);
			else if (iopt_ext_sync_gathered(dom))
				atomic64_inc(&ext->syncs);
		}
	}
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_sync, "IOMMUFD_EXT");

/**
 * iommufd_ext_get_stats() - Read the counters of an ext object
 * @ext: The object
 * @stats: Where to store them
 *
 * Context: Any. Needs no lock, the counters are exact if the caller holds the
 * ext mutex or keeps changes out otherwise.
 */
void iommufd_ext_get_stats(struct iommufd_ext *ext,
			   struct iommufd_ext_stats *stats)
{
	stats->mapped = atomic64_read(&ext->mapped);
	stats->unmapped = atomic64_read(&ext->unmapped);
	stats->syncs = atomic64_read(&ext->syncs);
	stats->cuts = atomic64_read(&ext->cuts);
	stats->merges = atomic64_read(&ext->merges);
	stats->failures = atomic64_read(&ext->failures);
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_get_stats, "IOMMUFD_EXT");
