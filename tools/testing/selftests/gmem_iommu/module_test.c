// SPDX-License-Identifier: GPL-2.0
/*
 * The module comes and goes: it stays while a binding or the device is open,
 * without it the node is absent and conversions go on, and it can be loaded and
 * unloaded while files are converted. KVM's module of the vendor stays with a binding, too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"

#define MODULE		"gmem_iommu"
#define NODE		"/dev/gmem_iommu"
#define REFCNT		"/sys/module/" MODULE "/refcnt"
#define NPAGES		64
#define SIZE		(NPAGES * GMEM_PAGE_SIZE)
#define IOVA		0x10000000ULL
#define SEED		0x5eed4000
#define NR_LOADS	20

/* 0 or a negative errno. */
static int unload_module(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

static int unload(void)
{
	return unload_module(MODULE);
}

/* 0, or the exit status of modprobe. */
static int load_module(const char *name)
{
	char command[64];
	int status;

	snprintf(command, sizeof(command), "modprobe %s", name);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
}

static int load(void)
{
	return load_module(MODULE);
}

static int open_node(void)
{
	int fd = open(NODE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/**
 * struct scene - A file that may be bound
 * @vm: Its VM; the guest has filled all pages
 * @ioas: Without devices
 * @model: enum page_state of every page
 */
struct scene {
	struct gmem_vm vm;
	struct ioas ioas;
	__u8 model[NPAGES];
};

FIXTURE(module)
{
	struct scene s;
};

FIXTURE_SETUP(module)
{
	const char *why = mirror_missing();

	if (why)
		SKIP(return, "%s", why);
	if (geteuid() || access(REFCNT, R_OK))
		SKIP(return, "needs root and CONFIG_GMEM_IOMMU=m");
	if (load())
		SKIP(return, "no modprobe, or no modules to load");

	ASSERT_EQ(0, gmem_vm_create(&self->s.vm, SIZE, GMEM_VM_SHARED));
	ASSERT_EQ(0, gmem_vm_fill(&self->s.vm, 0, SIZE, SEED));
	ASSERT_EQ(0, ioas_open(&self->s.ioas));
	memset(self->s.model, PAGE_SHARED, NPAGES);
}

FIXTURE_TEARDOWN(module)
{
	ioas_close(&self->s.ioas);
	gmem_vm_destroy(&self->s.vm);
	EXPECT_EQ(0, load());
}

static void convert(struct __test_metadata *_metadata,
		    struct scene *s, size_t first, size_t npages,
		    bool private)
{
	EXPECT_EQ(0, gmem_convert(s->vm.gmem_fd, first * GMEM_PAGE_SIZE,
				  npages * GMEM_PAGE_SIZE,
				  private ? KVM_GMEM_TARGET_PRIVATE :
					    KVM_GMEM_TARGET_SHARED, NULL));
	memset(s->model + first, private ? PAGE_PRIVATE : PAGE_SHARED, npages);
}

static int bind_all(struct scene *s)
{
	return mirror_bind(s->vm.gmem_fd, &s->ioas, 0, SIZE, IOVA);
}

TEST_F(module, U8_stays_while_bound)
{
	int binding, copy;

	binding = bind_all(&self->s);
	ASSERT_LE(0, binding);
	EXPECT_EQ(-EWOULDBLOCK, unload());

	/* The refusal has cost nothing. */
	convert(_metadata, &self->s, 3, 5, true);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, self->s.model, NPAGES));

	/* Each file descriptor counts, and a dead binding is one, too. */
	copy = dup(binding);
	ASSERT_LE(0, copy);
	close(binding);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	ASSERT_EQ(0, ioas_unmap(&self->s.ioas, IOVA, SIZE));
	EXPECT_EQ(1, mirror_poll_dead(copy));
	EXPECT_EQ(-EWOULDBLOCK, unload());

	close(copy);
	EXPECT_EQ(0, unload());
	EXPECT_EQ(-ENOENT, unload());
}

TEST_F(module, U8_stays_while_the_device_is_open)
{
	int fd = open_node();

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(fd);
	EXPECT_EQ(0, unload());
}

/* The memory of a VM that is gone: who frees it is KVM's module of the vendor. */
TEST_F(module, U8_keeps_the_vendor)
{
	bool amd = !access("/sys/module/kvm_amd/refcnt", R_OK);
	const char *vendor = amd ? "kvm_amd" : "kvm_intel";
	int binding;

	if (!amd && access("/sys/module/kvm_intel/refcnt", R_OK))
		SKIP(return, "needs CONFIG_KVM_AMD=m or CONFIG_KVM_INTEL=m");

	binding = bind_all(&self->s);
	ASSERT_LE(0, binding);
	gmem_vm_destroy(&self->s.vm);
	EXPECT_EQ(1, mirror_poll_dead(binding));
	EXPECT_EQ(-EWOULDBLOCK, unload_module(vendor));

	close(binding);
	EXPECT_EQ(0, unload_module(vendor));
	EXPECT_EQ(0, load_module(vendor));
}

TEST_F(module, U3_N4_absent_and_back)
{
	int binding;

	ASSERT_EQ(0, unload());
	EXPECT_EQ(-ENOENT, open_node());
	EXPECT_STREQ("no " NODE, mirror_missing());

	/* A VMM without the mirror: KVM does not miss it. */
	convert(_metadata, &self->s, 10, 20, true);
	EXPECT_TRUE(host_faults(self->s.vm.mem + 10 * GMEM_PAGE_SIZE));
	convert(_metadata, &self->s, 15, 5, false);
	EXPECT_EQ(0, gmem_vm_verify(&self->s.vm, 0, SIZE, SEED));

	/* What changed in the meantime is known. */
	ASSERT_EQ(0, load());
	binding = bind_all(&self->s);
	ASSERT_LE(0, binding);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, self->s.model, NPAGES));
	convert(_metadata, &self->s, 12, 2, false);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, self->s.model, NPAGES));
	close(binding);
}

/* Never returns. */
static void convert_forever(int gmem_fd)
{
	__u32 target = KVM_GMEM_TARGET_PRIVATE;
	struct kvm_gmem_range ranges[NPAGES / 2];
	unsigned int i, round;

	for (round = 0; ; round++) {
		for (i = 0; i < NPAGES / 2; i++) {
			ranges[i].offset = (2 * i + round % 2) * GMEM_PAGE_SIZE;
			ranges[i].size = GMEM_PAGE_SIZE;
			ranges[i].target = target;
			ranges[i].reserved = 0;
		}
		if (gmem_convert_vec(gmem_fd, ranges, NPAGES / 2, NULL))
			_exit(1);
		if (round % 2)
			target ^= KVM_GMEM_TARGET_PRIVATE ^ KVM_GMEM_TARGET_SHARED;
	}
}

/* With and without a binding that the conversions have to tell. */
TEST_F(module, N4_U8_loaded_and_unloaded_while_converting)
{
	struct gmem_iommu_stats stats;
	unsigned long conversions = 0;
	int i, status, binding;
	pid_t child;

	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		convert_forever(self->s.vm.gmem_fd);

	for (i = 0; i < NR_LOADS; i++) {
		ASSERT_EQ(0, load());
		if (i % 2) {
			binding = bind_all(&self->s);
			ASSERT_LE(0, binding);
			EXPECT_EQ(-EWOULDBLOCK, unload());
			usleep(1000 * i);
			ASSERT_EQ(0, mirror_get_stats(binding, &stats));
			conversions += stats.conversions;
			close(binding);
		}
		ASSERT_EQ(0, unload()) TH_LOG("round %d", i);
	}

	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status)) TH_LOG("a conversion failed");
	EXPECT_LT(0, conversions);

	/* The file is as good as before. */
	ASSERT_EQ(0, load());
	convert(_metadata, &self->s, 0, NPAGES, false);
	binding = bind_all(&self->s);
	ASSERT_LE(0, binding);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, self->s.model, NPAGES));
	EXPECT_EQ(0, gmem_vm_verify(&self->s.vm, 0, SIZE, SEED));
	close(binding);
}

TEST_HARNESS_MAIN
