// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ext pages are an iopt_pages whose PFNs come from a provider in the kernel.
 *
 * Nothing is pinned, accounted or stored here: the provider says which indexes
 * have a PFN, that set can have holes, and it changes while areas are mapped.
 * The page tables are the only copy of the set that iommufd has.
 *
 * The provider changes the set under its own lock, which it must not take
 * domains_rwsem or iova_rwsem under. So a change cannot find the domains through
 * the io_pagetable. Instead every (area, domain) pair that has been filled is on
 * iommufd_ext::tracks under the ext mutex, which is the iopt_pages::mutex in a
 * class of its own. An area and its IOVA are immutable while they are tracked.
 *
 * The locking order is
 *
 *  domains_rwsem -> iova_rwsem -> ops_rwsem -> provider's lock -> ext mutex
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
 *
 * As the PFNs cannot be read back for another domain or an access, an ext area
 * has no storage_domain and is never in the domains_itree.
 *
 * What a device wrote is not forgotten when the page is taken back. If the domain
 * can track dirty pages then each (area, domain) pair has a bitmap of the pages
 * that were dirty when their leaf was cleared. It is there from the beginning, so
 * neither a change nor a revoke needs memory for it. The next reader of the
 * dirty bits gets these pages as well, and clears them like those in the leaves.
 */
#include <linux/bitmap.h>
#include <linux/generic_pt/iommu.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/iommufd_ext.h>
#include <linux/iova_bitmap.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/rwsem.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "io_pagetable.h"
#include "iommufd_private.h"

/**
 * struct iommufd_ext - Pages of a provider
 * @pages: The iopt_pages that this belongs to, its kref owns this struct
 * @ops: The provider. Not called anymore once @revoked is set, see @ops_rwsem.
 * @priv: For @ops
 * @ictx: The context of all areas. Set by the first iommufd_ext_map().
 * @max_leaf_lg2: No leaf is larger than that
 * @ops_rwsem: Held for read around calls of @ops that do not come from the
 *	provider, iommufd_ext_unmap() waits for them with the write side
 * @areas: All areas of @pages. Locked by pages->mutex.
 * @tracks: List of struct iommufd_ext_track. Locked by pages->mutex.
 * @domains: List of struct iommufd_ext_domain. Locked by pages->mutex.
 * @txn_elm: On iommufd_ext_txn::exts. Locked by pages->mutex.
 * @revoked: Nothing is mapped and nothing will be. Set under pages->mutex.
 * @mapped: See struct iommufd_ext_stats
 * @unmapped: See struct iommufd_ext_stats
 * @syncs: See struct iommufd_ext_stats
 * @cuts: See struct iommufd_ext_stats
 * @merges: See struct iommufd_ext_stats
 * @failures: See struct iommufd_ext_stats
 */
struct iommufd_ext {
	struct iopt_pages *pages;
	const struct iommufd_ext_ops *ops;
	void *priv;
	struct iommufd_ctx *ictx;
	unsigned int max_leaf_lg2;
	struct rw_semaphore ops_rwsem;
	struct list_head areas;
	struct list_head tracks;
	struct list_head domains;
	struct list_head txn_elm;
	bool revoked;
	atomic64_t mapped;
	atomic64_t unmapped;
	atomic64_t syncs;
	atomic64_t cuts;
	atomic64_t merges;
	atomic64_t failures;
};

/*
 * A domain that has areas of the ext object. Two areas in one IOAS share it, so
 * that one IOTLB sync is enough for both. The gather is empty and the mapped
 * extent is zero whenever the ext mutex is not held.
 */
struct iommufd_ext_domain {
	struct list_head elm;
	struct iommu_domain *domain;
	unsigned int num_tracks;
	struct iommu_iotlb_gather gather;
	/* IOVA that was mapped and needs iommu_sync_map(), start > last if none */
	unsigned long map_start;
	unsigned long map_last;
};

/*
 * An area that is filled into a domain, with leaves up to max_leaf_lg2. While the fill
 * goes on, only the pages before the index end follow changes; no leaf spans it.
 */
struct iommufd_ext_track {
	struct list_head elm;
	struct iopt_area *area;
	struct iommufd_ext_domain *dom;
	unsigned int max_leaf_lg2;
	unsigned long end;
	/* Pages of the area that are not mapped anymore, NULL without tracking */
	unsigned long *dirty;
};

/*
 * A fill lets changes of the set in whenever it gets to a multiple of this IOVA, or
 * of the largest leaf.
 */
#define EXT_BATCH_SIZE	SZ_2M

static struct iopt_area *to_area(struct list_head *elm)
{
	return container_of(elm, struct iopt_area, ext_elm);
}

static unsigned long ext_index_to_iova(struct iopt_area *area,
				       unsigned long index)
{
	return iopt_area_iova(area) +
	       (index - iopt_area_index(area)) * PAGE_SIZE;
}

static unsigned long ext_iova_to_index(struct iopt_area *area,
				       unsigned long iova)
{
	return iopt_area_index(area) +
	       (iova - iopt_area_iova(area)) / PAGE_SIZE;
}

/* Clip [index, index + nr) to what is filled, returns false if nothing is left */
static bool ext_clip(struct iommufd_ext_track *track, unsigned long index,
		     unsigned long nr, unsigned long *first,
		     unsigned long *last)
{
	if (!nr || track->end == iopt_area_index(track->area))
		return false;
	*first = max(index, iopt_area_index(track->area));
	*last = min(index + nr - 1, track->end - 1);
	return *first <= *last;
}

static bool ext_can_use_domain(struct iommufd_ext *ext,
			       struct iommu_domain *domain)
{
	/* Leaves of a page are never cut */
	if (ext->max_leaf_lg2 > PAGE_SHIFT && !iommu_can_cut(domain))
		return false;
	/* Nothing tells a user of raw physical addresses about a change */
	if (IS_ENABLED(CONFIG_IOMMUFD_NOIOMMU) &&
	    domain->owner == &iommufd_noiommu_ops)
		return false;
	return iommu_can_unmap_sparse(domain);
}

static void ext_reset_mapped(struct iommufd_ext_domain *dom)
{
	dom->map_start = ULONG_MAX;
	dom->map_last = 0;
}

static void ext_add_mapped(struct iommufd_ext_domain *dom, unsigned long iova,
			   unsigned long last_iova)
{
	dom->map_start = min(dom->map_start, iova);
	dom->map_last = max(dom->map_last, last_iova);
}

static int ext_sync_mapped(struct iommufd_ext_domain *dom)
{
	int rc;

	if (dom->map_start > dom->map_last)
		return 0;
	rc = iommu_sync_map(dom->domain, dom->map_start,
			    dom->map_last - dom->map_start + 1);
	ext_reset_mapped(dom);
	return rc;
}

static bool ext_is_gathered(struct iommufd_ext_domain *dom)
{
	return dom->gather.start < dom->gather.end;
}

/* Returns true if there was something to sync */
static bool ext_sync_gathered(struct iommufd_ext_domain *dom)
{
	if (!ext_is_gathered(dom))
		return false;
	iommu_iotlb_sync(dom->domain, &dom->gather);
	return true;
}

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

/* Returns -EINVAL if a leaf was left because it is not entirely in the range */
static int ext_unmap_iova(struct iommufd_ext_track *track, unsigned long iova,
			  unsigned long last_iova, bool free_tables,
			  size_t *unmapped)
{
	struct pt_iommu_dirty_pages dirty = {
		.iova = iopt_area_iova(track->area),
		.bitmap = track->dirty,
	};
	int ret = 0;

	while (true) {
		unsigned long cur_last = min(last_iova, iova | (SZ_1G - 1));
		int rc;

		rc = iommu_unmap_sparse(track->dom->domain, iova,
					cur_last - iova + 1, free_tables,
					&track->dom->gather, unmapped,
					track->dirty ? &dirty : NULL);
		ret = ret ?: rc;
		if (cur_last == last_iova)
			return ret;
		iova = cur_last + 1;
		cond_resched();
	}
}

/* As in iommu_unmap_nofail() a failure is a logic error or a driver bug */
static void ext_unmap_area(struct iommufd_ext_track *track, bool free_tables)
{
	struct iopt_area *area = track->area;
	size_t unmapped = 0;

	WARN_ON(ext_unmap_iova(track, iopt_area_iova(area),
			       iopt_area_last_iova(area), free_tables,
			       &unmapped));
}

static struct iommufd_ext_domain *ext_get_domain(struct iommufd_ext *ext,
						 struct iommu_domain *domain)
{
	struct iommufd_ext_domain *dom;

	list_for_each_entry(dom, &ext->domains, elm) {
		if (dom->domain == domain) {
			dom->num_tracks++;
			return dom;
		}
	}

	if (!ext_can_use_domain(ext, domain))
		return ERR_PTR(-EOPNOTSUPP);

	dom = kzalloc_obj(*dom, GFP_KERNEL_ACCOUNT);
	if (!dom)
		return ERR_PTR(-ENOMEM);
	dom->domain = domain;
	dom->num_tracks = 1;
	iommu_iotlb_gather_init(&dom->gather);
	ext_reset_mapped(dom);
	list_add_tail(&dom->elm, &ext->domains);
	return dom;
}

static void ext_put_domain(struct iommufd_ext_domain *dom)
{
	if (--dom->num_tracks)
		return;
	list_del(&dom->elm);
	kfree(dom);
}

static struct iommufd_ext_track *ext_find_track(struct iommufd_ext *ext,
						struct iopt_area *area,
						struct iommu_domain *domain)
{
	struct iommufd_ext_track *track;

	list_for_each_entry(track, &ext->tracks, elm)
		if (track->area == area && track->dom->domain == domain)
			return track;
	return NULL;
}

/* Empty the area in the domain, free its tables, and forget the pair */
static void ext_unfill(struct iommufd_ext_track *track)
{
	struct iommufd_ext_domain *dom = track->dom;
	struct iopt_area *area = track->area;
	size_t unmapped = 0;

	ext_unmap_area(track, true);
	/* For the tables that no part of the above covers entirely */
	WARN_ON(iommu_unmap_sparse(dom->domain, iopt_area_iova(area),
				   iopt_area_length(area), true, &dom->gather,
				   &unmapped, NULL));
	ext_sync_gathered(dom);
	ext_reset_mapped(dom);

	list_del(&track->elm);
	kvfree(track->dirty);
	kfree(track);
	ext_put_domain(dom);
}

typedef int (*ext_piece_fn)(struct iommufd_ext_track *track, unsigned long iova,
			    phys_addr_t paddr, size_t size, gfp_t gfp);

/*
 * Call fn for pieces of a run that end at multiples of 1G of IOVA. Those of a map
 * are those of its preallocation, as no leaf is larger.
 */
static int ext_do_pieces(struct iommufd_ext_track *track, unsigned long index,
			 unsigned long last, unsigned long pfn, gfp_t gfp,
			 ext_piece_fn fn)
{
	unsigned long iova = ext_index_to_iova(track->area, index);
	unsigned long last_iova = ext_index_to_iova(track->area, last) +
				  PAGE_SIZE - 1;
	phys_addr_t paddr = PFN_PHYS(pfn);

	while (true) {
		unsigned long cur_last = min(last_iova, iova | (SZ_1G - 1));
		size_t size = cur_last - iova + 1;
		int rc;

		rc = fn(track, iova, paddr, size, gfp);
		if (rc)
			return rc;
		if (cur_last == last_iova)
			return 0;
		iova += size;
		paddr += size;
		cond_resched();
	}
}

static int ext_prealloc_piece(struct iommufd_ext_track *track,
			      unsigned long iova, phys_addr_t paddr, size_t size,
			      gfp_t gfp)
{
	return iommu_prealloc_range(track->dom->domain, iova, paddr, size,
				    track->max_leaf_lg2,
				    track->area->iommu_prot, gfp);
}

static int ext_map_piece(struct iommufd_ext_track *track, unsigned long iova,
			 phys_addr_t paddr, size_t size, gfp_t gfp)
{
	int rc;

	rc = iommu_map_leaves(track->dom->domain, iova, paddr, size,
			      track->max_leaf_lg2, track->area->iommu_prot, gfp,
			      &track->dom->gather);
	if (!rc)
		ext_add_mapped(track->dom, iova, iova + size - 1);
	return rc;
}

/* The end of the batch that starts at track->end */
static unsigned long ext_batch_end(struct iommufd_ext_track *track)
{
	struct iopt_area *area = track->area;
	unsigned long iova = ext_index_to_iova(area, track->end);
	unsigned long size = max(EXT_BATCH_SIZE, BIT(track->max_leaf_lg2));

	return ext_iova_to_index(area, min(iova | (size - 1),
					   iopt_area_last_iova(area))) + 1;
}

static int ext_map_batch(struct iommufd_ext *ext,
			 struct iommufd_ext_track *track)
{
	unsigned long last = ext_batch_end(track) - 1;
	unsigned long index = track->end;
	struct iommufd_ext_run run;
	int rc;

	/* From here on ext_unfill() has to look at them */
	track->end = last + 1;
	while (index <= last &&
	       ext->ops->next_run(ext->priv, index, last, &run)) {
		if (WARN_ON(!run.nr || run.index < index || run.index > last ||
			    run.nr - 1 > last - run.index))
			return -EINVAL;
		if (iommufd_should_fail())
			return -ENOMEM;

		rc = ext_do_pieces(track, run.index, run.index + run.nr - 1,
				   run.pfn, GFP_KERNEL_ACCOUNT, ext_map_piece);
		if (rc)
			return rc;
		index = run.index + run.nr;
	}
	ext_sync_gathered(track->dom);
	return ext_sync_mapped(track->dom);
}

static struct iommufd_ext_track *ext_alloc_track(struct iommufd_ext *ext,
						 struct iopt_area *area,
						 struct iommu_domain *domain)
{
	struct iommufd_ext_track *track;
	unsigned long npages = iopt_area_length(area) / PAGE_SIZE;
	int rc;

	track = kzalloc_obj(*track, GFP_KERNEL_ACCOUNT);
	if (!track)
		return ERR_PTR(-ENOMEM);
	track->area = area;
	track->end = iopt_area_index(area);
	/* IOMMU_OPTION_HUGE_PAGES cannot change as long as there is a domain */
	track->max_leaf_lg2 = area->iopt->disable_large_pages ?
				      PAGE_SHIFT : ext->max_leaf_lg2;

	if (domain->dirty_ops) {
		track->dirty = kvcalloc(BITS_TO_LONGS(npages), sizeof(long),
					GFP_KERNEL_ACCOUNT);
		if (!track->dirty) {
			rc = -ENOMEM;
			goto err_free;
		}
	}

	track->dom = ext_get_domain(ext, domain);
	if (IS_ERR(track->dom)) {
		rc = PTR_ERR(track->dom);
		goto err_free;
	}
	return track;

err_free:
	kvfree(track->dirty);
	kfree(track);
	return ERR_PTR(rc);
}

static void ext_unfill_area(struct iommufd_ext *ext, struct iopt_area *area)
{
	struct iommufd_ext_track *track;
	struct iommufd_ext_track *tmp;

	list_for_each_entry_safe(track, tmp, &ext->tracks, elm)
		if (track->area == area)
			ext_unfill(track);
}

/* With the provider's set stable. On failure nothing is mapped or tracked. */
static int ext_fill_batch(struct iommufd_ext *ext, struct iopt_area *area,
			  struct iommu_domain *domain,
			  struct iommufd_ext_track **track)
{
	int rc;

	if (!*track) {
		struct iommufd_ext_track *new;

		if (WARN_ON(ext_find_track(ext, area, domain)))
			return -EINVAL;
		new = ext_alloc_track(ext, area, domain);
		if (IS_ERR(new))
			return PTR_ERR(new);
		list_add_tail(&new->elm, &ext->tracks);
		*track = new;
	}

	/* The last other area can have gone meanwhile */
	rc = ext->revoked ? -ENODEV : ext_map_batch(ext, *track);
	if (rc)
		ext_unfill(*track);
	return rc;
}

/*
 * The provider can change its set between two batches, and then finds those pages
 * that are filled. Nobody else looks for the track, because of domains_rwsem.
 */
static int ext_fill(struct iommufd_ext *ext, struct iopt_area *area,
		    struct iommu_domain *domain)
{
	struct iommufd_ext_track *track = NULL;
	bool done = false;
	int rc = 0;

	while (!rc && !done) {
		ext->ops->begin(ext->priv);
		mutex_lock(&ext->pages->mutex);
		rc = ext_fill_batch(ext, area, domain, &track);
		done = rc || track->end > iopt_area_last_index(area);
		mutex_unlock(&ext->pages->mutex);
		ext->ops->end(ext->priv);
		cond_resched();
	}
	return rc;
}

static int ext_add_area(struct iommufd_ext *ext, struct iopt_area *area)
{
	guard(mutex)(&ext->pages->mutex);

	if (ext->revoked)
		return -ENODEV;
	list_add_tail(&area->ext_elm, &ext->areas);
	return 0;
}

static int ext_fill_area(struct iommufd_ext *ext, struct iopt_area *area)
{
	struct iommu_domain *domain;
	unsigned long index;
	int rc = 0;

	xa_for_each(&area->iopt->domains, index, domain) {
		rc = ext_fill(ext, area, domain);
		if (rc)
			break;
	}
	if (!rc)
		rc = ext_add_area(ext, area);
	if (rc) {
		mutex_lock(&ext->pages->mutex);
		ext_unfill_area(ext, area);
		mutex_unlock(&ext->pages->mutex);
	}
	return rc;
}

/**
 * iopt_ext_fill_domains() - Fill a new ext area into all domains of its iopt
 * @area: The area, area->pages is NULL
 * @pages: The ext pages of the area
 *
 * This is iopt_area_fill_domains() for ext pages. From here on the object knows
 * the area, also if there is no domain.
 *
 * Return: 0, or a negative errno with all domains unchanged. -ENODEV if the
 * provider or the last other area has gone.
 */
int iopt_ext_fill_domains(struct iopt_area *area, struct iopt_pages *pages)
{
	struct iommufd_ext *ext = pages->ext;

	lockdep_assert_held(&area->iopt->domains_rwsem);

	guard(rwsem_read)(&ext->ops_rwsem);
	/* A revoked object cannot get another area */
	if (READ_ONCE(ext->revoked))
		return -ENODEV;
	return ext_fill_area(ext, area);
}

/**
 * iopt_ext_fill_domain() - Fill an ext area into one more domain
 * @area: The area
 * @pages: The ext pages of the area
 * @domain: Domain that is about to be added to the iopt
 *
 * This is iopt_area_fill_domain() for ext pages. Like a revoked dma-buf, a
 * revoked ext object succeeds with nothing mapped.
 *
 * Return: 0, or a negative errno with the domain unchanged. -EOPNOTSUPP if the
 * domain cannot have ext areas.
 */
int iopt_ext_fill_domain(struct iopt_area *area, struct iopt_pages *pages,
			 struct iommu_domain *domain)
{
	struct iommufd_ext *ext = pages->ext;

	lockdep_assert_held_write(&area->iopt->domains_rwsem);

	guard(rwsem_read)(&ext->ops_rwsem);
	/* A revoked object has nothing to map */
	if (READ_ONCE(ext->revoked))
		return 0;
	return ext_fill(ext, area, domain);
}

/**
 * iopt_ext_unfill_domain() - Unmap an ext area from a domain
 * @area: The area
 * @pages: The ext pages of the area
 * @domain: Domain to unmap from
 *
 * Does nothing if the area is not in the domain.
 */
void iopt_ext_unfill_domain(struct iopt_area *area, struct iopt_pages *pages,
			    struct iommu_domain *domain)
{
	struct iommufd_ext_track *track;

	lockdep_assert_held_write(&area->iopt->domains_rwsem);

	mutex_lock(&pages->mutex);
	track = ext_find_track(pages->ext, area, domain);
	if (track)
		ext_unfill(track);
	mutex_unlock(&pages->mutex);
}

/**
 * iopt_ext_unfill_domains() - Unmap an ext area from all domains
 * @area: The area, area->pages is NULL
 * @pages: The ext pages of the area
 *
 * This is iopt_area_unfill_domains() for ext pages. The object forgets the area,
 * and the provider is told if it was the last one.
 */
void iopt_ext_unfill_domains(struct iopt_area *area, struct iopt_pages *pages)
{
	struct iommufd_ext *ext = pages->ext;
	bool unmapped;

	lockdep_assert_held(&area->iopt->domains_rwsem);

	down_read(&ext->ops_rwsem);
	mutex_lock(&pages->mutex);
	ext_unfill_area(ext, area);
	list_del(&area->ext_elm);
	unmapped = list_empty(&ext->areas) && !ext->revoked;
	if (unmapped)
		WRITE_ONCE(ext->revoked, true);
	mutex_unlock(&pages->mutex);

	if (unmapped)
		ext->ops->unmapped(ext->priv);
	up_read(&ext->ops_rwsem);
}

/**
 * iopt_ext_read_and_clear_dirty() - Read the dirty bits of what was unmapped
 * @area: The area
 * @pages: The ext pages of the area
 * @domain: Domain to read
 * @iova: First IOVA, within the area
 * @length: Length, within the area
 * @flags: IOMMU_DIRTY_NO_CLEAR or zero
 * @dirty: Where to record them
 *
 * Adds the pages that were dirty when a change took them away to those that
 * read_and_clear_dirty() finds in the page table. They are read once, unless
 * IOMMU_DIRTY_NO_CLEAR, also if the pages are mapped again meanwhile. If the
 * range has a part of a page only then the page stays dirty.
 *
 * Context: Holds the ext mutex. No page of the user's bitmap is faulted, see
 * iova_bitmap_hold().
 */
void iopt_ext_read_and_clear_dirty(struct iopt_area *area,
				   struct iopt_pages *pages,
				   struct iommu_domain *domain,
				   unsigned long iova, size_t length,
				   unsigned long flags,
				   struct iommu_dirty_bitmap *dirty)
{
	unsigned long area_iova = iopt_area_iova(area);
	unsigned long first = iova - area_iova;
	unsigned long end = first + length;
	struct iommufd_ext_track *track;
	unsigned long start_bit;
	unsigned long end_bit;

	lockdep_assert_held(&pages->mutex);

	track = ext_find_track(pages->ext, area, domain);
	if (!track || !track->dirty)
		return;

	start_bit = first / PAGE_SIZE;
	for_each_set_bitrange_from(start_bit, end_bit, track->dirty,
				   DIV_ROUND_UP(end, PAGE_SIZE)) {
		unsigned long start = max(first, start_bit * PAGE_SIZE);
		unsigned long stop = min(end, end_bit * PAGE_SIZE);

		if (dirty->bitmap)
			iova_bitmap_set(dirty->bitmap, area_iova + start,
					stop - start);
	}

	if (flags & IOMMU_DIRTY_NO_CLEAR)
		return;
	start_bit = DIV_ROUND_UP(first, PAGE_SIZE);
	end_bit = end / PAGE_SIZE;
	if (start_bit < end_bit)
		bitmap_clear(track->dirty, start_bit, end_bit - start_bit);
}

/**
 * iopt_ext_first_area() - Find an area of ext pages in an iopt
 * @pages: The ext pages
 * @iopt: Where to look
 *
 * Return: The area, it stays as long as the caller holds domains_rwsem. NULL if
 * there is none.
 */
struct iopt_area *iopt_ext_first_area(struct iopt_pages *pages,
				      struct io_pagetable *iopt)
{
	struct list_head *elm;

	lockdep_assert_held_write(&iopt->domains_rwsem);

	guard(mutex)(&pages->mutex);
	list_for_each(elm, &pages->ext->areas)
		if (to_area(elm)->iopt == iopt)
			return to_area(elm);
	return NULL;
}

/* The last reference to the pages is gone */
void iopt_ext_release(struct iopt_pages *pages)
{
	struct iommufd_ext *ext = pages->ext;

	WARN_ON(!list_empty(&ext->areas));
	WARN_ON(!list_empty(&ext->tracks));
	WARN_ON(!list_empty(&ext->domains));
	kfree(ext);
}

/**
 * iommufd_ext_alloc() - Create an ext object
 * @ops: The provider
 * @priv: Passed to @ops
 * @npages: Number of pages, the indexes are [0, npages)
 * @writable: Areas of the object can have IOMMU_WRITE, those that user space
 *	makes by IOMMU_IOAS_COPY too
 * @max_leaf_size: No leaf is larger, a power of two that is at least PAGE_SIZE.
 *	Domains that cannot cut leaves are refused unless it is PAGE_SIZE.
 *
 * The object is not mapped anywhere. @ops are not called before
 * iommufd_ext_map(), and not anymore when iommufd_ext_unmap() has returned.
 *
 * Context: Process context of a task with an mm, may sleep.
 *
 * Return: The object, the caller owns a reference and drops it with
 * iommufd_ext_put(). ERR_PTR(-EINVAL) if @npages is zero, ERR_PTR(-EOVERFLOW) if
 * it is too large, ERR_PTR(-ENOMEM).
 */
struct iommufd_ext *iommufd_ext_alloc(const struct iommufd_ext_ops *ops,
				      void *priv, unsigned long npages,
				      bool writable, unsigned long max_leaf_size)
{
	static struct lock_class_key pages_ext_mutex_key;
	struct iopt_pages *pages;
	struct iommufd_ext *ext;
	unsigned long length;

	if (check_mul_overflow(npages, PAGE_SIZE, &length))
		return ERR_PTR(-EOVERFLOW);

	ext = kzalloc_obj(*ext, GFP_KERNEL_ACCOUNT);
	if (!ext)
		return ERR_PTR(-ENOMEM);

	pages = iopt_alloc_pages(0, length, writable);
	if (IS_ERR(pages)) {
		kfree(ext);
		return ERR_CAST(pages);
	}

	/*
	 * Several are held at once, under the lock of the provider. An ordinary
	 * pages mutex is held around mmap_lock, which a provider can take its
	 * lock under.
	 */
	lockdep_set_class(&pages->mutex, &pages_ext_mutex_key);

	/* Nothing is pinned */
	pages->account_mode = IOPT_PAGES_ACCOUNT_NONE;
	pages->type = IOPT_ADDRESS_EXT;
	pages->ext = ext;

	ext->pages = pages;
	ext->ops = ops;
	ext->priv = priv;
	ext->max_leaf_lg2 = ilog2(max_leaf_size);
	init_rwsem(&ext->ops_rwsem);
	INIT_LIST_HEAD(&ext->areas);
	INIT_LIST_HEAD(&ext->tracks);
	INIT_LIST_HEAD(&ext->domains);
	INIT_LIST_HEAD(&ext->txn_elm);
	return ext;
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_alloc, "IOMMUFD_EXT");

/**
 * iommufd_ext_put() - Drop the provider's reference to an ext object
 * @ext: The object. If it was ever mapped then iommufd_ext_unmap() has to have
 *	returned.
 *
 * Context: Process context, may sleep.
 */
void iommufd_ext_put(struct iommufd_ext *ext)
{
	iopt_put_pages(ext->pages);
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_put, "IOMMUFD_EXT");

/**
 * iommufd_ext_map() - Map an entire ext object into an IOAS
 * @ext: The object
 * @ictx: Context of the IOAS. All calls for an object need the same one. The
 *	caller holds a reference until iommufd_ext_unmap() has returned.
 * @ioas_id: ID of the IOAS
 * @iova: IOVA to map at if @fixed_iova. Otherwise the IOVA that was chosen is
 *	returned here.
 * @fixed_iova: Map at @iova
 * @iommu_prot: IOMMU_READ, IOMMU_WRITE or both
 *
 * Creates an area and fills it into every domain of the IOAS with what the
 * provider has. The area goes away by iommufd_ext_unmap(), when user space
 * unmaps all of it, or with the IOAS. User space can create more areas, of all
 * pages or a part, with IOMMU_IOAS_COPY.
 *
 * Context: Process context, may sleep. Takes domains_rwsem, iova_rwsem, the lock
 * of the provider through its ops, and the ext mutex, the caller must hold none
 * of them.
 *
 * Return: 0, or a negative errno with nothing changed:
 *
 * * -EINVAL: @iova is not aligned or reserved, @iommu_prot is not valid, or
 *   @ictx is another one
 * * -EOVERFLOW: The area does not fit behind @iova
 * * -ENOENT: There is no such IOAS
 * * -EEXIST: Something is mapped there
 * * -ENOSPC: There is no free IOVA range
 * * -EOPNOTSUPP: The IOAS has a domain that cannot have ext areas
 * * -ENODEV: All areas of @ext are gone already
 * * -ENOMEM
 */
int iommufd_ext_map(struct iommufd_ext *ext, struct iommufd_ctx *ictx,
		    u32 ioas_id, unsigned long *iova, bool fixed_iova,
		    int iommu_prot)
{
	struct iopt_pages *pages = ext->pages;
	struct iommufd_ioas *ioas;
	int rc;

	if (!iommu_prot || (iommu_prot & ~(IOMMU_READ | IOMMU_WRITE)))
		return -EINVAL;

	scoped_guard(mutex, &pages->mutex) {
		if (ext->ictx && ext->ictx != ictx)
			return -EINVAL;
		ext->ictx = ictx;
	}

	ioas = iommufd_get_ioas(ictx, ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);

	/* See conv_iommu_prot() for IOMMU_CACHE */
	rc = iopt_map_ext_pages(ictx, &ioas->iopt, pages, iova,
				iommu_prot | IOMMU_CACHE,
				fixed_iova ? 0 : IOPT_ALLOC_IOVA);
	iommufd_put_object(ictx, &ioas->obj);
	return rc;
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_map, "IOMMUFD_EXT");

/* Get the IOAS of any area that nobody is removing already */
static struct iommufd_ioas *ext_get_ioas(struct iommufd_ext *ext)
{
	struct list_head *elm;

	guard(mutex)(&ext->pages->mutex);
	list_for_each(elm, &ext->areas) {
		struct io_pagetable *iopt = to_area(elm)->iopt;
		struct iommufd_ioas *ioas;
		bool locked;

		ioas = container_of(iopt, struct iommufd_ioas, iopt);
		/*
		 * The memory of the IOAS stays while the area is on the list.
		 * If it is being destroyed then that removes the area.
		 */
		xa_lock(&ext->ictx->objects);
		locked = iommufd_lock_obj(&ioas->obj);
		xa_unlock(&ext->ictx->objects);
		if (locked)
			return ioas;
	}
	return NULL;
}

/**
 * iommufd_ext_unmap() - Unmap an ext object everywhere
 * @ext: The object
 *
 * On return no domain maps a page of the object, no IOTLB has one, and the ops
 * of the provider are not called anymore. The IOVA of all areas is free again,
 * unless the IOAS is being destroyed right now. The object cannot be mapped
 * again. Can be called again, and if the object was never mapped.
 *
 * User space that destroys the IOAS at the same time can see EBUSY.
 *
 * Context: Process context, may sleep. The caller must not hold the lock of the
 * provider or the ext mutex.
 */
void iommufd_ext_unmap(struct iommufd_ext *ext)
{
	struct iopt_pages *pages = ext->pages;
	struct iommufd_ext_track *track;
	struct iommufd_ext_domain *dom;
	struct iommufd_ioas *ioas;

	/*
	 * Nothing can be reached from here on, also not if the removal of the
	 * areas below has to wait. The tables go with the areas: dirty tracking
	 * can be reading them.
	 */
	down_write(&ext->ops_rwsem);
	mutex_lock(&pages->mutex);
	WRITE_ONCE(ext->revoked, true);
	list_for_each_entry(track, &ext->tracks, elm)
		ext_unmap_area(track, false);
	list_for_each_entry(dom, &ext->domains, elm)
		ext_sync_gathered(dom);
	mutex_unlock(&pages->mutex);
	up_write(&ext->ops_rwsem);

	/* No area can be added anymore, this ends */
	while ((ioas = ext_get_ioas(ext))) {
		iopt_unmap_ext_pages(&ioas->iopt, pages);
		iommufd_put_object(ext->ictx, &ioas->obj);
	}
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_unmap, "IOMMUFD_EXT");

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
		WARN_ON_ONCE(ext_sync_gathered(dom));

	list_del_init(&ext->txn_elm);
	mutex_unlock(&ext->pages->mutex);
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_unlock, "IOMMUFD_EXT");

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

		rc = ext_do_pieces(track, index, last,
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

	rc = ext_unmap_iova(track, ext_index_to_iova(track->area, first),
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

	for (lg2 = PAGE_SHIFT + EXT_LEVEL_LG2; lg2 <= track->max_leaf_lg2;
	     lg2 += EXT_LEVEL_LG2) {
		unsigned long mask = (1UL << lg2) - 1;
		unsigned long start = iova & ~mask;
		unsigned long stop = end | mask;
		unsigned int merges;

		if (start < iopt_area_iova(area))
			start += mask + 1;
		if (stop > iopt_area_last_iova(area))
			stop -= mask + 1;
		if (start >= stop || start < iopt_area_iova(area))
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
		if (ext_do_pieces(track, index, last,
				  run->pfn + (index - run->index),
				  GFP_NOWAIT | __GFP_NOWARN, ext_map_piece)) {
			atomic64_inc(&ext->failures);
			continue;
		}
		atomic64_add(last - index + 1, &ext->mapped);
		ext_merge(ext, track, index, last);
		cond_resched();
	}
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_map_run, "IOMMUFD_EXT");

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
			if (ext_sync_mapped(dom))
				atomic64_inc(&ext->failures);
			/* The last of them does it for all */
			other = ext_find_gathered(txn, ext, dom->domain);
			if (ext_is_gathered(dom) && other)
				ext_move_gathered(dom, other);
			else if (ext_sync_gathered(dom))
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
