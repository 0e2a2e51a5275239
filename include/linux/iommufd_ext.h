/* SPDX-License-Identifier: GPL-2.0-only */
/**
 * DOC: iommufd ext pages
 *
 * Areas of an IOAS whose PFNs come from a provider in the
 * kernel and may have holes.
 *
 * An ordinary area pins its pages for as long as it exists. An ext area pins
 * nothing: the provider says which indexes have a PFN, and takes a PFN back by
 * having it unmapped from every domain before it uses the memory otherwise. The
 * provider stays the only source of truth; iommufd keeps no copy of the set.
 *
 * Lock order::
 *
 *   iopt.domains_rwsem > iopt.iova_rwsem > the provider's lock (@begin) > ext mutex
 *
 * A provider that changes its set holds its own lock, in any mode, and then takes
 * the ext mutex with iommufd_ext_lock(). The mutex is held from the preparation
 * of a change to its end, so no domain can come or go in between.
 *
 * Nothing that a device wrote is forgotten by dirty tracking: a page that is dirty
 * when it is taken back is reported by the next IOMMU_HWPT_GET_DIRTY_BITMAP, as
 * if it were mapped still. In a domain with dirty tracking this costs one bit for
 * each page of an area. When the area goes, or the domain, then they are gone,
 * like those of other areas.
 */
#ifndef __LINUX_IOMMUFD_EXT_H
#define __LINUX_IOMMUFD_EXT_H

#include <linux/err.h>
#include <linux/list.h>
#include <linux/types.h>

struct iommufd_ctx;
struct iommufd_ext;
struct lockdep_map;

/**
 * struct iommufd_ext_run - Physically contiguous PFNs of an ext object
 * @index: First page index
 * @nr: Number of pages
 * @pfn: PFN of the first page
 */
struct iommufd_ext_run {
	unsigned long index;
	unsigned long nr;
	unsigned long pfn;
};

/**
 * struct iommufd_ext_txn - A change of one or several ext objects
 * @exts: Private
 */
struct iommufd_ext_txn {
	struct list_head exts;
};

/**
 * struct iommufd_ext_ops - What a provider implements
 * @begin: Take the lock that keeps the set and its PFNs stable (for example
 *	shared). May sleep. Called with domains_rwsem held, and with iova_rwsem
 *	when it is a domain that is attached.
 * @end: Release what @begin took
 * @next_run: Find the first run at or after @index, clipped to [@index, @last].
 *	Returns false when there is none. Called between @begin and @end with the
 *	ext mutex held; must not sleep for memory.
 * @unmapped: The last area of the object has been removed from its IOAS by
 *	something else than iommufd_ext_unmap(): by IOMMU_IOAS_UNMAP or the
 *	destruction of the IOAS. Called with domains_rwsem held, without the ext
 *	mutex; must not take the provider's lock, nor wait for anyone who calls
 *	iommufd_ext_unmap(). Another area may follow through IOMMU_IOAS_COPY only
 *	while an area exists, so this is final and happens at most once.
 */
struct iommufd_ext_ops {
	void (*begin)(void *priv);
	void (*end)(void *priv);
	bool (*next_run)(void *priv, unsigned long index, unsigned long last,
			 struct iommufd_ext_run *run);
	void (*unmapped)(void *priv);
};

/**
 * struct iommufd_ext_stats - What was done in page tables by the commit calls
 * @mapped: Pages mapped, summed over (area, domain) pairs
 * @unmapped: Pages unmapped, likewise
 * @syncs: IOTLB syncs of a domain. One that was done for several objects counts
 *	in one of them.
 * @cuts: Leaves that were replaced by smaller ones
 * @merges: Page tables that were replaced by a leaf
 * @failures: Runs that a driver refused to map, or to unmap alone, against its
 *	word: see iommufd_ext_map_run()
 */
struct iommufd_ext_stats {
	u64 mapped;
	u64 unmapped;
	u64 syncs;
	u64 cuts;
	u64 merges;
	u64 failures;
};

struct iommufd_ext *iommufd_ext_alloc(const struct iommufd_ext_ops *ops,
				      void *priv, unsigned long npages,
				      bool writable,
				      unsigned long max_leaf_size);
int iommufd_ext_map(struct iommufd_ext *ext, struct iommufd_ctx *ictx,
		    u32 ioas_id, unsigned long *iova, bool fixed_iova,
		    int iommu_prot);
void iommufd_ext_unmap(struct iommufd_ext *ext);
void iommufd_ext_put(struct iommufd_ext *ext);

void iommufd_ext_txn_init(struct iommufd_ext_txn *txn);
void iommufd_ext_lock(struct iommufd_ext *ext, struct lockdep_map *nest);
void iommufd_ext_join(struct iommufd_ext *ext, struct iommufd_ext_txn *txn);
void iommufd_ext_unlock(struct iommufd_ext *ext);
int iommufd_ext_prepare_map(struct iommufd_ext *ext,
			    const struct iommufd_ext_run *run);
int iommufd_ext_prepare_unmap(struct iommufd_ext *ext, unsigned long index,
			      unsigned long nr);
void iommufd_ext_unmap_range(struct iommufd_ext *ext, unsigned long index,
			     unsigned long nr);
void iommufd_ext_revoke_range(struct iommufd_ext *ext, unsigned long index,
			      unsigned long nr);
void iommufd_ext_map_run(struct iommufd_ext *ext,
			 const struct iommufd_ext_run *run);
void iommufd_ext_sync(struct iommufd_ext_txn *txn);
void iommufd_ext_get_stats(struct iommufd_ext *ext,
			   struct iommufd_ext_stats *stats);

#endif /* __LINUX_IOMMUFD_EXT_H */
