/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ext objects as the three files that make them see them: see ext_pages.c.
 */
#ifndef __IOMMUFD_EXT_PAGES_H
#define __IOMMUFD_EXT_PAGES_H

#include <linux/iommu.h>
#include <linux/iommufd_ext.h>
#include <linux/list.h>
#include <linux/rwsem.h>

#include "io_pagetable.h"

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

static inline unsigned long ext_index_to_iova(struct iopt_area *area,
					      unsigned long index)
{
	return iopt_area_iova(area) +
	       (index - iopt_area_index(area)) * PAGE_SIZE;
}

static inline unsigned long ext_iova_to_index(struct iopt_area *area,
					      unsigned long iova)
{
	return iopt_area_index(area) +
	       (iova - iopt_area_iova(area)) / PAGE_SIZE;
}

/* Clip [index, index + nr) to what is filled, returns false if nothing is left */
static inline bool ext_clip(struct iommufd_ext_track *track, unsigned long index,
			    unsigned long nr, unsigned long *first,
			    unsigned long *last)
{
	if (!nr || track->end == iopt_area_index(track->area))
		return false;
	*first = max(index, iopt_area_index(track->area));
	*last = min(index + nr - 1, track->end - 1);
	return *first <= *last;
}

static inline void ext_reset_mapped(struct iommufd_ext_domain *dom)
{
	dom->map_start = ULONG_MAX;
	dom->map_last = 0;
}

static inline bool ext_is_gathered(struct iommufd_ext_domain *dom)
{
	return dom->gather.start < dom->gather.end;
}

typedef int (*ext_piece_fn)(struct iommufd_ext_track *track, unsigned long iova,
			    phys_addr_t paddr, size_t size, gfp_t gfp);

/* ext_domain.c */
int iopt_ext_do_pieces(struct iommufd_ext_track *track, unsigned long index,
		       unsigned long last, unsigned long pfn, gfp_t gfp,
		       ext_piece_fn fn);
int iopt_ext_map_piece(struct iommufd_ext_track *track, unsigned long iova,
		       phys_addr_t paddr, size_t size, gfp_t gfp);
int iopt_ext_unmap_iova(struct iommufd_ext_track *track, unsigned long iova,
			unsigned long last_iova, bool free_tables,
			size_t *unmapped);
int iopt_ext_sync_mapped(struct iommufd_ext_domain *dom);
bool iopt_ext_sync_gathered(struct iommufd_ext_domain *dom);

#endif
