// SPDX-License-Identifier: GPL-2.0
/*
 * Everything at once, for a bounded time: conversions by several threads, a device
 * that comes and goes, host faults, guest accesses and queries. No conversion may
 * be refused, because nobody holds a pin, and when all is quiet again the devices
 * reach exactly the shared pages.
 *
 * Requirements: M1, M2, M3, M11, C6, N5, C11.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/mirror.h"
#include "lib/walker.h"

#define NPAGES		128
#define NR_CONVERTERS	2
#define SECONDS		3
#define SEED		0x5eed2000
#define OTHER_IOVA	0x30000000ULL

FIXTURE(race)
{
	struct env env;
};

FIXTURE_SETUP(race)
{
	const char *why = env_missing(2);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create_bound(&self->env, NPAGES, SEED));
}

FIXTURE_TEARDOWN(race)
{
	env_destroy(&self->env);
}

/* What each thread gets, and how often it did its work. */
struct actor {
	struct env *env;
	unsigned int state;
	size_t first;		/* its pages of the file */
	size_t npages;
	unsigned long done;
	int ret;
};

static bool stop;

static bool go_on(const struct actor *actor)
{
	return !actor->ret && !__atomic_load_n(&stop, __ATOMIC_RELAXED);
}

/* Each converter has its own pages, so that the model is exact at the end. */
static void *convert(void *arg)
{
	struct actor *actor = arg;
	size_t first, npages;

	while (go_on(actor)) {
		first = rand_r(&actor->state) % actor->npages;
		npages = 1 + rand_r(&actor->state) % (actor->npages - first);
		actor->ret = env_convert(actor->env, actor->first + first,
					 npages, rand_r(&actor->state) % 2);
		actor->done++;
	}
	return NULL;
}

static void *attach_and_detach(void *arg)
{
	struct actor *actor = arg;

	while (go_on(actor)) {
		actor->ret = env_attach_late(actor->env, actor->done % 2);
		if (!actor->ret)
			actor->ret = env_detach_late(actor->env);
		actor->done++;
	}
	return NULL;
}

/* A page is either not there or has its contents. */
static void *touch_by_host(void *arg)
{
	struct actor *actor = arg;
	__u8 buf[GMEM_PAGE_SIZE];
	size_t page;

	while (go_on(actor)) {
		page = rand_r(&actor->state) % NPAGES;
		if (!host_read(buf, env_host(actor->env, page), sizeof(buf)) &&
		    !gmem_pattern_matches(buf, page * GMEM_PAGE_SIZE, SEED))
			actor->ret = -EILSEQ;
		actor->done++;
	}
	return NULL;
}

/* Write faults too: writes what is there already. */
static void *touch_by_guest(void *arg)
{
	struct actor *actor = arg;
	__u64 gpa;

	while (go_on(actor)) {
		gpa = rand_r(&actor->state) % NPAGES * GMEM_PAGE_SIZE;
		actor->ret = gmem_vm_verify(&actor->env->vm, gpa,
					    GMEM_PAGE_SIZE, SEED);
		if (!actor->ret)
			actor->ret = gmem_vm_fill(&actor->env->vm, gpa,
						  GMEM_PAGE_SIZE, SEED);
		actor->done++;
	}
	return NULL;
}

/* Runs are well formed even while they change. */
static void *query(void *arg)
{
	struct actor *actor = arg;
	struct gmem_iommu_run runs[NPAGES];
	__u64 end;
	__u32 i;

	while (go_on(actor)) {
		struct gmem_iommu_query_runs args = {
			.size = sizeof(args),
			.nr_runs = NPAGES,
			.runs = (unsigned long)runs,
		};

		if (ioctl(actor->env->binding, GMEM_IOMMU_QUERY_RUNS, &args)) {
			actor->ret = -errno;
			break;
		}
		end = 0;
		for (i = 0; i < args.nr_runs; i++) {
			if (runs[i].offset != end || !runs[i].length)
				actor->ret = -EPROTO;
			if (i && runs[i].flags == runs[i - 1].flags)
				actor->ret = -EPROTO;
			end += runs[i].length;
		}
		if (end != NPAGES * GMEM_PAGE_SIZE || args.cursor != ~0ULL)
			actor->ret = -EPROTO;
		actor->done++;
	}
	return NULL;
}

/* The device reads all the time; what it gets is the page or nothing of it. */
static void *read_by_device(void *arg)
{
	struct actor *actor = arg;
	__u8 buf[GMEM_PAGE_SIZE];
	size_t page;

	while (go_on(actor)) {
		page = rand_r(&actor->state) % NPAGES;
		actor->ret = dma_read(&actor->env->edu[0], env_iova(page), buf);
		actor->done++;
	}
	return NULL;
}

/* C6, N5, M2, M3, C11 */
TEST_F(race, C6_N5_M2_M3_C11_all_at_once)
{
	static void *(*const work[])(void *) = {
		convert, convert, attach_and_detach, touch_by_host,
		touch_by_guest, query, read_by_device,
	};
	struct actor actors[ARRAY_SIZE(work)] = {};
	pthread_t threads[ARRAY_SIZE(work)];
	struct env *env = &self->env;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(work); i++) {
		actors[i].env = env;
		actors[i].state = 1 + i;
		actors[i].first = i * (NPAGES / NR_CONVERTERS);
		actors[i].npages = NPAGES / NR_CONVERTERS;
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, work[i],
					    &actors[i]));
	}
	sleep(SECONDS);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < ARRAY_SIZE(work); i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));

	for (i = 0; i < ARRAY_SIZE(work); i++) {
		EXPECT_EQ(0, actors[i].ret) {
			TH_LOG("actor %zu after %lu rounds", i, actors[i].done);
		}
		EXPECT_LT(0, actors[i].done);
	}

	EXPECT_MIRROR(env);
	EXPECT_EQ(0, env_attach_late(env, true));
	EXPECT_MIRROR(env);
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/*
 * C6: host and guest faults on shared pages never refuse a conversion. The
 * faulting threads start anew with every round, so that the folio is fresh.
 */
TEST_F(race, C6_faults_never_refuse)
{
	struct actor host = { .env = &self->env, .state = 1 };
	struct actor guest = { .env = &self->env, .state = 2 };
	struct env *env = &self->env;
	pthread_t host_thread, guest_thread;
	time_t end = time(NULL) + SECONDS;
	unsigned long rounds = 0;

	ASSERT_EQ(0, pthread_create(&host_thread, NULL, touch_by_host, &host));
	ASSERT_EQ(0, pthread_create(&guest_thread, NULL, touch_by_guest, &guest));
	while (time(NULL) < end) {
		ASSERT_EQ(0, env_convert(env, 0, NPAGES, true)) {
			TH_LOG("round %lu, offset %#llx", rounds,
			       (unsigned long long)env->vm.error_offset);
		}
		ASSERT_EQ(0, env_convert(env, 0, NPAGES, false));
		rounds++;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(host_thread, NULL));
	ASSERT_EQ(0, pthread_join(guest_thread, NULL));

	EXPECT_EQ(0, host.ret);
	EXPECT_EQ(0, guest.ret);
	EXPECT_LT(0, rounds);
	EXPECT_MIRROR(env);
}

#define NR_TOUCHERS	4
#define NR_TOUCHED	32	/* pages that lose their memory in each round */
#define NR_ROUNDS	30

static pthread_barrier_t round_barrier;

/* Every NR_TOUCHERS-th page gets memory, while others give it to the rest. */
static void *give_memory(void *arg)
{
	struct actor *actor = arg;
	struct env *env = actor->env;
	__u8 byte = 1;
	size_t page;
	int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		pthread_barrier_wait(&round_barrier);
		for (page = actor->first; !actor->ret && page < NR_TOUCHED;
		     page += NR_TOUCHERS) {
			/* The first one by the guest, the others by the host. */
			actor->ret = actor->first ?
				host_write(env_host(env, page), &byte, 1) :
				gmem_vm_fill(&env->vm, PAGES(page), PAGES(1), SEED);
			actor->done++;
		}
		pthread_barrier_wait(&round_barrier);
	}
	return NULL;
}

static void punch_and_give(struct __test_metadata *_metadata, struct env *env)
{
	struct actor actors[NR_TOUCHERS] = {};
	pthread_t threads[NR_TOUCHERS];
	int ret = 0;
	size_t i;

	pthread_barrier_init(&round_barrier, NULL, NR_TOUCHERS + 1);
	for (i = 0; i < NR_TOUCHERS; i++) {
		actors[i].env = env;
		actors[i].first = i;
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, give_memory,
					    &actors[i]));
	}
	for (i = 0; i < NR_ROUNDS; i++) {
		ret = ret ?: gmem_punch_hole(env->vm.gmem_fd, 0, PAGES(NR_TOUCHED));
		pthread_barrier_wait(&round_barrier);
		pthread_barrier_wait(&round_barrier);
	}
	EXPECT_EQ(0, ret);
	for (i = 0; i < NR_TOUCHERS; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
		EXPECT_EQ(0, actors[i].ret) {
			TH_LOG("actor %zu after %lu pages", i, actors[i].done);
		}
	}
	pthread_barrier_destroy(&round_barrier);
}

/*
 * M1, M2, M11: faults run side by side, so the events that give memory to pages do, too,
 * and each of them concerns both bindings.
 */
TEST_F(race, M1_M2_M11_memory_for_two_bindings)
{
	struct env *env = &self->env;
	const char *bdf = env->edu[0].bdf;
	int second, i;

	second = mirror_bind(env->vm.gmem_fd, &env->ioas, 0, env->vm.size,
			     OTHER_IOVA);
	ASSERT_LE(0, second);
	ASSERT_EQ(0, env_convert(env, NPAGES / 2, NPAGES / 2, true));
	for (i = 0; i < 10; i++) {
		punch_and_give(_metadata, env);
		ASSERT_MIRROR(env);
		ASSERT_STREQ("", walker_check(bdf, OTHER_IOVA, env->model, NPAGES,
					      env->vm.mem));
		ASSERT_STREQ("", mirror_check_runs(second, 0, env->model, NPAGES));
	}
	close(second);
	EXPECT_MIRROR(env);
}

TEST_HARNESS_MAIN
