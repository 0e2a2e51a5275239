// SPDX-License-Identifier: GPL-2.0
/*
 * C1, C2, C11, C12, M3, M6: every allocation of every entry point fails once.
 *
 * Each time everything that can be observed is as before: state, contents, runs,
 * generation, mappings of the host, of the guest and of the domains, KVM's counters
 * and the bindings', and open files. See lib/sweep.h and lib/rig.h.
 *
 * Domains are iommufd's mock, so that page tables are a part of the test. Leaves are
 * of 4 KiB; huge_fail_nth_test has large ones.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/host.h"
#include "lib/mirror.h"
#include "lib/rig.h"
#include "lib/state.h"
#include "lib/sweep_harness.h"
#include "lib/walker.h"

#define NR_PAGES	64
#define FILE_SIZE	PAGES(NR_PAGES)
#define NR_BINDINGS	RIG_BINDINGS

/* Every fourth page is private. */
static void set_states(struct rig *rig)
{
	struct kvm_gmem_range ranges[NR_PAGES];
	size_t i;

	for (i = 0; i < NR_PAGES; i++) {
		ranges[i].offset = PAGES(i);
		ranges[i].size = PAGES(1);
		ranges[i].target = i % 4 == 3 ? KVM_GMEM_TARGET_PRIVATE :
				   KVM_GMEM_TARGET_SHARED;
		ranges[i].reserved = 0;
	}
	gmem_convert_vec(rig->vm.gmem_fd, ranges, NR_PAGES, NULL);
}

static void setup_rig(struct __test_metadata *_metadata, struct rig *rig,
		      int nr_bindings, bool domain)
{
	const struct rig_config config = {
		.size = FILE_SIZE,
		.nr_bindings = nr_bindings,
		.domain = domain,
		.max_leaf_size = GMEM_PAGE_SIZE,
	};
	const char *missing = rig_missing(&config);
	int ret;

	if (missing)
		SKIP(return, "%s", missing);
	ret = rig_create(rig, &config);
	if (ret == -ENOENT)
		SKIP(return, "no fail-nth");
	ASSERT_EQ(0, ret);
	sweep_write_contents(_metadata, rig);
	set_states(rig);
	ret = rig_bind(rig);
	if (ret == -ENODEV)
		SKIP(return, "no CONFIG_IOMMUFD_TEST");
	ASSERT_EQ(0, ret);
}

static void teardown_rig(struct __test_metadata *_metadata, struct rig *rig)
{
	sweep_check_contents(_metadata, rig);
	EXPECT_EQ(0, rig_destroy(rig));
}

/* The file alone. */
FIXTURE(file)
{
	struct rig rig;
};

FIXTURE_SETUP(file)
{
	setup_rig(_metadata, &self->rig, 0, false);
}

FIXTURE_TEARDOWN(file)
{
	teardown_rig(_metadata, &self->rig);
}

/* The file, or the file with bindings, or with bindings that are mapped. */
FIXTURE(rig)
{
	struct rig rig;
};

FIXTURE_VARIANT(rig)
{
	bool domain;
	int nr_bindings;
};

FIXTURE_VARIANT_ADD(rig, alone) { false, 0 };
FIXTURE_VARIANT_ADD(rig, bound) { false, NR_BINDINGS };
FIXTURE_VARIANT_ADD(rig, mapped) { true, NR_BINDINGS };

FIXTURE_SETUP(rig)
{
	setup_rig(_metadata, &self->rig, variant->nr_bindings, variant->domain);
}

FIXTURE_TEARDOWN(rig)
{
	teardown_rig(_metadata, &self->rig);
}

/* What needs the IOAS or a binding. */
FIXTURE(bound)
{
	struct rig rig;
};

FIXTURE_VARIANT(bound)
{
	bool domain;
};

FIXTURE_VARIANT_ADD(bound, unmapped) { false };
FIXTURE_VARIANT_ADD(bound, mapped) { true };

FIXTURE_SETUP(bound)
{
	setup_rig(_metadata, &self->rig, NR_BINDINGS, variant->domain);
}

FIXTURE_TEARDOWN(bound)
{
	teardown_rig(_metadata, &self->rig);
}

/* A device that waits in another IOAS. */
FIXTURE(parked)
{
	struct rig rig;
};

FIXTURE_SETUP(parked)
{
	setup_rig(_metadata, &self->rig, NR_BINDINGS, false);
	if (!_metadata->exit_code && !self->rig.mock.stdev_id)
		SKIP(return, "no CONFIG_IOMMUFD_TEST");
}

FIXTURE_TEARDOWN(parked)
{
	teardown_rig(_metadata, &self->rig);
}

/* A vector of both directions that crosses the bindings, and its inverse. */
static int convert_mixed(struct rig *rig, bool back)
{
	struct kvm_gmem_range ranges[NR_PAGES / 2];
	__u64 error_offset;
	size_t i;
	int ret;

	/* Pages 0 and 3 of each four swap their state. */
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		ranges[i].offset = PAGES(i / 2 * 4 + i % 2 * 3);
		ranges[i].size = PAGES(1);
		ranges[i].target = (i % 2) ^ back ? KVM_GMEM_TARGET_SHARED :
				   KVM_GMEM_TARGET_PRIVATE;
		ranges[i].reserved = 0;
	}
	ret = gmem_convert_vec(rig->vm.gmem_fd, ranges, ARRAY_SIZE(ranges), &error_offset);
	/* C4: defined on every return; a failed allocation may blame a page. */
	if (error_offset >= FILE_SIZE || (!ret && error_offset))
		return -EPROTO;
	return ret;
}

static int run_convert(struct rig *rig)
{
	return convert_mixed(rig, false);
}

static void undo_convert(struct rig *rig)
{
	convert_mixed(rig, true);
}

TEST_F_TIMEOUT(rig, C1_C2_N2_convert, 300)
{
	const struct sweep_call call = { run_convert, undo_convert, 2 };

	sweep(_metadata, &self->rig, &call);
}

static int run_to_private(struct rig *rig)
{
	return gmem_convert(rig->vm.gmem_fd, 0, FILE_SIZE, KVM_GMEM_TARGET_PRIVATE, NULL);
}

static int run_to_shared(struct rig *rig)
{
	return gmem_set_attributes2(rig->vm.gmem_fd, 0, FILE_SIZE, 0, NULL);
}

TEST_F_TIMEOUT(rig, C1_C2_M6_to_private, 300)
{
	const struct sweep_call call = { run_to_private, set_states, 0 };

	sweep(_metadata, &self->rig, &call);
}

TEST_F_TIMEOUT(rig, C1_C2_C11_to_shared, 300)
{
	const struct sweep_call call = { run_to_shared, set_states, 0 };

	sweep(_metadata, &self->rig, &call);
}

/* This ioctl blames the start of the request when there is no memory. */
static int run_attributes(struct rig *rig)
{
	__u64 start = PAGES(4), offset = 1;
	int ret;

	ret = gmem_set_attributes2(rig->vm.gmem_fd, start, FILE_SIZE - start, 0,
				   &offset);
	return offset == (ret == -ENOMEM ? start : 0) ? ret : -EPROTO;
}

TEST_F_TIMEOUT(rig, C1_C15_U7_attributes, 300)
{
	const struct sweep_call call = { run_attributes, set_states, 0 };

	sweep(_metadata, &self->rig, &call);
}

/* The same when the private pages have no memory yet. */
static void undo_emptied(struct rig *rig)
{
	size_t i;

	set_states(rig);
	for (i = 3; i < NR_PAGES; i += 4)
		gmem_punch_hole(rig->vm.gmem_fd, PAGES(i), PAGES(1));
}

TEST_F_TIMEOUT(bound, C1_C2_M11_to_shared_allocates, 300)
{
	const struct sweep_call call = { run_to_shared, undo_emptied, 16 };
	struct rig *rig = &self->rig;

	sweep(_metadata, rig, &call);
	EXPECT_EQ(NR_PAGES - NR_PAGES / 4, last.nr_resident);
	sweep_restore_contents(_metadata, rig);
}

/*
 * Memory comes to a shared page, by each of four ways. It is punched out before,
 * and looking at the state brings it back, so its contents are zero.
 */
#define HOLE	40

static int punch_hole(struct rig *rig)
{
	return gmem_punch_hole(rig->vm.gmem_fd, PAGES(HOLE), PAGES(1));
}

static void undo_hole(struct rig *rig)
{
	punch_hole(rig);
}

static bool hole_has_memory(struct rig *rig)
{
	unsigned char in_core = 1;

	mincore(rig->vm.mem + PAGES(HOLE), GMEM_PAGE_SIZE, &in_core);
	return in_core & 1;
}

/* It has not got memory, and the binding says so. */
static int expect_hole(struct rig *rig)
{
	__u8 model[NR_PAGES];

	memcpy(model, last.before.page, NR_PAGES);
	model[HOLE] = PAGE_HOLE;
	if (hole_has_memory(rig) ||
	    (rig->bindings[0] >= 0 &&
	     *mirror_check_runs(rig->bindings[0], 0, model, NR_PAGES)))
		return -EPROTO;
	return 0;
}

static int run_allocate(struct rig *rig)
{
	return gmem_allocate(rig->vm.gmem_fd, PAGES(HOLE), PAGES(1));
}

static int run_prefault(struct rig *rig)
{
	return rig_prefault(rig, HOLE);
}

static int run_guest_fault(struct rig *rig)
{
	return gmem_vm_verify(&rig->vm, PAGES(HOLE), PAGES(1), 0) == -ENOMEM ?
	       -ENOMEM : 0;
}

/* The kernel's answer to too little memory is to try again. */
static int run_host_fault(struct rig *rig)
{
	return host_write(rig->vm.mem + PAGES(HOLE), "", 1);
}

static void sweep_hole(struct __test_metadata *_metadata, struct rig *rig,
		       int (*run)(struct rig *rig), unsigned int min)
{
	const struct sweep_call call = {
		.run = run,
		.undo = undo_hole,
		.min = min,
		.prepare = punch_hole,
		.recover = expect_hole,
	};

	sweep(_metadata, rig, &call);
	sweep_restore_contents(_metadata, rig);
}

TEST_F_TIMEOUT(rig, C2_N1_U7_allocate, 300)
{
	sweep_hole(_metadata, &self->rig, run_allocate, 1);
}

TEST_F_TIMEOUT(rig, C2_N1_U7_prefault, 300)
{
	sweep_hole(_metadata, &self->rig, run_prefault, 1);
}

TEST_F_TIMEOUT(rig, C2_N1_U7_guest_fault, 300)
{
	sweep_hole(_metadata, &self->rig, run_guest_fault, 1);
}

TEST_F_TIMEOUT(rig, C2_N1_U7_host_fault, 300)
{
	sweep_hole(_metadata, &self->rig, run_host_fault, 1);
}

/* Pages of both states lose their memory. */
static int run_punch(struct rig *rig)
{
	return gmem_punch_hole(rig->vm.gmem_fd, PAGES(HOLE), PAGES(4));
}

static void undo_punch(struct rig *rig)
{
	__u8 page[GMEM_PAGE_SIZE];
	size_t i;

	gmem_convert(rig->vm.gmem_fd, PAGES(HOLE), PAGES(4),
		     KVM_GMEM_TARGET_SHARED, NULL);
	for (i = HOLE; i < HOLE + 4; i++) {
		gmem_pattern(page, PAGES(i), SWEEP_SEED);
		host_write(rig->vm.mem + PAGES(i), page, sizeof(page));
	}
	set_states(rig);
}

TEST_F_TIMEOUT(rig, C11_C12_U7_punch_hole, 300)
{
	const struct sweep_call call = { .run = run_punch, .undo = undo_punch };

	sweep(_metadata, &self->rig, &call);
}

static int delete_slot(struct rig *rig)
{
	return gmem_vm_delete_slot(&rig->vm);
}

static int create_slot(struct rig *rig)
{
	return gmem_vm_create_slot(&rig->vm);
}

static void undo_delete_slot(struct rig *rig)
{
	create_slot(rig);
}

TEST_F_TIMEOUT(rig, C12_U7_memslot_deletion, 300)
{
	const struct sweep_call call = {
		.run = delete_slot,
		.undo = undo_delete_slot,
		.min = 1,
	};

	sweep(_metadata, &self->rig, &call);
}

static void undo_nothing(struct rig *rig)
{
}

/* A memslot over memory that is gone; one of its pages has none at all. */
static int prepare_creation(struct rig *rig)
{
	return delete_slot(rig) ?: punch_hole(rig);
}

/* There is still no memslot, and devices reach nothing. */
static int recover_creation(struct rig *rig)
{
	__u8 model[NR_PAGES];
	size_t i;

	if (hole_has_memory(rig))
		return -EPROTO;
	for (i = 0; i < NR_PAGES; i++) {
		model[i] = last.before.page[i] == PAGE_SHARED ? PAGE_HOLE : PAGE_PRIVATE;
		/* To ask for a page gives it memory. */
		if (rig->mock.hwpt_id && i != HOLE && model[i] == PAGE_HOLE &&
		    mock_translates(&rig->mock, rig_iova(0) + PAGES(i),
				    rig->vm.mem + PAGES(i), 1))
			return -EPROTO;
	}
	if (rig->bindings[0] >= 0 &&
	    *mirror_check_runs(rig->bindings[0], 0, model, NR_PAGES))
		return -EPROTO;
	/* A slot that is there could not be created again. */
	return create_slot(rig);
}

TEST_F_TIMEOUT(rig, C12_N1_U7_memslot_creation, 300)
{
	const struct sweep_call call = {
		.run = create_slot,
		.undo = undo_nothing,
		.min = 3,
		.prepare = prepare_creation,
		.recover = recover_creation,
	};
	struct rig *rig = &self->rig;

	sweep(_metadata, rig, &call);
	sweep_restore_contents(_metadata, rig);
}

static int new_fd;

static void undo_new_fd(struct rig *rig)
{
	close(new_fd);
}

static int run_create(struct rig *rig)
{
	new_fd = gmem_create_fd(rig->vm.vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	return new_fd < 0 ? new_fd : 0;
}

TEST_F_TIMEOUT(file, U7_create, 300)
{
	const struct sweep_call call = { run_create, undo_new_fd, 3 };

	sweep(_metadata, &self->rig, &call);
}

/* A third binding, of a part of the file, in the same IOAS. */
static int run_bind(struct rig *rig)
{
	new_fd = mirror_bind(rig->vm.gmem_fd, &rig->ioas, PAGES(5), PAGES(20), rig_iova(2));
	return new_fd < 0 ? new_fd : 0;
}

TEST_F_TIMEOUT(bound, U7_bind, 300)
{
	const struct sweep_call call = { run_bind, undo_new_fd, 3, true };

	sweep(_metadata, &self->rig, &call);
}

/* The pages that a binding allocates are allocated by all of them at once. */
static int run_bind_punched(struct rig *rig)
{
	int ret;

	ret = gmem_create_fd(rig->vm.vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	if (ret < 0)
		return ret;
	new_fd = mirror_bind(ret, &rig->ioas, 0, PAGES(16), rig_iova(2));
	close(ret);
	return new_fd < 0 ? new_fd : 0;
}

TEST_F_TIMEOUT(bound, M11_U7_bind_empty_file, 300)
{
	const struct sweep_call call = { run_bind_punched, undo_new_fd, 16, true };

	sweep(_metadata, &self->rig, &call);
}

static int run_query(struct rig *rig)
{
	struct gmem_iommu_run runs[NR_PAGES];
	int ret = mirror_read_runs(rig->bindings[0], 0, runs, NR_PAGES);

	return ret < 0 ? ret : 0;
}

TEST_F_TIMEOUT(bound, U4_U7_query, 300)
{
	const struct sweep_call call = { run_query, undo_nothing, 0 };

	sweep(_metadata, &self->rig, &call);
}

/*
 * What cannot fail: the last close of a file that is bound, and the close of a
 * binding. Without memory, too, the domain is clean when they return.
 */
static int new_binding;

static int prepare_release(struct rig *rig)
{
	new_fd = gmem_create_fd(rig->vm.vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	if (new_fd < 0)
		return new_fd;
	new_binding = mirror_bind(new_fd, &rig->ioas, 0, PAGES(16), rig_iova(2));
	return new_binding < 0 ? new_binding : 0;
}

static int run_release(struct rig *rig)
{
	struct gmem_iommu_stats stats;

	close(new_fd);
	if (mirror_poll_dead(new_binding) != 1 ||
	    mirror_get_stats(new_binding, &stats) ||
	    stats.unmapped_pages != (rig->mock.hwpt_id ? 16 : 0))
		return -EPROTO;
	return 0;
}

static void undo_release(struct rig *rig)
{
	close(new_binding);
}

TEST_F_TIMEOUT(bound, C12_M14_release, 300)
{
	const struct sweep_call call = {
		.run = run_release,
		.undo = undo_release,
		.prepare = prepare_release,
	};

	sweep(_metadata, &self->rig, &call);
}

static int run_unbind(struct rig *rig)
{
	close(rig->bindings[1]);
	rig->bindings[1] = -1;
	if (rig->mock.hwpt_id &&
	    mock_translates(&rig->mock, rig_iova(1), rig->vm.mem + rig_offset(rig, 1), 1))
		return -EPROTO;
	return 0;
}

static void undo_unbind(struct rig *rig)
{
	rig_bind_nth(rig, 1);
}

TEST_F_TIMEOUT(bound, M14_unbind, 300)
{
	const struct sweep_call call = { .run = run_unbind, .undo = undo_unbind };

	sweep(_metadata, &self->rig, &call);
}

static int run_attach(struct rig *rig)
{
	return mock_attach(&rig->mock, &rig->ioas);
}

static void undo_attach(struct rig *rig)
{
	mock_detach(&rig->mock);
}

/* A domain comes and replays both bindings, or does not come. */
TEST_F_TIMEOUT(parked, M3_attach, 300)
{
	const struct sweep_call call = { run_attach, undo_attach, 10, true };
	struct rig *rig = &self->rig;

	sweep(_metadata, rig, &call);

	/* And it works: with the domain there, all of it is checked. */
	ASSERT_EQ(0, run_attach(rig));
	EXPECT_STREQ("", rig_read_state(rig, &last.before));
}

TEST_HARNESS_MAIN
