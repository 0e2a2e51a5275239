// SPDX-License-Identifier: GPL-2.0
/*
 * One of three listeners refuses: the caller gets its errno and the exact offset, those
 * that were asked before it hear the abort, and everything is as it was, for the host,
 * for the guest and for a device. Only what has happened already nobody can refuse.
 *
 * The mirror of the device is registered between the second listener and the third.
 *
 * Requirements: N2, C1, C12.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/kvm_stats.h"
#include "lib/listener.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define NPAGES		64
#define SEED		0x5eed3000
#define NR_LISTENERS	3

struct veto_rig {
	struct env env;
	int l[NR_LISTENERS];
	struct gmem_state before;
	__u64 pfns[NPAGES];
	__u64 generation;
	long long guest_mappings;
	struct gmem_iommu_stats stats;
};

FIXTURE(veto)
{
	struct veto_rig rig;
};

/* What is heard when the first, second, third listener refuses. */
static const char * const veto_order[NR_LISTENERS] = {
	"1:refuse ",
	"1:prepare 2:refuse 1:abort ",
	"1:prepare 2:prepare 3:refuse 2:abort 1:abort ",
};

FIXTURE_VARIANT(veto)
{
	int who;
};

FIXTURE_VARIANT_ADD(veto, by_first)
{
	.who = 0,
};

FIXTURE_VARIANT_ADD(veto, by_second)
{
	.who = 1,
};

FIXTURE_VARIANT_ADD(veto, by_third)
{
	.who = 2,
};

FIXTURE_SETUP(veto)
{
	struct env *env = &self->rig.env;
	const char *why;
	int i;

	why = listener_env_missing();
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(env, NPAGES, true));
	ASSERT_EQ(0, env_convert(env, 32, 16, true));
	for (i = 0; i < NR_LISTENERS; i++) {
		if (i == 2)
			ASSERT_EQ(0, env_bind(env));
		self->rig.l[i] = listener_open(env->vm.gmem_fd, 0, NPAGES);
		ASSERT_LE(0, self->rig.l[i]);
	}
	ASSERT_EQ(0, gmem_vm_fill(&env->vm, 0, env->vm.size, SEED));
}

FIXTURE_TEARDOWN(veto)
{
	int i;

	for (i = 0; i < NR_LISTENERS; i++)
		close(self->rig.l[i]);
	env_destroy(&self->rig.env);
}

/* Take down everything that a refusal has to leave alone. */
static void veto_remember(struct __test_metadata *_metadata,
			  struct veto_rig *rig)
{
	struct env *env = &rig->env;
	int i;

	ASSERT_STREQ("", gmem_state_read(&rig->before, env->binding,
					 env->vm.mem, NPAGES));
	ASSERT_MIRROR(env);
	ASSERT_EQ(0, host_pfns(env->vm.mem, rig->pfns, NPAGES));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &rig->stats));
	rig->generation = mirror_generation(env->binding);
	rig->guest_mappings = kvm_stat(env->vm.vm_fd, "pages_4k");
	ASSERT_LT(NPAGES, rig->guest_mappings);
	for (i = 0; i < NR_LISTENERS; i++)
		listener_forget(rig->l[i]);
}

/* N2, C1: the order of calls, and nothing else. */
static void veto_expect_nothing(struct __test_metadata *_metadata,
				struct veto_rig *rig, int who)
{
	struct env *env = &rig->env;
	static struct gmem_state after;
	struct gmem_iommu_stats stats;
	__u64 pfns[NPAGES];

	EXPECT_STREQ(veto_order[who], listener_order(rig->l, NR_LISTENERS));

	/* Mappings first: to read the contents may repair them. */
	EXPECT_EQ(rig->guest_mappings, kvm_stat(env->vm.vm_fd, "pages_4k"));
	ASSERT_EQ(0, host_pfns(env->vm.mem, pfns, NPAGES));
	EXPECT_EQ(0, memcmp(rig->pfns, pfns, sizeof(pfns)));
	EXPECT_EQ(rig->generation, mirror_generation(env->binding));
	EXPECT_MIRROR(env);

	ASSERT_EQ(0, mirror_get_stats(env->binding, &stats));
	EXPECT_EQ(rig->stats.aborts + (who == 2), stats.aborts);
	EXPECT_EQ(rig->stats.conversions, stats.conversions);
	EXPECT_EQ(rig->stats.mapped_pages, stats.mapped_pages);
	EXPECT_EQ(rig->stats.unmapped_pages, stats.unmapped_pages);

	ASSERT_STREQ("", gmem_state_read(&after, env->binding, env->vm.mem,
					 NPAGES));
	EXPECT_EQ(-1, gmem_state_diff(&rig->before, &after));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

TEST_F(veto, N2_conversion)
{
	static const struct {
		size_t first, npages, refused;
		bool private;
	} requests[] = {
		{ 8, 8, 8, true },
		{ 8, 8, 11, true },
		{ 4, 40, 31, true },
		{ 36, 8, 43, false },
		{ 0, NPAGES, 40, false },
	};
	struct env *env = &self->rig.env;
	__u64 offset;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY,
					     ON_CONVERT, requests[i].refused));
		veto_remember(_metadata, &self->rig);

		EXPECT_EQ(-EBUSY, env_convert(env, requests[i].first,
					      requests[i].npages,
					      requests[i].private));
		EXPECT_EQ(PAGES(requests[i].refused), env->vm.error_offset);
		veto_expect_nothing(_metadata, &self->rig, variant->who);

		offset = 1;
		EXPECT_EQ(-EBUSY,
			  gmem_set_attributes2(env->vm.gmem_fd,
					       PAGES(requests[i].first),
					       PAGES(requests[i].npages),
					       requests[i].private ?
					       KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
					       &offset));
		EXPECT_EQ(PAGES(requests[i].refused), offset);
		EXPECT_MIRROR(env);
	}

	/* Others go through, and the same one without the veto. */
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY, ON_CONVERT, 9));
	EXPECT_EQ(0, env_convert(env, 10, 2, true));
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], 0, 0, 0));
	EXPECT_EQ(0, env_convert(env, 8, 8, true));
	EXPECT_MIRROR(env);
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/* Pages that a refused request to shared had allocated are freed again. */
TEST_F(veto, N2_C1_memory_for_shared)
{
	struct env *env = &self->rig.env;
	long resident;

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, PAGES(32), PAGES(8)));
	resident = gmem_nr_resident(env->vm.mem, NPAGES);
	ASSERT_EQ(NPAGES - 8, resident);
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EPERM, ON_CONVERT, 39));
	listener_order(self->rig.l, NR_LISTENERS);

	EXPECT_EQ(-EPERM, env_convert(env, 32, 8, false));
	EXPECT_EQ(PAGES(39), env->vm.error_offset);
	EXPECT_EQ(resident, gmem_nr_resident(env->vm.mem, NPAGES));
	EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
	EXPECT_MIRROR(env);
}

TEST_F(veto, N2_C12_punch_hole)
{
	struct env *env = &self->rig.env;

	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY, ON_TRUNCATE, 11));
	veto_remember(_metadata, &self->rig);
	EXPECT_EQ(-EBUSY, gmem_punch_hole(env->vm.gmem_fd, PAGES(8), PAGES(8)));
	veto_expect_nothing(_metadata, &self->rig, variant->who);

	EXPECT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, PAGES(12), PAGES(4)));
	env_set_model(env, 12, 4, PAGE_HOLE);
	EXPECT_MIRROR(env);
}

/* Nobody refuses what has happened: all hear the rest, and the mirror does its part. */
TEST_F(veto, N2_C12_memslot_deletion)
{
	static const char * const order[NR_LISTENERS] = {
		"1:refuse 2:prepare 3:prepare ",
		"1:prepare 2:refuse 3:prepare ",
		"1:prepare 2:prepare 3:refuse ",
	};
	struct env *env = &self->rig.env;
	char want[200];

	snprintf(want, sizeof(want), "%s%s%s", order[variant->who],
		 "1:invalidate 2:invalidate 3:invalidate ",
		 "1:populate 2:populate 3:populate ");
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY,
				     ON_MEMSLOT_DELETE, 9));
	listener_order(self->rig.l, NR_LISTENERS);

	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	EXPECT_STREQ(want, listener_order(self->rig.l, NR_LISTENERS));
	env_set_model(env, 0, 32, PAGE_HOLE);
	env_set_model(env, 48, 16, PAGE_HOLE);
	EXPECT_MIRROR(env);
}

/* N2: a memslot over memory that was gone. */
TEST_F(veto, N2_C12_memslot_creation)
{
	struct env *env = &self->rig.env;

	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	env_set_model(env, 0, 32, PAGE_HOLE);
	env_set_model(env, 48, 16, PAGE_HOLE);
	ASSERT_MIRROR(env);
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY,
				     ON_MEMSLOT_CREATE, 50));
	listener_order(self->rig.l, NR_LISTENERS);

	EXPECT_EQ(-EBUSY, gmem_vm_create_slot(&env->vm));
	EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
	EXPECT_MIRROR(env);
	/* There is no such slot: the guest's access goes nowhere. */
	EXPECT_NE(0, gmem_vm_verify(&env->vm, 0, PAGES(1), SEED));

	/* Half of it does not concern page 50. */
	EXPECT_EQ(0, gmem_set_slot(env->vm.vm_fd, GMEM_VM_SLOT, 0, PAGES(32),
				   env->vm.gmem_fd, 0, env->vm.mem));
	env_set_model(env, 0, 32, PAGE_SHARED);
	EXPECT_MIRROR(env);
	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));

	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], 0, 0, 0));
	EXPECT_EQ(0, gmem_vm_create_slot(&env->vm));
	env_set_model(env, 48, 16, PAGE_SHARED);
	EXPECT_MIRROR(env);
}

/* N2: nobody gets memory that a listener refused, by none of the ways to it. */
TEST_F(veto, N2_populate)
{
	struct env *env = &self->rig.env;
	int i;

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, PAGES(8), PAGES(8)));
	env_set_model(env, 8, 8, PAGE_HOLE);
	ASSERT_MIRROR(env);
	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], EBUSY, ON_POPULATE, 9));
	listener_order(self->rig.l, NR_LISTENERS);

	/* Each time anew: what was refused did not leave anything behind. */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-EBUSY, gmem_allocate(env->vm.gmem_fd, PAGES(9), PAGES(1)));
		EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
		EXPECT_TRUE(host_faults(env_host(env, 9)));
		EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
		EXPECT_EQ(-EBUSY, gmem_vm_fill(&env->vm, PAGES(9), PAGES(1), SEED));
		EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
		EXPECT_EQ(-EBUSY, listener_fill(self->rig.l[0]));
		EXPECT_STREQ(veto_order[variant->who], listener_order(self->rig.l, NR_LISTENERS));
		EXPECT_MIRROR(env);
	}

	/* The binding of another range is refused with the same, and whole. */
	EXPECT_EQ(-EBUSY, mirror_bind(env->vm.gmem_fd, &env->ioas, 0,
				      PAGES(NPAGES), 0x30000000));
	EXPECT_EQ(0, walker_count(env->edu[0].bdf, 0x30000000, NPAGES));
	EXPECT_MIRROR(env);

	ASSERT_EQ(0, listener_refuse(self->rig.l[variant->who], 0, 0, 0));
	EXPECT_EQ(0, gmem_vm_fill(&env->vm, PAGES(9), PAGES(1), SEED));
	env_set_model(env, 9, 1, PAGE_SHARED);
	EXPECT_MIRROR(env);
}

TEST_HARNESS_MAIN
