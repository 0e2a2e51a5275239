// SPDX-License-Identifier: GPL-2.0
/*
 * Memslots over a file that is mirrored: pages whose memslot is deleted are guest
 * memory no more, and devices do not reach them, until a memslot covers them
 * again. Each step is compared with the IOMMU's own page table, with the runs of
 * the binding (where such a page is shared and not mapped, like a hole) and, where
 * it says so, with real DMA.
 *
 * Requirements: C12, M2, M3, C8, C11.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/kvm_stats.h"
#include "lib/listener.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define NPAGES		128
#define SEED		0x5eed4000
#define OTHER_IOVA	0x30000000ULL
#define OTHER_GPA	0x20000000ULL
#define OTHER_SLOT	20

#define RANDOM_STEPS	120

/*
 * The file, bound, in one memslot at 0. Pages 32 to 63 are private, all others
 * shared; all have contents.
 */
FIXTURE(memslot)
{
	struct env env;
	struct edu *edu;
	__u8 page[GMEM_PAGE_SIZE];
};

FIXTURE_SETUP(memslot)
{
	const char *why = env_missing(1);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, env_create(&self->env, NPAGES, true));
	self->edu = &self->env.edu[0];
	ASSERT_EQ(0, env_convert(&self->env, 32, 32, true));
	ASSERT_EQ(0, gmem_vm_fill(&self->env.vm, 0, self->env.vm.size, SEED));
	ASSERT_EQ(0, env_bind(&self->env));
	ASSERT_MIRROR(&self->env);
}

FIXTURE_TEARDOWN(memslot)
{
	env_destroy(&self->env);
}

static int delete_slot(struct env *env, __u32 slot)
{
	return gmem_set_slot(env->vm.vm_fd, slot, 0, 0, -1, 0, NULL);
}

static int create_slot(struct env *env, __u32 slot, __u64 gpa, size_t first,
		       size_t npages)
{
	return gmem_set_slot(env->vm.vm_fd, slot, gpa, PAGES(npages),
			     env->vm.gmem_fd, PAGES(first),
			     env_host(env, first));
}

/* Pages of a range go away, or come back: of the model those that are shared. */
static void model_gone(struct env *env, size_t first, size_t npages, bool gone)
{
	size_t i;

	for (i = first; i < first + npages; i++)
		if (env->model[i] != PAGE_PRIVATE)
			env->model[i] = gone ? PAGE_HOLE : PAGE_SHARED;
}

/* C12: gone with the slot, also for the device itself; back with it. */
TEST_F(memslot, C12_M2_delete_and_create)
{
	struct env *env = &self->env;
	int i;

	EXPECT_TRUE(env_device_reads(self->edu, 10, SEED));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
		model_gone(env, 0, NPAGES, true);
		ASSERT_MIRROR(&self->env);
		EXPECT_EQ(0, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
		EXPECT_FALSE(env_device_reads(self->edu, 10, SEED));

		ASSERT_EQ(0, gmem_vm_create_slot(&env->vm));
		model_gone(env, 0, NPAGES, false);
		ASSERT_MIRROR(&self->env);
		EXPECT_TRUE(env_device_reads(self->edu, 10, SEED));
		EXPECT_FALSE(env_device_reads(self->edu, 40, SEED));
	}
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

/* The device cannot write what is gone; the contents wait. */
TEST_F(memslot, C12_C11_gone_pages_keep_their_contents)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	memset(self->page, 0xff, sizeof(self->page));
	ASSERT_EQ(0, dma_write(self->edu, env_iova(10), self->page));
	EXPECT_TRUE(dma_read_faults(self->edu, env_iova(10)));
	ASSERT_EQ(0, gmem_vm_create_slot(&env->vm));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
	EXPECT_MIRROR(&self->env);
}

/* Where the guest sees it does not matter to the device. */
TEST_F(memslot, C12_another_guest_address)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	ASSERT_EQ(0, create_slot(env, OTHER_SLOT, OTHER_GPA, 0, NPAGES));
	ASSERT_MIRROR(&self->env);
	EXPECT_TRUE(env_device_reads(self->edu, 10, SEED));

	ASSERT_EQ(0, gmem_vm_fill(&env->vm, OTHER_GPA + PAGES(10), PAGES(1), SEED));
	ASSERT_EQ(0, dma_read(self->edu, env_iova(10), self->page));
	EXPECT_TRUE(gmem_pattern_matches(self->page, OTHER_GPA + PAGES(10), SEED));
}

/*
 * A memslot over a guest_memfd can only be deleted: to move it, to change its
 * flags or the file behind it is refused, and the mirror and the guest do not see
 * that somebody tried.
 */
TEST_F(memslot, C12_move_is_refused)
{
	struct kvm_userspace_memory_region2 args = {
		.slot = GMEM_VM_SLOT,
		.flags = KVM_MEM_GUEST_MEMFD,
		.memory_size = self->env.vm.size,
		.userspace_addr = (unsigned long)self->env.vm.mem,
		.guest_memfd = self->env.vm.gmem_fd,
	};
	struct kvm_userspace_memory_region2 attempts[] = {
		args, args, args, args, args,
	};
	struct gmem_iommu_stats before, after;
	struct kvm_counters counters;
	struct env *env = &self->env;
	__u64 generation;
	size_t i;

	attempts[0].guest_phys_addr = OTHER_GPA;
	attempts[1].flags |= KVM_MEM_READONLY;
	attempts[2].guest_memfd_offset = PAGES(1);
	attempts[2].memory_size -= PAGES(1);
	attempts[3].memory_size /= 2;
	attempts[4].flags = 0;
	attempts[4].guest_phys_addr = OTHER_GPA;

	ASSERT_EQ(0, mirror_get_stats(env->binding, &before));
	ASSERT_EQ(0, kvm_counters_read(env->vm.vm_fd, &counters));
	generation = mirror_generation(env->binding);
	for (i = 0; i < ARRAY_SIZE(attempts); i++) {
		EXPECT_NE(0, ioctl(env->vm.vm_fd, KVM_SET_USER_MEMORY_REGION2,
				   &attempts[i])) {
			TH_LOG("attempt %zu", i);
		}
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_STREQ("", kvm_counters_changed(env->vm.vm_fd, &counters));
	EXPECT_EQ(generation, mirror_generation(env->binding));
	ASSERT_EQ(0, mirror_get_stats(env->binding, &after));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	EXPECT_MIRROR(&self->env);
	EXPECT_TRUE(env_device_reads(self->edu, 10, SEED));
}

/* Parts come and go one by one, over both states. */
TEST_F(memslot, C12_M2_parts)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	model_gone(env, 0, NPAGES, true);

	/* The upper half, elsewhere */
	ASSERT_EQ(0, create_slot(env, OTHER_SLOT, OTHER_GPA, 64, 64));
	model_gone(env, 64, 64, false);
	ASSERT_MIRROR(&self->env);

	/* A part that begins shared and ends private */
	ASSERT_EQ(0, create_slot(env, GMEM_VM_SLOT, 0, 16, 20));
	model_gone(env, 16, 20, false);
	ASSERT_MIRROR(&self->env);

	ASSERT_EQ(0, delete_slot(env, OTHER_SLOT));
	model_gone(env, 64, 64, true);
	ASSERT_MIRROR(&self->env);
	ASSERT_EQ(0, create_slot(env, OTHER_SLOT, OTHER_GPA, 36, 92));
	model_gone(env, 36, 92, false);
	ASSERT_MIRROR(&self->env);

	/* What no memslot took up stays away. */
	EXPECT_FALSE(env_device_reads(self->edu, 15, SEED));
	EXPECT_TRUE(env_device_reads(self->edu, 16, SEED));

	/* The first part again, now as one */
	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	ASSERT_EQ(0, create_slot(env, GMEM_VM_SLOT, 0, 0, 36));
	model_gone(env, 0, 36, false);
	ASSERT_MIRROR(&self->env);
	EXPECT_EQ(NPAGES - 32, walker_count(self->edu->bdf, ENV_IOVA, NPAGES));
}

/* Conversions while the pages are gone take effect when they are back. */
TEST_F(memslot, C12_C8_conversions_while_gone)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	model_gone(env, 0, NPAGES, true);
	ASSERT_EQ(0, env_convert(env, 40, 4, false));
	model_gone(env, 40, 4, true);
	ASSERT_EQ(0, env_convert(env, 8, 8, true));
	ASSERT_MIRROR(&self->env);
	EXPECT_TRUE(host_faults(env_host(env, 8)));

	/* A page that loses its memory meanwhile, and one that had none */
	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, PAGES(70), PAGES(2)));
	ASSERT_MIRROR(&self->env);
	ASSERT_EQ(0, gmem_vm_create_slot(&env->vm));
	model_gone(env, 0, NPAGES, false);
	ASSERT_MIRROR(&self->env);

	ASSERT_EQ(0, gmem_vm_fill(&env->vm, PAGES(70), PAGES(2), SEED));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
	EXPECT_TRUE(env_device_reads(self->edu, 41, SEED));
	EXPECT_FALSE(env_device_reads(self->edu, 9, SEED));
}

/* Memory that appears in gone pages, by the host, is not reported until then. */
TEST_F(memslot, C12_memory_comes_while_gone)
{
	struct env *env = &self->env;

	ASSERT_EQ(0, gmem_punch_hole(env->vm.gmem_fd, PAGES(70), PAGES(4)));
	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	model_gone(env, 0, NPAGES, true);
	ASSERT_EQ(0, gmem_allocate(env->vm.gmem_fd, PAGES(70), PAGES(1)));
	ASSERT_EQ(0, host_write(env_host(env, 71), "x", 1));
	ASSERT_MIRROR(&self->env);

	ASSERT_EQ(0, gmem_vm_create_slot(&env->vm));
	model_gone(env, 0, NPAGES, false);
	ASSERT_MIRROR(&self->env);
}

/* M3: a device, and a domain of its own, that come while the pages are gone. */
TEST_F(memslot, C12_M3_attach_while_gone)
{
	struct env *env = &self->env;
	int i;

	if (env->bdfs.nr < 2)
		SKIP(return, "only one edu device");

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
		model_gone(env, 0, NPAGES, true);
		ASSERT_EQ(0, env_attach_late(env, i));
		ASSERT_MIRROR(&self->env);
		EXPECT_EQ(0, walker_count(env->edu[1].bdf, ENV_IOVA, NPAGES));
		EXPECT_FALSE(env_device_reads(&env->edu[1], 10, SEED));

		ASSERT_EQ(0, gmem_vm_create_slot(&env->vm));
		model_gone(env, 0, NPAGES, false);
		ASSERT_MIRROR(&self->env);
		EXPECT_TRUE(env_device_reads(&env->edu[1], 10, SEED));

		/* And one that sees the slot go */
		ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
		model_gone(env, 0, NPAGES, true);
		ASSERT_MIRROR(&self->env);
		ASSERT_EQ(0, gmem_vm_create_slot(&env->vm));
		model_gone(env, 0, NPAGES, false);
		ASSERT_EQ(0, env_detach_late(env));
		ASSERT_MIRROR(&self->env);
	}
}

/* A bind to pages that are gone maps nothing until they are back. */
TEST_F(memslot, C12_bind_while_gone)
{
	struct env *env = &self->env;
	int second;

	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	model_gone(env, 0, NPAGES, true);
	second = mirror_bind(env->vm.gmem_fd, &env->ioas, 0, env->vm.size,
			     OTHER_IOVA);
	ASSERT_LE(0, second);
	EXPECT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA, env->model,
				      NPAGES, env->vm.mem));
	EXPECT_STREQ("", mirror_check_runs(second, 0, env->model, NPAGES));

	ASSERT_EQ(0, create_slot(env, GMEM_VM_SLOT, 0, 16, 64));
	model_gone(env, 16, 64, false);
	EXPECT_MIRROR(&self->env);
	EXPECT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA, env->model,
				      NPAGES, env->vm.mem));
	EXPECT_STREQ("", mirror_check_runs(second, 0, env->model, NPAGES));
	close(second);
}

/* A file that was never in a memslot is mirrored, and stays so when it gets one. */
TEST_F(memslot, C12_before_the_first_memslot)
{
	struct env *env = &self->env;
	__u8 model[16];
	int fd, second;

	fd = gmem_create_fd(env->vm.vm_fd, PAGES(16), GMEM_VM_SHARED);
	ASSERT_LE(0, fd);
	second = mirror_bind(fd, &env->ioas, 0, PAGES(16), OTHER_IOVA);
	ASSERT_LE(0, second);
	memset(model, PAGE_SHARED, sizeof(model));
	EXPECT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA, model, 16, NULL));

	ASSERT_EQ(0, gmem_set_slot(env->vm.vm_fd, OTHER_SLOT, OTHER_GPA,
				   PAGES(8), fd, 0, env->vm.mem));
	EXPECT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA, model, 16, NULL));
	ASSERT_EQ(0, delete_slot(env, OTHER_SLOT));
	memset(model, PAGE_HOLE, 8);
	EXPECT_STREQ("", walker_check(self->edu->bdf, OTHER_IOVA, model, 16, NULL));
	EXPECT_STREQ("", mirror_check_runs(second, 0, model, 16));
	EXPECT_MIRROR(&self->env);
	close(second);
	close(fd);
}

/* N2: a listener refuses; the guest has no slot and the device nothing new. */
TEST_F(memslot, C12_N2_refused_creation)
{
	const char *why = listener_missing();
	struct env *env = &self->env;
	int l, err, i;

	if (why)
		SKIP(return, "%s", why);
	l = listener_open(env->vm.gmem_fd, 0, NPAGES);
	ASSERT_LE(0, l);
	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	model_gone(env, 0, NPAGES, true);

	for (i = 0; i < 3; i++) {
		err = i == 1 ? ENOMEM : EBUSY;
		ASSERT_EQ(0, listener_refuse(l, err, ON_MEMSLOT_CREATE, 100));
		ASSERT_EQ(-err, gmem_vm_create_slot(&env->vm));
		ASSERT_MIRROR(&self->env);
		ASSERT_EQ(0, env_convert(env, 30, 4, i % 2));
		model_gone(env, 0, NPAGES, true);
		ASSERT_MIRROR(&self->env);
	}

	ASSERT_EQ(0, create_slot(env, OTHER_SLOT, OTHER_GPA, 0, 100));
	model_gone(env, 0, 100, false);
	ASSERT_MIRROR(&self->env);
	ASSERT_EQ(0, listener_refuse(l, 0, 0, 0));
	ASSERT_EQ(0, create_slot(env, GMEM_VM_SLOT, 0, 100, 28));
	model_gone(env, 100, 28, false);
	ASSERT_MIRROR(&self->env);
	close(l);
}

/*
 * C12, M2: anything in any order. The file is in four memslots of a quarter each;
 * each that is away takes its pages with it.
 */
TEST_F(memslot, C12_M2_random)
{
	const size_t quarter = NPAGES / 4;
	unsigned int state = 20261121;
	struct env *env = &self->env;
	bool present[4] = {};
	int step, q, page, n;
	bool private;

	ASSERT_EQ(0, gmem_vm_delete_slot(&env->vm));
	model_gone(env, 0, NPAGES, true);
	for (step = 0; step < RANDOM_STEPS; step++) {
		q = rand_r(&state) % 4;
		if (rand_r(&state) % 2) {
			ASSERT_EQ(0, present[q] ?
				  delete_slot(env, OTHER_SLOT + q) :
				  create_slot(env, OTHER_SLOT + q, PAGES(q * quarter),
					      q * quarter, quarter)) {
				TH_LOG("step %d, slot %d", step, q);
			}
			present[q] = !present[q];
		} else {
			page = rand_r(&state) % NPAGES;
			n = 1 + rand_r(&state) % (NPAGES - page);
			private = rand_r(&state) % 2;
			ASSERT_EQ(0, env_convert(env, page, n, private));
		}
		for (q = 0; q < 4; q++)
			model_gone(env, q * quarter, quarter, !present[q]);
		ASSERT_MIRROR(env) {
			TH_LOG("step %d", step);
		}
	}
	for (q = 0; q < 4; q++)
		if (!present[q])
			ASSERT_EQ(0, create_slot(env, OTHER_SLOT + q, PAGES(q * quarter),
						 q * quarter, quarter));
	EXPECT_EQ(0, gmem_vm_verify(&env->vm, 0, env->vm.size, SEED));
}

TEST_HARNESS_MAIN
