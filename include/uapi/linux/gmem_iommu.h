/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/**
 * DOC: user API of gmem_iommu
 *
 * /dev/gmem_iommu binds a range of a convertible guest_memfd to a range of an
 * iommufd IOAS. The kernel then keeps the IOMMU mappings of the
 * range equal to its shared pages, inside every conversion.
 *
 * All structures follow the rules of iommufd: the first field is the size of
 * the structure that the caller was compiled with, a larger structure is
 * accepted if its unknown tail is zero (E2BIG otherwise), reserved fields must
 * be zero, unknown flags are EOPNOTSUPP.
 */
#ifndef _UAPI_LINUX_GMEM_IOMMU_H
#define _UAPI_LINUX_GMEM_IOMMU_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define GMEM_IOMMU_ABI_VERSION	1

/* Shares the type of the guest_memfd conversion ioctls, KVM_GMEM_CONVERT. */
#define GMEM_IOMMU_TYPE		0xAF

enum {
	GMEM_IOMMU_CMD_GET_INFO = 0x50,
	GMEM_IOMMU_CMD_BIND = 0x51,
	GMEM_IOMMU_CMD_QUERY_RUNS = 0x58,
	GMEM_IOMMU_CMD_GET_STATS = 0x59,
};

/**
 * enum gmem_iommu_features - Bits of struct gmem_iommu_info::features
 * @GMEM_IOMMU_FEATURE_POLICY_ALL: GMEM_IOMMU_POLICY_ALL can be asked for; whether it
 *	is granted depends on the type of VM
 */
enum gmem_iommu_features {
	GMEM_IOMMU_FEATURE_POLICY_ALL = 1 << 0,
};

/**
 * struct gmem_iommu_info - ioctl(GMEM_IOMMU_GET_INFO), on /dev/gmem_iommu
 * @size: sizeof(struct gmem_iommu_info)
 * @abi_version: Out: GMEM_IOMMU_ABI_VERSION of the kernel
 * @features: Out: mask of enum gmem_iommu_features
 * @max_leaf_size: Out: largest IOMMU leaf that a binding uses, in bytes
 * @max_query_runs: Out: most runs that one GMEM_IOMMU_QUERY_RUNS returns
 * @__reserved: Out: 0
 */
struct gmem_iommu_info {
	__u32 size;
	__u32 abi_version;
	__aligned_u64 features;
	__aligned_u64 max_leaf_size;
	__u32 max_query_runs;
	__u32 __reserved;
};

#define GMEM_IOMMU_GET_INFO \
	_IOWR(GMEM_IOMMU_TYPE, GMEM_IOMMU_CMD_GET_INFO, struct gmem_iommu_info)

/**
 * enum gmem_iommu_bind_flags - Flags of struct gmem_iommu_bind
 * @GMEM_IOMMU_BIND_READ: Devices may read the shared pages
 * @GMEM_IOMMU_BIND_WRITE: Devices may write the shared pages
 * @GMEM_IOMMU_BIND_FIXED_IOVA: Bind at @iova; without it the kernel chooses
 */
enum gmem_iommu_bind_flags {
	GMEM_IOMMU_BIND_READ = 1 << 0,
	GMEM_IOMMU_BIND_WRITE = 1 << 1,
	GMEM_IOMMU_BIND_FIXED_IOVA = 1 << 2,
};

/**
 * enum gmem_iommu_policy - What of a binding is mapped
 * @GMEM_IOMMU_POLICY_SHARED_ONLY: Exactly the shared pages that have memory
 * @GMEM_IOMMU_POLICY_ALL: All pages that have memory. Conversions change nothing in
 *	page tables; pages are unmapped when they lose their memory or their memslot,
 *	or are broken. EOPNOTSUPP for files of huge pages, and unless the hardware
 *	keeps devices off private pages of this type of VM, as that of SNP does.
 */
enum gmem_iommu_policy {
	GMEM_IOMMU_POLICY_SHARED_ONLY = 0,
	GMEM_IOMMU_POLICY_ALL = 1,
};

/**
 * struct gmem_iommu_bind - ioctl(GMEM_IOMMU_BIND), on /dev/gmem_iommu
 * @size: sizeof(struct gmem_iommu_bind)
 * @flags: Mask of enum gmem_iommu_bind_flags; READ, WRITE or both
 * @gmem_fd: A convertible guest_memfd
 * @iommufd: File descriptor of an iommufd
 * @ioas_id: An IOAS of @iommufd
 * @policy: enum gmem_iommu_policy
 * @offset: First byte of the range in the guest_memfd, page aligned
 * @length: Bytes of the range, page aligned, not 0
 * @iova: In with GMEM_IOMMU_BIND_FIXED_IOVA; out: where the range is bound. Leaves can
 *	be large where it is congruent with @offset modulo their size; what the kernel
 *	chooses is aligned to 2 MiB at most
 * @max_leaf_size: Largest IOMMU leaf to use in bytes, a power of two that is at
 *	least the page size; 0, and what is beyond &gmem_iommu_info.max_leaf_size: no
 *	limit. With the page size, formats of page tables that cannot cut a leaf are
 *	accepted, too
 * @out_fd: Out: the binding, a file descriptor that is close-on-exec
 * @__reserved: 0
 *
 * Allocates the shared pages of the range that are missing and maps the shared
 * pages in every domain of the IOAS; domains that are attached later get them
 * too. On any error nothing is bound and nothing is mapped. Closing the binding
 * undoes it.
 *
 * Errors: EBADF: @gmem_fd or @iommufd is not open; EINVAL: not a guest_memfd or
 * not an iommufd, not convertible, unaligned, beyond the file, a reserved IOVA,
 * no protection, a bad @max_leaf_size, a @size that is too small; E2BIG; EFAULT;
 * ENOENT: no such IOAS; EEXIST: the IOVA range is in use; EOVERFLOW: a range
 * that wraps; EOPNOTSUPP: unknown flag or policy, non-zero reserved field, a policy
 * that the type of VM does not allow, or a domain of the IOAS that cannot be
 * mirrored, or not with this protection; ENOSPC: no IOVA or no huge page is free;
 * ERANGE: a domain of the IOAS cannot address the memory of a shared page;
 * EHWPOISON: a shared page is broken; EMFILE, ENFILE: no file descriptor is free;
 * EINTR; ENOMEM.
 */
struct gmem_iommu_bind {
	__u32 size;
	__u32 flags;
	__s32 gmem_fd;
	__s32 iommufd;
	__u32 ioas_id;
	__u32 policy;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 iova;
	__aligned_u64 max_leaf_size;
	__s32 out_fd;
	__u32 __reserved;
};

#define GMEM_IOMMU_BIND \
	_IOWR(GMEM_IOMMU_TYPE, GMEM_IOMMU_CMD_BIND, struct gmem_iommu_bind)

/**
 * enum gmem_iommu_run_flags - Flags of struct gmem_iommu_run
 * @GMEM_IOMMU_RUN_SHARED: The run is shared; otherwise it is private
 * @GMEM_IOMMU_RUN_MAPPED: Every page of the run is mapped in the domains of the
 *	binding, or will be in the first one. Not set on shared pages whose
 *	memory was punched, and with GMEM_IOMMU_POLICY_SHARED_ONLY on private pages.
 *	Set also on the neighbours of a broken page that lost their mapping with it
 *	because there was no memory to cut the leaf, and on what
 *	&gmem_iommu_stats.failures counts.
 */
enum gmem_iommu_run_flags {
	GMEM_IOMMU_RUN_SHARED = 1 << 0,
	GMEM_IOMMU_RUN_MAPPED = 1 << 1,
};

/**
 * struct gmem_iommu_run - A maximal range of equal state
 * @offset: First byte, in the guest_memfd
 * @length: Bytes
 * @flags: Mask of enum gmem_iommu_run_flags
 * @leaf_size: Largest IOMMU leaf that fits into the run, in bytes; 0 if not mapped.
 *	A domain without leaves of that size uses smaller ones.
 */
struct gmem_iommu_run {
	__aligned_u64 offset;
	__aligned_u64 length;
	__u32 flags;
	__u32 leaf_size;
};

/**
 * struct gmem_iommu_query_runs - ioctl(GMEM_IOMMU_QUERY_RUNS), on a binding
 * @size: sizeof(struct gmem_iommu_query_runs)
 * @nr_runs: In: capacity of @runs; out: number of runs written
 * @cursor: In: offset in the guest_memfd to start at, 0 or the @cursor of the
 *	previous call; out: where to go on, ~0 when the end was reached
 * @generation: Out: changes with every change of the binding's runs. Two calls
 *	that return the same number saw the same runs.
 * @runs: User pointer to an array of struct gmem_iommu_run
 *
 * Runs are clipped to the range of the binding, and to the cursor. One whose memory is
 * in very many places can end early, the next one goes on.
 *
 * Errors: EFAULT, E2BIG, ENOMEM; EINVAL: @size is too small, @nr_runs is 0, or the
 * cursor is not page aligned or outside the binding; ENODEV: the binding is dead.
 */
struct gmem_iommu_query_runs {
	__u32 size;
	__u32 nr_runs;
	__aligned_u64 cursor;
	__aligned_u64 generation;
	__aligned_u64 runs;
};

#define GMEM_IOMMU_QUERY_RUNS                                   \
	_IOWR(GMEM_IOMMU_TYPE, GMEM_IOMMU_CMD_QUERY_RUNS, \
	      struct gmem_iommu_query_runs)

/**
 * struct gmem_iommu_stats - ioctl(GMEM_IOMMU_GET_STATS), on a binding
 * @size: sizeof(struct gmem_iommu_stats)
 * @flags: 0
 * @conversions: Out: conversions that reached this binding and were committed
 * @aborts: Out: conversions that were prepared here and then abandoned
 * @mapped_pages: Out: 4 KiB pages that changes of the guest_memfd mapped, summed
 *	over domains; those mapped when a domain is attached do not count
 * @unmapped_pages: Out: the same for pages that they unmapped
 * @syncs: Out: IOTLB syncs of domains. One can serve several bindings that a change
 *	hits; it counts in one of them
 * @failures: Out: pages, or ranges of them, that an IOMMU driver refused to map, or to
 *	unmap alone, after it had promised to; always 0 unless one is broken, or a
 *	page broke in the middle of a change and there was no memory
 * @cuts: Out: IOMMU leaves that were replaced by smaller ones
 * @merges: Out: IOMMU page tables that were replaced by a larger leaf
 * @refusals: Out: changes that the binding refused, for lack of memory for example
 * @total_ns: Out: nanoseconds that changes spent in IOMMU page tables and syncs of
 *	all bindings that they hit, not counting their preparation
 * @max_ns: Out: the longest of them
 */
struct gmem_iommu_stats {
	__u32 size;
	__u32 flags;
	__aligned_u64 conversions;
	__aligned_u64 aborts;
	__aligned_u64 mapped_pages;
	__aligned_u64 unmapped_pages;
	__aligned_u64 syncs;
	__aligned_u64 failures;
	__aligned_u64 cuts;
	__aligned_u64 merges;
	__aligned_u64 refusals;
	__aligned_u64 total_ns;
	__aligned_u64 max_ns;
};

#define GMEM_IOMMU_GET_STATS \
	_IOWR(GMEM_IOMMU_TYPE, GMEM_IOMMU_CMD_GET_STATS, struct gmem_iommu_stats)

#endif /* _UAPI_LINUX_GMEM_IOMMU_H */
