// SPDX-License-Identifier: GPL-2.0
/*
 * A tiny VMM on plain KVM ioctls: one VM, one convertible guest_memfd at guest
 * physical address 0, one vCPU that runs commands of the VMM.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm_para.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gmem_vm.h"
#include "guest.h"
#include "xioctl.h"

#define SLOT_PROG	1	/* and one more for each more vCPU */
#define PROG_SIZE	GMEM_PAGE_SIZE
#define MBOX_OFFSET	2048
#define MAX_FAULT_EXITS	10000

static bool cpu_is_amd(void)
{
	unsigned int eax, vendor[3];

	__cpuid(0, eax, vendor[0], vendor[2], vendor[1]);
	return !memcmp(vendor, "AuthenticAMD", sizeof(vendor)) ||
	       !memcmp(vendor, "HygonGenuine", sizeof(vendor));
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int gmem_create_vm_fd(unsigned long vm_type)
{
	int kvm_fd, ret;

	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0)
		return -errno;
	ret = xioctl(kvm_fd, KVM_CREATE_VM, (void *)vm_type);
	close(kvm_fd);
	return ret;
}

int gmem_create_fd(int vm_fd, size_t size, __u64 flags)
{
	struct kvm_create_guest_memfd args = { .size = size, .flags = flags };

	return xioctl(vm_fd, KVM_CREATE_GUEST_MEMFD, &args);
}

int gmem_set_slot(int vm_fd, __u32 slot, __u64 gpa, size_t size, int gmem_fd,
		  __u64 gmem_offset, void *hva)
{
	struct kvm_userspace_memory_region2 args = {
		.slot = slot,
		.flags = gmem_fd >= 0 ? KVM_MEM_GUEST_MEMFD : 0,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (unsigned long)hva,
		.guest_memfd_offset = gmem_offset,
		.guest_memfd = gmem_fd >= 0 ? gmem_fd : 0,
	};

	return xioctl(vm_fd, KVM_SET_USER_MEMORY_REGION2, &args);
}

int gmem_convert_vec(int gmem_fd, const struct kvm_gmem_range *ranges,
		     __u32 nr_ranges, __u64 *error_offset)
{
	struct kvm_gmem_convert args = {
		.size = sizeof(args),
		.nr_ranges = nr_ranges,
		.ranges = (unsigned long)ranges,
		.error_offset = ~0ULL,
	};
	int ret;

	ret = xioctl(gmem_fd, KVM_GMEM_CONVERT, &args);
	if (error_offset)
		*error_offset = args.error_offset;
	return ret;
}

int gmem_convert(int gmem_fd, __u64 offset, __u64 size, __u32 target,
		 __u64 *error_offset)
{
	struct kvm_gmem_range range = {
		.offset = offset,
		.size = size,
		.target = target,
	};

	return gmem_convert_vec(gmem_fd, &range, 1, error_offset);
}

int gmem_set_attributes2(int gmem_fd, __u64 offset, __u64 size,
			 __u64 attributes, __u64 *error_offset)
{
	struct kvm_memory_attributes2 args = {
		.offset = offset,
		.size = size,
		.attributes = attributes,
		.error_offset = ~0ULL,
	};
	int ret;

	ret = xioctl(gmem_fd, KVM_SET_MEMORY_ATTRIBUTES2, &args);
	if (error_offset)
		*error_offset = args.error_offset;
	return ret;
}

int gmem_punch_hole(int gmem_fd, __u64 offset, __u64 size)
{
	if (fallocate(gmem_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      offset, size))
		return -errno;
	return 0;
}

int gmem_allocate(int gmem_fd, __u64 offset, __u64 size)
{
	if (fallocate(gmem_fd, FALLOC_FL_KEEP_SIZE, offset, size))
		return -errno;
	return 0;
}

long long gmem_get_memory(int gmem_fd)
{
	struct stat st;

	return fstat(gmem_fd, &st) ? -errno : st.st_blocks * 512LL;
}

/*
 * Every test asks, in a process of its own, and a VM takes long where the machine is
 * emulated. So the processes of a program share a page with what the first one found.
 */
static bool *nothing_missing;

static __attribute__((constructor)) void share_answer(void)
{
	void *page;

	page = mmap(NULL, sizeof(*nothing_missing), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	nothing_missing = page == MAP_FAILED ? NULL : page;
}

static const char *look_for_missing(void)
{
	const char *why = NULL;
	int vm_fd, fd;

	vm_fd = gmem_create_vm_fd(KVM_X86_SW_PROTECTED_VM);
	if (vm_fd == -ENOENT || vm_fd == -EACCES || vm_fd == -ENODEV)
		return "no /dev/kvm";
	if (vm_fd < 0)
		return "no VM of type KVM_X86_SW_PROTECTED_VM";

	fd = gmem_create_fd(vm_fd, GMEM_PAGE_SIZE, GMEM_VM_SHARED);
	if (fd < 0)
		why = "no GUEST_MEMFD_FLAG_CONVERTIBLE";
	else if (gmem_convert(fd, 0, GMEM_PAGE_SIZE, KVM_GMEM_TARGET_SHARED, NULL) < 0)
		why = "no KVM_GMEM_CONVERT";

	close_fd(&fd);
	close_fd(&vm_fd);
	return why;
}

const char *gmem_vm_missing(void)
{
	const char *why;

	if (nothing_missing && *nothing_missing)
		return NULL;
	why = look_for_missing();
	if (nothing_missing && !why)
		*nothing_missing = true;
	return why;
}

/* Each vCPU has the program and the commands in a page of its own. */
static __u64 prog_gpa(const struct gmem_vm *vm)
{
	return GMEM_VM_PROG_GPA + vm->vcpu_id * PROG_SIZE;
}

/* Put the vCPU at the start of the guest's program. */
static int enter_program(struct gmem_vm *vm)
{
	struct kvm_regs regs = {
		.rip = prog_gpa(vm),
		.rbp = prog_gpa(vm) + MBOX_OFFSET,
		.rflags = 2,
	};

	return xioctl(vm->vcpu_fd, KVM_SET_REGS, &regs);
}

/* Flat 32-bit protected mode without paging. */
static int set_cpu_mode(struct gmem_vm *vm)
{
	struct kvm_segment seg = {
		.limit = 0xffffffff,
		.selector = 0x10,
		.type = 3,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
	struct kvm_sregs sregs;
	int ret;

	ret = xioctl(vm->vcpu_fd, KVM_GET_SREGS, &sregs);
	if (ret)
		return ret;

	sregs.ds = seg;
	sregs.es = seg;
	sregs.fs = seg;
	sregs.gs = seg;
	sregs.ss = seg;
	seg.selector = 0x8;
	seg.type = 11;
	sregs.cs = seg;
	sregs.cr0 |= 1;		/* PE */

	return xioctl(vm->vcpu_fd, KVM_SET_SREGS, &sregs);
}

/* Let KVM_HC_MAP_GPA_RANGE come to user space. */
static int enable_hypercall_exit(int vm_fd)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_EXIT_HYPERCALL,
		.args[0] = 1 << KVM_HC_MAP_GPA_RANGE,
	};

	return xioctl(vm_fd, KVM_ENABLE_CAP, &cap);
}

static int create_program(struct gmem_vm *vm)
{
	void *prog;

	/* Shared: a fork unmaps private memory from the guest, to copy it on write. */
	prog = mmap(NULL, PROG_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (prog == MAP_FAILED)
		return -errno;

	vm->mbox = prog + MBOX_OFFSET;
	memcpy(prog, guest_prog_start, guest_prog_end - guest_prog_start);
	vm->mbox->use_vmmcall = cpu_is_amd();
	return gmem_set_slot(vm->vm_fd, SLOT_PROG + vm->vcpu_id, prog_gpa(vm),
			     PROG_SIZE, -1, 0, prog);
}

static int create_vcpu(struct gmem_vm *vm)
{
	int ret;

	ret = xioctl(vm->vm_fd, KVM_CREATE_VCPU, (void *)vm->vcpu_id);
	if (ret < 0)
		return ret;
	vm->vcpu_fd = ret;

	ret = xioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (ret < 0)
		return ret;
	vm->run_size = ret;

	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		       vm->vcpu_fd, 0);
	if (vm->run == MAP_FAILED) {
		vm->run = NULL;
		return -errno;
	}

	ret = set_cpu_mode(vm);
	if (ret)
		return ret;
	return enter_program(vm);
}

/*
 * KVM uses large mappings only where host and guest addresses are congruent, even if
 * it does not go through the host's.
 */
static void *map_aligned(int gmem_fd, size_t size)
{
	size_t align = size >= 1UL << 30 ? 1UL << 30 : 1UL << 21;
	__u8 *room, *mem;

	room = mmap(NULL, size + align, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return MAP_FAILED;

	mem = (__u8 *)(((unsigned long)room + align - 1) & ~(align - 1));
	if (mem > room)
		munmap(room, mem - room);
	munmap(mem + size, room + align - mem);
	return mmap(mem, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    gmem_fd, 0);
}

int gmem_vm_create_slot(const struct gmem_vm *vm)
{
	return gmem_set_slot(vm->vm_fd, GMEM_VM_SLOT, 0, vm->size,
			     vm->plain ? -1 : vm->gmem_fd, 0, vm->mem);
}

int gmem_vm_delete_slot(const struct gmem_vm *vm)
{
	return gmem_set_slot(vm->vm_fd, GMEM_VM_SLOT, 0, 0, -1, 0, NULL);
}

int gmem_vm_convert(struct gmem_vm *vm, size_t first, size_t npages,
		    __u32 target)
{
	return gmem_convert(vm->gmem_fd, PAGES(first), PAGES(npages), target,
			    &vm->error_offset);
}

int gmem_vm_set_attributes(const struct gmem_vm *vm, __u64 gpa, size_t size,
			   __u64 attributes)
{
	struct kvm_memory_attributes args = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
	};

	return xioctl(vm->vm_fd, KVM_SET_MEMORY_ATTRIBUTES, &args);
}

static int create_memfd(size_t size)
{
	int fd;

	fd = memfd_create("memory", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size)) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	return fd;
}

static int create_memory(struct gmem_vm *vm, size_t size, __u64 gmem_flags)
{
	int ret;

	ret = vm->plain ? create_memfd(size) :
			  gmem_create_fd(vm->vm_fd, size, gmem_flags);
	if (ret < 0)
		return ret;
	vm->gmem_fd = ret;

	vm->mem = map_aligned(vm->gmem_fd, size);
	if (vm->mem == MAP_FAILED) {
		vm->mem = NULL;
		return -errno;
	}
	vm->size = size;

	return gmem_vm_create_slot(vm);
}

/* The VMM's whole part in a conversion: one ioctl, nothing about the IOMMU. */
static int answer_hypercall(struct gmem_vm *vm)
{
	struct kvm_run *run = vm->run;
	__u64 gpa = run->hypercall.args[0];
	__u64 size = run->hypercall.args[1] << GMEM_PAGE_SHIFT;
	__u32 target;
	int ret;

	if (run->hypercall.nr != KVM_HC_MAP_GPA_RANGE)
		return -EIO;

	target = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED ?
		 KVM_GMEM_TARGET_PRIVATE : KVM_GMEM_TARGET_SHARED;

	/* The guest_memfd is at 0: an offset is a guest physical address. */
	do {
		ret = gmem_convert(vm->gmem_fd, gpa, size, target,
				   &vm->error_offset);
	} while (ret == -EINTR);

	vm->nr_hypercalls++;
	vm->nr_converts++;
	if (ret)
		vm->nr_refused++;
	/* The numbers that KVM takes for this hypercall, without a sign. */
	run->hypercall.ret = !ret ? 0 : ret == -EAGAIN ? EAGAIN : EINVAL;
	return 0;
}

/*
 * Run the vCPU until the guest reports.
 *
 * KVM_EXIT_MEMORY_FAULT tells that the state of a page changed while KVM handled a
 * fault on it. This guest does not care which state that is: enter it again.
 */
static int run_vcpu(struct gmem_vm *vm)
{
	struct kvm_run *run = vm->run;
	int faults = 0, ret;

	if (!run)
		return -ENODEV;

	for (;;) {
		ret = xioctl(vm->vcpu_fd, KVM_RUN, NULL);
		if (ret == -EINTR || ret == -EAGAIN)
			continue;
		if (ret == -EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
			vm->nr_fault_exits++;
			if (++faults < MAX_FAULT_EXITS)
				continue;
			return -EFAULT;
		}
		if (ret)
			return ret;

		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			return run->io.port == GUEST_PORT_DONE ? 0 : -EIO;
		case KVM_EXIT_HYPERCALL:
			ret = answer_hypercall(vm);
			if (ret)
				return ret;
			break;
		default:
			return -EIO;
		}
	}
}

static int run_command(struct gmem_vm *vm, __u32 cmd, __u64 gpa,
		       size_t size, __u32 arg)
{
	int ret;

	if (!vm->mbox)
		return -ENODEV;
	if (gpa >= GMEM_VM_MAX_SIZE || size > GMEM_VM_MAX_SIZE || !size)
		return -EINVAL;

	vm->mbox->gpa = gpa;
	vm->mbox->npages = size >> GMEM_PAGE_SHIFT;
	vm->mbox->arg = arg;
	vm->mbox->cmd = cmd;

	ret = run_vcpu(vm);
	if (ret && vm->run) {
		/* It stopped in the middle: bring it back to the loop. */
		vm->mbox->cmd = 0;
		if (enter_program(vm) || run_vcpu(vm))
			return -EIO;
	}
	return ret;
}

int gmem_vm_fill(struct gmem_vm *vm, __u64 gpa, size_t size, __u32 seed)
{
	return run_command(vm, GUEST_CMD_FILL, gpa, size, seed);
}

int gmem_vm_verify(struct gmem_vm *vm, __u64 gpa, size_t size, __u32 seed)
{
	int ret;

	ret = run_command(vm, GUEST_CMD_VERIFY, gpa, size, seed);
	if (ret)
		return ret;
	return vm->mbox->ret ? -EILSEQ : 0;
}

int gmem_vm_map_gpa_range(struct gmem_vm *vm, __u64 gpa, size_t size,
			  bool private)
{
	__u32 attrs = private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
				KVM_MAP_GPA_RANGE_DECRYPTED;
	int ret;

	ret = run_command(vm, GUEST_CMD_MAP_GPA_RANGE, gpa, size,
			  attrs | KVM_MAP_GPA_RANGE_PAGE_SZ_4K);
	if (ret)
		return ret;
	return -(int)vm->mbox->ret;
}

void gmem_pattern(void *page, __u64 gpa, __u32 seed)
{
	__u32 *word = page;
	size_t i;

	for (i = 0; i < GMEM_PAGE_SIZE / sizeof(*word); i++)
		word[i] = (((__u32)gpa + i * sizeof(*word)) ^ seed) * PATTERN_FACTOR;
}

bool gmem_pattern_matches(const void *page, __u64 gpa, __u32 seed)
{
	__u8 expected[GMEM_PAGE_SIZE];

	gmem_pattern(expected, gpa, seed);
	return !memcmp(page, expected, sizeof(expected));
}

void gmem_vm_init(struct gmem_vm *vm)
{
	memset(vm, 0, sizeof(*vm));
	vm->kvm_fd = -1;
	vm->vm_fd = -1;
	vm->vcpu_fd = -1;
	vm->gmem_fd = -1;
}

static int open_kvm(struct gmem_vm *vm)
{
	gmem_vm_init(vm);
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	return vm->kvm_fd < 0 ? -errno : 0;
}

/* The vCPU and its program, up to its first report. */
static int start_vcpu(struct gmem_vm *vm)
{
	int ret;

	ret = create_program(vm);
	if (ret)
		return ret;
	ret = create_vcpu(vm);
	if (ret)
		return ret;
	return run_vcpu(vm);
}

static int create_vm(struct gmem_vm *vm, unsigned long vm_type, size_t size,
		     __u64 gmem_flags)
{
	int ret;

	ret = xioctl(vm->kvm_fd, KVM_CREATE_VM, (void *)vm_type);
	if (ret < 0)
		return ret;
	vm->vm_fd = ret;

	ret = enable_hypercall_exit(vm->vm_fd);
	if (ret)
		return ret;
	ret = create_memory(vm, size, gmem_flags);
	if (ret)
		return ret;
	return start_vcpu(vm);
}

int gmem_vm_create_type(struct gmem_vm *vm, unsigned long vm_type, size_t size,
			__u64 gmem_flags)
{
	int ret;

	ret = open_kvm(vm);
	if (ret)
		return ret;
	ret = create_vm(vm, vm_type, size, gmem_flags);
	if (ret)
		gmem_vm_destroy(vm);
	return ret;
}

int gmem_vm_create(struct gmem_vm *vm, size_t size, __u64 gmem_flags)
{
	return gmem_vm_create_type(vm, KVM_X86_SW_PROTECTED_VM, size,
				   gmem_flags);
}

int gmem_vm_create_plain(struct gmem_vm *vm, size_t size)
{
	int ret;

	ret = open_kvm(vm);
	if (ret)
		return ret;
	vm->plain = true;
	ret = create_vm(vm, KVM_X86_DEFAULT_VM, size, 0);
	if (ret)
		gmem_vm_destroy(vm);
	return ret;
}

int gmem_vm_add_vcpu(const struct gmem_vm *vm, struct gmem_vm *more,
		     unsigned long vcpu_id)
{
	int ret;

	ret = open_kvm(more);
	if (ret)
		return ret;
	more->vcpu_id = vcpu_id;

	more->vm_fd = fcntl(vm->vm_fd, F_DUPFD_CLOEXEC, 0);
	if (more->vm_fd < 0)
		ret = -errno;
	if (!ret)
		ret = start_vcpu(more);
	if (ret)
		gmem_vm_destroy(more);
	return ret;
}

void gmem_vm_close_gmem(struct gmem_vm *vm)
{
	if (vm->mem)
		munmap(vm->mem, vm->size);
	vm->mem = NULL;
	close_fd(&vm->gmem_fd);
}

void gmem_vm_close_vm(struct gmem_vm *vm)
{
	if (vm->run)
		munmap(vm->run, vm->run_size);
	vm->run = NULL;
	close_fd(&vm->vcpu_fd);
	close_fd(&vm->vm_fd);
	close_fd(&vm->kvm_fd);
	if (vm->mbox)
		munmap((void *)vm->mbox - MBOX_OFFSET, PROG_SIZE);
	vm->mbox = NULL;
}

void gmem_vm_destroy(struct gmem_vm *vm)
{
	gmem_vm_close_gmem(vm);
	gmem_vm_close_vm(vm);
}
