/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A tiny VMM on plain KVM ioctls: one VM, one convertible guest_memfd at guest
 * physical address 0, one vCPU.
 *
 * The guest's program is a command loop in 32-bit protected mode without
 * paging. It lives in a page of its own, in ordinary memory outside the
 * guest_memfd, so that every page of the guest_memfd can be converted. The
 * guest itself fills and verifies pages, and itself asks for conversions with
 * KVM_HC_MAP_GPA_RANGE; the VMM answers each with one KVM_GMEM_CONVERT.
 *
 * Functions return 0 or a negative errno unless they say otherwise. They never
 * print and never exit, so that any kind of test can use them.
 */
#ifndef SELFTESTS_GMEM_IOMMU_GMEM_VM_H
#define SELFTESTS_GMEM_IOMMU_GMEM_VM_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/kvm.h>
#include <linux/types.h>

#define GMEM_PAGE_SHIFT		12
#define GMEM_PAGE_SIZE		4096UL
#define PAGES(n)		((n) * GMEM_PAGE_SIZE)

/* What a conversion asks for; tests are lists of them. */
#define SHARED			KVM_GMEM_TARGET_SHARED
#define PRIVATE			KVM_GMEM_TARGET_PRIVATE

/* Flags of a convertible file that the host can map; all private at first. */
#define GMEM_VM_PRIVATE		(GUEST_MEMFD_FLAG_MMAP | \
				 GUEST_MEMFD_FLAG_CONVERTIBLE)
/* The same, all shared at first. */
#define GMEM_VM_SHARED		(GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_INIT_SHARED)

/* Where the guest's program is: above every guest_memfd of a test. */
#define GMEM_VM_PROG_GPA	0xd0000000UL
#define GMEM_VM_MAX_SIZE	0xc0000000UL

/* The memslot of the guest_memfd */
#define GMEM_VM_SLOT		0

struct gmem_vm_mbox;

/**
 * struct gmem_vm - One VM with one guest_memfd
 * @kvm_fd: /dev/kvm
 * @vm_fd: The VM
 * @vcpu_fd: Its vCPU
 * @vcpu_id: Its number
 * @gmem_fd: Its guest_memfd, at guest physical address 0
 * @plain: It is a memfd
 * @size: Bytes of the guest_memfd
 * @mem: Host mapping of the whole guest_memfd; SIGBUS on private pages
 * @mbox: Commands for the guest, in the page of its program
 * @run: The vCPU's shared page
 * @run_size: Bytes of @run
 * @nr_hypercalls: KVM_HC_MAP_GPA_RANGE that the guest made
 * @nr_converts: KVM_GMEM_CONVERT that the VMM answered with
 * @nr_refused: Those of them that failed
 * @nr_fault_exits: KVM_EXIT_MEMORY_FAULT, which the VMM answers by another try
 * @error_offset: @error_offset of the last KVM_GMEM_CONVERT
 *
 * The file descriptors are -1 when closed. gmem_vm_close_*() may be called in
 * any order, and more than once.
 */
struct gmem_vm {
	int kvm_fd;
	int vm_fd;
	int vcpu_fd;
	unsigned long vcpu_id;
	int gmem_fd;
	bool plain;
	size_t size;
	__u8 *mem;
	struct gmem_vm_mbox *mbox;
	struct kvm_run *run;
	size_t run_size;
	unsigned long nr_hypercalls;
	unsigned long nr_converts;
	unsigned long nr_refused;
	unsigned long nr_fault_exits;
	__u64 error_offset;
};

/* What a test needs and the kernel lacks, as text for SKIP, or NULL. */
const char *gmem_vm_missing(void);

/* For gmem_vm_destroy() before, or without, gmem_vm_create(). */
void gmem_vm_init(struct gmem_vm *vm);

/*
 * Create the VM. @gmem_flags are those of KVM_CREATE_GUEST_MEMFD, usually
 * GMEM_VM_PRIVATE or GMEM_VM_SHARED. @vm_type is KVM_X86_SW_PROTECTED_VM except
 * in tests of the library itself. On error nothing is left open.
 */
int gmem_vm_create_type(struct gmem_vm *vm, unsigned long vm_type, size_t size,
			__u64 gmem_flags);
int gmem_vm_create(struct gmem_vm *vm, size_t size, __u64 gmem_flags);
void gmem_vm_destroy(struct gmem_vm *vm);

/*
 * A VM to compare with: of the default type, and with a memfd where others have a
 * guest_memfd. It needs nothing that is not in every kernel.
 */
int gmem_vm_create_plain(struct gmem_vm *vm, size_t size);

/*
 * Another vCPU of the same VM, numbered @vcpu_id from 1 on: @more takes commands
 * by a thread of its own, and has no guest_memfd. Destroy it before @vm.
 */
int gmem_vm_add_vcpu(const struct gmem_vm *vm, struct gmem_vm *more,
		     unsigned long vcpu_id);

/* The memslot of the guest_memfd, which is there at first. */
int gmem_vm_create_slot(const struct gmem_vm *vm);
int gmem_vm_delete_slot(const struct gmem_vm *vm);

/* Convert pages of the guest_memfd; @vm->error_offset is the kernel's. */
int gmem_vm_convert(struct gmem_vm *vm, size_t first, size_t npages,
		    __u32 target);

/* KVM_SET_MEMORY_ATTRIBUTES, which the state of a convertible file does not heed. */
int gmem_vm_set_attributes(const struct gmem_vm *vm, __u64 gpa, size_t size,
			   __u64 attributes);

/* The parts of gmem_vm_destroy(), for tests of the order. */
void gmem_vm_close_gmem(struct gmem_vm *vm);	/* host mapping and fd */
void gmem_vm_close_vm(struct gmem_vm *vm);	/* vCPU, VM and program */

/*
 * Commands to the guest; each runs the vCPU until the command is done. Addresses
 * and sizes are multiples of the page size. Not thread safe.
 *
 * fill: write gmem_pattern() of @seed. verify: compare with it, -EILSEQ if it
 * differs. EFAULT: the guest cannot touch the page (KVM_EXIT_MEMORY_FAULT, always).
 */
int gmem_vm_fill(struct gmem_vm *vm, __u64 gpa, size_t size, __u32 seed);
int gmem_vm_verify(struct gmem_vm *vm, __u64 gpa, size_t size, __u32 seed);

/*
 * The guest makes the hypercall KVM_HC_MAP_GPA_RANGE and gets the answer of the
 * VMM, which is what this returns: 0, -EAGAIN if KVM_GMEM_CONVERT returned that,
 * or -EINVAL for all other errors; with the offset in vm->error_offset.
 */
int gmem_vm_map_gpa_range(struct gmem_vm *vm, __u64 gpa, size_t size,
			  bool private);

/* The pattern of a page, for the host and for devices. */
void gmem_pattern(void *page, __u64 gpa, __u32 seed);
bool gmem_pattern_matches(const void *page, __u64 gpa, __u32 seed);

/*
 * Plain ioctls, for any file descriptor. @error_offset may be NULL. @target is
 * enum kvm_gmem_target.
 */
int gmem_create_vm_fd(unsigned long vm_type);
int gmem_create_fd(int vm_fd, size_t size, __u64 flags);
int gmem_set_slot(int vm_fd, __u32 slot, __u64 gpa, size_t size, int gmem_fd,
		  __u64 gmem_offset, void *hva);
int gmem_convert(int gmem_fd, __u64 offset, __u64 size, __u32 target,
		 __u64 *error_offset);
int gmem_convert_vec(int gmem_fd, const struct kvm_gmem_range *ranges,
		     __u32 nr_ranges, __u64 *error_offset);
int gmem_set_attributes2(int gmem_fd, __u64 offset, __u64 size,
			 __u64 attributes, __u64 *error_offset);
int gmem_punch_hole(int gmem_fd, __u64 offset, __u64 size);
int gmem_allocate(int gmem_fd, __u64 offset, __u64 size);

/* Bytes of memory that the file has; or -errno. */
long long gmem_get_memory(int gmem_fd);

#endif /* SELFTESTS_GMEM_IOMMU_GMEM_VM_H */
