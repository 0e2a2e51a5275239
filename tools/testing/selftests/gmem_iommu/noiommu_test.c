// SPDX-License-Identifier: GPL-2.0
/*
 * M13: a device without an IOMMU. VFIO gives it away when the host says that it may
 * be unsafe, and its user asks iommufd for physical addresses and programs them into
 * it. Nothing takes an address back from there, so such a device and a binding are
 * never in one IOAS, in whichever order they come, and no address of a guest_memfd is
 * told.
 *
 * For a kernel that was booted with intel_iommu=off vfio.enable_unsafe_noiommu_mode=1.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/iommufd.h>

#include "lib/dma.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define NPAGES		16
#define SIZE		(NPAGES * GMEM_PAGE_SIZE)
#define IOVA		0x10000000ULL

FIXTURE(noiommu)
{
	struct gmem_vm vm;
	struct ioas ioas;
	struct edu edu;
	__u8 model[NPAGES];
};

/* The size of an IOMMU leaf that the binding allows */
FIXTURE_VARIANT(noiommu)
{
	__u64 max_leaf_size;
};

FIXTURE_VARIANT_ADD(noiommu, small_leaves)
{
	.max_leaf_size = GMEM_PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(noiommu, large_leaves)
{
	.max_leaf_size = 0,
};

FIXTURE_SETUP(noiommu)
{
	const char *why = mirror_missing();
	struct edu_list list;

	edu_list(&list);
	if (!why && !list.nr)
		why = "no edu device (qemu -device edu)";
	if (!why && !access("/sys/class/iommu/dmar0", F_OK))
		why = "there is an IOMMU (intel_iommu=off)";
	if (why)
		SKIP(return, "%s", why);

	ASSERT_EQ(0, gmem_vm_create(&self->vm, SIZE, GMEM_VM_SHARED));
	ASSERT_EQ(0, ioas_open(&self->ioas));
	if (edu_open(&self->edu, list.bdf[0], self->ioas.iommufd))
		SKIP(return, "no device (vfio.enable_unsafe_noiommu_mode=1)");
	memset(self->model, PAGE_SHARED, NPAGES);
}

FIXTURE_TEARDOWN(noiommu)
{
	edu_close(&self->edu);
	ioas_close(&self->ioas);
	gmem_vm_destroy(&self->vm);
}

static int bind_file(const struct gmem_vm *vm, const struct ioas *ioas,
		     __u64 max_leaf_size)
{
	return mirror_bind_leaves(vm->gmem_fd, ioas, 0, vm->size, IOVA,
				  max_leaf_size);
}

/* What the user of the device learns: 0 and a physical address, or -errno. */
static int get_address(const struct ioas *ioas, __u64 iova, __u64 *phys)
{
	struct iommu_ioas_noiommu_get_pa args = {
		.size = sizeof(args),
		.ioas_id = ioas->id,
		.length = GMEM_PAGE_SIZE,
		.iova = iova,
	};

	if (ioctl(ioas->iommufd, IOMMU_IOAS_NOIOMMU_GET_PA, &args))
		return -errno;
	*phys = args.out_phys;
	return 0;
}

/* The IOAS works for the device as it should: of ordinary memory it is told. */
static void expect_ordinary(struct __test_metadata *_metadata,
			    const struct ioas *ioas)
{
	__u64 phys = 0, pfn;

	ASSERT_EQ(0, host_pfns(ioas->scratch, &pfn, 1));
	EXPECT_EQ(0, get_address(ioas, IOAS_SCRATCH_IOVA, &phys));
	EXPECT_EQ(pfn * GMEM_PAGE_SIZE, phys);
}

static void expect_nothing_told(struct __test_metadata *_metadata,
				const struct ioas *ioas)
{
	__u64 phys;
	int i;

	for (i = 0; i < NPAGES; i++)
		EXPECT_GT(0, get_address(ioas, IOVA + i * GMEM_PAGE_SIZE, &phys));
}

TEST_F(noiommu, M13_U7_bind_is_refused)
{
	ASSERT_EQ(0, edu_attach(&self->edu, &self->ioas, self->ioas.id));
	expect_ordinary(_metadata, &self->ioas);

	EXPECT_EQ(-EOPNOTSUPP, bind_file(&self->vm, &self->ioas,
					 variant->max_leaf_size));
	expect_nothing_told(_metadata, &self->ioas);
	EXPECT_EQ(0, gmem_nr_resident(self->vm.mem, NPAGES));
	expect_ordinary(_metadata, &self->ioas);
}

TEST_F(noiommu, M3_M13_U7_attach_is_refused)
{
	int binding;

	binding = bind_file(&self->vm, &self->ioas, variant->max_leaf_size);
	ASSERT_LE(0, binding);
	EXPECT_EQ(-EOPNOTSUPP, edu_attach(&self->edu, &self->ioas,
					  self->ioas.id));
	expect_nothing_told(_metadata, &self->ioas);

	/* The binding has not noticed. */
	ASSERT_EQ(0, gmem_convert(self->vm.gmem_fd, 0, 3 * GMEM_PAGE_SIZE,
				  KVM_GMEM_TARGET_PRIVATE, NULL));
	memset(self->model, PAGE_PRIVATE, 3);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, self->model, NPAGES));

	close(binding);
	EXPECT_EQ(0, edu_attach(&self->edu, &self->ioas, self->ioas.id));
	expect_ordinary(_metadata, &self->ioas);
	expect_nothing_told(_metadata, &self->ioas);
}

TEST_HARNESS_MAIN
