// SPDX-License-Identifier: GPL-2.0
/*
 * C12: what takes memory away from devices besides a conversion: a punched hole,
 * broken memory, a memslot that is deleted, and the last close of the file. Each
 * has its own reason; when the listeners have heard of it no device reaches the
 * pages, although the IOMMU had cached their translations; and the neighbours are
 * not disturbed.
 *
 * Two listeners are held in the middle, the first before the mirror of the device
 * and the second after it, and the rest is looked at from outside.
 *
 * Requirements: C12, C8, N1, N3, M2.
 */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/kvm_stats.h"
#include "lib/listener.h"
#include "lib/mirror.h"
#include "lib/walker.h"

#define NPAGES		64
#define SEED		0x5eed8000

/* The pages that a hole or broken memory concerns; there is one broken page. */
#define HOLE_FIRST	8
#define HOLE_PAGES	4
#define NEIGHBOUR	(HOLE_FIRST + HOLE_PAGES)

static int punch(struct env *env)
{
	return gmem_punch_hole(env->vm.gmem_fd, HOLE_FIRST * GMEM_PAGE_SIZE,
			       HOLE_PAGES * GMEM_PAGE_SIZE);
}

static int break_memory(struct env *env)
{
	return host_break(env_host(env, HOLE_FIRST));
}

static int delete_memslot(struct env *env)
{
	return gmem_vm_delete_slot(&env->vm);
}

static int close_file(struct env *env)
{
	gmem_vm_close_gmem(&env->vm);
	return 0;
}

struct revoke_rig {
	struct env env;
	struct edu *edu;
	int l[2];
	long long guest_mappings;
};

FIXTURE(revoke)
{
	struct revoke_rig rig;
};

/**
 * struct revoke_variant - A way to lose memory
 * @revoke: Do it
 * @reason: Bit of its reason
 * @first: First page that is lost
 * @npages: Number of pages that are lost
 * @keeps_memory: The pages have their memory while the listeners are told
 */
FIXTURE_VARIANT(revoke)
{
	int (*revoke)(struct env *env);
	__u32 reason;
	size_t first;
	size_t npages;
	bool keeps_memory;
};

FIXTURE_VARIANT_ADD(revoke, hole)
{
	.revoke = punch,
	.reason = ON_TRUNCATE,
	.first = HOLE_FIRST,
	.npages = HOLE_PAGES,
	.keeps_memory = true,
};

FIXTURE_VARIANT_ADD(revoke, broken)
{
	.revoke = break_memory,
	.reason = ON_MEMORY_FAILURE,
	.first = HOLE_FIRST,
	.npages = 1,
};

FIXTURE_VARIANT_ADD(revoke, memslot)
{
	.revoke = delete_memslot,
	.reason = ON_MEMSLOT_DELETE,
	.npages = NPAGES,
};

FIXTURE_VARIANT_ADD(revoke, last_close)
{
	.revoke = close_file,
	.reason = ON_RELEASE,
	.npages = NPAGES,
	.keeps_memory = true,
};

FIXTURE_SETUP(revoke)
{
	struct env *env = &self->rig.env;
	const char *why;

	why = listener_env_missing();
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create_filled(env, NPAGES, true, SEED));
	self->rig.edu = &env->edu[0];
	ASSERT_EQ(0, listener_open_both(env, self->rig.l));
	/* Mapped by everybody, and cached by the IOMMU. */
	ASSERT_MIRROR(env);
	self->rig.guest_mappings = kvm_stat(env->vm.vm_fd, "pages_4k");
	ASSERT_LT(NPAGES, self->rig.guest_mappings);
}

FIXTURE_TEARDOWN(revoke)
{
	listener_close_both(self->rig.l);
	env_destroy(&self->rig.env);
}

/* What the thread that revokes is told, and what it answers. */
struct revocation {
	struct env *env;
	int (*revoke)(struct env *env);
	pthread_t thread;
	int ret;
};

static void *do_revoke(void *arg)
{
	struct revocation *r = arg;

	r->ret = r->revoke(r->env);
	return NULL;
}

/* The call of a listener that takes the pages away, before it returns. */
static void wait_for_invalidate(struct __test_metadata *_metadata, int listener,
				struct gmem_listener_test_record *record)
{
	do {
		ASSERT_EQ(0, listener_wait(listener, record));
	} while (record->phase == GMEM_LISTENER_TEST_PREPARE);
	EXPECT_EQ(GMEM_LISTENER_TEST_INVALIDATE, record->phase);
}

TEST_F(revoke, C12_C8_N1_N3_M2_device_is_off)
{
	struct revocation r = { .env = &self->rig.env, .revoke = variant->revoke };
	const int left = NPAGES - (int)variant->npages;
	struct gmem_listener_test_record record;
	struct revoke_rig *rig = &self->rig;
	struct env *env = &rig->env;
	int i;

	EXPECT_TRUE(env_device_reads(rig->edu, variant->first, SEED));
	for (i = 0; i < 2; i++) {
		listener_forget(rig->l[i]);
		ASSERT_EQ(0, listener_hold(rig->l[i], HOLD_INVALIDATE));
	}
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, do_revoke, &r));

	for (i = 0; i < 2; i++) {
		wait_for_invalidate(_metadata, rig->l[i], &record);
		EXPECT_EQ(variant->reason, 1U << record.reason);
		EXPECT_EQ(variant->keeps_memory,
			  !!(record.runs[0].memory & GMEM_LISTENER_TEST_MEMORY));
		/* The guest is off before the first, the device before the second. */
		EXPECT_EQ(rig->guest_mappings - (int)variant->npages,
			  kvm_stat(env->vm.vm_fd, "pages_4k"));
		EXPECT_EQ(i ? left : NPAGES,
			  walker_count(rig->edu->bdf, ENV_IOVA, NPAGES));
		if (i)
			EXPECT_FALSE(env_device_reads(rig->edu, variant->first, SEED));
		ASSERT_EQ(0, listener_let_go(rig->l[i]));
	}
	ASSERT_EQ(0, pthread_join(r.thread, NULL));
	if (r.ret == -EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	EXPECT_EQ(0, r.ret);

	env_set_model(env, variant->first, variant->npages, PAGE_HOLE);
	EXPECT_EQ(env->vm.gmem_fd < 0, mirror_poll_dead(env->binding));
	if (env->vm.gmem_fd >= 0)
		EXPECT_MIRROR(env);
	EXPECT_EQ(left, walker_count(rig->edu->bdf, ENV_IOVA, NPAGES));
	EXPECT_EQ(!!left, env_device_reads(rig->edu, NEIGHBOUR, SEED));
	EXPECT_TRUE(dma_read_faults(rig->edu, env_iova(variant->first)));
}

/* A device that comes afterwards does not reach them either: M3. */
TEST_F(revoke, C12_M3_late_device)
{
	const int left = NPAGES - (int)variant->npages;
	struct env *env = &self->rig.env;
	int i;

	if (env->bdfs.nr < 2)
		SKIP(return, "only one edu device");
	if (variant->revoke(env) == -EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, env_attach_late(env, i));
		EXPECT_EQ(left, walker_count(env->edu[1].bdf, ENV_IOVA, NPAGES));
		EXPECT_FALSE(env_device_reads(&env->edu[1], variant->first, SEED));
		EXPECT_EQ(!!left, env_device_reads(&env->edu[1], NEIGHBOUR, SEED));
		ASSERT_EQ(0, env_detach_late(env));
	}
}

TEST_HARNESS_MAIN
