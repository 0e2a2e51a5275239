// SPDX-License-Identifier: GPL-2.0
/*
 * Measurements of the conversion engine and of the mirror. Every claim is a ratio of
 * two costs from one boot; of time, both sides are measured by turns, a batch each,
 * and the medians of the batches are compared. Each claim is a test, with its limit.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"

#define ROUNDS		15
#define BATCH		200

#define MAX_RANGES	1024
#define MAX_RUNS	100000UL

/**
 * struct side - One side of a comparison
 * @name: What is done
 * @prepare: NULL, or what comes before each call and is not measured
 * @op: Does it once; the number of calls so far tells which way to convert
 * @arg: For @op
 * @calls: Number of calls so far
 * @median: Out: nanoseconds of one call
 */
struct side {
	const char *name;
	void (*prepare)(void *arg, unsigned long call);
	void (*op)(void *arg, unsigned long call);
	void *arg;
	unsigned long calls;
	double median;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double run_batch(struct side *side, int batch)
{
	double start = now(), unmeasured = 0;
	int i;

	for (i = 0; i < batch; i++) {
		if (side->prepare) {
			double began = now();

			side->prepare(side->arg, side->calls);
			unmeasured += now() - began;
		}
		side->op(side->arg, side->calls++);
	}
	return (now() - start - unmeasured) / batch;
}

/* Measure all sides by turns. */
static void measure(struct side *sides, int nr, int batch)
{
	double (*cost)[ROUNDS] = calloc(nr, sizeof(*cost));
	int i, round;

	if (!cost)
		ksft_exit_fail_msg("no memory\n");
	for (i = 0; i < nr; i++)
		run_batch(&sides[i], batch);
	for (round = 0; round < ROUNDS; round++)
		for (i = 0; i < nr; i++)
			cost[i][round] = run_batch(&sides[i], batch);
	for (i = 0; i < nr; i++) {
		qsort(cost[i], ROUNDS, sizeof(double), compare_doubles);
		sides[i].median = cost[i][ROUNDS / 2];
		ksft_print_msg("%-44s %12.0f ns\n", sides[i].name,
			       sides[i].median);
	}
	free(cost);
}

static void claim(const char *what, double ratio, double limit)
{
	ksft_test_result(ratio <= limit, "%s: %.2f times, at most %.2f\n", what,
			 ratio, limit);
}

static void must(const char *what, int ret)
{
	if (ret < 0)
		ksft_exit_fail_msg("%s: %s\n", what, strerror(-ret));
}

/* A VM whose private pages are an attribute of the VM: the unpatched way. */
struct plain_vm {
	int vm_fd;
	int gmem_fd;
	void *hva;
};

#define PLAIN_SIZE	(64 * GMEM_PAGE_SIZE)

static void plain_vm_create(struct plain_vm *vm)
{
	vm->vm_fd = gmem_create_vm_fd(KVM_X86_SW_PROTECTED_VM);
	must("VM", vm->vm_fd);
	vm->gmem_fd = gmem_create_fd(vm->vm_fd, PLAIN_SIZE, 0);
	must("guest_memfd", vm->gmem_fd);
	vm->hva = mmap(NULL, PLAIN_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (vm->hva == MAP_FAILED)
		must("memory", -errno);
	must("memslot", gmem_set_slot(vm->vm_fd, 0, 0, PLAIN_SIZE, vm->gmem_fd,
				      0, vm->hva));
	must("allocation", gmem_allocate(vm->gmem_fd, 0, PLAIN_SIZE));
}

static void plain_vm_destroy(struct plain_vm *vm)
{
	close(vm->gmem_fd);
	close(vm->vm_fd);
	munmap(vm->hva, PLAIN_SIZE);
}

#define THE_PAGE	(17 * GMEM_PAGE_SIZE)

static void set_attributes(void *arg, unsigned long call)
{
	struct plain_vm *vm = arg;
	struct kvm_memory_attributes attrs = {
		.address = THE_PAGE,
		.size = GMEM_PAGE_SIZE,
		.attributes = call % 2 ? 0 : KVM_MEMORY_ATTRIBUTE_PRIVATE,
	};

	if (ioctl(vm->vm_fd, KVM_SET_MEMORY_ATTRIBUTES, &attrs))
		must("KVM_SET_MEMORY_ATTRIBUTES", -errno);
}

static void convert_page(void *arg, unsigned long call)
{
	struct gmem_vm *vm = arg;

	must("KVM_GMEM_CONVERT",
	     gmem_convert(vm->gmem_fd, THE_PAGE, GMEM_PAGE_SIZE,
			  call % 2 ? KVM_GMEM_TARGET_SHARED :
				     KVM_GMEM_TARGET_PRIVATE, NULL));
}

static void bench_one_page(void)
{
	struct plain_vm plain;
	struct gmem_vm vm;
	struct side sides[] = {
		{ "KVM_SET_MEMORY_ATTRIBUTES, one page", NULL, set_attributes, &plain },
		{ "KVM_GMEM_CONVERT, one page", NULL, convert_page, &vm },
	};

	plain_vm_create(&plain);
	must("VM", gmem_vm_create(&vm, PLAIN_SIZE, GMEM_VM_SHARED));
	must("allocation", gmem_allocate(vm.gmem_fd, 0, PLAIN_SIZE));

	measure(sides, 2, BATCH);
	claim("one page, against the attribute of a VM",
	      sides[1].median / sides[0].median, 1.5);

	gmem_vm_destroy(&vm);
	plain_vm_destroy(&plain);
}

/**
 * struct vector - Scattered pages: every second one of the first half of a file
 * @vm: The file, and a guest that is running all the time
 * @ranges: Those pages
 * @thread: Runs the guest
 * @order: What it is to do
 */
struct vector {
	struct gmem_vm vm;
	struct kvm_gmem_range ranges[MAX_RANGES];
	pthread_t thread;
	enum { RUN, TOUCH, STOP } order;
};

#define VECTOR_SIZE	(2 * MAX_RANGES * GMEM_PAGE_SIZE)
#define RUN_SIZE	(16 * GMEM_PAGE_SIZE)

static void *vector_guest(void *arg)
{
	struct vector *vector = arg;

	for (;;) {
		switch (__atomic_load_n(&vector->order, __ATOMIC_ACQUIRE)) {
		case RUN:
			must("guest", gmem_vm_fill(&vector->vm, VECTOR_SIZE,
						   RUN_SIZE, 2));
			break;
		case TOUCH:
			must("guest", gmem_vm_fill(&vector->vm, 0, VECTOR_SIZE,
						   1));
			__atomic_store_n(&vector->order, RUN, __ATOMIC_RELEASE);
			break;
		case STOP:
			return NULL;
		}
	}
}

/* Guest, and host where it may, have touched every page. */
static void vector_touch(void *arg, unsigned long call)
{
	struct vector *vector = arg;
	bool shared = !(call % 2);
	__u8 byte;
	size_t i;

	__atomic_store_n(&vector->order, TOUCH, __ATOMIC_RELEASE);
	while (__atomic_load_n(&vector->order, __ATOMIC_ACQUIRE) == TOUCH)
		usleep(100);
	for (i = 0; shared && i < VECTOR_SIZE; i += GMEM_PAGE_SIZE)
		host_read(&byte, vector->vm.mem + i, 1);
}

static void vector_direct(struct vector *vector, unsigned long call)
{
	int i;

	for (i = 0; i < MAX_RANGES; i++) {
		vector->ranges[i].offset = 2 * i * GMEM_PAGE_SIZE;
		vector->ranges[i].size = GMEM_PAGE_SIZE;
		vector->ranges[i].target = call % 2 ? KVM_GMEM_TARGET_SHARED :
						      KVM_GMEM_TARGET_PRIVATE;
	}
}

static void convert_vector(void *arg, unsigned long call)
{
	struct vector *vector = arg;

	vector_direct(vector, call);
	must("KVM_GMEM_CONVERT",
	     gmem_convert_vec(vector->vm.gmem_fd, vector->ranges, MAX_RANGES, NULL));
}

static void convert_singly(void *arg, unsigned long call)
{
	struct vector *vector = arg;
	int i;

	vector_direct(vector, call);
	for (i = 0; i < MAX_RANGES; i++)
		must("KVM_GMEM_CONVERT",
		     gmem_convert_vec(vector->vm.gmem_fd, &vector->ranges[i], 1,
				      NULL));
}

static struct vector vector;

static void vector_create(void)
{
	size_t size = VECTOR_SIZE + RUN_SIZE;

	must("VM", gmem_vm_create(&vector.vm, size, GMEM_VM_SHARED));
	must("allocation", gmem_allocate(vector.vm.gmem_fd, 0, size));
}

/* What the engine saves. */
static void bench_vector(void)
{
	struct side sides[] = {
		{ "1024 requests of one page", NULL, convert_singly, &vector },
		{ "one request of 1024 pages", NULL, convert_vector, &vector },
	};

	vector_create();
	measure(sides, 2, 2);
	ksft_print_msg("nobody maps the pages: %.2f times\n",
		       sides[1].median / sides[0].median);
	gmem_vm_destroy(&vector.vm);
}

/* What everybody saves: TLB flushes, interruptions of the guest. */
static void bench_live_vector(void)
{
	struct side sides[] = {
		{ "1024 requests of one page, guest running", vector_touch,
		  convert_singly, &vector },
		{ "one request of 1024 pages, guest running", vector_touch,
		  convert_vector, &vector },
	};

	vector_create();
	if (pthread_create(&vector.thread, NULL, vector_guest, &vector))
		must("thread", -EAGAIN);

	measure(sides, 2, 2);
	claim("a vector of 1024, against single requests",
	      sides[1].median / sides[0].median, 1.0 / 3);

	while (__atomic_load_n(&vector.order, __ATOMIC_ACQUIRE) != RUN)
		;
	__atomic_store_n(&vector.order, STOP, __ATOMIC_RELEASE);
	pthread_join(vector.thread, NULL);
	__atomic_store_n(&vector.order, RUN, __ATOMIC_RELEASE);
	gmem_vm_destroy(&vector.vm);
}

/* A file of @nr_runs runs, and a page in the middle of them. */
struct many_runs {
	int gmem_fd;
	unsigned long nr_runs;
};

static void many_runs_create(struct many_runs *many, struct gmem_vm *vm,
			     unsigned long nr_runs)
{
	static struct kvm_gmem_range ranges[MAX_RANGES];
	unsigned long page;
	__u32 nr = 0;

	must("VM", gmem_vm_create(vm, (nr_runs + 2) * GMEM_PAGE_SIZE,
				  GMEM_VM_SHARED));
	many->gmem_fd = vm->gmem_fd;
	many->nr_runs = nr_runs;
	for (page = 0; page < nr_runs; page += 2) {
		ranges[nr].offset = page * GMEM_PAGE_SIZE;
		ranges[nr].size = GMEM_PAGE_SIZE;
		ranges[nr].target = KVM_GMEM_TARGET_PRIVATE;
		if (++nr < MAX_RANGES && page + 2 < nr_runs)
			continue;
		must("KVM_GMEM_CONVERT",
		     gmem_convert_vec(vm->gmem_fd, ranges, nr, NULL));
		nr = 0;
	}
}

static void convert_middle(void *arg, unsigned long call)
{
	struct many_runs *many = arg;

	/* An odd page: shared between private neighbours. */
	must("KVM_GMEM_CONVERT",
	     gmem_convert(many->gmem_fd,
			  (many->nr_runs / 2 | 1) * GMEM_PAGE_SIZE,
			  GMEM_PAGE_SIZE,
			  call % 2 ? KVM_GMEM_TARGET_SHARED :
				     KVM_GMEM_TARGET_PRIVATE, NULL));
}

static void bench_runs(void)
{
	static const unsigned long nr_runs[] = { 100, 1000, 10000, MAX_RUNS };
	struct many_runs many[4];
	struct gmem_vm vms[4];
	struct side sides[] = {
		{ "one page of a file of 10^2 runs", NULL,
		  convert_middle, &many[0] },
		{ "one page of a file of 10^3 runs", NULL,
		  convert_middle, &many[1] },
		{ "one page of a file of 10^4 runs", NULL,
		  convert_middle, &many[2] },
		{ "one page of a file of 10^5 runs", NULL,
		  convert_middle, &many[3] },
	};
	int i;

	for (i = 0; i < 4; i++)
		many_runs_create(&many[i], &vms[i], nr_runs[i]);
	measure(sides, 4, BATCH);
	claim("10^5 runs, against 10^2", sides[3].median / sides[0].median, 1.5);
	for (i = 0; i < 4; i++)
		gmem_vm_destroy(&vms[i]);
}

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
	struct gmem_iommu_bind args = {
		.flags = GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_WRITE |
			 GMEM_IOMMU_BIND_FIXED_IOVA,
		.gmem_fd = rig->gmem_fd,
		.iommufd = rig->ioas.iommufd,
		.ioas_id = rig->ioas.id,
		.length = rig->size,
		.iova = RIG_IOVA,
	};

	rig->binding = mirror_bind_args(&args);
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

/* A line "name: value" or "name value" of a file of /proc. */
static long long proc_value(const char *path, const char *name)
{
	size_t len = strlen(name);
	long long value = -1;
	char line[256];
	FILE *file;

	file = fopen(path, "r");
	if (!file)
		must(path, -errno);
	while (value < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, len) && strchr(": \t", line[len]))
			value = strtoll(line + len + 1, NULL, 10);
	fclose(file);
	if (value < 0)
		must(name, -ENOENT);
	return value;
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

/* An ordinary mapping of the same size, of the host's memory. */
static void map_ordinary(struct mirror_rig *rig, size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (mem == MAP_FAILED)
		must("memory", -errno);
	must("IOMMU_IOAS_MAP", ioas_map(&rig->ioas, RIG_IOVA, mem, size));
	munmap(mem, size);
}

static bool has_memory(size_t size)
{
	return proc_value("/proc/meminfo", "MemAvailable") * 1024 > (long long)size;
}

/* M3: time of the replay, against that of an ordinary mapping. */
static void bench_attach(void)
{
	static const size_t sizes[] = { 256UL << 20, 1UL << 30, 4UL << 30, 16UL << 30 };
	double ratio = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct mirror_rig bound = {}, ordinary = {};
		struct side sides[] = {
			{ "attach, ordinary mapping", detach, attach, &ordinary },
			{ "attach, binding", detach, attach, &bound },
		};
		struct edu_list list;

		ksft_print_msg("%zu MiB:\n", sizes[i] >> 20);
		if (!has_memory(2 * sizes[i] + (256UL << 20))) {
			ksft_print_msg("not measured, this machine has too little memory\n");
			continue;
		}
		rig_create(&bound, sizes[i]);
		rig_bind(&bound);
		edu_list(&list);
		must("IOAS", ioas_open(&ordinary.ioas));
		must("device", edu_open(&ordinary.edu, list.bdf[1],
					ordinary.ioas.iommufd));
		map_ordinary(&ordinary, sizes[i]);
		attach(&ordinary, 0);

		measure(sides, 2, 1);
		ratio = sides[1].median / sides[0].median;
		ksft_print_msg("%.2f times\n", ratio);
		edu_close(&ordinary.edu);
		ioas_close(&ordinary.ioas);
		rig_destroy(&bound);
	}
	claim("attach with the largest binding, against an ordinary mapping", ratio,
	      1.5);
}

static const struct {
	const char *name;
	void (*run)(void);
	int nr_claims;
} benches[] = {
	{ "page", bench_one_page, 1 },
	{ "vector", bench_vector, 0 },
	{ "live-vector", bench_live_vector, 1 },
	{ "runs", bench_runs, 1 },
	{ "memory", bench_memory, 3 },
	{ "syncs", bench_syncs, 1 },
	{ "attach", bench_attach, 1 },
};

/* All of them, or those named by the arguments. */
static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(name, argv[i]))
			return true;
	return argc == 1;
}

int main(int argc, char **argv)
{
	const char *missing = gmem_vm_missing();
	size_t i, nr = 0;

	ksft_print_header();
	if (!missing && (wanted("memory", argc, argv) ||
			 wanted("syncs", argc, argv) ||
			 wanted("attach", argc, argv)))
		missing = env_missing(2);
	if (missing)
		ksft_exit_skip("%s\n", missing);
	for (i = 0; i < ARRAY_SIZE(benches); i++)
		nr += wanted(benches[i].name, argc, argv) * benches[i].nr_claims;
	ksft_set_plan(nr);
	for (i = 0; i < ARRAY_SIZE(benches); i++)
		if (wanted(benches[i].name, argc, argv))
			benches[i].run();
	ksft_finished();
}
