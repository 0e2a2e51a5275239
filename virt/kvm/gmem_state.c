// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shareability of a guest_memfd: which page is shared and which is private.
 *
 * The state is a set of runs in a maple tree, so its size follows the number of
 * runs and not the number of pages. Writers hold the inode's invalidate lock
 * exclusively, readers of runs hold it in any mode, and a single page can be
 * looked up under RCU.
 *
 * A change must not fail once it has been decided. A maple tree stores without
 * allocating exactly then when an entry with the same bounds exists, so a change
 * has two steps: gmem_state_reserve() cuts the entries at the bounds of a run,
 * which may fail and changes no state, and gmem_state_store() exchanges the
 * entry. gmem_state_coalesce() joins equal neighbours afterwards; when there is
 * no memory for that they stay apart, which costs memory and nothing else:
 * everything that reads runs joins them.
 */
#include <linux/kernel.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/xarray.h>

#include "gmem_state.h"

enum {
	GMEM_ENTRY_PRIVATE,
	GMEM_ENTRY_SHARED,
};

static void *gmem_entry(bool shared)
{
	return xa_mk_value(shared ? GMEM_ENTRY_SHARED : GMEM_ENTRY_PRIVATE);
}

static bool gmem_entry_is_shared(void *entry)
{
	return entry == gmem_entry(true);
}

/**
 * gmem_state_init_once - Make a state that belongs to no file yet
 * @state: State to initialize; gmem_state_destroy() accepts it
 * @lock: The semaphore that will serialize changes
 */
void gmem_state_init_once(struct gmem_state *state, struct rw_semaphore *lock)
{
	mt_init_flags(&state->mt, MT_FLAGS_LOCK_EXTERN | MT_FLAGS_USE_RCU);
	mt_set_external_lock(&state->mt, lock);
	state->lock = lock;
	state->nr_pages = 0;
}

/**
 * gmem_state_init - Give all pages of a new file their initial state
 * @state: State made by gmem_state_init_once()
 * @nr_pages: Size of the file, not 0
 * @shared: Initial state
 *
 * Context: Takes the lock of the state.
 * Return: 0 or -ENOMEM.
 */
int gmem_state_init(struct gmem_state *state, pgoff_t nr_pages, bool shared)
{
	MA_STATE(mas, &state->mt, 0, nr_pages - 1);
	int ret;

	down_write(state->lock);
	ret = mas_store_gfp(&mas, gmem_entry(shared), GFP_KERNEL_ACCOUNT);
	if (!ret)
		state->nr_pages = nr_pages;
	up_write(state->lock);
	return ret;
}

/**
 * gmem_state_destroy - Free what the state holds
 * @state: State that nobody reads any more
 *
 * Context: Takes the lock of the state.
 */
void gmem_state_destroy(struct gmem_state *state)
{
	if (!state->nr_pages)
		return;

	down_write(state->lock);
	__mt_destroy(&state->mt);
	up_write(state->lock);
}

/**
 * gmem_state_is_shared - Look up one page
 * @state: State of a convertible file
 * @index: Page of the file
 *
 * Context: Any. Without the lock of the state the answer may be outdated when
 *	the caller gets it.
 * Return: Whether the page is shared.
 */
bool gmem_state_is_shared(struct gmem_state *state, pgoff_t index)
{
	return gmem_entry_is_shared(mtree_load(&state->mt, index));
}

/**
 * gmem_state_next_run - Find the run that contains a page
 * @state: State of a convertible file
 * @start: First page of the run
 * @last: The run is clipped to end here, inclusive
 * @run: Out: from @start to the last page of equal state
 *
 * Context: The lock of the state is held.
 * Return: False when @start is beyond @last or the file.
 */
bool gmem_state_next_run(struct gmem_state *state, pgoff_t start, pgoff_t last,
			 struct gmem_run *run)
{
	MA_STATE(mas, &state->mt, start, start);
	void *first, *entry;

	lockdep_assert_held(state->lock);

	if (start >= state->nr_pages || start > last)
		return false;
	last = min(last, state->nr_pages - 1);

	first = mas_find(&mas, last);
	run->start = start;
	run->shared = gmem_entry_is_shared(first);
	do {
		run->last = min(mas.last, last);
		entry = mas_find(&mas, last);
	} while (entry == first && run->last < last);
	return true;
}

/**
 * gmem_state_reserve - Make sure that storing a run needs no memory
 * @state: State of a convertible file
 * @run: A run whose pages all have the same state; @run->shared is not used
 *
 * Changes no state. There is nothing to undo when the change is given up, but
 * gmem_state_coalesce() gives the memory back.
 *
 * Context: The lock of the state is held exclusively. May sleep.
 * Return: 0 or -ENOMEM.
 */
int gmem_state_reserve(struct gmem_state *state, const struct gmem_run *run)
{
	MA_STATE(mas, &state->mt, run->start, run->last);
	bool shared = gmem_state_is_shared(state, run->start);

	lockdep_assert_held_write(state->lock);
	return mas_store_gfp(&mas, gmem_entry(shared), GFP_KERNEL_ACCOUNT);
}

/**
 * gmem_state_store - Change the state of a reserved run
 * @state: State of a convertible file
 * @run: Run for which gmem_state_reserve() succeeded under the same hold of the
 *	lock, with the new state
 *
 * Allocates nothing and cannot fail: the entry has the bounds of the run.
 *
 * Context: The lock of the state is held exclusively.
 */
void gmem_state_store(struct gmem_state *state, const struct gmem_run *run)
{
	MA_STATE(mas, &state->mt, run->start, run->last);

	lockdep_assert_held_write(state->lock);
	mas_store(&mas, gmem_entry(run->shared));
}

/**
 * gmem_state_coalesce - Join a run with its neighbours of equal state
 * @state: State of a convertible file
 * @run: Run with the state that it has now
 *
 * Saves memory when there is memory for it; readers see no difference.
 *
 * Context: The lock of the state is held exclusively. May sleep.
 */
void gmem_state_coalesce(struct gmem_state *state, const struct gmem_run *run)
{
	MA_STATE(mas, &state->mt, run->start, run->start);
	void *entry = gmem_entry(gmem_state_is_shared(state, run->start));
	pgoff_t start = run->start;
	pgoff_t last = run->last;

	lockdep_assert_held_write(state->lock);

	if (start) {
		mas_set(&mas, start - 1);
		if (mas_walk(&mas) == entry)
			start = mas.index;
	}
	if (last < state->nr_pages - 1) {
		mas_set(&mas, last + 1);
		if (mas_walk(&mas) == entry)
			last = mas.last;
	}
	if (start == run->start && last == run->last) {
		mas_set(&mas, start);
		mas_walk(&mas);
		if (mas.index == start && mas.last == last)
			return;
	}

	mas_set_range(&mas, start, last);
	mas_store_gfp(&mas, entry, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
}

static int gmem_run_cmp(const void *a, const void *b)
{
	const struct gmem_run *ra = a, *rb = b;

	if (ra->start != rb->start)
		return ra->start < rb->start ? -1 : 1;
	return 0;
}

/**
 * gmem_merge_ranges - Sort ranges and join those that touch or overlap
 * @ranges: Ranges with their targets in @shared; rewritten in place
 * @nr: In: their number, not 0; out: how many are left
 *
 * Context: Any. Pure.
 * Return: 0, or -EINVAL when ranges with different targets overlap.
 */
int gmem_merge_ranges(struct gmem_run *ranges, unsigned long *nr)
{
	unsigned long i, out = 0;

	sort(ranges, *nr, sizeof(*ranges), gmem_run_cmp, NULL);

	for (i = 1; i < *nr; i++) {
		struct gmem_run *prev = &ranges[out];

		if (ranges[i].start <= prev->last &&
		    ranges[i].shared != prev->shared)
			return -EINVAL;
		if (ranges[i].start <= prev->last + 1 &&
		    ranges[i].shared == prev->shared)
			prev->last = max(prev->last, ranges[i].last);
		else
			ranges[++out] = ranges[i];
	}
	*nr = out + 1;
	return 0;
}

/**
 * gmem_state_diff - Compute the runs that a request changes
 * @state: State of a convertible file
 * @ranges: Ranges of the request, merged by gmem_merge_ranges()
 * @nr: Number of @ranges
 * @runs: Out: the runs whose state differs from their target, ascending, with
 *	the target in @shared; NULL to only count them
 *
 * Context: The lock of the state is held. May sleep.
 * Return: Number of runs.
 */
unsigned long gmem_state_diff(struct gmem_state *state,
			      const struct gmem_run *ranges, unsigned long nr,
			      struct gmem_run *runs)
{
	unsigned long i, nr_runs = 0;
	struct gmem_run run;
	pgoff_t index;

	for (i = 0; i < nr; i++) {
		index = ranges[i].start;
		while (gmem_state_next_run(state, index, ranges[i].last, &run)) {
			index = run.last + 1;
			if (run.shared == ranges[i].shared)
				continue;
			if (runs) {
				run.shared = ranges[i].shared;
				runs[nr_runs] = run;
			}
			nr_runs++;
			cond_resched();
		}
	}
	return nr_runs;
}
