/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the KUnit tests of a guest_memfd's shareability share: a state, and a bitmap
 * that says what it should be.
 *
 * Both are changed alike, and have to say the same after every step: page by page, as
 * runs, and clipped anywhere. Sequences are random with a fixed seed, so that a
 * failure repeats.
 */
#ifndef __KVM_GMEM_STATE_TEST_H
#define __KVM_GMEM_STATE_TEST_H

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/prandom.h>
#include <linux/rwsem.h>

#include "gmem_state.h"

/* Three whole chunks and a bit of another one. */
#define TEST_CHUNK	512UL
#define TEST_MAX_PAGES	(3 * TEST_CHUNK + 77)
#define TEST_STEPS	600
/* Every how many steps each page is looked up on its own. */
#define TEST_FULL_CHECK	16
#define TEST_SEED	0x67656d65

/**
 * struct gmem_test - A state and what it should be
 * @state: State under test
 * @lock: Its lock
 * @model: Shared pages
 * @rnd: Source of the sequence
 * @runs: Room for the runs of one change
 */
struct gmem_test {
	struct gmem_state state;
	struct rw_semaphore lock;
	DECLARE_BITMAP(model, TEST_MAX_PAGES);
	struct rnd_state rnd;
	struct gmem_run runs[TEST_MAX_PAGES];
};

static inline void gmem_test_destroy(void *data)
{
	struct gmem_test *t = data;

	gmem_state_destroy(&t->state);
}

static inline struct gmem_test *gmem_test_create(struct kunit *test,
						 pgoff_t nr_pages, bool shared)
{
	struct gmem_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	KUNIT_ASSERT_LE(test, nr_pages, TEST_MAX_PAGES);
	init_rwsem(&t->lock);
	prandom_seed_state(&t->rnd, TEST_SEED + nr_pages);
	if (shared)
		bitmap_set(t->model, 0, nr_pages);

	gmem_state_init_once(&t->state, &t->lock);
	gmem_state_init(&t->state, nr_pages, shared);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, gmem_test_destroy, t));
	return t;
}

static inline u32 gmem_test_random(struct gmem_test *t, u32 below)
{
	return prandom_u32_state(&t->rnd) % below;
}

/* Half of the ranges are short: bounds that meet are what goes wrong. */
static inline void gmem_test_random_range(struct gmem_test *t, pgoff_t nr_pages,
					  struct gmem_run *range)
{
	pgoff_t max;

	range->start = gmem_test_random(t, nr_pages);
	max = nr_pages - range->start;
	if (gmem_test_random(t, 2))
		max = min(max, 4UL);
	range->last = range->start + gmem_test_random(t, max);
	range->shared = gmem_test_random(t, 2);
}

/* The run that starts at @start in the model, clipped at @last. */
static inline void gmem_model_run(struct gmem_test *t, pgoff_t start,
				  pgoff_t last, struct gmem_run *run)
{
	run->start = start;
	run->last = start;
	run->shared = test_bit(start, t->model);
	while (run->last < last &&
	       test_bit(run->last + 1, t->model) == run->shared)
		run->last++;
}

static inline void gmem_model_set(struct gmem_test *t,
				  const struct gmem_run *run)
{
	if (run->shared)
		bitmap_set(t->model, run->start, run->last - run->start + 1);
	else
		bitmap_clear(t->model, run->start, run->last - run->start + 1);
}

static inline bool gmem_run_equal(const struct gmem_run *a,
				  const struct gmem_run *b)
{
	return a->start == b->start && a->last == b->last &&
	       a->shared == b->shared;
}

/* The state says of [start, last] what the model says, in maximal runs. */
static inline void gmem_test_check_range(struct kunit *test,
					 struct gmem_test *t, pgoff_t start,
					 pgoff_t last)
{
	struct gmem_run want, got;
	pgoff_t index = start;

	while (index <= last) {
		gmem_model_run(t, index, last, &want);
		KUNIT_ASSERT_TRUE(test, gmem_state_next_run(&t->state, index,
							    last, &got));
		KUNIT_ASSERT_TRUE_MSG(test, gmem_run_equal(&want, &got),
				      "from %lu: %lu-%lu %d is %lu-%lu %d", index,
				      want.start, want.last, want.shared,
				      got.start, got.last, got.shared);
		index = want.last + 1;
	}
	KUNIT_ASSERT_FALSE(test, gmem_state_next_run(&t->state, index, last,
						     &got));
}

static inline void gmem_test_check_runs(struct kunit *test, struct gmem_test *t)
{
	pgoff_t nr_pages = t->state.nr_pages;
	struct gmem_run clip;

	gmem_test_check_range(test, t, 0, nr_pages - 1);
	gmem_test_random_range(t, nr_pages, &clip);
	gmem_test_check_range(test, t, clip.start, clip.last);
}

static inline void gmem_test_check(struct kunit *test, struct gmem_test *t)
{
	pgoff_t nr_pages = t->state.nr_pages;
	pgoff_t i;

	gmem_test_check_runs(test, t);
	for (i = 0; i < nr_pages; i++)
		KUNIT_ASSERT_EQ_MSG(test, test_bit(i, t->model),
				    gmem_state_is_shared(&t->state, i),
				    "page %lu", i);
}

/*
 * What guest_memfd does before a change is decided. The runs that differ from @range
 * are in @t->runs; returns how many.
 */
static inline unsigned long gmem_test_reserve(struct kunit *test,
					      struct gmem_test *t,
					      const struct gmem_run *range)
{
	unsigned long i, nr;

	nr = gmem_state_diff(&t->state, range, 1, t->runs,
			     ARRAY_SIZE(t->runs));
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(test, 0,
				gmem_state_reserve(&t->state, &t->runs[i]));
	return nr;
}

/* And after that, with @nr runs. */
static inline void gmem_test_store(struct gmem_test *t, unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		gmem_state_store(&t->state, &t->runs[i]);
		gmem_model_set(t, &t->runs[i]);
	}
}

static inline void gmem_test_free_unused(struct kunit *test,
					 struct gmem_test *t)
{
	gmem_state_free_unused(&t->state);
	KUNIT_ASSERT_NULL(test, t->state.unused);
}

/* One change, in the steps in which guest_memfd makes it. */
static inline void gmem_test_change(struct kunit *test, struct gmem_test *t,
				    const struct gmem_run *range)
{
	gmem_test_store(t, gmem_test_reserve(test, t, range));
	gmem_test_free_unused(test, t);
}

#endif /* __KVM_GMEM_STATE_TEST_H */
