// SPDX-License-Identifier: GPL-2.0
/*
 * What is true in the middle of a conversion: a device is off before a page is private
 * and on after it is shared, nobody gets at the page meanwhile, and the mirror itself
 * refuses nothing.
 *
 * Callbacks are held, and the rest is looked at from outside. The first listener comes
 * before the mirror of the device, the second after it.
 *
 * Requirements: N3, N5, C9.
 */
#include <pthread.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/kvm_stats.h"
#include "lib/listener.h"
#include "lib/walker.h"

#define NPAGES		64
#define SEED		0x5eed3000

struct order_rig {
	struct env env;
	int l[2];
	long long guest_mappings;
};

FIXTURE(order)
{
	struct order_rig rig;
};

FIXTURE_SETUP(order)
{
	struct env *env = &self->rig.env;
	const char *why;

	why = listener_env_missing();
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(env, NPAGES, true));
	ASSERT_EQ(0, listener_open_both(env, self->rig.l));
	ASSERT_EQ(0, gmem_vm_fill(&env->vm, 0, env->vm.size, SEED));
}

FIXTURE_TEARDOWN(order)
{
	listener_close_both(self->rig.l);
	env_destroy(&self->rig.env);
}

struct request {
	struct env *env;
	size_t first, npages;
	bool private;
	int ret;
};

static void *do_request(void *arg)
{
	struct request *r = arg;

	r->ret = env_convert(r->env, r->first, r->npages, r->private);
	return NULL;
}

/* Pages of the host mapping that are present. */
static int count_host_mappings(struct env *env)
{
	__u64 pfns[NPAGES];
	int i, nr = 0;

	if (host_pfns(env->vm.mem, pfns, NPAGES))
		return -1;
	for (i = 0; i < NPAGES; i++)
		nr += !!pfns[i];
	return nr;
}

/* The first of eight pages that are converted. */
#define CONVERTED	8

/**
 * struct moment - What should be true while a callback is held
 * @listener: Of whom
 * @phase: Which callback
 * @is_shared: What the file says
 * @host: Host mappings
 * @guest: Guest mappings that are missing
 * @device: Pages that the device reaches, by its page table and by DMA
 */
struct moment {
	int listener;
	__u32 phase;
	bool is_shared;
	int host;
	int guest;
	int device;
};

static void check_moment(struct __test_metadata *_metadata,
			 struct order_rig *rig, const struct moment *m)
{
	struct gmem_listener_test_record record;
	struct env *env = &rig->env;
	int listener = rig->l[m->listener];

	/* prepare is not held. */
	do {
		ASSERT_EQ(0, listener_wait(listener, &record));
	} while (record.phase == GMEM_LISTENER_TEST_PREPARE);

	EXPECT_EQ(m->phase, record.phase);
	EXPECT_EQ(m->is_shared, record.runs[0].is_shared);
	EXPECT_EQ(m->host, count_host_mappings(env));
	EXPECT_EQ(rig->guest_mappings - m->guest,
		  kvm_stat(env->vm.vm_fd, "pages_4k"));
	EXPECT_EQ(m->device, walker_count(env->edu[0].bdf, ENV_IOVA, NPAGES));
	EXPECT_EQ(m->device == NPAGES,
		  env_device_reads(&env->edu[0], CONVERTED, SEED));
	ASSERT_EQ(0, listener_let_go(listener));
}

static void check_order(struct __test_metadata *_metadata,
			struct order_rig *rig, bool private,
			const struct moment *moments, size_t nr)
{
	struct env *env = &rig->env;
	struct request request = { env, CONVERTED, 8, private };
	pthread_t thread;
	size_t i;

	/* The IOMMU has cached what there is. */
	EXPECT_EQ(private, env_device_reads(&env->edu[0], CONVERTED, SEED));
	for (i = 0; i < 2; i++) {
		listener_forget(rig->l[i]);
		ASSERT_EQ(0, listener_hold(rig->l[i], HOLD_INVALIDATE |
						       HOLD_POPULATE));
	}
	rig->guest_mappings = kvm_stat(env->vm.vm_fd, "pages_4k");
	ASSERT_LT(NPAGES, rig->guest_mappings);

	ASSERT_EQ(0, pthread_create(&thread, NULL, do_request, &request));
	for (i = 0; i < nr; i++) {
		check_moment(_metadata, rig, &moments[i]);
		if (_metadata->exit_code)
			TH_LOG("moment %zu", i);
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, request.ret);
	EXPECT_MIRROR(env);
}

TEST_F(order, N3_to_private)
{
	static const struct moment moments[] = {
		{ 0, GMEM_LISTENER_TEST_INVALIDATE, true, 56, 8, 64 },
		{ 1, GMEM_LISTENER_TEST_INVALIDATE, true, 56, 8, 56 },
		{ 0, GMEM_LISTENER_TEST_POPULATE, false, 56, 8, 56 },
		{ 1, GMEM_LISTENER_TEST_POPULATE, false, 56, 8, 56 },
	};

	/* To the host, too, everything is mapped. */
	ASSERT_MIRROR(&self->rig.env);
	ASSERT_EQ(NPAGES, count_host_mappings(&self->rig.env));
	check_order(_metadata, &self->rig, true, moments, ARRAY_SIZE(moments));
	EXPECT_EQ(0, gmem_vm_verify(&self->rig.env.vm, 0, self->rig.env.vm.size, SEED));
}

TEST_F(order, N3_to_shared)
{
	static const struct moment moments[] = {
		{ 0, GMEM_LISTENER_TEST_INVALIDATE, false, 56, 8, 56 },
		{ 1, GMEM_LISTENER_TEST_INVALIDATE, false, 56, 8, 56 },
		{ 0, GMEM_LISTENER_TEST_POPULATE, true, 56, 8, 56 },
		{ 1, GMEM_LISTENER_TEST_POPULATE, true, 56, 8, 64 },
	};

	ASSERT_EQ(0, env_convert(&self->rig.env, 8, 8, true));
	ASSERT_MIRROR(&self->rig.env);
	ASSERT_EQ(0, gmem_vm_verify(&self->rig.env.vm, 0, self->rig.env.vm.size, SEED));
	check_order(_metadata, &self->rig, false, moments, ARRAY_SIZE(moments));
	EXPECT_EQ(0, gmem_vm_verify(&self->rig.env.vm, 0, self->rig.env.vm.size, SEED));
}

/*
 * While the callbacks of a conversion are held nobody gets at the pages: an
 * access of the host waits, and then has the new state.
 */
static void *touch_page(void *arg)
{
	struct request *r = arg;

	r->ret = host_faults(env_host(r->env, r->first));
	return NULL;
}

TEST_F(order, N3_C9_host_access_waits)
{
	struct request touch = { .env = &self->rig.env, .first = 10, .ret = -1 };
	struct request request = { &self->rig.env, 8, 8, true };
	struct gmem_listener_test_record record;
	pthread_t converter, toucher;

	ASSERT_MIRROR(&self->rig.env);
	listener_forget(self->rig.l[1]);
	ASSERT_EQ(0, listener_hold(self->rig.l[1], HOLD_INVALIDATE));
	ASSERT_EQ(0, pthread_create(&converter, NULL, do_request, &request));
	do {
		ASSERT_EQ(0, listener_wait(self->rig.l[1], &record));
	} while (record.phase != GMEM_LISTENER_TEST_INVALIDATE);

	ASSERT_EQ(0, pthread_create(&toucher, NULL, touch_page, &touch));
	usleep(200000);
	EXPECT_EQ(-1, __atomic_load_n(&touch.ret, __ATOMIC_RELAXED));
	ASSERT_EQ(0, listener_let_go(self->rig.l[1]));
	ASSERT_EQ(0, pthread_join(toucher, NULL));
	ASSERT_EQ(0, pthread_join(converter, NULL));
	EXPECT_EQ(1, touch.ret);
	EXPECT_EQ(0, request.ret);
}

/* N5: listeners, the mirror among them, never refuse by being there. */
TEST_F(order, N5_no_eagain)
{
	struct env *env = &self->rig.env;
	int i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, env_convert(env, i % 32, 32, true)) {
			TH_LOG("round %d at %#llx", i,
			       (unsigned long long)env->vm.error_offset);
		}
		ASSERT_EQ(0, env_convert(env, i % 32, 32, false));
		/* Fresh references of every kind */
		ASSERT_EQ(0, gmem_vm_verify(&env->vm, PAGES(i % 32), PAGES(2), SEED));
		ASSERT_FALSE(host_faults(env_host(env, i % 32)));
	}
	EXPECT_MIRROR(env);
}

TEST_HARNESS_MAIN
