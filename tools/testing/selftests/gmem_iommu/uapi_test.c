// SPDX-License-Identifier: GPL-2.0
/*
 * The user API under bad input: each refused call gives the documented errno and
 * changes nothing. Afterwards the state of the file, the runs, the generation
 * and the number of open files are what they were, and what the call asked for
 * is still free.
 *
 * Shows C3, C14 (creation), U1, U2, U3, U4 and U7.
 *
 * A case is a correct request with a few fields spoiled, see struct poke.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/gmem_iommu.h>
#include <linux/iommufd.h>
#include <linux/kvm.h>

#include "kselftest_harness.h"
#include "lib/gmem_vm.h"
#include "lib/host.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/walker.h"
#include "uapi_layout.h"

#define PAGES(n)	((n) * GMEM_PAGE_SIZE)
#define NR_PAGES	16
#define FILE_SIZE	PAGES(NR_PAGES)
#define IOVA		0x10000000ULL
#define POISON		0xdeadbeefdeadbeefULL
#define KERNEL_ADDRESS	0xffff888000000000ULL
#define NOBODY		65534

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
 * struct bench - What every test here works on
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
struct bench {
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

static int xioctl(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

static void *map_pages(size_t nr)
{
	return mmap(NULL, PAGES(nr), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Contents in every page, and pages 4 to 7 private. */
static void bench_fill(struct __test_metadata *_metadata, struct bench *b)
{
	__u8 page[GMEM_PAGE_SIZE];
	size_t i;

	for (i = 0; i < NR_PAGES; i++) {
		gmem_pattern(page, PAGES(i), 1);
		ASSERT_EQ(0, host_write(b->mem + PAGES(i), page, sizeof(page)));
	}
	ASSERT_EQ(0, gmem_convert(b->gmem_fd, PAGES(4), PAGES(4),
				  KVM_GMEM_TARGET_PRIVATE, NULL));
}

static void bench_open_mirror(struct __test_metadata *_metadata,
			      struct bench *b)
{
	b->dev_fd = open("/dev/gmem_iommu", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, b->dev_fd);
	ASSERT_EQ(0, ioas_open(&b->ioas));
	ASSERT_EQ(0, ioas_open_in(&b->witness_ioas, b->ioas.iommufd));
	b->witness = mirror_bind(b->gmem_fd, &b->witness_ioas, 0, FILE_SIZE,
				 IOVA);
	ASSERT_LE(0, b->witness);
}

/* Asked once, not by each of hundreds of tests. */
static const char *no_gmem, *no_mirror;

static __attribute__((constructor)) void find_missing(void)
{
	no_gmem = gmem_vm_missing();
	no_mirror = mirror_missing();
}

/* The conversion ioctls can be tested without the module. */
static void bench_setup(struct __test_metadata *_metadata, struct bench *b,
			bool need_mirror)
{
	if (no_gmem)
		SKIP(return, "%s", no_gmem);
	if (need_mirror && no_mirror)
		SKIP(return, "%s", no_mirror);

	b->vm_fd = gmem_create_vm_fd(KVM_X86_SW_PROTECTED_VM);
	ASSERT_LE(0, b->vm_fd);
	b->gmem_fd = gmem_create_fd(b->vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	ASSERT_LE(0, b->gmem_fd);
	b->mem = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      b->gmem_fd, 0);
	ASSERT_NE(MAP_FAILED, b->mem);
	bench_fill(_metadata, b);

	b->pages = map_pages(2);
	ASSERT_NE(MAP_FAILED, b->pages);
	ASSERT_EQ(0, mprotect(b->pages + PAGES(1), PAGES(1), PROT_NONE));
	b->readonly = map_pages(1);
	ASSERT_NE(MAP_FAILED, b->readonly);

	b->dev_fd = -1;
	b->ioas.iommufd = -1;
	b->witness = -1;
	if (!no_mirror)
		bench_open_mirror(_metadata, b);
}

static void bench_remember(struct __test_metadata *_metadata, struct bench *b)
{
	ASSERT_STREQ("", gmem_state_read(&b->before, b->witness, b->mem, NR_PAGES));
	b->nr_fds = count_open_fds();
}

static void bench_expect_same(struct __test_metadata *_metadata,
			      struct bench *b)
{
	struct gmem_state now;

	EXPECT_EQ(b->nr_fds, count_open_fds());
	EXPECT_STREQ("", gmem_state_read(&now, b->witness, b->mem, NR_PAGES));
	EXPECT_EQ(-1, gmem_state_diff(&b->before, &now));
	EXPECT_EQ(b->before.generation, now.generation);
}

static int create_fault_queue(struct bench *b)
{
	struct iommu_fault_alloc args = { .size = sizeof(args) };
	int ret = xioctl(b->ioas.iommufd, IOMMU_FAULT_QUEUE_ALLOC, &args);

	return ret ?: (int)args.out_fault_id;
}

static int create_destroyed_ioas(struct bench *b)
{
	struct iommu_ioas_alloc args = { .size = sizeof(args) };
	int ret = xioctl(b->ioas.iommufd, IOMMU_IOAS_ALLOC, &args);

	if (!ret)
		ret = iommufd_destroy(b->ioas.iommufd, args.out_ioas_id);
	return ret ?: (int)args.out_ioas_id;
}

/* A number of an open file, or of an object. It stays open. */
static int make_fd(struct bench *b, enum kind kind)
{
	int fds[2];

	switch (kind) {
	case FD_CLOSED:
		fds[0] = open("/", O_RDONLY);
		close(fds[0]);
		return fds[0];
	case FD_PIPE:
		return pipe(fds) ? -errno : fds[0];
	case FD_MEMFD:
		return memfd_create("uapi_test", 0);
	case FD_DIR:
		return open("/", O_RDONLY);
	case FD_KVM:
		return open("/dev/kvm", O_RDWR);
	case FD_VM:
		return b->vm_fd;
	case FD_GMEM:
		return b->gmem_fd;
	case FD_GMEM_PLAIN:
		return gmem_create_fd(b->vm_fd, FILE_SIZE, 0);
	case FD_IOMMU:
		return open("/dev/iommu", O_RDWR);
	case FD_DEVICE:
		return b->dev_fd;
	case FD_BINDING:
		return b->witness;
	case ID_FAULT_QUEUE:
		return create_fault_queue(b);
	case ID_DESTROYED_IOAS:
		return create_destroyed_ioas(b);
	default:
		return -EINVAL;
	}
}

static __u64 make_value(struct __test_metadata *_metadata, struct bench *b,
			const struct poke *poke)
{
	int fd;

	switch (poke->kind) {
	case AS_IS:
		return poke->value;
	case PTR_UNREADABLE:
		return (unsigned long)b->pages + PAGES(1);
	case PTR_SPLIT:
		return (unsigned long)b->pages + PAGES(1) - sizeof(__u64);
	case PTR_READONLY:
		EXPECT_EQ(0, mprotect(b->readonly, PAGES(1), PROT_READ));
		return (unsigned long)b->readonly;
	default:
		fd = make_fd(b, poke->kind);
		EXPECT_LE(0, fd);
		return fd;
	}
}

static void spoil(struct __test_metadata *_metadata, struct bench *b,
		  void *request, const struct poke *poke)
{
	int i;

	for (i = 0; i < MAX_POKES && poke[i].width; i++) {
		__u64 value = make_value(_metadata, b, &poke[i]);

		memcpy(request + poke[i].at, &value, poke[i].width);
	}
}

static void make_info(struct bench *b, union request *req)
{
	memset(req, 0, sizeof(*req));
	req->info.size = sizeof(req->info);
}

static void make_bind(struct bench *b, union request *req)
{
	memset(req, 0, sizeof(*req));
	req->bind.size = sizeof(req->bind);
	req->bind.flags = GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_WRITE |
			  GMEM_IOMMU_BIND_FIXED_IOVA;
	req->bind.gmem_fd = b->gmem_fd;
	req->bind.iommufd = b->ioas.iommufd;
	req->bind.ioas_id = b->ioas.id;
	req->bind.length = FILE_SIZE;
	req->bind.iova = IOVA;
	req->bind.max_leaf_size = GMEM_PAGE_SIZE;
	req->bind.out_fd = -1;
}

static void make_query(struct bench *b, union request *req)
{
	static struct gmem_iommu_run runs[NR_PAGES];

	memset(req, 0, sizeof(*req));
	req->query.size = sizeof(req->query);
	req->query.nr_runs = NR_PAGES;
	req->query.runs = (unsigned long)runs;
}

static void make_stats(struct bench *b, union request *req)
{
	memset(req, 0, sizeof(*req));
	req->stats.size = sizeof(req->stats);
}

/* Two ranges to private; the first alone would change four pages. */
static void make_convert(struct bench *b, union request *req)
{
	static struct kvm_gmem_range ranges[2];
	int i;

	memset(req, 0, sizeof(*req));
	for (i = 0; i < 2; i++) {
		ranges[i].offset = PAGES(8 * i);
		ranges[i].size = PAGES(4);
		ranges[i].target = KVM_GMEM_TARGET_PRIVATE;
		ranges[i].reserved = 0;
	}
	req->convert.size = sizeof(req->convert);
	req->convert.nr_ranges = 2;
	req->convert.ranges = (unsigned long)ranges;
	req->convert.error_offset = POISON;
}

static void make_attributes(struct bench *b, union request *req)
{
	memset(req, 0, sizeof(*req));
	req->attributes.size = PAGES(4);
	req->attributes.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
	req->attributes.error_offset = POISON;
}

/* U2: the layout was checked when this was built, see the Makefile. */
FIXTURE(layout)
{
};

FIXTURE_VARIANT(layout)
{
	const char *name;
};

FIXTURE_VARIANT_ADD(layout, c) { " c " };
FIXTURE_VARIANT_ADD(layout, c_32_bit) { " c32 " };
FIXTURE_VARIANT_ADD(layout, cxx) { " cxx " };
FIXTURE_VARIANT_ADD(layout, cxx_32_bit) { " cxx32 " };

FIXTURE_SETUP(layout)
{
}

FIXTURE_TEARDOWN(layout)
{
}

TEST_F(layout, U2_as_documented)
{
	if (!strstr(LAYOUTS, variant->name))
		SKIP(return, "no C++ compiler where this was built");
}

/* C14: creation of the file, for both kinds of VM that every machine has. */
FIXTURE(create)
{
	int vm_fd;
};

FIXTURE_VARIANT(create)
{
	unsigned long vm_type;
	__u64 size;
	__u64 flags;
	int err;
};

#define CONVERTIBLE	GUEST_MEMFD_FLAG_CONVERTIBLE
#define MMAP		GUEST_MEMFD_FLAG_MMAP
#define INIT_SHARED	GUEST_MEMFD_FLAG_INIT_SHARED
#define SW_PROTECTED	KVM_X86_SW_PROTECTED_VM

FIXTURE_VARIANT_ADD(create, sw_bare)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE, 0 };
FIXTURE_VARIANT_ADD(create, sw_mmap)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE | MMAP, 0 };
FIXTURE_VARIANT_ADD(create, sw_shared)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE | INIT_SHARED, 0 };
FIXTURE_VARIANT_ADD(create, sw_all)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE | MMAP | INIT_SHARED, 0 };
FIXTURE_VARIANT_ADD(create, default_bare)
	{ KVM_X86_DEFAULT_VM, FILE_SIZE, CONVERTIBLE, 0 };
FIXTURE_VARIANT_ADD(create, default_mmap)
	{ KVM_X86_DEFAULT_VM, FILE_SIZE, CONVERTIBLE | MMAP, 0 };
FIXTURE_VARIANT_ADD(create, default_shared)
	{ KVM_X86_DEFAULT_VM, FILE_SIZE, CONVERTIBLE | INIT_SHARED, 0 };
FIXTURE_VARIANT_ADD(create, default_all)
	{ KVM_X86_DEFAULT_VM, FILE_SIZE, CONVERTIBLE | MMAP | INIT_SHARED, 0 };
/* What the flag does not touch stays as it was. */
FIXTURE_VARIANT_ADD(create, sw_plain)
	{ SW_PROTECTED, FILE_SIZE, 0, 0 };
FIXTURE_VARIANT_ADD(create, sw_plain_shared)
	{ SW_PROTECTED, FILE_SIZE, INIT_SHARED, EINVAL };
FIXTURE_VARIANT_ADD(create, unknown_flag)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE << 1, EINVAL };
FIXTURE_VARIANT_ADD(create, unknown_flag_too)
	{ SW_PROTECTED, FILE_SIZE, CONVERTIBLE | 1ULL << 63, EINVAL };
FIXTURE_VARIANT_ADD(create, no_size)
	{ SW_PROTECTED, 0, CONVERTIBLE, EINVAL };
FIXTURE_VARIANT_ADD(create, unaligned)
	{ SW_PROTECTED, FILE_SIZE + 1, CONVERTIBLE, EINVAL };
FIXTURE_VARIANT_ADD(create, negative)
	{ SW_PROTECTED, -PAGES(1), CONVERTIBLE, EINVAL };

FIXTURE_SETUP(create)
{
	if (no_gmem)
		SKIP(return, "%s", no_gmem);
	self->vm_fd = gmem_create_vm_fd(variant->vm_type);
	ASSERT_LE(0, self->vm_fd);
}

FIXTURE_TEARDOWN(create)
{
}

TEST_F(create, C14_answers)
{
	int nr_fds = count_open_fds(), fd;
	void *mem;

	fd = gmem_create_fd(self->vm_fd, variant->size, variant->flags);
	if (variant->err) {
		EXPECT_EQ(-variant->err, fd);
		EXPECT_EQ(nr_fds, count_open_fds());
		return;
	}
	ASSERT_LE(0, fd);

	/* Whether the host can map it is another property. */
	mem = mmap(NULL, variant->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT_EQ(!(variant->flags & MMAP), mem == MAP_FAILED);
	if (mem != MAP_FAILED)
		EXPECT_EQ(!(variant->flags & INIT_SHARED), host_faults(mem));

	EXPECT_EQ(variant->flags & CONVERTIBLE ? 0 : -ENOTTY,
		  gmem_convert(fd, 0, PAGES(1), KVM_GMEM_TARGET_SHARED, NULL));
	if (variant->flags & CONVERTIBLE && mem != MAP_FAILED)
		EXPECT_FALSE(host_faults(mem));
}

/* The kernel runs with kvm.gmem_in_place_conversion. */
static bool in_place_conversion(void)
{
	FILE *f = fopen("/sys/module/kvm/parameters/gmem_in_place_conversion",
			"r");
	int c = 'N';

	if (f) {
		c = getc(f);
		fclose(f);
	}
	return c == 'Y';
}

/* U3: probing. */
TEST_F(create, U3_capabilities)
{
	int all = in_place_conversion() ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
	int flags, attributes;

	flags = xioctl(self->vm_fd, KVM_CHECK_EXTENSION,
		       (void *)KVM_CAP_GUEST_MEMFD_FLAGS);
	EXPECT_EQ(CONVERTIBLE | MMAP, flags & (CONVERTIBLE | MMAP));

	attributes = xioctl(self->vm_fd, KVM_CHECK_EXTENSION,
			    (void *)KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES);
	EXPECT_EQ(all, attributes);
	attributes = xioctl(self->vm_fd, KVM_CHECK_EXTENSION,
			    (void *)KVM_CAP_MEMORY_ATTRIBUTES);
	EXPECT_EQ(KVM_MEMORY_ATTRIBUTE_PRIVATE & ~all, attributes);
}

/* GMEM_IOMMU_GET_INFO */
FIXTURE(info)
{
	struct bench b;
};

FIXTURE_VARIANT(info)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define INFO_SIZE	sizeof(struct gmem_iommu_info)

FIXTURE_VARIANT_ADD(info, exact) CASE(0);
FIXTURE_VARIANT_ADD(info, U2_long_zero) CASE(0, POKE32(info.size, INFO_SIZE + 8));
FIXTURE_VARIANT_ADD(info, U2_long_tail)
	CASE(E2BIG, POKE32(info.size, INFO_SIZE + 8), POKE_TAIL(gmem_iommu_info));
FIXTURE_VARIANT_ADD(info, U2_short) CASE(EINVAL, POKE32(info.size, INFO_SIZE - 8));
FIXTURE_VARIANT_ADD(info, U2_no_size) CASE(EINVAL, POKE32(info.size, 0));

FIXTURE_SETUP(info)
{
	bench_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(info)
{
}

TEST_F(info, U3_answers)
{
	union request req;

	make_info(&self->b, &req);
	spoil(_metadata, &self->b, &req, variant->poke);
	bench_remember(_metadata, &self->b);
	EXPECT_EQ(-variant->err, xioctl(self->b.dev_fd, GMEM_IOMMU_GET_INFO, &req));
	bench_expect_same(_metadata, &self->b);
	if (variant->err)
		return;

	EXPECT_EQ(GMEM_IOMMU_ABI_VERSION, req.info.abi_version);
	EXPECT_LE(GMEM_PAGE_SIZE, req.info.max_leaf_size);
	EXPECT_EQ(0, req.info.max_leaf_size & (req.info.max_leaf_size - 1));
	EXPECT_LE(1, req.info.max_query_runs);
	EXPECT_EQ(0, req.info.__reserved);
}

/* GMEM_IOMMU_BIND */
FIXTURE(bind)
{
	struct bench b;
};

FIXTURE_VARIANT(bind)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define BIND_SIZE	sizeof(struct gmem_iommu_bind)

FIXTURE_VARIANT_ADD(bind, exact) CASE(0);
FIXTURE_VARIANT_ADD(bind, U2_long_zero) CASE(0, POKE32(bind.size, BIND_SIZE + 8));
FIXTURE_VARIANT_ADD(bind, U2_long_tail)
	CASE(E2BIG, POKE32(bind.size, BIND_SIZE + 8), POKE_TAIL(gmem_iommu_bind));
FIXTURE_VARIANT_ADD(bind, U2_short) CASE(EINVAL, POKE32(bind.size, BIND_SIZE - 8));
FIXTURE_VARIANT_ADD(bind, U2_no_size) CASE(EINVAL, POKE32(bind.size, 0));
FIXTURE_VARIANT_ADD(bind, U2_reserved) CASE(EOPNOTSUPP, POKE32(bind.__reserved, 1));

FIXTURE_VARIANT_ADD(bind, M10_flags_read)
	CASE(0, POKE32(bind.flags, GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_FIXED_IOVA));
FIXTURE_VARIANT_ADD(bind, M10_flags_write)
	CASE(0, POKE32(bind.flags, GMEM_IOMMU_BIND_WRITE | GMEM_IOMMU_BIND_FIXED_IOVA));
FIXTURE_VARIANT_ADD(bind, flags_any_iova)
	CASE(0, POKE32(bind.flags, GMEM_IOMMU_BIND_READ), POKE64(bind.iova, POISON));
FIXTURE_VARIANT_ADD(bind, flags_no_prot)
	CASE(EINVAL, POKE32(bind.flags, GMEM_IOMMU_BIND_FIXED_IOVA));
FIXTURE_VARIANT_ADD(bind, flags_none) CASE(EINVAL, POKE32(bind.flags, 0));
FIXTURE_VARIANT_ADD(bind, flags_unknown) CASE(EOPNOTSUPP, POKE32(bind.flags, 0xf));
FIXTURE_VARIANT_ADD(bind, flags_high) CASE(EOPNOTSUPP, POKE32(bind.flags, 7 | 1U << 31));
FIXTURE_VARIANT_ADD(bind, M10_policy_all) CASE(EOPNOTSUPP, POKE32(bind.policy, 1));
FIXTURE_VARIANT_ADD(bind, M10_policy_high) CASE(EOPNOTSUPP, POKE32(bind.policy, ~0U));

FIXTURE_VARIANT_ADD(bind, gmem_negative) CASE(EBADF, POKE32(bind.gmem_fd, -1));
FIXTURE_VARIANT_ADD(bind, gmem_closed) CASE(EBADF, POKE_ID(bind.gmem_fd, FD_CLOSED));
FIXTURE_VARIANT_ADD(bind, gmem_pipe) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_PIPE));
FIXTURE_VARIANT_ADD(bind, gmem_memfd) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_MEMFD));
FIXTURE_VARIANT_ADD(bind, gmem_dir) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_DIR));
FIXTURE_VARIANT_ADD(bind, gmem_vm) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_VM));
FIXTURE_VARIANT_ADD(bind, gmem_iommufd) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_IOMMU));
FIXTURE_VARIANT_ADD(bind, gmem_device) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_DEVICE));
FIXTURE_VARIANT_ADD(bind, gmem_binding) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_BINDING));
FIXTURE_VARIANT_ADD(bind, gmem_plain) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_GMEM_PLAIN));

FIXTURE_VARIANT_ADD(bind, iommufd_negative) CASE(EBADF, POKE32(bind.iommufd, -1));
FIXTURE_VARIANT_ADD(bind, iommufd_closed) CASE(EBADF, POKE_ID(bind.iommufd, FD_CLOSED));
FIXTURE_VARIANT_ADD(bind, iommufd_pipe) CASE(EINVAL, POKE_ID(bind.iommufd, FD_PIPE));
FIXTURE_VARIANT_ADD(bind, iommufd_dir) CASE(EINVAL, POKE_ID(bind.iommufd, FD_DIR));
FIXTURE_VARIANT_ADD(bind, iommufd_gmem) CASE(EINVAL, POKE_ID(bind.iommufd, FD_GMEM));
FIXTURE_VARIANT_ADD(bind, iommufd_device) CASE(EINVAL, POKE_ID(bind.iommufd, FD_DEVICE));
FIXTURE_VARIANT_ADD(bind, iommufd_other) CASE(ENOENT, POKE_ID(bind.iommufd, FD_IOMMU));

FIXTURE_VARIANT_ADD(bind, ioas_zero) CASE(ENOENT, POKE32(bind.ioas_id, 0));
FIXTURE_VARIANT_ADD(bind, ioas_high) CASE(ENOENT, POKE32(bind.ioas_id, ~0U));
FIXTURE_VARIANT_ADD(bind, ioas_destroyed) CASE(ENOENT, POKE_ID(bind.ioas_id, ID_DESTROYED_IOAS));
FIXTURE_VARIANT_ADD(bind, ioas_fault_queue) CASE(ENOENT, POKE_ID(bind.ioas_id, ID_FAULT_QUEUE));

FIXTURE_VARIANT_ADD(bind, part)
	CASE(0, POKE64(bind.offset, PAGES(4)), POKE64(bind.length, PAGES(8)));
FIXTURE_VARIANT_ADD(bind, last_page)
	CASE(0, POKE64(bind.offset, PAGES(15)), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_unaligned)
	CASE(EINVAL, POKE64(bind.offset, 1), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_half_page)
	CASE(EINVAL, POKE64(bind.offset, 2048), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_at_end)
	CASE(EINVAL, POKE64(bind.offset, FILE_SIZE), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_far)
	CASE(EINVAL, POKE64(bind.offset, 1ULL << 62), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_wraps)
	CASE(EOVERFLOW, POKE64(bind.offset, -PAGES(1)), POKE64(bind.length, PAGES(2)));
FIXTURE_VARIANT_ADD(bind, length_zero) CASE(EINVAL, POKE64(bind.length, 0));
FIXTURE_VARIANT_ADD(bind, length_one) CASE(EINVAL, POKE64(bind.length, 1));
FIXTURE_VARIANT_ADD(bind, length_unaligned) CASE(EINVAL, POKE64(bind.length, PAGES(1) + 1));
FIXTURE_VARIANT_ADD(bind, length_too_long) CASE(EINVAL, POKE64(bind.length, FILE_SIZE + PAGES(1)));
FIXTURE_VARIANT_ADD(bind, length_crosses_end) CASE(EINVAL, POKE64(bind.offset, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, length_huge) CASE(EINVAL, POKE64(bind.length, 1ULL << 62));
FIXTURE_VARIANT_ADD(bind, length_wraps)
	CASE(EOVERFLOW, POKE64(bind.offset, PAGES(2)), POKE64(bind.length, -PAGES(1)));

FIXTURE_VARIANT_ADD(bind, iova_zero) CASE(0, POKE64(bind.iova, 0));
FIXTURE_VARIANT_ADD(bind, iova_unaligned) CASE(EINVAL, POKE64(bind.iova, IOVA + 1));
FIXTURE_VARIANT_ADD(bind, iova_half_page) CASE(EINVAL, POKE64(bind.iova, IOVA + 2048));
FIXTURE_VARIANT_ADD(bind, iova_wraps) CASE(EOVERFLOW, POKE64(bind.iova, -PAGES(1)));
FIXTURE_VARIANT_ADD(bind, iova_in_use) CASE(EEXIST, POKE64(bind.iova, IOAS_SCRATCH_IOVA));
FIXTURE_VARIANT_ADD(bind, iova_in_use_tail)
	CASE(EEXIST, POKE64(bind.iova, IOAS_SCRATCH_IOVA - PAGES(15)));

FIXTURE_VARIANT_ADD(bind, leaf_no_limit) CASE(0, POKE64(bind.max_leaf_size, 0));
FIXTURE_VARIANT_ADD(bind, leaf_2m) CASE(0, POKE64(bind.max_leaf_size, 1ULL << 21));
FIXTURE_VARIANT_ADD(bind, leaf_one) CASE(EINVAL, POKE64(bind.max_leaf_size, 1));
FIXTURE_VARIANT_ADD(bind, leaf_too_small) CASE(EINVAL, POKE64(bind.max_leaf_size, 2048));
FIXTURE_VARIANT_ADD(bind, leaf_odd) CASE(EINVAL, POKE64(bind.max_leaf_size, 4097));
FIXTURE_VARIANT_ADD(bind, leaf_three_pages) CASE(EINVAL, POKE64(bind.max_leaf_size, PAGES(3)));

FIXTURE_SETUP(bind)
{
	bench_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(bind)
{
}

/* Whatever was refused before, a correct BIND works, and mirrors the file. */
static void expect_bind_works(struct __test_metadata *_metadata,
			      struct bench *b)
{
	int binding;

	binding = mirror_bind(b->gmem_fd, &b->ioas, 0, FILE_SIZE, IOVA);
	ASSERT_LE(0, binding);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, b->before.page, NR_PAGES));
	EXPECT_EQ(0, close(binding));
}

TEST_F(bind, U7_answers)
{
	struct bench *b = &self->b;
	union request req;

	make_bind(b, &req);
	spoil(_metadata, b, &req, variant->poke);
	bench_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));

	if (!variant->err) {
		EXPECT_EQ(FD_CLOEXEC, fcntl(req.bind.out_fd, F_GETFD));
		EXPECT_EQ(0, req.bind.iova % GMEM_PAGE_SIZE);
		EXPECT_EQ(0, mirror_poll_dead(req.bind.out_fd));
		EXPECT_EQ(0, close(req.bind.out_fd));
	}

	bench_expect_same(_metadata, b);
	expect_bind_works(_metadata, b);
	bench_expect_same(_metadata, b);
}

/* IOVA that overlaps four pages which are in use. */
FIXTURE(overlap)
{
	struct bench b;
};

FIXTURE_VARIANT(overlap)
{
	long first;
	size_t nr_pages;
};

FIXTURE_VARIANT_ADD(overlap, same) { 0, 4 };
FIXTURE_VARIANT_ADD(overlap, inside) { 1, 2 };
FIXTURE_VARIANT_ADD(overlap, around) { -2, 8 };
FIXTURE_VARIANT_ADD(overlap, head) { -1, 2 };
FIXTURE_VARIANT_ADD(overlap, tail) { 3, 2 };

FIXTURE_SETUP(overlap)
{
	bench_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(overlap)
{
}

static void expect_overlap_refused(struct __test_metadata *_metadata,
				   struct bench *b, long first, size_t nr_pages)
{
	bench_remember(_metadata, b);
	EXPECT_EQ(-EEXIST, mirror_bind(b->gmem_fd, &b->ioas, 0, PAGES(nr_pages),
				       IOVA + first * (long)GMEM_PAGE_SIZE));
	bench_expect_same(_metadata, b);
}

TEST_F(overlap, M9_with_mapping)
{
	struct bench *b = &self->b;
	void *anon = map_pages(4);

	ASSERT_NE(MAP_FAILED, anon);
	ASSERT_EQ(0, ioas_map(&b->ioas, IOVA, anon, PAGES(4)));
	expect_overlap_refused(_metadata, b, variant->first, variant->nr_pages);
	EXPECT_EQ(0, ioas_unmap(&b->ioas, IOVA, PAGES(4)));
	expect_bind_works(_metadata, b);
}

TEST_F(overlap, M9_with_binding)
{
	struct bench *b = &self->b;
	int binding;

	binding = mirror_bind(b->gmem_fd, &b->ioas, 0, PAGES(4), IOVA);
	ASSERT_LE(0, binding);
	expect_overlap_refused(_metadata, b, variant->first, variant->nr_pages);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, b->before.page, 4));
	EXPECT_EQ(0, close(binding));
	expect_bind_works(_metadata, b);
}

/* GMEM_IOMMU_QUERY_RUNS, on a binding of pages 2 to 9 */
FIXTURE(query)
{
	struct bench b;
	int binding;
};

FIXTURE_VARIANT(query)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define QUERY_SIZE	sizeof(struct gmem_iommu_query_runs)

FIXTURE_VARIANT_ADD(query, exact) CASE(0);
FIXTURE_VARIANT_ADD(query, U2_long_zero) CASE(0, POKE32(query.size, QUERY_SIZE + 8));
FIXTURE_VARIANT_ADD(query, U2_long_tail)
	CASE(E2BIG, POKE32(query.size, QUERY_SIZE + 8), POKE_TAIL(gmem_iommu_query_runs));
FIXTURE_VARIANT_ADD(query, U2_short) CASE(EINVAL, POKE32(query.size, QUERY_SIZE - 8));
FIXTURE_VARIANT_ADD(query, U2_no_size) CASE(EINVAL, POKE32(query.size, 0));
FIXTURE_VARIANT_ADD(query, no_runs) CASE(EINVAL, POKE32(query.nr_runs, 0));
FIXTURE_VARIANT_ADD(query, many_runs) CASE(0, POKE32(query.nr_runs, ~0U));
FIXTURE_VARIANT_ADD(query, cursor_first) CASE(0, POKE64(query.cursor, PAGES(2)));
FIXTURE_VARIANT_ADD(query, cursor_unaligned) CASE(EINVAL, POKE64(query.cursor, PAGES(3) + 1));
FIXTURE_VARIANT_ADD(query, cursor_before) CASE(EINVAL, POKE64(query.cursor, PAGES(1)));
FIXTURE_VARIANT_ADD(query, cursor_at_end) CASE(EINVAL, POKE64(query.cursor, PAGES(10)));
FIXTURE_VARIANT_ADD(query, cursor_behind) CASE(EINVAL, POKE64(query.cursor, FILE_SIZE));
FIXTURE_VARIANT_ADD(query, cursor_done) CASE(EINVAL, POKE64(query.cursor, ~0ULL));
FIXTURE_VARIANT_ADD(query, cursor_far) CASE(EINVAL, POKE64(query.cursor, -PAGES(1)));
FIXTURE_VARIANT_ADD(query, runs_null) CASE(EFAULT, POKE64(query.runs, 0));
FIXTURE_VARIANT_ADD(query, runs_kernel) CASE(EFAULT, POKE64(query.runs, KERNEL_ADDRESS));
FIXTURE_VARIANT_ADD(query, runs_unreadable) CASE(EFAULT, POKE_PTR(query.runs, PTR_UNREADABLE));
FIXTURE_VARIANT_ADD(query, runs_readonly) CASE(EFAULT, POKE_PTR(query.runs, PTR_READONLY));
FIXTURE_VARIANT_ADD(query, runs_split) CASE(EFAULT, POKE_PTR(query.runs, PTR_SPLIT));

FIXTURE_SETUP(query)
{
	struct bench *b = &self->b;

	bench_setup(_metadata, b, true);
	if (_metadata->exit_code)
		return;
	self->binding = mirror_bind(b->gmem_fd, &b->ioas, PAGES(2), PAGES(8), IOVA);
	ASSERT_LE(0, self->binding);
}

FIXTURE_TEARDOWN(query)
{
}

TEST_F(query, U4_U7_answers)
{
	struct bench *b = &self->b;
	union request req;

	make_query(b, &req);
	spoil(_metadata, b, &req, variant->poke);
	bench_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(self->binding, GMEM_IOMMU_QUERY_RUNS, &req));
	if (!variant->err) {
		EXPECT_EQ(3, req.query.nr_runs);
		EXPECT_EQ(~0ULL, req.query.cursor);
	}
	bench_expect_same(_metadata, b);
	EXPECT_STREQ("", mirror_check_runs(self->binding, PAGES(2), b->before.page + 2, 8));
}

/* GMEM_IOMMU_GET_STATS */
FIXTURE(stats)
{
	struct bench b;
};

FIXTURE_VARIANT(stats)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define STATS_SIZE	sizeof(struct gmem_iommu_stats)

FIXTURE_VARIANT_ADD(stats, exact) CASE(0);
FIXTURE_VARIANT_ADD(stats, U2_long_zero) CASE(0, POKE32(stats.size, STATS_SIZE + 8));
FIXTURE_VARIANT_ADD(stats, U2_long_tail)
	CASE(E2BIG, POKE32(stats.size, STATS_SIZE + 8), POKE_TAIL(gmem_iommu_stats));
FIXTURE_VARIANT_ADD(stats, U2_short) CASE(EINVAL, POKE32(stats.size, STATS_SIZE - 8));
FIXTURE_VARIANT_ADD(stats, U2_no_size) CASE(EINVAL, POKE32(stats.size, 0));
FIXTURE_VARIANT_ADD(stats, flags) CASE(EOPNOTSUPP, POKE32(stats.flags, 1));

FIXTURE_SETUP(stats)
{
	bench_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(stats)
{
}

TEST_F(stats, U4_U7_answers)
{
	struct bench *b = &self->b;
	union request req;

	make_stats(b, &req);
	spoil(_metadata, b, &req, variant->poke);
	bench_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(b->witness, GMEM_IOMMU_GET_STATS, &req));
	if (!variant->err) {
		/* Bound after the setup's conversion, without a domain. */
		EXPECT_EQ(0, req.stats.conversions);
		EXPECT_EQ(0, req.stats.mapped_pages);
		EXPECT_EQ(0, req.stats.failures);
	}
	bench_expect_same(_metadata, b);
}

/* KVM_GMEM_CONVERT */
FIXTURE(convert)
{
	struct bench b;
};

FIXTURE_VARIANT(convert)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define CONVERT_SIZE	sizeof(struct kvm_gmem_convert)

FIXTURE_VARIANT_ADD(convert, exact) CASE(0);
FIXTURE_VARIANT_ADD(convert, U2_long_zero) CASE(0, POKE32(convert.size, CONVERT_SIZE + 8));
FIXTURE_VARIANT_ADD(convert, U2_page_zero) CASE(0, POKE32(convert.size, GMEM_PAGE_SIZE));
FIXTURE_VARIANT_ADD(convert, U2_long_tail)
	CASE(E2BIG, POKE32(convert.size, CONVERT_SIZE + 8), POKE_TAIL(kvm_gmem_convert));
FIXTURE_VARIANT_ADD(convert, U2_beyond_page) CASE(E2BIG, POKE32(convert.size, GMEM_PAGE_SIZE + 8));
FIXTURE_VARIANT_ADD(convert, U2_size_high) CASE(E2BIG, POKE32(convert.size, ~0U));
FIXTURE_VARIANT_ADD(convert, U2_short) CASE(EINVAL, POKE32(convert.size, CONVERT_SIZE - 8));
FIXTURE_VARIANT_ADD(convert, U2_no_size) CASE(EINVAL, POKE32(convert.size, 0));
FIXTURE_VARIANT_ADD(convert, flags) CASE(EINVAL, POKE32(convert.flags, 1));
FIXTURE_VARIANT_ADD(convert, flags_high) CASE(EINVAL, POKE32(convert.flags, 1U << 31));
FIXTURE_VARIANT_ADD(convert, U2_reserved) CASE(EINVAL, POKE32(convert.reserved, 1));
FIXTURE_VARIANT_ADD(convert, no_ranges) CASE(EINVAL, POKE32(convert.nr_ranges, 0));
FIXTURE_VARIANT_ADD(convert, many_ranges) CASE(EINVAL, POKE32(convert.nr_ranges, 1025));
FIXTURE_VARIANT_ADD(convert, huge_count) CASE(EINVAL, POKE32(convert.nr_ranges, ~0U));
FIXTURE_VARIANT_ADD(convert, ranges_null) CASE(EFAULT, POKE64(convert.ranges, 0));
FIXTURE_VARIANT_ADD(convert, ranges_kernel) CASE(EFAULT, POKE64(convert.ranges, KERNEL_ADDRESS));
FIXTURE_VARIANT_ADD(convert, ranges_unreadable)
	CASE(EFAULT, POKE_PTR(convert.ranges, PTR_UNREADABLE));
FIXTURE_VARIANT_ADD(convert, ranges_split) CASE(EFAULT, POKE_PTR(convert.ranges, PTR_SPLIT));
FIXTURE_VARIANT_ADD(convert, ranges_readonly) CASE(EINVAL, POKE_PTR(convert.ranges, PTR_READONLY));

FIXTURE_SETUP(convert)
{
	bench_setup(_metadata, &self->b, false);
}

FIXTURE_TEARDOWN(convert)
{
}

/* What a correct request must have done: the whole of it, and nothing else. */
static void expect_converted(struct __test_metadata *_metadata,
			     struct bench *b,
			     const struct kvm_gmem_range *range)
{
	struct gmem_state now;
	size_t i;

	ASSERT_STREQ("", gmem_state_read(&now, b->witness, b->mem, NR_PAGES));
	for (i = 0; i < NR_PAGES; i++) {
		__u8 want = b->before.page[i];

		if (i < 4)
			want = PAGE_PRIVATE;
		else if (PAGES(i) - range->offset < range->size)
			want = range->target == KVM_GMEM_TARGET_SHARED ?
			       PAGE_SHARED : PAGE_PRIVATE;
		EXPECT_EQ(want, now.page[i]) TH_LOG("page %zu", i);
	}
}

TEST_F(convert, C3_C4_U7_answers)
{
	struct bench *b = &self->b;
	struct kvm_gmem_range *ranges;
	union request req;

	make_convert(b, &req);
	ranges = (struct kvm_gmem_range *)(unsigned long)req.convert.ranges;
	spoil(_metadata, b, &req, variant->poke);
	bench_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(b->gmem_fd, KVM_GMEM_CONVERT, &req));

	/* C4: defined whenever the kernel could know that there is the field. */
	if (req.convert.size >= CONVERT_SIZE && req.convert.size <= GMEM_PAGE_SIZE)
		EXPECT_EQ(0, req.convert.error_offset);

	if (variant->err)
		bench_expect_same(_metadata, b);
	else
		expect_converted(_metadata, b, &ranges[1]);
}

/* One range of the two of a request. */
FIXTURE(range)
{
	struct bench b;
};

FIXTURE_VARIANT(range)
{
	int err;
	struct poke poke[MAX_POKES];
};

FIXTURE_VARIANT_ADD(range, target_none) CASE(EINVAL, POKE32(range.target, 0));
FIXTURE_VARIANT_ADD(range, target_unknown) CASE(EINVAL, POKE32(range.target, 3));
FIXTURE_VARIANT_ADD(range, target_high) CASE(EINVAL, POKE32(range.target, ~0U));
FIXTURE_VARIANT_ADD(range, U2_reserved) CASE(EINVAL, POKE32(range.reserved, 1));
FIXTURE_VARIANT_ADD(range, size_zero) CASE(EINVAL, POKE64(range.size, 0));
FIXTURE_VARIANT_ADD(range, size_one) CASE(EINVAL, POKE64(range.size, 1));
FIXTURE_VARIANT_ADD(range, size_unaligned)
	CASE(EINVAL, POKE64(range.size, PAGES(1) + 512));
FIXTURE_VARIANT_ADD(range, offset_unaligned)
	CASE(EINVAL, POKE64(range.offset, PAGES(8) + 1));
FIXTURE_VARIANT_ADD(range, offset_at_end)
	CASE(EINVAL, POKE64(range.offset, FILE_SIZE));
FIXTURE_VARIANT_ADD(range, crosses_end) CASE(EINVAL, POKE64(range.offset, PAGES(13)));
FIXTURE_VARIANT_ADD(range, to_end) CASE(0, POKE64(range.size, PAGES(8)));
FIXTURE_VARIANT_ADD(range, size_huge) CASE(EINVAL, POKE64(range.size, 1ULL << 62));
FIXTURE_VARIANT_ADD(range, size_negative) CASE(EINVAL, POKE64(range.size, -PAGES(1)));
FIXTURE_VARIANT_ADD(range, offset_negative)
	CASE(EINVAL, POKE64(range.offset, -PAGES(4)));
FIXTURE_VARIANT_ADD(range, wraps)
	CASE(EINVAL, POKE64(range.offset, -PAGES(1)), POKE64(range.size, PAGES(2)));
FIXTURE_VARIANT_ADD(range, wraps_to_zero)
	CASE(EINVAL, POKE64(range.offset, -PAGES(1)), POKE64(range.size, PAGES(1)));
/* C10: overlapping ranges must agree. */
FIXTURE_VARIANT_ADD(range, C10_conflict_same)
	CASE(EINVAL, POKE64(range.offset, 0), POKE32(range.target, KVM_GMEM_TARGET_SHARED));
FIXTURE_VARIANT_ADD(range, C10_conflict_tail)
	CASE(EINVAL, POKE64(range.offset, PAGES(3)),
	     POKE32(range.target, KVM_GMEM_TARGET_SHARED));
FIXTURE_VARIANT_ADD(range, C10_conflict_inside)
	CASE(EINVAL, POKE64(range.offset, PAGES(1)), POKE64(range.size, PAGES(1)),
	     POKE32(range.target, KVM_GMEM_TARGET_SHARED));
FIXTURE_VARIANT_ADD(range, C10_conflict_around)
	CASE(EINVAL, POKE64(range.offset, 0), POKE64(range.size, FILE_SIZE),
	     POKE32(range.target, KVM_GMEM_TARGET_SHARED));
FIXTURE_VARIANT_ADD(range, C10_overlap_agrees) CASE(0, POKE64(range.offset, PAGES(2)));
FIXTURE_VARIANT_ADD(range, C10_touches)
	CASE(0, POKE64(range.offset, PAGES(4)), POKE32(range.target, KVM_GMEM_TARGET_SHARED));

FIXTURE_SETUP(range)
{
	bench_setup(_metadata, &self->b, false);
}

FIXTURE_TEARDOWN(range)
{
}

/* C1: whether the good range is before or behind the bad one. */
TEST_F(range, C1_C3_U7_answers)
{
	struct kvm_gmem_range *ranges, odd;
	struct bench *b = &self->b;
	union request req;
	int i;

	make_convert(b, &req);
	ranges = (struct kvm_gmem_range *)(unsigned long)req.convert.ranges;
	spoil(_metadata, b, &ranges[1], variant->poke);
	odd = ranges[1];
	bench_remember(_metadata, b);

	for (i = 0; i < 2; i++) {
		req.convert.error_offset = POISON;
		EXPECT_EQ(-variant->err, xioctl(b->gmem_fd, KVM_GMEM_CONVERT, &req));
		EXPECT_EQ(0, req.convert.error_offset);
		if (variant->err)
			bench_expect_same(_metadata, b);
		else
			expect_converted(_metadata, b, &odd);

		ranges[1] = ranges[0];
		ranges[0] = odd;
	}
}

/* KVM_SET_MEMORY_ATTRIBUTES2 */
FIXTURE(attributes)
{
	struct bench b;
};

FIXTURE_VARIANT(attributes)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE

FIXTURE_VARIANT_ADD(attributes, exact) CASE(0);
FIXTURE_VARIANT_ADD(attributes, read) CASE(EINVAL, POKE64(attributes.attributes, 1));
FIXTURE_VARIANT_ADD(attributes, execute) CASE(EINVAL, POKE64(attributes.attributes, 4));
FIXTURE_VARIANT_ADD(attributes, private_and_more)
	CASE(EINVAL, POKE64(attributes.attributes, PRIVATE | 1));
FIXTURE_VARIANT_ADD(attributes, next) CASE(EINVAL, POKE64(attributes.attributes, PRIVATE << 1));
FIXTURE_VARIANT_ADD(attributes, high) CASE(EINVAL, POKE64(attributes.attributes, 1ULL << 63));
FIXTURE_VARIANT_ADD(attributes, flags) CASE(EINVAL, POKE64(attributes.flags, 1));
FIXTURE_VARIANT_ADD(attributes, U2_reserved_first) CASE(EINVAL, POKE64(attributes.reserved[0], 1));
FIXTURE_VARIANT_ADD(attributes, U2_reserved_last) CASE(EINVAL, POKE64(attributes.reserved[10], 1));
FIXTURE_VARIANT_ADD(attributes, size_zero) CASE(EINVAL, POKE64(attributes.size, 0));
FIXTURE_VARIANT_ADD(attributes, size_one) CASE(EINVAL, POKE64(attributes.size, 1));
FIXTURE_VARIANT_ADD(attributes, size_unaligned)
	CASE(EINVAL, POKE64(attributes.size, PAGES(1) + 512));
FIXTURE_VARIANT_ADD(attributes, size_huge) CASE(EINVAL, POKE64(attributes.size, 1ULL << 62));
FIXTURE_VARIANT_ADD(attributes, size_negative) CASE(EINVAL, POKE64(attributes.size, -PAGES(1)));
FIXTURE_VARIANT_ADD(attributes, offset_unaligned) CASE(EINVAL, POKE64(attributes.offset, 1));
FIXTURE_VARIANT_ADD(attributes, offset_at_end) CASE(EINVAL, POKE64(attributes.offset, FILE_SIZE));
FIXTURE_VARIANT_ADD(attributes, crosses_end) CASE(EINVAL, POKE64(attributes.offset, PAGES(13)));
FIXTURE_VARIANT_ADD(attributes, wraps) CASE(EINVAL, POKE64(attributes.offset, -PAGES(1)));

FIXTURE_SETUP(attributes)
{
	bench_setup(_metadata, &self->b, false);
}

FIXTURE_TEARDOWN(attributes)
{
}

TEST_F(attributes, C3_C15_U7_answers)
{
	const struct kvm_gmem_range nothing = { .offset = FILE_SIZE };
	struct bench *b = &self->b;
	union request req;

	make_attributes(b, &req);
	spoil(_metadata, b, &req, variant->poke);
	bench_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(b->gmem_fd, KVM_SET_MEMORY_ATTRIBUTES2, &req));
	EXPECT_EQ(0, req.attributes.error_offset);
	if (variant->err)
		bench_expect_same(_metadata, b);
	else
		expect_converted(_metadata, b, &nothing);
}

/* Conversion ioctls on what is not a convertible guest_memfd. */
FIXTURE(not_convertible)
{
	struct bench b;
};

FIXTURE_VARIANT(not_convertible)
{
	enum kind kind;
	int err;
};

FIXTURE_VARIANT_ADD(not_convertible, gmem_plain) { FD_GMEM_PLAIN, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, vm) { FD_VM, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, memfd) { FD_MEMFD, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, pipe) { FD_PIPE, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, iommufd) { FD_IOMMU, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, device) { FD_DEVICE, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, binding) { FD_BINDING, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, closed) { FD_CLOSED, EBADF };

FIXTURE_SETUP(not_convertible)
{
	bench_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(not_convertible)
{
}

TEST_F(not_convertible, C3_U7_refused)
{
	struct bench *b = &self->b;
	union request req;
	int fd;

	fd = make_fd(b, variant->kind);
	ASSERT_LE(0, fd);
	bench_remember(_metadata, b);
	make_convert(b, &req);
	EXPECT_EQ(-variant->err, xioctl(fd, KVM_GMEM_CONVERT, &req));
	make_attributes(b, &req);
	EXPECT_EQ(-variant->err, xioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &req));
	bench_expect_same(_metadata, b);
}

/* The request itself at a bad address. */
FIXTURE(pointer)
{
	struct bench b;
};

FIXTURE_VARIANT(pointer)
{
	enum kind fd;
	unsigned long cmd;
	void (*make)(struct bench *b, union request *req);
};

FIXTURE_VARIANT_ADD(pointer, info) { FD_DEVICE, GMEM_IOMMU_GET_INFO, make_info };
FIXTURE_VARIANT_ADD(pointer, bind) { FD_DEVICE, GMEM_IOMMU_BIND, make_bind };
FIXTURE_VARIANT_ADD(pointer, query) { FD_BINDING, GMEM_IOMMU_QUERY_RUNS, make_query };
FIXTURE_VARIANT_ADD(pointer, stats) { FD_BINDING, GMEM_IOMMU_GET_STATS, make_stats };
FIXTURE_VARIANT_ADD(pointer, convert) { FD_GMEM, KVM_GMEM_CONVERT, make_convert };
FIXTURE_VARIANT_ADD(pointer, attributes) { FD_GMEM, KVM_SET_MEMORY_ATTRIBUTES2, make_attributes };

FIXTURE_SETUP(pointer)
{
	bench_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(pointer)
{
}

TEST_F(pointer, U7_unreadable)
{
	struct bench *b = &self->b;
	void *unreadable = b->pages + PAGES(1);
	void *split = unreadable - 2 * sizeof(__u64);
	int fd = make_fd(b, variant->fd);
	union request req;

	variant->make(b, &req);
	memcpy(split, &req, 2 * sizeof(__u64));
	bench_remember(_metadata, b);
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, NULL));
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, (void *)KERNEL_ADDRESS));
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, unreadable));
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, split));
	bench_expect_same(_metadata, b);
}

/* The answer cannot be delivered, so nothing may have been done. */
TEST_F(pointer, U7_unwritable)
{
	struct bench *b = &self->b;
	int fd = make_fd(b, variant->fd);
	union request req;

	variant->make(b, &req);
	memcpy(b->readonly, &req, PAGES(1));
	ASSERT_EQ(0, mprotect(b->readonly, PAGES(1), PROT_READ));
	bench_remember(_metadata, b);
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, b->readonly));
	bench_expect_same(_metadata, b);
	expect_bind_works(_metadata, b);
}

/* Numbers that an object does not know, those of the other objects included. */
FIXTURE(unknown)
{
	struct bench b;
};

FIXTURE_VARIANT(unknown)
{
	enum kind fd;
	unsigned long known[2];
};

FIXTURE_VARIANT_ADD(unknown, device)
{
	.fd = FD_DEVICE,
	.known = { GMEM_IOMMU_GET_INFO, GMEM_IOMMU_BIND },
};

FIXTURE_VARIANT_ADD(unknown, binding)
{
	.fd = FD_BINDING,
	.known = { GMEM_IOMMU_QUERY_RUNS, GMEM_IOMMU_GET_STATS },
};

FIXTURE_VARIANT_ADD(unknown, gmem)
{
	.fd = FD_GMEM,
	.known = { KVM_GMEM_CONVERT, KVM_SET_MEMORY_ATTRIBUTES2 },
};

FIXTURE_SETUP(unknown)
{
	bench_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(unknown)
{
}

TEST_F(unknown, U7_enotty)
{
	static const unsigned long cmds[] = {
		GMEM_IOMMU_GET_INFO, GMEM_IOMMU_BIND, GMEM_IOMMU_QUERY_RUNS,
		GMEM_IOMMU_GET_STATS, KVM_GMEM_CONVERT,
		KVM_SET_MEMORY_ATTRIBUTES2, KVM_SET_MEMORY_ATTRIBUTES,
		KVM_GET_API_VERSION, IOMMU_IOAS_ALLOC,
		_IO(GMEM_IOMMU_TYPE, 0x4f), _IO(GMEM_IOMMU_TYPE, 0x5f),
		_IOWR(GMEM_IOMMU_TYPE, 0x41, __u64[8]),
		_IOWR(GMEM_IOMMU_TYPE, 0x42, __u64[8]),
	};
	struct bench *b = &self->b;
	int fd = make_fd(b, variant->fd);
	union request req;
	size_t i;

	bench_remember(_metadata, b);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		if (cmds[i] == variant->known[0] || cmds[i] == variant->known[1])
			continue;
		make_info(b, &req);
		EXPECT_EQ(-ENOTTY, xioctl(fd, cmds[i], &req))
			TH_LOG("ioctl %#lx", cmds[i]);
	}
	bench_expect_same(_metadata, b);
}

/* What kills a binding. */
FIXTURE(dead)
{
	struct bench b;
	int binding;
};

enum death {
	CLOSE_GMEM,
	UNMAP_IOVA,
	DESTROY_IOAS,
};

FIXTURE_VARIANT(dead)
{
	enum death death;
};

FIXTURE_VARIANT_ADD(dead, C12_gmem_closed) { .death = CLOSE_GMEM };
FIXTURE_VARIANT_ADD(dead, M9_iova_unmapped) { .death = UNMAP_IOVA };
FIXTURE_VARIANT_ADD(dead, M9_ioas_destroyed) { .death = DESTROY_IOAS };

FIXTURE_SETUP(dead)
{
	struct bench *b = &self->b;

	bench_setup(_metadata, b, true);
	if (_metadata->exit_code)
		return;
	self->binding = mirror_bind(b->gmem_fd, &b->ioas, 0, FILE_SIZE, IOVA);
	ASSERT_LE(0, self->binding);
}

FIXTURE_TEARDOWN(dead)
{
}

TEST_F(dead, U4_reported)
{
	struct bench *b = &self->b;
	union request req;

	EXPECT_EQ(0, mirror_poll_dead(self->binding));
	bench_remember(_metadata, b);

	switch (variant->death) {
	case CLOSE_GMEM:
		ASSERT_EQ(0, munmap(b->mem, FILE_SIZE));
		ASSERT_EQ(0, close(b->gmem_fd));
		break;
	case UNMAP_IOVA:
		ASSERT_EQ(0, ioas_unmap(&b->ioas, IOVA, FILE_SIZE));
		break;
	case DESTROY_IOAS:
		ASSERT_EQ(0, iommufd_destroy(b->ioas.iommufd, b->ioas.id));
		break;
	}

	EXPECT_EQ(1, mirror_poll_dead(self->binding));
	make_query(b, &req);
	EXPECT_EQ(-ENODEV, xioctl(self->binding, GMEM_IOMMU_QUERY_RUNS, &req));
	EXPECT_EQ(variant->death == CLOSE_GMEM, mirror_poll_dead(b->witness));

	/* M9: the other binding of the file lives, and still follows it. */
	if (variant->death != CLOSE_GMEM) {
		bench_expect_same(_metadata, b);
		EXPECT_EQ(0, gmem_convert(b->gmem_fd, 0, PAGES(4),
					  KVM_GMEM_TARGET_PRIVATE, NULL));
		EXPECT_STREQ("", gmem_state_read(&b->before, b->witness, b->mem, NR_PAGES));
	}
	EXPECT_EQ(0, close(self->binding));
}

/* One binding of the file in each of two IOASes, and the process around it. */
FIXTURE(live)
{
	struct bench b;
	int binding;
};

FIXTURE_SETUP(live)
{
	struct bench *b = &self->b;

	bench_setup(_metadata, b, true);
	if (_metadata->exit_code)
		return;
	self->binding = mirror_bind(b->gmem_fd, &b->ioas, 0, FILE_SIZE, IOVA);
	ASSERT_LE(0, self->binding);
	bench_remember(_metadata, b);
}

FIXTURE_TEARDOWN(live)
{
}

TEST_F(live, M9_area_is_kept)
{
	struct bench *b = &self->b;
	void *anon = map_pages(1);

	EXPECT_EQ(-EEXIST, ioas_map(&b->ioas, IOVA + PAGES(3), anon, PAGES(1)));
	EXPECT_EQ(-ENOENT, ioas_unmap(&b->ioas, IOVA, PAGES(1)));
	EXPECT_EQ(-ENOENT, ioas_unmap(&b->ioas, IOVA + PAGES(1), FILE_SIZE - PAGES(1)));
	EXPECT_EQ(0, mirror_poll_dead(self->binding));
	EXPECT_STREQ("", mirror_check_runs(self->binding, 0, b->before.page, NR_PAGES));
	bench_expect_same(_metadata, b);
}

TEST_F(live, U4_cursor_clips)
{
	struct gmem_iommu_run run;
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = 1,
		.cursor = PAGES(5),
		.runs = (unsigned long)&run,
	};

	ASSERT_EQ(0, xioctl(self->binding, GMEM_IOMMU_QUERY_RUNS, &query));
	EXPECT_EQ(1, query.nr_runs);
	EXPECT_EQ(PAGES(8), query.cursor);
	EXPECT_EQ(PAGES(5), run.offset);
	EXPECT_EQ(PAGES(3), run.length);
	EXPECT_EQ(0, run.flags);
	EXPECT_EQ(0, run.leaf_size);
}

TEST_F(live, U4_generation)
{
	struct bench *b = &self->b;
	__u64 generation = mirror_generation(self->binding);

	EXPECT_EQ(generation, mirror_generation(self->binding));
	ASSERT_EQ(0, gmem_convert(b->gmem_fd, 0, PAGES(1), KVM_GMEM_TARGET_PRIVATE, NULL));
	EXPECT_NE(generation, mirror_generation(self->binding));
}

/* M1: the same range at other addresses of the same IOAS. */
TEST_F(live, M1_bound_again)
{
	struct bench *b = &self->b;
	union request req;

	make_bind(b, &req);
	req.bind.flags &= ~GMEM_IOMMU_BIND_FIXED_IOVA;
	ASSERT_EQ(0, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	EXPECT_TRUE(req.bind.iova + FILE_SIZE <= IOVA || req.bind.iova >= IOVA + FILE_SIZE);
	EXPECT_STREQ("", mirror_check_runs(req.bind.out_fd, 0, b->before.page, NR_PAGES));

	/* It really is there. */
	EXPECT_EQ(-EEXIST, mirror_bind(b->gmem_fd, &b->ioas, 0, PAGES(1), req.bind.iova));
	EXPECT_EQ(0, close(req.bind.out_fd));
	bench_expect_same(_metadata, b);
}

TEST_F(live, U7_no_iova_left)
{
	struct bench *b = &self->b;
	struct iommu_iova_range range = { .start = PAGES(1), .last = PAGES(4) - 1 };
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow),
		.ioas_id = b->ioas.id,
		.num_iovas = 1,
		.allowed_iovas = (unsigned long)&range,
	};
	union request req;

	ASSERT_EQ(0, ioas_unmap(&b->ioas, IOAS_SCRATCH_IOVA, PAGES(1)));
	ASSERT_EQ(0, close(self->binding));
	ASSERT_EQ(0, xioctl(b->ioas.iommufd, IOMMU_IOAS_ALLOW_IOVAS, &allow));
	bench_remember(_metadata, b);

	make_bind(b, &req);
	req.bind.flags &= ~GMEM_IOMMU_BIND_FIXED_IOVA;
	EXPECT_EQ(-ENOSPC, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	bench_expect_same(_metadata, b);
	expect_bind_works(_metadata, b);
}

TEST_F(live, U7_no_fd_left)
{
	struct bench *b = &self->b;
	struct rlimit limit, none;
	union request req;
	int fd, ret;

	ASSERT_EQ(0, close(self->binding));
	bench_remember(_metadata, b);
	make_bind(b, &req);

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	fd = dup(0);
	ASSERT_LE(0, fd);
	close(fd);
	none = limit;
	none.rlim_cur = fd;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	ret = xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));

	EXPECT_EQ(-EMFILE, ret);
	bench_expect_same(_metadata, b);
	expect_bind_works(_metadata, b);
}

/*
 * A guest_memfd keeps its VM, so a file without a VM cannot be bound: there is
 * none. ENODEV is for a listener that comes when the last file is closed; BIND
 * holds the file while it registers, and never sees it.
 */
TEST_F(live, M14_U7_vm_closed)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, close(self->binding));
	ASSERT_EQ(0, close(b->vm_fd));
	bench_remember(_metadata, b);
	expect_bind_works(_metadata, b);
	EXPECT_EQ(0, gmem_convert(b->gmem_fd, 0, PAGES(2), KVM_GMEM_TARGET_PRIVATE, NULL));
	EXPECT_STREQ("", gmem_state_read(&b->before, b->witness, b->mem, NR_PAGES));
	EXPECT_EQ(PAGE_PRIVATE, b->before.page[0]);
	expect_bind_works(_metadata, b);
}

/* M11: the memory that a binding would have needed is not left behind either. */
TEST_F(live, M11_refused_bind_allocates_nothing)
{
	struct bench *b = &self->b;
	union request req;
	__u8 *mem;
	int fd;

	fd = gmem_create_fd(b->vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	ASSERT_LE(0, fd);
	mem = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(0, gmem_nr_resident(mem, NR_PAGES));

	make_bind(b, &req);
	req.bind.gmem_fd = fd;
	EXPECT_EQ(-EEXIST, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	EXPECT_EQ(0, gmem_nr_resident(mem, NR_PAGES));
	req.bind.ioas_id = ~0U;
	EXPECT_EQ(-ENOENT, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	EXPECT_EQ(0, gmem_nr_resident(mem, NR_PAGES));

	/* The means of this test tell a binding that does. */
	make_bind(b, &req);
	req.bind.gmem_fd = fd;
	req.bind.iova = IOVA + FILE_SIZE;
	EXPECT_EQ(0, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	EXPECT_EQ(NR_PAGES, gmem_nr_resident(mem, NR_PAGES));
}

/*
 * U1: a process that has nothing but two file descriptors that were sent to it.
 */
static void send_fds(struct __test_metadata *_metadata, int sock,
		     const int *fds, size_t size)
{
	char control[CMSG_SPACE(2 * sizeof(int))] = {};
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(size),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(cmsg), fds, size);
	ASSERT_EQ(1, sendmsg(sock, &msg, 0));
}

static bool receive_fds(int sock, int *fds, size_t size)
{
	char control[CMSG_SPACE(2 * sizeof(int))] = {}, byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(size),
	};
	struct cmsghdr *cmsg;

	if (recvmsg(sock, &msg, 0) != 1)
		return false;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS ||
	    cmsg->cmsg_len != CMSG_LEN(size))
		return false;
	memcpy(fds, CMSG_DATA(cmsg), size);
	return true;
}

/* No user, no groups, no capabilities, no locked memory, no inherited files. */
static bool drop_everything(int sock)
{
	struct rlimit none = { 0, 0 };

	return dup2(sock, 3) == 3 && !close_range(4, ~0U, 0) &&
	       !setrlimit(RLIMIT_MEMLOCK, &none) && !setgroups(0, NULL) &&
	       !setresgid(NOBODY, NOBODY, NOBODY) &&
	       !setresuid(NOBODY, NOBODY, NOBODY);
}

/* Returns 0 or the number of the step that failed. */
static int be_unprivileged(int sock, struct bench *b)
{
	struct ioas ioas = { .id = b->ioas.id };
	struct gmem_state state;
	int fds[2], binding;
	__u8 *mem;

	if (!drop_everything(sock))
		return 1;
	if (!receive_fds(3, fds, sizeof(fds)))
		return 2;
	ioas.iommufd = fds[1];

	binding = mirror_bind(fds[0], &ioas, 0, FILE_SIZE, IOVA);
	if (binding < 0)
		return 3;
	mem = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	if (mem == MAP_FAILED)
		return 4;
	if (gmem_convert(fds[0], 0, PAGES(2), KVM_GMEM_TARGET_PRIVATE, NULL))
		return 5;
	if (gmem_set_attributes2(fds[0], PAGES(4), PAGES(2), 0, NULL))
		return 6;
	if (*gmem_state_read(&state, binding, mem, NR_PAGES))
		return 7;
	if (state.page[0] != PAGE_PRIVATE || state.page[4] != PAGE_SHARED)
		return 8;
	return close(binding) ? 9 : 0;
}

TEST_F(live, U1_unprivileged)
{
	struct bench *b = &self->b;
	const int fds[] = { b->gmem_fd, b->ioas.iommufd };
	int socks[2], status;
	pid_t child;

	if (getuid())
		SKIP(return, "needs root, to become nobody");
	ASSERT_EQ(0, close(self->binding));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));

	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(be_unprivileged(socks[1], b));

	send_fds(_metadata, socks[0], fds, sizeof(fds));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status)) TH_LOG("failed at this step");
	bench_remember(_metadata, b);
	expect_bind_works(_metadata, b);
}

TEST_HARNESS_MAIN
