// SPDX-License-Identifier: GPL-2.0
/*
 * C13: a signal ends what may still fail, and nothing else. A request that answers
 * EINTR has changed nothing, for the host, for the guest and for devices, and
 * works when it is repeated; one that got further is done whole.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define NPAGES		1024
#define SEED		0x5eed3000
#define SIGNAL_US	200	/* the shortest time from a signal to the next */
#define MAX_TRIES	2000
#define ENOUGH		10	/* interrupted requests in a test */

/**
 * struct scene - What is interrupted
 * @env: The stand, all pages shared and bound
 * @before: State before the request
 * @nr_resident: Pages with memory before the request
 */
struct scene {
	struct env env;
	struct gmem_state before;
	long nr_resident;
};

FIXTURE(signals)
{
	struct scene s;
};

FIXTURE_SETUP(signals)
{
	const char *why = env_missing(1);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create_bound(&self->s.env, NPAGES, SEED));
}

FIXTURE_TEARDOWN(signals)
{
	env_destroy(&self->s.env);
}

static void ignore(int sig)
{
}

/* Signals the thread that started it, until it is stopped. */
struct pest {
	pthread_t victim;
	pthread_t thread;
	bool stop;
	unsigned int pause_us;
};

static void *send_signals(void *arg)
{
	struct pest *pest = arg;

	while (!__atomic_load_n(&pest->stop, __ATOMIC_RELAXED)) {
		usleep(pest->pause_us);
		pthread_kill(pest->victim, SIGUSR1);
	}
	return NULL;
}

/* Without SA_RESTART: the answer of an interrupted ioctl is seen. */
static int pest_start(struct pest *pest, unsigned int pause_us)
{
	struct sigaction sa = { .sa_handler = ignore };

	sigaction(SIGUSR1, &sa, NULL);
	pest->victim = pthread_self();
	pest->stop = false;
	pest->pause_us = pause_us;
	return -pthread_create(&pest->thread, NULL, send_signals, pest);
}

static void pest_stop(struct pest *pest)
{
	__atomic_store_n(&pest->stop, true, __ATOMIC_RELAXED);
	pthread_join(pest->thread, NULL);
}

/* Host, binding and device; the contents; the memory of the file. */
static void remember(struct __test_metadata *_metadata, struct scene *s)
{
	struct env *env = &s->env;

	s->nr_resident = gmem_nr_resident(env->vm.mem, NPAGES);
	ASSERT_LE(0, s->nr_resident);
	ASSERT_STREQ("", gmem_state_read(&s->before, env->binding,
					 env->vm.mem, NPAGES));
	ASSERT_MIRROR(env);
}

static void expect_same(struct __test_metadata *_metadata, struct scene *s)
{
	static struct gmem_state now;
	struct env *env = &s->env;

	ASSERT_EQ(s->nr_resident, gmem_nr_resident(env->vm.mem, NPAGES));
	ASSERT_STREQ("", gmem_state_read(&now, env->binding, env->vm.mem, NPAGES));
	ASSERT_EQ(-1, gmem_state_diff(&s->before, &now));
	ASSERT_EQ(s->before.generation, now.generation);
	ASSERT_MIRROR(env);
}

/* The request waits for a reference, and the signal arrives meanwhile. */
TEST_F(signals, C13_while_waiting_for_a_reference)
{
	struct env *env = &self->s.env;
	int fd, ret, try, interrupted = 0;
	struct pest pest;

	ASSERT_EQ(0, env_convert(env, 0, 8, true));
	/* No pin: a pin is not waited for. */
	fd = host_hold(env_host(env, 900));
	ASSERT_LE(0, fd);
	remember(_metadata, &self->s);

	/*
	 * It waits for ten times as long as a signal takes to come, so almost
	 * every try should meet one while it waits; some do before that.
	 */
	for (try = 0; try < 2 * ENOUGH && interrupted < ENOUGH; try++) {
		ASSERT_EQ(0, pest_start(&pest, SIGNAL_US));
		ret = env_convert(env, 16, NPAGES - 16, true);
		pest_stop(&pest);
		if (ret == -EINTR) {
			interrupted++;
			EXPECT_EQ(0, env->vm.error_offset);
		} else {
			ASSERT_EQ(-EAGAIN, ret);
			EXPECT_EQ(900 * GMEM_PAGE_SIZE, env->vm.error_offset);
		}
		expect_same(_metadata, &self->s);
	}
	TH_LOG("%d of %d interrupted", interrupted, try);
	EXPECT_EQ(ENOUGH, interrupted);

	/* The same request, when nobody is in its way. */
	close(fd);
	ASSERT_EQ(0, env_convert(env, 16, NPAGES - 16, true));
	EXPECT_MIRROR(env);
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/*
 * Signals at all times: a request is either interrupted or done. The time
 * between two signals grows with every interruption, so that they reach further
 * and further, and each request is repeated until it succeeds.
 */
static void convert_under_fire(struct __test_metadata *_metadata,
			       struct scene *s,
			       const struct kvm_gmem_range *ranges, __u32 nr,
			       int *interrupted)
{
	unsigned int pause_us = SIGNAL_US;
	struct env *env = &s->env;
	struct pest pest;
	int try, ret;

	remember(_metadata, s);
	for (try = 0; try < MAX_TRIES; try++) {
		ASSERT_EQ(0, pest_start(&pest, pause_us));
		ret = env_convert_vec(env, ranges, nr);
		pest_stop(&pest);
		EXPECT_EQ(0, env->vm.error_offset);
		if (!ret)
			break;
		ASSERT_EQ(-EINTR, ret);
		*interrupted += 1;
		pause_us += pause_us / 2;
		expect_same(_metadata, s);
	}
	ASSERT_EQ(0, ret);
	ASSERT_MIRROR(env);
}

/* A thousand runs, of both directions. */
TEST_F(signals, C1_C13_long_vector)
{
	static struct kvm_gmem_range ranges[NPAGES];
	struct env *env = &self->s.env;
	int round, interrupted = 0;
	size_t i;

	for (i = 0; i < NPAGES; i++) {
		ranges[i].offset = i * GMEM_PAGE_SIZE;
		ranges[i].size = GMEM_PAGE_SIZE;
		ranges[i].reserved = 0;
	}
	for (round = 0; round < MAX_TRIES && interrupted < ENOUGH; round++) {
		for (i = 0; i < NPAGES; i++)
			ranges[i].target = (i + round) % 2 ?
					   KVM_GMEM_TARGET_SHARED :
					   KVM_GMEM_TARGET_PRIVATE;
		convert_under_fire(_metadata, &self->s, ranges, NPAGES, &interrupted);
	}
	TH_LOG("%d interrupted in %d requests", interrupted, round);
	EXPECT_LE(ENOUGH, interrupted);
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/* A request that has to allocate: what it had allocated is freed again. */
TEST_F(signals, C13_M11_allocating)
{
	struct kvm_gmem_range range = {
		.size = self->s.env.vm.size,
		.target = KVM_GMEM_TARGET_SHARED,
	};
	struct env *env = &self->s.env;
	int round, interrupted = 0;

	for (round = 0; round < MAX_TRIES && interrupted < ENOUGH; round++) {
		ASSERT_EQ(0, env_convert(env, 0, NPAGES, true));
		ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 0, env->vm.size));
		convert_under_fire(_metadata, &self->s, &range, 1, &interrupted);
		EXPECT_EQ(NPAGES, gmem_nr_resident(env->vm.mem, NPAGES));
	}
	TH_LOG("%d interrupted in %d requests", interrupted, round);
	EXPECT_LE(ENOUGH, interrupted);
}

/* The same for a binding of a file without memory: nothing is left behind. */
TEST_F(signals, C13_M11_bind)
{
	unsigned int pause_us = SIGNAL_US;
	struct env *env = &self->s.env;
	int ret, try, interrupted = 0;
	struct pest pest;
	int nr_fds;

	close(env->binding);
	env->binding = -1;
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 0, env->vm.size));
	nr_fds = count_open_fds();

	for (try = 0; try < MAX_TRIES; try++) {
		ASSERT_EQ(0, pest_start(&pest, pause_us));
		ret = env_bind(env);
		pest_stop(&pest);
		if (!ret && interrupted >= ENOUGH)
			break;
		if (!ret) {
			/* Too late: begin again, faster. */
			close(env->binding);
			env->binding = -1;
			ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, 0,
						     env->vm.size));
			pause_us = SIGNAL_US;
			continue;
		}
		ASSERT_EQ(-EINTR, ret);
		interrupted++;
		pause_us += pause_us / 2;
		ASSERT_EQ(nr_fds, count_open_fds());
		ASSERT_EQ(0, gmem_nr_resident(env->vm.mem, NPAGES));
		ASSERT_EQ(0, walker_count(env->edu[0].bdf, ENV_IOVA, NPAGES));
	}
	TH_LOG("%d of %d interrupted", interrupted, try);
	EXPECT_LE(ENOUGH, interrupted);
	ASSERT_EQ(0, ret);
	EXPECT_MIRROR(env);
}

TEST_HARNESS_MAIN
