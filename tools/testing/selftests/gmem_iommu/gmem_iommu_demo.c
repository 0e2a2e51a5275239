// SPDX-License-Identifier: GPL-2.0
/*
 * A device follows the conversions of a confidential guest.
 *
 * This VMM runs a guest of type KVM_X86_SW_PROTECTED_VM whose memory is one
 * convertible guest_memfd, binds that file to an IOAS once, and passes a PCI
 * device through. From then on it has nothing to do with the IOMMU: the guest
 * asks for conversions with KVM_HC_MAP_GPA_RANGE, and the VMM answers each with
 * one KVM_GMEM_CONVERT (answer_hypercall() in lib/gmem_vm.c). The kernel maps and
 * unmaps inside the conversion.
 *
 * Six steps, each of several checks "ok N - ..." or "not ok N - ...":
 *
 *  1. the device, the guest and the host share a page;
 *  2. the guest makes a page private: the device and the host lose it;
 *  3. the guest shares it again: the device has it back; its neighbours never lost
 *     theirs;
 *  4. a long-term pin refuses a conversion, with the exact page;
 *  5. a second device that comes late sees exactly the shared pages;
 *  6. after every step, the page tables that the IOMMU walks equal the shared set.
 *
 * It needs root, an IOMMU and two "edu" devices of QEMU.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/gmem_iommu.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kselftest.h"

#include "lib/dma.h"
#include "lib/gmem_vm.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/walker.h"

#define NPAGES		32
#define SIZE		(NPAGES * GMEM_PAGE_SIZE)

/* Where devices see the guest's memory; it need not be where the guest does. */
#define IOVA_BASE	0x10000000ULL

/* Where step 4 maps one page in the ordinary way */
#define PIN_IOVA	0x60000000ULL

#define PAGE(n)		((n) * GMEM_PAGE_SIZE)
#define IOVA(n)		(IOVA_BASE + PAGE(n))

/* The guest shares pages 8 to 15 at first; the steps are about these: */
#define FIRST_SHARED	8
#define NR_SHARED	8
#define LEFT		9
#define MIDDLE		10	/* goes private and comes back */
#define RIGHT		11
#define PINNED		13
#define LATE		20	/* becomes shared when both devices are there */

/* Seeds of the patterns that the guest, the host and the device write */
enum { SEED_GUEST = 0x6e57, SEED_HOST = 0x4057, SEED_DEVICE = 0xde71ce };

static struct gmem_vm vm;
static struct ioas ioas;
static struct edu devices[2];
static int nr_devices;
static int binding = -1;

/* What every page should be: kept here, compared with the kernel. */
static __u8 model[NPAGES];

static int nr_passed, nr_failed;

/*
 * Reporting
 */

static void step(const char *title)
{
	printf("\n# %s\n", title);
}

__printf(2, 3)
static bool check(bool passed, const char *fmt, ...)
{
	va_list args;

	if (passed)
		nr_passed++;
	else
		nr_failed++;

	printf("%sok %d - ", passed ? "" : "not ", nr_passed + nr_failed);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	return passed;
}

/* A check of something that returns 0 or -errno. */
static bool check_ret(int ret, const char *text)
{
	if (ret < 0)
		return check(false, "%s: %s", text, strerror(-ret));
	return check(true, "%s", text);
}

static void print_binding(void)
{
	struct gmem_iommu_run runs[NPAGES];
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = NPAGES,
		.runs = (unsigned long)runs,
	};
	struct gmem_iommu_stats stats;
	__u32 i;

	if (binding < 0)
		return;

	printf("\n  %-12s %-12s %-8s %-7s %s\n", "offset", "length", "state",
	       "mapped", "leaf");
	if (!ioctl(binding, GMEM_IOMMU_QUERY_RUNS, &query)) {
		for (i = 0; i < query.nr_runs; i++)
			printf("  0x%-10llx 0x%-10llx %-8s %-7s %u\n",
			       (unsigned long long)runs[i].offset,
			       (unsigned long long)runs[i].length,
			       runs[i].flags & GMEM_IOMMU_RUN_SHARED ?
			       "shared" : "private",
			       runs[i].flags & GMEM_IOMMU_RUN_MAPPED ?
			       "yes" : "no", runs[i].leaf_size);
	}

	if (!mirror_get_stats(binding, &stats)) {
		printf("\n  conversions of the binding  %llu\n",
		       (unsigned long long)stats.conversions);
		printf("  abandoned conversions       %llu\n",
		       (unsigned long long)stats.aborts);
		printf("  pages mapped, all domains   %llu\n",
		       (unsigned long long)stats.mapped_pages);
		printf("  pages unmapped              %llu\n",
		       (unsigned long long)stats.unmapped_pages);
		printf("  IOTLB syncs                 %llu\n",
		       (unsigned long long)stats.syncs);
		printf("  failures                    %llu\n",
		       (unsigned long long)stats.failures);
	}
	printf("  hypercalls of the guest     %lu\n", vm.nr_hypercalls);
	printf("  KVM_GMEM_CONVERT of the VMM %lu, refused %lu\n",
	       vm.nr_converts, vm.nr_refused);
}

/*
 * What the steps are made of
 */

/* The guest's own code asks for the conversion; the model follows on success. */
static int guest_converts(int first, int npages, bool private)
{
	int ret;

	ret = gmem_vm_map_gpa_range(&vm, PAGE(first), PAGE(npages), private);
	if (!ret)
		memset(model + first, private ? PAGE_PRIVATE : PAGE_SHARED,
		       npages);
	return ret;
}

/* The device reads the page and receives what @seed has left there. */
static bool device_sees(struct edu *device, int n, __u32 seed)
{
	return dma_read_matches(device, IOVA(n), PAGE(n), seed);
}

static int device_writes(struct edu *device, int n, __u32 seed)
{
	__u8 page[GMEM_PAGE_SIZE];

	gmem_pattern(page, PAGE(n), seed);
	return dma_write(device, IOVA(n), page);
}

static bool host_sees(int n, __u32 seed)
{
	__u8 page[GMEM_PAGE_SIZE];

	return !host_read(page, vm.mem + PAGE(n), sizeof(page)) &&
	       gmem_pattern_matches(page, PAGE(n), seed);
}

static bool guest_sees(int n, __u32 seed)
{
	return !gmem_vm_verify(&vm, PAGE(n), GMEM_PAGE_SIZE, seed);
}

/* Step 6, after every other: each device's page table, and the runs. */
static void check_page_tables(int after)
{
	const char *why;
	int i;

	for (i = 0; i < nr_devices; i++) {
		why = walker_check(devices[i].bdf, IOVA_BASE, model, NPAGES,
				   vm.mem);
		check(!*why, "6: after step %d the page table of %s equals the shared set%s%s",
		      after, devices[i].bdf, *why ? ": " : "", why);
	}
	why = mirror_check_runs(binding, 0, model, NPAGES);
	check(!*why, "6: after step %d the binding's runs equal the shared set%s%s",
	      after, *why ? ": " : "", why);
}

/*
 * Adoption by a VMM: this call, once per memory region.
 */
static int bind_memory(void)
{
	struct gmem_iommu_bind args = {
		.size = sizeof(args),
		.flags = GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_WRITE |
			 GMEM_IOMMU_BIND_FIXED_IOVA,
		.gmem_fd = vm.gmem_fd,
		.iommufd = ioas.iommufd,
		.ioas_id = ioas.id,
		.policy = GMEM_IOMMU_POLICY_SHARED_ONLY,
		.offset = 0,
		.length = SIZE,
		.iova = IOVA_BASE,
	};
	int fd, ret = 0;

	fd = open("/dev/gmem_iommu", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, GMEM_IOMMU_BIND, &args))
		ret = -errno;
	else
		binding = args.out_fd;
	close(fd);
	return ret;
}

static bool set_up(const struct edu_list *list)
{
	step("A guest of 32 private pages, one device");

	if (!check(list->nr >= 2, "two edu devices are there (qemu -device edu)"))
		return false;
	if (!check_ret(gmem_vm_create(&vm, SIZE, GMEM_VM_PRIVATE),
		       "VM with one convertible guest_memfd"))
		return false;
	if (!check_ret(ioas_open(&ioas), "IOAS"))
		return false;
	if (!check_ret(edu_open(&devices[0], list->bdf[0], ioas.iommufd),
		       "first device through vfio-pci and iommufd"))
		return false;
	if (!check_ret(edu_attach(&devices[0], &ioas, ioas.id),
		       "first device attached to the IOAS"))
		return false;
	nr_devices = 1;
	if (!check_ret(bind_memory(), "guest_memfd bound to the IOAS"))
		return false;

	check_ret(gmem_vm_fill(&vm, 0, SIZE, SEED_GUEST),
		  "guest fills all its memory");
	check_page_tables(0);
	return true;
}

static void step_1_share(void)
{
	step("1. The guest shares eight pages: device, guest and host agree");

	check_ret(guest_converts(FIRST_SHARED, NR_SHARED, false),
		  "1: guest shares pages 8 to 15");
	check(host_sees(MIDDLE, SEED_GUEST), "1: host reads what the guest wrote");
	check(device_sees(&devices[0], MIDDLE, SEED_GUEST),
	      "1: device reads what the guest wrote");

	check_ret(device_writes(&devices[0], MIDDLE, SEED_DEVICE),
		  "1: device writes");
	check(guest_sees(MIDDLE, SEED_DEVICE), "1: guest reads what the device wrote");
	check(host_sees(MIDDLE, SEED_DEVICE), "1: host reads what the device wrote");

	gmem_pattern(vm.mem + PAGE(MIDDLE), PAGE(MIDDLE), SEED_HOST);
	check(guest_sees(MIDDLE, SEED_HOST), "1: guest reads what the host wrote");
	check(device_sees(&devices[0], MIDDLE, SEED_HOST),
	      "1: device reads what the host wrote");
	check_page_tables(1);
}

static void step_2_private(void)
{
	step("2. The guest makes page 10 private: device and host lose it");

	check_ret(guest_converts(MIDDLE, 1, true), "2: guest makes page 10 private");
	check(!device_sees(&devices[0], MIDDLE, SEED_HOST),
	      "2: the read that worked in step 1 brings nothing");
	check(dma_read_faults(&devices[0], IOVA(MIDDLE)),
	      "2: VT-d reports a fault of %s at 0x%llx", devices[0].bdf,
	      IOVA(MIDDLE));
	check_ret(device_writes(&devices[0], MIDDLE, SEED_DEVICE),
		  "2: device tries to write");
	check(guest_sees(MIDDLE, SEED_HOST), "2: guest finds its contents untouched");
	check(host_faults(vm.mem + PAGE(MIDDLE)), "2: host access raises SIGBUS");

	check(device_sees(&devices[0], LEFT, SEED_GUEST) &&
	      device_sees(&devices[0], RIGHT, SEED_GUEST),
	      "2: the neighbours, pages 9 and 11, still work");
	check_page_tables(2);
}

static void step_3_shared_again(void)
{
	step("3. The guest shares page 10 again: the device has it back");

	check_ret(guest_converts(MIDDLE, 1, false), "3: guest shares page 10");
	check(device_sees(&devices[0], MIDDLE, SEED_HOST),
	      "3: device reads it, with the contents of step 2");
	check(host_sees(MIDDLE, SEED_HOST), "3: host reads it");
	check_ret(device_writes(&devices[0], MIDDLE, SEED_DEVICE),
		  "3: device writes");
	check(guest_sees(MIDDLE, SEED_DEVICE), "3: guest reads what the device wrote");
	check(device_sees(&devices[0], LEFT, SEED_GUEST) &&
	      device_sees(&devices[0], RIGHT, SEED_GUEST),
	      "3: the neighbours still work");
	check_page_tables(3);
}

static void step_4_pin(void)
{
	int ret;

	step("4. A long-term pin of page 13 refuses the conversion of 12 to 14");

	/* What a VMM does without a mirror: the IOMMU pins what it maps. */
	check_ret(ioas_map(&ioas, PIN_IOVA, vm.mem + PAGE(PINNED),
			   GMEM_PAGE_SIZE),
		  "4: page 13 is pinned by an ordinary IOMMU_IOAS_MAP elsewhere");

	ret = guest_converts(PINNED - 1, 3, true);
	check(ret == -EAGAIN, "4: the guest's request is refused with EAGAIN");
	check(vm.error_offset == PAGE(PINNED),
	      "4: error_offset is 0x%llx, that page",
	      (unsigned long long)vm.error_offset);
	check(device_sees(&devices[0], PINNED - 1, SEED_GUEST) &&
	      device_sees(&devices[0], PINNED, SEED_GUEST) &&
	      device_sees(&devices[0], PINNED + 1, SEED_GUEST),
	      "4: nothing has changed: the device reads all three pages");
	check_page_tables(4);

	check_ret(ioas_unmap(&ioas, PIN_IOVA, GMEM_PAGE_SIZE),
		  "4: the pin is gone");
	check_ret(guest_converts(PINNED - 1, 3, true),
		  "4: now the same request succeeds");
	check(!device_sees(&devices[0], PINNED, SEED_GUEST),
	      "4: and the device has lost the page");
	check_page_tables(4);
}

static void step_5_late_device(const struct edu_list *list)
{
	struct edu *late = &devices[1];
	__u32 hwpt = 0;

	step("5. A second device comes late, with a page table of its own");

	if (!check_ret(edu_open(late, list->bdf[1], ioas.iommufd),
		       "5: second device through vfio-pci and iommufd"))
		return;
	check_ret(ioas_hwpt_alloc(&ioas, late->dev_id, 0, &hwpt),
		  "5: a second page table (HWPT) of the same IOAS");
	if (!check_ret(edu_attach(late, &ioas, hwpt), "5: second device attached"))
		return;
	nr_devices = 2;

	check(device_sees(late, LEFT, SEED_GUEST), "5: it reads a shared page");
	check(!device_sees(late, PINNED, SEED_GUEST),
	      "5: it does not read a page that was made private before");
	check(dma_read_faults(late, IOVA(LATE)),
	      "5: VT-d reports a fault of %s at 0x%llx, never shared",
	      late->bdf, IOVA(LATE));
	check_page_tables(5);

	check_ret(guest_converts(LATE, 1, false), "5: guest shares page 20");
	check(device_sees(&devices[0], LATE, SEED_GUEST) &&
	      device_sees(late, LATE, SEED_GUEST), "5: both devices read it");
	check_ret(guest_converts(LEFT, 1, true), "5: guest makes page 9 private");
	check(!device_sees(&devices[0], LEFT, SEED_GUEST) &&
	      !device_sees(late, LEFT, SEED_GUEST), "5: both devices have lost it");
	check(guest_sees(LEFT, SEED_GUEST), "5: the guest has not");
	check_page_tables(5);
}

int main(void)
{
	struct edu_list list;

	edu_list(&list);

	if (set_up(&list)) {
		step_1_share();
		step_2_private();
		step_3_shared_again();
		step_4_pin();
		step_5_late_device(&list);
		print_binding();
	}

	/* Everything is closed by exit: no order is required. */
	printf("\ndemo: %d passed, %d failed\n", nr_passed, nr_failed);
	return nr_failed ? 1 : 0;
}
