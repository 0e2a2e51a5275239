// SPDX-License-Identifier: GPL-2.0
/*
 * The shadow MMU, which maps neighbours of a page before the guest asks for
 * them: the guest never gets what the host has at the address of the memslot, which
 * need not be a mapping of the file. Needs a kernel that was booted with kvm.tdp_mmu=N:
 * tests/shadow.suite of the workbench.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"

#define NPAGES		32
#define SEED		0x5eed7100
#define NEW_SEED	0x5eed7101
#define OTHER		0xaa
#define PARAMETER	"/sys/module/kvm/parameters/tdp_mmu"

static bool has_tdp_mmu(void)
{
	char c = 'Y';
	int fd;

	fd = open(PARAMETER, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	if (read(fd, &c, 1) != 1)
		c = 'Y';
	close(fd);
	return c == 'Y';
}

FIXTURE(shadow)
{
	struct gmem_vm vm;
	__u8 *other;
};

FIXTURE_SETUP(shadow)
{
	size_t page;

	if (has_tdp_mmu())
		SKIP(return, "the kernel was not booted with kvm.tdp_mmu=N");
	ASSERT_EQ(0, gmem_vm_create_type(&self->vm, KVM_X86_DEFAULT_VM,
					 PAGES(NPAGES), GMEM_VM_SHARED));
	for (page = 0; page < NPAGES; page++)
		gmem_pattern(self->vm.mem + PAGES(page), PAGES(page), SEED);

	self->other = mmap(NULL, PAGES(NPAGES), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->other);
	memset(self->other, OTHER, PAGES(NPAGES));
	ASSERT_EQ(0, gmem_vm_delete_slot(&self->vm));
	ASSERT_EQ(0, gmem_set_slot(self->vm.vm_fd, GMEM_VM_SLOT, 0, PAGES(NPAGES),
				   self->vm.gmem_fd, 0, self->other));
}

FIXTURE_TEARDOWN(shadow)
{
	gmem_vm_destroy(&self->vm);
	munmap(self->other, PAGES(NPAGES));
}

TEST_F(shadow, prefetch)
{
	struct gmem_vm *vm = &self->vm;
	size_t i;

	/* The others of eight pages could be mapped with the first. */
	for (i = 0; i < NPAGES; i++)
		EXPECT_EQ(0, gmem_vm_verify(vm, PAGES(i), GMEM_PAGE_SIZE, SEED));

	EXPECT_EQ(0, gmem_vm_fill(vm, 0, PAGES(NPAGES), NEW_SEED));
	for (i = 0; i < NPAGES; i++)
		EXPECT_TRUE(gmem_pattern_matches(vm->mem + PAGES(i), PAGES(i),
						 NEW_SEED));
	for (i = 0; i < PAGES(NPAGES); i++)
		if (self->other[i] != OTHER)
			break;
	EXPECT_EQ(PAGES(NPAGES), i);
}

TEST_HARNESS_MAIN
