// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the runs of a guest_memfd: how the ranges of a vector are merged, and
 * which runs of them differ from the state.
 *
 * The ids in the comments are requirements: C7, what is so already is no change; C8,
 * only what differs changes; C10, how the ranges of a vector are merged.
 */
#include <kunit/test.h>
#include <linux/err.h>
#include <linux/kvm.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "gmem_state_test.h"

/* A run is as long as it is, over chunks of every kind. */
static void gmem_state_test_long_runs(struct kunit *test)
{
	struct gmem_run run = { .start = 1000 * TEST_CHUNK + 5, .shared = true };
	struct rw_semaphore *lock;
	struct gmem_state *state;
	struct gmem_run got;

	state = kunit_kzalloc(test, sizeof(*state), GFP_KERNEL);
	lock = kunit_kzalloc(test, sizeof(*lock), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, state);
	KUNIT_ASSERT_NOT_NULL(test, lock);
	init_rwsem(lock);
	gmem_state_init_once(state, lock);
	gmem_state_init(state, 1UL << 40, false);

	down_write(lock);
	run.last = 3000 * TEST_CHUNK + 7;
	KUNIT_ASSERT_EQ(test, 0, gmem_state_reserve(state, &run));
	gmem_state_store(state, &run);
	gmem_state_free_unused(state);

	KUNIT_EXPECT_TRUE(test, gmem_state_next_run(state, 0, ULONG_MAX, &got));
	KUNIT_EXPECT_FALSE(test, got.shared);
	KUNIT_EXPECT_EQ(test, run.start - 1, got.last);
	KUNIT_EXPECT_TRUE(test, gmem_state_next_run(state, run.start, ULONG_MAX,
						    &got));
	KUNIT_EXPECT_TRUE(test, got.shared);
	KUNIT_EXPECT_EQ(test, run.last, got.last);
	KUNIT_EXPECT_TRUE(test, gmem_state_next_run(state, run.last + 1,
						    ULONG_MAX, &got));
	KUNIT_EXPECT_FALSE(test, got.shared);
	KUNIT_EXPECT_EQ(test, (1UL << 40) - 1, got.last);
	up_write(lock);
	gmem_state_destroy(state);
}

#define S(first, final) { .start = (first), .last = (final), .shared = true }
#define P(first, final) { .start = (first), .last = (final), .shared = false }

struct gmem_merge_case {
	const char *name;
	int ret;
	unsigned long nr;
	struct gmem_run ranges[4];
	unsigned long nr_merged;
	struct gmem_run merged[4];
};

static const struct gmem_merge_case gmem_merge_cases[] = {
	{ "one", 0, 1, { S(3, 5) }, 1, { S(3, 5) } },
	{ "first_page", 0, 1, { P(0, 0) }, 1, { P(0, 0) } },
	{ "apart", 0, 2, { S(7, 8), S(3, 5) }, 2, { S(3, 5), S(7, 8) } },
	{ "touching", 0, 2, { S(6, 8), S(3, 5) }, 1, { S(3, 8) } },
	{ "touching_other_target", 0, 2, { P(6, 8), S(3, 5) },
	  2, { S(3, 5), P(6, 8) } },
	{ "duplicate", 0, 3, { P(3, 5), P(3, 5), P(3, 5) }, 1, { P(3, 5) } },
	{ "overlapping", 0, 2, { S(3, 5), S(5, 9) }, 1, { S(3, 9) } },
	{ "nested", 0, 3, { S(0, 9), S(3, 4), S(9, 9) }, 1, { S(0, 9) } },
	{ "same_start", 0, 2, { S(2, 2), S(2, 7) }, 1, { S(2, 7) } },
	{ "joined_by_third", 0, 3, { S(0, 1), S(4, 5), S(1, 4) },
	  1, { S(0, 5) } },
	{ "alternating", 0, 4, { S(0, 0), P(1, 1), S(2, 2), P(3, 3) },
	  4, { S(0, 0), P(1, 1), S(2, 2), P(3, 3) } },
	{ "conflict_one_page", -EINVAL, 2, { S(3, 5), P(5, 6) } },
	{ "conflict_nested", -EINVAL, 2, { P(0, 9), S(4, 4) } },
	{ "conflict_duplicate", -EINVAL, 2, { P(4, 4), S(4, 4) } },
	{ "conflict_behind_short", -EINVAL, 3, { S(0, 9), S(2, 3), P(8, 8) } },
};

KUNIT_ARRAY_PARAM_DESC(gmem_merge, gmem_merge_cases, name);

/* C10 */
static void gmem_state_test_merge(struct kunit *test)
{
	const struct gmem_merge_case *c = test->param_value;
	struct gmem_run ranges[ARRAY_SIZE(c->ranges)];
	unsigned long i, nr = c->nr;

	memcpy(ranges, c->ranges, sizeof(ranges));
	KUNIT_ASSERT_EQ(test, c->ret, gmem_merge_ranges(ranges, &nr));
	if (c->ret)
		return;
	KUNIT_ASSERT_EQ(test, c->nr_merged, nr);
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_TRUE_MSG(test, gmem_run_equal(&c->merged[i],
							   &ranges[i]),
				      "%lu: %lu-%lu", i, ranges[i].start,
				      ranges[i].last);
}

/* C10: the largest vector, in the worst order. */
static void gmem_state_test_merge_many(struct kunit *test)
{
	const unsigned long max = 1024;	/* KVM_GMEM_CONVERT_MAX_RANGES */
	struct gmem_run *ranges;
	unsigned long i, nr = max;

	ranges = kunit_kmalloc_array(test, max, sizeof(*ranges), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ranges);

	for (i = 0; i < max; i++)
		ranges[i] = (struct gmem_run)P(2 * (max - i), 2 * (max - i));
	KUNIT_ASSERT_EQ(test, 0, gmem_merge_ranges(ranges, &nr));
	KUNIT_ASSERT_EQ(test, max, nr);
	for (i = 0; i < max; i++)
		KUNIT_ASSERT_EQ(test, 2 * (i + 1), ranges[i].start);

	for (i = 0; i < max; i++)
		ranges[i] = (struct gmem_run)S(max - 1 - i, max - 1 - i);
	KUNIT_ASSERT_EQ(test, 0, gmem_merge_ranges(ranges, &nr));
	KUNIT_ASSERT_EQ(test, 1, nr);
	KUNIT_EXPECT_EQ(test, 0, ranges[0].start);
	KUNIT_EXPECT_EQ(test, max - 1, ranges[0].last);
}

enum gmem_test_target {
	TARGET_NONE,
	TARGET_PRIVATE,
	TARGET_SHARED,
};

/*
 * Ranges, and page by page what they ask for. With @agree no page is asked to be
 * both; otherwise whether one is, is returned.
 */
static bool gmem_test_random_vector(struct gmem_test *t, bool agree,
				    struct gmem_run *ranges, unsigned long nr,
				    u8 *targets)
{
	pgoff_t nr_pages = t->state.nr_pages;
	bool conflict = false;
	unsigned long i;
	pgoff_t page;

	memset(targets, TARGET_NONE, nr_pages);
	for (i = 0; i < nr; i++) {
		u8 target;

		gmem_test_random_range(t, nr_pages, &ranges[i]);
		if (agree && targets[ranges[i].start] != TARGET_NONE)
			ranges[i].shared = targets[ranges[i].start] ==
					   TARGET_SHARED;
		target = ranges[i].shared ? TARGET_SHARED : TARGET_PRIVATE;
		for (page = ranges[i].start; page <= ranges[i].last; page++) {
			if (targets[page] != TARGET_NONE &&
			    targets[page] != target) {
				if (agree) {
					ranges[i].last = page - 1;
					break;
				}
				conflict = true;
			}
			targets[page] = target;
		}
	}
	return conflict;
}

/*
 * The maximal runs of equal target, of all pages or of those that differ from
 * the model.
 */
static unsigned long gmem_model_vector(struct gmem_test *t, const u8 *targets,
				       bool differ, struct gmem_run *runs)
{
	struct gmem_run *run = NULL;
	unsigned long nr = 0;
	pgoff_t page;

	for (page = 0; page < t->state.nr_pages; page++) {
		bool shared = targets[page] == TARGET_SHARED;

		if (targets[page] == TARGET_NONE ||
		    (differ && shared == test_bit(page, t->model))) {
			run = NULL;
			continue;
		}
		if (!run || run->shared != shared) {
			run = &runs[nr++];
			run->start = page;
			run->shared = shared;
		}
		run->last = page;
	}
	return nr;
}

static void gmem_test_expect_runs(struct kunit *test,
				  const struct gmem_run *want,
				  unsigned long nr_want,
				  const struct gmem_run *got,
				  unsigned long nr_got)
{
	unsigned long i;

	KUNIT_ASSERT_EQ(test, nr_want, nr_got);
	for (i = 0; i < nr_want; i++)
		KUNIT_ASSERT_TRUE_MSG(test, gmem_run_equal(&want[i], &got[i]),
				      "%lu: %lu-%lu %d is %lu-%lu %d", i,
				      want[i].start, want[i].last,
				      want[i].shared, got[i].start, got[i].last,
				      got[i].shared);
}

/* C8, C10: random vectors, merged and compared with a changing state. */
static void gmem_state_test_random_vectors(struct kunit *test)
{
	const pgoff_t nr_pages = 128;
	struct gmem_test *t = gmem_test_create(test, nr_pages, true);
	struct gmem_run *ranges, *want;
	unsigned long i, nr, nr_diff;
	int step, conflicts = 0;
	bool conflict;
	u8 *targets;

	ranges = kunit_kmalloc_array(test, nr_pages, sizeof(*ranges),
				     GFP_KERNEL);
	want = kunit_kmalloc_array(test, nr_pages, sizeof(*want), GFP_KERNEL);
	targets = kunit_kmalloc(test, nr_pages, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ranges);
	KUNIT_ASSERT_NOT_NULL(test, want);
	KUNIT_ASSERT_NOT_NULL(test, targets);

	down_write(&t->lock);
	for (step = 0; step < TEST_STEPS; step++) {
		nr = 1 + gmem_test_random(t, step % 2 ? 4 : nr_pages / 4);
		conflict = gmem_test_random_vector(t, step % 4, ranges, nr,
						   targets);
		if (conflict) {
			conflicts++;
			KUNIT_ASSERT_EQ(test, -EINVAL,
					gmem_merge_ranges(ranges, &nr));
			continue;
		}
		KUNIT_ASSERT_EQ(test, 0, gmem_merge_ranges(ranges, &nr));
		gmem_test_expect_runs(test, want,
				      gmem_model_vector(t, targets, false, want),
				      ranges, nr);

		nr_diff = gmem_state_diff(&t->state, ranges, nr, NULL, 0);
		KUNIT_ASSERT_EQ(test, nr_diff,
				gmem_state_diff(&t->state, ranges, nr, t->runs,
						ARRAY_SIZE(t->runs)));
		gmem_test_expect_runs(test, want,
				      gmem_model_vector(t, targets, true, want),
				      t->runs, nr_diff);

		for (i = 0; i < nr; i++)
			gmem_test_change(test, t, &ranges[i]);
		gmem_test_check_runs(test, t);
		if (step % TEST_FULL_CHECK == 0)
			gmem_test_check(test, t);

		/* C7: asking again changes nothing. */
		KUNIT_ASSERT_EQ(test, 0,
				gmem_state_diff(&t->state, ranges, nr, NULL, 0));
		cond_resched();
	}
	up_write(&t->lock);
	KUNIT_EXPECT_GT(test, conflicts, 0);
}

static struct kunit_case gmem_runs_test_cases[] = {
	KUNIT_CASE(gmem_state_test_long_runs),
	KUNIT_CASE_PARAM(gmem_state_test_merge, gmem_merge_gen_params),
	KUNIT_CASE(gmem_state_test_merge_many),
	KUNIT_CASE_SLOW(gmem_state_test_random_vectors),
	{}
};

static struct kunit_suite gmem_runs_test_suite = {
	.name = "gmem_runs",
	.test_cases = gmem_runs_test_cases,
};

kunit_test_suite(gmem_runs_test_suite);
