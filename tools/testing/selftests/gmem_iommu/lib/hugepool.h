/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The hugetlb pool as sysfs shows it, and the folios behind physical pages as
 * /proc/kpageflags shows them.
 */
#ifndef SELFTESTS_GMEM_IOMMU_HUGEPOOL_H
#define SELFTESTS_GMEM_IOMMU_HUGEPOOL_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#define SIZE_2M		0x200000UL
#define SIZE_1G		0x40000000UL

/**
 * struct hugepool - Counters of the huge pages of one size
 * @nr: All of them
 * @free: Not in use
 * @resv: Of @free, promised to somebody
 * @surplus: More than were asked for
 */
struct hugepool {
	long nr;
	long free;
	long resv;
	long surplus;
};

/* -ENOENT: the kernel has no huge pages of that size. */
int hugepool_read(size_t page_size, struct hugepool *pool);

/* Free huge pages of a NUMA node, or -ENOENT. */
long hugepool_node_free(size_t page_size, int node);

/* Change the size of the pool; -ENOMEM if there are not as many now. */
int hugepool_resize(size_t page_size, long nr);

/*
 * Replace the pages of the pool, which have to be free, by such whose vmemmap is
 * optimized or not. -ENOENT: the kernel cannot optimize it.
 */
int hugepool_optimize(size_t page_size, bool optimize);

/* Whether it is for new pages: 0, 1 or -errno. */
int hugepool_is_optimized(void);

/**
 * struct folio_map - What a range of physical memory consists of
 * @huge: Folios of hugetlb
 * @large: Folios of 2 MiB that are not
 * @small: Single pages
 * @other: Pages of folios of another size
 */
struct folio_map {
	size_t huge;
	size_t large;
	size_t small;
	size_t other;
};

/* Needs root. */
int folio_map_read(__u64 pfn, size_t size, struct folio_map *map);

#endif /* SELFTESTS_GMEM_IOMMU_HUGEPOOL_H */
