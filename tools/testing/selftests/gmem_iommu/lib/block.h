/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of a guest_memfd that one 2 MiB leaf of an IOMMU can map.
 */
#ifndef SELFTESTS_GMEM_IOMMU_BLOCK_H
#define SELFTESTS_GMEM_IOMMU_BLOCK_H

#include <stddef.h>

#include "gmem_vm.h"

#define BLOCK_PAGES	512UL
#define BLOCK_SIZE	(BLOCK_PAGES * GMEM_PAGE_SIZE)

/*
 * Create a VM with a shared file of @size bytes, all of which has memory, where the
 * BLOCK_PAGES pages from @page on are physically contiguous and aligned. The block
 * is not aligned in the file. Needs root. Returns 0; -ENOSPC if the memory of this
 * machine is in too small pieces; or another negative errno. Nothing is left open
 * on error.
 */
int block_create(struct gmem_vm *vm, size_t size, size_t page);

#endif /* SELFTESTS_GMEM_IOMMU_BLOCK_H */
