/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What user space can observe of a convertible guest_memfd, to be compared with
 * a model or with itself: "nothing changed" is gmem_state_diff() == -1.
 *
 * Two independent views are read and must agree: what a host access does, and
 * the runs of a binding.
 */
#ifndef SELFTESTS_GMEM_IOMMU_STATE_H
#define SELFTESTS_GMEM_IOMMU_STATE_H

#include <stddef.h>

#include <linux/types.h>

#define GMEM_STATE_MAX_PAGES	2048

/**
 * struct gmem_state - All pages of a file
 * @npages: Number of pages
 * @generation: Of the runs of the binding that was asked, or 0
 * @page: enum page_state of each page
 * @hash: Of the contents of each page; 0 if it is private
 */
struct gmem_state {
	size_t npages;
	__u64 generation;
	__u8 page[GMEM_STATE_MAX_PAGES];
	__u64 hash[GMEM_STATE_MAX_PAGES];
};

/*
 * Read the state of the @npages at @mem, the host mapping of a whole file.
 * @binding is a mirror_bind() of the whole file, or -1 to look from the host
 * only. Touches, and so allocates, every shared page. Returns "", or what is
 * wrong, in a buffer that is valid until the thread's next call.
 */
const char *gmem_state_read(struct gmem_state *state, int binding,
			    const __u8 *mem, size_t npages);

/*
 * The same of some pages only, as the host sees them: @state->page[i] is what
 * @pages[i] is. They are in ascending order.
 */
const char *gmem_state_read_some(struct gmem_state *state, const __u8 *mem,
				 const size_t *pages, size_t npages);

/* How many of the @npages, which are in ascending order and not none, begin as a row. */
size_t gmem_pages_in_a_row(const size_t *pages, size_t npages);

/* The first page that differs, or -1. Generations are not compared. */
long gmem_state_diff(const struct gmem_state *a, const struct gmem_state *b);

/*
 * Pages of the file that have memory, shared or private; allocates none. -errno
 * on error.
 */
long gmem_nr_resident(__u8 *mem, size_t npages);

/* Generation number of a binding, or 0. */
__u64 mirror_generation(int binding);

/* Open file descriptors of this process. */
int count_open_fds(void);

#endif /* SELFTESTS_GMEM_IOMMU_STATE_H */
