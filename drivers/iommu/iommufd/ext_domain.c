// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ext area in the page table of one domain: its leaves, and what is to be synced
 * after they have changed. The callers have checked that the format of the domain
 * can do it, and hold the ext mutex.
 */
#include <linux/generic_pt/iommu.h>
#include <linux/iommu.h>
#include <linux/sched.h>
#include <linux/sizes.h>

#include "ext_pages.h"

static void ext_add_mapped(struct iommufd_ext_domain *dom, unsigned long iova,
			   unsigned long last_iova)
{
	dom->map_start = min(dom->map_start, iova);
	dom->map_last = max(dom->map_last, last_iova);
}

int iopt_ext_sync_mapped(struct iommufd_ext_domain *dom)
{
	int rc;

	if (dom->map_start > dom->map_last)
		return 0;
	rc = iommu_sync_map(dom->domain, dom->map_start,
			    dom->map_last - dom->map_start + 1);
	ext_reset_mapped(dom);
	return rc;
}

/* Returns true if there was something to sync */
bool iopt_ext_sync_gathered(struct iommufd_ext_domain *dom)
{
	if (!ext_is_gathered(dom))
		return false;
	iommu_iotlb_sync(dom->domain, &dom->gather);
	return true;
}

/* Returns -EINVAL if a leaf was left because it is not entirely in the range */
int iopt_ext_unmap_iova(struct iommufd_ext_track *track, unsigned long iova,
			unsigned long last_iova, bool free_tables,
			size_t *unmapped)
{
	struct pt_iommu_dirty_pages dirty = {
		.iova = iopt_area_iova(track->area),
		.bitmap = track->dirty,
	};

	return iommu_unmap_sparse(track->dom->domain, iova, last_iova - iova + 1,
				  free_tables, &track->dom->gather, unmapped,
				  track->dirty ? &dirty : NULL);
}

/*
 * Call fn for pieces of a run that end at multiples of 1G of IOVA. Those of a map
 * are those of its preallocation, as no leaf is larger.
 */
int iopt_ext_do_pieces(struct iommufd_ext_track *track, unsigned long index,
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

int iopt_ext_map_piece(struct iommufd_ext_track *track, unsigned long iova,
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
