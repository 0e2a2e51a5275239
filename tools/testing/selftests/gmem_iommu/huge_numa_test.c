// SPDX-License-Identifier: GPL-2.0
/*
 * Huge pages come from the node that a NUMA policy says: that of the range of the
 * file, set by mbind(2), or else that of the task. Who asks a node that has no more
 * is refused with ENOSPC at the exact page, and nothing has changed.
 *
 * Counts the free huge pages of each node, as sysfs shows them. Needs two nodes, see
 * tests/boot.suite of the workbench.
 *
 * Requirements: H1, H6, C1, C2, C4, M11.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/mempolicy.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/state.h"

#define HUGE(n)		((n) * SIZE_2M)
#define SEED		0x5eed000a
#define IOVA		0x100000000ULL
#define NR_NODES	2
#define NR_HUGE		6UL	/* of the file */
#define NR_PER_NODE	8	/* in the pool */

/* The policy of a range of the file. */
static int bind_range(struct gmem_vm *vm, size_t offset, size_t size, int mode,
		      unsigned long nodes)
{
	return syscall(SYS_mbind, vm->mem + offset, size, mode,
		       nodes ? &nodes : NULL, nodes ? 8 * sizeof(nodes) : 0, 0) ?
		       -errno : 0;
}

static int bind_task(int mode, unsigned long nodes)
{
	return syscall(SYS_set_mempolicy, mode, nodes ? &nodes : NULL,
		       nodes ? 8 * sizeof(nodes) : 0) ? -errno : 0;
}

FIXTURE(numa)
{
	struct gmem_vm vm;
	struct ioas ioas;
	int binding;
	struct hugepool pool;
};

FIXTURE_SETUP(numa)
{
	const char *missing = mirror_missing();
	int node;

	self->binding = -1;
	self->ioas.iommufd = -1;
	self->vm.gmem_fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	for (node = 0; node < NR_NODES; node++)
		if (hugepool_node_free(SIZE_2M, node) < 0)
			SKIP(return, "no node %d", node);
	ASSERT_EQ(0, hugepool_read(SIZE_2M, &self->pool));
	ASSERT_EQ(0, hugepool_resize(SIZE_2M, NR_NODES * NR_PER_NODE));
	for (node = 0; node < NR_NODES; node++)
		ASSERT_EQ(NR_PER_NODE, hugepool_node_free(SIZE_2M, node));

	ASSERT_EQ(0, gmem_vm_create(&self->vm, HUGE(NR_HUGE),
				    GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
				    GUEST_MEMFD_HUGE_2MB));
}

FIXTURE_TEARDOWN(numa)
{
	int node;

	EXPECT_EQ(0, bind_task(MPOL_DEFAULT, 0));
	if (self->binding >= 0)
		close(self->binding);
	ioas_close(&self->ioas);
	gmem_vm_destroy(&self->vm);
	for (node = 0; node < NR_NODES; node++)
		EXPECT_EQ(NR_PER_NODE, hugepool_node_free(SIZE_2M, node));
	EXPECT_EQ(0, hugepool_resize(SIZE_2M, self->pool.nr));
}

/* Huge pages of each node that are in use. */
#define EXPECT_NODES(_first, _second) do {				\
	EXPECT_EQ(NR_PER_NODE - (_first), hugepool_node_free(SIZE_2M, 0)); \
	EXPECT_EQ(NR_PER_NODE - (_second), hugepool_node_free(SIZE_2M, 1)); \
} while (0)

/* Without a device. */
static int bind_file(const struct gmem_vm *vm, struct ioas *ioas)
{
	return ioas_open(ioas) ?:
	       mirror_bind(vm->gmem_fd, ioas, 0, vm->size, IOVA);
}

static int convert(struct gmem_vm *vm, size_t offset, size_t size, __u32 target)
{
	return gmem_convert(vm->gmem_fd, offset, size, target, NULL);
}

/* Each way to memory. */
TEST_F(numa, H1_policy_of_the_file)
{
	struct gmem_vm *vm = &self->vm;
	char byte = 1;

	ASSERT_EQ(0, bind_task(MPOL_BIND, 1 << 0));
	ASSERT_EQ(0, bind_range(vm, 0, HUGE(NR_HUGE), MPOL_BIND, 1 << 1));

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, PAGES(1), SEED));
	EXPECT_NODES(0, 1);
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, HUGE(1), HUGE(1)));
	EXPECT_NODES(0, 2);
	ASSERT_EQ(0, convert(vm, HUGE(2), PAGES(1), SHARED));
	ASSERT_EQ(0, host_write(vm->mem + HUGE(2), &byte, 1));
	EXPECT_NODES(0, 3);
	self->binding = bind_file(vm, &self->ioas);
	ASSERT_LE(0, self->binding);
	ASSERT_EQ(0, convert(vm, HUGE(3) + PAGES(7), PAGES(1), SHARED));
	EXPECT_NODES(0, 4);

	/* In pieces and back again it is the same memory. */
	ASSERT_EQ(0, convert(vm, HUGE(3) + PAGES(7), PAGES(1), PRIVATE));
	ASSERT_EQ(0, convert(vm, HUGE(2), PAGES(1), PRIVATE));
	EXPECT_NODES(0, 4);
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(1), SEED));
}

TEST_F(numa, H1_policy_of_the_task)
{
	struct gmem_vm *vm = &self->vm;

	ASSERT_EQ(0, bind_task(MPOL_BIND, 1 << 1));
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, 0, HUGE(2)));
	EXPECT_NODES(0, 2);
	ASSERT_EQ(0, bind_task(MPOL_BIND, 1 << 0));
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, HUGE(2), HUGE(1)));
	EXPECT_NODES(1, 2);
}

/* What VMMs do: each part of the guest's memory has a node of its own. */
TEST_F(numa, H1_policies_of_ranges)
{
	struct gmem_vm *vm = &self->vm;

	ASSERT_EQ(0, bind_range(vm, 0, HUGE(2), MPOL_BIND, 1 << 1));
	ASSERT_EQ(0, bind_range(vm, HUGE(2), HUGE(4), MPOL_BIND, 1 << 0));
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, HUGE(1), HUGE(1)));
	EXPECT_NODES(0, 1);
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, HUGE(2), HUGE(1)));
	EXPECT_NODES(1, 1);
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, 0, HUGE(NR_HUGE)));
	EXPECT_NODES(4, 2);
}

TEST_F(numa, H1_interleave)
{
	struct gmem_vm *vm = &self->vm;

	ASSERT_EQ(0, bind_range(vm, 0, HUGE(NR_HUGE), MPOL_INTERLEAVE, 3));
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, 0, HUGE(2)));
	EXPECT_NODES(1, 1);
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, HUGE(2), HUGE(4)));
	EXPECT_NODES(3, 3);
}

/* Leave a node @nr huge pages, by another file that has the others. */
static void leave_free(struct __test_metadata *_metadata, struct gmem_vm *other,
		       int node, size_t nr)
{
	const size_t size = HUGE(hugepool_node_free(SIZE_2M, node) - nr);

	ASSERT_EQ(0, gmem_vm_create(other, size,
				    GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
				    GUEST_MEMFD_HUGE_2MB));
	ASSERT_EQ(0, bind_range(other, 0, size, MPOL_BIND, 1 << node));
	ASSERT_EQ(0, gmem_allocate(other->gmem_fd, 0, size));
	ASSERT_EQ(nr, hugepool_node_free(SIZE_2M, node));
}

TEST_F(numa, H1_preferred_node_is_full)
{
	struct gmem_vm *vm = &self->vm, other;

	ASSERT_EQ(0, bind_range(vm, 0, HUGE(NR_HUGE), MPOL_PREFERRED, 1 << 1));
	leave_free(_metadata, &other, 1, 1);
	EXPECT_EQ(0, gmem_allocate(vm->gmem_fd, 0, HUGE(3)));
	EXPECT_NODES(2, NR_PER_NODE);
	gmem_vm_destroy(&other);
	EXPECT_NODES(2, 1);
}

/* The first huge page of a request comes into being, the next one is refused. */
TEST_F(numa, C1_C2_C4_H6_M11_bound_node_is_full)
{
	struct gmem_vm *vm = &self->vm, other;
	const struct kvm_gmem_range ranges[] = {
		{ .offset = HUGE(3) + PAGES(9), .size = PAGES(4), .target = SHARED },
		{ .offset = PAGES(5), .size = PAGES(2), .target = SHARED },
		{ .offset = HUGE(2), .size = PAGES(1), .target = SHARED },
		{ .offset = HUGE(1), .size = PAGES(1), .target = PRIVATE },
	};
	struct gmem_iommu_run runs[4];
	__u64 generation, offset;

	self->binding = bind_file(vm, &self->ioas);
	ASSERT_LE(0, self->binding);
	ASSERT_EQ(0, bind_range(vm, 0, HUGE(NR_HUGE), MPOL_BIND, 1 << 1));
	ASSERT_EQ(0, gmem_vm_fill(vm, HUGE(1), HUGE(1), SEED));
	leave_free(_metadata, &other, 1, 1);

	generation = mirror_generation(self->binding);
	EXPECT_EQ(-ENOSPC, gmem_convert_vec(vm->gmem_fd, ranges,
					    ARRAY_SIZE(ranges), &offset));
	EXPECT_EQ(HUGE(2), offset);
	EXPECT_EQ(generation, mirror_generation(self->binding));
	EXPECT_EQ(1, mirror_read_runs(self->binding, 0, runs, ARRAY_SIZE(runs)));
	EXPECT_EQ(0, runs[0].flags & GMEM_IOMMU_RUN_SHARED);
	EXPECT_TRUE(host_faults(vm->mem + PAGES(5)));
	EXPECT_NODES(0, NR_PER_NODE - 1);
	EXPECT_EQ(-ENOSPC, gmem_allocate(vm->gmem_fd, HUGE(3), HUGE(2)));
	EXPECT_EQ(0, gmem_vm_verify(vm, HUGE(1), HUGE(1), SEED));

	/* With the other node it works. */
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, HUGE(3), HUGE(2)));
	ASSERT_EQ(0, bind_range(vm, HUGE(2), HUGE(4), MPOL_BIND, 1 << 0));
	EXPECT_EQ(0, gmem_convert_vec(vm->gmem_fd, ranges, ARRAY_SIZE(ranges),
				      &offset));
	EXPECT_NODES(2, NR_PER_NODE);
	gmem_vm_destroy(&other);
	EXPECT_NODES(2, 2);
}

TEST_HARNESS_MAIN
