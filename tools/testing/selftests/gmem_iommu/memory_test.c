// SPDX-License-Identifier: GPL-2.0
/*
 * M8, U6: what a binding costs, and who pays. A memory cgroup of its own tells: its
 * "kernel" counter has slab and page tables, its "sec_pagetables" the latter.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cgroup.h"
#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/ioas.h"
#include "lib/mirror.h"

#define IOVA		0x100000000ULL

#define SIZE		(64UL << 20)
#define NPAGES		(SIZE / GMEM_PAGE_SIZE)
#define LIMIT		((long long)SIZE / 1024)	/* 1 MiB for 1 GiB */

/* Page tables of leaves of 4 KiB, of which each has 512. */
#define TABLES		((long long)NPAGES / 512 * 4096)

#define NR_BINDINGS	64
#define NR_RANGES	1024

/* Bytes that the cgroup has of a kind, as memory.stat calls it; or -errno. */
static long long charged(const char *kind)
{
	return cgroup_get_key("memory.stat", kind);
}

/*
 * The counters have what happened before the last 64 changes of each CPU, or
 * before two seconds (MEMCG_CHARGE_BATCH, FLUSH_TIME of mm/memcontrol.c), so make
 * changes. RCU frees objects after a moment, before that.
 */
static int settle(void)
{
	const size_t size = 64UL * GMEM_PAGE_SIZE * sysconf(_SC_NPROCESSORS_CONF);
	void *mem;

	usleep(200 * 1000);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (mem == MAP_FAILED)
		return -errno;
	return munmap(mem, size) ? -errno : 0;
}

/* Without the page tables of IOMMUs. */
static long long charged_objects(void)
{
	return charged("kernel") - charged("sec_pagetables");
}

/* Move to a new cgroup. Returns NULL, or what is missing. */
static const char *enter_cgroup(void)
{
	if (cgroup_enter("memory") || charged("kernel") < 0 ||
	    charged("sec_pagetables") < 0)
		return "no memory cgroups (CONFIG_MEMCG)";
	return NULL;
}

FIXTURE(memory)
{
	int vm_fd;
	int gmem_fd;
	struct ioas ioas;
	struct edu edu;
};

FIXTURE_SETUP(memory)
{
	const char *why = env_missing(1);
	struct edu_list list;

	if (!why)
		why = enter_cgroup();
	if (why)
		SKIP(return, "%s", why);

	edu_list(&list);
	self->vm_fd = gmem_create_vm_fd(KVM_X86_SW_PROTECTED_VM);
	ASSERT_LE(0, self->vm_fd);
	self->gmem_fd = gmem_create_fd(self->vm_fd, SIZE, GMEM_VM_SHARED);
	ASSERT_LE(0, self->gmem_fd);
	ASSERT_EQ(0, ioas_open(&self->ioas));
	ASSERT_EQ(0, edu_open(&self->edu, list.bdf[0], self->ioas.iommufd));
	ASSERT_EQ(0, edu_attach(&self->edu, &self->ioas, self->ioas.id));
}

FIXTURE_TEARDOWN(memory)
{
	edu_close(&self->edu);
	ioas_close(&self->ioas);
	close(self->gmem_fd);
	close(self->vm_fd);
	cgroup_leave();
}

static int convert_every_second(int gmem_fd)
{
	static struct kvm_gmem_range ranges[NR_RANGES];
	size_t page, i;
	int ret = 0;

	for (page = 0; !ret && page < NPAGES; page += 2 * NR_RANGES) {
		for (i = 0; i < NR_RANGES; i++)
			ranges[i] = (struct kvm_gmem_range) {
				.offset = (page + 2 * i) * GMEM_PAGE_SIZE,
				.size = GMEM_PAGE_SIZE,
				.target = KVM_GMEM_TARGET_PRIVATE,
			};
		ret = gmem_convert_vec(gmem_fd, ranges, NR_RANGES, NULL);
	}
	return ret;
}

/* All of it shared is one run; with every second page private there are 16,384. */
TEST_F(memory, M8_U6_one_binding)
{
	long long file, objects, tables;
	int binding;

	ASSERT_EQ(0, gmem_allocate(self->gmem_fd, 0, SIZE));
	ASSERT_EQ(0, settle());
	file = charged("file");
	EXPECT_LE(SIZE, file);
	objects = charged_objects();
	tables = charged("sec_pagetables");

	binding = mirror_bind(self->gmem_fd, &self->ioas, 0, SIZE, IOVA);
	ASSERT_LE(0, binding);
	ASSERT_EQ(0, settle());
	TH_LOG("objects %lld, tables %lld", charged_objects() - objects,
	       charged("sec_pagetables") - tables);
	EXPECT_GT(LIMIT, charged_objects() - objects);
	EXPECT_LE(TABLES, charged("sec_pagetables") - tables);
	/* The memory itself is charged once. */
	EXPECT_EQ(file, charged("file"));

	ASSERT_EQ(0, convert_every_second(self->gmem_fd));
	ASSERT_EQ(0, settle());
	TH_LOG("every second page: objects %lld", charged_objects() - objects);
	EXPECT_GT(LIMIT, charged_objects() - objects);
	EXPECT_EQ(file, charged("file"));

	close(binding);
	ASSERT_EQ(0, settle());
	EXPECT_EQ(file, charged("file"));
	EXPECT_GT(TABLES, charged("sec_pagetables") - tables);
}

/* Nobody gets bindings for nothing. */
TEST_F(memory, U6_bindings_are_charged)
{
	int bindings[NR_BINDINGS], i;
	long long objects;

	ASSERT_EQ(0, settle());
	objects = charged_objects();
	for (i = 0; i < NR_BINDINGS; i++) {
		bindings[i] = mirror_bind(self->gmem_fd, &self->ioas,
					  i * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE,
					  IOVA + i * GMEM_PAGE_SIZE);
		ASSERT_LE(0, bindings[i]);
	}
	ASSERT_EQ(0, settle());
	/* A binding, an ext object, pages, an area, a track: 256 bytes is little. */
	EXPECT_LT(NR_BINDINGS * 256, charged_objects() - objects);
	for (i = 0; i < NR_BINDINGS; i++)
		close(bindings[i]);
}

TEST_HARNESS_MAIN
