/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What most tests of the mirror stand on: a guest, an IOAS, two devices, a
 * binding of the whole file, and the model of what every page should be.
 */
#ifndef SELFTESTS_GMEM_IOMMU_ENV_H
#define SELFTESTS_GMEM_IOMMU_ENV_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include "dma.h"
#include "gmem_vm.h"
#include "ioas.h"
#include "walker.h"

#define ENV_MAX_PAGES	1024
#define ENV_NR_DEVICES	2

/* Not the offset in the file, nor aligned to more than a page. */
#define ENV_IOVA	0x10003000ULL

/**
 * struct env - The stand
 * @vm: Guest, file and host mapping
 * @ioas: Where the file is bound
 * @edu: Devices; only the first is open and attached at first
 * @bdfs: Devices of this machine
 * @late_hwpt: HWPT of the second device alone, or 0
 * @binding: The whole file at ENV_IOVA; -1 if closed
 * @npages: Pages of the file
 * @model: enum page_state of every page
 */
struct env {
	struct gmem_vm vm;
	struct ioas ioas;
	struct edu edu[ENV_NR_DEVICES];
	struct edu_list bdfs;
	__u32 late_hwpt;
	int binding;
	size_t npages;
	__u8 model[ENV_MAX_PAGES];
};

/* Why a test with @nr_devices cannot run here, as text for SKIP, or NULL. */
const char *env_missing(int nr_devices);

/*
 * Everything but the binding; the file is shared if @shared. Returns 0 or a
 * negative errno; env_destroy() in both cases.
 */
int env_create(struct env *env, size_t npages, bool shared);
int env_bind(struct env *env);

/* The same as env_create(), and the guest fills the file with @seed. */
int env_create_filled(struct env *env, size_t npages, bool shared, __u32 seed);

/* All of it: the file is shared, filled by the guest with @seed, and bound. */
int env_create_bound(struct env *env, size_t npages, __u32 seed);
void env_destroy(struct env *env);

/* Open and attach the second device: to its own HWPT, or to the IOAS. */
int env_attach_late(struct env *env, bool own_hwpt);
int env_detach_late(struct env *env);	/* and destroy that HWPT */

/* Convert pages, by an ioctl of the VMM; the model follows on success. */
int env_convert(struct env *env, size_t first, size_t npages, bool private);
int env_convert_vec(struct env *env, const struct kvm_gmem_range *ranges,
		    __u32 nr_ranges);

/* The same with a few ranges, in random order and mixed directions; of rand_r(). */
int env_convert_random(struct env *env, unsigned int *state);

/* Take up a range that was converted in another way. */
void env_set_model(struct env *env, size_t first, size_t npages, __u8 state);

/*
 * Every attached device reaches exactly the shared pages of the model, and the
 * binding says the same. Returns "", or what is wrong.
 */
const char *env_check(struct env *env);

/* For programs with kselftest_harness.h */
#define EXPECT_MIRROR(env)	EXPECT_STREQ("", env_check(env))
#define ASSERT_MIRROR(env)	ASSERT_STREQ("", env_check(env))

static inline __u64 env_iova(size_t page)
{
	return ENV_IOVA + page * GMEM_PAGE_SIZE;
}

static inline void *env_host(struct env *env, size_t page)
{
	return env->vm.mem + page * GMEM_PAGE_SIZE;
}

/* The device reads the page, and gets what gmem_vm_fill() of @seed left there. */
static inline bool env_device_reads(struct edu *edu, size_t page, __u32 seed)
{
	return dma_read_matches(edu, env_iova(page), page * GMEM_PAGE_SIZE, seed);
}

#endif /* SELFTESTS_GMEM_IOMMU_ENV_H */
