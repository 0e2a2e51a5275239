/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_GMEM_STATE_H
#define __KVM_GMEM_STATE_H

#include <linux/guest_memfd.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct gmem_chunk;
struct rw_semaphore;

/**
 * struct gmem_state - Which pages of a guest_memfd are shared
 * @chunks: By number of the chunk: NULL, all pages are as @initially_shared says;
 *	a value, all pages are shared or all are private; or struct gmem_chunk
 * @unused: Chunks to be freed
 * @lock: The semaphore that serializes changes, the inode's invalidate lock
 * @nr_pages: Size of the file; 0 for files that are not convertible
 * @initially_shared: State of all pages of the new file
 */
struct gmem_state {
	struct xarray chunks;
	struct gmem_chunk *unused;
	struct rw_semaphore *lock;
	pgoff_t nr_pages;
	bool initially_shared;
};

void gmem_state_init_once(struct gmem_state *state, struct rw_semaphore *lock);
void gmem_state_init(struct gmem_state *state, pgoff_t nr_pages, bool shared);
void gmem_state_destroy(struct gmem_state *state);

bool gmem_state_is_shared(struct gmem_state *state, pgoff_t index);
bool gmem_state_next_run(struct gmem_state *state, pgoff_t start, pgoff_t last,
			 struct gmem_run *run);

int gmem_state_reserve(struct gmem_state *state, const struct gmem_run *run);
void gmem_state_store(struct gmem_state *state, const struct gmem_run *run);
void gmem_state_free_unused(struct gmem_state *state);

int gmem_merge_ranges(struct gmem_run *ranges, unsigned long *nr);
unsigned long gmem_state_diff(struct gmem_state *state,
			      const struct gmem_run *ranges, unsigned long nr,
			      struct gmem_run *runs, unsigned long max_runs);

#endif /* __KVM_GMEM_STATE_H */
