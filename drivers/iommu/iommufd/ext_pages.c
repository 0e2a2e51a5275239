// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ext pages are an iopt_pages whose PFNs come from a provider in the kernel. Here
 * are the objects and their areas, which come and go with domains; ext_change.c has
 * what the provider changes of them, ext_domain.c what both do to page tables.
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
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "ext_pages.h"
#include "io_pagetable.h"
#include "iommufd_private.h"

/*
 * A fill lets changes of the set in whenever it gets to a multiple of this IOVA, or
 * of the largest leaf.
 */
#define EXT_BATCH_SIZE	SZ_2M

/* The same when it looks for the next page behind pages that are not mapped */
#define EXT_SKIP_SIZE	(64UL * SZ_1G)

static struct iopt_area *to_area(struct list_head *elm)
{
	return container_of(elm, struct iopt_area, ext_elm);
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

/* As in iommu_unmap_nofail() a failure is a logic error or a driver bug */
static void ext_unmap_area(struct iommufd_ext_track *track, bool free_tables)
{
	struct iopt_area *area = track->area;
	size_t unmapped = 0;

	WARN_ON(iopt_ext_unmap_iova(track, iopt_area_iova(area),
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

	ext_unmap_area(track, true);
	iopt_ext_sync_gathered(dom);
	ext_reset_mapped(dom);

	list_del(&track->elm);
	kvfree(track->dirty);
	kfree(track);
	ext_put_domain(dom);
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

/* Pass over a batch that has nothing, and those that follow up to one that has */
static void ext_skip_batches(struct iommufd_ext *ext,
			     struct iommufd_ext_track *track)
{
	unsigned long last = iopt_area_last_index(track->area);
	unsigned long size = max(EXT_BATCH_SIZE, BIT(track->max_leaf_lg2));
	unsigned long skip = max(EXT_SKIP_SIZE, size) / PAGE_SIZE;
	struct iommufd_ext_run run;
	unsigned long iova;

	if (track->end > last)
		return;
	last = min(last, track->end + skip - 1);
	if (!ext->ops->next_run(ext->priv, track->end, last, &run)) {
		track->end = last + 1;
		return;
	}
	iova = ext_index_to_iova(track->area, run.index) & ~(size - 1);
	if (iova > ext_index_to_iova(track->area, track->end))
		track->end = ext_iova_to_index(track->area, iova);
}

static int ext_map_batch(struct iommufd_ext *ext,
			 struct iommufd_ext_track *track)
{
	unsigned long last = ext_batch_end(track) - 1;
	unsigned long first = track->end;
	unsigned long index = first;
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

		rc = iopt_ext_do_pieces(track, run.index, run.index + run.nr - 1,
					run.pfn, GFP_KERNEL_ACCOUNT, iopt_ext_map_piece);
		if (rc)
			return rc;
		index = run.index + run.nr;
	}
	if (index == first)
		ext_skip_batches(ext, track);
	iopt_ext_sync_gathered(track->dom);
	return iopt_ext_sync_mapped(track->dom);
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
	/* What IOMMU_OPTION_HUGE_PAGES becomes later is for domains that come later */
	track->max_leaf_lg2 = area->iopt->disable_large_pages ?
				      PAGE_SHIFT : ext->max_leaf_lg2;

	if (domain->dirty_ops) {
		/* User space says how large it is */
		track->dirty = kvcalloc(BITS_TO_LONGS(npages), sizeof(long),
					GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
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

/*
 * Whether the domain can map for what the area allows. To see that when the first page
 * appears would be too late. All formats can for both reading and writing.
 */
static int ext_probe_prot(struct iommufd_ext_track *track)
{
	struct iopt_area *area = track->area;
	int rc;

	if (!(~area->iommu_prot & (IOMMU_READ | IOMMU_WRITE)))
		return 0;
	rc = iommu_prealloc_range(track->dom->domain, iopt_area_iova(area), 0,
				  PAGE_SIZE, PAGE_SHIFT, area->iommu_prot,
				  GFP_KERNEL_ACCOUNT);
	return rc == -EINVAL ? -EOPNOTSUPP : rc;
}

/* With the provider's set stable. On failure nothing is mapped or tracked. */
static int ext_fill_batch(struct iommufd_ext *ext, struct iopt_area *area,
			  struct iommu_domain *domain,
			  struct iommufd_ext_track **track)
{
	int rc = 0;

	if (!*track) {
		struct iommufd_ext_track *new;

		if (WARN_ON(ext_find_track(ext, area, domain)))
			return -EINVAL;
		new = ext_alloc_track(ext, area, domain);
		if (IS_ERR(new))
			return PTR_ERR(new);
		list_add_tail(&new->elm, &ext->tracks);
		*track = new;
		rc = ext_probe_prot(new);
	}

	/* The last other area can have gone meanwhile */
	if (ext->revoked)
		rc = -ENODEV;
	else if (fatal_signal_pending(current))
		rc = -EINTR;
	else if (!rc)
		rc = ext_map_batch(ext, *track);
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
	/* bitmap_clear() takes 32 bits */
	if (start_bit < end_bit)
		bitmap_clear(track->dirty + BIT_WORD(start_bit),
			     start_bit % BITS_PER_LONG, end_bit - start_bit);
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
 * * -EOPNOTSUPP: The IOAS has a domain that cannot have ext areas, or not with
 *   @iommu_prot
 * * -ENODEV: All areas of @ext are gone already
 * * -EINTR: The task is being killed
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
		iopt_ext_sync_gathered(dom);
	mutex_unlock(&pages->mutex);
	up_write(&ext->ops_rwsem);

	/* No area can be added anymore, this ends */
	while ((ioas = ext_get_ioas(ext))) {
		iopt_unmap_ext_pages(&ioas->iopt, pages);
		iommufd_put_object(ext->ictx, &ioas->obj);
	}
}
EXPORT_SYMBOL_NS_GPL(iommufd_ext_unmap, "IOMMUFD_EXT");
