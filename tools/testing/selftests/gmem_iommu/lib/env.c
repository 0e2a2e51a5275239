// SPDX-License-Identifier: GPL-2.0
/*
 * What most tests of the mirror stand on: a guest, an IOAS, two devices, a
 * binding of the whole file, and the model of what every page should be.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "env.h"
#include "mirror.h"

#define RANDOM_RANGES	6	/* most ranges of a random request */

const char *env_missing(int nr_devices)
{
	struct edu_list list;
	const char *why;

	why = mirror_missing();
	if (why)
		return why;

	edu_list(&list);
	if (list.nr < nr_devices)
		return "not enough edu devices (qemu -device edu)";
	if (!walker_available(list.bdf[0]))
		return "no page table in debugfs (CONFIG_INTEL_IOMMU_DEBUGFS)";
	return NULL;
}

int env_create(struct env *env, size_t npages, bool shared)
{
	int i, ret;

	memset(env, 0, sizeof(*env));
	env->binding = -1;
	env->ioas.iommufd = -1;
	for (i = 0; i < ENV_NR_DEVICES; i++)
		env->edu[i].fd = -1;
	env->npages = npages;
	env_set_model(env, 0, npages, shared ? PAGE_SHARED : PAGE_PRIVATE);
	edu_list(&env->bdfs);

	ret = gmem_vm_create(&env->vm, npages * GMEM_PAGE_SIZE,
			     shared ? GMEM_VM_SHARED : GMEM_VM_PRIVATE);
	if (ret)
		return ret;
	ret = ioas_open(&env->ioas);
	if (ret)
		return ret;
	ret = edu_open(&env->edu[0], env->bdfs.bdf[0], env->ioas.iommufd);
	if (ret)
		return ret;
	return edu_attach(&env->edu[0], &env->ioas, env->ioas.id);
}

int env_create_filled(struct env *env, size_t npages, bool shared, __u32 seed)
{
	return env_create(env, npages, shared) ?:
	       gmem_vm_fill(&env->vm, 0, env->vm.size, seed);
}

int env_create_bound(struct env *env, size_t npages, __u32 seed)
{
	return env_create_filled(env, npages, true, seed) ?: env_bind(env);
}

int env_bind(struct env *env)
{
	int ret;

	ret = mirror_bind(env->vm.gmem_fd, &env->ioas, 0, env->vm.size,
			  ENV_IOVA);
	if (ret < 0)
		return ret;
	env->binding = ret;
	return 0;
}

void env_destroy(struct env *env)
{
	int i;

	if (env->binding >= 0)
		close(env->binding);
	env->binding = -1;
	for (i = 0; i < ENV_NR_DEVICES; i++)
		edu_close(&env->edu[i]);
	ioas_close(&env->ioas);
	gmem_vm_destroy(&env->vm);
}

int env_attach_late(struct env *env, bool own_hwpt)
{
	struct edu *late = &env->edu[1];
	__u32 pt_id = env->ioas.id;
	int ret;

	if (late->fd < 0) {
		ret = edu_open(late, env->bdfs.bdf[1], env->ioas.iommufd);
		if (ret)
			return ret;
	}
	if (own_hwpt) {
		ret = ioas_hwpt_alloc(&env->ioas, late->dev_id, 0, &pt_id);
		if (ret)
			return ret;
		env->late_hwpt = pt_id;
	}
	return edu_attach(late, &env->ioas, pt_id);
}

int env_detach_late(struct env *env)
{
	int ret;

	ret = edu_detach(&env->edu[1]);
	if (ret || !env->late_hwpt)
		return ret;

	ret = iommufd_destroy(env->ioas.iommufd, env->late_hwpt);
	env->late_hwpt = 0;
	return ret;
}

void env_set_model(struct env *env, size_t first, size_t npages, __u8 state)
{
	memset(env->model + first, state, npages);
}

/* A page that is shared already stays as it is, a hole too. */
static void follow_range(struct env *env, const struct kvm_gmem_range *range)
{
	size_t page = range->offset / GMEM_PAGE_SIZE;
	size_t end = page + range->size / GMEM_PAGE_SIZE;

	for (; page < end; page++) {
		if (range->target == KVM_GMEM_TARGET_PRIVATE)
			env->model[page] = PAGE_PRIVATE;
		else if (env->model[page] == PAGE_PRIVATE)
			env->model[page] = PAGE_SHARED;
	}
}

int env_convert_vec(struct env *env, const struct kvm_gmem_range *ranges,
		    __u32 nr_ranges)
{
	__u32 i;
	int ret;

	ret = gmem_convert_vec(env->vm.gmem_fd, ranges, nr_ranges,
			       &env->vm.error_offset);
	for (i = 0; !ret && i < nr_ranges; i++)
		follow_range(env, &ranges[i]);
	return ret;
}

int env_convert(struct env *env, size_t first, size_t npages, bool private)
{
	struct kvm_gmem_range range = {
		.offset = first * GMEM_PAGE_SIZE,
		.size = npages * GMEM_PAGE_SIZE,
		.target = private ? KVM_GMEM_TARGET_PRIVATE :
				    KVM_GMEM_TARGET_SHARED,
	};

	return env_convert_vec(env, &range, 1);
}

/* Ranges that do not overlap, because each lies in its own part of the file. */
static void random_ranges(unsigned int *state, size_t npages,
			  struct kvm_gmem_range *ranges, __u32 nr)
{
	size_t part = npages / nr, first, len;
	__u32 i;

	for (i = 0; i < nr; i++) {
		first = rand_r(state) % part;
		len = 1 + rand_r(state) % (part - first);
		ranges[i] = (struct kvm_gmem_range) {
			.offset = (i * part + first) * GMEM_PAGE_SIZE,
			.size = len * GMEM_PAGE_SIZE,
			.target = rand_r(state) % 2 ? KVM_GMEM_TARGET_PRIVATE :
						      KVM_GMEM_TARGET_SHARED,
		};
	}
}

static void shuffle_ranges(unsigned int *state, struct kvm_gmem_range *ranges,
			   __u32 nr)
{
	struct kvm_gmem_range tmp;
	__u32 i, j;

	for (i = nr - 1; i > 0; i--) {
		j = rand_r(state) % (i + 1);
		tmp = ranges[i];
		ranges[i] = ranges[j];
		ranges[j] = tmp;
	}
}

int env_convert_random(struct env *env, unsigned int *state)
{
	struct kvm_gmem_range ranges[RANDOM_RANGES];
	__u32 nr = 1 + rand_r(state) % RANDOM_RANGES;

	random_ranges(state, env->npages, ranges, nr);
	shuffle_ranges(state, ranges, nr);
	return env_convert_vec(env, ranges, nr);
}

const char *env_check(struct env *env)
{
	const char *why;
	int i;

	for (i = 0; i < ENV_NR_DEVICES; i++) {
		if (!env->edu[i].ioas)
			continue;
		why = walker_check(env->edu[i].bdf, ENV_IOVA, env->model,
				   env->npages, env->vm.mem);
		if (*why)
			return why;
	}
	if (env->binding < 0)
		return "";
	return mirror_check_runs(env->binding, 0, env->model, env->npages);
}
