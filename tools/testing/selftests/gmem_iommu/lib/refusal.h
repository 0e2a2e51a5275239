/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of bad input stand on: a file with shared and private pages, a
 * witness of its state, and correct requests of which a case spoils a few fields.
 */
#ifndef SELFTESTS_GMEM_IOMMU_REFUSAL_H
#define SELFTESTS_GMEM_IOMMU_REFUSAL_H

#include <stddef.h>

#include <linux/gmem_iommu.h>
#include <linux/kvm.h>
#include <linux/types.h>

#include "gmem_vm.h"
#include "ioas.h"
#include "state.h"
#include "xioctl.h"

#define NR_PAGES	16
#define FILE_SIZE	PAGES(NR_PAGES)
#define IOVA		0x10000000ULL
#define POISON		0xdeadbeefdeadbeefULL
#define KERNEL_ADDRESS	0xffff888000000000ULL

/* Things whose number is known only at run time. */
enum kind {
	AS_IS,
	FD_CLOSED,
	FD_PIPE,
	FD_MEMFD,
	FD_DIR,
	FD_KVM,
	FD_VM,
	FD_GMEM,
	FD_GMEM_PLAIN,
	FD_IOMMU,
	FD_DEVICE,
	FD_BINDING,
	ID_FAULT_QUEUE,
	ID_DESTROYED_IOAS,
	PTR_UNREADABLE,
	PTR_READONLY,
	PTR_SPLIT,
};

/**
 * struct poke - How a field of a request is spoiled
 * @at: Offset of the field
 * @width: Bytes of the field; 0 ends a list
 * @kind: What to store
 * @value: What to store if @kind is AS_IS
 */
struct poke {
	__u16 at;
	__u16 width;
	enum kind kind;
	__u64 value;
};

#define MAX_POKES	4

/* Room for a request, for tails and for sizes beyond a page. */
union request {
	struct gmem_iommu_info info;
	struct gmem_iommu_bind bind;
	struct gmem_iommu_query_runs query;
	struct gmem_iommu_stats stats;
	struct kvm_gmem_convert convert;
	struct kvm_memory_attributes2 attributes;
	struct kvm_gmem_range range;
	__u8 bytes[3 * GMEM_PAGE_SIZE];
};

#define POKE32(field, val) \
	((struct poke){ .at = offsetof(union request, field), .width = 4, .value = (val) })
#define POKE64(field, val) \
	((struct poke){ .at = offsetof(union request, field), .width = 8, .value = (val) })
#define POKE_ID(field, what) \
	((struct poke){ .at = offsetof(union request, field), .width = 4, .kind = (what) })
#define POKE_PTR(field, what) \
	((struct poke){ .at = offsetof(union request, field), .width = 8, .kind = (what) })
/* A byte of the request behind the structure that this test knows. */
#define POKE_TAIL(type) \
	((struct poke){ .at = sizeof(struct type), .width = 1, .value = 1 })

/* A case: the answer, and what is spoiled. */
#define CASE(error, ...)	{ .err = (error), .poke = { __VA_ARGS__ } }

/**
 * struct refusal - What every test here works on
 * @vm_fd: A VM without vCPU
 * @gmem_fd: Convertible; shared except pages 4 to 7, with contents
 * @mem: Its host mapping
 * @dev_fd: /dev/gmem_iommu, or -1 without the module
 * @ioas: Empty, except for its scratch page
 * @witness_ioas: Another one in the same iommufd
 * @witness: Binding of the whole file in @witness_ioas, or -1
 * @pages: A page that can be written, then one that cannot even be read
 * @readonly: A page that can only be read
 * @nr_fds: Number of open files before the call
 * @before: State before the call
 */
struct refusal {
	int vm_fd;
	int gmem_fd;
	__u8 *mem;
	int dev_fd;
	struct ioas ioas;
	struct ioas witness_ioas;
	int witness;
	__u8 *pages;
	__u8 *readonly;
	int nr_fds;
	struct gmem_state before;
};

/* Anonymous memory, or MAP_FAILED. */
void *map_pages(size_t nr);

/* A number of an open file, or of an object. It stays open. */
int make_fd(struct refusal *b, enum kind kind);

/*
 * Correct requests. make_convert: two ranges to private; the first alone would
 * change four pages.
 */
void make_info(struct refusal *b, union request *req);
void make_bind(struct refusal *b, union request *req);
void make_query(struct refusal *b, union request *req);
void make_stats(struct refusal *b, union request *req);
void make_convert(struct refusal *b, union request *req);
void make_attributes(struct refusal *b, union request *req);

#endif /* SELFTESTS_GMEM_IOMMU_REFUSAL_H */
