// SPDX-License-Identifier: GPL-2.0
/*
 * What a conversion costs when no device is there: of one page, of many at once, in a
 * file of many runs, and of one that is mapped many times.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest.h"
#include "lib/gmem_vm.h"
#include "lib/host.h"
#include "lib/measure.h"

#define BATCH		200

#define MAX_RANGES	1024
#define MAX_RUNS	100000UL

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

/* A file of which single pages are mapped, each by itself: next to none of the others. */
#define NR_MAPPINGS	500
#define MAPPED_PAGES	4096UL

struct mapped {
	struct gmem_vm vm;
	__u8 *pages[NR_MAPPINGS];
};

static void mapped_create(struct mapped *mapped, size_t first)
{
	struct gmem_vm *vm = &mapped->vm;
	int i;

	must("VM", gmem_vm_create(vm, MAPPED_PAGES * GMEM_PAGE_SIZE,
				  GMEM_VM_SHARED));
	must("allocation", gmem_allocate(vm->gmem_fd, 0, vm->size));
	munmap(vm->mem, vm->size);
	vm->mem = NULL;
	for (i = 0; i < NR_MAPPINGS; i++) {
		mapped->pages[i] = mmap(NULL, GMEM_PAGE_SIZE,
					PROT_READ | PROT_WRITE, MAP_SHARED,
					vm->gmem_fd, PAGES(first + 2 * i));
		if (mapped->pages[i] == MAP_FAILED)
			must("mapping", -errno);
	}
}

static void mapped_destroy(struct mapped *mapped)
{
	int i;

	for (i = 0; i < NR_MAPPINGS; i++)
		munmap(mapped->pages[i], GMEM_PAGE_SIZE);
	gmem_vm_destroy(&mapped->vm);
}

static void mapped_touch(void *arg, unsigned long call)
{
	struct mapped *mapped = arg;
	__u8 byte;
	int i;

	for (i = 0; !(call % 2) && i < NR_MAPPINGS; i++)
		must("access", host_read(&byte, mapped->pages[i], 1));
}

static void convert_mapped(void *arg, unsigned long call)
{
	struct mapped *mapped = arg;

	must("KVM_GMEM_CONVERT",
	     gmem_convert(mapped->vm.gmem_fd, 0, mapped->vm.size,
			  call % 2 ? KVM_GMEM_TARGET_SHARED :
				     KVM_GMEM_TARGET_PRIVATE, NULL));
}

/* A mapping costs what it maps, and not what of the file lies before it. */
static void bench_mappings(void)
{
	static struct mapped mapped[2];
	struct side sides[] = {
		{ "4096 pages, the first of them mapped", mapped_touch,
		  convert_mapped, &mapped[0] },
		{ "4096 pages, the last of them mapped", mapped_touch,
		  convert_mapped, &mapped[1] },
	};

	mapped_create(&mapped[0], 0);
	mapped_create(&mapped[1], MAPPED_PAGES - 2 * NR_MAPPINGS);
	measure(sides, 2, 2);
	claim("500 mappings of the end, against the beginning",
	      sides[1].median / sides[0].median, 1.5);
	mapped_destroy(&mapped[0]);
	mapped_destroy(&mapped[1]);
}

static const struct measurement measurements[] = {
	{ "page", bench_one_page, 1 },
	{ "vector", bench_vector, 0 },
	{ "live-vector", bench_live_vector, 1 },
	{ "runs", bench_runs, 1 },
	{ "mappings", bench_mappings, 1 },
};

int main(int argc, char **argv)
{
	return run_measurements(measurements, ARRAY_SIZE(measurements),
				gmem_vm_missing(), argc, argv);
}
