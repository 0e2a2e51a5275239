// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the shareability of a guest_memfd.
 *
 * The state and a bitmap are changed alike, and have to say the same after every
 * step: page by page, as runs, and clipped anywhere. Sequences are random with a
 * fixed seed, so that a failure repeats.
 *
 * The ids in the comments are requirements: C2, a change that was reserved cannot
 * fail; C8, only what differs changes; C10, how the ranges of a vector are merged.
 */
#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fault-inject.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/kvm.h>
#include <linux/prandom.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/xarray.h>

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

static void gmem_test_destroy(void *data)
{
	struct gmem_test *t = data;

	gmem_state_destroy(&t->state);
}

static struct gmem_test *gmem_test_create(struct kunit *test, pgoff_t nr_pages,
					  bool shared)
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

static u32 gmem_test_random(struct gmem_test *t, u32 below)
{
	return prandom_u32_state(&t->rnd) % below;
}

/* Half of the ranges are short: bounds that meet are what goes wrong. */
static void gmem_test_random_range(struct gmem_test *t, pgoff_t nr_pages,
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
static void gmem_model_run(struct gmem_test *t, pgoff_t start, pgoff_t last,
			   struct gmem_run *run)
{
	run->start = start;
	run->last = start;
	run->shared = test_bit(start, t->model);
	while (run->last < last &&
	       test_bit(run->last + 1, t->model) == run->shared)
		run->last++;
}

static void gmem_model_set(struct gmem_test *t, const struct gmem_run *run)
{
	if (run->shared)
		bitmap_set(t->model, run->start, run->last - run->start + 1);
	else
		bitmap_clear(t->model, run->start, run->last - run->start + 1);
}

static bool gmem_run_equal(const struct gmem_run *a, const struct gmem_run *b)
{
	return a->start == b->start && a->last == b->last &&
	       a->shared == b->shared;
}

/* The state says of [start, last] what the model says, in maximal runs. */
static void gmem_test_check_range(struct kunit *test, struct gmem_test *t,
				  pgoff_t start, pgoff_t last)
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

static void gmem_test_check_runs(struct kunit *test, struct gmem_test *t)
{
	pgoff_t nr_pages = t->state.nr_pages;
	struct gmem_run clip;

	gmem_test_check_range(test, t, 0, nr_pages - 1);
	gmem_test_random_range(t, nr_pages, &clip);
	gmem_test_check_range(test, t, clip.start, clip.last);
}

static void gmem_test_check(struct kunit *test, struct gmem_test *t)
{
	pgoff_t nr_pages = t->state.nr_pages;
	pgoff_t i;

	gmem_test_check_runs(test, t);
	for (i = 0; i < nr_pages; i++)
		KUNIT_ASSERT_EQ_MSG(test, test_bit(i, t->model),
				    gmem_state_is_shared(&t->state, i),
				    "page %lu", i);
}

/* How many chunks are kept page by page. */
static unsigned long gmem_test_count_bitmaps(struct gmem_test *t)
{
	unsigned long index, nr = 0;
	void *entry;

	xa_for_each(&t->state.chunks, index, entry)
		if (!xa_is_value(entry))
			nr++;
	return nr;
}

#if defined(CONFIG_FAILSLAB) && defined(CONFIG_FAULT_INJECTION_DEBUG_FS)
/**
 * struct gmem_test_famine - A scope in which this task gets few slab objects, or none
 * @failslab: Its knobs. failslab is not exported; its debugfs files point to it.
 * @ignore_gfp_wait: Whether allocations that can wait are spared
 * @saved: The knobs before
 * @saved_ignore_gfp_wait: Likewise
 *
 * current->fail_nth is not enough here: it fails one allocation, and an xarray
 * tries twice, the first time without reclaim.
 */
struct gmem_test_famine {
	struct fault_attr *failslab;
	bool *ignore_gfp_wait;
	struct fault_attr saved;
	bool saved_ignore_gfp_wait;
};

static void *gmem_test_debugfs_data(struct dentry *dir, const char *name)
{
	struct dentry *dentry = debugfs_lookup(name, dir);
	void *data;

	if (!dentry)
		return NULL;
	data = d_inode(dentry)->i_private;
	dput(dentry);
	return data;
}

static bool gmem_test_famine_init(struct gmem_test_famine *famine)
{
	struct dentry *dir = debugfs_lookup("failslab", NULL);
	unsigned long *probability;

	if (!dir)
		return false;
	probability = gmem_test_debugfs_data(dir, "probability");
	famine->ignore_gfp_wait = gmem_test_debugfs_data(dir, "ignore-gfp-wait");
	dput(dir);
	if (!probability || !famine->ignore_gfp_wait)
		return false;
	famine->failslab = container_of(probability, struct fault_attr,
					probability);
	return true;
}

/* @room: bytes that are still given out */
static void gmem_test_famine_begin(struct gmem_test_famine *famine, int room)
{
	struct fault_attr *attr = famine->failslab;

	famine->saved = *attr;
	famine->saved_ignore_gfp_wait = *famine->ignore_gfp_wait;
	attr->verbose = 0;
	attr->interval = 1;
	atomic_set(&attr->space, room);
	atomic_set(&attr->times, -1);
	attr->task_filter = true;
	*famine->ignore_gfp_wait = false;
	current->make_it_fail = 1;
	attr->probability = 100;
}

static void gmem_test_famine_end(struct gmem_test_famine *famine)
{
	struct fault_attr *attr = famine->failslab;

	attr->probability = famine->saved.probability;
	current->make_it_fail = 0;
	*famine->ignore_gfp_wait = famine->saved_ignore_gfp_wait;
	attr->task_filter = famine->saved.task_filter;
	atomic_set(&attr->times, atomic_read(&famine->saved.times));
	atomic_set(&attr->space, atomic_read(&famine->saved.space));
	attr->interval = famine->saved.interval;
	attr->verbose = famine->saved.verbose;
}
#else
struct gmem_test_famine {
};

static bool gmem_test_famine_init(struct gmem_test_famine *famine)
{
	return false;
}

static void gmem_test_famine_begin(struct gmem_test_famine *famine, int room)
{
}

static void gmem_test_famine_end(struct gmem_test_famine *famine)
{
}
#endif

/* One change, in the steps in which guest_memfd makes it, or given up half way. */
static void gmem_test_change(struct kunit *test, struct gmem_test *t,
			     const struct gmem_run *range, bool commit,
			     struct gmem_test_famine *famine)
{
	unsigned long i, nr;

	nr = gmem_state_diff(&t->state, range, 1, t->runs,
			     ARRAY_SIZE(t->runs));
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(test, 0,
				gmem_state_reserve(&t->state, &t->runs[i]));
	if (!commit)
		return;

	/* C2: what is reserved is stored without memory. */
	if (famine)
		gmem_test_famine_begin(famine, 0);
	for (i = 0; i < nr; i++) {
		gmem_state_store(&t->state, &t->runs[i]);
		gmem_model_set(t, &t->runs[i]);
	}
	if (famine)
		gmem_test_famine_end(famine);
	gmem_state_free_unused(&t->state);
	KUNIT_ASSERT_NULL(test, t->state.unused);
}

/* A new file is one run of the state that was asked for. */
static void gmem_state_test_initial(struct kunit *test)
{
	static const pgoff_t sizes[] = { 1, 2, 16, TEST_MAX_PAGES };
	struct gmem_test *t;
	struct gmem_run run;
	int i;

	for (i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		pgoff_t nr_pages = sizes[i / 2];

		t = gmem_test_create(test, nr_pages, i % 2);
		down_read(&t->lock);
		gmem_test_check(test, t);
		KUNIT_EXPECT_TRUE(test, xa_empty(&t->state.chunks));

		/* Beyond the file there is nothing, and runs end with it. */
		KUNIT_EXPECT_FALSE(test, gmem_state_next_run(&t->state, nr_pages,
							     ULONG_MAX, &run));
		KUNIT_EXPECT_TRUE(test, gmem_state_next_run(&t->state, 0,
							    ULONG_MAX, &run));
		KUNIT_EXPECT_EQ(test, nr_pages - 1, run.last);
		KUNIT_EXPECT_FALSE(test, gmem_state_next_run(&t->state, 1, 0,
							     &run));
		up_read(&t->lock);
	}
}

/* A state that never had a file, or whose file failed, can be destroyed. */
static void gmem_state_test_destroy_unused(struct kunit *test)
{
	struct gmem_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	init_rwsem(&t->lock);
	gmem_state_init_once(&t->state, &t->lock);
	gmem_state_destroy(&t->state);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->state.chunks));
}

/* C8: every range around the ends of chunks, in both directions. */
static void gmem_state_test_edges(struct kunit *test)
{
	static const pgoff_t edges[] = {
		0, 1, TEST_CHUNK - 1, TEST_CHUNK, TEST_CHUNK + 1,
		2 * TEST_CHUNK - 1, 2 * TEST_CHUNK, 3 * TEST_CHUNK - 1,
		3 * TEST_CHUNK, TEST_MAX_PAGES - 2, TEST_MAX_PAGES - 1,
	};
	struct gmem_test *t;
	struct gmem_run range;
	int initial, i, j;

	for (initial = 0; initial < 2; initial++) {
		t = gmem_test_create(test, TEST_MAX_PAGES, initial);
		down_write(&t->lock);
		for (i = 0; i < ARRAY_SIZE(edges); i++) {
			for (j = i; j < ARRAY_SIZE(edges); j++) {
				range.start = edges[i];
				range.last = edges[j];
				range.shared = !initial;
				gmem_test_change(test, t, &range, true, NULL);
				gmem_test_check(test, t);

				range.shared = initial;
				gmem_test_change(test, t, &range, true, NULL);
				gmem_test_check(test, t);
			}
		}
		up_write(&t->lock);
	}
}

/* The smallest file. */
static void gmem_state_test_one_page(struct kunit *test)
{
	struct gmem_test *t = gmem_test_create(test, 1, false);
	struct gmem_run range = { .start = 0, .last = 0 };
	int i;

	down_write(&t->lock);
	for (i = 0; i < 6; i++) {
		range.shared = i % 2;
		gmem_test_change(test, t, &range, i % 3, NULL);
		gmem_test_check(test, t);
		KUNIT_EXPECT_EQ(test, 0, gmem_test_count_bitmaps(t));
	}
	up_write(&t->lock);
}

static void gmem_test_random_changes(struct kunit *test, pgoff_t nr_pages)
{
	struct gmem_test *t = gmem_test_create(test, nr_pages, false);
	struct gmem_test_famine famine;
	bool have_famine = gmem_test_famine_init(&famine);
	struct gmem_run range;
	int i;

	down_write(&t->lock);
	for (i = 0; i < TEST_STEPS; i++) {
		gmem_test_random_range(t, nr_pages, &range);
		gmem_test_change(test, t, &range, gmem_test_random(t, 4),
				 have_famine ? &famine : NULL);
		gmem_test_check_runs(test, t);
		if (i % TEST_FULL_CHECK == 0)
			gmem_test_check(test, t);
		KUNIT_ASSERT_LE(test, gmem_test_count_bitmaps(t),
				DIV_ROUND_UP(nr_pages, TEST_CHUNK));
		cond_resched();
	}

	/* One state for all of the file takes no bitmap. */
	range = (struct gmem_run) { .last = nr_pages - 1, .shared = true };
	gmem_test_change(test, t, &range, true, NULL);
	range.shared = false;
	gmem_test_change(test, t, &range, true, NULL);
	gmem_test_check(test, t);
	KUNIT_EXPECT_EQ(test, 0, gmem_test_count_bitmaps(t));
	up_write(&t->lock);
}

/* C2, C8: as guest_memfd does it, without memory for the store. */
static void gmem_state_test_random(struct kunit *test)
{
	gmem_test_random_changes(test, 2);
	gmem_test_random_changes(test, 67);
	gmem_test_random_changes(test, TEST_CHUNK);
	gmem_test_random_changes(test, TEST_MAX_PAGES);
}

/* C2: without memory a reservation fails and changes nothing; a store works. */
static void gmem_test_no_memory(struct kunit *test, bool shared, pgoff_t start,
				pgoff_t last, unsigned long nr_bitmaps)
{
	struct gmem_test *t = gmem_test_create(test, TEST_MAX_PAGES, shared);
	struct gmem_run run = { .start = start, .last = last, .shared = !shared };
	struct gmem_test_famine famine;
	int ret;

	if (!gmem_test_famine_init(&famine))
		kunit_skip(test, "needs FAILSLAB and FAULT_INJECTION_DEBUG_FS");

	down_write(&t->lock);
	gmem_test_famine_begin(&famine, 0);
	ret = gmem_state_reserve(&t->state, &run);
	gmem_test_famine_end(&famine);
	KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
	gmem_test_check(test, t);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->state.chunks));

	KUNIT_ASSERT_EQ(test, 0, gmem_state_reserve(&t->state, &run));
	gmem_test_check(test, t);
	KUNIT_EXPECT_EQ(test, nr_bitmaps, gmem_test_count_bitmaps(t));
	gmem_test_famine_begin(&famine, 0);
	gmem_state_store(&t->state, &run);
	gmem_test_famine_end(&famine);
	gmem_model_set(t, &run);
	gmem_test_check(test, t);

	/* Back again: what was made stays, so there is nothing to reserve. */
	run.shared = shared;
	gmem_test_famine_begin(&famine, 0);
	ret = gmem_state_reserve(&t->state, &run);
	gmem_state_store(&t->state, &run);
	gmem_test_famine_end(&famine);
	KUNIT_EXPECT_EQ(test, 0, ret);
	gmem_model_set(t, &run);
	gmem_test_check(test, t);
	up_write(&t->lock);
}

static void gmem_state_test_no_memory(struct kunit *test)
{
	int shared;

	for (shared = 0; shared < 2; shared++) {
		gmem_test_no_memory(test, shared, 8, 15, 1);
		gmem_test_no_memory(test, shared, TEST_CHUNK - 1, TEST_CHUNK, 2);
		gmem_test_no_memory(test, shared, TEST_CHUNK,
				    2 * TEST_CHUNK - 1, 0);
		gmem_test_no_memory(test, shared, 3 * TEST_CHUNK,
				    TEST_MAX_PAGES - 1, 0);
		gmem_test_no_memory(test, shared, 5, TEST_MAX_PAGES - 5, 2);
	}
}

/*
 * C2: memory that ends in the middle of a reservation, after each object. What was
 * made for the first chunks is no change, and the same reservation goes on there.
 */
static void gmem_state_test_memory_ends(struct kunit *test)
{
	struct gmem_run run = { .start = 5, .last = TEST_MAX_PAGES - 5 };
	unsigned long index, nr, most = 0;
	struct gmem_test_famine famine;
	int room = 0, shared = 0, ret;
	struct gmem_test *t;
	void *entry;

	if (!gmem_test_famine_init(&famine))
		kunit_skip(test, "needs FAILSLAB and FAULT_INJECTION_DEBUG_FS");

	do {
		t = gmem_test_create(test, TEST_MAX_PAGES, shared);
		run.shared = !shared;
		down_write(&t->lock);
		gmem_test_famine_begin(&famine, room);
		ret = gmem_state_reserve(&t->state, &run);
		gmem_test_famine_end(&famine);
		gmem_test_check(test, t);

		nr = 0;
		xa_for_each(&t->state.chunks, index, entry)
			nr++;
		if (ret) {
			KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
			KUNIT_EXPECT_GT(test, 4, nr);
			most = max(most, nr);
		} else {
			KUNIT_EXPECT_EQ(test, 4, nr);
		}

		KUNIT_ASSERT_EQ(test, 0, gmem_state_reserve(&t->state, &run));
		gmem_test_change(test, t, &run, true, &famine);
		gmem_test_check(test, t);
		up_write(&t->lock);

		room += 64;
		shared = !shared;
		KUNIT_ASSERT_GT(test, SZ_64K, room);
	} while (ret);

	/* It did end in the middle. */
	KUNIT_EXPECT_GT(test, most, 0);
}

/**
 * struct gmem_test_reader - A thread that looks at pages without a lock
 * @t: The state; the first page of each chunk is always shared
 * @task: The thread
 * @lookups: How often it has looked at all chunks
 * @wrong: How often one of those pages was not shared
 */
struct gmem_test_reader {
	struct gmem_test *t;
	struct task_struct *task;
	unsigned long lookups;
	unsigned long wrong;
};

static int gmem_test_read(void *data)
{
	struct gmem_test_reader *reader = data;
	pgoff_t index;

	while (!kthread_should_stop()) {
		for (index = 0; index < TEST_MAX_PAGES; index += TEST_CHUNK)
			if (!gmem_state_is_shared(&reader->t->state, index))
				reader->wrong++;
		WRITE_ONCE(reader->lookups, reader->lookups + 1);
		cond_resched();
	}
	return 0;
}

static void gmem_test_stop_reading(void *data)
{
	struct gmem_test_reader *reader = data;

	kthread_stop(reader->task);
}

static struct gmem_test_reader *
gmem_test_start_reading(struct kunit *test, struct gmem_test *t)
{
	struct gmem_test_reader *reader;

	reader = kunit_kzalloc(test, sizeof(*reader), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, reader);
	reader->t = t;
	reader->task = kthread_run(gmem_test_read, reader, "gmem_state_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(reader->task));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, gmem_test_stop_reading,
						  reader));
	return reader;
}

/* A single page is looked up without a lock, while its chunk comes and goes. */
static void gmem_state_test_readers(struct kunit *test)
{
	struct gmem_test *t = gmem_test_create(test, TEST_MAX_PAGES, true);
	struct gmem_test_reader *reader = gmem_test_start_reading(test, t);
	struct gmem_run all = { .last = TEST_MAX_PAGES - 1, .shared = true };
	struct gmem_run run = { .shared = false };
	unsigned long seen;
	int i, step;

	for (step = 0; step < 50; step++) {
		seen = READ_ONCE(reader->lookups);
		down_write(&t->lock);
		/* Bitmaps come and change, and mostly go again. */
		for (i = 0; i < 4; i++) {
			run.start = i * TEST_CHUNK + 1;
			run.last = run.start + 3;
			gmem_test_change(test, t, &run, true, NULL);
		}
		gmem_test_change(test, t, &all, step % 4, NULL);
		up_write(&t->lock);
		for (i = 0; i < 1000 && seen == READ_ONCE(reader->lookups); i++)
			usleep_range(100, 200);
	}
	kunit_release_action(test, gmem_test_stop_reading, reader);
	KUNIT_EXPECT_EQ(test, 0, reader->wrong);
	KUNIT_EXPECT_GT(test, reader->lookups, 10);
}

/**
 * struct gmem_test_holder - A thread in the middle of a lookup without a lock
 * @t: The state; its first chunk is a bitmap
 * @found: The thread has found the bitmap
 * @replaced: It is not part of the state any more
 */
struct gmem_test_holder {
	struct gmem_test *t;
	struct completion found;
	bool replaced;
};

static int gmem_test_hold(void *data)
{
	struct gmem_test_holder *holder = data;
	u8 *chunk;

	guard(rcu)();

	chunk = xa_load(&holder->t->state.chunks, 0);
	complete(&holder->found);
	/* Pairs with the writer's store. */
	while (!smp_load_acquire(&holder->replaced))
		cpu_relax();
	/* If it is freed, KASAN reports that. */
	READ_ONCE(*chunk);
	return 0;
}

/* What a lookup has found stays until the lookup ends. */
static void gmem_state_test_replaced(struct kunit *test)
{
	struct gmem_test *t = gmem_test_create(test, TEST_CHUNK, true);
	struct gmem_run all = { .last = TEST_CHUNK - 1, .shared = true };
	struct gmem_run page = { .shared = false };
	struct gmem_test_holder holder = { .t = t };
	struct task_struct *task;

	init_completion(&holder.found);
	down_write(&t->lock);
	gmem_test_change(test, t, &page, true, NULL);
	KUNIT_ASSERT_EQ(test, 1, gmem_test_count_bitmaps(t));
	task = kthread_run(gmem_test_hold, &holder, "gmem_state_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	get_task_struct(task);
	wait_for_completion(&holder.found);
	gmem_state_store(&t->state, &all);
	gmem_state_free_unused(&t->state);
	/* Pairs with the holder's load: it reads after that. */
	smp_store_release(&holder.replaced, true);
	kthread_stop(task);
	put_task_struct(task);
	up_write(&t->lock);
	KUNIT_EXPECT_EQ(test, 0, gmem_test_count_bitmaps(t));
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
	const unsigned long max = KVM_GMEM_CONVERT_MAX_RANGES;
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
			gmem_test_change(test, t, &ranges[i], true, NULL);
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

/* C2: all runs of a request are reserved before the first is stored. */
static void gmem_state_test_reserve_all(struct kunit *test)
{
	struct gmem_test *t = gmem_test_create(test, TEST_MAX_PAGES, false);
	struct gmem_run every = { .start = 0, .last = TEST_MAX_PAGES - 1,
				  .shared = true };
	struct gmem_run run = { .shared = true };
	struct gmem_test_famine famine;

	if (!gmem_test_famine_init(&famine))
		kunit_skip(test, "needs FAILSLAB and FAULT_INJECTION_DEBUG_FS");

	down_write(&t->lock);
	for (run.start = 0; run.start < TEST_MAX_PAGES; run.start += 3) {
		run.last = run.start;
		gmem_test_change(test, t, &run, true, NULL);
	}

	KUNIT_ASSERT_GT(test, gmem_state_diff(&t->state, &every, 1, NULL, 0), 100);
	gmem_test_change(test, t, &every, true, &famine);
	gmem_test_check(test, t);
	KUNIT_ASSERT_EQ(test, 0, gmem_state_diff(&t->state, &every, 1, NULL, 0));
	up_write(&t->lock);
}

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

static struct kunit_case gmem_state_test_cases[] = {
	KUNIT_CASE(gmem_state_test_initial),
	KUNIT_CASE(gmem_state_test_destroy_unused),
	KUNIT_CASE(gmem_state_test_edges),
	KUNIT_CASE(gmem_state_test_one_page),
	KUNIT_CASE_SLOW(gmem_state_test_random),
	KUNIT_CASE(gmem_state_test_no_memory),
	KUNIT_CASE(gmem_state_test_memory_ends),
	KUNIT_CASE_SLOW(gmem_state_test_readers),
	KUNIT_CASE(gmem_state_test_replaced),
	KUNIT_CASE(gmem_state_test_reserve_all),
	KUNIT_CASE(gmem_state_test_long_runs),
	KUNIT_CASE_PARAM(gmem_state_test_merge, gmem_merge_gen_params),
	KUNIT_CASE(gmem_state_test_merge_many),
	KUNIT_CASE_SLOW(gmem_state_test_random_vectors),
	{}
};

static struct kunit_suite gmem_state_test_suite = {
	.name = "gmem_state",
	.test_cases = gmem_state_test_cases,
};

kunit_test_suite(gmem_state_test_suite);
