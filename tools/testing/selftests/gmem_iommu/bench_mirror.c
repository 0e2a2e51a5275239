// SPDX-License-Identifier: GPL-2.0
/*
 * What the mirror costs: memory, flushes of the IOTLB, and the time of an attach.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest.h"
#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/ioas.h"
#include "lib/measure.h"
#include "lib/mirror.h"

#define MAX_RANGES	1024

/**
 * struct mirror_rig - A file that is bound, and a device
 * @vm_fd: A VM without memslots
 * @gmem_fd: Convertible, all shared, all pages have memory
 * @size: Of the file
 * @ioas: Where it is bound
 * @edu: A device that is attached to @ioas
 * @binding: Of the whole file, or -1
 */
struct mirror_rig {
	int vm_fd;
	int gmem_fd;
	size_t size;
	struct ioas ioas;
	struct edu edu;
	int binding;
};

#define RIG_IOVA	0x100000000ULL

static void rig_create(struct mirror_rig *rig, size_t size)
{
	struct edu_list list;

	edu_list(&list);
	rig->size = size;
	rig->binding = -1;
	rig->vm_fd = gmem_create_vm_fd(KVM_X86_SW_PROTECTED_VM);
	must("VM", rig->vm_fd);
	rig->gmem_fd = gmem_create_fd(rig->vm_fd, size, GMEM_VM_SHARED);
	must("guest_memfd", rig->gmem_fd);
	must("allocation", gmem_allocate(rig->gmem_fd, 0, size));
	must("IOAS", ioas_open(&rig->ioas));
	must("device", edu_open(&rig->edu, list.bdf[0], rig->ioas.iommufd));
	must("attach", edu_attach(&rig->edu, &rig->ioas, rig->ioas.id));
}

static void rig_bind(struct mirror_rig *rig)
{
	rig->binding = mirror_bind_leaves(rig->gmem_fd, &rig->ioas, 0, rig->size,
					  RIG_IOVA, 0);
	must("GMEM_IOMMU_BIND", rig->binding);
}

static void rig_destroy(struct mirror_rig *rig)
{
	if (rig->binding >= 0)
		close(rig->binding);
	edu_close(&rig->edu);
	ioas_close(&rig->ioas);
	close(rig->gmem_fd);
	close(rig->vm_fd);
}

/* Bytes of slab, and of page tables of IOMMUs. */
struct footprint {
	long long slab;
	long long tables;
};

static struct footprint footprint_now(void)
{
	return (struct footprint) {
		.slab = proc_value("/proc/meminfo", "Slab") * 1024,
		.tables = proc_value("/proc/vmstat", "nr_iommu_pages") *
			  GMEM_PAGE_SIZE,
	};
}

static struct footprint footprint_since(struct footprint before)
{
	struct footprint now = footprint_now();

	now.slab -= before.slab;
	now.tables -= before.tables;
	return now;
}

static void footprint_print(const char *what, struct footprint f)
{
	ksft_print_msg("%-44s %9lld KiB slab %9lld KiB page tables\n", what,
		       f.slab / 1024, f.tables / 1024);
}

/* What the VMM of today pays for a page that it can unmap alone. */
static double slab_of_single_pages(struct ioas *ioas, size_t npages)
{
	size_t size = npages * GMEM_PAGE_SIZE, i;
	struct footprint before, cost;
	__u8 *mem;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (mem == MAP_FAILED)
		must("memory", -errno);
	before = footprint_now();
	for (i = 0; i < npages; i++)
		must("IOMMU_IOAS_MAP",
		     ioas_map(ioas, RIG_IOVA + i * GMEM_PAGE_SIZE,
			      mem + i * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE));
	cost = footprint_since(before);
	footprint_print("an IOMMU_IOAS_MAP for each page of 64 MiB", cost);
	must("IOMMU_IOAS_UNMAP", ioas_unmap(ioas, RIG_IOVA, size));
	munmap(mem, size);
	return (double)cost.slab / npages;
}

static void convert_every_second(struct mirror_rig *rig)
{
	static struct kvm_gmem_range ranges[MAX_RANGES];
	__u64 page, npages = rig->size / GMEM_PAGE_SIZE;
	__u32 i;

	for (page = 0; page < npages; page += 2 * MAX_RANGES) {
		for (i = 0; i < MAX_RANGES; i++)
			ranges[i] = (struct kvm_gmem_range) {
				.offset = (page + 2 * i) * GMEM_PAGE_SIZE,
				.size = GMEM_PAGE_SIZE,
				.target = KVM_GMEM_TARGET_PRIVATE,
			};
		must("KVM_GMEM_CONVERT",
		     gmem_convert_vec(rig->gmem_fd, ranges, MAX_RANGES, NULL));
	}
}

#define MEMORY_SIZE	0x40000000UL
#define SINGLE_PAGES	(64UL * 256)

/* M8: memory beyond the file and the page tables of the IOMMU. */
static void bench_memory(void)
{
	const double npages = MEMORY_SIZE / GMEM_PAGE_SIZE;
	struct footprint before, shared, mixed;
	struct mirror_rig rig;
	double single;

	rig_create(&rig, MEMORY_SIZE);
	single = slab_of_single_pages(&rig.ioas, SINGLE_PAGES);
	before = footprint_now();
	rig_bind(&rig);
	shared = footprint_since(before);
	footprint_print("1 GiB bound, all shared", shared);
	convert_every_second(&rig);
	mixed = footprint_since(before);
	footprint_print("1 GiB bound, every second page shared", mixed);
	ksft_print_msg("%.0f bytes for each page that is mapped singly\n", single);

	claim("1 GiB shared, against 1 MiB", shared.slab / (double)(1 << 20), 1.0);
	claim("1 GiB every second page, against 1 MiB",
	      mixed.slab / (double)(1 << 20), 1.0);
	claim("every second page, against single mappings of them",
	      mixed.slab / (single * npages / 2), 1.0 / 48);
	rig_destroy(&rig);
}

#define LEAF_PAGES	512

/* M7: flushes of 2 MiB to private, in one request and page by page. */
static void bench_syncs(void)
{
	struct gmem_iommu_stats before, one, single;
	struct mirror_rig rig;
	__u64 page;

	rig_create(&rig, 4 * LEAF_PAGES * GMEM_PAGE_SIZE);
	rig_bind(&rig);
	must("stats", mirror_get_stats(rig.binding, &before));
	must("KVM_GMEM_CONVERT",
	     gmem_convert(rig.gmem_fd, 0, LEAF_PAGES * GMEM_PAGE_SIZE,
			  KVM_GMEM_TARGET_PRIVATE, NULL));
	must("stats", mirror_get_stats(rig.binding, &one));
	for (page = LEAF_PAGES; page < 2 * LEAF_PAGES; page++)
		must("KVM_GMEM_CONVERT",
		     gmem_convert(rig.gmem_fd, page * GMEM_PAGE_SIZE,
				  GMEM_PAGE_SIZE, KVM_GMEM_TARGET_PRIVATE, NULL));
	must("stats", mirror_get_stats(rig.binding, &single));
	rig_destroy(&rig);

	ksft_print_msg("flushes for 2 MiB: %llu in one request, %llu page by page\n",
		       one.syncs - before.syncs, single.syncs - one.syncs);
	claim("flushes of one request, against one for each page",
	      (double)(one.syncs - before.syncs) / (single.syncs - one.syncs),
	      1.0 / LEAF_PAGES);
}

/* Attach and detach: what comes back is everything that is shared. */
static void attach(void *arg, unsigned long call)
{
	struct mirror_rig *rig = arg;

	must("attach", edu_attach(&rig->edu, &rig->ioas, rig->ioas.id));
}

static void detach(void *arg, unsigned long call)
{
	struct mirror_rig *rig = arg;

	must("detach", edu_detach(&rig->edu));
}

/*
 * M3: time of the replay, against an ordinary mapping of the same pages in another
 * IOAS, which pins them again.
 */
static void bench_attach_of(size_t size, double *ratio)
{
	struct mirror_rig bound, ordinary = {};
	struct side sides[] = {
		{ "attach, ordinary mapping", detach, attach, &ordinary },
		{ "attach, binding", detach, attach, &bound },
	};
	struct edu_list list;
	void *mem;

	edu_list(&list);
	rig_create(&bound, size);
	rig_bind(&bound);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bound.gmem_fd, 0);
	if (mem == MAP_FAILED)
		must("host mapping", -errno);

	must("IOAS", ioas_open(&ordinary.ioas));
	must("device", edu_open(&ordinary.edu, list.bdf[1], ordinary.ioas.iommufd));
	must("IOMMU_IOAS_MAP", ioas_map(&ordinary.ioas, RIG_IOVA, mem, size));
	attach(&ordinary, 0);

	measure(sides, 2, 1);
	*ratio = sides[1].median / sides[0].median;
	ksft_print_msg("%.3f times\n", *ratio);

	edu_close(&ordinary.edu);
	ioas_close(&ordinary.ioas);
	munmap(mem, size);
	rig_destroy(&bound);
}

/* The largest file that this machine has the memory for makes the claim. */
static void bench_attach(void)
{
	static const size_t sizes[] = { 1UL << 30, 4UL << 30, 16UL << 30 };
	double ratio = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		/* Its page tables are a part of it, too. */
		long long need = sizes[i] + sizes[i] / 64 + (128 << 20);

		ksft_print_msg("%zu GiB:\n", sizes[i] >> 30);
		if (proc_value("/proc/meminfo", "MemAvailable") * 1024 < need)
			ksft_print_msg("not measured, there is too little memory\n");
		else
			bench_attach_of(sizes[i], &ratio);
	}
	if (ratio)
		claim("attach with the largest binding, against an ordinary mapping",
		      ratio, 1.0);
	else
		ksft_test_result_skip("attach: too little memory\n");
}

static const struct measurement measurements[] = {
	{ "memory", bench_memory, 3 },
	{ "syncs", bench_syncs, 1 },
	{ "attach", bench_attach, 1 },
};

int main(int argc, char **argv)
{
	return run_measurements(measurements, ARRAY_SIZE(measurements),
				gmem_vm_missing() ?: env_missing(2), argc, argv);
}
