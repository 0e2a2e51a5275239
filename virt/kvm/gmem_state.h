/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_GMEM_STATE_H
#define __KVM_GMEM_STATE_H

#include <linux/guest_memfd.h>
#include <linux/maple_tree.h>
#include <linux/types.h>

/**
 * struct gmem_state - Which pages of a guest_memfd are shared
 * @mt: Page index to state; covers the whole file with entries that are never
 *	NULL. Neighbouring entries may have the same state.
 * @lock: The semaphore that serializes changes, the inode's invalidate lock
 * @nr_pages: Size of the file; 0 for files that are not convertible
 */
struct gmem_state {
	struct maple_tree mt;
	struct rw_semaphore *lock;
	pgoff_t nr_pages;
};

void gmem_state_init_once(struct gmem_state *state, struct rw_semaphore *lock);
int gmem_state_init(struct gmem_state *state, pgoff_t nr_pages, bool shared);
void gmem_state_destroy(struct gmem_state *state);

bool gmem_state_is_shared(struct gmem_state *state, pgoff_t index);
bool gmem_state_next_run(struct gmem_state *state, pgoff_t start, pgoff_t last,
			 struct gmem_run *run);

int gmem_state_reserve(struct gmem_state *state, const struct gmem_run *run);
void gmem_state_store(struct gmem_state *state, const struct gmem_run *run);
void gmem_state_coalesce(struct gmem_state *state, const struct gmem_run *run);

int gmem_merge_ranges(struct gmem_run *ranges, unsigned long *nr);
unsigned long gmem_state_diff(struct gmem_state *state,
			      const struct gmem_run *ranges, unsigned long nr,
			      struct gmem_run *runs);

#endif /* __KVM_GMEM_STATE_H */
