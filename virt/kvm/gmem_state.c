// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shareability of a guest_memfd: which page is shared and which is private.
 *
 * The file is cut into chunks of 2 MiB. Most have only pages of one state, and
 * are a value in an xarray, or nothing at all if it is the state that the file
 * was created with. A chunk that has both, or had, is a bitmap: 96 bytes, so the
 * state of 1 GiB takes 48 KiB at most, in whatever pattern it is converted. The
 * cost of a change does not depend on the number of runs.
 *
 * Writers hold the inode's invalidate lock exclusively, readers of runs hold it in
 * any mode, and a single page can be looked up under RCU.
 *
 * A change must not fail once it has been decided, so it has two steps:
 * gmem_state_reserve() makes the bitmaps and the slots that a run needs, which may
 * fail and changes no state, and gmem_state_store() then only writes to them.
 */
#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/find.h>
#include <linux/kernel.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_wait.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/xarray.h>

#include "gmem_state.h"

#define GMEM_CHUNK_SHIFT	9
#define GMEM_CHUNK_PAGES	BIT(GMEM_CHUNK_SHIFT)

/**
 * struct gmem_chunk - The pages of a chunk, one by one
 * @next: On the list of unused chunks; single lookups can still be reading @shared
 * @rcu: To free it
 * @shared: One bit per page
 */
struct gmem_chunk {
	union {
		struct gmem_chunk *next;
		struct rcu_head rcu;
	};
	DECLARE_BITMAP(shared, GMEM_CHUNK_PAGES);
};

/* An entry of the xarray that stands for a whole chunk. */
static bool gmem_entry_is_uniform(void *entry)
{
	return !entry || xa_is_value(entry);
}

static bool gmem_entry_is_shared(struct gmem_state *state, void *entry)
{
	return entry ? xa_to_value(entry) : state->initially_shared;
}

/* The entry that has page @index. */
static void *gmem_load_chunk(struct gmem_state *state, pgoff_t index)
{
	return xa_load(&state->chunks, index >> GMEM_CHUNK_SHIFT);
}

static bool gmem_chunk_is_shared(struct gmem_state *state,
				 struct gmem_chunk *chunk, pgoff_t index)
{
	if (gmem_entry_is_uniform(chunk))
		return gmem_entry_is_shared(state, chunk);
	return test_bit(index % GMEM_CHUNK_PAGES, chunk->shared);
}

/* The first page of the file at or after @index that is not in the chunk. */
static pgoff_t gmem_chunk_end(struct gmem_state *state, pgoff_t index)
{
	return min(round_down(index, GMEM_CHUNK_PAGES) + GMEM_CHUNK_PAGES,
		   state->nr_pages);
}

/**
 * gmem_state_init_once - Make a state that belongs to no file yet
 * @state: State to initialize; gmem_state_destroy() accepts it
 * @lock: The semaphore that will serialize changes
 */
void gmem_state_init_once(struct gmem_state *state, struct rw_semaphore *lock)
{
	xa_init_flags(&state->chunks, XA_FLAGS_ACCOUNT);
	state->unused = NULL;
	state->lock = lock;
	state->nr_pages = 0;
}

/**
 * gmem_state_init - Give all pages of a new file their initial state
 * @state: State made by gmem_state_init_once()
 * @nr_pages: Size of the file, not 0
 * @shared: Initial state
 */
void gmem_state_init(struct gmem_state *state, pgoff_t nr_pages, bool shared)
{
	state->initially_shared = shared;
	state->nr_pages = nr_pages;
}

/**
 * gmem_state_destroy - Free what the state holds
 * @state: State that nobody reads any more
 */
void gmem_state_destroy(struct gmem_state *state)
{
	unsigned long index;
	void *entry;

	xa_for_each(&state->chunks, index, entry)
		if (!gmem_entry_is_uniform(entry))
			kfree(entry);
	xa_destroy(&state->chunks);
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
	guard(rcu)();

	return gmem_chunk_is_shared(state, gmem_load_chunk(state, index), index);
}

/* The first page from @index to @end, of the chunk, that is not @shared, or @end. */
static pgoff_t gmem_chunk_next(struct gmem_state *state,
			       struct gmem_chunk *chunk, pgoff_t index,
			       pgoff_t end, bool shared)
{
	unsigned long bit = index % GMEM_CHUNK_PAGES;

	if (gmem_entry_is_uniform(chunk))
		return gmem_entry_is_shared(state, chunk) == shared ? end : index;

	if (shared)
		bit = find_next_zero_bit(chunk->shared, GMEM_CHUNK_PAGES, bit);
	else
		bit = find_next_bit(chunk->shared, GMEM_CHUNK_PAGES, bit);
	return min(round_down(index, GMEM_CHUNK_PAGES) + bit, end);
}

/*
 * The chunk after @chunk; it has page *@index. After one that has the state that the file
 * began with all others of that state are skipped, and *@index moves on.
 */
static struct gmem_chunk *gmem_next_chunk(struct xa_state *xas,
					  struct gmem_chunk *chunk,
					  pgoff_t *index, pgoff_t last)
{
	if (need_resched()) {
		cond_resched_rcu();
		xas_set(xas, *index >> GMEM_CHUNK_SHIFT);
		return xas_load(xas);
	}
	if (chunk)
		return xas_next(xas);

	chunk = xas_find(xas, last >> GMEM_CHUNK_SHIFT);
	*index = chunk ? xas->xa_index << GMEM_CHUNK_SHIFT : last + 1;
	return chunk;
}

/**
 * gmem_state_next_run - Find the run that contains a page
 * @state: State of a convertible file
 * @start: First page of the run
 * @last: The run is clipped to end here, inclusive
 * @run: Out: from @start to the last page of equal state
 *
 * Context: The lock of the state is held. May sleep.
 * Return: False when @start is beyond @last or the file.
 */
bool gmem_state_next_run(struct gmem_state *state, pgoff_t start, pgoff_t last,
			 struct gmem_run *run)
{
	XA_STATE(xas, &state->chunks, start >> GMEM_CHUNK_SHIFT);
	struct gmem_chunk *chunk;
	pgoff_t index, end;

	lockdep_assert_held(state->lock);

	if (start >= state->nr_pages || start > last)
		return false;
	last = min(last, state->nr_pages - 1);

	guard(rcu)();

	run->start = start;
	chunk = xas_load(&xas);
	run->shared = gmem_chunk_is_shared(state, chunk, start);
	for (index = start; index <= last;
	     chunk = gmem_next_chunk(&xas, chunk, &index, last)) {
		end = gmem_chunk_end(state, index);
		index = gmem_chunk_next(state, chunk, index, end, run->shared);
		if (index < end || index > last)
			break;
	}
	run->last = min(index - 1, last);
	return true;
}

/* Whether the run is all of the chunk that has page @index. */
static bool gmem_run_covers(struct gmem_state *state, const struct gmem_run *run,
			    pgoff_t index)
{
	return run->start <= round_down(index, GMEM_CHUNK_PAGES) &&
	       run->last >= gmem_chunk_end(state, index) - 1;
}

static int gmem_reserve_chunk(struct gmem_state *state,
			      const struct gmem_run *run, pgoff_t index)
{
	unsigned long nr = index >> GMEM_CHUNK_SHIFT;
	void *entry = gmem_load_chunk(state, index);
	bool shared;
	int ret;

	if (!gmem_entry_is_uniform(entry) ||
	    (entry && gmem_run_covers(state, run, index)))
		return 0;

	shared = gmem_entry_is_shared(state, entry);
	if (gmem_run_covers(state, run, index)) {
		entry = xa_mk_value(shared);
	} else {
		struct gmem_chunk *chunk;

		chunk = kmalloc_obj(*chunk, GFP_KERNEL_ACCOUNT);
		if (!chunk)
			return -ENOMEM;
		if (shared)
			bitmap_fill(chunk->shared, GMEM_CHUNK_PAGES);
		else
			bitmap_zero(chunk->shared, GMEM_CHUNK_PAGES);
		entry = chunk;
	}

	ret = xa_err(xa_store(&state->chunks, nr, entry, GFP_KERNEL_ACCOUNT));
	if (ret && !xa_is_value(entry))
		kfree(entry);
	return ret;
}

/**
 * gmem_state_reserve - Make sure that storing a run needs no memory
 * @state: State of a convertible file
 * @run: The run; @run->shared is not used
 *
 * Changes no state, and there is nothing to undo when the change is given up.
 *
 * Context: The lock of the state is held exclusively. May sleep.
 * Return: 0 or -ENOMEM.
 */
int gmem_state_reserve(struct gmem_state *state, const struct gmem_run *run)
{
	pgoff_t index;
	int ret;

	lockdep_assert_held_write(state->lock);

	for (index = run->start; index <= run->last;
	     index = gmem_chunk_end(state, index)) {
		ret = gmem_reserve_chunk(state, run, index);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/* All of a chunk: its slot was reserved, or a bitmap is in it. */
static void gmem_store_chunk(struct gmem_state *state, pgoff_t index, bool shared)
{
	void *entry = shared == state->initially_shared ? NULL :
							  xa_mk_value(shared);
	struct gmem_chunk *old;

	old = xa_store(&state->chunks, index >> GMEM_CHUNK_SHIFT, entry,
		       GFP_NOWAIT);
	if (gmem_entry_is_uniform(old))
		return;
	old->next = state->unused;
	state->unused = old;
}

/**
 * gmem_state_store - Change the state of a reserved run
 * @state: State of a convertible file
 * @run: Run for which gmem_state_reserve() succeeded under the same hold of the
 *	lock, with the new state
 *
 * Allocates nothing and cannot fail. Followed by gmem_state_free_unused().
 *
 * Context: The lock of the state is held exclusively. May sleep.
 */
void gmem_state_store(struct gmem_state *state, const struct gmem_run *run)
{
	struct gmem_chunk *chunk;
	unsigned long first, nr;
	pgoff_t index, end;

	lockdep_assert_held_write(state->lock);

	for (index = run->start; index <= run->last; index = end) {
		end = gmem_chunk_end(state, index);
		cond_resched();
		if (gmem_run_covers(state, run, index)) {
			gmem_store_chunk(state, index, run->shared);
			continue;
		}

		chunk = gmem_load_chunk(state, index);
		first = index % GMEM_CHUNK_PAGES;
		nr = min(end - 1, run->last) - index + 1;
		if (run->shared)
			bitmap_set(chunk->shared, first, nr);
		else
			bitmap_clear(chunk->shared, first, nr);
	}
}

/**
 * gmem_state_free_unused - Free what gmem_state_store() replaced
 * @state: State of a convertible file
 *
 * Freeing by RCU can allocate, which a store must not.
 *
 * Context: The lock of the state is held exclusively.
 */
void gmem_state_free_unused(struct gmem_state *state)
{
	struct gmem_chunk *chunk;

	lockdep_assert_held_write(state->lock);

	while ((chunk = state->unused)) {
		state->unused = chunk->next;
		kfree_rcu(chunk, rcu);
	}
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

	for (i = 1; i < *nr; i++)
		if (ranges[i].start < ranges[i - 1].start)
			break;
	/* Requests usually come in order. */
	if (i < *nr)
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
 *	the target in @shared
 * @max_runs: Room in @runs, further runs are only counted
 *
 * Context: The lock of the state is held. May sleep.
 * Return: Number of runs.
 */
unsigned long gmem_state_diff(struct gmem_state *state,
			      const struct gmem_run *ranges, unsigned long nr,
			      struct gmem_run *runs, unsigned long max_runs)
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
			run.shared = ranges[i].shared;
			if (nr_runs < max_runs)
				runs[nr_runs] = run;
			nr_runs++;
			cond_resched();
		}
	}
	return nr_runs;
}
