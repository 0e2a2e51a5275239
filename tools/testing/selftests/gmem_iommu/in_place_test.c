// SPDX-License-Identifier: GPL-2.0
/*
 * kvm.gmem_in_place_conversion=1: every guest_memfd is convertible, as a VMM
 * expects it that only knows the interface that is queued upstream. Needs a kernel
 * that was booted with that parameter: tests/boot.suite of the workbench.
 *
 * Requirements: C14, C15.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"

#define NPAGES		32
#define SEED		0x5eed7000
#define PARAMETER	"/sys/module/kvm/parameters/gmem_in_place_conversion"

static bool parameter_is_set(void)
{
	char c = 'N';
	int fd;

	fd = open(PARAMETER, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, &c, 1) != 1)
		c = 'N';
	close(fd);
	return c == 'Y';
}

FIXTURE(in_place)
{
	int vm_fd;
};

FIXTURE_VARIANT(in_place)
{
	unsigned long vm_type;
};

FIXTURE_VARIANT_ADD(in_place, sw_protected)
{
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_VARIANT_ADD(in_place, default_vm)
{
	.vm_type = KVM_X86_DEFAULT_VM,
};

FIXTURE_SETUP(in_place)
{
	ASSERT_TRUE(parameter_is_set());
	self->vm_fd = gmem_create_vm_fd(variant->vm_type);
	ASSERT_LE(0, self->vm_fd);
}

FIXTURE_TEARDOWN(in_place)
{
	close(self->vm_fd);
}

static int to(int fd, size_t first, size_t npages, bool private)
{
	__u64 offset = 1;
	int ret;

	ret = gmem_set_attributes2(fd, PAGES(first), PAGES(npages), private ?
				   KVM_MEMORY_ATTRIBUTE_PRIVATE : 0, &offset);
	return !ret && offset ? -EPROTO : ret;
}

/* C15: capabilities tell what a file takes, and that the VM takes nothing. */
TEST_F(in_place, C15_capabilities)
{
	EXPECT_EQ(KVM_MEMORY_ATTRIBUTE_PRIVATE,
		  ioctl(self->vm_fd, KVM_CHECK_EXTENSION,
			KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	EXPECT_EQ(0, ioctl(self->vm_fd, KVM_CHECK_EXTENSION,
			   KVM_CAP_MEMORY_ATTRIBUTES));
	EXPECT_EQ(GUEST_MEMFD_FLAG_CONVERTIBLE,
		  ioctl(self->vm_fd, KVM_CHECK_EXTENSION,
			KVM_CAP_GUEST_MEMFD_FLAGS) &
		  GUEST_MEMFD_FLAG_CONVERTIBLE);
}

TEST_F(in_place, C15_vm_has_no_private_attribute)
{
	struct kvm_memory_attributes args = {
		.size = PAGES(1),
		.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE,
	};

	EXPECT_NE(0, ioctl(self->vm_fd, KVM_SET_MEMORY_ATTRIBUTES, &args));
	EXPECT_EQ(EINVAL, errno);
}

/* C14, C15: a file without flags starts private, and converts. */
TEST_F(in_place, C14_C15_file_without_flags)
{
	int fd = gmem_create_fd(self->vm_fd, PAGES(NPAGES), 0);
	__u64 offset;

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, to(fd, 0, NPAGES, true));
	EXPECT_EQ(0, to(fd, 4, 4, false));
	EXPECT_EQ(0, gmem_convert(fd, 0, PAGES(NPAGES), KVM_GMEM_TARGET_PRIVATE,
				  &offset));
	EXPECT_EQ(0, offset);
	/* It has no MMAP flag: the host cannot map it, whatever its state. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGES(1), PROT_READ, MAP_SHARED, fd, 0));
	close(fd);
}

/* C14: either initial state for every type of VM. */
TEST_F(in_place, C14_initial_state)
{
	void *mem;
	int fd, i;

	for (i = 0; i < 2; i++) {
		fd = gmem_create_fd(self->vm_fd, PAGES(NPAGES), GUEST_MEMFD_FLAG_MMAP |
				    (i ? GUEST_MEMFD_FLAG_INIT_SHARED : 0));
		ASSERT_LE(0, fd);
		mem = mmap(NULL, PAGES(NPAGES), PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, 0);
		ASSERT_NE(MAP_FAILED, mem);
		EXPECT_EQ(!i, host_faults(mem + PAGES(5)));

		/* C9: and the host follows. */
		EXPECT_EQ(0, to(fd, 5, 1, i));
		EXPECT_EQ(i, host_faults(mem + PAGES(5)));
		EXPECT_EQ(!i, host_faults(mem + PAGES(4)));
		EXPECT_EQ(!i, host_faults(mem + PAGES(6)));
		munmap(mem, PAGES(NPAGES));
		close(fd);
	}
}

/* C15: a whole guest on a file that nobody asked to be convertible. */
TEST(C11_C15_guest_on_a_plain_file)
{
	struct gmem_vm vm;
	int i;

	ASSERT_TRUE(parameter_is_set());
	ASSERT_EQ(0, gmem_vm_create(&vm, PAGES(NPAGES), GUEST_MEMFD_FLAG_MMAP));
	ASSERT_EQ(0, gmem_vm_fill(&vm, 0, vm.size, SEED));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, to(vm.gmem_fd, i, 20, i % 2));
		EXPECT_EQ(0, gmem_vm_verify(&vm, 0, vm.size, SEED));
		EXPECT_EQ(i % 2, host_faults(vm.mem + PAGES(10)));
	}
	ASSERT_EQ(0, gmem_vm_map_gpa_range(&vm, 0, vm.size, false));
	for (i = 0; i < NPAGES; i++)
		EXPECT_TRUE(gmem_pattern_matches(vm.mem + PAGES(i), PAGES(i), SEED));
	gmem_vm_destroy(&vm);
}

TEST_HARNESS_MAIN
