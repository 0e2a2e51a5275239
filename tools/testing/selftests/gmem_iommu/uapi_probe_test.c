// SPDX-License-Identifier: GPL-2.0
/*
 * What a VMM finds out before it begins: the layout of the structures (U2), which
 * files it can create (C14), and what the kernel can do (U3).
 */
#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "lib/refusal_harness.h"
#include "uapi_layout.h"

/* U2: the layout was checked when this was built, see the Makefile. */
FIXTURE(layout)
{
};

FIXTURE_VARIANT(layout)
{
	const char *name;
};

FIXTURE_VARIANT_ADD(layout, c) { " c " };
FIXTURE_VARIANT_ADD(layout, c_32_bit) { " c32 " };
FIXTURE_VARIANT_ADD(layout, cxx) { " cxx " };
FIXTURE_VARIANT_ADD(layout, cxx_32_bit) { " cxx32 " };

FIXTURE_SETUP(layout)
{
}

FIXTURE_TEARDOWN(layout)
{
}

TEST_F(layout, U2_as_documented)
{
	if (!strstr(LAYOUTS, variant->name))
		SKIP(return, "no C++ compiler where this was built");
}

/* C14: creation of the file, for both kinds of VM that every machine has. */
FIXTURE(create)
{
	int vm_fd;
};

FIXTURE_VARIANT(create)
{
	unsigned long vm_type;
	__u64 size;
	__u64 flags;
	int err;
};

#define CONVERTIBLE	GUEST_MEMFD_FLAG_CONVERTIBLE
#define MMAP		GUEST_MEMFD_FLAG_MMAP
#define INIT_SHARED	GUEST_MEMFD_FLAG_INIT_SHARED
#define SW_PROTECTED	KVM_X86_SW_PROTECTED_VM

FIXTURE_VARIANT_ADD(create, sw_bare)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE, 0 };
FIXTURE_VARIANT_ADD(create, sw_mmap)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE | MMAP, 0 };
FIXTURE_VARIANT_ADD(create, sw_shared)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE | INIT_SHARED, 0 };
FIXTURE_VARIANT_ADD(create, sw_all)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE | MMAP | INIT_SHARED, 0 };
FIXTURE_VARIANT_ADD(create, default_bare)
	{ KVM_X86_DEFAULT_VM, FILE_SIZE, CONVERTIBLE, 0 };
FIXTURE_VARIANT_ADD(create, default_mmap)
	{ KVM_X86_DEFAULT_VM, FILE_SIZE, CONVERTIBLE | MMAP, 0 };
FIXTURE_VARIANT_ADD(create, default_shared)
	{ KVM_X86_DEFAULT_VM, FILE_SIZE, CONVERTIBLE | INIT_SHARED, 0 };
FIXTURE_VARIANT_ADD(create, default_all)
	{ KVM_X86_DEFAULT_VM, FILE_SIZE, CONVERTIBLE | MMAP | INIT_SHARED, 0 };
/* What the flag does not touch stays as it was. */
FIXTURE_VARIANT_ADD(create, sw_plain)
	{ SW_PROTECTED, FILE_SIZE, 0, 0 };
FIXTURE_VARIANT_ADD(create, sw_plain_shared)
	{ SW_PROTECTED, FILE_SIZE, INIT_SHARED, EINVAL };
FIXTURE_VARIANT_ADD(create, unknown_flag)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE << 1, EINVAL };
FIXTURE_VARIANT_ADD(create, unknown_flag_too)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE | 1ULL << 63, EINVAL };
FIXTURE_VARIANT_ADD(create, no_size)
	{ SW_PROTECTED, 0, CONVERTIBLE, EINVAL };
FIXTURE_VARIANT_ADD(create, unaligned)
	{ SW_PROTECTED, FILE_SIZE + 1, CONVERTIBLE, EINVAL };
FIXTURE_VARIANT_ADD(create, negative)
	{ SW_PROTECTED, -PAGES(1), CONVERTIBLE, EINVAL };

FIXTURE_SETUP(create)
{
	if (no_gmem)
		SKIP(return, "%s", no_gmem);
	self->vm_fd = gmem_create_vm_fd(variant->vm_type);
	ASSERT_LE(0, self->vm_fd);
}

FIXTURE_TEARDOWN(create)
{
}

TEST_F(create, C14_answers)
{
	int nr_fds = count_open_fds(), fd;
	void *mem;

	fd = gmem_create_fd(self->vm_fd, variant->size, variant->flags);
	if (variant->err) {
		EXPECT_EQ(-variant->err, fd);
		EXPECT_EQ(nr_fds, count_open_fds());
		return;
	}
	ASSERT_LE(0, fd);

	/* Whether the host can map it is another property. */
	mem = mmap(NULL, variant->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT_EQ(!(variant->flags & MMAP), mem == MAP_FAILED);
	if (mem != MAP_FAILED)
		EXPECT_EQ(!(variant->flags & INIT_SHARED), host_faults(mem));

	EXPECT_EQ(variant->flags & CONVERTIBLE ? 0 : -ENOTTY,
		  gmem_convert(fd, 0, PAGES(1), KVM_GMEM_TARGET_SHARED, NULL));
	if (variant->flags & CONVERTIBLE && mem != MAP_FAILED)
		EXPECT_FALSE(host_faults(mem));
}

/* The kernel runs with kvm.gmem_in_place_conversion. */
static bool in_place_conversion(void)
{
	FILE *f = fopen("/sys/module/kvm/parameters/gmem_in_place_conversion",
			"r");
	int c = 'N';

	if (f) {
		c = getc(f);
		fclose(f);
	}
	return c == 'Y';
}

/* U3: probing. */
TEST_F(create, U3_capabilities)
{
	int all = in_place_conversion() ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
	int of_vm = 0, flags, attributes;

	/* Only such a VM has private memory. */
	if (variant->vm_type == SW_PROTECTED)
		of_vm = KVM_MEMORY_ATTRIBUTE_PRIVATE & ~all;

	flags = xioctl(self->vm_fd, KVM_CHECK_EXTENSION,
		       (void *)KVM_CAP_GUEST_MEMFD_FLAGS);
	EXPECT_EQ(CONVERTIBLE | MMAP, flags & (CONVERTIBLE | MMAP));

	attributes = xioctl(self->vm_fd, KVM_CHECK_EXTENSION,
			    (void *)KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES);
	EXPECT_EQ(all, attributes);
	attributes = xioctl(self->vm_fd, KVM_CHECK_EXTENSION,
			    (void *)KVM_CAP_MEMORY_ATTRIBUTES);
	EXPECT_EQ(of_vm, attributes);
}

/* GMEM_IOMMU_GET_INFO */
FIXTURE(info)
{
	struct refusal b;
};

FIXTURE_VARIANT(info)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define INFO_SIZE	sizeof(struct gmem_iommu_info)

FIXTURE_VARIANT_ADD(info, exact) CASE(0);
FIXTURE_VARIANT_ADD(info, U2_long_zero) CASE(0, POKE32(info.size, INFO_SIZE + 8));
FIXTURE_VARIANT_ADD(info, U2_long_tail)
	CASE(E2BIG, POKE32(info.size, INFO_SIZE + 8), POKE_TAIL(gmem_iommu_info));
FIXTURE_VARIANT_ADD(info, U2_short) CASE(EINVAL, POKE32(info.size, INFO_SIZE - 8));
FIXTURE_VARIANT_ADD(info, U2_no_size) CASE(EINVAL, POKE32(info.size, 0));

FIXTURE_SETUP(info)
{
	refusal_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(info)
{
}

TEST_F(info, U3_answers)
{
	union request req;

	make_info(&self->b, &req);
	spoil(_metadata, &self->b, &req, variant->poke);
	refusal_remember(_metadata, &self->b);
	EXPECT_EQ(-variant->err, xioctl(self->b.dev_fd, GMEM_IOMMU_GET_INFO, &req));
	refusal_expect_same(_metadata, &self->b);
	if (variant->err)
		return;

	EXPECT_EQ(GMEM_IOMMU_ABI_VERSION, req.info.abi_version);
	EXPECT_LE(GMEM_PAGE_SIZE, req.info.max_leaf_size);
	EXPECT_EQ(0, req.info.max_leaf_size & (req.info.max_leaf_size - 1));
	EXPECT_LE(1, req.info.max_query_runs);
	EXPECT_EQ(0, req.info.__reserved);
}

TEST_HARNESS_MAIN
