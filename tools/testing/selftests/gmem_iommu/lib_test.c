// SPDX-License-Identifier: GPL-2.0
/*
 * The library tells right from wrong: its guest, its DMA and its page-table walker
 * on ordinary VMs and ordinary IOMMU mappings, which need nothing of gmem_iommu.
 * A test that passes because its oracle sees nothing would pass here last.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/walker.h"

#define NPAGES		16
#define SIZE		(NPAGES * GMEM_PAGE_SIZE)
#define IOVA		0x10000000ULL
#define SEED		0x5eed0001

FIXTURE(guest)
{
	struct gmem_vm vm;
};

FIXTURE_SETUP(guest)
{
	int ret;

	ret = gmem_vm_create_type(&self->vm, KVM_X86_DEFAULT_VM, SIZE,
				  GUEST_MEMFD_FLAG_MMAP |
				  GUEST_MEMFD_FLAG_INIT_SHARED);
	if (ret == -ENOENT || ret == -ENODEV)
		SKIP(return, "no /dev/kvm");
	ASSERT_EQ(0, ret);
}

FIXTURE_TEARDOWN(guest)
{
	gmem_vm_destroy(&self->vm);
}

TEST_F(guest, fill_is_seen_by_host)
{
	__u8 *page = self->vm.mem + 3 * GMEM_PAGE_SIZE;

	ASSERT_EQ(0, gmem_vm_fill(&self->vm, 0, SIZE, SEED));
	EXPECT_TRUE(gmem_pattern_matches(page, 3 * GMEM_PAGE_SIZE, SEED));
	EXPECT_FALSE(gmem_pattern_matches(page, 3 * GMEM_PAGE_SIZE, SEED + 1));
	EXPECT_FALSE(gmem_pattern_matches(page, 4 * GMEM_PAGE_SIZE, SEED));
}

TEST_F(guest, verify_finds_one_wrong_byte)
{
	ASSERT_EQ(0, gmem_vm_fill(&self->vm, 0, SIZE, SEED));
	ASSERT_EQ(0, gmem_vm_verify(&self->vm, 0, SIZE, SEED));
	EXPECT_EQ(-EILSEQ, gmem_vm_verify(&self->vm, 0, SIZE, SEED + 1));

	self->vm.mem[SIZE - 1] ^= 1;
	EXPECT_EQ(-EILSEQ, gmem_vm_verify(&self->vm, 0, SIZE, SEED));
	EXPECT_EQ(0, gmem_vm_verify(&self->vm, 0, SIZE - GMEM_PAGE_SIZE, SEED));
}

TEST_F(guest, host_write_is_seen_by_guest)
{
	gmem_pattern(self->vm.mem + GMEM_PAGE_SIZE, GMEM_PAGE_SIZE, SEED);
	EXPECT_EQ(0, gmem_vm_verify(&self->vm, GMEM_PAGE_SIZE, GMEM_PAGE_SIZE,
				    SEED));
}

/* The file is not convertible: the guest gets the refusal as its answer. */
TEST_F(guest, hypercall_comes_to_the_vmm_and_its_answer_to_the_guest)
{
	EXPECT_EQ(-EINVAL, gmem_vm_map_gpa_range(&self->vm, GMEM_PAGE_SIZE,
						 GMEM_PAGE_SIZE, true));
	EXPECT_EQ(1, self->vm.nr_hypercalls);
	EXPECT_EQ(1, self->vm.nr_refused);
	EXPECT_EQ(-EINVAL, gmem_vm_map_gpa_range(&self->vm, 0, SIZE, false));
	EXPECT_EQ(2, self->vm.nr_hypercalls);

	/* And it lives on. */
	EXPECT_EQ(0, gmem_vm_fill(&self->vm, 0, SIZE, SEED));
}

TEST(host_faults_sees_sigbus)
{
	__u8 byte = 1;
	__u8 *mem;
	int fd, i;

	fd = memfd_create("sigbus", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, GMEM_PAGE_SIZE));
	mem = mmap(NULL, 2 * GMEM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   fd, 0);
	ASSERT_NE(MAP_FAILED, mem);

	for (i = 0; i < 3; i++) {
		EXPECT_FALSE(host_faults(mem));
		EXPECT_TRUE(host_faults(mem + GMEM_PAGE_SIZE));
		EXPECT_EQ(-EFAULT, host_write(mem + GMEM_PAGE_SIZE, &byte, 1));
		EXPECT_EQ(0, host_write(mem, &byte, 1));
	}
	EXPECT_EQ(1, mem[0]);
}

FIXTURE(device)
{
	struct ioas ioas;
	struct edu edu;
	__u8 *mem;
	__u8 page[GMEM_PAGE_SIZE];
	__u8 model[NPAGES];
};

FIXTURE_SETUP(device)
{
	struct edu_list list;

	edu_list(&list);
	if (!list.nr)
		SKIP(return, "no edu device (qemu -device edu)");
	if (access("/dev/iommu", R_OK | W_OK))
		SKIP(return, "no /dev/iommu");

	self->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	ASSERT_EQ(0, ioas_open(&self->ioas));
	ASSERT_EQ(0, edu_open(&self->edu, list.bdf[0], self->ioas.iommufd));
	ASSERT_EQ(0, edu_attach(&self->edu, &self->ioas, self->ioas.id));
}

FIXTURE_TEARDOWN(device)
{
	edu_close(&self->edu);
	ioas_close(&self->ioas);
}

TEST_F(device, dma_reads_and_writes_what_is_mapped)
{
	gmem_pattern(self->mem, 0, SEED);
	ASSERT_EQ(0, ioas_map(&self->ioas, IOVA, self->mem, SIZE));

	ASSERT_EQ(0, dma_read(&self->edu, IOVA, self->page));
	EXPECT_TRUE(gmem_pattern_matches(self->page, 0, SEED));

	gmem_pattern(self->page, GMEM_PAGE_SIZE, SEED + 1);
	ASSERT_EQ(0, dma_write(&self->edu, IOVA + GMEM_PAGE_SIZE, self->page));
	EXPECT_TRUE(gmem_pattern_matches(self->mem + GMEM_PAGE_SIZE,
					 GMEM_PAGE_SIZE, SEED + 1));
}

/* The same page, after the device and the IOMMU have cached its translation. */
TEST_F(device, dma_to_what_is_not_mapped_is_seen_to_fail)
{
	gmem_pattern(self->mem, 0, SEED);
	ASSERT_EQ(0, ioas_map(&self->ioas, IOVA, self->mem, SIZE));
	ASSERT_EQ(0, dma_read(&self->edu, IOVA, self->page));
	ASSERT_TRUE(gmem_pattern_matches(self->page, 0, SEED));

	ASSERT_EQ(0, ioas_unmap(&self->ioas, IOVA, SIZE));
	ASSERT_EQ(0, dma_read(&self->edu, IOVA, self->page));
	EXPECT_FALSE(gmem_pattern_matches(self->page, 0, SEED));

	gmem_pattern(self->page, 0, SEED + 1);
	ASSERT_EQ(0, dma_write(&self->edu, IOVA, self->page));
	EXPECT_TRUE(gmem_pattern_matches(self->mem, 0, SEED));

	/* Several times: the log's rate limit must not hide the last. */
	EXPECT_TRUE(dma_read_faults(&self->edu, IOVA));
	EXPECT_TRUE(dma_read_faults(&self->edu, IOVA + GMEM_PAGE_SIZE));
	EXPECT_TRUE(dma_read_faults(&self->edu, IOVA + 2 * GMEM_PAGE_SIZE));
	EXPECT_TRUE(dma_read_faults(&self->edu, IOVA));
}

TEST_F(device, no_fault_is_seen_where_none_is)
{
	ASSERT_EQ(0, ioas_map(&self->ioas, IOVA, self->mem, SIZE));
	EXPECT_FALSE(dma_read_faults(&self->edu, IOVA));
}

TEST_F(device, walker_sees_what_is_mapped_and_finds_every_difference)
{
	const char *bdf = self->edu.bdf;
	int i;

	if (!walker_available(bdf))
		SKIP(return, "no debugfs page table of %s", bdf);

	/* Pages 4 to 9 */
	ASSERT_EQ(0, ioas_map(&self->ioas, IOVA + 4 * GMEM_PAGE_SIZE,
			      self->mem + 4 * GMEM_PAGE_SIZE, 6 * GMEM_PAGE_SIZE));
	for (i = 4; i < 10; i++)
		self->model[i] = PAGE_SHARED;

	EXPECT_STREQ("", walker_check(bdf, IOVA, self->model, NPAGES, self->mem));
	EXPECT_EQ(6, walker_count(bdf, IOVA, NPAGES));
	EXPECT_EQ(1, walker_count(bdf, IOAS_SCRATCH_IOVA, 1));

	/* A page that should not be there */
	self->model[9] = PAGE_PRIVATE;
	EXPECT_STRNE("", walker_check(bdf, IOVA, self->model, NPAGES, self->mem));
	self->model[9] = PAGE_HOLE;
	EXPECT_STRNE("", walker_check(bdf, IOVA, self->model, NPAGES, self->mem));
	self->model[9] = PAGE_SHARED;

	/* A page that should */
	self->model[3] = PAGE_SHARED;
	EXPECT_STRNE("", walker_check(bdf, IOVA, self->model, NPAGES, self->mem));
	self->model[3] = PAGE_PRIVATE;

	/* The right pages with the wrong memory */
	EXPECT_STRNE("", walker_check(bdf, IOVA + 4 * GMEM_PAGE_SIZE,
				      self->model + 4, 6, self->mem));

	ASSERT_EQ(0, edu_detach(&self->edu));
	EXPECT_STRNE("", walker_check(bdf, IOVA, self->model, NPAGES, self->mem));
}

/* 4 MiB in one mapping: the IOMMU uses larger leaves where memory allows. */
TEST_F(device, walker_counts_the_pages_of_large_leaves)
{
	const size_t size = 4UL << 20;
	void *mem;

	if (!walker_available(self->edu.bdf))
		SKIP(return, "no debugfs page table of %s", self->edu.bdf);

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	madvise(mem, size, MADV_HUGEPAGE);
	ASSERT_EQ(0, ioas_map(&self->ioas, IOVA, mem, size));
	EXPECT_EQ(size / GMEM_PAGE_SIZE,
		  walker_count(self->edu.bdf, IOVA - GMEM_PAGE_SIZE,
			       size / GMEM_PAGE_SIZE + 2));
}

TEST_F(device, second_domain_of_the_ioas)
{
	struct edu_list list;
	struct edu late;
	__u32 hwpt;

	edu_list(&list);
	if (list.nr < 2)
		SKIP(return, "only one edu device");

	gmem_pattern(self->mem, 0, SEED);
	ASSERT_EQ(0, ioas_map(&self->ioas, IOVA, self->mem, SIZE));
	ASSERT_EQ(0, edu_open(&late, list.bdf[1], self->ioas.iommufd));
	ASSERT_EQ(0, ioas_hwpt_alloc(&self->ioas, late.dev_id, 0, &hwpt));
	ASSERT_EQ(0, edu_attach(&late, &self->ioas, hwpt));
	ASSERT_EQ(0, dma_read(&late, IOVA, self->page));
	EXPECT_TRUE(gmem_pattern_matches(self->page, 0, SEED));
	EXPECT_EQ(NPAGES, walker_count(late.bdf, IOVA, NPAGES));
	edu_close(&late);
}

/* What a VMM does without gmem_iommu, on a file that cannot be converted. */
TEST_F(device, guest_memory_mapped_in_the_ordinary_way)
{
	struct gmem_vm vm;
	int ret;

	ret = gmem_vm_create_type(&vm, KVM_X86_DEFAULT_VM, SIZE,
				  GUEST_MEMFD_FLAG_MMAP |
				  GUEST_MEMFD_FLAG_INIT_SHARED);
	if (ret == -ENOENT || ret == -ENODEV)
		SKIP(return, "no /dev/kvm");
	ASSERT_EQ(0, ret);

	ASSERT_EQ(0, gmem_vm_fill(&vm, 0, SIZE, SEED));
	ASSERT_EQ(0, ioas_map(&self->ioas, IOVA, vm.mem, SIZE));
	ASSERT_EQ(0, dma_read(&self->edu, IOVA + GMEM_PAGE_SIZE, self->page));
	EXPECT_TRUE(gmem_pattern_matches(self->page, GMEM_PAGE_SIZE, SEED));

	gmem_pattern(self->page, 0, SEED + 1);
	ASSERT_EQ(0, dma_write(&self->edu, IOVA, self->page));
	EXPECT_EQ(0, gmem_vm_verify(&vm, 0, GMEM_PAGE_SIZE, SEED + 1));
	gmem_vm_destroy(&vm);
}

TEST(host_pin_holds_a_page)
{
	__u64 pfns[NPAGES];
	void *mem;
	int fd;

	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, host_pfns(mem, pfns, NPAGES));
	EXPECT_EQ(0, pfns[0]);
	fd = host_pin(mem, SIZE);
	if (fd == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, host_pfns(mem, pfns, NPAGES));
	EXPECT_NE(0, pfns[0]);
	EXPECT_NE(pfns[0], pfns[1]);
	close(fd);
}

TEST_HARNESS_MAIN
